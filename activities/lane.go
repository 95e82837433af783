package activities

import (
	"context"
	"errors"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/remora-backup/remora/internal/remora"
)

// Lane holds the step that finds out who is at work on a source.
type Lane struct {
	Client client.Client
	Watch  Watch
}

// Register makes the step known under its wire name.
func (l *Lane) Register(to Registry) { register(to, remora.HolderActivity, l.holder) }

// holder looks at the lane first: a restore is open for long after its work.
func (l *Lane) holder(ctx context.Context, in remora.HolderInput) (remora.Holder, error) {
	return plain(ctx, l.Watch, "see who is at work on "+in.Source, func(ctx context.Context) (h remora.Holder, err error) {
		for _, id := range []string{remora.Lane(in.Source), remora.RestoreLane(in.Source)} {
			if h, err = l.open(ctx, id); err != nil || h.Operation != "" {
				break
			}
		}
		return h, err
	})
}

// open describes the open run of a workflow; it is empty where there is none.
func (l *Lane) open(ctx context.Context, id string) (h remora.Holder, err error) {
	d, err := l.Client.DescribeWorkflowExecution(ctx, id, "")
	if errors.As(err, new(*serviceerror.NotFound)) {
		return h, nil
	}
	if err != nil {
		return h, &remora.Problem{Op: "ask Temporal for " + id, Kind: remora.Unavailable, Err: err}
	}
	info := d.GetWorkflowExecutionInfo()
	if info.GetStatus() != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return h, nil
	}
	if by := info.GetSearchAttributes().GetIndexedFields()[remora.ActorAttribute]; by != nil {
		_ = converter.GetDefaultDataConverter().FromPayload(by, &h.By) // somebody, then
	}
	h.Operation, h.Since = remora.OperationName(info.GetType().GetName()), info.GetStartTime().AsTime()
	return h, nil
}
