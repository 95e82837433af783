package mysql

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// What a switch dropped before it was cut off is in the journal alone: nothing that comes next may lose it.
func TestS4WhatACutOffSwitchDroppedIsNotLost(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(objectsZoo)
	part := w.capture()
	w.exec("CREATE OR REPLACE VIEW z_base AS SELECT 1 AS id, 'x' AS loud; ALTER DATABASE " + w.schema + " COLLATE utf8mb4_0900_ai_ci")
	live := w.reading()
	cut := func() {
		w.staged("r", part)
		e, err := readEntry(w, "r")
		require.NoError(t, err)
		s, err := w.d.connect(t.Context(), w.d.write)
		require.NoError(t, err)
		defer s.close()
		e.Detail.Moving, e.Seq, e.Wanted = true, 1, remora.Restored
		require.NoError(t, e.save(t.Context(), s))
		w.exec("DROP VIEW IF EXISTS z_base; DROP PROCEDURE two; DROP TRIGGER second_in; DROP EVENT daily; ALTER DATABASE " + w.schema + " COLLATE latin1_bin")
	}
	t.Run("discard", func(t *testing.T) {
		cut()
		require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, ""))
		require.Equal(t, live, w.reading())
		require.Equal(t, "utf8mb4_0900_ai_ci", w.collation())
	})
	t.Run("stage", func(t *testing.T) {
		cut()
		w.staged("r", part)
		require.NoError(t, w.turn("r", 2, remora.Restored))
		require.NoError(t, w.turn("r", 3, remora.Replaced))
		require.Equal(t, live, w.reading())
		require.Equal(t, "utf8mb4_0900_ai_ci", w.collation())
		require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "h"))
	})
	t.Run("options", func(t *testing.T) {
		cut()
		require.NoError(t, w.turn("r", 1, remora.Restored))
		require.NoError(t, w.turn("r", 2, remora.Replaced))
		require.Equal(t, live, w.reading())
		require.Equal(t, "utf8mb4_0900_ai_ci", w.collation())
		require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "h"))
	})
}

// A view that is the same on both sides may be made of one that is not: it is neither lost nor in the way.
func TestAViewOverOneThatChangesComesAndGoesWithIt(t *testing.T) {
	testenv.EachMaker(t, func(t *testing.T, on *testenv.MySQLServer) {
		w := newWorld(t, on)
		w.exec(shop + "CREATE VIEW z_base AS SELECT id, name FROM users; CREATE VIEW a_top AS SELECT id FROM z_base; CREATE TABLE only (id INT PRIMARY KEY); CREATE VIEW above AS SELECT * FROM only; CREATE VIEW top2 AS SELECT * FROM above")
		before := w.reading()
		part := w.capture()
		w.exec("CREATE OR REPLACE VIEW z_base AS SELECT id FROM orders; RENAME TABLE only TO elsewhere; CREATE OR REPLACE VIEW above AS SELECT * FROM elsewhere")
		live := w.reading()
		w.staged("r", part)
		tx, err := w.root.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), "SELECT * FROM "+w.schema+".orders")
		require.NoError(t, err)
		requireProblem(t, w.turn("r", 1, remora.Restored), remora.Busy)
		require.NoError(t, tx.Rollback())
		require.Equal(t, live, w.reading())
		require.NoError(t, w.turn("r", 1, remora.Restored))
		require.Equal(t, before, w.reading())
		require.NoError(t, w.turn("r", 2, remora.Replaced))
		require.Equal(t, live, w.reading())
	})
}

// A column of such a table looks in a view like a table of the schema.
func TestASchemaMayBeCalledLikeATable(t *testing.T) {
	testenv.EachMaker(t, func(t *testing.T, on *testenv.MySQLServer) {
		w := newWorld(t, on)
		w.exec(shop + "CREATE TABLE " + w.schema + " (id INT PRIMARY KEY); CREATE VIEW v AS SELECT " + w.schema + ".id FROM " + w.schema)
		part := w.capture()
		_, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
		require.NoError(t, err)
	})
}

// The application's own account defines views, and has rights on its own schema alone.
func TestADefinerNeedsNoRightsOnOurSchemas(t *testing.T) {
	testenv.EachMaker(t, func(t *testing.T, on *testenv.MySQLServer) {
		w := newWorld(t, on)
		w.exec(shop + "DROP USER IF EXISTS app; CREATE USER app; GRANT ALL ON " + w.schema + ".* TO app; CREATE FUNCTION uno() RETURNS INT DETERMINISTIC RETURN 1; CREATE DEFINER=app VIEW v AS SELECT *, uno() AS o FROM users; CREATE DEFINER=app VIEW u AS SELECT id FROM v")
		defer w.exec("DROP USER app")
		before := w.reading()
		part := w.capture()
		w.exec("DROP VIEW v")
		w.exec("DROP VIEW u")
		_, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
		require.NoError(t, err)
		w.staged("r", part)
		require.NoError(t, w.turn("r", 1, remora.Restored))
		require.Equal(t, before, w.reading())
	})
}

// The server drops or disables events whose last time has passed: all of them come, disabled, and the plan says so (S24).
func TestS24EventsWhoseLastTimeHasPassedComeDisabled(t *testing.T) {
	testenv.EachMaker(t, func(t *testing.T, on *testenv.MySQLServer) {
		w := newWorld(t, on)
		w.exec(shop + `CREATE EVENT at_kept ON SCHEDULE AT CURRENT_TIMESTAMP + INTERVAL 3 SECOND ON COMPLETION PRESERVE DO SET @a = 1;
			CREATE EVENT ends ON SCHEDULE EVERY 1 SECOND ENDS CURRENT_TIMESTAMP + INTERVAL 3 SECOND DO SET @a = 1;
			CREATE EVENT ends_kept ON SCHEDULE EVERY 1 DAY ENDS CURRENT_TIMESTAMP + INTERVAL 3 SECOND ON COMPLETION PRESERVE DO SET @a = 1;
			CREATE EVENT at_not ON SCHEDULE AT CURRENT_TIMESTAMP + INTERVAL 3 SECOND DO SET @a = 1;
			CREATE EVENT starts_on ON SCHEDULE EVERY '1:30' HOUR_MINUTE STARTS '2020-01-01 00:00:00' ENDS '2035-01-01' DO SET @a = 1`)
		part := w.capture()
		time.Sleep(4 * time.Second)
		est, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
		require.NoError(t, err)
		require.Contains(t, strings.Join(est.Warnings, "\n"), "event ends: its time has passed, so it comes disabled")
		w.staged("r", part)
		require.NoError(t, w.turn("r", 1, remora.Restored))
		require.Equal(t, "at_kept DISABLED, at_not DISABLED, ends DISABLED, ends_kept DISABLED, starts_on ENABLED", w.ask("SELECT GROUP_CONCAT(event_name, ' ', status ORDER BY event_name SEPARATOR ', ') FROM information_schema.events WHERE event_schema = ?", w.schema))
		require.NoError(t, w.turn("r", 2, remora.Replaced))
		require.NoError(t, w.turn("r", 3, remora.Restored))
	})
}

// Names that need quoting are quoted everywhere; a view may be called like a table of the other side, and a routine like a
// function of the server.
func TestNamesThatNeedQuotingAreQuotedEverywhere(t *testing.T) {
	testenv.EachMaker(t, func(t *testing.T, on *testenv.MySQLServer) {
		w := newWorld(t, on)
		w.exec("CREATE TABLE only_here (id INT PRIMARY KEY)")
		odd := w.schema + "-a.b`c é"
		w.exec("CREATE DATABASE " + quote(odd))
		defer w.exec("DROP DATABASE IF EXISTS " + quote(odd))
		w.schema = odd
		w.exec(shop + "CREATE TABLE `t``; '\"é` (`c``d` INT PRIMARY KEY, KEY `k'``` (`c``d`)) COMMENT 'a\\'b\\\\'; CREATE VIEW `v``.x` AS SELECT * FROM `t``; '\"é`; CREATE TRIGGER `tr``.é` BEFORE INSERT ON `t``; '\"é` FOR EACH ROW SET @a = 1; CREATE PROCEDURE `p``.é`() SELECT 1; CREATE EVENT ` EVENT ``.é` ON SCHEDULE EVERY 1 DAY COMMENT ' ON COMPLETION PRESERVE ENABLE DO ' DO SET @a=1; CREATE FUNCTION `now`() RETURNS INT DETERMINISTIC RETURN 1; CREATE FUNCTION `f x`() RETURNS INT DETERMINISTIC RETURN `now`()")
		before := w.reading()
		w.d = w.database(func(c *Config) { c.Schemas = []string{odd} })
		part := w.capture()
		w.exec("DROP VIEW `v``.x`; DROP TABLE `t``; '\"é`; CREATE TABLE `v``.x` (id INT PRIMARY KEY); CREATE VIEW `t``; '\"é` AS SELECT 1 AS x; DROP PROCEDURE `p``.é`")
		live := w.reading()
		_, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
		require.NoError(t, err)
		w.staged("r", part)
		require.NoError(t, w.turn("r", 1, remora.Restored))
		require.Equal(t, before, w.reading())
		require.NoError(t, w.turn("r", 2, remora.Replaced))
		require.Equal(t, live, w.reading())
		require.NoError(t, w.turn("r", 3, remora.Restored))
		require.Equal(t, before, w.reading())
		aside, _ := w.captureOf(remora.Subject{PutAway: "r"})
		require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))
		w.exec("DROP DATABASE " + quote(odd) + "; USE mysql")
		w.loadBy(t, aside)
		require.Equal(t, live, w.reading())
	})
}

// MariaDB keeps the text of a trigger as it was written, with the names of schemas.
func TestATriggerMayHaveBeenWrittenWithItsSchema(t *testing.T) {
	testenv.EachMaker(t, func(t *testing.T, on *testenv.MySQLServer) {
		w := newWorld(t, on)
		w.exec(shop + "CREATE TRIGGER " + w.schema + ".tr BEFORE INSERT ON " + w.schema + ".users FOR EACH ROW SET @a = 1")
		part := w.capture()
		w.exec("DROP TRIGGER tr")
		_, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
		require.NoError(t, err)
		w.staged("r", part)
		require.NoError(t, w.turn("r", 1, remora.Restored))
		require.Equal(t, []string{"tr"}, w.column("SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = ?", w.schema))
	})
}

// Somebody may name the schemas of a source in another order while a restore is under way: each goes out to its own place,
// and comes back from there.
func TestSchemasMayBeNamedInAnotherOrderMeanwhile(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	crm := w.schema + "_crm"
	w.exec("CREATE DATABASE " + crm)
	defer w.exec("DROP DATABASE " + crm)
	w.exec("CREATE TABLE orders (id INT PRIMARY KEY); INSERT INTO orders VALUES (1); CREATE TABLE " + crm + ".accounts (id INT PRIMARY KEY); INSERT INTO " + crm + ".accounts VALUES (1)")
	both := func(schemas ...string) { w.d = w.database(func(c *Config) { c.Schemas = schemas }) }
	both(w.schema, crm)
	before, part := w.both(crm), w.capture()
	w.exec("CREATE TABLE later (id INT PRIMARY KEY); DELETE FROM orders; CREATE VIEW some AS SELECT * FROM orders; INSERT INTO " + crm + ".accounts VALUES (2)")
	damaged := w.both(crm)
	_, err := w.d.Stage(t.Context(), remora.Job{Run: "r"}, part.fs())
	require.NoError(t, err)
	both(crm, w.schema)
	diff, err := w.d.Compare(t.Context(), remora.Job{Run: "r"}, part.fs())
	require.NoError(t, err)
	require.Empty(t, diff.Differences)
	require.NoError(t, w.turn("r", 1, remora.Restored))
	require.Equal(t, before, w.both(crm))
	both(w.schema, crm)
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	require.Equal(t, damaged, w.both(crm))
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))
}
