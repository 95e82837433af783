package mysql

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// zoo holds every ordinary column type at its extremes, and tables and columns with names that bite.
const zoo = `
	SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone = '+00:00', foreign_key_checks = 0;
	CREATE TABLE numbers (id INT PRIMARY KEY, t TINYINT, s SMALLINT UNSIGNED, m MEDIUMINT, i INT(10) UNSIGNED ZEROFILL, b BIGINT, u BIGINT UNSIGNED,
		f FLOAT, fd FLOAT(7,3), d DOUBLE, dd DOUBLE(20,5), c DECIMAL(65,30), bit1 BIT(1), bit17 BIT(17), bit64 BIT(64), y YEAR, bo BOOLEAN);
	INSERT INTO numbers VALUES
		(1, -128, 65535, -8388608, 7, -9223372036854775808, 18446744073709551615, 3.4028234e38, 1234.567, 1.7976931348623157e308, 123456789012345.12345,
			99999999999999999999999999999999999.999999999999999999999999999999, b'1', b'10101010101010101', b'1111111111111111111111111111111111111111111111111111111111111111', 2155, 1),
		(2, 127, 0, 8388607, 4294967295, 9223372036854775807, 9223372036854775808, 16777217, -0.001, 2.2250738585072014e-308, -0.00001,
			-0.000000000000000000000000000001, b'0', 0, 9, 1901, 0),
		(3, NULL, NULL, NULL, NULL, NULL, NULL, -0e0, NULL, -0e0, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
		(4, 0, 0, 0, 0, 0, 0, 123456.789, 0, 0.1, 0, 0, b'0', b'1001', 0x5c090a00, 0, 1),
		(0, 0, 0, 0, 0, 0, 0, 1.17549435e-38, 0, 4.9e-324, 0, 0, b'0', 0, 0, 2000, 1);
	CREATE TABLE moments (id INT PRIMARY KEY, d DATE, t TIME(6), dt DATETIME(6), ts TIMESTAMP(3) NULL);
	INSERT INTO moments VALUES (1, '0000-00-00', '-838:59:59', '0000-00-00', 0), (2, '2024-02-30', '838:59:59', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07.499'),
		(3, '2024-00-00', '-00:00:00.000001', '1000-01-01', '1970-01-01 00:00:01'), (4, NULL, NULL, NULL, NULL), (5, '2026-03-29', '02:30', '2026-03-29 02:30', '2026-03-29 01:30:00.123');
	CREATE TABLE texts (id INT PRIMARY KEY, c CHAR(10), v VARCHAR(300) CHARACTER SET utf8mb4, l VARCHAR(300) CHARACTER SET latin1, u TEXT CHARACTER SET utf16,
		b BINARY(8), vb VARBINARY(300), bl BLOB, lt LONGTEXT, e ENUM('a','b''c','','1'), e2 ENUM('a','1') DEFAULT 'a', s SET('x','y','z'), j JSON, g GEOMETRY, p POINT SRID 4326);
	INSERT INTO texts (id, c, v, l, u, b, vb, bl, lt, e, s, j, g, p) VALUES
		(1, 'x ', CONCAT('tab', CHAR(9), 'nl', CHAR(10), 'cr', CHAR(13), 'nul', CHAR(0), 'z', CHAR(26), 'bs', CHAR(92), 'q''"'), 0x80819fe9ff, 'ü😀', 0x00, 0x005c09000a0d1aff5c4e, 0x5c4e, '\\N', 'b''c', 'x,z',
			'{"a": [1, 2.5, "x\\ny", null, true], "é": "😀"}', ST_GeomFromText('POINT(1 2)'), ST_GeomFromText('POINT(10 20)', 4326)),
		(2, '', '', '', '', '', '', '', '', '', '', '""', NULL, NULL),
		(3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
		(4, 'NULL', '\\N', 'NULL', '\\', 0x5c, 0x0a, 0x09, '\t', '1', 'x', 'null', NULL, NULL),
		(5, 'e', '😀é', 'e', 'e', 'e', 'e', REPEAT(UNHEX('005c090aff'), 100), REPEAT('é\\\n', 200000), 'a', 'y', '[]', ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))'), NULL);
	INSERT IGNORE INTO texts (id, e, e2) VALUES (6, 'no such value', 'a'), (7, 'a', 'no such value');
	CREATE TABLE odd_columns (a INT, g1 INT AS (a + 1), b VARCHAR(20), g2 VARCHAR(50) AS (CONCAT(b, '\n,)')) STORED, hidden INT INVISIBLE DEFAULT 5, KEY (g1), CHECK (a <> 13));
	INSERT INTO odd_columns (a, b, hidden) VALUES (1, 'x', 7), (1, 'x', 7), (NULL, NULL, NULL);
	CREATE TABLE no_key (a INT, b VARCHAR(10), KEY (b, a));
	INSERT INTO no_key VALUES (3, 'c'), (1, 'a'), (1, 'a'), (NULL, NULL);
	CREATE TABLE unique_only (a INT NOT NULL, b INT NOT NULL, c TEXT, UNIQUE KEY (b), KEY (c(10)));
	INSERT INTO unique_only VALUES (1, 9, 'x'), (2, 5, 'y'), (3, 7, NULL);
	CREATE TABLE composite (a CHAR(3), b INT, c DATE, n INT NOT NULL AUTO_INCREMENT, PRIMARY KEY (a, b, c), KEY (n)) AUTO_INCREMENT = 1000;
	INSERT INTO composite VALUES ('b', 1, '2024-01-01', 3), ('a', 2, '2024-01-01', 1), ('a', -1, '2024-01-02', 0);
	CREATE TABLE prefix_key (t TEXT, n INT, PRIMARY KEY (t(5)));
	INSERT INTO prefix_key VALUES ('zebra', 1), ('apple', 2), ('mango', 3);
	CREATE TABLE parts (id INT, at DATE, note TEXT, PRIMARY KEY (id, at)) PARTITION BY RANGE (YEAR(at)) (PARTITION p0 VALUES LESS THAN (2020), PARTITION p1 VALUES LESS THAN MAXVALUE);
	INSERT INTO parts VALUES (1, '2019-01-01', 'old words'), (2, '2024-01-01', 'new words');
	CREATE TABLE words (id INT PRIMARY KEY, a TEXT, b TEXT, p POINT NOT NULL SRID 0, FULLTEXT KEY one (a), FULLTEXT KEY two (a, b), SPATIAL KEY (p), KEY fun ((LOWER(SUBSTRING(a, 1, 10)))), KEY down (id DESC) INVISIBLE) ROW_FORMAT=COMPRESSED COMMENT='a, ''b'' (c';
	INSERT INTO words VALUES (1, 'alpha beta', 'gamma', ST_GeomFromText('POINT(1 2)'));
	CREATE TABLE node (id INT PRIMARY KEY, up INT, CONSTRAINT self FOREIGN KEY (up) REFERENCES node (id) ON DELETE CASCADE);
	INSERT INTO node VALUES (1, 2), (2, 1);
	CREATE TABLE loop_a (id INT PRIMARY KEY, b INT, FOREIGN KEY (b) REFERENCES loop_b (id));
	CREATE TABLE loop_b (id INT PRIMARY KEY, a INT, FOREIGN KEY (a) REFERENCES loop_a (id));
	INSERT INTO loop_a VALUES (1, 1);
	INSERT INTO loop_b VALUES (1, 1);
	CREATE TABLE nothing (id INT PRIMARY KEY);
	CREATE TABLE collated (` + "`" + `a COLLATE b` + "`" + ` VARCHAR(9), b ENUM('(', 'x)'' COLLATE utf8mb4_unicode_ci'), c TEXT, d VARCHAR(5) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci, e VARCHAR(5) COLLATE utf8mb4_bin, f DECIMAL(5,2), PRIMARY KEY (` + "`" + `a COLLATE b` + "`" + `)) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
	INSERT INTO collated VALUES ('ä', '(', 'x', 'y', 'z', 1);` +
	"CREATE TABLE `we/ird ``.x'\"\n%41`(`a``b ,(` INT PRIMARY KEY COMMENT 'it''s, (ok)\n', `ü '\n\"\\` VARCHAR(9) DEFAULT 'a,(\\'\\\\');" +
	"INSERT INTO `we/ird ``.x'\"\n%41` VALUES (1, 'x'), (2, '\\\\');" +
	"CREATE TABLE `..` (`.` INT, `FOREIGN KEY` INT, PRIMARY KEY (`.`), KEY `) ENGINE=` (`FOREIGN KEY`)); INSERT INTO `..` VALUES (1, 2);" +
	"CREATE TABLE `../../etc` (id INT PRIMARY KEY); INSERT INTO `../../etc` VALUES (1);" +
	"CREATE TABLE `＃☃♥` (id INT PRIMARY KEY, `♥` INT); INSERT INTO `＃☃♥` VALUES (1, 1);"

// zoo is the zoo that lives on this server: what only MySQL has is said in MariaDB's words or left out, and what only
// MariaDB has is added.
func (w *world) zoo() string {
	if !w.server.MariaDB() {
		return zoo
	}
	return strings.NewReplacer("p POINT SRID 4326", "p POINT REF_SYSTEM_ID=4326", "p POINT NOT NULL SRID 0", "p POINT NOT NULL",
		", KEY fun ((LOWER(SUBSTRING(a, 1, 10)))), KEY down (id DESC) INVISIBLE", ", KEY down (id DESC) IGNORED").Replace(zoo) + `
	CREATE TABLE maria (id UUID PRIMARY KEY, a INET6, b INET4, c TEXT COMPRESSED, j JSON, n INT CHECK (n > 0), m INT INVISIBLE DEFAULT 5 CHECK (m > 0)) COMMENT='M' PAGE_COMPRESSED=1;
	INSERT INTO maria (id, a, b, c, j, n) VALUES ('6ccd780c-baba-1026-9564-5b8c656024db', '::ffff:1.2.3.4', '1.2.3.4', REPEAT('long ', 1000), '{"b":1.50,  "a":[1]}', 1), ('6ccd780c-baba-1026-9564-5b8c656024dc', NULL, NULL, NULL, NULL, NULL);
	SET SESSION check_constraint_checks = 0;
	INSERT INTO maria (id, j, n) VALUES ('6ccd780c-baba-1026-9564-000000000000', 'no json', -1);
	CREATE TABLE rooms (id INT, since DATE, until DATE, PERIOD FOR stay (since, until), UNIQUE (id, stay WITHOUT OVERLAPS));
	INSERT INTO rooms VALUES (1, '2026-01-01', '2026-01-05'), (1, '2026-01-05', '2026-01-06');`
}

// dumps is the schema as the stock client reads it, and as the server sums it up.
func (w *world) dumps(schema string) string {
	w.Helper()
	names := w.column("SELECT table_name FROM information_schema.tables WHERE table_schema = ? AND table_type <> 'VIEW' ORDER BY 1", schema)
	var b strings.Builder
	b.WriteString(w.server.Dump(w.T, schema))
	for _, name := range names {
		var sum string
		require.NoError(w, w.root.QueryRowContext(w.Context(), "CHECKSUM TABLE "+qualified(schema, name)).Scan(new(string), &sum))
		fmt.Fprintf(&b, "%q %s\n", name, sum)
	}
	return b.String()
}

func TestEveryColumnTypeAndNameComesBackExactly(t *testing.T) {
	testenv.EachServer(t, testEveryColumnTypeAndNameComesBackExactly)
}

func testEveryColumnTypeAndNameComesBackExactly(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(w.zoo())
	before := w.dumps(w.schema)
	part, summary := w.captureOf(remora.Subject{})
	require.Empty(t, summary.Warnings)
	require.Contains(t, summary.Facts["consistency"], "2 sessions")
	require.Equal(t, w.ask("SELECT @@log_bin") == "1", summary.Facts["position"] != "", "the binary log is off on one of them")

	w.exec("SET foreign_key_checks = 0; DROP TABLE texts, numbers, node")
	w.staged("zoo", part)
	require.NoError(t, w.turn("zoo", 1, remora.Restored))
	require.Equal(t, before, w.dumps(w.schema))
}

func TestNoTableNameEscapesThePart(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(w.zoo())
	part := w.capture()
	require.NoError(t, filepath.WalkDir(part.dir, func(path string, d os.DirEntry, err error) error {
		require.NotContains(t, d.Name(), " ")
		require.NotContains(t, d.Name(), "\n")
		return err
	}))
	entries, err := os.ReadDir(part.dir)
	require.NoError(t, err)
	require.Len(t, entries, 3, "load.sql, part.json, and one directory for the schema")
}

// A DECIMAL inside JSON has no text of its own: it is said, and what is restored is what its text means.
func TestJSONThatTextCannotCarryIsSaid(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec("CREATE TABLE prices (id INT PRIMARY KEY, j JSON); INSERT INTO prices VALUES (1, CAST(1.50 AS JSON)), (2, JSON_OBJECT('p', 9.90))")
	part, summary := w.captureOf(remora.Subject{})
	require.Len(t, summary.Warnings, 1)
	require.Contains(t, summary.Warnings[0], "column j of table prices")
	w.staged("json", part)
	require.NoError(t, w.turn("json", 1, remora.Restored))
	require.Equal(t, `{"p": 9.9}`, w.ask("SELECT j FROM "+w.schema+".prices WHERE id = 2"))
}

// A row longer than any buffer, and longer than a packet of the protocol, passes through unharmed.
func TestHugeRowsStream(t *testing.T) { testenv.EachServer(t, testHugeRowsStream) }

func testHugeRowsStream(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(`SET GLOBAL max_allowed_packet = 1073741824`)
	w.root = w.server.DB(t) // sessions of before have the limit of before
	w.exec(`CREATE TABLE big (id INT PRIMARY KEY, a LONGBLOB, b LONGBLOB, c INT);
		INSERT INTO big VALUES (1, REPEAT(UNHEX('00015c0a'), 9000000), NULL, 5), (2, REPEAT('x', 16777215 - 4 - 2 - 1 - 1 - 1), '', 1), (3, REPEAT('x', 16777207), NULL, NULL), (4, REPEAT('y', 262140), REPEAT('\t', 262144), 1)`)
	before := w.ask("SELECT GROUP_CONCAT(id, SHA2(a, 256), SHA2(COALESCE(b, '-'), 256), COALESCE(c, '-') ORDER BY id) FROM " + w.schema + ".big")
	part := w.capture()
	w.staged("big", part)
	require.NoError(t, w.turn("big", 1, remora.Restored))
	require.Equal(t, before, w.ask("SELECT GROUP_CONCAT(id, SHA2(a, 256), SHA2(COALESCE(b, '-'), 256), COALESCE(c, '-') ORDER BY id) FROM "+w.schema+".big"))
}
