package workflows

import (
	"fmt"
	"slices"
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
		whole := false
		op.insist(ctx, "go back to the replaced side", func(ctx workflow.Context) (err error) {
			if whole, err = op.wholly(ctx, req.Kinds); err != nil || whole {
				return err
			}
			if err := op.backwards().goBack(ctx, req.Kinds); err != nil {
				return err
			}
			return op.backwards().leaveMaintenance(ctx) // which only ends what this run began
		})
		if whole {
			return remora.Discarded{Whole: true}, nil
		}
	}
	heldBy, err := op.putAway(ctx, req.Kinds, req.Started, req.Nothing)
	if err != nil {
		p := problemOf("discard what the restore "+req.Restore+" put away", err)
		conclude(ctx, string(remora.Failed), "nothing was discarded: "+p.Error())
		return remora.Discarded{}, ending(ctx, p, err)
	}
	conclude(ctx, string(remora.Completed), "discarded; held by "+heldBy)
	return remora.Discarded{HeldBy: heldBy, Warnings: op.told.warnings}, nil
}

// putAway discards what of this run is not live, after a backup holds whatever of it was once live (S1), and names
// that backup. What the journals know decides: a run that never switched has only a stage, which nobody needs.
// empty are the components whose put-away side holds nothing. Once the first side is removed there is no way back.
func (op *operation) putAway(ctx workflow.Context, kinds []remora.Kind, started time.Time, empty []remora.Kind) (heldBy string, err error) {
	left, err := op.left(ctx, kinds)
	if err != nil {
		return "", err
	}
	var toSave []remora.Kind
	seq := 0
	for _, l := range left {
		if l.Switched && l.To == "" && !l.Nothing { // what is built elsewhere was made from a backup, and put nothing away
			toSave = append(toSave, l.Kind)
			seq = max(seq, l.Seq)
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
	for _, l := range left {
		op.insist(ctx, words(l.Kind, remora.DiscardVerb, op.source), func(ctx workflow.Context) error {
			_, err := of[nothing](ctx, op.backwards(), l.Kind, remora.DiscardVerb, "",
				remora.ComponentInput{HeldBy: heldBy, Turn: remora.Turn{Seq: l.Seq}})
			return err
		})
	}
	return heldBy, nil
}

// left is what the journals of components know about this run.
func (op *operation) left(ctx workflow.Context, kinds []remora.Kind) (left []remora.Leftover, err error) {
	for _, kind := range kinds {
		all, err := op.leftovers(ctx, kind)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(all, func(l remora.Leftover) bool { return l.Run == op.run }); i >= 0 {
			left = append(left, all[i])
		}
	}
	return left, nil
}

// fences tells whether this was begun by a worker that fences off the switches of whoever was terminated.
func fences(ctx workflow.Context) bool {
	return workflow.GetVersion(ctx, "a terminated switch is fenced off", workflow.DefaultVersion, 1) > workflow.DefaultVersion
}

// wholly tells whether a terminated Apply had come to its end: all is on the restored side, the live checks pass, and the
// application may have gone on with it. From there the way is forward (S4).
func (op *operation) wholly(ctx workflow.Context, kinds []remora.Kind) (bool, error) {
	if workflow.GetVersion(ctx, "what is wholly restored stays", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return false, nil
	}
	left, err := op.backwards().left(ctx, kinds)
	between := slices.ContainsFunc(left, func(l remora.Leftover) bool { return l.Live != remora.Restored || l.To != "" })
	if err != nil || len(left) == 0 || between {
		return false, err
	}
	checked, err := op.check(ctx, false) // it may have been on its way back because of them
	return err == nil && len(checked.Failed) == 0, nil
}

// goBack makes the replaced side live, in maintenance, for an Apply that was terminated or reset and so does not know how far
// it came. The side that is live already may not be whole: it is asked for as well. A switch may still be under way in a
// worker that does not know either: where it has not moved anything, it finds that a later turn was made.
func (op *operation) goBack(ctx workflow.Context, kinds []remora.Kind) error {
	fences := fences(ctx)
	back := func(l remora.Leftover) error {
		seq := l.Seq + 1
		if fences {
			seq = max(seq, firstSwitch+1)
		}
		return op.turn(ctx, l.Kind, remora.Turn{Run: op.run, Seq: seq, Live: remora.Replaced, KeepUntil: l.KeepUntil})
	}
	if workflow.GetVersion(ctx, "go back in maintenance", workflow.DefaultVersion, 1) > workflow.DefaultVersion {
		left, err := op.left(ctx, kinds)
		if err == nil && slices.ContainsFunc(left, func(l remora.Leftover) bool { return l.Live == remora.Restored && l.To == "" }) {
			err = op.offlineFirst(ctx)
		}
		for _, l := range left {
			if err == nil && (l.Live == remora.Restored || l.To == "") {
				err = back(l)
			}
		}
		if err == nil && slices.ContainsFunc(left, func(l remora.Leftover) bool { return l.Switched && l.To == "" }) {
			err = op.lookAndReset(ctx)
		}
		return err
	}
	for _, kind := range kinds {
		left, err := op.left(ctx, []remora.Kind{kind})
		for _, l := range left {
			if l.Live == remora.Restored || fences && l.Seq <= firstSwitch && l.To == "" {
				err = back(l)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// offlineFirst takes the application offline, unless somebody else has.
func (op *operation) offlineFirst(ctx workflow.Context) error {
	found, err := op.lookOffline(ctx)
	if err == nil && !found.Theirs {
		err = op.enterMaintenance(ctx)
	}
	return err
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
