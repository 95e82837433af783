package workflows

import (
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// operation is one saga at work on one source: what its steps need to know, and what they tell.
type operation struct {
	source string
	// run is the run id of the top workflow; every name that a step gives to something outside carries it.
	run   string
	actor string
	// restore is the id of the restore that this is a part of, if any.
	restore string
	// long, short, look and swap are the policies of copies, of calls, of first looks and of switches; the way back has its
	// own (backwards).
	long, short, look, swap policy
	// from is the copy that a restore reads from; empty means the repository.
	from string
	// selection is what of a backup a restore brings back, and where to.
	selection remora.Selection
	// told is what people are told, and what was found. It is shared with the operation's way back.
	told *told
	// person answers what the way back cannot decide.
	person *person
}

// told is what people are told about an operation.
type told struct {
	phase string
	done  []remora.Phase
	// notices counts them.
	notices int
	// after is how many commands the source has for after a switch, and warnings what of them failed.
	after    int
	warnings []string
}

// begin starts an operation and tells the list of runs what it is.
func begin(ctx workflow.Context, kind, source, run, actor string) (*operation, error) {
	if err := remora.CheckSourceName(source); err != nil {
		return nil, failure(&remora.Problem{Op: kind, Kind: remora.Invalid, Err: err})
	}
	return beginAny(ctx, kind, source, run, actor)
}

// beginAny is begin for what may concern all sources.
func beginAny(ctx workflow.Context, kind, source, run, actor string) (*operation, error) {
	op := &operation{
		source: source, run: run, actor: actor,
		long: longCopy, short: shortCall, look: firstLook, swap: aSwitch,
		told: &told{}, person: &person{},
	}
	err := workflow.UpsertTypedSearchAttributes(ctx,
		temporal.NewSearchAttributeKeyKeyword(remora.SourceAttribute).ValueSet(source),
		temporal.NewSearchAttributeKeyKeyword(remora.KindAttribute).ValueSet(kind),
		temporal.NewSearchAttributeKeyKeyword(remora.ActorAttribute).ValueSet(actor),
		temporal.NewSearchAttributeKeyKeyword(remora.OutcomeAttribute).ValueSet(string(remora.OutcomeRunning)))
	return op, err
}

// firstRun is the run's name: it survives a reset, a retry and continue-as-new.
func firstRun(info *workflow.Info) string {
	if info.FirstRunID == "" { // tests run without a server
		return info.WorkflowExecution.RunID
	}
	return info.FirstRunID
}

// backwards is the same operation with steps that have no last attempt.
func (op *operation) backwards() *operation {
	back := *op
	back.long, back.short, back.swap = mustFinish, mustFinish, mustFinish
	return &back
}

// phase does one named part of the story, and tells when it begins, how long it took and whether it failed.
func (op *operation) phase(ctx workflow.Context, name string, do func() (*remora.Summary, error)) error {
	began := workflow.Now(ctx)
	op.told.phase = name
	workflow.SetCurrentDetails(ctx, name)
	summary, err := do()
	done := lasted(ctx, name, began, "")
	if done.Failed = err != nil; err == nil {
		done.Summary = summary
	}
	op.told.done = append(op.told.done, done)
	return err
}

// lasted is a phase that is over now; by is who asked for it, where that is told.
func lasted(ctx workflow.Context, name string, began time.Time, by string) remora.Phase {
	return remora.Phase{Name: name, At: began, Took: workflow.Now(ctx).Sub(began), RequestedBy: by}
}

// outcome tells the list of runs how it stands.
func outcome(ctx workflow.Context, how string) {
	err := workflow.UpsertTypedSearchAttributes(ctx, temporal.NewSearchAttributeKeyKeyword(remora.OutcomeAttribute).ValueSet(how))
	if err != nil {
		workflow.GetLogger(ctx).Warn("the outcome is not in the list of runs", "error", err)
	}
}

// conclude tells the list of runs, and whoever looks at this one, how it ended.
func conclude(ctx workflow.Context, how, details string) {
	outcome(ctx, how)
	workflow.SetCurrentDetails(ctx, details)
}

// checkKinds refuses an empty, unknown or doubled choice of components and brings it into the order of the sagas:
// files after the database, so that every file that a row names existed when the row was read.
func checkKinds(op string, kinds []remora.Kind) ([]remora.Kind, error) {
	invalid := func(format string, args ...any) error {
		return remora.Fail(remora.Invalid, op, "", "", format, args...)
	}
	var ordered []remora.Kind
	for _, known := range []remora.Kind{remora.Database, remora.Files} {
		if slices.Contains(kinds, known) {
			ordered = append(ordered, known)
		}
	}
	switch {
	case len(kinds) == 0:
		return nil, invalid("no component was chosen")
	case len(ordered) != len(kinds):
		return nil, invalid("the components %q are not a choice of database and files", kinds)
	}
	return ordered, nil
}
