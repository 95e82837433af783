package mysql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/time/rate"

	"github.com/remora-backup/remora/internal/remora"
)

// meter counts the bytes of a copy, tells the job about them, and keeps the copy within its limits. Safe for concurrent
// use.
type meter struct {
	d      *Database
	job    remora.Job
	phase  string
	since  time.Time
	limits remora.Limits
	speed  *rate.Limiter

	total, done, waiting, working atomic.Int64
	// urgent is set while the copy keeps others from writing.
	urgent atomic.Bool

	mu     sync.Mutex
	item   string
	pauses pauses

	remarks []string // of the one who looks
}

// newMeter makes the meter of one verb.
func (d *Database) newMeter(job remora.Job, phase string) *meter {
	m := &meter{d: d, job: job, phase: phase, since: time.Now(), limits: d.cfg.Limits, speed: rate.NewLimiter(rate.Inf, math.MaxInt), pauses: pauses{limit: d.pauseLimit}}
	if most := m.limits.BytesPerSecond; most > 0 {
		m.speed = rate.NewLimiter(rate.Limit(most), int(max(flushAt, most/20)))
	}
	return m
}

// begin says what is in hand.
func (m *meter) begin(item string) {
	m.mu.Lock()
	m.item = item
	m.mu.Unlock()
}

// quiet runs a statement that sends nothing for as long as it takes: that is no stall.
func (m *meter) quiet(work func() error) error {
	m.waiting.Add(1)
	defer m.waiting.Add(-1)
	return work()
}

func (m *meter) tell() {
	m.mu.Lock()
	item, why := m.item, m.pauses.why
	m.mu.Unlock()
	if why != "" {
		item = "paused: " + why
	}
	done := m.done.Load()
	total := m.total.Load()
	if total > 0 { // an estimate that turned out too small
		total = max(total, done)
	}
	m.job.Tell(remora.Progress{
		Phase: m.phase, Done: done, Total: total, Unit: "bytes", Item: item, Quiet: m.waiting.Load() > 0 || why != "", Since: m.since,
	})
}

// watch tells about the copy twice a second, and looks at its server where there are limits that ask for it, until stop,
// which waits for that to end. The context that it returns is the copy's, which begins with a look.
func (m *meter) watch(ctx context.Context, who account) (_ context.Context, stop func(), err error) {
	look, end := func(context.Context) error { return nil }, func() {}
	if m.limits.ThreadsRunning > 0 || m.limits.ReplicationLag > 0 {
		s, err := m.d.connect(ctx, who)
		if err != nil {
			return nil, nil, err
		}
		look, end = func(ctx context.Context) error {
			return m.d.problem(ctx, "look after the server", m.d.cfg.Address, m.look(ctx, s))
		}, s.close
	}
	if err := look(ctx); err != nil {
		end()
		return nil, nil, err
	}
	m.tell()
	ctx, leave := guarded(ctx, 500*time.Millisecond, func(ctx context.Context) error {
		m.tell()
		return look(ctx)
	})
	return ctx, func() {
		leave()
		end()
		m.tell()
	}, nil
}

// guarded looks after work every so often: the context it returns belongs to the work, and ends with the error of the
// first look that fails. stop ends the looking and waits for it.
func guarded(ctx context.Context, every time.Duration, look func(context.Context) error) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for pause(ctx, every) == nil {
			if err := look(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-gone
	}
}

// How a copy spares its server (decision 0034): so many sessions and bytes a second and no more, and a pause while the
// server has enough to do.

// defaultPause is how long a copy pauses at a time. Then it goes on for a tenth of that, whatever the server has to do: a
// copy that stands still for ever is no backup, and its snapshot costs the server something, too.
const defaultPause = 5 * time.Minute

// pauses decides when a copy stands still.
type pauses struct {
	limit time.Duration
	why   string // empty while it goes on

	began, respite time.Time // of the pause in hand; until when there is no other
	last           string
	times, forced  int // forced pauses ended although nothing was better
	took           time.Duration
}

// heed takes in what was seen of the server at a moment: what is over a limit, if anything is, and whether all is well
// below.
func (p *pauses) heed(now time.Time, over string, calm bool) {
	switch ends := now.Sub(p.began) >= p.limit; {
	case p.why == "" && over != "" && !now.Before(p.respite):
		p.why, p.last, p.began, p.times = over, over, now, p.times+1
	case p.why != "" && (calm || ends):
		if !calm {
			p.forced, p.respite = p.forced+1, now.Add(p.limit/10)
		}
		p.why, p.took = "", p.took+now.Sub(p.began)
	case p.why != "" && over != "":
		p.why = over
	}
}

// look compares what the server has to do with the limits. A pause ends a fifth below them, so that it does not begin
// again at once; and whoever keeps others from writing does not pause.
func (m *meter) look(ctx context.Context, s *session) error {
	over, calm := "", true
	against := func(now, limit int64, says string, args ...any) {
		if calm = calm && now <= limit*4/5; now > limit {
			over = fmt.Sprintf(says, args...)
		}
	}
	if limit := int64(m.limits.ThreadsRunning); limit > 0 {
		running, err := s.status(ctx, "Threads_running")
		if err != nil {
			return err
		}
		running -= 1 + m.working.Load() // those are ours
		against(running, limit, "%d threads are running on the server, limit %d", running, limit)
	}
	if limit := m.limits.ReplicationLag; limit > 0 {
		lag, err := m.lag(ctx, s)
		if err != nil {
			return err
		}
		against(int64(lag), int64(limit), "the replica is %s behind, limit %s", lag, limit)
	}
	if m.urgent.Load() {
		over, calm = "", true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pauses.heed(time.Now(), over, calm)
	return nil
}

// lag is how far this server is behind its source. Where that is not to be known, nobody waits for it: it is said once.
func (m *meter) lag(ctx context.Context, s *session) (time.Duration, error) {
	lag, unknown, err := s.behind(ctx)
	if isCode(err, codeRightDenied) {
		unknown, err = "that takes the right REPLICATION CLIENT, on MariaDB SLAVE MONITOR", nil
	}
	if err == nil && lag > m.limits.ReplicationLag {
		var ours int // it would wait for us as long as we waited for it
		if err = s.row(ctx, "SELECT COUNT(*) FROM "+s.server.processes+" WHERE state = 'Waiting for backup lock'").Scan(&ours); ours > 0 {
			unknown, lag = "replication itself waits for the backup, with a change of a definition", 0
		}
	}
	if text := "replication_lag is not heeded: " + unknown; unknown != "" && !slices.Contains(m.remarks, text) {
		m.remarks = append(m.remarks, text)
	}
	return lag, err
}

// paused is why a copy stands still, "" when it does not.
func (m *meter) paused() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pauses.why
}

// rest waits for the end of a pause.
func (m *meter) rest(ctx context.Context) error {
	for m.paused() != "" {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// mayBegin waits for a moment in which a snapshot disturbs nobody. After a whole pause it is given up, and tried again
// later, unless somebody waits for what comes after it.
func (m *meter) mayBegin(ctx context.Context, awaited bool) error {
	why, begun := m.paused(), time.Now()
	if err := m.rest(ctx); err != nil || awaited || why == "" || time.Since(begun) < m.pauses.limit {
		return err
	}
	return remora.Fail(remora.Busy, m.phase, m.d.cfg.Address, "it is tried again; raise database.limits if the server is always as busy as that",
		"no snapshot is taken of a server that is over its limits, and for %s it was: %s", m.pauses.limit, why)
}

// writer is a function that is an io.Writer.
type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// pass is where the rows of a copy pass and are counted, at the speed that the limits allow.
func (m *meter) pass(ctx context.Context) io.Writer {
	return writer(func(b []byte) (int, error) {
		err := m.rest(ctx)
		for left := len(b); left > 0 && err == nil; {
			n := min(left, m.speed.Burst())
			err = m.speed.WaitN(ctx, n)
			m.done.Add(int64(n))
			left -= n
		}
		return len(b), err
	})
}

// report says in a summary, that of a copy which succeeded, what sparing the server came to. Nobody looks any more.
func (m *meter) report(sum *remora.Summary) {
	sum.Warnings = append(sum.Warnings, m.remarks...)
	p := m.pauses
	if p.times == 0 || sum.Facts == nil {
		return
	}
	sum.Facts["paused"] = fmt.Sprintf("%d times, %s in all; the last time %s", p.times, p.took.Round(time.Second), p.last)
	if p.forced > 0 {
		sum.Warnings = append(sum.Warnings, fmt.Sprintf("the server was over its limits for %s at a time, and the copy went on all the same; it paused %s", p.limit, sum.Facts["paused"]))
	}
}

// sessions is how many connections copy at the same time, and why so many: as is asked for, or else by what this machine
// and the server can do, and by what there is to do.
func (d *Database) sessions(ctx context.Context, s *session, asked, tables int, bytes int64) (n int, why string, err error) {
	if asked > 0 {
		return asked, "configured", nil
	}
	var most int64
	err = s.row(ctx, "SELECT @@GLOBAL.max_connections").Scan(&most)
	connected, err1 := s.status(ctx, "Threads_connected")
	running, err2 := s.status(ctx, "Threads_running")
	cores := runtime.GOMAXPROCS(0)
	n, why = 8, "more are of no use"
	for _, bound := range []struct {
		most int64
		why  string
	}{
		{int64(2 * cores), fmt.Sprintf("%d cores here", cores)},
		{9 - running, fmt.Sprintf("%d threads at work on the server", running-1)}, // one of them is us
		{(most - connected) / 4, fmt.Sprintf("%d connections are left on the server", most-connected)},
		{1 + int64(tables/100) + bytes/d.rangeBytes, fmt.Sprintf("%s in %d tables", humanize.IBytes(uint64(bytes)), tables)},
	} {
		if bound.most < int64(n) {
			n, why = int(max(1, bound.most)), bound.why
		}
	}
	return n, why, errors.Join(err, err1, err2)
}

// logWarning is what leaving the log out costs.
const logWarning = "what is staged is left out of the binary log (restore.skip_binary_log): a replica that is stopped now, and a point-in-time recovery, break at this restore's switch. Make the base of either anew when it is over"

// skipsLog tells whether what is staged is kept out of the binary log: where it is asked for, and there is a log. It
// refuses where somebody reads that: a RENAME of tables that it never saw breaks a replica.
func (d *Database) skipsLog(ctx context.Context, s *session, op string, asked bool) (bool, error) {
	vars, err := s.variables(ctx, "log_bin")
	if err != nil || !asked || vars["log_bin"] != "ON" {
		return false, err
	}
	readers, err := s.strings(ctx, "SELECT CONCAT('connection ', id, ' of ', user, ' from ', host) FROM "+s.server.processes+" WHERE command LIKE 'Binlog Dump%'")
	if err == nil && len(readers) > 0 {
		return false, remora.Fail(remora.Unsupported, op, d.cfg.Address, "remove restore.skip_binary_log, or detach whoever reads the log until the restore is over",
			"a replica reads the binary log, and would break at the switch of tables that it never saw: %s", listed(readers))
	}
	return true, err
}

// leavesLogOut tells whether what is staged is kept out of the binary log. What a drill stages is never switched, so no
// replica ever asks for it: wherever the account may, nobody is troubled with it (S25).
func (d *Database) leavesLogOut(ctx context.Context, s *session, op, run string) (bool, error) {
	if !remora.IsDrill(run) {
		return d.skipsLog(ctx, s, op, d.cfg.SkipBinaryLog)
	}
	vars, err := s.variables(ctx, "log_bin")
	if err != nil || vars["log_bin"] != "ON" {
		return false, err
	}
	err = s.all(ctx, "SET SESSION sql_log_bin = 0", "SET SESSION sql_log_bin = 1")
	if isCode(err, codeRightDenied) {
		return false, nil
	}
	return err == nil, err
}

// unlog keeps what the session does from here on out of the binary log, where that is wanted.
func (s *session) unlog(ctx context.Context, wanted bool) error {
	if !wanted {
		return nil
	}
	return s.exec(ctx, "SET SESSION sql_log_bin = 0")
}
