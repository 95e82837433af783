package mysql

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// meter counts the bytes of a copy and tells the job about them. It is an io.Writer, safe for concurrent use.
type meter struct {
	job   remora.Job
	phase string
	since time.Time
	total int64

	done, waiting atomic.Int64
	mu            sync.Mutex
	item          string
}

func newMeter(job remora.Job, phase string, total int64) *meter {
	return &meter{job: job, phase: phase, since: time.Now(), total: total}
}

// Write counts p.
func (m *meter) Write(p []byte) (int, error) {
	m.done.Add(int64(len(p)))
	return len(p), nil
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
	item := m.item
	m.mu.Unlock()
	done := m.done.Load()
	total := m.total
	if total > 0 { // an estimate that turned out too small
		total = max(total, done)
	}
	m.job.Tell(remora.Progress{
		Phase: m.phase, Done: done, Total: total, Unit: "bytes", Item: item, Quiet: m.waiting.Load() > 0, Since: m.since,
	})
}

// watch tells about the copy twice a second, until stop, which waits for the telling to end.
func (m *meter) watch(ctx context.Context) (stop func()) {
	m.tell()
	_, end := guarded(ctx, 500*time.Millisecond, func(context.Context) error {
		m.tell()
		return nil
	})
	return func() {
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
