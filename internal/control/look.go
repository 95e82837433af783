package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/schedule"
)

// look is one glance at an execution.
type look struct {
	id, runID string
	workflow  string
	actor     string
	open      bool
	started   time.Time
	closed    time.Time
	events    int64
	steps     []step
	children  int
	// waiting is since when the workflow waits for a worker to decide what comes next, and zero while it does not. A
	// worker that is well takes milliseconds.
	waiting time.Time
}

// waits tells whether an open run has nothing to do until somebody asks it to, or a timer ends.
func (l look) waits() bool {
	return l.open && len(l.steps) == 0 && l.children == 0 && l.waiting.IsZero()
}

// step is a pending activity.
type step struct {
	id       string
	activity string
	queue    string
	running  bool
	beat     time.Time
	progress *remora.Progress
	attempt  int
	failure  *remora.Problem
	next     time.Time
	// paused says who has it paused, and why; empty when it is not.
	paused string
}

// name is the phase in the step's own words, where it has spoken.
func (s step) name() string {
	if s.progress != nil && s.progress.Phase != "" {
		return s.progress.Phase
	}
	return stepName(s.activity)
}

// why is what the last attempt ended with; empty when it is not known.
func (s step) why() string {
	if s.failure == nil {
		return ""
	}
	return s.failure.Error()
}

// stepName is what people read of an activity that has not spoken yet: "capture database" for "database.Capture".
func stepName(activity string) string {
	noun, verb, _ := strings.Cut(activity, ".")
	return strings.TrimSpace(strings.ToLower(verb) + " " + noun)
}

// run is where Temporal knows it.
func (l look) run(source string) Run {
	return Run{Source: source, Workflow: l.workflow, ID: l.id, RunID: l.runID}
}

// glance looks at an execution once. An empty runID means the newest; what Temporal does not know has no id.
func (c *Control) glance(ctx context.Context, id, runID string) (look, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	d, err := c.client.DescribeWorkflowExecution(ctx, id, runID)
	if errors.As(err, new(*serviceerror.NotFound)) {
		return look{}, nil
	}
	if err != nil {
		return look{}, err
	}
	info := d.GetWorkflowExecutionInfo()
	l := look{
		id: id, runID: info.GetExecution().GetRunId(), workflow: info.GetType().GetName(),
		actor:   schedule.Attribute(info.GetSearchAttributes(), remora.ActorAttribute),
		open:    info.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING,
		started: when(info.GetStartTime()), closed: when(info.GetCloseTime()),
		events:  info.GetHistoryLength(),
		waiting: when(d.GetPendingWorkflowTask().GetScheduledTime()),
	}
	for _, child := range d.GetPendingChildren() {
		if !remora.LetGo(child.GetWorkflowTypeName()) {
			l.children++
		}
	}
	l.steps = remora.Each(d.GetPendingActivities(), stepOf)
	return l, nil
}

func stepOf(a *workflowpb.PendingActivityInfo) step {
	s := step{
		id: a.GetActivityId(), activity: a.GetActivityType().GetName(),
		queue:   a.GetActivityOptions().GetTaskQueue().GetName(),
		running: a.GetState() == enums.PENDING_ACTIVITY_STATE_STARTED,
		beat:    when(a.GetLastHeartbeatTime()),
		attempt: int(a.GetAttempt()), failure: problemOf(a.GetLastFailure()), next: when(a.GetNextAttemptScheduleTime()),
	}
	if a.GetPaused() {
		by := a.GetPauseInfo().GetManual()
		s.paused = strings.TrimSuffix(fmt.Sprintf("paused in Temporal by %s: %s", cmp.Or(by.GetIdentity(), "somebody"), by.GetReason()), ": ")
	}
	var p remora.Progress
	if decode(a.GetHeartbeatDetails(), &p) && p.Phase != "" {
		s.progress = &p
	}
	return s
}

func when(t *timestamppb.Timestamp) time.Time {
	if t.GetSeconds() == 0 && t.GetNanos() == 0 { // also without one
		return time.Time{}
	}
	return t.AsTime()
}

// decode reads the first payload into v and tells whether there was one that fits.
func decode(p *commonpb.Payloads, v any) bool {
	if len(p.GetPayloads()) == 0 {
		return false
	}
	return converter.GetDefaultDataConverter().FromPayload(p.GetPayloads()[0], v) == nil
}

// problemOf is the Problem that a failure carries; nil for none.
func problemOf(f *failurepb.Failure) *remora.Problem {
	if f == nil {
		return nil
	}
	return asProblem("run", temporal.GetDefaultFailureConverter().FailureToError(f))
}
