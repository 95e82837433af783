package workflows

import (
	"slices"
	"strings"

	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// Plan says what a restore would do. It changes nothing and holds no lane.
func Plan(ctx workflow.Context, req remora.PlanRequest) (remora.Plan, error) {
	op, err := begin(ctx, "plan", req.Source, firstRun(workflow.GetInfo(ctx)), "")
	if err != nil {
		return remora.Plan{}, err
	}
	plan, err := op.plan(ctx, req)
	if err != nil {
		return plan, op.refused(ctx, err)
	}
	if req.To == "" { // else there is no safety backup
		op.warnOfRoom(ctx, &plan)
	}
	outcome(ctx, "planned")
	return plan, nil
}

// refused is the end of what could not even be begun.
func (op *operation) refused(ctx workflow.Context, err error) error {
	p := problemOf("restore "+op.source, err)
	if ctx.Err() != nil && p.Kind == remora.Cancelled {
		return err
	}
	conclude(ctx, string(remora.OutcomeRefused), "refused: "+p.Error())
	return failure(p)
}

// plan looks at the backup and at what is live, and refuses what could not be restored or put back later.
func (op *operation) plan(ctx workflow.Context, req remora.PlanRequest) (remora.Plan, error) {
	plan := remora.Plan{Source: req.Source, Undo: req.Undo, Selection: req.Selection}
	op.selection = req.Selection
	err := op.phase(ctx, "look up backup "+req.Backup, func() (_ *remora.Summary, err error) {
		plan.Backup, err = op.describe(ctx, req.Backup, req.From)
		op.from = plan.Backup.Location
		return nil, err
	})
	if err != nil {
		return plan, err
	}
	if plan.Kinds, err = restorable(plan.Backup, req); err != nil {
		return plan, err
	}
	for _, kind := range plan.Kinds {
		target := remora.Target{Kind: kind}
		if part, ok := plan.Backup.Part(kind); ok {
			target.Restores = part.Summary
		}
		err := op.phase(ctx, words(kind, remora.PreflightVerb, op.source), func() (_ *remora.Summary, err error) {
			target.Live, err = op.preflight(ctx, kind, plan.Backup.ID)
			if why := err; why != nil && req.Preview && ctx.Err() == nil { // whoever only reads need not be able to restore
				target.Live, _ = op.preflight(ctx, kind, "") // what it refuses, the comparison says, if it matters there
				p := problemOf("restore "+op.source, why)
				target.Live.Warnings = slices.Insert(target.Live.Warnings, 0, strings.TrimSuffix("a restore would be refused now: "+p.Error()+"; "+p.Hint, "; "))
				err = nil
			}
			return &target.Live.Summary, err
		})
		if err != nil {
			return plan, op.damaged(ctx, plan.Backup, err)
		}
		if some := target.Live.Restores; some != nil {
			target.Restores.Objects, target.Restores.Entries, target.Restores.Bytes = some.Objects, some.Entries, some.Bytes
		}
		if req.Preview {
			if target.Preview, err = op.preview(ctx, kind, plan.Backup.ID); err != nil {
				return plan, op.damaged(ctx, plan.Backup, err)
			}
		}
		plan.Targets = append(plan.Targets, target)
	}
	plan.Seal()
	return plan, nil
}

// preview asks how the live data differs from a backup.
func (op *operation) preview(ctx workflow.Context, kind remora.Kind, backup string) (differs *remora.Preview, err error) {
	err = op.phase(ctx, words(kind, remora.PreviewVerb, op.source), func() (*remora.Summary, error) {
		found, err := of[remora.Preview](ctx, op, kind, remora.PreviewVerb, "", remora.ComponentInput{Backup: backup})
		differs = &found
		return &found.Compared, err
	})
	return differs, err
}

// restorable gives the components to restore, and refuses a backup that is not what was asked for.
func restorable(b remora.Backup, req remora.PlanRequest) ([]remora.Kind, error) {
	refuse := func(kind remora.ProblemKind, hint, format string, args ...any) ([]remora.Kind, error) {
		return nil, remora.Fail(kind, "restore "+req.Source, "backup "+b.ID, hint, format, args...)
	}
	history := "Choose another one: remora history " + req.Source
	switch {
	case b.Source != req.Source:
		return refuse(remora.Invalid, history, "it is a backup of %s", b.Source)
	case b.Status == remora.Corrupted:
		return refuse(remora.Corrupt, history, "it was found corrupt")
	case b.Status != remora.Completed:
		return refuse(remora.Invalid, history, "it is %s; only completed backups can be restored", b.Status)
	}
	kinds := req.With(req.Kinds)
	switch place := req.Place(); {
	case req.To != "" && len(without(kinds, []remora.Kind{place})) > 0:
		return refuse(remora.Invalid, "Restore the other half by itself.", "a %s is for the %s alone", strings.Fields(req.Where())[0], place)
	case req.To != "" && place == remora.Files && len(kinds) == 0 && len(b.Parts) > 1:
		return refuse(remora.Invalid, "Add --files to build its files there. --to NAME, without a slash, builds its database in a schema of that name.",
			"it holds more than files, and %s is a directory", req.To)
	case req.To != "":
		kinds = []remora.Kind{place}
	case len(kinds) == 0:
		for _, part := range b.Parts {
			kinds = append(kinds, part.Kind)
		}
	}
	kinds, err := checkKinds("restore "+req.Source, kinds)
	if err != nil {
		return nil, err
	}
	for _, kind := range kinds {
		if _, ok := b.Part(kind); !ok {
			return refuse(remora.NotFound, history, "it holds no %s", kind)
		}
	}
	return kinds, nil
}

// confirm binds the start of a restore to the plan that a person said yes to.
func confirm(plan remora.Plan, hash string) error {
	if hash == "" || hash == plan.Hash {
		return nil
	}
	return remora.Fail(remora.Changed, "restore "+plan.Source, "",
		"Ask for the restore again and read the new plan.", "what would be replaced has changed since the plan was shown")
}

// emptyKinds are the components of a plan with nothing live, which need no safety backup (S14).
func emptyKinds(plan remora.Plan) []remora.Kind {
	var empty []remora.Kind
	for _, t := range plan.Targets {
		if t.Live.Empty {
			empty = append(empty, t.Kind)
		}
	}
	return empty
}

// without are the kinds that are not among others.
func without(kinds, others []remora.Kind) []remora.Kind {
	return slices.DeleteFunc(slices.Clone(kinds), func(k remora.Kind) bool { return slices.Contains(others, k) })
}
