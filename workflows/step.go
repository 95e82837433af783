package workflows

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// A policy says how long a step may take and how often it is tried. This file is the only place that knows.
type policy func() workflow.ActivityOptions

// silence is how long an activity may go without a heartbeat. It is also how long an outage of Temporal is forgiven
// before a running copy is given up, hence minutes. A worker that died is noticed by its successor at once, without
// this timeout.
const silence = 3 * time.Minute

// longCopy moves data for hours: twice the longest night that anybody would accept. Whoever waits for it is a person
// in trouble, so it is tried again soon, but not for ever: a way forward that fails ten times is not one.
func longCopy() workflow.ActivityOptions {
	return bounded(26*time.Hour, 10, time.Minute)
}

// firstLook asks whether anything stands in the way. Somebody waits for the answer, and nothing has been begun: half a
// minute of trouble is ridden out, more of it is the answer.
func firstLook() workflow.ActivityOptions {
	return bounded(10*time.Minute, 6, 10*time.Second)
}

// shortCall asks or changes one small thing. A few minutes of trouble with a server or a disk are ridden out.
func shortCall() workflow.ActivityOptions {
	return bounded(10*time.Minute, 10, 30*time.Second)
}

// aSwitch is a shortCall that waits for nobody else's transaction: the component has done that, with the application
// offline, and who was in its way is the answer.
func aSwitch() workflow.ActivityOptions {
	options := shortCall()
	options.RetryPolicy.NonRetryableErrorTypes = append(options.RetryPolicy.NonRetryableErrorTypes, string(remora.Busy))
	return options
}

// aReset is for what is run after a switch while people wait for the application: tried three times within seconds. What
// hangs has had its minute.
func aReset() workflow.ActivityOptions {
	options := bounded(10*time.Minute, 3, 5*time.Second)
	options.RetryPolicy.NonRetryableErrorTypes = append(options.RetryPolicy.NonRetryableErrorTypes, string(remora.Stalled))
	return options
}

// bestEffort is for records: worth two minutes of patience, never worth failing the run that they are about.
func bestEffort() workflow.ActivityOptions {
	return bounded(time.Minute, 12, 15*time.Second)
}

// untilRecorded is for what would otherwise not be accounted for: the repository may be away for a night.
func untilRecorded() workflow.ActivityOptions {
	options := retried(time.Minute, 0, time.Minute)
	options.ScheduleToCloseTimeout = 12 * time.Hour
	return options
}

// mustFinish is for the way back, which has no last attempt: giving up would leave an application offline or between
// two states. It covers copies too, since what was live for a moment is captured before it is discarded.
func mustFinish() workflow.ActivityOptions {
	return retried(26*time.Hour, 0, time.Minute)
}

// bounded is for ways forward. There a full disk is an answer, not a passing trouble.
func bounded(once time.Duration, attempts int32, pause time.Duration) workflow.ActivityOptions {
	options := retried(once, attempts, pause)
	options.RetryPolicy.NonRetryableErrorTypes = []string{string(remora.Full)}
	return options
}

// retried tries attempts times, 0 meaning for ever. WaitForCancellation, because a compensation must not start while
// the step that it undoes is still writing.
func retried(once time.Duration, attempts int32, pause time.Duration) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout: once,
		HeartbeatTimeout:    silence,
		WaitForCancellation: true,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    time.Second,
			BackoffCoefficient: 2,
			MaximumInterval:    pause,
			MaximumAttempts:    attempts,
		},
	}
}

// step is one activity: its wire name, its queue, and what people read about it in the Temporal Web UI.
type step struct {
	activity string
	queue    string
	summary  string
}

// take runs a step under a policy.
func take[T any](ctx workflow.Context, p policy, s step, in any) (out T, err error) {
	options := p()
	options.TaskQueue = s.queue
	options.Summary = s.summary
	err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), s.activity, in).Get(ctx, &out)
	return out, err
}

type nothing struct{}

// words says in the language of the trade what a verb does to a component.
func words(kind remora.Kind, verb, source string) string { return remora.PhaseName(kind, verb, source) }

// elsewhere is what people read of verbs that act on a place of its own, which nothing live is exchanged with.
var elsewhere = map[string]string{remora.SwitchVerb: "switch ", remora.DiscardVerb: "tidy up after "}

// of has a verb done to a component. The verbs that copy run on the queue that takes a few at a time; summary is for what
// the verb alone does not say.
func of[T any](ctx workflow.Context, op *operation, kind remora.Kind, verb, summary string, in remora.ComponentInput) (T, error) {
	in.Source, in.Run, in.From, in.Selection = op.source, op.run, op.from, op.selection
	s := step{kind.Activity(verb), remora.Queue, cmp.Or(summary, words(kind, verb, op.source))}
	if says := elsewhere[verb]; says != "" && in.Selection.To != "" {
		s.summary = says + in.Selection.Where()
	}
	p := op.short
	switch {
	case verb == remora.PreflightVerb:
		p = op.look
	case verb == remora.SwitchVerb && kind == remora.Database:
		p = op.swap
	case slices.Contains([]string{remora.CaptureVerb, remora.StageVerb, remora.CompareVerb, remora.PreviewVerb}, verb):
		p, s.queue = op.long, remora.DataQueue
	}
	return take[T](ctx, p, s, in)
}

func (op *operation) describe(ctx workflow.Context, backup, from string) (remora.Backup, error) {
	return take[remora.Backup](ctx, op.short, step{remora.DescribeActivity, remora.Queue, "look up backup " + backup},
		remora.DescribeInput{Source: op.source, Backup: backup, From: from})
}

func (op *operation) preflight(ctx workflow.Context, kind remora.Kind, backup string) (remora.Estimate, error) {
	return of[remora.Estimate](ctx, op, kind, remora.PreflightVerb, "", remora.ComponentInput{Backup: backup})
}

func (op *operation) commit(ctx workflow.Context, m remora.Manifest) (remora.Manifest, error) {
	return take[remora.Manifest](ctx, op.short, step{remora.CommitActivity, remora.Queue, "commit " + m.ID}, remora.CommitInput{Manifest: m})
}

// verify reads a backup back, and counts what was read.
func (op *operation) verify(ctx workflow.Context, in remora.VerifyInput) (remora.Verification, *remora.Summary, error) {
	what := "verify " + in.Backup
	if in.In != "" {
		what += " in " + in.In
	}
	read, err := take[remora.Verification](ctx, op.long, step{remora.VerifyActivity, remora.DataQueue, what}, in)
	return read, &remora.Summary{Objects: read.Contents + read.Present, Bytes: read.Bytes}, err
}

// lookOffline tells whether somebody else has the application offline. The answer is kept in the history, where no crash
// loses it.
func (op *operation) lookOffline(ctx workflow.Context) (remora.MaintenanceResult, error) {
	found, err := op.maintenance(ctx, remora.LookActivity, "ask whether "+op.source+" is offline", false)
	if op.told != nil {
		op.told.after = found.After
	}
	return found, err
}

func (op *operation) enterMaintenance(ctx workflow.Context) error {
	_, err := op.maintenance(ctx, remora.EnterActivity, "maintenance on for "+op.source, false)
	return err
}

// endMaintenance leaves what this history has entered.
func (op *operation) endMaintenance(ctx workflow.Context) error {
	_, err := op.maintenance(ctx, remora.LeaveActivity, "maintenance off for "+op.source, true)
	return err
}

// leaveMaintenance leaves what this run has entered, as far as the mode knows, for a history that cannot know it.
func (op *operation) leaveMaintenance(ctx workflow.Context) error {
	_, err := op.maintenance(ctx, remora.LeaveActivity, "maintenance off for "+op.source, false)
	return err
}

func (op *operation) maintenance(ctx workflow.Context, activity, summary string, entered bool) (remora.MaintenanceResult, error) {
	in := remora.MaintenanceInput{Source: op.source, Run: op.run, Entered: entered}
	if entered || activity == remora.EnterActivity {
		in.By = firstRun(workflow.GetInfo(ctx))
	}
	return take[remora.MaintenanceResult](ctx, op.short, step{activity, remora.Queue, summary}, in)
}

// reset runs the commands that a source has for after a switch (S24), as many as the last look has found. Caches and queues
// that stay stale are told: they are no reason to undo a restore, nor to keep the application offline.
func (op *operation) reset(ctx workflow.Context) {
	for nth := range op.told.after {
		_, err := take[nothing](ctx, aReset, step{remora.AfterActivity, remora.Queue, fmt.Sprintf("run restore.after[%d] of %s", nth, op.source)},
			remora.MaintenanceInput{Source: op.source, Run: op.run, Nth: nth})
		if err == nil {
			continue
		}
		said := "caches or queues may be stale; run it by hand: " + problemOf("run what comes after a switch", err).Error()
		workflow.GetLogger(ctx).Error("a command after a switch failed", "said", said)
		if !slices.Contains(op.told.warnings, said) {
			op.told.warnings = append(op.told.warnings, said)
		}
	}
}

// lookAndReset is reset for whoever settles what another workflow began, and has not looked.
func (op *operation) lookAndReset(ctx workflow.Context) error {
	if workflow.GetVersion(ctx, "reset what is settled", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	_, err := op.lookOffline(ctx)
	if err == nil {
		op.reset(ctx)
	}
	return err
}

// check asks the application how it is. Online means that it is out of maintenance, and nothing is undone any more.
func (op *operation) check(ctx workflow.Context, online bool) (remora.ChecksResult, error) {
	p, summary := op.short, "check "+op.source
	if online {
		p, summary = bestEffort, "check "+op.source+" online"
	}
	return take[remora.ChecksResult](ctx, p, step{remora.ChecksActivity, remora.Queue, summary},
		remora.ChecksInput{Source: op.source, Online: online})
}

func (op *operation) turn(ctx workflow.Context, kind remora.Kind, turn remora.Turn) error {
	summary := words(kind, remora.SwitchVerb, op.source) + " to the " + string(turn.Live) + " side"
	if turn.Stay {
		summary = "keep put-away " + string(kind) + " of " + op.source + " for longer"
	}
	_, err := of[nothing](ctx, op, kind, remora.SwitchVerb, summary, remora.ComponentInput{Turn: turn})
	return err
}

func (op *operation) leftovers(ctx workflow.Context, kind remora.Kind) ([]remora.Leftover, error) {
	return of[[]remora.Leftover](ctx, op, kind, remora.LeftoversVerb, "", remora.ComponentInput{})
}

func (op *operation) findRestore(ctx workflow.Context, run string) (remora.Restore, error) {
	return take[remora.Restore](ctx, bestEffort, step{remora.FindRestoreActivity, remora.Queue, "look up the record of the restore"},
		remora.FindRestoreInput{Source: op.source, Run: run})
}

// recordRun records a run, or a slot, that left no backup, and tells whether the record is there.
func (op *operation) recordRun(ctx workflow.Context, p policy, failed remora.FailedRun) bool {
	_, err := take[nothing](ctx, p, step{remora.RecordFailureActivity, remora.Queue, "record " + string(failed.Status) + " " + failed.ID}, failed)
	if err != nil {
		workflow.GetLogger(ctx).Warn("a run was not recorded", "run", failed.ID, "error", err)
	}
	return err == nil
}

func (op *operation) recordRestore(ctx workflow.Context, p policy, r remora.Restore) error {
	_, err := take[nothing](ctx, p, step{remora.RecordRestoreActivity, remora.Queue, "record: " + string(r.Outcome)}, r)
	return err
}
