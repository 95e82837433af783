package mysql

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// dumps is the schema as the stock client reads it, and as the server sums it up.
func (w *world) dumps(schema string) string {
	w.Helper()
	names := w.column("SELECT table_name FROM information_schema.tables WHERE table_schema = ? AND table_type <> 'VIEW' ORDER BY CAST(table_name AS BINARY)", schema)
	var b strings.Builder
	b.WriteString(w.server.Dump(w.T, schema))
	for _, name := range names {
		var sum string
		require.NoError(w, w.root.QueryRowContext(w.Context(), "CHECKSUM TABLE "+qualified(schema, name)).Scan(new(string), &sum))
		fmt.Fprintf(&b, "%q %s\n", name, sum)
	}
	return b.String()
}

// A DECIMAL inside JSON has no text of its own: it is said, and what is restored is what its text means.
func TestJSONThatTextCannotCarryIsSaid(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec("CREATE TABLE prices (id INT PRIMARY KEY, plain JSON, j JSON); INSERT INTO prices VALUES (1, '[1]', CAST(1.50 AS JSON)), (2, '{}', JSON_OBJECT('p', 9.90))")
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

// What the server keeps of a schema and no definition says is named in the backup, and never lost in silence.
func TestWhatNoDefinitionSaysIsNamed(t *testing.T) {
	testenv.EachMaker(t, testWhatNoDefinitionSaysIsNamed)
}

func testWhatNoDefinitionSaysIsNamed(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	if on.MariaDB() {
		w.exec("CREATE TABLE places (id INT PRIMARY KEY, at POINT REF_SYSTEM_ID=4326)")
		_, sum := w.captureOf(remora.Subject{})
		require.Contains(t, sum.Warnings, "a restore does not bring back REF_SYSTEM_ID of columns: places.at")
		return
	}
	w.exec("CREATE TABLE numbers (id INT PRIMARY KEY, n INT); INSERT INTO numbers VALUES (1, 1), (2, 2); ANALYZE TABLE numbers UPDATE HISTOGRAM ON n WITH 4 BUCKETS")
	w.exec("ALTER SCHEMA " + w.schema + " READ ONLY = 1")
	defer w.exec("ALTER SCHEMA " + w.schema + " READ ONLY = 0")
	part, sum := w.captureOf(remora.Subject{})
	require.Contains(t, sum.Warnings, "a restore does not bring back histograms of columns: numbers.n")
	require.Contains(t, sum.Warnings, "a restore does not bring back that the schema is READ ONLY: "+w.schema)
	_, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Denied, "is READ ONLY")
}
