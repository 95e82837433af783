package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// Discard ends what a restore keeps, in the lane of its source: it saves the side that is not live as a backup, reads
// that back, and only then removes the side (S1). An error means: nothing was removed.
func Discard(ctx workflow.Context, req remora.DiscardRequest) (remora.Discarded, error) {
	op, err := begin(ctx, "discard", req.Source, req.Run, req.RequestedBy)
	if err != nil {
		return remora.Discarded{}, err
	}
	op.restore, op.selection = req.Restore, req.Selection
	if err := op.person.listen(ctx); err != nil {
		return remora.Discarded{}, err
	}
	if req.BackFirst {
		ctx, _ = workflow.NewDisconnectedContext(ctx)
		op.insist(ctx, "go back to the replaced side", func(ctx workflow.Context) error {
			if err := op.backwards().goBack(ctx, req.Kinds); err != nil {
				return err
			}
			return op.backwards().leaveMaintenance(ctx) // which only ends what this run began
		})
	}
	heldBy, err := op.putAway(ctx, req.Kinds, req.Started, req.Nothing)
	if err != nil {
		p := problemOf("discard what the restore "+req.Restore+" put away", err)
		conclude(ctx, string(remora.Failed), "nothing was discarded: "+p.Error())
		return remora.Discarded{}, ending(ctx, p, err)
	}
	conclude(ctx, string(remora.Completed), "discarded; held by "+heldBy)
	return remora.Discarded{HeldBy: heldBy}, nil
}

// putAway discards what of this run is not live, after a backup holds whatever of it was once live (S1), and names
// that backup. What the journals know decides: a run that never switched has only a stage, which nobody needs.
// empty are the components whose put-away side holds nothing. Once the first side is removed there is no way back.
func (op *operation) putAway(ctx workflow.Context, kinds []remora.Kind, started time.Time, empty []remora.Kind) (heldBy string, err error) {
	var known, toSave []remora.Kind
	seq := 0
	for _, kind := range kinds {
		left, err := op.mine(ctx, kind)
		if err != nil {
			return "", err
		}
		if left == nil {
			continue
		}
		known = append(known, kind)
		if left.Switched && left.To == "" { // what is built elsewhere was made from a backup, and put nothing away
			toSave = append(toSave, kind)
			seq = max(seq, left.Seq)
		}
	}
	if toSave = without(toSave, empty); len(toSave) > 0 {
		// The sequence number tells the sides apart: after a rollback it is the other one that is put away.
		slot := fmt.Sprintf("replaced %d %v", seq, toSave)
		m, err := op.takeBackup(ctx, remora.Manifest{
			ID:      remora.BackupID(op.source, op.run, slot, started),
			Purpose: remora.PutAway, Started: workflow.Now(ctx), OfRestore: op.restore,
		}, toSave, remora.Subject{PutAway: op.run})
		if err != nil {
			op.recordFailed(ctx, m, toSave, problemOf("save what was put away", err))
			return "", err
		}
		heldBy = m.ID
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}

	ctx, _ = workflow.NewDisconnectedContext(ctx)
	for _, kind := range known {
		op.insist(ctx, words(kind, remora.DiscardVerb, op.source), func(ctx workflow.Context) error {
			_, err := of[nothing](ctx, op.backwards(), kind, remora.DiscardVerb, "", remora.ComponentInput{HeldBy: heldBy})
			return err
		})
	}
	return heldBy, nil
}

// mine is what a component's journal knows about this run, or nil.
func (op *operation) mine(ctx workflow.Context, kind remora.Kind) (*remora.Leftover, error) {
	all, err := op.leftovers(ctx, kind)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Run == op.run {
			return &all[i], nil
		}
	}
	return nil, nil
}

// goBack makes the replaced side live wherever the restored one is, for an Apply that was terminated or reset and so
// does not know how far it came.
func (op *operation) goBack(ctx workflow.Context, kinds []remora.Kind) error {
	for _, kind := range kinds {
		left, err := op.mine(ctx, kind)
		if err != nil {
			return err
		}
		if left == nil || left.Live != remora.Restored {
			continue
		}
		if err := op.turn(ctx, kind, remora.Turn{Run: op.run, Seq: left.Seq + 1, Live: remora.Replaced, KeepUntil: left.KeepUntil}); err != nil {
			return err
		}
	}
	return nil
}
