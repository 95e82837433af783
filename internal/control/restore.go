package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/internal/remora"
)

// planLimit ends a plan that nobody answers: it changes nothing, so there is nothing to undo.
const planLimit = 10 * time.Minute

// Plan asks what a restore would do, without doing it. tell may be nil; it hears when no worker answers.
func (c *Control) Plan(ctx context.Context, req remora.PlanRequest, tell func(Update)) (remora.Plan, error) {
	const op = "plan the restore"
	if err := checkSource(op, req.Source); err != nil {
		return remora.Plan{}, err
	}
	if err := c.refuseWhileOpen(ctx, op, req.Source); err != nil {
		return remora.Plan{}, err
	}
	run, err := c.start(ctx, start{
		op: op, source: req.Source, workflow: remora.PlanWorkflow, request: req, kind: "plan",
		id:      fmt.Sprintf("plan/%s/%d", req.Source, c.cfg.Now().UnixNano()),
		summary: "plan a restore of " + req.Source + " from " + req.Backup, limit: planLimit,
	})
	if err != nil {
		return remora.Plan{}, err
	}
	ended, err := c.Follow(ctx, run, tell)
	if err != nil {
		if ctx.Err() != nil {
			c.abandon(ctx, run)
		}
		return remora.Plan{}, err
	}
	return *ended.Plan, nil
}

// abandon cancels a run that nobody waits for any more, as far as that goes.
func (c *Control) abandon(ctx context.Context, run Run) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	_ = c.client.CancelWorkflow(ctx, run.ID, run.RunID) // it ends by itself within planLimit
}

// refuseWhileOpen refuses early, before anything is planned, what Restore would refuse anyway.
func (c *Control) refuseWhileOpen(ctx context.Context, op, source string) error {
	if err := c.Reach(ctx); err != nil {
		return err
	}
	l, err := c.glance(ctx, remora.RestoreLane(source), "")
	switch {
	case errors.Is(err, errNoRun) || err == nil && !l.open:
		return nil
	case err != nil:
		return c.asked(op, source, err)
	}
	return c.restoreBusy(ctx, op, source, l)
}

// Restore starts a restore and returns as soon as it is accepted. While another restore of the source runs, or its
// undo window is open, the Problem is of kind Busy and says what to do first.
func (c *Control) Restore(ctx context.Context, req remora.RestoreRequest) (Run, error) {
	const op = "start a restore"
	if err := checkSource(op, req.Source); err != nil {
		return Run{}, err
	}
	if err := c.refuseWhileOpen(ctx, op, req.Source); err != nil {
		return Run{}, err
	}
	req.RequestedBy = c.cfg.Actor
	run, err := c.start(ctx, start{
		op: op, source: req.Source, id: remora.RestoreLane(req.Source), workflow: remora.RestoreWorkflow, request: req,
		kind: "restore", summary: "restore " + req.Source + " from " + req.Backup,
	})
	var p *remora.Problem
	if errors.As(err, &p) && p.Kind == remora.Busy {
		return Run{}, c.refuseWhileOpen(ctx, op, req.Source)
	}
	return run, err
}

// restoreBusy tells apart a restore at work from one that waits in its undo window.
func (c *Control) restoreBusy(ctx context.Context, op, source string, l look) error {
	record, err := c.recordOf(ctx, l)
	if err != nil {
		return c.asked(op, source, err)
	}
	if !record.Outcome.Open() {
		return c.busy(start{op: op, source: source}, c.atWork(ctx, l))
	}
	return &remora.Problem{
		Op: op, Kind: remora.Busy, Subject: source,
		Hint: fmt.Sprintf("go back with `remora rollback %[1]s`, or keep what is live with `remora accept %[1]s`; then ask again", source),
		Err:  fmt.Errorf("the undo window of the restore of %s is open%s", l.started.Local().Format("2006-01-02 15:04"), until(record.KeepUntil)),
	}
}

func until(t time.Time) string {
	if t.IsZero() {
		return " until somebody ends it"
	}
	return " until " + t.Local().Format("2006-01-02 15:04")
}

// atWork is the look at a restore's child in the lane, where it has one: that is where the progress is.
func (c *Control) atWork(ctx context.Context, l look) look {
	source, _ := sourceOf(l.id)
	child, err := c.glance(ctx, remora.Lane(source), "")
	if err != nil || !child.open || child.parent != l.id {
		return l
	}
	child.workflow, child.actor, child.started = l.workflow, l.actor, l.started
	return child
}

// recordOf is what an open restore last recorded of itself; zero before it has.
func (c *Control) recordOf(ctx context.Context, l look) (remora.Restore, error) {
	f := &follower{control: c, say: func(Update) {}}
	if err := f.read(ctx, f.add(l.id, l.runID)); err != nil {
		return remora.Restore{}, err
	}
	if f.record == nil {
		return remora.Restore{}, nil
	}
	return *f.record, nil
}

// Rollback makes the other side of a source's open restore live: what was replaced, or, after a rollback, what was
// restored. tell may be nil.
func (c *Control) Rollback(ctx context.Context, source string, tell func(Update)) (remora.Restore, error) {
	return c.endOrTurn(ctx, "roll back", remora.RollbackUpdate, source, tell)
}

// Accept ends the undo window of a source's open restore: what is live stays, and what was put away is removed once a
// verified backup holds it. It returns when that is done. tell may be nil.
func (c *Control) Accept(ctx context.Context, source string, tell func(Update)) (remora.Restore, error) {
	return c.endOrTurn(ctx, "accept", remora.AcceptUpdate, source, tell)
}

func (c *Control) endOrTurn(ctx context.Context, op, update, source string, tell func(Update)) (remora.Restore, error) {
	if err := checkSource(op, source); err != nil {
		return remora.Restore{}, err
	}
	l, err := c.openRestore(ctx, op, source)
	if err != nil {
		return remora.Restore{}, err
	}
	var record remora.Restore
	err = c.update(ctx, l, update, &record, tell)
	if err != nil {
		return remora.Restore{}, c.updateProblem(ctx, op, source, err)
	}
	if update != remora.AcceptUpdate {
		return record, nil
	}
	// The window is over when the restore is: what was put away has been saved and removed by then.
	_, err = c.follow(ctx, Run{Source: source, Workflow: l.workflow, ID: l.id, RunID: l.runID}, nil, false)
	return record, err
}

// openRestore finds the restore of a source that is not over.
func (c *Control) openRestore(ctx context.Context, op, source string) (look, error) {
	if err := c.Reach(ctx); err != nil {
		return look{}, err
	}
	l, err := c.glance(ctx, remora.RestoreLane(source), "")
	switch {
	case errors.Is(err, errNoRun):
		return look{}, noOpenRestore(op, source, "no restore of it has an open undo window")
	case err != nil:
		return look{}, c.asked(op, source, err)
	case !l.open:
		return look{}, noOpenRestore(op, source, fmt.Sprintf("its last restore is over since %s", l.closed.Local().Format("2006-01-02 15:04:05")))
	}
	return l, nil
}

func noOpenRestore(op, source, why string) error {
	return &remora.Problem{
		Op: op, Kind: remora.NotFound, Subject: source, Err: errors.New(why),
		Hint: fmt.Sprintf("`remora restores %s` tells how its restores ended, and which backups hold what they put away", source),
	}
}

// update sends an update to a workflow and waits for its answer, while telling what the workflow does meanwhile.
func (c *Control) update(ctx context.Context, l look, name string, answer any, tell func(Update)) error {
	answered, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		c.tellFromNow(ctx, l, answered, tell)
	}()
	err := c.ask(ctx, l, name, answer)
	close(answered)
	<-told
	return err
}

func (c *Control) ask(ctx context.Context, l look, name string, answer any) error {
	handle, err := c.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: l.id, RunID: l.runID, UpdateName: name,
		WaitForStage: client.WorkflowUpdateStageAccepted,
	})
	if err != nil {
		return err
	}
	return handle.Get(ctx, answer)
}

// tellFromNow tells what happens in a run from now on, until its answer has come.
func (c *Control) tellFromNow(ctx context.Context, l look, answered <-chan struct{}, tell func(Update)) {
	if tell == nil {
		return
	}
	f := &follower{control: c, say: func(Update) {}}
	if f.read(ctx, f.add(l.id, l.runID)) != nil {
		return
	}
	for _, child := range f.watched[1:] { // whatever it did before is not news
		if l, err := c.glance(ctx, child.id, child.runID); err == nil {
			child.over = !l.open
		}
	}
	f.say = tell
	for last := false; ; {
		over, err := f.round(ctx)
		if over || last || err != nil {
			return
		}
		select {
		case <-answered:
			last = true // what happened since the last look is still news
		case <-time.After(c.cfg.Poll):
		case <-ctx.Done():
			return
		}
	}
}

// updateProblem says why an update came to nothing.
func (c *Control) updateProblem(ctx context.Context, op, source string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var gone *serviceerror.NotFound
	if errors.As(err, &gone) {
		return noOpenRestore(op, source, "the restore has just ended")
	}
	if p := carried(err); p != nil {
		return p
	}
	if away(err) {
		return c.unreachable(err)
	}
	return asProblem(op, err)
}
