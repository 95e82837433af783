package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/internal/remora"
)

// planLimit and previewLimit end a plan that nobody answers: it changes nothing, so there is nothing to undo. A preview
// reads all that is live.
const (
	planLimit    = 10 * time.Minute
	previewLimit = 26 * time.Hour
)

// Plan asks what a restore would do, without doing it. tell may be nil; it hears when no worker answers. When ctx ends,
// the plan does: nobody waits for it any more.
func (c *Control) Plan(ctx context.Context, req remora.PlanRequest, tell func(Update)) (remora.Plan, error) {
	const op = "plan the restore"
	limit := previewLimit
	if !req.Preview { // which reads, whatever else goes on
		limit = planLimit
		if err := c.free(ctx, op, req.Source, tell); err != nil {
			return remora.Plan{}, err
		}
	}
	run, err := c.start(ctx, start{
		op: op, source: req.Source, workflow: remora.PlanWorkflow, request: req, kind: "plan",
		id:      fmt.Sprintf("plan/%s/%d", req.Source, c.cfg.Now().UnixNano()),
		summary: "plan a restore of " + req.Source + " from " + req.Backup, limit: limit,
	})
	if err != nil {
		return remora.Plan{}, err
	}
	ended, err := c.Follow(ctx, run, tell)
	if ctx.Err() != nil {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		return remora.Plan{}, errors.Join(err, c.client.CancelWorkflow(late, run.ID, run.RunID))
	}
	if err != nil {
		return remora.Plan{}, err
	}
	if asked, planned := fmt.Sprint(req.Selection), fmt.Sprint(ended.Plan.Selection); asked != planned { // it would restore in place, all of it
		return remora.Plan{}, remora.Fail(remora.Unsupported, op, req.Source, "upgrade the worker, and try again", "the worker is of an earlier version, which does not know all of --table, --path and --to")
	}
	ended.Plan.Times = c.timed(ctx, *ended.Plan)
	return *ended.Plan, nil
}

// free takes over what a restore left that nobody looks after, and refuses where another one would be refused anyway.
func (c *Control) free(ctx context.Context, op, source string, tell func(Update)) error {
	now, err := c.stateOf(ctx, op, source)
	if err != nil {
		return err
	}
	left, err := c.lost(ctx, now)
	if err != nil {
		return err
	}
	if left != nil { // it would stand in the way
		if _, _, err := c.adopt(ctx, op, source, tell); err != nil && remora.KindOf(err) != remora.NotFound {
			return err
		}
		if now, err = c.stateOf(ctx, op, source); err != nil {
			return err
		}
	}
	return c.taken(op, remora.RestoreLane(source), now)
}

// Restore starts a restore and returns as soon as it is accepted. While another restore of the source runs, or its
// undo window is open, the Problem is of kind Busy and says what to do first.
func (c *Control) Restore(ctx context.Context, req remora.RestoreRequest) (Run, error) {
	const op = "start a restore"
	if err := checkSource(op, req.Source); err != nil {
		return Run{}, err
	}
	req.RequestedBy = c.cfg.Actor
	return c.start(ctx, start{
		op: op, source: req.Source, id: remora.RestoreLane(req.Source), workflow: remora.RestoreWorkflow, request: req,
		kind: "restore", summary: "restore " + req.Source + " from " + req.Backup,
	})
}

// recordOf is what an open restore last recorded of itself; zero before it has.
func (c *Control) recordOf(ctx context.Context, l look) (remora.Restore, error) {
	f := c.newFollower(Run{ID: l.id, RunID: l.runID}, nil)
	err := f.read(ctx, f.watched[0])
	if err != nil || f.record == nil {
		return remora.Restore{}, err
	}
	return *f.record, nil
}

// Rollback makes the other side of a source's open restore live: what was replaced, or, after a rollback, what was
// restored. tell may be nil.
func (c *Control) Rollback(ctx context.Context, source string, tell func(Update)) (remora.Restore, error) {
	return c.endOrTurn(ctx, "roll back", remora.RollbackUpdate, source, nil, tell)
}

// Accept ends the undo window of a source's open restore: what is live stays, and what was put away is removed once a
// verified backup holds it. It returns when that is done. tell may be nil.
func (c *Control) Accept(ctx context.Context, source string, tell func(Update)) (remora.Restore, error) {
	return c.endOrTurn(ctx, "accept", remora.AcceptUpdate, source, nil, tell)
}

// Extend lengthens the undo window of a source's open restore to what until makes of its present end. It returns when the
// journals beside the data know of it, which waits for a running backup to end. tell may be nil.
func (c *Control) Extend(ctx context.Context, source string, until func(time.Time) time.Time, tell func(Update)) (remora.Restore, error) {
	return c.endOrTurn(ctx, "extend", remora.ExtendUpdate, source, until, tell)
}

func (c *Control) endOrTurn(ctx context.Context, op, update, source string, until func(time.Time) time.Time, tell func(Update)) (remora.Restore, error) {
	s, err := c.stateOf(ctx, op, source)
	if err != nil {
		return remora.Restore{}, err
	}
	run, record, end := s.restore.run(source), remora.Restore{}, s.record.KeepUntil
	if !s.restore.open {
		var was remora.Outcome
		record, run, was, err = c.takeOver(ctx, op, s, tell)
		back := update == remora.RollbackUpdate && record.Outcome == remora.OutcomeUndone && was != remora.OutcomeUndone
		if err != nil || back || !record.Outcome.Open() { // to go back is what was asked for, and it has been done
			return record, err
		}
		end, record = record.KeepUntil, remora.Restore{} // which the answer fills
	}
	wish := remora.WishInput{RequestedBy: c.cfg.Actor}
	if until != nil {
		wish.Until = until(end)
	}
	if err := c.update(ctx, run, update, wish, &record, tell); err != nil {
		return remora.Restore{}, c.updateProblem(ctx, op, source, err)
	}
	if update == remora.AcceptUpdate {
		// The window is over when the restore is: what was put away has been saved and removed by then.
		err = c.newFollower(run, nil).outcome(ctx, run, nil)
	}
	return record, err
}

// takeOver adopts what a source's last restore left, for somebody who wants to end or turn it. Without a sign of one a
// worker is asked only where there is one: the journals beside the data may know more than the repository. was is how the
// restore stood as far as anybody knew.
func (c *Control) takeOver(ctx context.Context, op string, s state, tell func(Update)) (record remora.Restore, run Run, was remora.Outcome, err error) {
	none := noOpenRestore(op, s.source, "no restore of it has an open undo window")
	if ended := c.lastEnded(ctx, s); !ended.IsZero() { // the newest run may be one that found nothing to take over
		none = noOpenRestore(op, s.source, "its last restore is over since "+ended.Local().Format("2006-01-02 15:04:05"))
	}
	left, err := c.lost(ctx, s)
	switch {
	case err != nil:
		return record, run, was, err
	case left != nil:
		was = left.Outcome
	case !c.HasWorker(ctx):
		return record, run, was, none
	default:
		tell = nil // there may be nothing to tell of
	}
	record, run, err = c.adopt(ctx, op, s.source, tell)
	if remora.KindOf(err) == remora.NotFound {
		err = none
	}
	return record, run, was, err
}

// lastEnded is when the newest restore of a source ended; zero where it has not, or there is none.
func (c *Control) lastEnded(ctx context.Context, s state) (at time.Time) {
	if c.repository == nil {
		return s.restore.closed
	}
	all, err := c.repository.Restores(ctx, s.source)
	if err == nil && len(all) > 0 {
		at = all[0].Ended
	}
	return at
}

func noOpenRestore(op, source, why string) error {
	return notFound(op, source, why, "`remora restores "+source+"` tells how its restores ended, and which backups hold what they put away")
}

// update sends an update to a workflow and waits for its answer, while telling what the workflow does meanwhile.
func (c *Control) update(ctx context.Context, run Run, name string, wish remora.WishInput, answer any, tell func(Update)) error {
	f := c.newFollower(run, nil)
	_, _ = f.round(ctx) // what happened before is not news, and what cannot be told hinders nothing
	if tell != nil {
		f.say = tell
	}
	answered := make(chan error, 1)
	go func() { answered <- c.ask(ctx, run, name, wish, answer) }()
	for {
		select {
		case err := <-answered:
			_, _ = f.round(ctx) // what happened since the last look is still news
			return err
		case <-time.After(c.cfg.Poll):
			_, _ = f.round(ctx)
		}
	}
}

func (c *Control) ask(ctx context.Context, run Run, name string, wish remora.WishInput, answer any) error {
	handle, err := c.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: run.ID, RunID: run.RunID, UpdateName: name, WaitForStage: client.WorkflowUpdateStageAccepted,
		Args: []any{wish},
	})
	if err != nil {
		return err
	}
	return handle.Get(ctx, answer)
}

// updateProblem says why an update came to nothing.
func (c *Control) updateProblem(ctx context.Context, op, source string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.As(err, new(*serviceerror.NotFound)) {
		return noOpenRestore(op, source, "the restore has just ended")
	}
	if strings.Contains(err.Error(), "unknown update") {
		return remora.Fail(remora.Unsupported, op, source, "upgrade the worker, and try again", "the worker is of an earlier version, which cannot do that")
	}
	if carried(err) == nil && away(err) {
		return c.unreachable(err)
	}
	return asProblem(op, err)
}

// lost is the newest restore of a source that is not settled while no workflow looks after it, because that was
// terminated or Temporal was lost; nil when there is none.
func (c *Control) lost(ctx context.Context, s state) (*remora.Restore, error) {
	if s.restore.open || c.repository == nil {
		return nil, nil //nolint:nilnil // no restore, no error: the comment says so
	}
	all, err := c.repository.Restores(ctx, s.source)
	for _, r := range all {
		if r.Outcome.Unsettled() {
			return &r, nil
		}
	}
	return nil, err
}

// adopt has a restore that nobody looks after any more taken over (S20). It returns when its undo window is open, or when
// nothing of it is left; the Problem is of kind NotFound when there is none.
func (c *Control) adopt(ctx context.Context, op, source string, tell func(Update)) (remora.Restore, Run, error) {
	if tell != nil {
		tell(Update{Event: Noticed, At: c.cfg.Now(), Message: "no workflow looks after the last restore of " + source + "; taking it over"})
	}
	run, err := c.start(ctx, start{
		op: op, source: source, id: remora.RestoreLane(source), workflow: remora.RestoreWorkflow, kind: "restore",
		request: remora.RestoreRequest{PlanRequest: remora.PlanRequest{Source: source}, RequestedBy: c.cfg.Actor, Adopt: true},
		summary: "take over the restore of " + source,
	})
	if err != nil {
		return remora.Restore{}, run, err
	}
	ended, err := c.Follow(ctx, run, tell)
	if err != nil || ended.Restore == nil {
		return remora.Restore{}, run, err
	}
	return *ended.Restore, run, nil
}
