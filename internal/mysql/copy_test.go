package mysql

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// into is the world whose database is built elsewhere.
func (w *world) into(to string, tables ...string) *world {
	copied := *w
	copied.d = w.d.Into(remora.Selection{To: to, Tables: tables}).(*Database)
	copied.schema = to
	if plausibleSchema(to) { // MariaDB would drop even its own
		w.Cleanup(func() { _, _ = w.root.Exec("DROP DATABASE IF EXISTS " + quote(to)) })
	}
	return &copied
}

func (w *world) exists(schema string) bool {
	return w.ask("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = ?", schema) == "1"
}

func TestACopyIsBuiltInASchemaOfItsOwnAndNothingLiveIsTouched(t *testing.T) {
	testenv.EachServer(t, testACopyIsBuiltInASchemaOfItsOwnAndNothingLiveIsTouched)
}

func testACopyIsBuiltInASchemaOfItsOwnAndNothingLiveIsTouched(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	app := "app" + strings.TrimPrefix(w.schema, "shop")
	w.exec(objectsZoo + "CREATE TABLE tree (id INT PRIMARY KEY, up INT, KEY (up), CONSTRAINT up FOREIGN KEY (up) REFERENCES tree (id)); INSERT INTO tree VALUES (1, 1), (2, 1);" +
		"CREATE USER " + app + "; GRANT ALL ON `" + w.schema + "%`.* TO " + app + "; CREATE DEFINER = " + app + " VIEW of_app AS SELECT id FROM users;" +
		"CREATE TRIGGER far BEFORE DELETE ON log FOR EACH ROW INSERT INTO " + w.schema + ".orders (user) VALUES (1)")
	t.Cleanup(func() { _, _ = w.root.Exec("DROP USER IF EXISTS " + app) })
	if on.MariaDB() {
		w.exec("CREATE SEQUENCE numbers; CREATE TABLE numbered (id BIGINT DEFAULT NEXT VALUE FOR numbers PRIMARY KEY); INSERT INTO numbered VALUES (), ()")
	}
	part := w.capture()
	w.exec("ALTER EVENT daily DISABLE")
	want := strings.ReplaceAll(w.reading(), w.schema, w.schema+"_copy")
	want = strings.ReplaceAll(want, w.schema+"_copy.orders", w.schema+".orders") // what a text says, it goes on to say
	w.exec("ALTER EVENT daily ENABLE; DELETE FROM orders WHERE id = 1; DROP VIEW a_top; CREATE VIEW of_damage AS SELECT 1")
	live := w.reading()

	c := w.into(w.schema + "_copy")
	est, err := c.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.True(t, est.Empty)
	require.Empty(t, est.Replaces)
	require.GreaterOrEqual(t, est.Summary.Objects, int64(4))
	require.Contains(t, est.Warnings, "events come disabled, because a copy does nothing by itself: daily")
	require.Contains(t, est.Warnings, "these name a schema of the source in their text, and go on to use what is live there: trigger far on log ("+w.schema+")")
	require.Contains(t, est.Warnings, "these act with the rights of whoever defined them, and fail where that account has none on "+c.schema+": view of_app (`"+app+"`@`%`)")
	require.False(t, w.exists(c.schema))

	c.staged("r", part)
	require.False(t, w.exists(c.schema), "it comes as a whole")
	left, err := w.d.Leftovers(t.Context())
	require.NoError(t, err)
	require.Equal(t, c.schema, left[0].To)
	require.NoError(t, c.turn("r", 1, remora.Restored))
	require.NoError(t, c.turn("r", 1, remora.Restored))
	require.NoError(t, c.d.Discard(t.Context(), remora.Job{Run: "r"}, ""))
	require.Equal(t, want, c.reading())
	require.Equal(t, live, w.reading())
	require.Empty(t, w.leftovers())
	require.NoError(t, c.d.Discard(t.Context(), remora.Job{Run: "r"}, ""), "nothing is left to discard")
	require.Equal(t, want, c.reading())

	_, err = c.d.Preflight(t.Context(), remora.Job{Run: "r2"}, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Invalid, "not empty")
}

func TestACopyThatFailsLeavesThePlaceAsItWas(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(objectsZoo)
	part := w.capture()
	c := w.into(w.schema + "_copy")
	back := func(run string, seq int) {
		require.NoError(t, c.turn(run, seq, remora.Replaced))
		require.NoError(t, c.d.Discard(t.Context(), remora.Job{Run: run}, ""))
		require.Empty(t, w.leftovers())
	}
	t.Run("before the switch", func(t *testing.T) {
		c.staged("r1", part)
		back("r1", 2)
		require.False(t, w.exists(c.schema))
	})
	t.Run("after it", func(t *testing.T) {
		c.staged("r2", part)
		require.NoError(t, c.turn("r2", 1, remora.Restored))
		back("r2", 2)
		require.False(t, w.exists(c.schema))
	})
	t.Run("a crash after the tables were moved", func(t *testing.T) {
		c.staged("r6", part)
		require.NoError(t, c.turn("r6", 1, remora.Restored))
		whole := c.reading()
		e, err := readEntry(c, "r6")
		require.NoError(t, err)
		s, err := c.d.connect(t.Context(), c.d.write)
		require.NoError(t, err)
		defer s.close()
		e.Detail.Moving, e.Switched = true, false
		require.NoError(t, e.save(t.Context(), s))
		c.exec("DROP VIEW z_base; DROP PROCEDURE two; DROP EVENT daily")
		require.NoError(t, c.d.Discard(t.Context(), remora.Job{Run: "r6"}, ""))
		require.Equal(t, whole, c.reading(), "it stays, and is made whole")
		require.Empty(t, w.leftovers())
		w.exec("DROP DATABASE " + c.schema)
	})
	t.Run("into a schema that is there", func(t *testing.T) {
		w.exec("CREATE DATABASE " + c.schema + " COLLATE latin1_bin")
		c.staged("r3", part)
		require.NoError(t, c.turn("r3", 1, remora.Restored))
		back("r3", 2)
		require.True(t, w.exists(c.schema))
		require.Equal(t, "latin1_bin", c.collation())
	})
	t.Run("somebody comes first", func(t *testing.T) {
		c.staged("r4", part)
		c.exec("CREATE TABLE theirs (id INT)")
		requireProblem(t, c.turn("r4", 1, remora.Restored), remora.Changed, "theirs")
		back("r4", 2)
		require.Equal(t, []string{"theirs"}, c.column("SHOW TABLES"))
		c.exec("DROP TABLE theirs")
	})
	t.Run("somebody comes later", func(t *testing.T) {
		c.staged("r5", part)
		require.NoError(t, c.turn("r5", 1, remora.Restored))
		c.exec("CREATE TABLE theirs (id INT)")
		requireProblem(t, c.turn("r5", 2, remora.Replaced), remora.Changed, "theirs")
		c.exec("DROP TABLE theirs")
		back("r5", 2)
	})
}

func TestOnlyTheTablesThatWereChosenAreCopied(t *testing.T) {
	testenv.EachMaker(t, testOnlyTheTablesThatWereChosenAreCopied)
}

func testOnlyTheTablesThatWereChosenAreCopied(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	crm := w.schema + "_crm"
	t.Cleanup(func() { _, _ = w.root.Exec("DROP DATABASE IF EXISTS " + crm) })
	w.exec(objectsZoo + "CREATE DATABASE " + crm + "; CREATE TABLE " + crm + ".calls (id INT PRIMARY KEY, user INT UNSIGNED, KEY (user), CONSTRAINT of_user FOREIGN KEY (user) REFERENCES " + w.schema + ".users (id))")
	w.d = w.database(func(c *Config) { c.Schemas = append(c.Schemas, crm); c.Reserved = []string{"wiki"} })
	if on.MariaDB() {
		w.exec("CREATE SEQUENCE numbers; CREATE TABLE numbered (id BIGINT DEFAULT NEXT VALUE FOR numbers PRIMARY KEY)")
	}
	part := w.capture()
	to := w.schema + "_copy"
	plan := func(to string, tables ...string) (remora.Estimate, error) {
		return w.into(to, tables...).d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	}
	for name, c := range map[string]struct {
		to, says string
		tables   []string
		kind     remora.ProblemKind
	}{
		"no such table":     {to, "table nothing", []string{"users", "nothing"}, remora.NotFound},
		"several schemas":   {to, w.schema + ", " + crm, nil, remora.Invalid},
		"tables of several": {to, w.schema + ", " + crm, []string{"users", "calls"}, remora.Invalid},
		"the live schema":   {crm, "a schema of a source", []string{"users"}, remora.Invalid},
		"of another source": {"WIKI", "a schema of a source", []string{"users"}, remora.Invalid},
		"of the server":     {"mysql", "be called that", []string{"users"}, remora.Invalid},
		"one of ours":       {"_remora_x", "be called that", []string{"users"}, remora.Invalid},
		"no server's":       {"copy ", "be called that", []string{"users"}, remora.Invalid},
	} {
		_, err := plan(c.to, c.tables...)
		t.Log(name)
		requireProblem(t, err, c.kind, c.says)
	}
	if on.MariaDB() {
		_, err := plan(to, "numbered")
		requireProblem(t, err, remora.Invalid, "takes numbers from the sequence "+w.schema+".numbers")
	}
	est, err := plan(to, "calls")
	require.NoError(t, err)
	require.Contains(t, est.Warnings, "foreign keys are left out, because what they lead to is not built with them: calls to "+w.schema+".users")

	c := w.into(to, w.schema+".orders", "log")
	est, err = c.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.Contains(t, est.Warnings, "foreign keys are left out, because what they lead to is not built with them: orders to users")
	require.EqualValues(t, 3, est.Summary.Entries)
	c.staged("r", part)
	require.NoError(t, c.turn("r", 1, remora.Restored))
	require.NoError(t, c.d.Discard(t.Context(), remora.Job{Run: "r"}, ""))
	require.Equal(t, []string{"log", "orders"}, c.column("SELECT table_name FROM information_schema.tables WHERE table_schema = ? ORDER BY 1", to))
	require.Equal(t, []string{"first_in", "second_in"}, c.column("SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = ? ORDER BY action_order", to))
	require.Empty(t, w.leftovers())
}

func TestTheRightsOnThePlaceOfACopyAreAskedFor(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(shop)
	part := w.capture()
	user := w.schema + "_r"
	t.Cleanup(func() { _, _ = w.root.Exec("DROP USER IF EXISTS " + user) })
	w.exec("CREATE USER " + user + "; GRANT PROCESS, SHOW_ROUTINE ON *.* TO " + user + "; GRANT ALL ON `\\_remora%`.* TO " + user + "; GRANT ALL ON " + w.schema + ".* TO " + user)
	c := *w
	c.d = w.database(withUser(user))
	_, err := c.into(w.schema+"_copy").d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Denied, "CREATE", " ON "+grantPattern(w.schema+"_copy")+".* TO ")
}
