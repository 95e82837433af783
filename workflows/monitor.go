package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// Monitor looks once how everything is: it records what left no record, has restores taken over that nobody looks after,
// and tells people what is wrong, what is wrong still, and what is over. It undoes nothing and waits for nothing. It
// remembers by the record in the repository, and where that is away by its own last result, which its schedule hands on.
func Monitor(ctx workflow.Context) (remora.MonitorState, error) {
	op := &operation{actor: remora.MonitorActor, run: firstRun(workflow.GetInfo(ctx)), told: &told{}, person: &person{}}
	var in remora.LookInput
	if workflow.HasLastCompletionResult(ctx) {
		if err := workflow.GetLastCompletionResult(ctx, &in.Before); err != nil {
			workflow.GetLogger(ctx).Warn("the last result is of no use", "error", err)
		}
	}
	found, err := take[remora.LookResult](ctx, lookAround, step{remora.LookAroundActivity, remora.Queue, "look how everything is"}, in)
	if err != nil {
		p := problemOf("look how everything is", err)
		return in.Before, failure(p)
	}
	recorded := true
	for _, missing := range found.Missing {
		recorded = op.recordRun(ctx, bestEffort, missing) && recorded
	}
	if recorded && len(found.Accounted) > 0 { // only what has a record is accounted for
		found.State.Accounted = found.Accounted
	}
	for _, source := range found.Lost {
		op.takeOver(ctx, source)
	}
	for _, d := range found.Drilled {
		letGo(child(ctx, remora.Lane(d.Source), "remove what a drill of "+d.Source+" left", abandoned), remora.DrillWorkflow, d)
	}
	if found.Write { // before people are told: whoever looks next must know that they were
		_, err := take[nothing](ctx, bestEffort, step{remora.RecordMonitorActivity, remora.Queue, "remember it"}, found.State)
		if err != nil {
			workflow.GetLogger(ctx).Warn("what the monitor remembers was not recorded", "error", err)
		}
	}
	for _, n := range found.Notices {
		op.notify(ctx, n)
	}
	found.State.Sizes, found.State.Accounted = nil, nil // the repository has them
	return found.State, nil
}

// lookAround must be quick: the next look comes in a few minutes.
func lookAround() workflow.ActivityOptions {
	return bounded(4*time.Minute, 2, time.Second)
}

// takeOver has a restore taken over that no workflow looks after, and does not wait: that may last until its undo window
// ends.
func (op *operation) takeOver(ctx workflow.Context, source string) {
	letGo(child(ctx, remora.RestoreLane(source), "take over the restore of "+source, abandoned), remora.RestoreWorkflow,
		remora.RestoreRequest{PlanRequest: remora.PlanRequest{Source: source}, RequestedBy: op.actor, Adopt: true})
}
