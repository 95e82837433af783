package control

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/remora-backup/remora/internal/remora"
)

// sourceOf is the source of a lane's workflow id.
func sourceOf(id string) (string, bool) {
	_, source, ok := strings.Cut(id, "/")
	return source, ok
}

// Active is what runs on a source now: what holds its lane, or the restore around that. An idle source, and one whose
// restore only waits in its undo window, gives a Problem of kind NotFound.
func (c *Control) Active(ctx context.Context, source string) (Running, error) {
	const op = "look for what is running"
	if err := checkSource(op, source); err != nil {
		return Running{}, err
	}
	if err := c.Reach(ctx); err != nil {
		return Running{}, err
	}
	l, err := c.active(ctx, source)
	if errors.Is(err, errNoRun) {
		return Running{}, &remora.Problem{Op: op, Kind: remora.NotFound, Subject: source, Err: errors.New("nothing is running")}
	}
	if err != nil {
		return Running{}, c.asked(op, source, err)
	}
	return c.runningTop(ctx, source, l), nil
}

// runningTop is a top workflow as it stands, with the progress of its child.
func (c *Control) runningTop(ctx context.Context, source string, l look) Running {
	r := c.running(source, c.childOf(ctx, l))
	r.Run = Run{Source: source, Workflow: l.workflow, ID: l.id, RunID: l.runID}
	return r
}

// active finds the top workflow that works on a source now; errNoRun when there is none.
func (c *Control) active(ctx context.Context, source string) (look, error) {
	lane, err := c.glance(ctx, remora.Lane(source), "")
	if err != nil && !errors.Is(err, errNoRun) {
		return look{}, err
	}
	if err == nil && lane.open && lane.workflow != remora.ApplyWorkflow {
		return lane, nil
	}
	restore, err := c.glance(ctx, remora.RestoreLane(source), "")
	if err != nil {
		return look{}, err
	}
	if !restore.open {
		return look{}, errNoRun
	}
	if restore.id == lane.parent && lane.open {
		return restore, nil
	}
	record, err := c.recordOf(ctx, restore)
	switch {
	case err != nil:
		return look{}, err
	case record.Outcome.Open() && len(restore.steps) == 0:
		return look{}, errNoRun // it waits
	}
	return restore, nil
}

// Cancelled is the answer to a Cancel.
type Cancelled struct {
	// Running is what was asked to stop; nil when there was nothing to stop.
	Running *Running
	// Message says it, or why there was nothing to stop.
	Message string
}

// Cancel asks what runs on a source to stop. Stopping takes a moment: what has begun is undone first. An idle source
// is no error, and the undo window of a restore is not cancelled: Message says so, and what to do instead.
func (c *Control) Cancel(ctx context.Context, source string) (Cancelled, error) {
	const op = "cancel"
	if err := checkSource(op, source); err != nil {
		return Cancelled{}, err
	}
	if err := c.Reach(ctx); err != nil {
		return Cancelled{}, err
	}
	l, err := c.active(ctx, source)
	if errors.Is(err, errNoRun) {
		return c.nothingToCancel(ctx, op, source)
	}
	if err != nil {
		return Cancelled{}, c.asked(op, source, err)
	}
	r := c.runningTop(ctx, source, l)
	switch l.workflow {
	case remora.TurnWorkflow, remora.DiscardWorkflow:
		return Cancelled{}, &remora.Problem{
			Op: op, Kind: remora.Busy, Subject: source,
			Hint: fmt.Sprintf("wait for it with `remora watch %s`", source),
			Err:  fmt.Errorf("%s; it must not stop half-way", r.Sentence(c.cfg.Now())),
		}
	}
	if err := c.client.CancelWorkflow(ctx, l.id, l.runID); err != nil {
		return Cancelled{}, c.asked(op, source, err)
	}
	return Cancelled{
		Running: &r,
		Message: fmt.Sprintf("Asked to stop: %s. Follow its end: remora watch %s", r.Sentence(c.cfg.Now()), source),
	}, nil
}

// childOf is where the progress of a top workflow is.
func (c *Control) childOf(ctx context.Context, l look) look {
	if l.workflow != remora.RestoreWorkflow {
		return l
	}
	return c.atWork(ctx, l)
}

func (c *Control) nothingToCancel(ctx context.Context, op, source string) (Cancelled, error) {
	idle := Cancelled{Message: fmt.Sprintf("Nothing is running on %s.", source)}
	restore, err := c.glance(ctx, remora.RestoreLane(source), "")
	if errors.Is(err, errNoRun) || err == nil && !restore.open {
		return idle, nil
	}
	if err != nil {
		return Cancelled{}, c.asked(op, source, err)
	}
	record, err := c.recordOf(ctx, restore)
	if err != nil {
		return Cancelled{}, c.asked(op, source, err)
	}
	idle.Message += fmt.Sprintf(" Its restore is done and can be undone%s: go back with `remora rollback %[2]s`, or keep what is live with `remora accept %[2]s`.",
		until(record.KeepUntil), source)
	return idle, nil
}

// Watch waits until something runs on a source and says what. waiting is called once when nothing runs yet.
func (c *Control) Watch(ctx context.Context, source string, waiting func()) (Running, error) {
	for {
		r, err := c.Active(ctx, source)
		if remora.KindOf(err) != remora.NotFound || checkSource("watch", source) != nil {
			return r, err
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		if err := pause(ctx, c.cfg.Poll); err != nil {
			return Running{}, err
		}
	}
}
