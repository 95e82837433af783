package workflows

import (
	"cmp"
	"slices"
	"strings"

	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// Drill proves, in the lane of its source, that a backup can be brought back: it is staged and compared as for a restore,
// asked the checks of the source, and removed. What is live is not touched. An error of kind Corrupt means that the backup
// does not come back as it should; any other means that nobody knows.
func Drill(ctx workflow.Context, req remora.DrillRequest) (remora.Proof, error) {
	info := workflow.GetInfo(ctx)
	run := firstRun(info)
	op, err := begin(ctx, "drill", req.Source, remora.DrillRun(run), req.RequestedBy)
	if err != nil {
		return remora.Proof{}, err
	}
	p := remora.Proof{
		ID: remora.DrillID(req.Source, run, info.WorkflowStartTime), Run: op.run, Source: req.Source, Backup: req.Backup,
		RequestedBy: req.RequestedBy, Slot: req.Slot, Started: info.WorkflowStartTime,
	}
	if len(req.Settle) > 0 {
		return p, op.copied(ctx, "remove what a drill of "+req.Source+" left", op.removeDrilled(ctx, req.Settle))
	}
	began := workflow.Now(ctx)
	built, err := op.prove(ctx, req, &p)
	p.Took, p.Phases = workflow.Now(ctx).Sub(began), op.told.done

	cancelled := ctx
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	if left := op.removeDrilled(ctx, built); left != nil { // no reason to keep others from the source
		workflow.GetLogger(ctx).Warn("what a drill built was not removed", "error", left)
		p.Warnings = append(p.Warnings, "what it built is still there, until the monitor can remove it: "+problemOf("remove it", left).Error())
	}
	if err != nil && cancelled.Err() != nil && problemOf("drill", err).Kind == remora.Cancelled {
		conclude(ctx, "cancelled", "cancelled; nothing is proven")
		return p, err
	}
	return p, op.proven(ctx, &p, err)
}

// prove is the story of a drill. It gives what it may have built, also where it fails.
func (op *operation) prove(ctx workflow.Context, req remora.DrillRequest, p *remora.Proof) (built []remora.Leftover, err error) {
	var b remora.Backup
	err = op.phase(ctx, "look up the backup", func() (_ *remora.Summary, err error) {
		b, err = op.describe(ctx, cmp.Or(req.Backup, "latest"), "")
		op.from = b.Location
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	p.Backup = b.ID
	kinds, err := restorable(b, remora.PlanRequest{Source: op.source})
	if err != nil {
		return nil, err
	}
	for _, kind := range kinds {
		err := op.phase(ctx, words(kind, remora.PreflightVerb, op.source), func() (*remora.Summary, error) {
			_, err := op.preflight(ctx, kind, b.ID)
			return nil, err
		})
		if err != nil {
			return nil, err
		}
	}
	for _, kind := range kinds {
		built = append(built, remora.Leftover{Kind: kind, Run: op.run}) // before the step: it may happen by half
		noticed, err := op.stageAndCompare(ctx, kind, b.ID)
		if err != nil {
			return built, err
		}
		p.Warnings = append(p.Warnings, noticed...)
		read := op.told.done[len(op.told.done)-1].Summary
		p.Bytes += read.Bytes
		if kind == remora.Database {
			p.Rows = read.Entries
		} else {
			p.Files = read.Entries
		}
	}
	if !slices.Contains(kinds, remora.Database) {
		return built, nil
	}
	check := "check staged database of " + op.source
	return built, op.phase(ctx, check, func() (*remora.Summary, error) {
		checked, err := take[remora.ChecksResult](ctx, op.short, step{remora.ChecksActivity, remora.Queue, check}, remora.ChecksInput{Source: op.source, Run: op.run})
		p.Checks = checked.Passed
		p.Warnings = append(p.Warnings, checked.Warnings...)
		if err == nil && len(checked.Failed) > 0 {
			err = remora.Fail(remora.Corrupt, check, "backup "+b.ID, "Correct the check, or prove another backup: remora drill "+op.source+" --backup BACKUP", "%s", strings.Join(checked.Failed, "; "))
		}
		return nil, err
	})
}

// removeDrilled removes what drills have built, as far as it can.
func (op *operation) removeDrilled(ctx workflow.Context, built []remora.Leftover) (err error) {
	for _, b := range built {
		drill := *op
		drill.run = b.Run
		_, failed := of[nothing](ctx, &drill, b.Kind, remora.DiscardVerb, "remove what a drill built of the "+string(b.Kind)+" of "+op.source, remora.ComponentInput{})
		err = cmp.Or(err, failed)
	}
	return err
}

// proven records what a drill came to, has people told where it is no proof, and gives the error to end with. What is not as
// it should be tells of the backup, anything else of the drill alone.
func (op *operation) proven(ctx workflow.Context, p *remora.Proof, err error) error {
	record := func() (*remora.Summary, error) {
		_, err := take[nothing](ctx, op.short, step{remora.RecordProofActivity, remora.Queue, "record: " + string(p.Outcome)}, *p)
		return nil, err
	}
	p.Ended, p.Outcome = workflow.Now(ctx), remora.Proven
	if err == nil {
		err = op.phase(ctx, "record the proof", record)
	}
	if err == nil {
		conclude(ctx, string(p.Outcome), "proven: "+p.Backup+", in "+remora.Timed(p.Took))
		return nil
	}
	problem := problemOf("drill "+op.source, err)
	event, how := remora.DrillError, "it could not be made"
	if p.Outcome = remora.DrillNotMade; problem.Kind == remora.Corrupt {
		p.Outcome, event, how = remora.DrillFailing, remora.DrillFailed, "it failed"
	}
	p.Phase, p.Problem, p.Hint = op.told.phase, problem.Error(), problem.Text().Hint
	if _, err := record(); err != nil {
		workflow.GetLogger(ctx).Warn("what a drill came to was not recorded", "error", err)
	}
	conclude(ctx, string(p.Outcome), how+": "+p.Problem)
	op.tell(ctx, remora.Notice{
		Event: event, Subject: p.ID, Backup: p.Backup, By: op.actor, Started: p.Started, Phase: p.Phase, Problem: p.Problem, Hint: p.Hint, Warnings: p.Warnings,
	})
	return failure(remora.Fail(problem.Kind, "drill "+op.source, "", p.Hint, how+": %w", problem))
}
