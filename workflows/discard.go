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

// fences tells whether this was begun by a worker that fences off the switches of whoever was terminated.
func fences(ctx workflow.Context) bool {
	return workflow.GetVersion(ctx, "a terminated switch is fenced off", workflow.DefaultVersion, 1) > workflow.DefaultVersion
}

// goBack makes the replaced side live wherever the restored one is, for an Apply that was terminated or reset and so
// does not know how far it came. A switch of it may still be under way in a worker that does not know either: where it
// has not moved anything, it finds that a later turn was made.
func (op *operation) goBack(ctx workflow.Context, kinds []remora.Kind) error {
	fences := fences(ctx)
	for _, kind := range kinds {
		left, err := op.mine(ctx, kind)
		if err != nil {
			return err
		}
		if left == nil || left.Live != remora.Restored && (!fences || left.Seq > firstSwitch || left.To != "") {
			continue
		}
		seq := left.Seq + 1
		if fences {
			seq = max(seq, firstSwitch+1)
		}
		if err := op.turn(ctx, kind, remora.Turn{Run: op.run, Seq: seq, Live: remora.Replaced, KeepUntil: left.KeepUntil}); err != nil {
			return err
		}
	}
	return nil
}

// unheard is how many turns of a restore a journal may not have heard of, when its workflow was terminated.
const unheard = 100

// settleOn makes a side live in every component that the journals know of, or keeps it so, under a number that is beyond those
// of whoever was terminated: what a worker still does for that comes too late. Where a side is being discarded already,
// nothing switches any more.
func (op *operation) settleOn(ctx workflow.Context, left []remora.Leftover, seq int, live remora.Side) error {
	for _, l := range left {
		if l.To != "" {
			continue
		}
		err := op.turn(ctx, l.Kind, remora.Turn{Run: op.run, Seq: seq, Live: live, KeepUntil: l.KeepUntil})
		if err != nil && (l.Live != live || problemOf("keep", err).Kind != remora.Fenced) {
			return err
		}
	}
	return nil
}
