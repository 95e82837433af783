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
	return c.running(source, l), nil
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

// Cancel asks what runs on a source to stop, and says which run that is. Stopping takes a moment: what has begun is
// undone first. The undo window of a restore is not cancelled; the Problem says what to do instead.
func (c *Control) Cancel(ctx context.Context, source string) (Running, error) {
	const op = "cancel"
	if err := checkSource(op, source); err != nil {
		return Running{}, err
	}
	if err := c.Reach(ctx); err != nil {
		return Running{}, err
	}
	l, err := c.active(ctx, source)
	if errors.Is(err, errNoRun) {
		return Running{}, c.nothingToCancel(ctx, op, source)
	}
	if err != nil {
		return Running{}, c.asked(op, source, err)
	}
	r := c.running(source, c.childOf(ctx, l))
	switch l.workflow {
	case remora.TurnWorkflow, remora.DiscardWorkflow:
		return r, &remora.Problem{
			Op: op, Kind: remora.Invalid, Subject: source,
			Hint: fmt.Sprintf("wait for it with `remora watch %s`", source),
			Err:  fmt.Errorf("%s; it is short and must not stop half-way", r.Sentence(c.cfg.Now())),
		}
	}
	if err := c.client.CancelWorkflow(ctx, l.id, l.runID); err != nil {
		return r, c.asked(op, source, err)
	}
	r.Run = Run{Source: source, Workflow: l.workflow, ID: l.id, RunID: l.runID}
	return r, nil
}

// childOf is where the progress of a top workflow is.
func (c *Control) childOf(ctx context.Context, l look) look {
	if l.workflow != remora.RestoreWorkflow {
		return l
	}
	return c.atWork(ctx, l)
}

func (c *Control) nothingToCancel(ctx context.Context, op, source string) error {
	restore, err := c.glance(ctx, remora.RestoreLane(source), "")
	if err != nil || !restore.open {
		return &remora.Problem{
			Op: op, Kind: remora.NotFound, Subject: source, Err: errors.New("nothing is running"),
			Hint: fmt.Sprintf("`remora status %s` tells how it stands", source),
		}
	}
	record, err := c.recordOf(ctx, restore)
	if err != nil || !record.Outcome.Open() {
		return &remora.Problem{Op: op, Kind: remora.Busy, Subject: source, Err: errors.New("its restore is between two steps"), Hint: "try again"}
	}
	return &remora.Problem{
		Op: op, Kind: remora.Invalid, Subject: source,
		Err:  fmt.Errorf("its restore is done and can be undone%s; there is nothing to cancel", until(record.KeepUntil)),
		Hint: fmt.Sprintf("go back with `remora rollback %[1]s`, or keep what was restored with `remora accept %[1]s`", source),
	}
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
