package mysql

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// exportZoo is what a plain dump easily gets wrong, beside the zoo: text in character sets of its own, rows that are long
// or many, and what only MariaDB has.
func (w *world) exportZoo() string {
	tables, _, _ := strings.Cut(w.zoo(), "-- What is no table.")
	all := tables + objectsZoo + `
	CREATE TABLE charsets (id INT PRIMARY KEY, l VARCHAR(40), a VARCHAR(40) CHARACTER SET ascii, u8 VARCHAR(40) CHARACTER SET utf8mb3, u2 VARCHAR(40) CHARACTER SET ucs2, u32 TEXT CHARACTER SET utf32,
		j VARCHAR(40) CHARACTER SET sjis, g VARCHAR(40) CHARACTER SET gbk, e ENUM('é','x') CHARACTER SET latin1, s SET('ü','y') CHARACTER SET ucs2, k TEXT CHARACTER SET koi8r COMMENT 'DEFAULT CHARSET=utf8mb4') DEFAULT CHARSET=latin1 COMMENT='a DEFAULT CHARSET=utf8mb4';
	INSERT INTO charsets VALUES (1, 0xe9e8, 'a', 'é€', '日本', '日😀', 0x835c8360, 0x815cb0a1, 'é', 'ü,y', 'Ж'),
		(2, 'it''s \\ "', '\\N', '', '', 'x\r\n\t\0', 'a', 'b', 'x', '', NULL), (3, 0x5c27, 'NULL', '\\', 'a''b', '''', 0x8160, 0x8147, NULL, 'y', 'it''s');
	CREATE TABLE texts4 (id INT PRIMARY KEY, t LONGTEXT, u VARCHAR(100), j JSON) CHARACTER SET utf8mb4;
	INSERT INTO texts4 VALUES (1, 'it''s a \\ "quoted" ` + "`thing`" + `\r\nand; DELIMITER $$\n\\! false\nmore', 'e\\''', '{"a": "it''s \\\\ \\u0000 \\n"}'), (2, 'ctrl ` + "\x01\x7f" + ` \Z \0', '', '[]'),
		(3, REPEAT('é''\\', 100000), REPEAT('\\', 100), CONCAT('["', REPEAT('é''', 100000), '"]')), (4, CONCAT('x', REPEAT('\\\n', 200000)), 'c', NULL);
	CREATE TABLE many (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(200)) AUTO_INCREMENT = 9000000;
	INSERT INTO many (v) SELECT CONCAT(a.id, '-', b.id, '-', REPEAT('x', 45 * (b.id % 5))) FROM numbers a, numbers b, numbers c, numbers d, numbers e;`
	if !w.server.MariaDB() {
		return all
	}
	return all + `
	CREATE SEQUENCE z_number START WITH 100 INCREMENT BY 5 CACHE 3; CREATE TABLE a_uses (id INT PRIMARY KEY DEFAULT NEXTVAL(z_number), n INT); INSERT INTO a_uses (n) VALUES (1), (2);
	CREATE TABLE past (id INT PRIMARY KEY, v VARCHAR(20)) WITH SYSTEM VERSIONING; INSERT INTO past VALUES (1, 'a'), (2, 'b'); UPDATE past SET v = 'c' WHERE id = 1; DELETE FROM past WHERE id = 2;
	CREATE TABLE named (id INT PRIMARY KEY, v INT, f TIMESTAMP(6) GENERATED ALWAYS AS ROW START INVISIBLE, t TIMESTAMP(6) GENERATED ALWAYS AS ROW END INVISIBLE, PERIOD FOR SYSTEM_TIME (f, t)) WITH SYSTEM VERSIONING; INSERT INTO named VALUES (1, 1); UPDATE named SET v = 2;`
}

func TestAnExportLoadsWithTheStockClientAlone(t *testing.T) {
	testenv.EachServer(t, testAnExportLoadsWithTheStockClientAlone)
}

func testAnExportLoadsWithTheStockClientAlone(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(w.exportZoo())
	w.latin1(t, "users")
	history := func() string {
		if !on.MariaDB() {
			return ""
		}
		return w.ask("SELECT GROUP_CONCAT(id, v, row_start, row_end ORDER BY id, row_end) FROM "+w.schema+".past FOR SYSTEM_TIME ALL") +
			w.ask("SELECT GROUP_CONCAT(id, v, f, t ORDER BY id, t) FROM "+w.schema+".named FOR SYSTEM_TIME ALL")
	}
	before, past := w.dumps(w.schema), history()
	part := w.capture()

	// As rows beside a script.
	folder := folder{filepath.Join(t.TempDir(), "tsv")}
	require.NoError(t, export(t, part).TSV(func(name string, write func(io.Writer) error) error { return folder.Put(t.Context(), name, write) }))
	w.exec("DROP DATABASE " + w.schema)
	w.loadBy(t, folder)
	require.Equal(t, before, w.dumps(w.schema))
	require.Equal(t, past, history())

	// As statements alone.
	var dump bytes.Buffer
	require.NoError(t, export(t, part).SQL(&dump))
	require.True(t, strings.HasSuffix(dump.String(), "\n-- complete\n"))
	require.Contains(t, dump.String(), `'it\'s a \\ "quoted" `+"`thing`"+`\r\nand; DELIMITER $$\n\\! false\nmore'`, "text is to be read")
	require.Greater(t, strings.Count(dump.String(), "INSERT INTO `many` "), 1, "long statements end")
	w.exec("DROP DATABASE " + w.schema)
	out, err := w.loadSQL(dump.Bytes())
	require.NoError(t, err, "%s", out)
	require.Equal(t, before, w.dumps(w.schema))
	require.Equal(t, past, history())
}

func export(t *testing.T, part folder, tables ...string) *Export {
	t.Helper()
	e, err := NewExport(part.fs(), tables)
	require.NoError(t, err)
	return e
}

func (w *world) loadSQL(dump []byte) ([]byte, error) {
	client := w.server.Client(w.T)
	client.Stdin = bytes.NewReader(dump)
	return client.CombinedOutput()
}

// What is damaged is found while it is written, so what was written by then must not pass for a backup.
func TestADamagedExportDoesNotLoad(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec("CREATE TABLE a (id INT PRIMARY KEY, v TEXT, b LONGBLOB); INSERT INTO a VALUES (1, 'one', 'x'), (2, 'two', REPEAT('y', 3000000)); CREATE TABLE b (id INT)")
	part := w.capture()
	w.exec("DROP TABLE a, b")
	name := filepath.Join(part.dir, w.schema, "a.00001.tsv")
	rows, err := os.ReadFile(name)
	require.NoError(t, err)
	for what, bad := range map[string][]byte{
		"a flipped bit": bytes.Replace(rows, []byte("two"), []byte("twp"), 1), "a missing row": rows[bytes.IndexByte(rows, '\n')+1:], "half a row": rows[:len(rows)/2],
		"a strange escape": bytes.Replace(rows, []byte("two"), []byte(`t\x`), 1), "too many columns": bytes.Replace(rows, []byte("two"), []byte("t\to"), 1),
		"not a number": bytes.Replace(rows, []byte("2\ttwo"), []byte("0);DROP TABLE a;--\ttwo"), 1), "an open quote": bytes.Replace(rows, []byte("\ttwo"), []byte("\ttwo\\"), 1),
	} {
		require.NoError(t, os.WriteFile(name, bad, 0o600))
		var dump bytes.Buffer
		requireProblem(t, export(t, part).SQL(&dump), remora.Corrupt, "table "+w.schema+".a, range "+w.schema+"/a.00001.tsv")
		require.False(t, strings.HasSuffix(dump.String(), complete), what)
		out, err := w.loadSQL(dump.Bytes())
		require.Error(t, err, "%s: %s", what, out)
		if what != "not a number" { // which the server refuses before
			require.Contains(t, string(out), "syntax", what)
		}
		require.Equal(t, "0", w.ask("SELECT COUNT(*) FROM "+w.schema+".a"), "%s: not a row of a bad range stays", what)
		w.exec("DROP TABLE a")
	}
	requireProblem(t, export(t, part).TSV(func(_ string, write func(io.Writer) error) error { return write(io.Discard) }), remora.Corrupt)
	require.NoError(t, os.Remove(name))
	requireProblem(t, export(t, part).SQL(io.Discard), remora.Corrupt)
	require.NoError(t, export(t, part, "b").SQL(io.Discard), "another table comes out all the same")
}

func TestAnExportOfSomeTables(t *testing.T) {
	w := newWorld(t, testenv.MariaDB(t, "11.8"))
	w.exec(objectsZoo + "CREATE SEQUENCE z_number; CREATE SEQUENCE other; CREATE TABLE needs (id INT DEFAULT NEXTVAL(z_number))")
	part := w.capture()
	var dump bytes.Buffer
	e := export(t, part, "orders", "z_number", w.schema+".needs")
	require.NoError(t, e.SQL(&dump))
	require.EqualValues(t, 3, e.Objects)
	made := regexp.MustCompile("(?m)^CREATE (TABLE|.*VIEW|.*TRIGGER|.*PROCEDURE|.*FUNCTION|.*EVENT) [`\\w]+").FindAllString(dump.String(), -1)
	for i := range made {
		fields := strings.Fields(made[i])
		made[i] = strings.Join(fields[max(1, len(fields)-2):], " ")
	}
	require.Equal(t, []string{"TABLE `z_number`", "TABLE `needs`", "TABLE `orders`", "TRIGGER first_in", "TRIGGER second_in"}, made)
	w.exec("DROP DATABASE " + w.schema)
	out, err := w.loadSQL(dump.Bytes())
	require.NoError(t, err, "%s", out)
	_, err = NewExport(part.fs(), []string{"orders", "nowhere"})
	requireProblem(t, err, remora.NotFound, "no table nowhere")
}

// Whatever the rows are, what is held of them does not grow with them.
func TestAnExportHoldsLittle(t *testing.T) {
	huge := int64(32 << 20)
	var written counter
	x := inserts{bufio.NewWriter(&written), "INSERT", []form{inDigits, inHex, inQuotes, inUTF8}}
	long := func() io.Reader { return io.LimitReader(ones{}, huge) }
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.NoError(t, x.rows(io.MultiReader(strings.NewReader("1\t"), long(), strings.NewReader("\t"), long(), strings.NewReader("\t"), long(), strings.NewReader("\n"))))
	runtime.ReadMemStats(&after)
	require.InDelta(t, 4*huge, int64(written), flushAt)
	require.Less(t, after.HeapSys-before.HeapSys, uint64(huge))
}

type ones struct{}

func (ones) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '1'
	}
	return len(p), nil
}
