package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// Turn makes one side of a restore live, in the lane of its source. An error means: the side that was live before is
// live, in every component. It uses up to two sequence numbers, Seq and the one after it. Once begun it is not
// cancelled: it takes seconds, and half of it would be worse.
//
// A Turn that is to stay moves nothing: it writes a later end of the undo window into the journals. An error means then
// that some of them may know of it already, which loses nothing.
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
	turn := remora.Turn{Run: req.Run, Seq: req.Seq, Live: req.Live, KeepUntil: req.KeepUntil, Stay: req.Stay}
	if req.Stay {
		return remora.Turned{}, op.stay(ctx, req.Kinds, turn)
	}
	warnings, err := op.switchOver(ctx, req.Kinds, turn, &undo)
	if err != nil {
		p := problemOf("make the "+string(req.Live)+" side of "+req.Source+" live", err)
		undo.run(ctx, op)
		conclude(ctx, string(remora.OutcomeRolledBack), "nothing has changed: "+p.Error())
		return remora.Turned{}, with(failure(p), remora.Turned{Warnings: op.told.warnings})
	}
	conclude(ctx, string(remora.Completed), "the "+string(req.Live)+" side is live")
	return remora.Turned{Warnings: append(warnings, op.told.warnings...)}, nil
}

// stay writes a later end of the undo window into the journals.
func (op *operation) stay(ctx workflow.Context, kinds []remora.Kind, turn remora.Turn) error {
	for _, kind := range kinds {
		if err := op.turn(ctx, kind, turn); err != nil {
			p := problemOf("extend the undo window of "+op.source, err)
			conclude(ctx, string(remora.Failed), "not extended: "+p.Error())
			return failure(p)
		}
	}
	conclude(ctx, string(remora.Completed), "extended until "+turn.KeepUntil.UTC().Format(time.RFC3339))
	return nil
}
