package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// Turn makes one side of a restore live, in the lane of its source. An error means: the side that was live before is
// live, in every component. It uses up to two sequence numbers, Seq and the one after it. Once begun it is not
// cancelled: it takes seconds, and half of it would be worse.
func Turn(ctx workflow.Context, req remora.TurnRequest) (remora.Turned, error) {
	op, err := begin(ctx, "rollback", req.Source, req.Run, req.RequestedBy)
	if err != nil {
		return remora.Turned{}, err
	}
	if err := op.person.listen(ctx); err != nil {
		return remora.Turned{}, err
	}
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	var undo compensations
	turn := remora.Turn{Run: req.Run, Seq: req.Seq, Live: req.Live, KeepUntil: req.KeepUntil}
	warnings, err := op.switchOver(ctx, req.Kinds, turn, &undo)
	if err != nil {
		p := problemOf("make the "+string(req.Live)+" side of "+req.Source+" live", err)
		undo.run(ctx, op)
		conclude(ctx, string(remora.OutcomeRolledBack), "nothing has changed: "+p.Error())
		return remora.Turned{}, failure(p)
	}
	conclude(ctx, string(remora.Completed), "the "+string(req.Live)+" side is live")
	return remora.Turned{Warnings: warnings}, nil
}
