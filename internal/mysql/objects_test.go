package mysql

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// objectsZoo holds one of everything that is no table, with what bites: views on views whose names sort the wrong way,
// triggers in an order of their own, old character sets and modes, names and bodies that need care.
const objectsZoo = shop + `
	CREATE TABLE log (id INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(50));
	CREATE FUNCTION shout(s VARCHAR(40)) RETURNS VARCHAR(50) DETERMINISTIC RETURN CONCAT(UPPER(s), '!;;');
	CREATE PROCEDURE two() COMMENT 'it''s; --' BEGIN SELECT 1; SELECT ';;;' AS ` + "`a``b`" + `; END;
	CREATE VIEW z_base AS SELECT id, shout(name) AS loud FROM users WHERE id > 0 WITH CASCADED CHECK OPTION;
	CREATE SQL SECURITY INVOKER VIEW a_top AS SELECT z_base.loud, orders.total FROM z_base JOIN orders ON orders.user = z_base.id;
	CREATE TRIGGER second_in BEFORE INSERT ON orders FOR EACH ROW SET NEW.total = NEW.total * 2;
	CREATE TRIGGER first_in BEFORE INSERT ON orders FOR EACH ROW PRECEDES second_in SET NEW.total = NEW.total + 1;
	CREATE TRIGGER logged AFTER UPDATE ON users FOR EACH ROW INSERT INTO log (what) VALUES ('a user''s change');
	SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES';
	CREATE PROCEDURE "ansi ""quoted" (IN x INT) SELECT "id", '\' FROM "users" WHERE "id" = x;
	SET SESSION sql_mode = DEFAULT, time_zone = '+02:00';
	CREATE EVENT daily ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 02:30:00' ON COMPLETION PRESERVE COMMENT 'say ENABLE; DO' DO INSERT INTO log (what) VALUES ('daily');
	CREATE EVENT off ON SCHEDULE EVERY '1:30' HOUR_MINUTE DISABLE DO DELETE FROM log WHERE what = ' ON COMPLETION PRESERVE ENABLE DO ';
	SET SESSION time_zone = '+00:00';`

// reading is the schema as the stock client reads it: definitions, rows, and everything else.
func (w *world) reading() string { return w.server.Dump(w.T, w.schema) }

func TestEveryObjectGoesAndComesBackWithItsSide(t *testing.T) {
	testenv.EachServer(t, testEveryObjectGoesAndComesBackWithItsSide)
}

func testEveryObjectGoesAndComesBackWithItsSide(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(objectsZoo)
	before := w.reading()
	part, summary := w.captureOf(remora.Subject{})
	require.Empty(t, summary.Warnings)

	w.exec(`DROP VIEW a_top; DROP TRIGGER first_in; DROP PROCEDURE two; DROP EVENT daily; ALTER EVENT off ENABLE;
		CREATE OR REPLACE VIEW z_base AS SELECT id, name AS loud FROM users; CREATE VIEW of_damage AS SELECT * FROM log; CREATE TABLE damage (id INT PRIMARY KEY);
		CREATE TRIGGER of_damage BEFORE DELETE ON log FOR EACH ROW SET @gone = 1; CREATE EVENT of_damage ON SCHEDULE EVERY 1 WEEK DO SET @a = 1`)
	damaged := w.reading()
	est, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.Contains(t, strings.Join(est.Replaces, "\n"), "event "+w.schema+".of_damage")
	require.Empty(t, w.column(`SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE '\_remora\_probe%'`))

	w.staged("r", part)
	for _, kind := range []string{"views WHERE table_schema", "triggers WHERE trigger_schema", "routines WHERE routine_schema", "events WHERE event_schema"} {
		require.Equal(t, "0", w.ask(`SELECT COUNT(*) FROM information_schema.`+kind+` LIKE '\_remora%'`), "nothing of a stage can act: %s", kind)
	}
	require.NoError(t, w.turn("r", 1, remora.Restored))
	require.Equal(t, before, w.reading())
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	require.Equal(t, damaged, w.reading())
	require.NoError(t, w.turn("r", 3, remora.Restored))
	require.Equal(t, before, w.reading())

	aside, _ := w.captureOf(remora.Subject{PutAway: "r"})
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))
	require.Empty(t, w.leftovers())
	w.staged("r2", aside)
	require.NoError(t, w.turn("r2", 1, remora.Restored))
	require.Equal(t, damaged, w.reading(), "what was put away is a backup like any other")
}

// latin1 makes a procedure whose text is not UTF-8, as an old client would have.
func (w *world) latin1(t *testing.T, table string) {
	conn, err := w.root.Conn(t.Context())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	for _, statement := range []string{
		"USE " + quote(w.schema), "SET NAMES latin1", "ALTER DATABASE COLLATE latin1_german1_ci", "CREATE PROCEDURE old() SELECT 'caf\xe9'",
		"CREATE VIEW old_view AS SELECT 'caf\xe9' AS word", "CREATE TRIGGER old_trigger BEFORE DELETE ON " + table + " FOR EACH ROW SET @a = 'caf\xe9'",
		"ALTER DATABASE COLLATE utf8mb4_bin", "SET NAMES utf8mb4",
	} {
		_, err := conn.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
}

func (w *world) loadBy(t *testing.T, part folder) {
	load, err := os.Open(filepath.Join(part.dir, "load.sql"))
	require.NoError(t, err)
	defer func() { _ = load.Close() }()
	options := []string{"--local-infile=1", "--comments", "--default-character-set=utf8mb4"}
	if !w.server.MariaDB() {
		options = append(options, "--init-command=SET SESSION restrict_fk_on_non_standard_key = OFF") // as load.sql says
	}
	client := w.server.Client(t, options...)
	client.Dir, client.Stdin = part.dir, load
	out, err := client.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// An event of a stage never fires, and one that is restored fires only when the checks are through (S24).
func TestS24EventsActOnlyWhenTheyAreLive(t *testing.T) {
	testenv.EachMaker(t, testS24EventsActOnlyWhenTheyAreLive)
}

func testS24EventsActOnlyWhenTheyAreLive(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop + "CREATE TABLE log (at TIMESTAMP(6)); CREATE EVENT each_second ON SCHEDULE EVERY 1 SECOND DO INSERT INTO log VALUES (NOW(6))")
	part := w.capture()
	w.exec("DROP EVENT each_second; TRUNCATE log; CREATE EVENT live_one ON SCHEDULE EVERY 1 DAY DO SET @a = 1")
	w.staged("r", part)
	time.Sleep(1500 * time.Millisecond) // it would have fired by now
	require.Equal(t, "0", w.ask("SELECT COUNT(*) FROM "+w.schema+".log"))
	held := remora.Turn{Run: "r", Seq: 1, Live: remora.Restored, Hold: true}
	require.NoError(t, w.d.Switch(t.Context(), held))
	require.Empty(t, w.column("SELECT event_name FROM information_schema.events WHERE event_schema = ?", w.schema))
	require.NoError(t, w.d.Switch(t.Context(), held), "a turn is a level")
	held.Hold = false
	require.NoError(t, w.d.Switch(t.Context(), held))
	require.Eventually(t, func() bool { return w.ask("SELECT COUNT(*) > 1 FROM "+w.schema+".log") == "1" }, 10*time.Second, 100*time.Millisecond)
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	require.Equal(t, []string{"live_one"}, w.column("SELECT event_name FROM information_schema.events WHERE event_schema = ?", w.schema))
}

// An event whose one time has passed would vanish with a note; it comes back disabled, and the plan says so (S24).
func TestS24AnEventOfThePastComesDisabled(t *testing.T) {
	testenv.EachMaker(t, testS24AnEventOfThePastComesDisabled)
}

func testS24AnEventOfThePastComesDisabled(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop + "CREATE EVENT soon ON SCHEDULE AT CURRENT_TIMESTAMP + INTERVAL 3 SECOND DO SET @a = 1")
	part := w.capture()
	require.Eventually(t, func() bool {
		return len(w.column("SELECT event_name FROM information_schema.events WHERE event_schema = ?", w.schema)) == 0
	}, 10*time.Second, 100*time.Millisecond)
	est, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.Contains(t, strings.Join(est.Warnings, "\n"), "event soon: its time has passed, so it comes disabled")
	w.staged("r", part)
	require.NoError(t, w.turn("r", 1, remora.Restored))
	require.Equal(t, "DISABLED", w.ask("SELECT status FROM information_schema.events WHERE event_schema = ?", w.schema))
}

// Numbers that were handed out since the backup are named in the plan, and not handed out again (S24).
func TestS24NumbersAreNotHandedOutAgain(t *testing.T) {
	testenv.EachServer(t, testS24NumbersAreNotHandedOutAgain)
}

func testS24NumbersAreNotHandedOutAgain(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	part := w.capture()
	w.exec("INSERT INTO orders (user, total) VALUES (1, 1), (1, 1)")
	est, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.Contains(t, strings.Join(est.Warnings, "\n"), "orders has handed out numbers up to 6 since the backup (4)")
	w.staged("r", part)
	require.NoError(t, w.turn("r", 1, remora.Restored))
	w.exec("INSERT INTO orders (user, total) VALUES (2, 2)")
	require.Equal(t, "6", w.ask("SELECT MAX(id) FROM "+w.schema+".orders"))
}

// What the restore user may drop but not create again ends the restore in the plan, with what to do (S5).
func TestS5WhatCannotBeCreatedAgainIsRefusedInThePlan(t *testing.T) {
	testenv.EachServer(t, testS5WhatCannotBeCreatedAgainIsRefusedInThePlan)
}

// A running backup keeps the server from creating anything: a plan does not wait for its end (S19).
func TestS19APlanDoesNotWaitForABackup(t *testing.T) {
	testenv.EachMaker(t, testS19APlanDoesNotWaitForABackup)
}

func testS19APlanDoesNotWaitForABackup(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(objectsZoo)
	part := w.capture()
	snap, err := w.d.openSnapshot(t.Context(), w.d.read, w.d.live())
	require.NoError(t, err)
	defer snap.close()
	est, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.Contains(t, strings.Join(est.Warnings, "\n"), "is tried before the switch instead")
	require.Empty(t, w.leftovers())
}

func testS5WhatCannotBeCreatedAgainIsRefusedInThePlan(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop + "CREATE TRIGGER by_root BEFORE INSERT ON users FOR EACH ROW SET NEW.name = UPPER(NEW.name)")
	part := w.capture()
	w.exec(`DROP USER IF EXISTS lowly; CREATE USER lowly; GRANT ALL ON ` + w.schema + ".* TO lowly; GRANT ALL ON `\\_remora%`.* TO lowly; GRANT SELECT ON *.* TO lowly; GRANT PROCESS ON *.* TO lowly")
	defer w.exec("DROP USER lowly")
	live := w.reading()
	lowly := w.database(withUser("lowly"))
	if w.ask("SELECT @@log_bin") == "1" {
		_, err := lowly.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
		requireProblem(t, err, remora.Denied, "trigger by_root on users", "log_bin_trust_function_creators")
	}
	w.exec("SET GLOBAL log_bin_trust_function_creators = ON")
	defer w.exec("SET GLOBAL log_bin_trust_function_creators = OFF")
	_, err := lowly.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Denied, "trigger by_root on users", "GRANT "+w.serverFound().definer()+" ON *.*")
	w.exec("GRANT " + w.serverFound().definer() + " ON *.* TO lowly")
	if !on.MariaDB() {
		w.exec("GRANT SYSTEM_USER ON *.* TO lowly")
	}
	_, err = lowly.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.Equal(t, live, w.reading())
	require.Empty(t, w.leftovers())
}

// A RENAME of tables without a log may be cut off by a crash: what had moved is brought back before anything else.
func TestARenameThatWasCutOffIsTakenBack(t *testing.T) {
	for _, live := range []remora.Side{remora.Replaced, remora.Restored} {
		w := newWorld(t, testenv.MySQL(t))
		w.exec("CREATE TABLE a (id INT PRIMARY KEY) ENGINE = MyISAM; CREATE TABLE b (id INT PRIMARY KEY) ENGINE = MyISAM; CREATE TABLE new (id INT PRIMARY KEY) ENGINE = MyISAM")
		part := w.capture()
		sides := map[remora.Side]string{remora.Restored: w.reading()}
		w.exec("INSERT INTO a VALUES (1); INSERT INTO b VALUES (2); DROP TABLE new; CREATE TABLE old (id INT PRIMARY KEY)")
		sides[remora.Replaced] = w.reading()
		w.staged("r", part)
		w.exec(strings.NewReplacer("STAGE", stageSchema("r", 1, 1), "AWAY", putAwaySchema("r", 1), "LIVE", w.schema).Replace(`
			CREATE DATABASE AWAY; RENAME TABLE LIVE.a TO AWAY.a, LIVE.old TO AWAY.old, STAGE.a TO LIVE.a, STAGE.new TO LIVE.new;
			UPDATE _remora.journal SET detail = JSON_SET(detail, '$.moving', TRUE)`))
		seq := 1
		if live == remora.Replaced {
			seq = 2 // as the compensation of the switch that was cut off
		}
		require.NoError(t, w.turn("r", seq, live))
		require.Equal(t, sides[live], w.reading())
		require.NoError(t, w.turn("r", 3, live.Other()))
		require.Equal(t, sides[live.Other()], w.reading())
		require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))
	}
}

// Whatever a killed server had dropped or created, the same call again, or the one back, makes either side whole (S4).
func TestS4AServerKilledWhileObjectsMoveLosesNone(t *testing.T) {
	testenv.EachNewServer(t, testS4AServerKilledWhileObjectsMoveLosesNone)
}

func testS4AServerKilledWhileObjectsMoveLosesNone(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(objectsZoo)
	for i := range 20 { // so that there is a while to be killed in
		w.exec(fmt.Sprintf("CREATE VIEW v%d AS SELECT * FROM users; CREATE TRIGGER t%d BEFORE INSERT ON log FOR EACH ROW SET @a = %d; CREATE PROCEDURE p%d() SELECT %d", i, i, i, i, i))
	}
	part := w.capture()
	sides := map[remora.Side]string{remora.Restored: w.reading()}
	for i := range 20 {
		w.exec(fmt.Sprintf("CREATE OR REPLACE VIEW v%d AS SELECT 1 AS one; DROP TRIGGER t%d; DROP PROCEDURE p%d; CREATE PROCEDURE p%d() SELECT 'other'", i, i, i, i))
	}
	sides[remora.Replaced] = w.reading()
	w.staged("r", part)
	live := remora.Restored
	began := time.Now()
	require.NoError(t, w.turn("r", 1, live))
	took := time.Since(began)
	seed := time.Now().UnixNano()
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	for seq, cut := 2, 0; cut < 3; seq++ {
		require.Less(t, seq, 60, "a switch is hardly ever cut off")
		live = live.Other()
		done := make(chan error, 1)
		go func() { done <- w.turn("r", seq, live) }()
		time.Sleep(time.Duration(random.Int64N(int64(took))))
		w.server.Kill(t)
		if <-done != nil {
			cut++
		}
		w.server.Restart(t)
		if random.IntN(2) == 0 { // the compensation comes instead
			live = live.Other()
			seq++
		}
		require.NoError(t, w.turn("r", seq, live))
		require.Equal(t, sides[live], w.reading(), "turn %d", seq)
	}
}

// What is left out of a backup is said, and stays as it is live when that backup is restored.
func TestRoutinesAndTriggersMayBeLeftOut(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t), func(c *Config) { c.WithoutRoutines, c.WithoutTriggers = true, true })
	w.exec(objectsZoo)
	part, summary := w.captureOf(remora.Subject{})
	require.Contains(t, strings.Join(summary.Warnings, "\n"), "left out, as configured: function shout")
	w.exec("DROP TRIGGER logged; DROP PROCEDURE two; CREATE PROCEDURE later() SELECT 1; DROP VIEW a_top")
	est, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.Contains(t, strings.Join(est.Warnings, "\n"), "the live ones stay: library, function, procedure, package, package body, trigger")
	w.staged("r", part)
	require.NoError(t, w.turn("r", 1, remora.Restored))
	after := w.reading()
	require.Contains(t, after, "later")
	require.Contains(t, after, "second_in")
	require.NotContains(t, after, "logged")
	require.Contains(t, after, "a_top")
	_, summary = w.captureOf(remora.Subject{Partial: true})
	require.NotContains(t, strings.Join(summary.Warnings, "\n"), "left out", "what a restore saves is whole")
}

// Queues come back without rows where that is configured, and are named in the plan where it is not (S24).
func TestS24QueuesComeBackEmpty(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(shop + "CREATE TABLE jobs (id INT PRIMARY KEY AUTO_INCREMENT, user INT UNSIGNED, FOREIGN KEY (user) REFERENCES users (id)); INSERT INTO jobs (user) VALUES (1), (2)")
	part := w.capture()
	est, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.Contains(t, strings.Join(est.Warnings, "\n"), "jobs comes back with 2 rows as of the backup")
	before := w.reading()
	w.exec("INSERT INTO orders (user) VALUES (1)")
	w.d = w.database(func(c *Config) { c.Empty = []string{"jobs"} })
	est, err = w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.Contains(t, strings.Join(est.Warnings, "\n"), "jobs comes back empty, as configured")
	live := w.reading()
	w.staged("r", part)
	require.NoError(t, w.turn("r", 1, remora.Restored))
	require.Equal(t, "0", w.ask("SELECT COUNT(*) FROM "+w.schema+".jobs"))
	w.exec("INSERT INTO jobs (user) VALUES (1)")
	require.Equal(t, "3", w.ask("SELECT MAX(id) FROM "+w.schema+".jobs"))
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	require.NotEqual(t, before, live)
	require.Equal(t, "2", w.ask("SELECT COUNT(*) FROM "+w.schema+".jobs"))
}

// A migration that goes wrong leaves views that are invalid. No server creates such a view again, so it stays where it is,
// on both sides of the switch; where it is the same in the backup it is valid again as soon as its tables are back.
func TestInvalidViewsStandInNobodysWay(t *testing.T) {
	testenv.EachServer(t, func(t *testing.T, on *testenv.MySQLServer) {
		w := newWorld(t, on)
		w.exec(shop + "CREATE VIEW names AS SELECT id, name FROM users; CREATE VIEW loud AS SELECT UPPER(name) AS name FROM names; CREATE TABLE parcels (id INT)")
		part := w.capture()
		before := w.reading()
		views := func() []string {
			return w.column("SELECT CONCAT(table_name, ': ', view_definition) FROM information_schema.views WHERE table_schema = ? ORDER BY 1", w.schema)
		}
		w.exec(`ALTER TABLE users RENAME COLUMN name TO full_name; CREATE TABLE gone (id INT); CREATE VIEW lost AS SELECT * FROM gone;
			DROP TABLE parcels; CREATE VIEW parcels AS SELECT * FROM gone; DROP TABLE gone`)
		damaged := views()
		est, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
		require.NoError(t, err)
		require.Contains(t, strings.Join(est.Warnings, "\n"), "view lost is invalid")
		_, summary := w.captureOf(remora.Subject{Partial: true})
		require.Contains(t, strings.Join(summary.Warnings, "\n"), "these are invalid")
		w.staged("r", part)
		require.NoError(t, w.turn("r", 1, remora.Restored))
		require.Equal(t, "ANN", w.ask("SELECT MIN(name) FROM "+w.schema+".loud"))
		w.exec("DROP VIEW lost")
		require.Equal(t, before, w.reading())
		require.NoError(t, w.turn("r", 2, remora.Replaced))
		damaged = slices.DeleteFunc(damaged, func(view string) bool { return strings.HasPrefix(view, "lost") || strings.HasPrefix(view, "parcels") })
		require.Equal(t, damaged, views(), "a view whose name was taken cannot be brought back, nor one that somebody dropped")
		require.NoError(t, w.turn("r", 3, remora.Restored))
		require.Equal(t, before, w.reading())
	})
}
