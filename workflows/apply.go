package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// Apply stages, proves and switches, in the lane of its source. An error means: the source is again as it was found.
// Its type is RolledBack when something had been touched; otherwise it is that of the problem.
func Apply(ctx workflow.Context, req remora.ApplyRequest) (remora.Applied, error) {
	op, err := begin(ctx, "apply", req.Source, req.Run, req.RequestedBy)
	if err != nil {
		return remora.Applied{}, err
	}
	op.restore = req.ID
	if err := op.person.listen(ctx); err != nil {
		return remora.Applied{}, err
	}
	var undo compensations
	applied, err := op.apply(ctx, req, &undo)
	if err != nil {
		err = op.rollBack(ctx, &undo, err)
		applied.Phases, applied.Warnings = op.told.done, append(applied.Warnings, op.told.warnings...)
		return applied, with(err, applied)
	}
	applied.Phases, applied.Warnings = op.told.done, append(applied.Warnings, op.told.warnings...)
	how := remora.OutcomeApplied
	if req.To != "" {
		how = remora.OutcomeCopied
	}
	conclude(ctx, string(how), string(how))
	return applied, nil
}

// apply is the story of a restore, up to the opening of its undo window.
func (op *operation) apply(ctx workflow.Context, req remora.ApplyRequest, undo *compensations) (done remora.Applied, err error) {
	plan, err := op.plan(ctx, req.PlanRequest) // refuses here whatever could not be put back later
	if err != nil {
		return done, err
	}
	if err := confirm(plan, req.PlanHash); err != nil {
		return done, err
	}
	done.Kinds, done.Empty = plan.Kinds, emptyKinds(plan)
	if req.To == "" { // else nothing live is replaced
		if done.SafetyBackup, err = op.safetyBackup(ctx, req, plan); err != nil {
			return done, err
		}
	}

	undo.push("discard what was staged", func(ctx workflow.Context) error { // before the step: it may happen by half
		if byJournal(ctx) { // a reset in Temporal makes this forget that it switched, or was about to
			if err := op.backwards().goBack(ctx, plan.Kinds); err != nil {
				return err
			}
			if err := op.backwards().leaveMaintenance(ctx); err != nil {
				return err
			}
		}
		_, err := op.backwards().putAway(ctx, plan.Kinds, req.Started, nil)
		return err
	})
	for _, kind := range plan.Kinds {
		noticed, err := op.stageAndCompare(ctx, kind, plan.Backup.ID)
		if err != nil {
			return done, op.damaged(ctx, plan.Backup, err)
		}
		done.Warnings = append(done.Warnings, noticed...)
	}
	if err := ctx.Err(); err != nil {
		return done, err
	}

	ctx, _ = workflow.NewDisconnectedContext(ctx) // from here a cancel waits, and is pointed at rollback
	if req.To != "" {
		return done, op.putInPlace(ctx, req, plan)
	}
	if done.KeepUntil = workflow.Now(ctx).Add(req.Undo); req.WithoutSafety != "" {
		done.KeepUntil = time.Time{} // such a window never ends by itself (S14)
	}
	turn := remora.Turn{Run: op.run, Seq: firstSwitch, Live: remora.Restored, KeepUntil: done.KeepUntil}
	warnings, err := op.switchOver(ctx, plan.Kinds, turn, undo)
	if done.Warnings = append(done.Warnings, warnings...); err != nil {
		return done, err
	}
	return done, nil
}

// putInPlace ends what is built elsewhere: it becomes the schema or directory that was asked for, and nothing is kept. There is nobody
// to take offline, and no application to ask how it is.
func (op *operation) putInPlace(ctx workflow.Context, req remora.ApplyRequest, plan remora.Plan) error {
	return op.phase(ctx, "build "+req.Where(), func() (*remora.Summary, error) {
		if err := op.turn(ctx, req.Place(), remora.Turn{Run: op.run, Seq: firstSwitch, Live: remora.Restored}); err != nil {
			return nil, err
		}
		_, err := op.putAway(ctx, plan.Kinds, req.Started, nil)
		return nil, err
	})
}

// safetyBackup saves what is live before it is replaced: no safety backup, no restore. The two exceptions are that
// nothing is live, and that a person has typed a reason (S14).
func (op *operation) safetyBackup(ctx workflow.Context, req remora.ApplyRequest, plan remora.Plan) (string, error) {
	empty := emptyKinds(plan)
	live := without(plan.Kinds, empty)
	switch {
	case req.WithoutSafety != "":
		return "", op.phase(ctx, "no safety backup: "+remora.OneLine(req.WithoutSafety), nothingToDo)
	case len(live) == 0:
		return "", op.phase(ctx, "no safety backup: nothing is live", nothingToDo)
	}
	m, err := op.takeBackup(ctx, remora.Manifest{
		ID:      remora.BackupID(op.source, op.run, "safety", req.Started),
		Purpose: remora.Safety, Started: workflow.Now(ctx), OfRestore: op.restore, Empty: empty,
	}, live, remora.Subject{Partial: true})
	if err == nil {
		return m.ID, nil
	}
	p := problemOf("take it", err)
	op.recordFailed(ctx, m, live, p)
	if ctx.Err() != nil {
		return "", err
	}
	text := p.Text()
	return "", remora.Fail(p.Kind, "safety backup of "+op.source, "",
		strings.TrimSpace(text.Hint+" Nothing was touched. Where the live data cannot be saved at all: restore with --without-safety-backup REASON."),
		"%w", p)
}

func nothingToDo() (*remora.Summary, error) { return nil, nil }

// stageAndCompare builds the component beside the live one and proves that it equals the backup. It returns what is worth a
// person's look.
func (op *operation) stageAndCompare(ctx workflow.Context, kind remora.Kind, backup string) (noticed []string, err error) {
	err = op.phase(ctx, words(kind, remora.StageVerb, op.source), func() (*remora.Summary, error) {
		staged, err := of[remora.Summary](ctx, op, kind, remora.StageVerb, "", remora.ComponentInput{Backup: backup})
		return &staged, err
	})
	if err != nil {
		return nil, err
	}
	err = op.phase(ctx, words(kind, remora.CompareVerb, op.source), func() (*remora.Summary, error) {
		diff, err := of[remora.Diff](ctx, op, kind, remora.CompareVerb, "", remora.ComponentInput{Backup: backup})
		if err == nil && !diff.Equal() {
			err = remora.Fail(remora.Corrupt, words(kind, remora.CompareVerb, op.source), "backup "+backup,
				"Try again, or restore another backup: remora history "+op.source, "the stage differs from the backup: %s", strings.Join(diff.Differences, "; "))
		}
		noticed = diff.Compared.Warnings
		return &diff.Compared, err
	})
	return noticed, err
}

// firstSwitch is the sequence number of a restore's own switch; all later ones are rollbacks.
const firstSwitch = 1

// switchOver makes one side live in every component, in maintenance mode. Each switch gives up after a bounded time
// with nothing changed; what was switched by then is switched back under the next sequence number. So it is when the
// live checks of a restore fail. Once they have passed there is no way back here, and maintenance is left whatever it
// takes. The warnings are what is worth a person's look. ctx must not be cancellable.
func (op *operation) switchOver(ctx workflow.Context, kinds []remora.Kind, turn remora.Turn, undo *compensations) (warnings []string, err error) {
	if slices.Contains(kinds, remora.Database) && workflow.GetVersion(ctx, "prepare the switch", workflow.DefaultVersion, 1) >= 1 {
		err := op.phase(ctx, words(remora.Database, remora.PrepareVerb, op.source), func() (*remora.Summary, error) {
			_, err := of[nothing](ctx, op, remora.Database, remora.PrepareVerb, "", remora.ComponentInput{Turn: turn})
			return nil, err
		})
		if err != nil {
			return nil, err
		}
	}
	asks := workflow.GetVersion(ctx, "look and check", workflow.DefaultVersion, 1) >= 1
	theirs := false
	if asks {
		found, err := op.lookOffline(ctx)
		if err != nil {
			return nil, err
		}
		theirs = found.Theirs
	}
	if theirs {
		warnings = append(warnings, "the application was offline already, and stays so: whoever took it offline brings it back")
	} else {
		undo.push("leave maintenance", op.backwards().endMaintenance)
		err := op.phase(ctx, remora.OfflinePhase, func() (*remora.Summary, error) { return nil, op.enterMaintenance(ctx) })
		if err != nil {
			return nil, err
		}
	}
	moved := false
	if op.told.after > 0 {
		undo.push(afterPhase(op.source), func(ctx workflow.Context) error {
			if moved {
				op.reset(ctx)
			}
			return nil
		})
	}
	back := turn
	back.Seq, back.Live = turn.Seq+1, turn.Live.Other()
	// What a database does by itself waits for the checks (S24).
	turn.Hold = turn.Seq == firstSwitch && slices.Contains(kinds, remora.Database) && workflow.GetVersion(ctx, "hold events", workflow.DefaultVersion, 1) >= 1
	for _, kind := range kinds {
		undo.push("switch "+string(kind)+" back", func(ctx workflow.Context) error { return op.backwards().turn(ctx, kind, back) })
		err := op.phase(ctx, words(kind, remora.SwitchVerb, op.source), func() (*remora.Summary, error) {
			return nil, op.turn(ctx, kind, turn)
		})
		moved = moved || err == nil || problemOf("switch", err).Kind != remora.Busy // which has changed nothing
		if err != nil {
			return nil, err
		}
	}
	if op.told.after > 0 { // before the checks, which would look at what is stale
		_ = op.phase(ctx, afterPhase(op.source), func() (*remora.Summary, error) { op.reset(ctx); return nil, nil }) // what fails is told
	}
	var checked remora.ChecksResult
	if asks {
		if checked, err = op.checkLive(ctx, turn, &warnings); err != nil {
			return nil, err
		}
	}
	if turn.Hold {
		turn.Hold = false
		events := "start events of " + op.source
		err := op.phase(ctx, events, func() (*remora.Summary, error) {
			_, err := of[nothing](ctx, op, remora.Database, remora.SwitchVerb, events, remora.ComponentInput{Turn: turn})
			return nil, err
		})
		if err != nil {
			return nil, err
		}
	}
	if !theirs {
		err := op.phase(ctx, remora.OnlinePhase, func() (*remora.Summary, error) {
			op.insist(ctx, "leave maintenance", op.backwards().endMaintenance)
			return nil, nil
		})
		if err != nil {
			return nil, err
		}
	}
	switch {
	case checked.Later > 0 && theirs:
		warnings = append(warnings, fmt.Sprintf("%d checks need the application online, and were not made", checked.Later))
	case checked.Later > 0:
		online, err := op.check(ctx, true)
		warnings = append(warnings, checkWarnings(online, err)...)
	}
	return warnings, nil
}

func afterPhase(source string) string { return "run restore.after of " + source }

// checkLive asks the application while it is still in maintenance. A restore is undone when the answer is no or there is
// none; after a rollback, which is the way out of trouble, it is only told (S23).
func (op *operation) checkLive(ctx workflow.Context, turn remora.Turn, warnings *[]string) (checked remora.ChecksResult, err error) {
	err = op.phase(ctx, "live checks", func() (_ *remora.Summary, err error) {
		checked, err = op.check(ctx, false)
		return nil, err
	})
	if turn.Seq != firstSwitch {
		*warnings = append(*warnings, checkWarnings(checked, err)...)
		return checked, nil
	}
	if err == nil && len(checked.Failed) > 0 {
		err = remora.Fail(remora.Corrupt, "check "+op.source, "",
			"Restore another backup, or correct the check.", "%s", strings.Join(checked.Failed, "; "))
	}
	return checked, err
}

// checkWarnings says what came of checks that only report.
func checkWarnings(checked remora.ChecksResult, err error) (warnings []string) {
	for _, why := range checked.Failed {
		warnings = append(warnings, "a live check failed: "+why)
	}
	if err != nil {
		warnings = append(warnings, "the live checks could not be made: "+problemOf("check", err).Error())
	}
	return warnings
}

// rollBack undoes what was begun and gives the error to end with.
func (op *operation) rollBack(ctx workflow.Context, undo *compensations, err error) error {
	p := problemOf("restore "+op.source, err)
	if !undo.any() {
		return op.refused(ctx, err)
	}
	if op.decided(ctx) {
		return op.refused(ctx, err)
	}
	workflow.GetLogger(ctx).Warn("rolling back", "problem", p.Error())
	undo.run(ctx, op)
	conclude(ctx, string(remora.OutcomeRolledBack), "rolled back: "+p.Error())
	p.Hint = strings.TrimSpace(p.Text().Hint + " " + strings.Join(op.told.warnings, " "))
	if ctx.Err() != nil && p.Kind == remora.Cancelled {
		return err
	}
	return failure(rolledBack(op.source, p))
}

// byJournal tells whether this Apply was begun by a worker that asks journal and record on the way back.
func byJournal(ctx workflow.Context) bool {
	return workflow.GetVersion(ctx, "the way back asks the journal", workflow.DefaultVersion, 1) > workflow.DefaultVersion
}

// decided tells whether the restore has gone on without this Apply, which somebody has reset in Temporal after its end:
// then nothing here is its to undo. A record that cannot be read decides nothing.
func (op *operation) decided(ctx workflow.Context) bool {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	if !byJournal(ctx) {
		return false
	}
	r, err := op.findRestore(ctx, op.run)
	return err == nil && r.ID != "" && r.Outcome != remora.OutcomeRunning
}

// rolledBack says that the source is what it was, and why.
func rolledBack(source string, cause *remora.Problem) *remora.Problem {
	text := cause.Text()
	return remora.Fail(remora.RolledBack, "restore "+source, "", text.Hint, "%s", cause.Error()+"; the source is as it was before")
}
