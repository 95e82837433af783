package mysql

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// meter counts the bytes of a copy, tells the job about them, and gives up when none come. It is an io.Writer, safe for
// concurrent use.
type meter struct {
	job   remora.Job
	phase string
	since time.Time
	total int64
	stall time.Duration

	done, waiting, moved atomic.Int64
	mu                   sync.Mutex
	item                 string
}

func newMeter(job remora.Job, phase string, total int64, stall time.Duration) *meter {
	m := &meter{job: job, phase: phase, since: time.Now(), total: total, stall: stall}
	m.moved.Store(time.Now().UnixNano())
	return m
}

// Write counts p.
func (m *meter) Write(p []byte) (int, error) {
	m.done.Add(int64(len(p)))
	m.moved.Store(time.Now().UnixNano())
	return len(p), nil
}

// begin says what is in hand.
func (m *meter) begin(item string) {
	m.mu.Lock()
	m.item = item
	m.mu.Unlock()
	m.moved.Store(time.Now().UnixNano())
}

// quiet runs a statement that sends nothing for as long as it takes.
func (m *meter) quiet(work func() error) error {
	m.waiting.Add(1)
	defer func() {
		m.moved.Store(time.Now().UnixNano())
		m.waiting.Add(-1)
	}()
	return work()
}

func (m *meter) current() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.item
}

func (m *meter) tell() {
	done := m.done.Load()
	total := m.total
	if total > 0 { // an estimate that turned out too small
		total = max(total, done)
	}
	m.job.Tell(remora.Progress{Phase: m.phase, Done: done, Total: total, Unit: "bytes", Item: m.current(), Since: m.since})
}

// watch tells about the copy twice a second, and cancels it when it stands still. The context it returns belongs to
// the copy; stop ends the watching and waits for it.
func (m *meter) watch(ctx context.Context, op string) (_ context.Context, stop func()) {
	m.tell()
	ctx, end := guarded(ctx, 500*time.Millisecond, func(context.Context) error {
		m.tell()
		if still := time.Since(time.Unix(0, m.moved.Load())); m.waiting.Load() == 0 && still > m.stall {
			return fail(remora.Stalled, op, m.current(), "is the server, the network or the storage stuck?", "no byte moved for %s", m.stall)
		}
		return nil
	})
	return ctx, func() {
		end()
		m.tell()
	}
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
