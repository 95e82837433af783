package mysql

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// A restore, its rollback and its end reach a replica through the log like any other work (S25).
func TestS25AReplicaFollowsARestore(t *testing.T) {
	w := newWorld(t, testenv.NewMySQL(t))
	replica := testenv.NewMySQL(t)
	host, port, _ := strings.Cut(w.server.Address, ":")
	for _, statement := range []string{
		"SET GLOBAL server_id = 2",
		"CHANGE REPLICATION SOURCE TO SOURCE_HOST = '" + host + "', SOURCE_PORT = " + port + ", SOURCE_USER = 'root', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1",
		"START REPLICA",
	} {
		_, err := replica.DB(t).ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	state := regexp.MustCompile(` (ENABLE|DISABLE ON REPLICA|DISABLE) (COMMENT|DO) `) // an event never acts on a replica
	follows := func() {
		t.Helper()
		var late int
		require.NoError(t, replica.DB(t).QueryRowContext(t.Context(), "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 30)", w.ask("SELECT @@GLOBAL.gtid_executed")).Scan(&late))
		require.Zero(t, late, "the replica did not follow")
		require.Equal(t, state.ReplaceAllString(w.reading(), " $2"), state.ReplaceAllString(replica.Dump(t, w.schema), " $2"))
	}
	w.exec(objectsZoo)
	follows()
	part := w.capture()
	w.exec("DROP TRIGGER logged; DROP VIEW a_top; DELETE FROM orders; CREATE TABLE more (id INT PRIMARY KEY)")
	w.staged("r", part)
	require.NoError(t, w.turn("r", 1, remora.Restored))
	follows()
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	follows()
	require.NoError(t, w.turn("r", 3, remora.Restored))
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))
	follows()
	w.drillsUnseen(replica, part)
	follows()
	w.lagsAndIsSeen(replica, part)
	var left int
	require.NoError(t, replica.DB(t).QueryRowContext(t.Context(), `SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE '\_remora%'`).Scan(&left))
	require.Zero(t, left)
}

// drillsUnseen makes a drill, of which no row and no definition reaches the replica (S25). One whose account may not leave
// the log out is logged, and breaks nothing either.
func (w *world) drillsUnseen(replica *testenv.MySQLServer, part folder) {
	logged := func() (bytes int) {
		var position int
		require.NoError(w, w.root.QueryRowContext(w.Context(), "SHOW BINARY LOG STATUS").Scan(new(string), &position, new(string), new(string), new(string)))
		return position
	}
	w.exec("SET GLOBAL log_bin_trust_function_creators = ON; CREATE USER humble; GRANT ALL ON *.* TO humble; REVOKE SUPER, SYSTEM_VARIABLES_ADMIN, SESSION_VARIABLES_ADMIN, BINLOG_ADMIN ON *.* FROM humble")
	sizes := map[string]int{}
	for _, user := range []string{"root", "humble"} {
		d := *w
		d.d = w.database(withUser(user))
		run := remora.DrillRun(user)
		before := logged()
		_, err := d.d.Preflight(w.Context(), remora.Job{Run: run}, remora.Intent{From: part.fs()})
		require.NoError(w, err)
		d.staged(run, part)
		_, _, err = d.d.Staged(w.Context(), run)
		require.NoError(w, err)
		seen := w.ask("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '" + stageSchema(run, 1, 1) + "'")
		require.NotEqual(w, "0", seen)
		require.NoError(w, d.d.Discard(w.Context(), remora.Job{Run: run}, ""))
		sizes[user] = logged() - before
	}
	w.Logf("the log has grown by %v bytes", sizes)
	require.Less(w, sizes["root"], sizes["humble"]*2/3, "the journal alone")
	w.exec("SET GLOBAL log_bin_trust_function_creators = OFF; DROP USER humble")
}

// lagsAndIsSeen has a backup of the replica wait until it has caught up, and a restore on the primary refuse to leave the log
// out, since the replica would break at the switch.
func (w *world) lagsAndIsSeen(replica *testenv.MySQLServer, part folder) {
	primary := w.database(func(c *Config) { c.SkipBinaryLog = true })
	_, err := primary.Preflight(w.Context(), remora.Job{Run: "r3"}, remora.Intent{From: part.fs()})
	requireProblem(w, err, remora.Unsupported, "a replica reads the binary log", "remove restore.skip_binary_log")
	_, err = primary.Stage(w.Context(), remora.Job{Run: "r3"}, part.fs())
	requireProblem(w, err, remora.Unsupported, "a replica reads the binary log")

	d := w.database(func(c *Config) { c.Address, c.Limits = replica.Address, remora.Limits{ReplicationLag: time.Second} })
	keeper, err := replica.DB(w).Conn(w.Context())
	require.NoError(w, err)
	defer func() { _ = keeper.Close() }()
	_, err = keeper.ExecContext(w.Context(), "LOCK TABLES "+qualified(w.schema, "users")+" READ")
	require.NoError(w, err)
	w.exec("INSERT INTO users (name) VALUES ('late')")
	s, err := d.connect(w.Context(), d.read)
	require.NoError(w, err)
	defer s.close()
	testenv.Wait(w, 20*time.Second, "the replica to fall behind", func() error {
		lag, unknown, err := s.behind(w.Context())
		if err == nil && lag <= time.Second {
			err = fmt.Errorf("it is %s behind (%s)", lag, unknown)
		}
		return err
	})
	var p told
	done := w.background(d, &p, remora.Subject{})
	p.says(w.T, "s behind, limit 1s")
	_, err = keeper.ExecContext(w.Context(), "UNLOCK TABLES")
	require.NoError(w, err)
	result := <-done
	require.NoError(w, result.err)
	require.Contains(w, result.sum.Facts["paused"], "the replica is ")
	require.Empty(w, result.sum.Warnings)

	// A migration waits for the backup, and the replica with it: to wait for that would be to wait for oneself.
	snap, err := d.openSnapshot(w.Context(), d.read, d.live())
	require.NoError(w, err)
	w.exec("ALTER TABLE users COMMENT 'of the shop'")
	m := d.newMeter(remora.Job{}, "dump")
	testenv.Wait(w, 20*time.Second, "the replica to wait for the backup", func() error {
		lag, err := m.lag(w.Context(), s)
		if err == nil && len(m.remarks) == 0 {
			err = fmt.Errorf("it is %s behind", lag)
		}
		return err
	})
	require.Equal(w, []string{"replication_lag is not heeded: replication itself waits for the backup, with a change of a definition"}, m.remarks)
	snap.close()

	testenv.Wait(w, 10*time.Second, "the lock to be gone", func() error {
		_, err := keeper.ExecContext(w.Context(), "STOP REPLICA SQL_THREAD")
		return err
	})
	result = <-w.background(d, &p, remora.Subject{})
	require.NoError(w, result.err)
	require.Equal(w, []string{"replication_lag is not heeded: replication has stopped"}, result.sum.Warnings)
	_, err = keeper.ExecContext(w.Context(), "START REPLICA SQL_THREAD")
	require.NoError(w, err)
}

// A restart after the comparison has emptied what lies in memory: it is staged again (S27). And a log that leaves schemas out
// would break a replica at the switch: it is refused (S25).
func TestS27ARestartIsNoticed(t *testing.T) {
	w := newWorld(t, testenv.NewMySQL(t))
	w.exec(shop + "CREATE TABLE hot (id INT PRIMARY KEY) ENGINE = MEMORY; INSERT INTO hot VALUES (1)")
	part := w.capture()
	w.staged("r", part)
	time.Sleep(4 * time.Second) // a server tells its age in seconds
	w.server.Restart(t)
	requireProblem(t, w.turn("r", 1, remora.Restored), remora.Changed, "restarted since the stage was compared")
	w.staged("r", part)
	require.NoError(t, w.turn("r", 1, remora.Restored))
	require.Equal(t, "1", w.ask("SELECT COUNT(*) FROM "+w.schema+".hot"))
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))

	t.Run("TestS25AFilteredLogIsRefused", func(t *testing.T) { testS25AFilteredLogIsRefused(t, w, part) }) // on the same server
}

func testS25AFilteredLogIsRefused(t *testing.T, w *world, part folder) {
	w.server.Restart(t, "--binlog-ignore-db=elsewhere")
	_, err := w.d.Preflight(t.Context(), remora.Job{Run: "r2"}, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Unsupported, "a replica would break")
}

// Whoever freezes while it keeps others out loses its locks within seconds (S17).
func TestS17LocksOfTablesEndWithAFrozenWorker(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(shop + "CREATE TABLE mine (id INT PRIMARY KEY) ENGINE = MyISAM")
	s, err := w.d.hold(t.Context())
	require.NoError(t, err)
	defer release(t.Context(), s)
	patience := func(s *session) (seconds int) {
		require.NoError(t, s.row(t.Context(), "SELECT @@SESSION.wait_timeout").Scan(&seconds))
		return seconds
	}
	sw := switcher{d: w.d, s: s}
	require.NoError(t, sw.locked(t.Context(), []string{qualified(w.schema, "users")}, func() error {
		require.Equal(t, holderTimeout, patience(s))
		return nil
	}))
	require.Greater(t, patience(s), 1000000, "and has time again afterwards")
	snap, err := w.d.openSnapshot(t.Context(), w.d.read, w.d.live())
	require.NoError(t, err)
	defer snap.close()
	require.Equal(t, holderTimeout, patience(snap.locked.s))
}

// Where the rights keep no migration out, one that waits for a snapshot ends it before long (S18).
func TestS18AMigrationThatWaitsEndsTheSnapshot(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(shop + "CREATE USER watcher; GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON " + w.schema + ".* TO watcher; GRANT SHOW_ROUTINE, PROCESS ON *.* TO watcher")
	defer w.exec("DROP USER watcher")
	d := w.database(withUser("watcher"))
	snap, err := d.openSnapshot(t.Context(), d.read, d.live())
	require.NoError(t, err)
	defer snap.close()
	_, err = snap.readers[0].value(t.Context(), "SELECT COUNT(*) FROM "+qualified(w.schema, "users"), 0)
	require.NoError(t, err)
	kept, stop := guarded(t.Context(), pingEvery, snap.ping)
	defer stop()
	done := make(chan error, 1)
	go func() {
		_, err := w.root.ExecContext(t.Context(), "ALTER TABLE "+w.schema+".users ADD COLUMN x INT")
		done <- err
	}()
	select {
	case <-kept.Done():
	case <-time.After(time.Minute):
		t.Fatal("the snapshot goes on")
	}
	requireProblem(t, d.problem(kept, "dump", "", kept.Err()), remora.Busy, "a migration waits for the backup")
	snap.close()
	require.NoError(t, <-done)
}
