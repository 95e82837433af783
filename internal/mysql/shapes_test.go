package mysql

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// keyShape is a table of shapeRows rows with a key.
type keyShape struct {
	name, columns, values string
	// ranges are how many there must be at least, 1 for exactly one.
	ranges int
}

const shapeRows = 2500

// uuid is a random UUID of a version, as text, in SQL.
func uuid(version string) string {
	return "CONCAT_WS('-', SUBSTR(SHA2(i, 256), 1, 8), SUBSTR(SHA2(i, 256), 9, 4), CONCAT('" + version + "', SUBSTR(SHA2(i, 256), 14, 3)), CONCAT('a', SUBSTR(SHA2(i, 256), 18, 3)), SUBSTR(SHA2(i, 256), 21, 12))"
}

func (w *world) keyShapes() []keyShape {
	const key = " NOT NULL PRIMARY KEY"
	unicode := "utf8mb4 COLLATE utf8mb4_unicode_ci"
	shapes := []keyShape{
		{"unsigned_edge", "id BIGINT UNSIGNED" + key, "18446744073709551615 - i * i * i", 5},
		{"negative", "id BIGINT" + key, "i * 1000000007 - 1000000000000", 5},
		{"descending", "id INT NOT NULL, PRIMARY KEY (id DESC)", "i", 5},
		{"uuid_text", "id CHAR(36) CHARACTER SET " + unicode + key, uuid("4"), 5},
		{"uuid_upper", "id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin" + key, "UPPER(" + uuid("4") + ")", 5},
		{"uuid_octets", "id BINARY(16)" + key, "UNHEX(LEFT(SHA2(i, 256), 32))", 5},
		{"octets", "id VARBINARY(20)" + key, "CONCAT(X'FF00FF', UNHEX(LEFT(SHA2(i, 256), 32)))", 5},
		{"ulid", "id CHAR(26) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" + key, "CONCAT('01J9ZQ', LPAD(CONV(i * 37, 10, 32), 4, '0'), UPPER(SUBSTR(SHA2(i, 256), 1, 16)))", 5},
		{"base64", "id VARCHAR(30) CHARACTER SET latin1 COLLATE latin1_bin" + key, "TO_BASE64(UNHEX(SUBSTR(SHA2(i, 256), 1, 24)))", 5},
		{"order_number", "id VARCHAR(20) CHARACTER SET " + unicode + key, "CONCAT('ORD-', 2023 + i DIV 1000, '-', LPAD(i, 6, '0'))", 5},
		{"general", "id VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci" + key, "CONCAT(ELT(1 + i % 5, 'a_', 'A-', 'B', 'é', 'z~'), '.', i)", 5},
		{"utf16", "id VARCHAR(40) CHARACTER SET utf16" + key, "LEFT(SHA2(i, 256), 32)", 5},
		{"danish", "id VARCHAR(40) CHARACTER SET latin1 COLLATE latin1_danish_ci" + key, "CONCAT(ELT(1 + i % 6, 'aa', 'a', 'Å', 'ø', 'b', 'z'), LEFT(SHA2(i, 256), 32))", 3},
		{"danish_unicode", "id VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_danish_ci" + key, "CONCAT(ELT(1 + i % 6, 'aa', 'a', 'Å', 'ø', 'b', 'z'), LEFT(SHA2(i, 256), 32))", 3},
		{"cased", "id VARCHAR(40) CHARACTER SET latin1 COLLATE latin1_general_cs" + key, "CONCAT(CHAR(65 + i % 26 + 32 * (i % 2)), LEFT(SHA2(i, 256), 32))", 5},
		{"cyrillic", "id VARCHAR(40) CHARACTER SET " + unicode + key, "CONCAT(ELT(1 + i % 4, 'ж', 'б', 'я', 'ы'), i)", 1},
		{"date_tenant", "d DATE, id INT, PRIMARY KEY (d, id)", "'2024-01-01' + INTERVAL i DIV 2 DAY, i", 5},
		{"one_date", "d DATE, id INT, PRIMARY KEY (d, id)", "ELT(LEAST(i, 3), '0000-00-00', '2023-02-30', '2024-01-01'), i", 5},
		{"invalid_dates", "d DATE, id INT, PRIMARY KEY (d, id)", "'2024-02-30', i", 1},
		{"datetime", "t DATETIME(3)" + key, "'1969-12-31 23:00:00.5' + INTERVAL i * 7 SECOND", 5},
		{"timestamp", "t TIMESTAMP(2)" + key, "IF(i = 1, 0, '2026-10-25 00:00:00.5' + INTERVAL i * 11 SECOND)", 5},
		{"decimal_key", "n DECIMAL(30,4)" + key, "i * 1000000000000.25 - 1000000000000000", 5},
		{"tenants", "tenant INT, id BIGINT, PRIMARY KEY (tenant, id)", "IF(i % 50 = 0, i, 7), i", 5},
		{
			"tenants_of_text", "tenant VARCHAR(36) CHARACTER SET " + unicode + ", kind VARBINARY(5), id BIGINT, PRIMARY KEY (tenant, kind, id)",
			"ELT(1 + i % 4, 'Ärger', 'ärger', 'ARGER', 'other'), IF(i % 3, X'00FF27', ''), i", 5,
		},
		{"enum_key", "e ENUM('a', 'b'), id INT, PRIMARY KEY (e, id)", "1 + i % 2, i", 1},
		{"float_key", "f FLOAT" + key, "i / 3", 1},
		{"unkeyed", "id INT", "i", 1},
	}
	if w.server.MariaDB() {
		return append(shapes,
			keyShape{"uuid_random", "id UUID" + key, uuid("4"), 5},
			keyShape{"uuid_of_time", "id UUID" + key, "CONCAT('018f', LPAD(HEX(i * 300), 8, '0'), '7', SUBSTR(SHA2(i, 256), 1, 3), 'a', SUBSTR(SHA2(i, 256), 4, 15))", 5},
			keyShape{"uuid_of_node", "id UUID" + key, "CONCAT(LPAD(HEX(i * 700000), 8, '0'), '-1234-1111-8123-123456789abc')", 5},
			keyShape{"addresses", "id INET6" + key, "CONCAT('2001:db8::', HEX(i))", 5},
			keyShape{"old_addresses", "id INET4" + key, "CONCAT('10.0.', i DIV 250, '.', i % 250)", 5},
		)
	}
	return append(shapes, keyShape{"accents", "id VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_as_cs" + key, "CONCAT(ELT(1 + i % 6, 'a', 'A', 'á', 'É', 'b', 'Z'), LEFT(SHA2(i, 256), 32))", 5})
}

// Tables of every key shape are cut, come back, and are read through their index.
func TestTablesOfEveryKeyAreCut(t *testing.T) {
	testenv.EachServer(t, testTablesOfEveryKeyAreCut)
}

func testTablesOfEveryKeyAreCut(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.d.rangeBytes = 64 << 10
	shapes := w.keyShapes()
	statements := w.deep() + "CREATE TABLE n (i INT PRIMARY KEY); INSERT INTO n WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < " + fmt.Sprint(shapeRows) + ") SELECT i FROM n;" +
		"SET SESSION sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00', unique_checks = 0;"
	for _, s := range shapes {
		statements += fmt.Sprintf("CREATE TABLE %[1]s (%[2]s, filler VARCHAR(300)); INSERT INTO %[1]s SELECT %[3]s, REPEAT('x', 250) FROM n; ANALYZE TABLE %[1]s;", s.name, s.columns, s.values)
	}
	w.exec(statements)
	folder := w.capture()
	tables := folder.part(t).Schemas[0].Tables
	for _, s := range shapes {
		table := tables[slices.IndexFunc(tables, func(t partTable) bool { return t.Name == s.name })]
		t.Log(s.name, len(table.Ranges))
		if s.ranges == 1 {
			require.Len(t, table.Ranges, 1, s.name)
			continue
		}
		require.GreaterOrEqual(t, len(table.Ranges), s.ranges, s.name)
		largest := slices.MaxFunc(table.Ranges, func(a, b partRange) int { return int(a.Rows - b.Rows) })
		if s.ranges == 5 {
			require.LessOrEqual(t, largest.Rows, int64(shapeRows/3), "%s: %v", s.name, largest)
		}
		for _, r := range table.Ranges {
			how := w.explained(table.selects(w.schema, r))
			require.Equal(t, "range", how["type"], "%s: %v\n%s", s.name, how, table.selects(w.schema, r))
			if s.name != "tenants_of_text" { // some servers do not see that equal texts need no order
				require.NotContains(t, how["Extra"], "filesort", "%s: %v", s.name, r)
			}
		}
	}
	w.staged("shapes", folder)
	w.d.rangeBytes = rangeBytes
	require.Len(t, w.capture().part(t).Schemas[0].Tables[0].Ranges, 1)
}

// A part as an earlier version wrote it: a border was the text of one number, and both belonged to the range.
func TestAPartOfFormat2IsRestored(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.d.rangeBytes = 64 << 10
	w.exec(w.deep() + `CREATE TABLE t (id BIGINT PRIMARY KEY, filler VARCHAR(300)); CREATE TABLE nothing (id INT PRIMARY KEY);
		INSERT INTO t WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT 9223372036854775807 - i * i + 1, REPEAT('x', 250) FROM n; ANALYZE TABLE t`)
	folder := w.capture()
	ranges := folder.part(t).Schemas[0].Tables[1].Ranges
	require.Greater(t, len(ranges), 5)
	raw, err := os.ReadFile(filepath.Join(folder.dir, remora.PartFile))
	require.NoError(t, err)
	var p map[string]any
	require.NoError(t, json.Unmarshal(raw, &p))
	p["format"] = 2
	table := p["schemas"].([]any)[0].(map[string]any)["tables"].([]any)[1].(map[string]any)
	for i, r := range ranges {
		from, to := "-5", "9223372036854775807"
		if r.From != nil {
			from = r.From[0]
		}
		if r.To != nil {
			to = new(big.Int).Sub(floor(r.To[0]), big.NewInt(1)).String()
		}
		former := table["ranges"].([]any)[i].(map[string]any)
		former["from"], former["to"] = from, to
	}
	raw, err = json.Marshal(p)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder.dir, remora.PartFile), raw, 0o600))
	w.staged("former", folder)
}

// What holds no rows has no file, and still has its place between the borders.
func TestRangesWithoutRowsHaveNoFile(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec("CREATE TABLE nothing (id INT PRIMARY KEY); CREATE TABLE unkeyed (id INT)")
	folder := w.capture()
	for _, table := range folder.part(t).Schemas[0].Tables {
		require.Len(t, table.Ranges, 1)
		require.Empty(t, table.Ranges[0].File)
	}
	require.NoDirExists(t, filepath.Join(folder.dir, fileName(w.schema)))
	w.staged("nothing", folder)
}

func TestBordersAreLiterals(t *testing.T) {
	key := []string{"a", "b"}
	for _, literal := range []string{"0", "-5", "18446744073709551616", "-1.50", "X''", "X'00FF27'", "_utf8mb4 X'4F27'", "'2024-02-30'", "'0000-00-00 00:00:00.5'"} {
		require.True(t, border{literal}.valid(key), literal)
	}
	for _, other := range []string{"", "a", "1 OR 1", "1)", "0x41", "X'4", "X'4G'", "x'41'", "X'41' OR X'", "_latin1 X'41'", "'2024' OR '1'", "'2024'--", "''", "'a'", "1\n", "1;", "@a", "NULL"} {
		require.False(t, border{other}.valid(key), other)
		require.False(t, border{"1", other}.valid(key), other)
	}
	require.False(t, border{"1", "2", "3"}.valid(key), "longer than the key")
	require.True(t, border(nil).valid(nil))
	require.Equal(t, border{"X''"}, border{"X''"}.next(), "no number")
	require.Equal(t, "_utf8mb4 X'613F'", column{Type: "varchar"}.literal("a\xff"), "what is no text at all is none in a statement")
}

// explained is the one row of the plan of a query.
func (w *world) explained(query string) map[string]string {
	w.Helper()
	rows, err := w.root.QueryContext(w.Context(), strings.TrimSuffix("EXPLAIN "+w.traditional(), " ")+" "+query)
	require.NoError(w, err)
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	require.NoError(w, err)
	row, into := make([]sql.NullString, len(names)), make([]any, len(names))
	for i := range row {
		into[i] = &row[i]
	}
	require.True(w, rows.Next())
	require.NoError(w, rows.Scan(into...))
	require.False(w, rows.Next())
	require.NoError(w, rows.Err())
	how := map[string]string{}
	for i, name := range names {
		how[name] = row[i].String
	}
	return how
}

func (w *world) traditional() string {
	if w.server.MariaDB() {
		return ""
	}
	return "FORMAT=TRADITIONAL"
}
