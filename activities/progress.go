package activities

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/remora-backup/remora/internal/remora"
)

// reporter takes progress from a step.
type reporter func(remora.Progress)

// step makes a step known under its wire name. op says what it does, for problems; it reports no progress and is bounded
// by its own timeouts.
func step[In, Out any](to Registry, w Watch, name string, op func(In) string, do func(context.Context, In) (Out, error)) {
	register(to, name, func(ctx context.Context, in In) (Out, error) {
		return plain(ctx, w, op(in), func(ctx context.Context) (Out, error) { return do(ctx, in) })
	})
}

// act is step for one without an answer.
func act[In any](to Registry, w Watch, name string, op func(In) string, do func(context.Context, In) error) {
	register(to, name, func(ctx context.Context, in In) error {
		_, err := plain(ctx, w, op(in), func(ctx context.Context) (struct{}, error) { return struct{}{}, do(ctx, in) })
		return err
	})
}

// reporting is step for one that reports progress. Where it stalls it is cancelled, but for those that need not report: a
// server that drops a large table says nothing for long.
func reporting[In, Out any](to Registry, w Watch, name string, stalls bool, op func(In) string, do func(context.Context, In, reporter) (Out, error)) {
	register(to, name, func(ctx context.Context, in In) (Out, error) {
		return run(ctx, w, op(in), stalls, func(ctx context.Context, report reporter) (Out, error) { return do(ctx, in, report) })
	})
}

// plain runs what reports no progress.
func plain[T any](ctx context.Context, w Watch, op string, work func(context.Context) (T, error)) (T, error) {
	return run(ctx, w, op, false, func(ctx context.Context, _ reporter) (T, error) { return work(ctx) })
}

// run does the work of a step: it sends a heartbeat at each beat whether or not the step says something, so that a slow
// server does not look like a dead worker; cancels the step when it stalls or the worker stops; and translates its error.
func run[T any](ctx context.Context, w Watch, op string, stalls bool, work func(context.Context, reporter) (T, error)) (result T, err error) {
	w = w.withDefaults()
	ctx, cancel := context.WithCancelCause(ctx)
	p := &pump{watch: w, op: op, moved: time.Now(), stalls: stalls, latest: remora.Progress{Phase: op, Since: time.Now().UTC()}}
	var pumping sync.WaitGroup
	done := make(chan struct{})
	pumping.Go(func() { p.run(ctx, done, cancel) })
	result, err = guarded(ctx, w, op, p.report, work)
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
func guarded[T any](ctx context.Context, w Watch, op string, report reporter, work func(context.Context, reporter) (T, error)) (result T, err error) {
	defer func() {
		if broken := recover(); broken != nil {
			w.Log.ErrorContext(ctx, "a step panicked", "step", op, "stack", string(debug.Stack()))
			err = remora.Fail(remora.Internal, op, "", "This is a bug in Remora; the worker's log has the details.", "panic: %v", broken)
		}
	}()
	if w.Gate != nil {
		if err := w.Gate(ctx); err != nil {
			return result, err
		}
	}
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
