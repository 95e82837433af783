package control

import (
	"cmp"
	"context"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"

	"github.com/remora-backup/remora/internal/remora"
)

// Run is a started operation.
type Run struct {
	Source string `json:"source"`
	// Workflow is its wire name, ID and RunID are where Temporal knows it.
	Workflow string `json:"workflow"`
	ID       string `json:"id"`
	RunID    string `json:"run"`
}

// Event says what an Update tells.
type Event string

// The events of a followed run.
const (
	// PhaseStarted and PhaseEnded frame a phase.
	PhaseStarted Event = "phase_started"
	PhaseEnded   Event = "phase_ended"
	// Progressed tells how far a phase is.
	Progressed Event = "progress"
	// Retrying tells that a phase failed and is tried again.
	Retrying Event = "retry"
	// Noticed is anything else worth a line: no worker, no Temporal, a cancel that was asked for.
	Noticed Event = "notice"
)

// Update is one thing worth telling about a followed run.
type Update struct {
	Event Event     `json:"event"`
	At    time.Time `json:"at"`
	Phase string    `json:"phase,omitempty"`
	// Took and Summary belong to PhaseEnded, in nanoseconds and counts of Kind; Problem says that the phase failed.
	Took    time.Duration   `json:"took,omitempty"`
	Kind    remora.Kind     `json:"kind,omitempty"`
	Summary *remora.Summary `json:"summary,omitempty"`
	// Skipped says, of a phase that ended, why there was nothing to do in it.
	Skipped string `json:"skipped,omitempty"`
	// Progress belongs to Progressed.
	Progress *remora.Progress `json:"progress,omitempty"`
	// Attempt, Problem and Next belong to Retrying: which attempt is next or running, what the last one ended with,
	// and when the next one begins (zero when it runs already).
	Attempt int       `json:"attempt,omitempty"`
	Problem string    `json:"problem,omitempty"`
	Next    time.Time `json:"next,omitzero"`
	// Message belongs to Noticed.
	Message string `json:"message,omitempty"`
}

// Ended is what a followed run came to.
type Ended struct {
	// Backup is the result of a Backup.
	Backup *remora.BackupResult `json:"backup,omitempty"`
	// Restore is the record of a restore that reached its undo window, which is where following it ends, or its end.
	Restore *remora.Restore `json:"restore,omitempty"`
	// Plan is the result of a Plan.
	Plan *remora.Plan `json:"-"`
	// Copied is the result of a Copy or a CopyAll.
	Copied *remora.Copied `json:"copied,omitempty"`
	// Verified is the result of a Verify or a VerifyAll.
	Verified *remora.Verified `json:"verified,omitempty"`
	// Retention is the result of a Retention.
	Retention *remora.RetentionResult `json:"retention,omitempty"`
	// Proof is the result of a Drill.
	Proof *remora.Proof `json:"proof,omitempty"`
}

// Follow tells what happens in a run until it ends; a restore is followed to its undo window. It outlives a Temporal
// that is away for a while. The error is the run's own Problem, or ctx's when the caller had enough. tell may be nil; it
// is called from this goroutine alone.
func (c *Control) Follow(ctx context.Context, run Run, tell func(Update)) (Ended, error) {
	f := c.newFollower(run, tell)
	for {
		over, err := f.round(ctx)
		switch {
		case err != nil:
			return Ended{}, err
		case over:
			return f.result(ctx, run)
		case run.Workflow == remora.RestoreWorkflow && f.windowOpen():
			return Ended{Restore: f.record}, nil
		}
		if err := pause(ctx, c.cfg.Poll); err != nil {
			return Ended{}, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// follower watches a run and the children that it has.
type follower struct {
	control *Control
	say     func(Update)
	// watched begins with the top run.
	watched []*watched
	// away is when Temporal stopped answering; zero while it answers.
	away time.Time
	// record is what a restore last recorded of itself.
	record *remora.Restore
	// waited is true once it was told that the lane is taken.
	waited bool
}

// watched is one execution that is being followed.
type watched struct {
	id, runID string
	over      bool
	last      look
	told      int64 // events told so far
	phases    map[int64]*phase
	steps     map[string]*watchedStep
	tasks     patience
}

// phase is an activity as its history tells it.
type phase struct {
	id       string // the activity's id within its run
	name     string
	activity string
	started  time.Time
}

// watchedStep remembers what was told of a pending activity.
type watchedStep struct {
	progress remora.Progress
	attempt  int
	queue    patience
	silence  patience
	paused   patience
}

// newFollower makes one that has not looked yet. tell may be nil.
func (c *Control) newFollower(run Run, tell func(Update)) *follower {
	if tell == nil {
		tell = func(Update) {}
	}
	f := &follower{control: c, say: tell}
	f.add(run.ID, run.RunID)
	return f
}

func (f *follower) add(id, runID string) {
	f.watched = append(f.watched, &watched{id: id, runID: runID, phases: map[int64]*phase{}, steps: map[string]*watchedStep{}})
}

// round looks once at everything that is open, and tells whether the top run is over.
func (f *follower) round(ctx context.Context) (bool, error) {
	for i := 0; i < len(f.watched); i++ { // a round may add children
		w := f.watched[i]
		if w.over {
			continue
		}
		err := f.visit(ctx, w)
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case err == nil:
			f.backAgain()
		case away(err):
			f.gone()
			return false, nil
		default:
			return false, f.control.asked("follow the run", w.id, err)
		}
	}
	return f.watched[0].over, nil
}

func (f *follower) visit(ctx context.Context, w *watched) error {
	l, err := f.control.glance(ctx, w.id, w.runID)
	if err != nil {
		return err
	}
	if l.id == "" {
		return notFound("follow the run", w.id, "it is not known any more", "`remora status` tells how things stand")
	}
	w.runID, w.last = l.runID, l
	if l.events > w.told {
		if err := f.read(ctx, w); err != nil {
			return err
		}
	}
	w.over = !l.open
	if l.open {
		f.tellSteps(ctx, w)
		f.tellTask(ctx, w)
	}
	return nil
}

// windowOpen tells whether a restore has nothing left to do but to wait.
func (f *follower) windowOpen() bool {
	top := f.watched[0]
	return f.record != nil && f.record.Outcome.Open() && f.away.IsZero() && top.last.waits() && top.told >= top.last.events
}

func (f *follower) gone() {
	if f.away.IsZero() {
		f.away = time.Now()
		f.notice(f.control.cfg.Now(), "Temporal does not answer; the run goes on without being watched, waiting for it to come back")
	}
}

func (f *follower) backAgain() {
	if !f.away.IsZero() {
		f.away = time.Time{}
		f.notice(f.control.cfg.Now(), "Temporal answers again")
	}
}

func (f *follower) notice(at time.Time, message string) {
	f.say(Update{Event: Noticed, At: at, Message: message})
}

// read tells the events of a history that were not told yet. Histories are short: a copy costs no events.
func (f *follower) read(ctx context.Context, w *watched) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	events := f.control.client.GetWorkflowHistory(ctx, w.id, w.runID, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		if err != nil {
			return err
		}
		if e.GetEventId() > w.told {
			w.told = e.GetEventId()
			f.tellEvent(w, e)
		}
	}
	return nil
}

func (f *follower) tellEvent(w *watched, e *historypb.HistoryEvent) {
	switch e.GetEventType() {
	case enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
		f.phaseBegins(w, e)
	case enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
		a := e.GetActivityTaskCompletedEventAttributes()
		f.phaseEnds(w.phases[a.GetScheduledEventId()], e, a.GetResult(), nil)
	case enums.EVENT_TYPE_ACTIVITY_TASK_FAILED:
		a := e.GetActivityTaskFailedEventAttributes()
		f.phaseEnds(w.phases[a.GetScheduledEventId()], e, nil, problemOf(a.GetFailure()))
	case enums.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
		a := e.GetActivityTaskTimedOutEventAttributes()
		f.phaseEnds(w.phases[a.GetScheduledEventId()], e, nil, problemOf(a.GetFailure()))
	case enums.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
		a := e.GetActivityTaskCanceledEventAttributes()
		f.phaseEnds(w.phases[a.GetScheduledEventId()], e, nil, &remora.Problem{Op: "cancelled", Kind: remora.Cancelled})
	case enums.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
		child := e.GetChildWorkflowExecutionStartedEventAttributes()
		if !remora.LetGo(child.GetWorkflowType().GetName()) {
			f.add(child.GetWorkflowExecution().GetWorkflowId(), child.GetWorkflowExecution().GetRunId())
		}
	case enums.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED:
		id := e.GetStartChildWorkflowExecutionFailedEventAttributes().GetWorkflowId()
		if !f.waited && id != remora.RepositoryLane("") && strings.HasPrefix(id, remora.Lane("")) {
			f.waited = true
			f.notice(e.GetEventTime().AsTime(), "another operation is at work on the source; this waits until it has stopped")
		}
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
		if w == f.watched[0] {
			f.notice(e.GetEventTime().AsTime(), "somebody asked for this to be cancelled")
		}
	}
}

func (f *follower) phaseBegins(w *watched, e *historypb.HistoryEvent) {
	a := e.GetActivityTaskScheduledEventAttributes()
	p := &phase{id: a.GetActivityId(), activity: a.GetActivityType().GetName(), started: e.GetEventTime().AsTime()}
	if s := e.GetUserMetadata().GetSummary(); s == nil || converter.GetDefaultDataConverter().FromPayload(s, &p.name) != nil || p.name == "" {
		p.name = stepName(p.activity)
	}
	w.phases[e.GetEventId()] = p
	var record remora.Restore
	if p.activity == remora.RecordRestoreActivity && decode(a.GetInput(), &record) {
		f.record = &record
	}
	if !bookkeeping(p.activity) {
		f.say(Update{Event: PhaseStarted, At: p.started, Phase: p.name})
	}
}

func (f *follower) phaseEnds(p *phase, e *historypb.HistoryEvent, result *commonpb.Payloads, problem *remora.Problem) {
	if p == nil || bookkeeping(p.activity) && problem == nil {
		return
	}
	at := e.GetEventTime().AsTime()
	u := Update{Event: PhaseEnded, At: at, Phase: p.name, Took: at.Sub(p.started)}
	if problem != nil {
		u.Problem = problem.Error()
	}
	noun, _, _ := strings.Cut(p.activity, ".")
	if kind := remora.Kind(noun); kind == remora.Database || kind == remora.Files {
		u.Kind = kind
	}
	u.Summary = counted(p.activity, result)
	var maintenance remora.MaintenanceResult
	if (p.activity == remora.EnterActivity || p.activity == remora.LeaveActivity) && decode(result, &maintenance) && maintenance.Mode == "" {
		u.Skipped = "no maintenance mode is configured"
	}
	var checks remora.ChecksResult
	if p.activity == remora.ChecksActivity && decode(result, &checks) {
		switch {
		case len(checks.Failed) > 0:
			u.Problem = strings.Join(checks.Failed, "; ")
		case checks.Passed == 0 && checks.Later > 0:
			u.Skipped = "the application must be online for that"
		case checks.Passed == 0:
			u.Skipped = "no checks are configured"
		}
	}
	f.say(u)
}

// bookkeeping tells apart the activities that nobody waits for.
func bookkeeping(activity string) bool {
	switch activity {
	case remora.DescribeActivity, remora.RecordFailureActivity, remora.RecordRestoreActivity, remora.RecordProofActivity, remora.LookActivity,
		remora.AfterBackupActivity, remora.MissingActivity, remora.DueForVerifyActivity, remora.RoomActivity, remora.RecordCopiesActivity,
		remora.Database.Activity(remora.LeftoversVerb), remora.Files.Activity(remora.LeftoversVerb):
		return true
	}
	return false
}

// counted reads what a finished activity has counted, where it has.
func counted(activity string, result *commonpb.Payloads) *remora.Summary {
	var said struct {
		remora.Summary                 // of a Stage
		Part           *remora.Summary `json:"summary"`  // of a Capture
		Compared       *remora.Summary `json:"compared"` // of a Compare or a Preview
	}
	_, verb, _ := strings.Cut(activity, ".")
	switch verb {
	case remora.CaptureVerb, remora.CompareVerb, remora.StageVerb, remora.PreviewVerb:
	default:
		if activity != remora.VerifyActivity && activity != remora.CopyActivity { // whose bytes are beside other counts
			return nil
		}
	}
	if !decode(result, &said) {
		return nil
	}
	return cmp.Or(said.Part, said.Compared, &said.Summary)
}

// result is what the top run came to.
func (f *follower) result(ctx context.Context, run Run) (Ended, error) {
	var ended Ended
	into := map[string]any{
		remora.BackupWorkflow:    &ended.Backup,
		remora.PlanWorkflow:      &ended.Plan,
		remora.CopyWorkflow:      &ended.Copied,
		remora.CopyAllWorkflow:   &ended.Copied,
		remora.VerifyWorkflow:    &ended.Verified,
		remora.VerifyAllWorkflow: &ended.Verified,
		remora.RetentionWorkflow: &ended.Retention,
		remora.DrillWorkflow:     &ended.Proof,
	}[f.watched[0].last.workflow]
	if into == nil {
		ended.Restore = f.record
	}
	if err := f.outcome(ctx, run, into); err != nil {
		return Ended{}, err
	}
	return ended, nil
}

// outcome waits for the end of a run and reads its result, however long Temporal needs to answer.
func (f *follower) outcome(ctx context.Context, run Run, into any) error {
	for {
		err := f.control.client.GetWorkflow(ctx, run.ID, run.RunID).Get(ctx, into)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			return nil
		case !away(err):
			return asProblem("run "+remora.OperationName(run.Workflow), err)
		}
		f.gone()
		if err := pause(ctx, f.control.cfg.Poll); err != nil {
			return err
		}
	}
}
