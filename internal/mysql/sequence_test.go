package mysql

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

func onMariaDB(t *testing.T, test func(*world)) {
	t.Helper()
	testenv.EachServer(t, func(t *testing.T, on *testenv.MySQLServer) {
		if !on.MariaDB() {
			t.Skip("MySQL has no such thing")
		}
		test(newWorld(t, on))
	})
}

// A table takes its numbers from the sequence beside it, on whatever side they are, and none is handed out twice (S24).
func TestS24SequencesGoWithTheirTables(t *testing.T) {
	onMariaDB(t, func(w *world) {
		w.exec(`CREATE SEQUENCE z_number START WITH 100 INCREMENT BY 5 CACHE 3; CREATE SEQUENCE down START WITH -1 INCREMENT BY -1 MINVALUE -50 NOCACHE CYCLE;
			CREATE TABLE a (id INT PRIMARY KEY DEFAULT NEXTVAL(z_number), note VARCHAR(50) DEFAULT 'nextval(` + "`x`" + `.' COMMENT 'it''s', twice INT DEFAULT (NEXTVAL(down) * 2));
			INSERT INTO a (note) VALUES ('one'), ('two'); CREATE VIEW numbers AS SELECT NEXTVAL(z_number); CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET NEW.note = CONCAT(NEW.note, '!')`)
		before := w.reading()
		part := w.capture()
		w.exec("DELETE FROM a")
		w.exec("INSERT INTO a (note) VALUES ('three'), ('four'), ('five')")
		ids := func() string { return w.ask("SELECT GROUP_CONCAT(id ORDER BY id) FROM " + w.schema + ".a") }
		given := ids()
		damaged := w.server.Dump(w.T, w.schema)
		_, err := w.d.Preflight(w.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
		require.NoError(w, err)
		w.staged("r", part)
		require.NoError(w, w.turn("r", 1, remora.Restored))
		require.Equal(w, "100,105", ids())
		require.NotContains(w, w.server.Dump(w.T, w.schema), prefix)
		w.exec("INSERT INTO a (note) VALUES ('six')")
		require.Equal(w, "1", w.ask("SELECT MAX(id) > SUBSTRING_INDEX(?, ',', -1) FROM "+w.schema+".a WHERE note = 'six!'", given), "no number was given twice")
		require.NoError(w, w.turn("r", 2, remora.Replaced))
		require.Equal(w, given, ids())
		require.Equal(w, shapeOf(damaged), shapeOf(w.server.Dump(w.T, w.schema)))
		w.exec("INSERT INTO a (note) VALUES ('seven')")
		require.NoError(w, w.turn("r", 3, remora.Restored))
		require.NoError(w, w.d.Discard(w.Context(), remora.Job{Run: "r"}, "held"))

		// With nothing left of them, they come back as they were.
		w.exec("DROP DATABASE " + w.schema)
		w.staged("again", part)
		require.NoError(w, w.turn("again", 1, remora.Restored))
		require.Equal(w, before, w.reading())
	})
}

// shapeOf is a dump without the rows and the state of sequences.
func shapeOf(dump string) string {
	var kept []string
	for line := range strings.Lines(dump) {
		if !strings.HasPrefix(line, "INSERT ") && !strings.HasPrefix(line, "DO SETVAL") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// What a row was before is as much a row as what it is.
func TestTheHistoryOfVersionedTablesComesBack(t *testing.T) {
	onMariaDB(t, func(w *world) {
		w.exec(`CREATE TABLE plain (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(20), KEY (v)) WITH SYSTEM VERSIONING;
			CREATE TABLE named (id INT, v INT, loose INT WITHOUT SYSTEM VERSIONING, began TIMESTAMP(6) GENERATED ALWAYS AS ROW START INVISIBLE, ended TIMESTAMP(6) GENERATED ALWAYS AS ROW END,
				PRIMARY KEY (id, ended), PERIOD FOR SYSTEM_TIME (began, ended)) WITH SYSTEM VERSIONING;
			CREATE TABLE keyless (v INT) WITH SYSTEM VERSIONING PARTITION BY SYSTEM_TIME (PARTITION p0 HISTORY, PARTITION now CURRENT);
			INSERT INTO plain (v) VALUES ('a'), ('b'); INSERT INTO named (id, v) VALUES (1, 1), (2, 2); INSERT INTO keyless VALUES (1), (1), (2)`)
		w.exec("UPDATE plain SET v = CONCAT(v, '2'); UPDATE named SET v = v + 1; UPDATE keyless SET v = 3 WHERE v = 2")
		w.exec("DELETE FROM plain WHERE id = 1; DELETE FROM named WHERE id = 2; UPDATE named SET loose = 5")
		history := func() string {
			return w.ask("SELECT GROUP_CONCAT(id, v, row_start, row_end ORDER BY id, row_end) FROM "+w.schema+".plain FOR SYSTEM_TIME ALL") +
				w.ask("SELECT GROUP_CONCAT(id, v, began, ended ORDER BY id, ended) FROM "+w.schema+".named FOR SYSTEM_TIME ALL")
		}
		before, rows := w.reading(), history()
		part, sum := w.captureOf(remora.Subject{})
		require.Equal(w, int64(4+4+4), sum.Entries)
		w.exec("DROP TABLE named; DELETE HISTORY FROM plain; UPDATE keyless SET v = 9")
		w.staged("r", part)
		require.NoError(w, w.turn("r", 1, remora.Restored))
		require.Equal(w, before, w.reading())
		require.Equal(w, rows, history())
		require.NoError(w, w.turn("r", 2, remora.Replaced))
		require.Equal(w, "1", w.ask("SELECT COUNT(*) FROM "+w.schema+".plain FOR SYSTEM_TIME ALL"))
		require.NoError(w, w.turn("r", 3, remora.Restored))
		require.Equal(w, rows, history())

		w.exec("CREATE TABLE precise (id INT, a BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, b BIGINT UNSIGNED GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (a, b)) WITH SYSTEM VERSIONING")
		_, err := w.d.Preflight(w.Context(), remora.Job{}, remora.Intent{})
		requireProblem(w, err, remora.Unsupported, "precise", "by transactions")
	})
}

// What one maker's server says of its rows the other's does not mean.
func TestAPartOfTheOtherMakerIsRefusedInThePlan(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(shop)
	part := w.capture()
	onMariaDB(t, func(other *world) {
		other.d = other.database(func(c *Config) { c.Schemas = []string{w.schema} })
		_, err := other.d.Preflight(other.Context(), remora.Job{}, remora.Intent{From: part.fs()})
		requireProblem(other, err, remora.Unsupported, "taken from MySQL", "this server is MariaDB")
	})
}

// An upgrade may lie between backup and restore; what the newer one cannot bring back exactly is refused.
func TestAPartOfAnOlderMariaDBIsRestoredByANewerOne(t *testing.T) {
	older, newer := newWorld(t, testenv.MariaDB(t, "10.11")), newWorld(t, testenv.MariaDB(t, "11.8"))
	common, err := zooFiles.ReadFile("testdata/zoo/common.sql")
	require.NoError(t, err)
	older.exec(string(common))
	part := older.capture()
	newer.d = newer.database(func(c *Config) { c.Schemas = []string{older.schema} })
	est, err := newer.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.Contains(t, strings.Join(est.Warnings, " "), "taken from MariaDB 10.11")
	newer.staged("r", part)
	require.NoError(t, newer.turn("r", 1, remora.Restored))
	defer newer.exec("DROP DATABASE " + older.schema)
	rows := func(w *world) (all []string) {
		for line := range strings.Lines(w.server.Dump(t, older.schema)) {
			if strings.HasPrefix(line, "INSERT ") {
				all = append(all, line)
			}
		}
		return all
	}
	require.Equal(t, rows(older), rows(newer))

	older.exec("CREATE TABLE v (id INT) WITH SYSTEM VERSIONING")
	part = older.capture()
	require.NoError(t, newer.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))
	_, err = newer.d.Preflight(t.Context(), remora.Job{Run: "r2"}, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Unsupported, "table v", "same version")
}

// Rows that are written while triggers are absent would lack what those do: so nobody may write then (S32).
func TestS32TriggersNeedAMaintenanceModeOnMariaDB(t *testing.T) {
	onMariaDB(t, func(w *world) {
		w.exec(shop)
		part := w.capture()
		w.exec("CREATE TRIGGER loud BEFORE INSERT ON users FOR EACH ROW SET NEW.name = UPPER(NEW.name)")
		online := w.database(func(c *Config) { c.StaysOnline = true })
		_, err := online.Preflight(w.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
		requireProblem(w, err, remora.Unsupported, "trigger loud on users", "set maintenance")
		_, err = w.d.Preflight(w.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
		require.NoError(w, err)
		w.exec("DROP TRIGGER loud")
		_, err = online.Preflight(w.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
		require.NoError(w, err)
	})
}

func TestQualifiersAreRenamedOutsideStringsAlone(t *testing.T) {
	names := map[string]string{"sh`op": "stage"}
	for from, to := range map[string]string{
		"DEFAULT nextval(`sh``op`.`s`)":                              "DEFAULT nextval(`stage`.`s`)",
		"DEFAULT nextval(`other`.`s`)":                               "DEFAULT nextval(`other`.`s`)",
		"DEFAULT 'it''s nextval(`sh``op`.`s`)', lastval(`sh``op`.s)": "DEFAULT 'it''s nextval(`sh``op`.`s`)', lastval(`stage`.s)",
		"REFERENCES `sh``op`.`t` (`id`) COMMENT '\\'`'":              "REFERENCES `stage`.`t` (`id`) COMMENT '\\'`'",
		"REFERENCES `sh``op` (`id`)":                                 "REFERENCES `sh``op` (`id`)",
		"an end that never comes '":                                  "an end that never comes '",
	} {
		require.Equal(t, to, requalified(from, names))
	}
}

// What keeps definitions as they are also keeps writers from tables without transactions, of whatever schema: they go
// first.
func TestWritersOfOtherSchemasDoNotWaitForABackupOfMariaDB(t *testing.T) {
	w := newWorld(t, testenv.MariaDB(t, "11.8"))
	other := w.server.Schema(t)
	w.exec(shop + "CREATE TABLE " + other + ".visits (id INT) ENGINE = MyISAM")
	visit := sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := w.root.ExecContext(ctx, "INSERT INTO "+other+".visits VALUES (1)")
		require.NoError(t, err)
	})
	to := lookingAt{folder{t.TempDir()}, func(path string) {
		if strings.Contains(path, "users") {
			visit()
		}
	}}
	_, err := w.d.Capture(t.Context(), remora.Job{Run: "run"}, remora.Subject{}, to)
	require.NoError(t, err)
	require.Equal(t, "1", w.ask("SELECT COUNT(*) FROM "+other+".visits"))
}

// lookingAt is a part that somebody looks at while it is written.
type lookingAt struct {
	folder
	look func(path string)
}

func (l lookingAt) Put(ctx context.Context, path string, write func(io.Writer) error) error {
	l.look(path)
	return l.folder.Put(ctx, path, write)
}
