package activities

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/remora-backup/remora/internal/remora"
)

// reporter takes progress from a step.
type reporter func(remora.Progress)

// watched runs a step that copies: it sends a heartbeat at each beat whether or not the step says something, so that a
// slow server does not look like a dead worker; cancels the step when it stalls or the worker stops; and translates
// its error.
func watched[T any](ctx context.Context, w Watch, op string, work func(context.Context, reporter) (T, error)) (T, error) {
	return run(ctx, w, op, true, work)
}

// reporting runs a step that may report progress but need not: a server that drops a large table says nothing for long.
func reporting[T any](ctx context.Context, w Watch, op string, work func(context.Context, reporter) (T, error)) (T, error) {
	return run(ctx, w, op, false, work)
}

// plain runs a step that reports no progress and is bounded by its own timeouts.
func plain[T any](ctx context.Context, w Watch, op string, work func(context.Context) (T, error)) (T, error) {
	return run(ctx, w, op, false, func(ctx context.Context, _ reporter) (T, error) { return work(ctx) })
}

// act is plain for a step without an answer.
func act(ctx context.Context, w Watch, op string, work func(context.Context) error) error {
	_, err := plain(ctx, w, op, func(ctx context.Context) (struct{}, error) { return struct{}{}, work(ctx) })
	return err
}

func run[T any](ctx context.Context, w Watch, op string, stalls bool, work func(context.Context, reporter) (T, error)) (result T, err error) {
	w = w.withDefaults()
	ctx, cancel := context.WithCancelCause(ctx)
	p := &pump{watch: w, op: op, moved: time.Now(), stalls: stalls, latest: remora.Progress{Phase: op, Since: time.Now().UTC()}}
	var pumping sync.WaitGroup
	done := make(chan struct{})
	pumping.Go(func() { p.run(ctx, done, cancel) })
	result, err = guarded(ctx, w.Log, op, p.report, work)
	close(done)
	pumping.Wait()
	err = translate(ctx, op, err)
	cancel(nil)
	if err != nil {
		var zero T
		return zero, err
	}
	return result, nil
}

// guarded turns a panic into a problem: one step fails, the worker and its other steps go on.
func guarded[T any](ctx context.Context, log *slog.Logger, op string, report reporter, work func(context.Context, reporter) (T, error)) (result T, err error) {
	defer func() {
		if broken := recover(); broken != nil {
			log.ErrorContext(ctx, "a step panicked", "step", op, "stack", string(debug.Stack()))
			err = remora.Fail(remora.Internal, op, "", "This is a bug in Remora; the worker's log has the details.", "panic: %v", broken)
		}
	}()
	return work(ctx, report)
}

// pump carries the newest progress of one step to Temporal.
type pump struct {
	watch  Watch
	op     string
	stalls bool

	mu     sync.Mutex
	latest remora.Progress
	moved  time.Time
}

// report takes progress from the step; it never blocks for long and may be called by any goroutine.
func (p *pump) report(now remora.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.latest
	if now.Since.IsZero() {
		now.Since = old.Since
		if now.Phase != old.Phase {
			now.Since = time.Now().UTC()
		}
	}
	if old.Quiet || now.Phase != old.Phase || now.Done != old.Done || now.Item != old.Item || now.Total != old.Total {
		p.moved = time.Now()
	}
	p.latest = now
}

func (p *pump) state() (remora.Progress, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.latest, time.Since(p.moved)
}

func (p *pump) run(ctx context.Context, done <-chan struct{}, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(p.watch.Beat)
	defer tick.Stop()
	stopping := activity.GetWorkerStopChannel(ctx)
	activity.RecordHeartbeat(ctx, p.latest)
	for {
		select {
		case <-done:
			return
		case <-stopping:
			cancel(remora.Fail(remora.Stopping, p.op, "", "", "the worker was asked to stop; another one goes on"))
			stopping = nil
		case <-tick.C:
			latest, still := p.state()
			activity.RecordHeartbeat(ctx, latest)
			if p.stalls && !latest.Quiet && still > p.watch.Stall {
				cancel(remora.Fail(remora.Stalled, p.op, latest.Item,
					"See whether the server or the disk hangs; the limit is DB_BACKUP_TIMEOUT.", "nothing moved for %s", still.Round(time.Second)))
			}
		}
	}
}
