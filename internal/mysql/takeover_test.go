package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// sleeper is a worker that freezes at its nth connection, as one that was stopped by a signal would, until it is woken.
type sleeper struct {
	d      *Database
	frozen chan struct{}
	wake   chan struct{}
	done   chan error
}

func (w *world) sleeper(nth int32) *sleeper {
	s := &sleeper{frozen: make(chan struct{}), wake: make(chan struct{}), done: make(chan error, 1)}
	var connections atomic.Int32
	s.d = w.database(func(c *Config) {
		c.Password = func() (remora.Secret, error) {
			if connections.Add(1) == nth {
				close(s.frozen)
				<-s.wake
			}
			return "", nil
		}
	})
	return s
}

func (s *sleeper) fallAsleep(verb func(*Database) error) {
	go func() { s.done <- verb(s.d) }()
	<-s.frozen
}

func (s *sleeper) wakeUp() error {
	close(s.wake)
	return <-s.done
}

// Wherever a worker froze, what it does when it wakes after its successor is done moves nothing (F4, S2, S3).
func TestS3AWorkerThatWakesLateMovesNothing(t *testing.T) {
	testenv.EachServer(t, testS3AWorkerThatWakesLateMovesNothing)
}

func testS3AWorkerThatWakesLateMovesNothing(t *testing.T, on *testenv.MySQLServer) {
	for nth := int32(1); nth <= 3; nth++ { // the one that holds the lock, and two that load
		t.Run(fmt.Sprintf("stage, connection %d", nth), func(t *testing.T) {
			w := newWorld(t, on)
			w.exec(shop)
			part := w.capture()
			before := w.dumps(w.schema)
			w.exec("DELETE FROM orders")
			late := w.sleeper(nth)
			late.fallAsleep(func(d *Database) error {
				_, err := d.Stage(context.Background(), remora.Job{Run: "r"}, part.fs())
				return err
			})
			w.staged("r", part)
			require.NoError(t, w.turn("r", 1, remora.Restored))
			require.Error(t, late.wakeUp())
			require.Equal(t, before, w.dumps(w.schema))
			require.NoError(t, w.turn("r", 1, remora.Restored))
			require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))
			require.Empty(t, w.leftovers())
		})
	}
	t.Run("switch", func(t *testing.T) {
		w := newWorld(t, on)
		w.exec(shop)
		w.staged("r", w.capture())
		w.exec("DELETE FROM orders")
		before := w.dumps(w.schema)
		late := w.sleeper(1)
		late.fallAsleep(func(d *Database) error {
			return d.Switch(context.Background(), remora.Turn{Run: "r", Seq: 1, Live: remora.Restored})
		})
		require.NoError(t, w.turn("r", 1, remora.Restored))
		require.NoError(t, w.turn("r", 2, remora.Replaced))
		require.ErrorIs(t, late.wakeUp(), remora.ErrStaleTurn)
		require.Equal(t, before, w.dumps(w.schema))
	})
	t.Run("discard", func(t *testing.T) {
		w := newWorld(t, on)
		w.exec(shop)
		part := w.capture()
		w.staged("r", part)
		late := w.sleeper(2) // it has seen that there is something to discard
		late.fallAsleep(func(d *Database) error { return d.Discard(context.Background(), remora.Job{Run: "r"}, "held") })
		require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, ""))
		w.staged("next", part)
		require.NoError(t, late.wakeUp())
		require.NoError(t, w.turn("next", 1, remora.Restored))
	})
}

// What was saved before a rollback is on the side that is live after it: who asked for the end of the window before, and comes
// late, removes nothing (S1, S3).
func TestS3ALateDiscardRemovesNothingAfterATurn(t *testing.T) {
	testenv.EachServer(t, testS3ALateDiscardRemovesNothingAfterATurn)
}

func testS3ALateDiscardRemovesNothingAfterATurn(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	w.staged("r", w.capture())
	w.exec("DELETE FROM orders")
	before := w.dumps(w.schema)
	require.NoError(t, w.turn("r", 1, remora.Restored))
	late := w.sleeper(2) // it has seen that there is something to discard
	late.fallAsleep(func(d *Database) error {
		return d.Discard(context.Background(), remora.Job{Run: "r", Seq: 1}, "the backup of the replaced side")
	})
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	require.ErrorIs(t, late.wakeUp(), remora.ErrStaleTurn)
	require.Equal(t, before, w.dumps(w.schema))
	require.NoError(t, w.turn("r", 3, remora.Restored), "the other side is still there")
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r", Seq: 3}, "held"))
	require.Empty(t, w.leftovers())
}

// What is not known to equal the backup does not go live: not compared, found to differ, staged again since (S2).
func TestS2OnlyAStageThatWasFoundEqualGoesLive(t *testing.T) {
	testenv.EachServer(t, testS2OnlyAStageThatWasFoundEqualGoesLive)
}

func testS2OnlyAStageThatWasFoundEqualGoesLive(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	part := w.capture()
	w.exec("DELETE FROM orders")
	live := w.dumps(w.schema)
	stage := func() {
		_, err := w.d.Stage(t.Context(), remora.Job{Run: "r"}, part.fs())
		require.NoError(t, err)
	}
	refused := func() {
		requireProblem(t, w.turn("r", 1, remora.Restored), remora.Fenced, "equal to the backup")
		require.Equal(t, live, w.dumps(w.schema))
	}
	stage()
	refused()
	w.staged("r", part)
	e, err := readEntry(w, "r")
	require.NoError(t, err)
	w.exec("UPDATE " + e.Detail.Schemas[0].Stage + ".users SET name = 'changed' WHERE id = 1")
	diff, err := w.d.Compare(t.Context(), remora.Job{Run: "r"}, part.fs())
	require.NoError(t, err)
	require.False(t, diff.Equal())
	refused()
	w.staged("r", part)
	stage() // a worker that froze before it had the lock
	refused()
	w.staged("r", part)
	require.NoError(t, w.turn("r", 1, remora.Restored))
}

// Somebody who was seen in the stage may have written into it by the next try (S2).
func TestS2AStageThatSomebodyUsedIsComparedAgain(t *testing.T) {
	testenv.EachServer(t, testS2AStageThatSomebodyUsedIsComparedAgain)
}

func testS2AStageThatSomebodyUsedIsComparedAgain(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	part := w.capture()
	w.staged("r", part)
	tx, err := w.root.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "UPDATE "+stageSchema("r", 1, 1)+".users SET name = 'zombie' WHERE id = 1")
	require.NoError(t, err)
	requireProblem(t, w.turn("r", 1, remora.Restored), remora.Changed, "stage again")
	require.NoError(t, tx.Commit())
	requireProblem(t, w.turn("r", 1, remora.Restored), remora.Fenced, "equal to the backup")
}

// Every row whose insert was answered lies on one of the sides, whenever it came (S1).
func TestS1NoRowIsLostBetweenTheSafetyBackupAndTheSwitch(t *testing.T) {
	testenv.EachServer(t, testS1NoRowIsLostBetweenTheSafetyBackupAndTheSwitch)
}

func testS1NoRowIsLostBetweenTheSafetyBackupAndTheSwitch(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop + "CREATE TABLE log (id BIGINT PRIMARY KEY)")
	w.staged("r", w.capture())
	var written []int64
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		for id := int64(1); ctx.Err() == nil; id++ {
			if _, err := w.root.ExecContext(t.Context(), fmt.Sprintf("INSERT INTO %s.log VALUES (%d)", w.schema, id)); err == nil {
				written = append(written, id)
			}
		}
	})
	for seq, side := range []remora.Side{remora.Restored, remora.Replaced, remora.Restored} {
		time.Sleep(200 * time.Millisecond)
		require.NoError(t, w.turn("r", seq+1, side))
	}
	stop()
	writer.Wait()
	require.NotEmpty(t, written)
	require.Equal(t, fmt.Sprint(len(written)), w.ask("SELECT (SELECT COUNT(*) FROM "+w.schema+".log) + (SELECT COUNT(*) FROM "+putAwaySchema("r", 1)+".log)"))
	require.NotEqual(t, "0", w.ask("SELECT COUNT(*) FROM "+putAwaySchema("r", 1)+".log"))
	_, aside := w.captureOf(remora.Subject{PutAway: "r"})
	require.Greater(t, aside.Entries, int64(6), "and a backup of the put-away side has them")
}

func (w *world) collation() string {
	return w.ask("SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = ?", w.schema)
}

// Where Switch says that it failed, nothing has changed: neither tables nor the options of the schema.
func TestAFailedSwitchHasChangedNothing(t *testing.T) {
	other := func(t *testing.T) (*world, string) {
		w := newWorld(t, testenv.MySQL(t))
		w.exec("ALTER DATABASE " + w.schema + " CHARACTER SET latin1 COLLATE latin1_german1_ci; " + shop)
		part := w.capture()
		w.exec("ALTER DATABASE " + w.schema + " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin; DELETE FROM orders")
		w.staged("r", part)
		return w, w.dumps(w.schema)
	}
	t.Run("the tables are in use", func(t *testing.T) {
		w, live := other(t)
		tx, err := w.root.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), "SELECT * FROM "+w.schema+".users")
		require.NoError(t, err)
		requireProblem(t, w.turn("r", 1, remora.Restored), remora.Busy, "nothing was changed")
		require.NoError(t, tx.Rollback())
		require.Equal(t, live, w.dumps(w.schema))
		require.Equal(t, "utf8mb4_bin", w.collation())
	})
	t.Run("cancelled while it waits, it has switched and says so", func(t *testing.T) {
		w, live := other(t)
		w.exec("ALTER DATABASE " + w.schema + " CHARACTER SET latin1 COLLATE latin1_german1_ci") // leaves only the RENAME to wait
		tx, err := w.root.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), "SELECT * FROM "+w.schema+".users")
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.d.Switch(ctx, remora.Turn{Run: "r", Seq: 1, Live: remora.Restored}) }()
		require.Eventually(t, func() bool {
			return w.ask("SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'Waiting for table metadata lock'") == "1"
		}, 10*time.Second, 10*time.Millisecond)
		cancel()
		require.NoError(t, tx.Rollback())
		require.NoError(t, <-done)
		require.NotEqual(t, live, w.dumps(w.schema))
		e, err := readEntry(w, "r")
		require.NoError(t, err)
		require.True(t, e.Switched)
	})
}

// The way back is never refused for good: not for readers, not for tables that go away, not for a live schema that
// somebody dropped (S21).
func TestS21TheWayBackIsOpen(t *testing.T) { testenv.EachMaker(t, testS21TheWayBackIsOpen) }

func testS21TheWayBackIsOpen(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	before := w.dumps(w.schema)
	w.staged("r", w.capture())
	require.NoError(t, w.turn("r", 1, remora.Restored))

	tx, err := w.root.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "SELECT * FROM "+putAwaySchema("r", 1)+".users")
	require.NoError(t, err)
	err = w.turn("r", 2, remora.Replaced)
	requireProblem(t, err, remora.Busy, "connection")
	require.NoError(t, tx.Rollback())

	s, err := w.d.hold(t.Context())
	require.NoError(t, err)
	sw := switcher{d: w.d, op: "switch", s: s, turn: remora.Turn{Run: "r", Seq: 2, Live: remora.Replaced}}
	require.NoError(t, sw.accept(t.Context()))
	require.NoError(t, sw.look(t.Context()))
	sw.live[0].tables = append(sw.live[0].tables, table{Name: "gone"})
	err = sw.explained(t.Context(), sw.exchange(t.Context()))
	requireProblem(t, err, remora.Busy, "came or went")
	release(t.Context(), s)

	w.exec("DROP DATABASE " + w.schema)
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	require.Equal(t, before, w.dumps(w.schema))
}

// A worker that froze before its server had a journal is replaced like any other (S3).
func TestS3AHolderIsKnownBeforeThereIsAJournal(t *testing.T) {
	w := newWorld(t, testenv.NewMySQL(t))
	w.exec(shop)
	part := w.capture()
	frozen, err := w.d.hold(t.Context())
	require.NoError(t, err)
	defer frozen.close()
	w.staged("r", part)
	require.Error(t, frozen.exec(t.Context(), "DO 1"))
}

// Nobody waits long for a worker that froze while it had the journal's lock, which is one for the whole server (S17).
func TestS17TheJournalIsTakenFromAFrozenWorker(t *testing.T) {
	testenv.EachServer(t, testS17TheJournalIsTakenFromAFrozenWorker)
}

func testS17TheJournalIsTakenFromAFrozenWorker(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	s, err := w.d.hold(t.Context())
	require.NoError(t, err)
	defer release(t.Context(), s)
	patience := func() (seconds int) {
		require.NoError(t, s.row(t.Context(), "SELECT @@SESSION.wait_timeout").Scan(&seconds))
		return seconds
	}
	before := patience()
	require.NoError(t, w.d.alone(t.Context(), s, "journal", func() error {
		require.LessOrEqual(t, patience(), holderTimeout)
		return nil
	}))
	require.Equal(t, before, patience())
}

// A server that was killed while it staged, compared or discarded does not end the restore (F8, F9).
func TestF9AServerKilledBesideTheSwitchCostsATry(t *testing.T) {
	testenv.EachNewServer(t, testF9AServerKilledBesideTheSwitchCostsATry)
}

func testF9AServerKilledBesideTheSwitchCostsATry(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	part := w.capture()
	live := w.dumps(w.schema)
	stage := func() error {
		_, err := w.d.Stage(t.Context(), remora.Job{Run: "r"}, part.fs())
		return err
	}
	discard := func() error { return w.d.Discard(t.Context(), remora.Job{Run: "r"}, "") }
	for _, verb := range []func() error{stage, stage, discard, stage, discard} {
		done := make(chan error, 1)
		go func() { done <- verb() }()
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		w.server.Kill(t)
		if err := <-done; err != nil {
			require.True(t, remora.KindOf(err).Retryable(), "%v", err)
		}
		w.server.Restart(t)
		require.NoError(t, verb())
		require.Equal(t, live, w.dumps(w.schema))
	}
	require.Empty(t, w.leftovers())
}

// What a restore keeps of a schema with many objects is larger than what the server can sort.
func TestS4AJournalMayBeLarge(t *testing.T) {
	testenv.EachMaker(t, func(t *testing.T, on *testenv.MySQLServer) {
		w := newWorld(t, on)
		w.exec(shop)
		w.staged("large", w.capture())
		s, err := w.d.connect(t.Context(), w.d.write)
		require.NoError(t, err)
		defer s.close()
		e, err := find(t.Context(), s, "large")
		require.NoError(t, err)
		e.Detail.Schemas[0].Live.Objects = []object{{Kind: "procedure", Name: "long", Create: sqlText(strings.Repeat("x", 4<<20))}}
		require.NoError(t, e.save(t.Context(), s))
		left, err := w.d.Leftovers(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, left)
		requireProblem(t, w.d.unsettled(t.Context(), s, "stage", "another"), remora.Fenced, "run large is not settled")
		require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "large"}, ""))
	})
}

// A server that is silent in the middle of a switch, as one behind a firewall that forgot the connection, is not waited for until
// the step is over while the application is offline: the next try finds out what became of it (F24).
func TestF24ASilentServerIsGivenUp(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(shop)
	part := w.capture()
	w.exec("DELETE FROM orders")
	w.staged("r", part)
	live := w.dumps(w.schema)
	wire := testenv.NewWire(t, w.server.Address)
	w.d = w.database(func(c *Config) { c.Address, c.Stall = wire.Address, 4*time.Second })
	wire.Begin(testenv.Break{When: "RENAME TABLE `" + w.schema, Stall: true, Times: 1})
	began := time.Now()
	requireProblem(t, w.turn("r", 1, remora.Restored), remora.Unavailable, "is the server running")
	require.Less(t, time.Since(began), 30*time.Second)
	require.Equal(t, 1, wire.Fired())
	require.NoError(t, w.turn("r", 1, remora.Restored))
	require.NotEqual(t, live, w.dumps(w.schema))
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	require.Equal(t, live, w.dumps(w.schema))
}
