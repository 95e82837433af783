package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// Adopt finds out, in the lane of its source, how a restore stands that nobody looks after any more, because its
// workflow was terminated or Temporal was lost (S20). The journals beside the data outrank all else (S4): what was only
// staged is discarded, what lies between is brought back, and what is wholly on one side stays there. Maintenance is
// left. An error means that a person has to look, and may ask again.
func Adopt(ctx workflow.Context, req remora.AdoptRequest) (remora.Adopted, error) {
	op, err := begin(ctx, "adopt", req.Source, req.Run, req.RequestedBy)
	if err != nil {
		return remora.Adopted{}, err
	}
	if err := op.person.listen(ctx); err != nil {
		return remora.Adopted{}, err
	}
	ctx, _ = workflow.NewDisconnectedContext(ctx) // it takes seconds, and half of it would be worse
	adopted, err := op.backwards().adopt(ctx)
	if err != nil {
		p := problemOf("take over the restore of "+req.Source, err)
		conclude(ctx, string(remora.Failed), "not taken over: "+p.Error())
		return adopted, failure(p)
	}
	conclude(ctx, string(remora.Completed), "taken over: "+string(adopted.Record.Outcome))
	return adopted, nil
}

// adopt is the story of an adoption.
func (op *operation) adopt(ctx workflow.Context) (a remora.Adopted, err error) {
	began := workflow.Now(ctx)
	left, err := op.leftBehind(ctx)
	if err != nil {
		return a, err
	}
	if len(left) > 0 {
		op.run = left[0].Run
	}
	r, err := op.findRestore(ctx, op.run)
	if err != nil {
		return a, err
	}
	if len(left) == 0 && !r.Outcome.Unsettled() {
		return a, remora.Fail(remora.NotFound, "take over a restore", op.source,
			"`remora restores "+op.source+"` lists its restores", "none of it waits to be settled")
	}
	if r.ID == "" { // the journal alone knows it
		r = remora.Restore{
			ID: remora.RestoreID(op.source, op.run, left[0].Since), Run: op.run, Source: op.source, RequestedBy: op.actor, Started: left[0].Since,
		}
	}
	if len(left) > 0 && left[0].To != "" { // the journal knows, where the record is lost
		r.To = left[0].To
	}
	op.run, op.restore, op.selection = r.Run, r.ID, r.Selection
	if len(left) == 0 && r.Place() == remora.Files { // its journal lies beside it
		if left, err = op.leftBehind(ctx); err != nil {
			return a, err
		}
	}

	var kinds []remora.Kind
	var restored, switched int
	for _, l := range left {
		kinds = append(kinds, l.Kind)
		a.Seq = max(a.Seq, l.Seq)
		r.KeepUntil = later(r.KeepUntil, l.KeepUntil)
		if l.Switched {
			switched++
		}
		if l.Live == remora.Restored {
			restored++
		}
	}
	// Where a component was switched and another is gone, the end of the window had begun to discard.
	ending := switched > 0 && len(left) < len(r.Kinds) && r.Outcome.Open()
	was := r.Live
	r.Live, r.Problem = remora.Restored, ""
	fences := fences(ctx)
	if restored < len(left) && !ending { // until everything is on the restored side, the way is back (S4)
		r.Live = remora.Replaced
		enter := op.enterMaintenance
		if workflow.GetVersion(ctx, "go back in maintenance", workflow.DefaultVersion, 1) > workflow.DefaultVersion {
			enter = op.offlineFirst
		}
		if restored > 0 {
			if err := enter(ctx); err != nil {
				return a, err
			}
		}
		if !fences {
			if err := op.goBack(ctx, kinds); err != nil {
				return a, err
			}
			a.Seq++
		}
	}
	if fences && !ending {
		a.Seq += unheard
		if err := op.settleOn(ctx, left, a.Seq, r.Live); err != nil {
			return a, err
		}
	}
	if switched > 0 && r.To == "" && !ending && r.Live != was {
		if err := op.lookAndReset(ctx); err != nil {
			return a, err
		}
		r.Warnings = op.told.warnings
	}
	if err := op.leaveMaintenance(ctx); err != nil {
		return a, err
	}
	a.Seq++

	r.Hint = "Its workflow was lost; " + op.actor + " has taken it over."
	if len(r.Phases) == 0 {
		r.Hint += " How long its steps took is not known."
	}
	r.Phases = append(r.Phases, lasted(ctx, "take over", began, op.actor))
	op.findSafety(ctx, &r)
	switch {
	case r.To != "" && restored > 0:
		r.Outcome, r.Live = remora.OutcomeCopied, ""
	case r.To != "":
		r.Outcome, r.Live, r.Problem = remora.OutcomeRolledBack, "", "its workflow was terminated; nothing live was touched, and the "+r.Where()+" is there as a whole or not at all"
	case switched == 0 && (len(left) > 0 || r.Outcome == remora.OutcomeRunning):
		r.Outcome, r.Live, r.Problem = remora.OutcomeRolledBack, "", "its workflow was terminated before the switch; the source is as it was before"
	case switched == 0 || ending:
		r.Outcome = remora.OutcomeAccepted
	case r.Live == remora.Replaced:
		r.Outcome = remora.OutcomeUndone
	default:
		r.Outcome = remora.OutcomeApplied
	}
	if r.Outcome.Open() {
		r.Kinds = kinds
	} else {
		held, err := op.putAway(ctx, kinds, workflow.GetInfo(ctx).WorkflowStartTime, nil)
		if err != nil {
			return a, err
		}
		if r.Ended = workflow.Now(ctx); held != "" {
			r.PutAwayBackup = held
		}
	}
	a.Record = r
	return a, nil
}

// findSafety names the safety backup in the record of a restore that was lost, and so could not say what it had taken.
func (op *operation) findSafety(ctx workflow.Context, r *remora.Restore) {
	if r.SafetyBackup != "" || workflow.GetVersion(ctx, "a lost restore finds its safety backup", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return
	}
	taken, err := take[remora.Backup](ctx, bestEffort, step{remora.DescribeActivity, remora.Queue, "look for its safety backup"},
		remora.DescribeInput{Source: op.source, Backup: remora.BackupID(op.source, op.run, "safety", r.Started)})
	if err == nil && taken.Status == remora.Completed {
		r.SafetyBackup = taken.ID
	}
}

// leftBehind is what the journals beside the data know of one restore of the source: of op.run, or whichever they know.
func (op *operation) leftBehind(ctx workflow.Context) (left []remora.Leftover, err error) {
	run := op.run
	for _, kind := range []remora.Kind{remora.Database, remora.Files} {
		all, err := op.leftovers(ctx, kind)
		if err != nil {
			return nil, err
		}
		for _, l := range all {
			if l.Source == op.source && !l.Foreign && (run == "" || l.Run == run) && !remora.IsDrill(l.Run) {
				run = l.Run
				left = append(left, l)
				break
			}
		}
	}
	return left, nil
}
