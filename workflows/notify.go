package workflows

import (
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// untilDelivered is for notices: a mail server may be away for a day, and nobody waits.
func untilDelivered() workflow.ActivityOptions {
	options := retried(2*time.Minute, 0, 15*time.Minute)
	options.ScheduleToCloseTimeout = 24 * time.Hour
	return options
}

// Notify tells people one thing, for as long as a day. What cannot be delivered is recorded, and fails nothing.
func Notify(ctx workflow.Context, n remora.Notice) error {
	_, err := take[nothing](ctx, untilDelivered, step{remora.NotifyActivity, remora.Queue, "tell: " + string(n.Event) + " " + n.Source}, n)
	if err == nil {
		return nil
	}
	p := problemOf("notify", err)
	workflow.GetLogger(ctx).Error("a notice was not delivered", "event", n.Event, "source", n.Source, "error", p.Error())
	_, err = take[nothing](ctx, bestEffort, step{remora.UndeliveredActivity, remora.Queue, "record what was not delivered"},
		remora.Undelivered{Notice: n, Problem: p.Error(), At: workflow.Now(ctx)})
	return err
}

// notify has people told, and does not wait: how that ends changes nothing about the operation.
func (op *operation) notify(ctx workflow.Context, n remora.Notice) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	n.At = workflow.Now(ctx)
	if n.Source == "" {
		n.Source = op.source
	}
	child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: "notify/" + n.ID, TaskQueue: remora.Queue,
		ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON, StaticSummary: "tell: " + string(n.Event) + " " + n.Source,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
	})
	err := workflow.ExecuteChildWorkflow(child, remora.NotifyWorkflow, n).GetChildWorkflowExecution().Get(ctx, nil)
	if err != nil && !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		workflow.GetLogger(ctx).Warn("nobody is told", "event", n.Event, "error", err)
	}
}
