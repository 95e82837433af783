package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/schedule"
)

// Lane holds the step that finds out who is at work on a source.
type Lane struct {
	Client client.Client
	Watch  Watch
}

// Register makes the step known under its wire name.
func (l *Lane) Register(to Registry) {
	step(to, l.Watch, remora.HolderActivity, func(in remora.HolderInput) string { return "see who is at work on " + in.Source }, l.holder)
}

// holder looks at the lane first: a restore is open for long after its work.
func (l *Lane) holder(ctx context.Context, in remora.HolderInput) (h remora.Holder, err error) {
	for _, id := range []string{remora.Lane(in.Source), remora.RestoreLane(in.Source)} {
		if h, err = l.open(ctx, id); err != nil || h.Operation != "" {
			break
		}
	}
	return h, err
}

// open describes the open run of a workflow; it is empty where there is none.
func (l *Lane) open(ctx context.Context, id string) (h remora.Holder, err error) {
	d, err := describe(ctx, l.Client, id, "")
	if err != nil || !running(d) {
		return h, err
	}
	info := d.GetWorkflowExecutionInfo()
	return remora.Holder{
		Operation: remora.OperationName(info.GetType().GetName()), By: schedule.Attribute(info.GetSearchAttributes(), remora.ActorAttribute), Since: info.GetStartTime().AsTime(),
		Workflow: info.GetType().GetName(), Run: info.GetExecution().GetRunId(),
	}, nil
}

// callTime bounds one question to Temporal.
const callTime = 10 * time.Second

// describe asks Temporal for the newest run of an id, or for one run. What Temporal does not know is not running.
func describe(ctx context.Context, c client.Client, id, run string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	d, err := c.DescribeWorkflowExecution(ctx, id, run)
	if err != nil && !errors.As(err, new(*serviceerror.NotFound)) {
		return d, &remora.Problem{Op: "ask Temporal for " + id, Kind: remora.Unavailable, Err: err}
	}
	return d, nil
}

func running(d *workflowservice.DescribeWorkflowExecutionResponse) bool {
	return d.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING
}
