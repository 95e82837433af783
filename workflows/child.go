package workflows

import (
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// A tie says what a child is to the workflow that starts it.
type tie workflow.ChildWorkflowOptions

var (
	// bound is cancelled with it, and its end is waited for.
	bound = tie{
		ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL, WaitForCancellation: true,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
	}
	// abandoned outlives it.
	abandoned = tie{
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_ABANDON,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
	}
	// replacing outlives it, and takes the place of an earlier one that is still at work.
	replacing = tie{
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_ABANDON,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING, //nolint:staticcheck // a child has no conflict policy
	}
	// once outlives it, and there is never another one under its id.
	once = tie{
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_ABANDON,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
	}
)

// child is the context of a child: its id, what people read about it, and its tie.
func child(ctx workflow.Context, id, summary string, t tie) workflow.Context {
	options := workflow.ChildWorkflowOptions(t)
	options.WorkflowID, options.StaticSummary, options.TaskQueue = id, summary, remora.Queue
	return workflow.WithChildOptions(ctx, options)
}

// letGo starts a child and does not wait for its end. One that is at work already will do.
func letGo(ctx workflow.Context, name string, in any) bool {
	err := workflow.ExecuteChildWorkflow(ctx, name, in).GetChildWorkflowExecution().Get(ctx, nil)
	if err != nil && !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		workflow.GetLogger(ctx).Warn("it was not started", "what", workflow.GetChildWorkflowOptions(ctx).StaticSummary, "error", err)
		return false
	}
	return true
}
