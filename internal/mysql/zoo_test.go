package mysql

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// zooFiles are statements that make a schema of everything that one can hold: common.sql on every server, and what only
// some have.
//
//go:embed testdata/zoo
var zooFiles embed.FS

// zoo is the zoo of this server, for a schema.
func (w *world) zoo() string {
	maker, version := "mysql", ""
	if w.server.MariaDB() {
		maker, version = "mariadb", strings.Join(strings.SplitN(w.ask("SELECT VERSION()"), ".", 3)[:2], ".")
	}
	var all []byte
	for _, name := range []string{"common.sql", maker + ".sql", maker + "-" + version + ".sql"} {
		statements, err := zooFiles.ReadFile("testdata/zoo/" + name)
		if name == "common.sql" || name == maker+".sql" {
			require.NoError(w, err)
		}
		all = append(all, statements...)
	}
	return string(all)
}

// witness is what the schemas hold, by means that have nothing to do with ours: the text of the stock client, all that
// information_schema says, and digests of the rows that the server computes.
func (w *world) witness(schemas ...string) (lines []string) {
	w.Helper()
	for _, schema := range schemas {
		for line := range strings.Lines(w.server.Dump(w.T, schema)) {
			lines = append(lines, schema+" "+line)
		}
		for _, table := range w.column("SELECT table_name FROM information_schema.tables WHERE table_schema = ? AND table_type NOT LIKE '%VIEW' ORDER BY 1", schema) {
			lines = append(lines, w.rowsOf(schema, table))
		}
	}
	return append(lines, w.catalogue(schemas...)...)
}

// rowsOf counts and digests the rows of a table: every column by its bytes, those that print as less than they are by a
// number too, each NULL apart from all else.
func (w *world) rowsOf(schema, table string) string {
	w.Helper()
	versioned := ""
	if w.ask("SELECT table_type FROM information_schema.tables WHERE table_schema = ? AND table_name = ?", schema, table) == "SYSTEM VERSIONED" {
		versioned = " FOR SYSTEM_TIME ALL"
	}
	var parts []string
	rows, err := w.root.QueryContext(w.Context(), "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position", schema, table)
	require.NoError(w, err)
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name, kind string
		require.NoError(w, rows.Scan(&name, &kind))
		c := quote(name)
		parts = append(parts, "COALESCE(HEX(CAST("+c+" AS BINARY)), '~')")
		switch strings.ToLower(kind) {
		case "float", "double":
			parts = append(parts, "COALESCE(CAST("+c+" AS DOUBLE), '~')")
		case "enum", "set":
			parts = append(parts, "COALESCE("+c+" + 0, '~')")
		case "json":
			parts = append(parts, "COALESCE(JSON_TYPE("+c+"), '~')")
		}
	}
	require.NoError(w, rows.Err())
	all := "SHA2(CONCAT_WS('#', " + strings.Join(parts, ", ") + "), 256)"
	return fmt.Sprintf("rows of %q %q: %s", schema, table, w.ask("SELECT CONCAT(COUNT(*), ' ', SUM(CAST(CONV(LEFT("+all+", 13), 16, 10) AS DECIMAL(60))), ' ', SUM(CAST(CONV(RIGHT("+all+", 13), 16, 10) AS DECIMAL(60)))) FROM "+qualified(schema, table)+versioned))
}

// passing are columns of information_schema that say when something was done, how large it is just now, or, unlike the dump,
// what it was when it was looked at last.
var passing = []string{
	"CREATE_TIME", "UPDATE_TIME", "CHECK_TIME", "TABLE_ROWS", "AVG_ROW_LENGTH", "DATA_LENGTH", "MAX_DATA_LENGTH", "INDEX_LENGTH", "MAX_INDEX_LENGTH",
	"DATA_FREE", "CHECKSUM", "VERSION", "CARDINALITY", "PRIVILEGES", "AUTO_INCREMENT", "VIEW_DEFINITION", "CREATED", "LAST_ALTERED", "LAST_EXECUTED",
}

// catalogue is every row of information_schema that is about one of the schemas.
func (w *world) catalogue(schemas ...string) (lines []string) {
	w.Helper()
	in := " IN (" + strings.Join(mapped(schemas, text), ", ") + ")"
	about := map[string]string{}
	for _, column := range w.column(`SELECT CONCAT(table_name, ' ', column_name) FROM information_schema.columns WHERE table_schema = 'information_schema'
		AND (column_name LIKE '%\_SCHEMA' OR column_name = 'SCHEMA_NAME') AND table_name NOT LIKE 'INNODB%' AND table_name NOT LIKE '%PRIVILEGES' AND table_name NOT LIKE 'ROLE%'
		AND table_name NOT IN ('GEOMETRY_COLUMNS', 'FILES', 'PROFILING', 'TABLE_STATISTICS', 'INDEX_STATISTICS', 'OPTIMIZER_TRACE', 'KEY_CACHES') ORDER BY table_name, ordinal_position`) {
		table, name, _ := strings.Cut(column, " ")
		if about[table] == "" { // what follows is where something points to
			about[table] = name
		}
	}
	for table, name := range about {
		lines = append(lines, w.rowsAsLines(table, "SELECT * FROM information_schema."+table+" WHERE BINARY "+name+in)...)
	}
	slices.Sort(lines)
	return lines
}

// rowsAsLines is a query's rows as text.
func (w *world) rowsAsLines(label, query string) (lines []string) {
	w.Helper()
	rows, err := w.root.QueryContext(w.Context(), query)
	require.NoError(w, err)
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	require.NoError(w, err)
	values := make([]*[]byte, len(names))
	into := make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		require.NoError(w, rows.Scan(into...))
		line := label + ":"
		for i, name := range names {
			switch {
			case slices.Contains(passing, strings.ToUpper(name)):
			case values[i] == nil:
				line += " " + name + "=NULL"
			default:
				line += fmt.Sprintf(" %s=%q", name, *values[i])
			}
		}
		lines = append(lines, line)
	}
	require.NoError(w, rows.Err())
	return lines
}

// requireSame compares what two witnesses saw, in any order, and shows only what differs.
func requireSame(t testing.TB, want, got []string, what string) {
	t.Helper()
	count := map[string]int{}
	for _, line := range want {
		count[line]++
	}
	var extra []string
	for _, line := range got {
		if count[line]--; count[line] < 0 {
			extra = append(extra, line)
		}
	}
	var missing []string
	for _, line := range want {
		if count[line] > 0 {
			missing = append(missing, line)
		}
	}
	if len(missing)+len(extra) == 0 {
		return
	}
	show := func(mark string, lines []string) (text string) {
		for i, line := range lines {
			if i == 30 {
				return text + fmt.Sprintf("%s … %d more\n", mark, len(lines)-i)
			}
			text += mark + " " + strings.TrimSpace(line[:min(len(line), 1500)]) + "\n"
		}
		return text
	}
	t.Fatalf("%s: something differs:\n%s%s", what, show("-", missing), show("+", extra))
}

// charsets makes columns of each character set of the server, some to a table: with every single byte that is a letter
// there, and thousands of letters of all writings that it knows.
func (w *world) charsets() string {
	var letters strings.Builder
	for _, block := range [][2]rune{{1, 0x2ff}, {0x370, 0x5ff}, {0xe01, 0xe5b}, {0x10d0, 0x10ff}, {0x2010, 0x2642}, {0x3041, 0x30ff}, {0x4e00, 0x52ff}, {0xac00, 0xadff}, {0xff01, 0xffee}, {0x1f600, 0x1f64f}, {0x20000, 0x200ff}} {
		for r := block[0]; r <= block[1]; r++ {
			letters.WriteRune(r)
		}
	}
	all := fmt.Sprintf("SET SESSION sql_mode = ''; SET @letters = CONVERT(x'%x' USING utf8mb4);", letters.String())
	for some := range slices.Chunk(w.column("SELECT character_set_name FROM information_schema.character_sets ORDER BY 1"), 6) {
		columns, rows := "", make([]string, 259)
		for _, charset := range some {
			last := w.ask("SELECT MAX(collation_name) FROM information_schema.collations WHERE character_set_name = ?", charset)
			columns += strings.NewReplacer("CHARSET", charset, "COLLATION", last).Replace(
				", c_CHARSET CHAR(4) CHARACTER SET CHARSET, v_CHARSET VARCHAR(20) CHARACTER SET CHARSET DEFAULT 'a''x', t_CHARSET LONGTEXT CHARACTER SET CHARSET COLLATE COLLATION COMMENT 'é表', e_CHARSET ENUM('a', 'b,', '''') CHARACTER SET CHARSET, KEY (v_CHARSET), KEY (t_CHARSET(5))")
			for b := range 256 {
				rows[b] += fmt.Sprintf(", CONVERT(x'%02[1]x' USING %[2]s), CONVERT(x'%02[1]x5c' USING %[2]s), CONVERT(x'5c%02[1]x' USING %[2]s), %[3]d", b, charset, b%4)
			}
			for i, letters := range []string{"@letters", "'NULL'", `'\\N'`} {
				rows[256+i] += fmt.Sprintf(", NULL, NULL, CONVERT(%s USING %s), NULL", letters, charset)
			}
		}
		for i := range rows {
			rows[i] = fmt.Sprintf("(%d%s)", i, rows[i])
		}
		all += fmt.Sprintf("CREATE TABLE letters_%[1]s (id INT PRIMARY KEY%[2]s) CHARACTER SET %[1]s COMMENT 'é表\\\\'; INSERT IGNORE INTO letters_%[1]s VALUES %[3]s;", some[0], columns, strings.Join(rows, ", "))
	}
	return all
}

// damage does something to most of what a schema holds.
func (w *world) damage(schema string) {
	w.Helper()
	statements := "SET SESSION sql_mode = '', foreign_key_checks = 0; USE " + quote(schema) + ";"
	each := func(query, statement string) {
		for i, name := range w.column(query, schema) {
			if i%2 == 0 {
				statements += fmt.Sprintf(statement, quote(name)) + ";"
			}
		}
	}
	each("SELECT trigger_name FROM information_schema.triggers WHERE BINARY trigger_schema = ? ORDER BY 1", "DROP TRIGGER %s")
	each("SELECT event_name FROM information_schema.events WHERE BINARY event_schema = ? ORDER BY 1", "ALTER EVENT %s COMMENT 'damaged'")
	each("SELECT table_name FROM information_schema.views WHERE table_schema = ? ORDER BY 1 DESC", "DROP VIEW %[1]s; CREATE VIEW %[1]s AS SELECT 'damaged' AS damage")
	each("SELECT table_name FROM information_schema.views WHERE table_schema = ? ORDER BY 1 DESC LIMIT 1000 OFFSET 1", "DROP VIEW %s")
	each("SELECT routine_name FROM information_schema.routines WHERE BINARY routine_schema = ? AND routine_type = 'PROCEDURE' ORDER BY 1", "DROP PROCEDURE %s")
	for i, table := range w.column(`SELECT table_name FROM information_schema.tables WHERE table_schema = ? AND table_type = 'BASE TABLE' AND engine <> 'ARCHIVE'
		AND table_name NOT IN (SELECT referenced_table_name FROM information_schema.referential_constraints) AND table_name NOT IN (SELECT event_object_table FROM information_schema.triggers) ORDER BY 1`, schema) {
		switch i % 4 {
		case 0:
			statements += "DROP TABLE " + quote(table) + ";"
		case 1:
			statements += "DELETE FROM " + quote(table) + ";"
		case 2:
			statements += "ALTER TABLE " + quote(table) + " ADD COLUMN damage VARCHAR(9) NOT NULL DEFAULT 'x';"
		}
	}
	w.exec(statements + "CREATE TABLE damage (id INT PRIMARY KEY); CREATE VIEW of_damage AS SELECT * FROM damage; CREATE PROCEDURE of_damage() SELECT 1; CREATE TRIGGER of_damage BEFORE DELETE ON damage FOR EACH ROW SET @gone = 1; CREATE EVENT of_damage ON SCHEDULE EVERY 1 WEEK STARTS '2036-01-01' DO SET @a = 1")
}

// Everything that a schema can hold is the same after a restore, after its way back, and after a load by hand; whatever
// became of the live schemas meanwhile. Two schemas that point into each other are one moment and one switch (S26).
func TestTheZooComesBackIdentical(t *testing.T) { testenv.EachServer(t, testTheZooComesBackIdentical) }

func testTheZooComesBackIdentical(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	odd := w.schema + "-a.b`c'd\"e %_$é♥ SELECT-of 64 letters"
	if on.MariaDB() {
		odd = strings.NewReplacer("'", "", `"`, "").Replace(odd) // its dump program takes no events out of such a schema
	}
	other := strings.ToUpper(odd)
	for _, schema := range []string{odd, other} {
		w.exec("CREATE DATABASE " + quote(schema) + " CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
		defer w.exec("SET foreign_key_checks = 0; DROP DATABASE IF EXISTS " + quote(schema))
	}
	empty := w.schema
	w.schema = odd
	w.exec(w.zoo())
	w.exec(w.charsets())
	across, err := zooFiles.ReadFile("testdata/zoo/across.sql")
	require.NoError(t, err)
	w.exec(strings.ReplaceAll(string(across), "OTHER", quote(other)))
	w.latin1(t, "parent")
	w.exec("ALTER DATABASE COLLATE utf8mb4_unicode_ci")
	w.d = w.database(func(c *Config) { c.Schemas = []string{odd, other} })
	before := w.witness(odd, other)
	part, summary := w.captureOf(remora.Subject{})
	var unsaid []string
	if on.MariaDB() {
		unsaid = []string{"a restore does not bring back REF_SYSTEM_ID of columns: places.p, places.q"}
	}
	require.Equal(t, unsaid, summary.Warnings)
	require.Contains(t, summary.Facts["consistency"], "2 sessions")
	require.Equal(t, w.ask("SELECT @@log_bin") == "1", summary.Facts["position"] != "", "the binary log is off on one of them")
	for _, locked := range []string{"`mine`", "`hot`", "`plain`", "nobody could write to them for"} {
		require.Contains(t, summary.Facts["locked_tables"], locked)
	}

	require.NoError(t, filepath.WalkDir(part.dir, func(path string, d os.DirEntry, err error) error {
		require.NotContains(t, d.Name(), " ")
		require.NotContains(t, d.Name(), "\n")
		return err
	}))
	entries, err := os.ReadDir(part.dir)
	require.NoError(t, err)
	require.Len(t, entries, 4, "load.sql, part.json, and one directory for each schema")

	w.damage(odd)
	w.damage(other)
	damaged := w.witness(odd, other)
	est, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.Contains(t, strings.Join(est.Warnings, "\n"), "procedure orphan: its definer does not exist")
	require.NotContains(t, strings.Join(est.Warnings, "\n"), "procedure two: its definer")
	w.staged("r", part)
	require.NoError(t, w.turn("r", 1, remora.Restored))
	requireSame(t, before, w.witness(odd, other), "restored")
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	requireSame(t, damaged, w.witness(odd, other), "rolled back")
	aside, _ := w.captureOf(remora.Subject{PutAway: "r"})
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))
	require.Empty(t, w.leftovers())

	w.exec("SET foreign_key_checks = 0; DROP DATABASE " + quote(odd) + "; DROP DATABASE " + quote(other) + "; USE mysql")
	w.schema = empty
	w.loadBy(t, aside)
	requireSame(t, before, w.witness(odd, other), "put away, and loaded by hand")
}
