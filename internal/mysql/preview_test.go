package mysql

import (
	"context"
	"fmt"
	"hash/maphash"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// opened is a part that remembers what was opened of it.
type opened struct {
	fs.FS
	mu    sync.Mutex
	files []string
}

func (o *opened) Open(name string) (fs.File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files = append(o.files, name)
	return o.FS.Open(name)
}

func (w *world) previewed(part folder, only ...string) (remora.Preview, []string) {
	w.Helper()
	from := &opened{FS: part.fs()}
	said, err := w.d.Preview(w.Context(), remora.Job{Run: "look", Selection: remora.Selection{Tables: only}}, from)
	require.NoError(w, err)
	return said, from.files
}

// of is the preview of one table, without its schema; a table that is equal has none.
func of(said remora.Preview, name string) remora.TablePreview {
	for _, t := range said.Tables {
		if strings.HasSuffix(t.Name, "."+name) {
			t.Name = name
			return t
		}
	}
	return remora.TablePreview{}
}

func TestAPreviewTellsWhatARestoreWouldChange(t *testing.T) {
	testenv.EachServer(t, testAPreviewTellsWhatARestoreWouldChange)
}

func testAPreviewTellsWhatARestoreWouldChange(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on, func(c *Config) { c.Empty = []string{"jobs"} })
	w.exec(shop + `
		CREATE TABLE pairs (b VARCHAR(20) COLLATE utf8mb4_bin, a INT, v TEXT, r FLOAT, PRIMARY KEY (b, a));
		INSERT INTO pairs VALUES ('x\ty', 1, 'one\n', 1.1), ('x\ty', 2, NULL, 2.2), ('é', 1, 'three', 16777217), ('', 0, '', 0);
		CREATE TABLE log (line VARCHAR(20)); INSERT INTO log VALUES ('a'), ('a'), ('a'), ('b'), (NULL);
		CREATE TABLE gone (id INT PRIMARY KEY, v VARCHAR(9) DEFAULT 'quite'); INSERT INTO gone VALUES (1, 'x'), (2, 'y');
		CREATE TABLE wider (id INT PRIMARY KEY, v INT); INSERT INTO wider VALUES (1, 1), (2, 2);
		CREATE TABLE narrower (id INT PRIMARY KEY, v INT); INSERT INTO narrower VALUES (1, 1), (2, 2);
		CREATE TABLE jobs (id INT PRIMARY KEY); INSERT INTO jobs VALUES (1);
		CREATE TABLE old (id INT PRIMARY KEY) ENGINE=MyISAM; INSERT INTO old VALUES (1), (2);
		CREATE TABLE emptied (id INT PRIMARY KEY); INSERT INTO emptied VALUES (1), (2);
		CREATE VIEW names AS SELECT name FROM users; CREATE VIEW totals AS SELECT total FROM orders;
		CREATE PROCEDURE sweep() DELETE FROM log;
		CREATE TRIGGER one BEFORE INSERT ON log FOR EACH ROW SET NEW.line = NEW.line;
		CREATE TRIGGER two BEFORE INSERT ON log FOR EACH ROW SET NEW.line = NEW.line;
		CREATE EVENT yearly ON SCHEDULE EVERY 1 YEAR DO SET @x = 1`)
	tables := 9
	if on.MariaDB() {
		w.exec("CREATE SEQUENCE numbers")
		tables++
	}
	part := w.capture()
	if on.MariaDB() {
		w.ask("SELECT NEXTVAL(" + w.schema + ".numbers)")
	}

	same, files := w.previewed(part)
	require.Equal(t, []string{remora.PartFile}, files, "where nothing differs nothing of the part is read")
	require.Equal(t, remora.Preview{
		Equal: tables, Compared: same.Compared,
		Tables: []remora.TablePreview{{Name: w.schema + ".jobs", Now: 1, Removed: 1}}, // it comes back empty
	}, same)

	w.exec(`
		DELETE FROM pairs WHERE b = 'é'; UPDATE pairs SET r = 2.3 WHERE a = 2; INSERT INTO pairs VALUES ('new', 1, 'x', 1), ('new', 2, 'y', 2);
		DELETE FROM log WHERE line = 'a' LIMIT 2; INSERT INTO log VALUES ('c'), (NULL);
		DROP TABLE gone; CREATE TABLE fresh (id INT PRIMARY KEY); INSERT INTO fresh VALUES (1), (2), (3);
		ALTER TABLE wider ADD COLUMN extra INT FIRST; UPDATE wider SET v = 3 WHERE id = 2; ALTER TABLE narrower DROP COLUMN v; DELETE FROM narrower;
		INSERT INTO old VALUES (3); DELETE FROM jobs; DELETE FROM emptied;
		DROP VIEW names; CREATE OR REPLACE VIEW totals AS SELECT 1; CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1;
		DROP TRIGGER one; CREATE TRIGGER one BEFORE INSERT ON log FOR EACH ROW SET NEW.line = NEW.line; ALTER EVENT yearly DISABLE;
		SET sql_mode = ''; DROP PROCEDURE sweep; CREATE PROCEDURE sweep() DELETE FROM log; DO 1`)
	said, files := w.previewed(part)
	for _, want := range []remora.TablePreview{
		{Name: "pairs", Now: 5, Then: 4, Ranges: 1, Differ: 1, Added: 1, Removed: 2, Changed: 1},
		{Name: "log", Now: 5, Then: 5, Ranges: 1, Differ: 1, Added: 2, Removed: 2},
		{Name: "gone", Then: 2, Added: 2},
		{Name: "fresh", Now: 3, Removed: 3},
		{Name: "wider", Now: 2, Then: 2, Ranges: 1, Differ: 1, Changed: 1},
		{Name: "narrower", Then: 2, Counted: true},
		{Name: "old", Now: 3, Then: 2, Ranges: 1, Differ: 1, Removed: 1},
		{Name: "emptied", Then: 2, Ranges: 1, Differ: 1, Added: 2},
	} {
		require.Equal(t, want, of(said, want.Name))
	}
	require.Len(t, said.Tables, 8)
	require.Equal(t, tables-6, said.Equal, "users, orders, a sequence, and jobs, which is empty")
	file := func(table string) string { return fileName(w.schema) + "/" + table + ".00001.tsv" }
	require.ElementsMatch(t, []string{file("log"), file("old"), file("pairs"), file("wider"), remora.PartFile}, files)
	named := func(kind, name string) string { return kind + " " + w.schema + "." + name }
	require.Equal(t, []string{named("table", "gone"), named("view", "names")}, said.Creates)
	require.Equal(t, []string{named("table", "fresh"), named("function", "f")}, said.Drops)
	require.Equal(t, []string{named("table", "narrower"), named("table", "wider"), named("procedure", "sweep"), named("view", "totals"), named("event", "yearly"), "order of the triggers of " + w.schema}, said.Replaces)
	require.Contains(t, said.Schema, named("table", "wider")+"\n@@")
	require.Contains(t, said.Schema, "\n-`extra` int")
	require.Regexp(t, "\n\\+`v` int(\\(11\\))? DEFAULT NULL", said.Schema)
	require.Contains(t, said.Schema, "DEFAULT 'quite'")
	require.Contains(t, said.Schema, "\n-two\n")
	require.Contains(t, said.Schema, named("procedure", "sweep")+"\n@@ -1,2 +1,2 @@\n-SET SESSION sql_mode = '',")

	w.exec("CREATE USER poor@'%'")
	defer func() { _, _ = w.root.Exec("DROP USER poor@'%'") }()
	for _, need := range w.d.backupNeeds(w.serverFound()) {
		if need.required {
			w.exec("GRANT " + strings.Join(need.privileges, ", ") + " ON " + grants{}.target(need.scope) + " TO poor@'%'")
		}
	}
	w.exec("GRANT LOCK TABLES ON " + grants{}.target(scope(w.schema)) + " TO poor@'%'") // one of them is MyISAM
	rich := w.d
	w.d = w.database(withUser("poor"), func(c *Config) { c.Empty = []string{"jobs"} })
	poor, _ := w.previewed(part)
	require.Equal(t, "one session, one moment", poor.Compared.Facts["consistency"])
	poor.Compared = said.Compared
	require.Equal(t, said, poor)
	w.d = rich

	chosen, files := w.previewed(part, "log", w.schema+".orders")
	require.Equal(t, []remora.TablePreview{{Name: w.schema + ".log", Now: 5, Then: 5, Ranges: 1, Differ: 1, Added: 2, Removed: 2}}, chosen.Tables)
	require.ElementsMatch(t, []string{file("log"), remora.PartFile}, files)
	require.Equal(t, 1, chosen.Equal)
	require.Equal(t, []string{"order of the triggers of " + w.schema}, slices.Concat(chosen.Creates, chosen.Replaces, chosen.Drops))
	_, err := w.d.Preview(t.Context(), remora.Job{Selection: remora.Selection{Tables: []string{"log", "nope"}}}, part.fs())
	requireProblem(t, err, remora.NotFound, "table nope")

	w.exec("DROP DATABASE " + w.schema)
	all, _ := w.previewed(part)
	require.Equal(t, remora.TablePreview{Name: "users", Then: 3, Added: 3}, of(all, "users"))
	require.Len(t, all.Tables, tables+1)
	require.Empty(t, w.leftovers())
}

func TestAPreviewReadsOfThePartOnlyWhatDiffers(t *testing.T) {
	testenv.EachServer(t, testAPreviewReadsOfThePartOnlyWhatDiffers)
}

func testAPreviewReadsOfThePartOnlyWhatDiffers(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.d.rangeBytes = 64 << 10
	w.exec(`CREATE TABLE large (id INT PRIMARY KEY, n INT, filler MEDIUMBLOB);` + w.deep() + `
		INSERT INTO large WITH RECURSIVE n AS (SELECT 1000 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT i, i, REPEAT('ab', 250) FROM n;
		ANALYZE TABLE large`)
	part := w.capture()
	ranges := part.part(t).Schemas[0].Tables[0].Ranges
	require.Greater(t, len(ranges), 2)
	w.exec(`DELETE FROM large WHERE id BETWEEN 1000 AND 1004 OR id = 1010; UPDATE large SET n = 0 WHERE id IN (1006, 1007);
		INSERT INTO large VALUES (-7, 1, ''), (1, 1, ''), (900000, 1, ''), (900001, 1, '')`)
	var last remora.Progress
	from := &opened{FS: part.fs()}
	said, err := w.d.Preview(t.Context(), remora.Job{Report: func(p remora.Progress) { last = p }}, from)
	require.NoError(t, err)
	require.Equal(t, remora.TablePreview{Name: "large", Now: 1999, Then: 2001, Ranges: len(ranges), Differ: 2, Added: 6, Removed: 4, Changed: 2}, of(said, "large"))
	require.ElementsMatch(t, []string{remora.PartFile, ranges[0].File, ranges[len(ranges)-1].File}, from.files)
	require.Equal(t, int64(1999), said.Compared.Entries)
	require.Greater(t, last.Done, said.Compared.Bytes)
	require.NotEmpty(t, last.Phase)

	ctx, cancel := context.WithCancel(t.Context())
	_, err = w.d.Preview(ctx, remora.Job{Report: func(remora.Progress) { cancel() }}, part.fs())
	require.ErrorIs(t, err, context.Canceled)
	w.exec("ALTER TABLE large ADD COLUMN x INT") // no lock is left
	require.NoError(t, os.Remove(filepath.Join(part.dir, ranges[0].File)))
	_, err = w.d.Preview(t.Context(), remora.Job{}, part.fs())
	requireProblem(t, err, remora.Corrupt, "table "+w.schema+".large")
}

// A model in memory knows what differs, whatever the shape of the key.
func TestAPreviewCountsRowsAsAModelDoes(t *testing.T) {
	testenv.EachServer(t, func(t *testing.T, on *testenv.MySQLServer) {
		for _, key := range []string{"a", "b, a", ""} {
			w := newWorld(t, on)
			clause := ""
			if key != "" {
				clause = ", PRIMARY KEY (" + key + ")"
			}
			w.exec("CREATE TABLE t (a INT NOT NULL, b VARCHAR(10) NOT NULL, v INT" + clause + ")")
			chance := rand.New(rand.NewPCG(1, 2))
			value := func() int { return chance.IntN(5) }
			insert := func(rows map[int]int) {
				var values []string
				for a, v := range rows {
					values = append(values, fmt.Sprintf("(%d, 'k\\t%d', %d)", a, a%7, v))
				}
				w.exec("INSERT INTO t VALUES " + strings.Join(values, ", "))
			}
			then, now := map[int]int{}, map[int]int{}
			var want remora.TablePreview
			for a := range 3000 {
				switch before, after := chance.IntN(3) > 0, chance.IntN(3) > 0; {
				case before && after:
					then[a], now[a] = value(), value()
					if then[a] != now[a] && key != "" {
						want.Changed++
					} else if then[a] != now[a] {
						want.Added, want.Removed = want.Added+1, want.Removed+1
					}
				case before:
					then[a] = value()
					want.Added++
				case after:
					now[a] = value()
					want.Removed++
				}
			}
			insert(then)
			part := w.capture()
			w.exec("DELETE FROM t")
			insert(now)
			want.Name, want.Now, want.Then, want.Ranges, want.Differ = "t", int64(len(now)), int64(len(then)), 1, 1
			said, _ := w.previewed(part)
			require.Equal(t, want, of(said, "t"), "key (%s)", key)
			w.d.maxWaiting = 2 * 5
			said, _ = w.previewed(part)
			few := of(said, "t")
			require.True(t, few.Counted, "there was too little room")
			require.Equal(t, want.Added-want.Removed, few.Added-few.Removed)
		}
	})
}

func TestRowsAreDigestedWhateverPiecesTheyComeIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`([a-c]*\t[a-c\\]*\t[a-c]*\n)*`).Draw(t, "rows")
		lines := strings.SplitAfter(text, "\n")
		seed := maphash.MakeSeed()
		d := rowDiff{waiting: map[uint64]waiting{}, limit: 1000}
		h := d.stream(table{Columns: []column{{Name: "x"}, {Name: "k"}, {Name: "y"}}, Key: []string{"k"}}, seed, 1)
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			_, _ = h.Write([]byte(rest[:n]))
			rest = rest[n:]
		}
		want := map[uint64]waiting{}
		for _, line := range lines[:len(lines)-1] {
			key := maphash.String(seed, strings.SplitAfter(line, "\t")[1])
			want[key] = waiting{row: uint32(maphash.String(seed, line)), n: want[key].n + 1}
		}
		require.Equal(t, want, d.waiting)
	})
}
