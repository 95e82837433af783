package mysql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// A part that was damaged is refused while it is loaded, by table and range, and the live data is as it was.
func TestADamagedPartFailsTheStage(t *testing.T) {
	testenv.EachMaker(t, testADamagedPartFailsTheStage)
}

func testADamagedPartFailsTheStage(t *testing.T, on *testenv.MySQLServer) {
	for name, damage := range map[string]struct{ from, to, says string }{
		"a value that does not fit":    {"1\tann\n", "1\t" + strings.Repeat("n", 50) + "\n", "warned 1 times"},
		"a value of another kind":      {"2\tbob\n", "two\tbob\n", "warn"},
		"a key twice":                  {"2\tbob\n", "1\tbob\n", "warning 1062"},
		"a column too few":             {"1\tann\n", "1\n", "Row 1 doesn't contain data for all columns"},
		"a row that is gone":           {"2\tbob\n", "", "2 rows were loaded instead of 3"},
		"a byte that nobody can check": {"bob", "bib", "not the one that was written"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, on)
			w.exec(shop)
			part := w.capture()
			live := w.dumps(w.schema)
			file := filepath.Join(part.dir, w.schema, "users.00001.tsv")
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(raw), damage.from, damage.to, 1)), 0o600))
			_, err = w.d.Stage(t.Context(), remora.Job{Run: "r"}, part.fs())
			requireProblem(t, err, remora.Corrupt, "users", "users.00001.tsv", damage.says)
			require.NotContains(t, err.Error(), "ann")
			require.Equal(t, live, w.dumps(w.schema))
			requireProblem(t, w.turn("r", 1, remora.Restored), remora.Fenced, "not complete")
			require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, ""))
			require.Empty(t, w.leftovers())
		})
	}
}

func TestCompareFindsWhatDiffersByName(t *testing.T) {
	testenv.EachServer(t, testCompareFindsWhatDiffersByName)
}

func testCompareFindsWhatDiffersByName(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	part := w.capture()
	w.staged("r", part)
	stage := stageSchema("r", 1, 1)
	for statement, says := range map[string]string{
		"UPDATE users SET name = 'anN' WHERE id = 1":                      "table users, range " + w.schema + "/users.00001.tsv: its rows differ",
		"DELETE FROM orders WHERE id = 3":                                 "2 rows instead of 3",
		"ALTER TABLE orders DROP FOREIGN KEY of_user":                     "table orders: its definition differs",
		"DROP TABLE orders":                                               "table orders is missing",
		"CREATE TABLE more (id INT PRIMARY KEY)":                          "table more is not in the backup",
		"CREATE TRIGGER t BEFORE INSERT ON users FOR EACH ROW SET @a = 1": "trigger t on users: it is there before its time",
		"ALTER DATABASE " + stage + " CHARACTER SET latin1":               "its options are",
	} {
		t.Run(says, func(t *testing.T) {
			_, err := w.d.Stage(t.Context(), remora.Job{Run: "r"}, part.fs())
			require.NoError(t, err)
			e, err := readEntry(w, "r")
			require.NoError(t, err)
			_, err = w.root.ExecContext(t.Context(), "USE "+e.Detail.Schemas[0].Stage+"; "+strings.ReplaceAll(statement, stage, e.Detail.Schemas[0].Stage))
			require.NoError(t, err)
			diff, err := w.d.Compare(t.Context(), remora.Job{Run: "r"}, part.fs())
			require.NoError(t, err)
			require.Contains(t, strings.Join(diff.Differences, "\n"), says)
		})
	}
}

func readEntry(w *world, run string) (*entry, error) {
	s, err := w.d.connect(w.Context(), w.d.write)
	if err != nil {
		return nil, err
	}
	defer s.close()
	return find(w.Context(), s, run)
}

// Whoever is in the way is waited for, for a bounded time and with growing pauses, and named: in the progress, and in the
// answer, which comes with nothing changed. So it is on the way back.
func TestALongTransactionIsNamedAndNothingChanges(t *testing.T) {
	testenv.EachMaker(t, testALongTransactionIsNamedAndNothingChanges)
}

func testALongTransactionIsNamedAndNothingChanges(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop + "CREATE VIEW v AS SELECT id FROM users; CREATE TRIGGER log_it BEFORE INSERT ON users FOR EACH ROW SET @a = 1")
	part := w.capture()
	w.exec("DELETE FROM orders; CREATE OR REPLACE VIEW v AS SELECT name FROM users")
	w.staged("r", part)
	for i, side := range []remora.Side{remora.Restored, remora.Replaced} {
		before := w.reading()
		tx, err := w.root.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		var id string
		require.NoError(t, tx.QueryRowContext(t.Context(), "SELECT CONNECTION_ID() FROM "+w.schema+".users LIMIT 1").Scan(&id))
		var told []string
		turn := remora.Turn{Run: "r", Seq: i + 1, Live: side, KeepUntil: time.Now().Add(time.Hour), Report: func(p remora.Progress) { told = append(told, p.Item) }}
		began, patience := time.Now(), w.d.switchPatience
		if i == 0 {
			w.d.switchPatience = 8 * time.Second
		}
		err = w.d.Switch(t.Context(), turn)
		require.Less(t, time.Since(began), w.d.switchPatience+20*time.Second)
		w.d.switchPatience = patience
		requireProblem(t, err, remora.Busy, "connection "+id+" of root@", "nothing was changed")
		if i == 0 {
			require.NotEmpty(t, told, "it was tried again")
			require.Contains(t, told[0], "connection "+id+" of root@")
		}
		require.NotContains(t, err.Error()+strings.Join(told, ""), "SELECT", "statements hold values")
		require.Equal(t, before, w.reading())

		// Where it ends in time, the switch goes on by itself.
		turn.Report = func(remora.Progress) { _ = tx.Rollback() }
		require.NoError(t, w.d.Switch(t.Context(), turn))
		require.NotEqual(t, before, w.reading())
	}
}

// What can be done while the application is online is done then: counters are raised, and old transactions waited for.
func TestASwitchIsPrepared(t *testing.T) { testenv.EachMaker(t, testASwitchIsPrepared) }

func testASwitchIsPrepared(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	part := w.capture()
	w.staged("r", part)
	for i, side := range []remora.Side{remora.Restored, remora.Replaced} {
		w.exec("INSERT INTO orders (user, total) VALUES (1, 1), (1, 1)")
		before := w.reading()
		aside := []string{stageSchema("r", 1, 1), putAwaySchema("r", 1)}[i]
		next := func(schema string) (n int) {
			_, after, _ := strings.Cut(w.definition(schema, "orders"), "AUTO_INCREMENT=")
			_, err := fmt.Sscan(after, &n)
			require.NoError(t, err)
			return n
		}
		require.Less(t, next(aside), next(w.schema))
		tx, err := w.root.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), "SELECT * FROM "+w.schema+".users")
		require.NoError(t, err)
		testenv.Wait(t, time.Minute, "the first transaction to be old, and the second to be known", func() error {
			if err := pause(t.Context(), 150*time.Millisecond); err != nil { // the server looks anew when nobody has asked for 100 ms
				return err
			}
			old := w.ask("SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_started < NOW() - INTERVAL ? SECOND", oldTransaction) != "0"
			if old != (i == 0) { // the first is old enough for nobody to wait for its end
				return fmt.Errorf("one is old: %t", old)
			}
			return nil
		})
		turn := remora.Turn{Run: "r", Seq: i + 1, Live: side, KeepUntil: time.Now().Add(time.Hour)}
		var told []string
		turn.Report = func(p remora.Progress) { told = append(told, p.Item) }
		require.NoError(t, w.d.Prepare(t.Context(), turn))
		require.Equal(t, i == 0, len(told) > 0, "%v", told)
		require.Equal(t, next(w.schema), next(aside))
		require.Equal(t, before, w.reading(), "nothing live has changed")
		require.NoError(t, tx.Rollback())
		require.NoError(t, w.turn("r", i+1, side))
		require.NoError(t, w.d.Prepare(t.Context(), turn), "there is nothing left to prepare")
	}
}

// definition is the server's own text of a table.
func (w *world) definition(schema, name string) (text string) {
	w.Helper()
	require.NoError(w, w.root.QueryRowContext(w.Context(), "SHOW CREATE TABLE "+qualified(schema, name)).Scan(new(string), &text))
	return text
}

// Somebody who uses the stage may have written into it: that is no reason to try again, but to stage again (S2).
func TestS2ALockOnTheStageIsNoBusyServer(t *testing.T) {
	testenv.EachServer(t, testS2ALockOnTheStageIsNoBusyServer)
}

func testS2ALockOnTheStageIsNoBusyServer(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	w.staged("r", w.capture())
	tx, err := w.root.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "UPDATE "+stageSchema("r", 1, 1)+".users SET name = 'zombie' WHERE id = 1")
	require.NoError(t, err)
	requireProblem(t, w.turn("r", 1, remora.Restored), remora.Changed, "stage again")
	require.NoError(t, tx.Rollback())
}

// A loading session of an attempt that froze is killed before its rows can get into what was compared (S2).
func TestS2AZombieThatLoadsIsGoneBeforeCompare(t *testing.T) {
	testenv.EachServer(t, testS2AZombieThatLoadsIsGoneBeforeCompare)
}

func testS2AZombieThatLoadsIsGoneBeforeCompare(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	part := w.capture()
	w.staged("r", part)
	e, err := readEntry(w, "r")
	require.NoError(t, err)
	zombie, err := w.d.connect(t.Context(), w.d.write)
	require.NoError(t, err)
	defer zombie.close()
	require.NoError(t, zombie.exec(t.Context(), "DO GET_LOCK(?, 0)", loadLock(e, 1, 1)))
	require.NoError(t, zombie.exec(t.Context(), "START TRANSACTION"))
	require.NoError(t, zombie.exec(t.Context(), "UPDATE "+e.Detail.Schemas[0].Stage+".users SET name = 'zombie' WHERE id = 1"))
	diff, err := w.d.Compare(t.Context(), remora.Job{Run: "r"}, part.fs())
	require.NoError(t, err)
	require.Empty(t, diff.Differences)
	require.Error(t, zombie.exec(t.Context(), "COMMIT"))
	require.NoError(t, w.turn("r", 1, remora.Restored))
	require.Equal(t, "ann", w.ask("SELECT name FROM "+w.schema+".users WHERE id = 1"))
}

// The session that holds the lock is killed by its successor, and what it still wanted to do fails (S3).
func TestS3AZombieThatSwitchesMovesNothing(t *testing.T) {
	testenv.EachServer(t, testS3AZombieThatSwitchesMovesNothing)
}

func testS3AZombieThatSwitchesMovesNothing(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	w.staged("r", w.capture())
	zombie, err := w.d.hold(t.Context())
	require.NoError(t, err)
	defer zombie.close()
	late := switcher{d: w.d, op: "switch", s: zombie, turn: remora.Turn{Run: "r", Seq: 1, Live: remora.Restored}}
	require.NoError(t, late.accept(t.Context()))
	require.NoError(t, late.look(t.Context()))
	before, incoming := late.live, late.incoming

	require.NoError(t, w.turn("r", 1, remora.Restored))
	live := w.dumps(w.schema)
	require.Error(t, late.move(t.Context()), "its connection is gone")

	// And if it were not: the fence it knows is not there any more.
	late.s, err = w.d.connect(t.Context(), w.d.write)
	require.NoError(t, err)
	defer late.s.close()
	late.live, late.incoming = before, incoming
	requireProblem(t, late.explained(t.Context(), late.exchange(t.Context())), remora.Fenced, "taken over")
	require.Equal(t, live, w.dumps(w.schema))
}

func TestS10AnotherInstallationIsLeftAlone(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(shop)
	part := w.capture()
	w.staged("r", part)
	other := w.database(func(c *Config) { c.Installation = "fedcba9876543210" })
	requireProblem(t, other.Discard(t.Context(), remora.Job{Run: "r"}, ""), remora.Fenced, installation)
	requireProblem(t, other.Switch(t.Context(), remora.Turn{Run: "r", Seq: 1, Live: remora.Restored}), remora.Fenced, installation)
	_, err := other.Stage(t.Context(), remora.Job{Run: "r2"}, part.fs())
	requireProblem(t, err, remora.Fenced, installation)
	left, err := other.Leftovers(t.Context())
	require.NoError(t, err)
	require.Equal(t, installation, left[0].Installation)

	holder, err := w.d.hold(t.Context())
	require.NoError(t, err)
	defer release(t.Context(), holder)
	_, err = other.Stage(t.Context(), remora.Job{Run: "r2"}, part.fs())
	requireProblem(t, err, remora.Busy, "of installation "+installation)
	require.NoError(t, holder.exec(t.Context(), "DO 1"), "the holder was not killed")
}

// One restore of a schema must be settled before the next.
func TestASecondRestoreIsRefusedUntilTheFirstIsSettled(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(shop)
	part := w.capture()
	w.staged("first", part)
	_, err := w.d.Stage(t.Context(), remora.Job{Run: "second"}, part.fs())
	requireProblem(t, err, remora.Fenced, "first", "remora rollback", "remora accept")
	_, err = w.d.Preflight(t.Context(), remora.Job{Run: "second"}, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Fenced, "first")
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "first"}, ""))
	w.staged("second", part)
}

func TestS12AnotherServerIsRefused(t *testing.T) {
	testenv.EachServer(t, testS12AnotherServerIsRefused)
}

func testS12AnotherServerIsRefused(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	w.staged("r", w.capture())
	w.exec("UPDATE _remora.journal SET server_uuid = 'somewhere else'")
	requireProblem(t, w.turn("r", 1, remora.Restored), remora.Fenced, "planned for the server somewhere else")
	requireProblem(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, ""), remora.Fenced, "somewhere else")
}

// Tables that appear after the plan go out with the others, and come back; what cannot be moved is named (S23).
func TestS23TheLiveCensusIsTakenAgain(t *testing.T) {
	testenv.EachServer(t, testS23TheLiveCensusIsTakenAgain)
}

func testS23TheLiveCensusIsTakenAgain(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	before := w.dumps(w.schema)
	w.staged("r", w.capture())
	w.exec("CREATE TABLE migrated (id INT PRIMARY KEY); CREATE TABLE merged (id INT) ENGINE = MERGE UNION = ()")
	requireProblem(t, w.turn("r", 1, remora.Restored), remora.Changed, "table merged")
	w.exec("DROP TABLE merged; CREATE VIEW v AS SELECT * FROM migrated; CREATE TRIGGER t BEFORE INSERT ON users FOR EACH ROW SET @a = 1")
	migrated := w.dumps(w.schema)
	require.NoError(t, w.turn("r", 1, remora.Restored))
	require.Equal(t, before, w.dumps(w.schema))
	w.exec("CREATE TABLE deployed (id INT PRIMARY KEY, u INT UNSIGNED, FOREIGN KEY (u) REFERENCES users (id)); INSERT INTO deployed VALUES (1, 1)")
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	require.Equal(t, migrated, w.dumps(w.schema))
	require.Equal(t, "1", w.ask("SELECT u FROM "+stageSchema("r", 1, 1)+".deployed"), "what came with the deploy is kept with its side")
}

func TestS14AMissingSchemaIsCreatedAndGoesAgain(t *testing.T) {
	testenv.EachServer(t, testS14AMissingSchemaIsCreatedAndGoesAgain)
}

func testS14AMissingSchemaIsCreatedAndGoesAgain(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec("ALTER DATABASE " + w.schema + " CHARACTER SET latin1 COLLATE latin1_german1_ci; " + shop)
	part := w.capture()
	before := w.dumps(w.schema)
	w.exec("DROP DATABASE " + w.schema)
	est, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.True(t, est.Empty)
	w.staged("r", part)
	require.NoError(t, w.turn("r", 1, remora.Restored))
	require.Equal(t, before, w.dumps(w.schema))
	require.Equal(t, "latin1_german1_ci", w.ask("SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = ?", w.schema))
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	require.Equal(t, "0", w.ask("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = ?", w.schema))
	require.NoError(t, w.turn("r", 3, remora.Restored))
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, ""), "nothing was put away, so nothing must be held")
	require.Equal(t, before, w.dumps(w.schema))
	require.Empty(t, w.leftovers())
}

func TestTheOptionsOfTheSchemaFollowTheSide(t *testing.T) {
	testenv.EachServer(t, testTheOptionsOfTheSchemaFollowTheSide)
}

func testTheOptionsOfTheSchemaFollowTheSide(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec("ALTER DATABASE " + w.schema + " CHARACTER SET latin1 COLLATE latin1_german1_ci") // and no table at all
	part := w.capture()
	w.exec("ALTER DATABASE " + w.schema + " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin; CREATE TABLE x (id INT PRIMARY KEY)")
	collation := func() string {
		return w.ask("SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = ?", w.schema)
	}
	w.staged("r", part)
	require.NoError(t, w.turn("r", 1, remora.Restored))
	require.Equal(t, "latin1_german1_ci", collation())
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	require.Equal(t, "utf8mb4_bin", collation())
	require.Equal(t, "0", w.ask("SELECT COUNT(*) FROM "+w.schema+".x"))
}

// Whatever a killed server was doing, it is before or after, and the same call again brings it about (S3, S4).
func TestS4AServerKilledAroundTheSwitchIsBeforeOrAfter(t *testing.T) {
	testenv.EachNewServer(t, testS4AServerKilledAroundTheSwitchIsBeforeOrAfter)
}

func testS4AServerKilledAroundTheSwitchIsBeforeOrAfter(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	var tables strings.Builder
	for _, n := range strings.Fields("a b c d e f g h i j k l m n o p q r s t u v w x y z") {
		tables.WriteString("CREATE TABLE t_" + n + " (id INT PRIMARY KEY, v INT); INSERT INTO t_" + n + " VALUES (1, 1);")
	}
	w.exec(tables.String())
	part := w.capture()
	before := w.server.Dump(t, w.schema)
	w.exec("UPDATE t_a SET v = 2; DROP TABLE t_z; CREATE TABLE extra (id INT PRIMARY KEY)")
	changed := w.server.Dump(t, w.schema)
	w.staged("r", part)
	seq := 0
	for kill := range 6 {
		seq++
		live := remora.Restored
		if seq%2 == 0 {
			live = remora.Replaced
		}
		done := make(chan error, 1)
		go func() { done <- w.turn("r", seq, live) }()
		time.Sleep(time.Duration(rand.IntN(250)) * time.Millisecond)
		w.server.Kill(t)
		first := <-done
		w.server.Restart(t)
		now := w.server.Dump(t, w.schema)
		require.Contains(t, []string{before, changed}, now, "kill %d", kill)
		if first == nil {
			requireSide(w, live, now, before, changed)
		} else {
			require.True(t, remora.KindOf(first).Retryable(), "%v", first)
		}
		require.NoError(t, w.turn("r", seq, live))
		requireSide(w, live, w.server.Dump(t, w.schema), before, changed)
	}
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))
	require.Empty(t, w.leftovers())
}

func requireSide(w *world, live remora.Side, now, restored, replaced string) {
	w.Helper()
	if live == remora.Restored {
		require.Equal(w, restored, now)
	} else {
		require.Equal(w, replaced, now)
	}
}

// A discard that was interrupted anywhere goes on where it was.
func TestDiscardGoesOnAfterACrash(t *testing.T) {
	for name, crash := range map[string]string{
		"before anything":     "",
		"one table is gone":   "DROP TABLE %[1]s.orders",
		"the fence is gone":   "DROP DATABASE %[1]s",
		"both sides are gone": "DROP DATABASE %[1]s; DROP DATABASE %[2]s",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testenv.MySQL(t))
			w.exec(shop)
			w.staged("r", w.capture())
			require.NoError(t, w.turn("r", 1, remora.Restored))
			live := w.dumps(w.schema)
			w.exec("UPDATE _remora.journal SET state = 'discarding'")
			w.exec("DO 1; " + strings.NewReplacer("%[1]s", putAwaySchema("r", 1), "%[2]s", stageSchema("r", 1, 1)).Replace(crash))
			requireProblem(t, w.turn("r", 2, remora.Replaced), remora.Fenced, "being discarded")
			require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, ""))
			require.Equal(t, live, w.dumps(w.schema))
			require.Empty(t, w.leftovers())
		})
	}
}

// Without its fence nobody knows which side is live, so nothing is moved and nothing dropped.
func TestS10AMissingFenceStopsEverything(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(shop)
	w.staged("r", w.capture())
	require.NoError(t, w.turn("r", 1, remora.Restored))
	w.exec("DROP TABLE " + putAwaySchema("r", 1) + "." + fenceName(2))
	requireProblem(t, w.turn("r", 2, remora.Replaced), remora.Fenced, "no fence", putAwaySchema("r", 1))
	requireProblem(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"), remora.Fenced, "no fence")
}

func TestARepeatedStageStartsAfresh(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(shop)
	part := w.capture()
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := false
	_, err := w.d.Stage(ctx, remora.Job{Run: "r", Report: func(p remora.Progress) {
		if p.Done > 0 && !cancelled {
			cancelled = true
			cancel()
		}
	}}, part.fs())
	if err != nil {
		require.True(t, errors.Is(err, context.Canceled), "%v", err)
	}
	w.staged("r", part)
	require.NotContains(t, w.leftovers(), stageSchema("r", 1, 1))
	require.Contains(t, w.leftovers(), stageSchema("r", 1, 2))
	require.NoError(t, w.turn("r", 1, remora.Restored))
	_, err = w.d.Stage(t.Context(), remora.Job{Run: "r"}, part.fs())
	requireProblem(t, err, remora.Fenced, "switched already")
}

func TestAPartOfALaterFormatIsRefused(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(shop)
	part := w.capture()
	p := part.part(t)
	p.Format++
	raw, err := json.Marshal(p)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(part.dir, remora.PartFile), raw, 0o600))
	_, err = w.d.Stage(t.Context(), remora.Job{Run: "r"}, part.fs())
	requireProblem(t, err, remora.Unsupported, "later version")
	require.NoError(t, os.WriteFile(filepath.Join(part.dir, remora.PartFile), raw[:50], 0o600))
	_, err = w.d.Stage(t.Context(), remora.Job{Run: "r"}, part.fs())
	requireProblem(t, err, remora.Corrupt)
}
