package mysql

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

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
