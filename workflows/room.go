package workflows

import (
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// cleaning is how long a backup waits for what makes room, which goes on without it then.
const cleaning = 30 * time.Minute

// makeRoom sees that a backup fits into the repository. Where it does not, what need not be kept is removed, by the
// rules that always hold, and then there is room, or no backup. What cannot be told stops nothing.
func (op *operation) makeRoom(ctx workflow.Context, sizes map[remora.Kind]int64) error {
	if workflow.GetVersion(ctx, "room", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	return op.phase(ctx, remora.RoomPhase, func() (*remora.Summary, error) {
		err := op.room(ctx, sizes)
		if err == nil || ctx.Err() != nil {
			return nil, err
		}
		ctx := child(ctx, remora.RepositoryLane(""), "remove what need not be kept", abandoned)
		var cleaned error
		workflow.NewSelector(ctx).
			AddFuture(workflow.ExecuteChildWorkflow(ctx, remora.RetentionWorkflow,
				remora.RetentionRequest{RequestedBy: "backup of " + op.source + ": short of space"}),
				func(f workflow.Future) { cleaned = f.Get(ctx, nil) }).
			AddFuture(workflow.NewTimer(ctx, cleaning), func(workflow.Future) {}).
			Select(ctx)
		if cleaned != nil && !temporal.IsWorkflowExecutionAlreadyStartedError(cleaned) {
			workflow.GetLogger(ctx).Warn("nothing was removed to make room", "error", cleaned)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, op.room(ctx, sizes)
	})
}

// room is an error where a backup is known not to fit, or when the run is cancelled.
func (op *operation) room(ctx workflow.Context, sizes map[remora.Kind]int64) error {
	_, err := take[nothing](ctx, oneLook, step{remora.RoomActivity, remora.Queue, remora.RoomPhase + " for " + op.source},
		remora.RoomInput{Source: op.source, Bytes: sizes})
	if err == nil || ctx.Err() != nil || problemOf(remora.RoomPhase, err).Kind == remora.Full {
		return err
	}
	workflow.GetLogger(ctx).Warn("nobody can tell whether there is room for the backup", "error", err)
	return nil
}

// warnOfRoom tells in the plan of a restore that its safety backup may not fit. It refuses nothing: the estimate may be
// wrong, and a safety backup that does not fit ends the restore before anything is touched.
func (op *operation) warnOfRoom(ctx workflow.Context, plan *remora.Plan) {
	if workflow.GetVersion(ctx, "room", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return
	}
	sizes := map[remora.Kind]int64{}
	for _, t := range plan.Targets {
		if !t.Live.Empty {
			sizes[t.Kind] = t.Live.Summary.Bytes
		}
	}
	if len(sizes) == 0 {
		return
	}
	if err := op.room(ctx, sizes); err != nil && ctx.Err() == nil {
		p := problemOf(remora.RoomPhase, err)
		live := &plan.Targets[0].Live
		live.Warnings = slices.Insert(live.Warnings, 0, "the safety backup may not fit: "+p.Error()+"; "+p.Text().Hint)
	}
}
