package workflows

import (
	"cmp"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// deletePage is how many backups one step deletes.
const deletePage = 50

// Retention deletes what need not be kept in the repository, or in a copy, and gives its space back. Its id sees to it
// that there is one at a time: started under another id, as schedules do, it runs itself as a child under the right one,
// and where another one is at work already it has nothing to do.
//
// What a plan must not delete without a person's word stays, and makes the end a failure that people are told of; the
// rest of the plan is carried out all the same.
func Retention(ctx workflow.Context, req remora.RetentionRequest) (done remora.RetentionResult, err error) {
	info := workflow.GetInfo(ctx)
	op, err := beginAny(ctx, "retention", req.Source, firstRun(info), req.RequestedBy)
	if err != nil {
		return done, err
	}
	if info.WorkflowExecution.ID == remora.RepositoryLane(req.Copy) {
		done, err = op.retention(ctx, req)
	} else {
		err = op.inRepositoryLane(ctx, req, &done)
	}
	return done, op.copied(ctx, "delete what need not be kept", err)
}

func (op *operation) retention(ctx workflow.Context, req remora.RetentionRequest) (remora.RetentionResult, error) {
	done := remora.RetentionResult{Copy: req.Copy}
	planned, err := take[remora.Planned](ctx, op.long, step{remora.PlanRetentionActivity, remora.Queue, "decide what to keep"}, req)
	if err != nil {
		return done, err
	}
	done.Kept = planned.Keep
	for from := 0; from < planned.Delete; from += deletePage {
		page, err := take[remora.DeletedPage](ctx, op.long, step{remora.DeleteBackupsActivity, remora.Queue, "delete backups"},
			remora.DeleteInput{Copy: req.Copy, Hash: planned.Hash, From: from, Limit: deletePage})
		if err != nil {
			return done, err
		}
		done.Deleted += page.Deleted
	}
	done.Spared = planned.Delete - done.Deleted
	back := remora.ReclaimInput{Copy: req.Copy, Run: op.run}
	if done.Deleted > 0 { // in proportion, where something was spared
		back.Bytes = planned.Bytes / int64(planned.Delete) * int64(done.Deleted)
	}
	reclaimed, err := take[remora.RetentionResult](ctx, op.long, step{remora.ReclaimActivity, remora.Queue, "reclaim space"}, back)
	done.Freed, done.Later, done.Owed = reclaimed.Freed, reclaimed.Later, reclaimed.Owed
	if err == nil && len(planned.Refused) > 0 {
		err = op.dangerous(ctx, req, planned)
	}
	return done, err
}

// dangerous is the end of a plan that needs a person's word, and tells people.
func (op *operation) dangerous(ctx workflow.Context, req remora.RetentionRequest, planned remora.Planned) error {
	p := remora.Fail(remora.Refused, "delete what need not be kept", "",
		"See what would be deleted, and why: "+req.Command("--dry-run")+"\n"+
			"Where the backups, the clocks and the configuration are right, and it is meant: "+req.Command("--force "+planned.Hash),
		"%s; that was not deleted", strings.Join(planned.Refused, "; "))
	op.tell(ctx, remora.Notice{Event: remora.RetentionRefused, Subject: req.Copy, By: op.actor, Problem: p.Error(), Hint: p.Hint})
	return p
}

// inRepositoryLane runs a Retention as a child under the right id. Where one is at work already, that is that.
func (op *operation) inRepositoryLane(ctx workflow.Context, req remora.RetentionRequest, done *remora.RetentionResult) error {
	in := cmp.Or(req.Copy, "the repository")
	ctx = child(ctx, remora.RepositoryLane(req.Copy), "remove from "+in+" what need not be kept", bound)
	err := workflow.ExecuteChildWorkflow(ctx, remora.RetentionWorkflow, req).Get(ctx, done)
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		workflow.GetLogger(ctx).Info("another one is at work", "in", in)
		return nil
	}
	return err
}
