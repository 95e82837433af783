package mysql

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

func limited(l remora.Limits) func(*Config) { return func(c *Config) { c.Limits = l } }

// told keeps the newest progress of a job.
type told struct {
	mu   sync.Mutex
	last remora.Progress
}

func (p *told) job(run string) remora.Job {
	return remora.Job{Run: run, Report: func(now remora.Progress) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.last = now
	}}
}

func (p *told) now() remora.Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// says waits until what is in hand is that.
func (p *told) says(t *testing.T, words string) remora.Progress {
	t.Helper()
	testenv.Wait(t, 20*time.Second, words, func() error {
		if now := p.now(); !strings.Contains(now.Item, words) {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
	return p.now()
}

// background captures and gives the outcome later.
func (w *world) background(d *Database, p *told, of remora.Subject) <-chan captureResult {
	done := make(chan captureResult, 1)
	part := folder{w.TempDir()}
	go func() {
		sum, err := d.Capture(w.Context(), p.job("backup"), of, part)
		done <- captureResult{part, sum, err}
	}()
	return done
}

type captureResult struct {
	part folder
	sum  remora.Summary
	err  error
}

// busy keeps so many threads of the server at work until stop.
func (w *world) busy(threads int) (stop func()) {
	ctx, cancel := context.WithCancel(w.Context())
	var all sync.WaitGroup
	for range threads {
		conn, err := w.root.Conn(ctx)
		require.NoError(w, err)
		var id int64
		require.NoError(w, conn.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&id))
		all.Go(func() {
			_, _ = conn.ExecContext(w.Context(), "DO SLEEP(60)")
			_ = conn.Close()
		})
		context.AfterFunc(ctx, func() { _, _ = w.root.ExecContext(w.Context(), fmt.Sprintf("KILL %d", id)) })
	}
	testenv.Wait(w, 10*time.Second, "threads at work", func() error {
		var running int
		err := w.root.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Threads_running'").Scan(new(string), &running)
		if err == nil && running <= threads {
			err = fmt.Errorf("%d threads are running", running)
		}
		return err
	})
	return func() {
		cancel()
		all.Wait()
	}
}

// rows are so many bytes of rows, in one table that is one range.
func (w *world) rows(bytes int) {
	w.exec(fmt.Sprintf(`%s CREATE TABLE blobs (id INT PRIMARY KEY, b BLOB); INSERT INTO blobs
		WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < %d) SELECT i, REPEAT('x', 10000) FROM n;`, w.deep(), bytes/10000))
}

// The sessions of a copy itself make no server busy.
func TestABytesLimitHoldsForEachVerb(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t), limited(remora.Limits{BytesPerSecond: 1e6, ThreadsRunning: 2}))
	w.rows(700_000)
	const least = 550 * time.Millisecond // what passes at once, without waiting, is 128 KB
	var part folder
	var sum remora.Summary
	for _, verb := range []struct {
		name string
		do   func() error
	}{
		{"capture", func() error { part, sum = w.captureOf(remora.Subject{}); return nil }},
		{"stage", func() error { _, err := w.d.Stage(t.Context(), remora.Job{Run: "r"}, part.fs()); return err }},
		{"compare", func() error { _, err := w.d.Compare(t.Context(), remora.Job{Run: "r"}, part.fs()); return err }},
	} {
		began := time.Now()
		require.NoError(t, verb.do(), verb.name)
		require.GreaterOrEqual(t, time.Since(began), least, verb.name)
	}
	require.NotContains(t, sum.Facts, "paused")
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))
}

// A copy stands still while the server is busy, in the middle of a table, too, and says so. That is no stall.
func TestACopyPausesWhileTheServerIsBusy(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t), limited(remora.Limits{BytesPerSecond: 1e6, ThreadsRunning: 8}))
	w.rows(3_000_000)
	var p told
	done := w.background(w.d, &p, remora.Subject{})
	p.says(t, "blobs")
	stop := w.busy(20)
	defer stop()
	at := p.says(t, " threads are running on the server, limit 8")
	require.True(t, strings.HasPrefix(at.Item, "paused: "), at.Item)
	require.True(t, at.Quiet)
	require.Less(t, at.Done, int64(2_900_000), "it was over before it could pause")
	stop()
	result := <-done
	require.NoError(t, result.err)
	require.Regexp(t, `^1 times, .* in all; the last time \d+ threads are running`, result.sum.Facts["paused"])
	require.Equal(t, int64(300), result.sum.Entries)
	require.Empty(t, result.sum.Warnings)
}

// No snapshot is taken of a server that is busy: after a whole pause a backup is refused, while what a restore saves goes
// on, slowly, and says so.
func TestNoSnapshotIsTakenOfABusyServer(t *testing.T) {
	w := newWorld(t, testenv.MariaDB(t, "11.8"), limited(remora.Limits{ThreadsRunning: 3}))
	w.exec(shop)
	w.d.pauseLimit = 1500 * time.Millisecond
	stop := w.busy(6)
	defer stop()
	var p told
	done := w.background(w.d, &p, remora.Subject{})
	require.Zero(t, p.says(t, " threads are running on the server, limit 3").Total, "it has begun")
	requireProblem(t, (<-done).err, remora.Busy, "no snapshot is taken of a server that is over its limits", "limit 3", "raise database.limits")

	result := <-w.background(w.d, &p, remora.Subject{Partial: true})
	require.NoError(t, result.err)
	require.Contains(t, strings.Join(result.sum.Warnings, "\n"), "and the copy went on all the same; it paused 1 times")
}

// Whoever keeps others from writing does not pause: they would only wait the longer, and be the more.
func TestACopyThatKeepsWritersOutDoesNotPause(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t), limited(remora.Limits{BytesPerSecond: 1e6, ThreadsRunning: 3}))
	w.rows(1_500_000)
	w.exec("ALTER TABLE blobs ENGINE = MyISAM")
	var p told
	done := w.background(w.d, &p, remora.Subject{})
	p.says(t, "blobs")
	stop := w.busy(6)
	result := <-done
	stop()
	require.NoError(t, result.err)
	require.NotContains(t, result.sum.Facts, "paused")
}

func TestPausesBeginAndEnd(t *testing.T) {
	p := pauses{limit: 100 * time.Second}
	start := time.Now()
	for _, step := range []struct {
		at   int
		over string
		calm bool
		why  string
	}{
		{0, "", true, ""},
		{1, "42 threads", false, "42 threads"},
		{2, "43 threads", false, "43 threads"},
		{3, "", false, "43 threads"}, // below, but not by much
		{4, "", true, ""},
		{5, "", false, ""},
		{6, "44 threads", false, "44 threads"},
		{105, "45 threads", false, "45 threads"},
		{106, "45 threads", false, ""}, // for so long nobody waits
		{115, "45 threads", false, ""},
		{116, "45 threads", false, "45 threads"},
	} {
		p.heed(start.Add(time.Duration(step.at)*time.Second), step.over, step.calm)
		require.Equal(t, step.why, p.why, "at %d", step.at)
	}
	require.Equal(t, 3, p.times)
	require.Equal(t, 1, p.forced)
	require.Equal(t, 103*time.Second, p.took)
}

func TestSessionsAreAsManyAsAreOfUse(t *testing.T) {
	testenv.EachServer(t, func(t *testing.T, server *testenv.MySQLServer) {
		w := newWorld(t, server, func(c *Config) { c.Sessions = 0 })
		w.exec(shop)
		part, sum := w.captureOf(remora.Subject{})
		few := `^1: (.* in 2 tables|\d+ threads at work on the server)$` // other tests may be
		require.Regexp(t, few, sum.Facts["sessions"])
		require.Equal(t, "one session, one moment", sum.Facts["consistency"])
		require.Contains(t, sum.Facts["read_lock"], "held ")
		require.Contains(t, sum.Facts["backup_lock"], "held ")
		staged, err := w.d.Stage(t.Context(), remora.Job{Run: "r"}, part.fs())
		require.NoError(t, err)
		require.Regexp(t, few, staged.Facts["sessions"])
		require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))

		s, err := w.d.connect(t.Context(), w.d.read)
		require.NoError(t, err)
		defer s.close()
		sized := func(expected string, asked, tables int, bytes int64) {
			testenv.Wait(t, time.Minute, "a server where nobody else is at work", func() error {
				n, why, err := w.d.sessions(t.Context(), s, asked, tables, bytes)
				require.NoError(t, err)
				if got := fmt.Sprintf("%d: %s", n, why); !regexp.MustCompile("^" + expected + "$").MatchString(got) {
					return errors.New(got)
				}
				return nil
			})
		}
		sized("1: 31 MiB in 12 tables", 0, 12, 31<<20)
		sized("2: 1.0 MiB in 140 tables", 0, 140, 1<<20) // many small tables keep several busy
		sized("30: configured", 30, 1, 1)                // who asks gets them
		sized("[2-9]: .*", 0, 1, 1<<40)
		stop := w.busy(8)
		defer stop()
		sized(`1: \d+ threads at work on the server`, 0, 1, 1<<40)
	})
}

func TestALongLockIsWarnedOf(t *testing.T) {
	s := snapshot{facts: map[string]string{}}
	s.locks(900*time.Millisecond, 4*time.Millisecond)
	require.Equal(t, "waited 900ms, held 4ms", s.facts["read_lock"])
	require.Empty(t, s.warnings)
	s.locks(time.Millisecond, 1100*time.Millisecond)
	require.Equal(t, []string{"for the moment of the snapshot nobody could commit: waited 1ms, held 1.1s"}, s.warnings)
}

// What is staged is not in the binary log where the operator wants it so; the switch and the journal are. Who may restore
// may not do that: it takes a right of its own.
func TestS25AStageIsLeftOutOfTheLogWhenAsked(t *testing.T) { testenv.EachMaker(t, leavesTheStageOut) }

func leavesTheStageOut(t *testing.T, server *testenv.MySQLServer) {
	w := newWorld(t, server)
	w.exec(shop + "CREATE USER quiet@'%'")
	defer w.exec("DROP USER quiet@'%'")
	part := w.capture()
	for _, need := range w.d.restoreNeeds(w.serverFound()) {
		if need.required {
			w.exec("GRANT " + strings.Join(need.privileges, ", ") + " ON " + grants{}.target(need.scope) + " TO quiet@'%'")
		}
	}
	w.d = w.database(func(c *Config) {
		c.SkipBinaryLog, c.RestoreUser, c.RestorePassword = true, "quiet", c.Password
	})
	_, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	right := map[bool]string{true: "BINLOG ADMIN", false: "SESSION_VARIABLES_ADMIN"}[server.MariaDB()]
	requireProblem(t, err, remora.Denied, "GRANT "+right+" ON *.* TO 'quiet'@'%';")
	w.exec("GRANT " + right + " ON *.* TO quiet@'%'")
	est, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.Contains(t, est.Warnings, logWarning)

	w.exec("FLUSH BINARY LOGS")
	w.staged("r", part)
	require.NoError(t, w.turn("r", 1, remora.Restored))
	require.Equal(t, "3", w.ask("SELECT COUNT(*) FROM "+w.schema+".users"))
	logs, err := w.root.QueryContext(t.Context(), "SHOW BINARY LOGS")
	require.NoError(t, err)
	defer func() { _ = logs.Close() }()
	names, err := logs.Columns()
	require.NoError(t, err)
	into := make([]any, len(names))
	for i := range into {
		into[i] = new(any)
	}
	var last string
	into[0] = &last
	for logs.Next() {
		require.NoError(t, logs.Scan(into...))
	}
	require.NoError(t, logs.Err())
	events, err := w.root.QueryContext(t.Context(), "SHOW BINLOG EVENTS IN "+text(last))
	require.NoError(t, err)
	defer func() { _ = events.Close() }()
	stage, renamed, journalled := stageSchema("r", 1, 1), 0, 0
	for events.Next() {
		var kind, info string
		require.NoError(t, events.Scan(new(string), new(int64), &kind, new(int64), new(int64), &info))
		switch {
		case strings.Contains(info, "RENAME TABLE"):
			renamed++
		case strings.Contains(info, ".journal"):
			journalled++
		default:
			require.NotContains(t, info, stage, kind)
		}
	}
	require.NoError(t, events.Err())
	require.Positive(t, renamed)
	require.Positive(t, journalled)
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))
}
