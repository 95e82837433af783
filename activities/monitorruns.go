package activities

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/schedule"
)

const (
	// mostRuns bounds how many runs one look goes through.
	mostRuns = 500
	// again is for how long a step may fail again and again before people are told.
	again = 5 * time.Minute
	// untaken is how long a run may wait for a worker to decide what comes next.
	untaken = 2 * time.Minute
	// longest is longer than the longest step may take.
	longest = 27 * time.Hour
	// stalePoller is how long after its last question a worker counts as gone: a question waits for up to a minute.
	stalePoller = 90 * time.Second
)

// list are the runs that a query finds.
func (g *glance) list(ctx context.Context, query string, args ...any) ([]*workflowpb.WorkflowExecutionInfo, error) {
	found, err := g.Temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: g.Namespace, Query: fmt.Sprintf(query, args...), PageSize: mostRuns,
	})
	return found.GetExecutions(), err
}

// forget removes the monitor's own runs of yesterday from Temporal: there are hundreds a day, and nobody reads them again.
// What fails is tried again at the next look.
func (g *glance) forget(ctx context.Context) {
	old, _ := g.list(ctx, "WorkflowType = '%s' AND ExecutionStatus != 'Running' AND CloseTime < '%s'", remora.MonitorWorkflow, g.now.Add(-24*time.Hour).Format(time.RFC3339))
	for _, info := range old[:min(len(old), 50)] {
		_, _ = g.Temporal.WorkflowService().DeleteWorkflowExecution(ctx, &workflowservice.DeleteWorkflowExecutionRequest{
			Namespace: g.Namespace, WorkflowExecution: info.GetExecution(),
		})
	}
}

// ofRuns looks at what is at work: whether it fails again and again, stands still, or waits for a person.
func (g *glance) ofRuns(ctx context.Context) error {
	runs, err := g.list(ctx, "ExecutionStatus = 'Running' AND WorkflowType NOT IN ('%s', '%s', '%s') AND WorkflowType STARTS_WITH 'remora.'",
		remora.MonitorWorkflow, remora.NotifyWorkflow, remora.CheckWorkflow) // this one, and those that are told of otherwise
	failing := map[string]time.Time{}
	for _, info := range runs {
		d, err := describe(ctx, g.Temporal, info.GetExecution().GetWorkflowId(), info.GetExecution().GetRunId())
		if err != nil {
			return err
		}
		if running(d) {
			g.ofRun(ctx, d, failing)
		}
	}
	if err == nil {
		g.state.Failing = failing
	}
	return err
}

func (g *glance) ofRun(ctx context.Context, d *workflowservice.DescribeWorkflowExecutionResponse, failing map[string]time.Time) {
	info := d.GetWorkflowExecutionInfo()
	id, source := info.GetExecution().GetWorkflowId(), schedule.Attribute(info.GetSearchAttributes(), remora.SourceAttribute)
	name := remora.OperationName(info.GetType().GetName())
	if source == "" {
		name = id
	}
	for _, a := range d.GetPendingActivities() {
		if !failsAgain(a, g.now) {
			continue
		}
		key := info.GetExecution().GetRunId() + "/" + a.GetActivityId()
		since, known := g.state.Failing[key]
		if !known {
			since = g.now
		}
		failing[key] = since
		if g.now.Sub(since) >= again {
			p := failure(a)
			g.add("failing/"+id, remora.Failing, source, p.Text().Hint, "%s is being tried again since %s: %s", name, remora.Span(g.now.Sub(since)), p.Error())
		}
	}
	if t := d.GetPendingWorkflowTask(); t != nil {
		since := t.GetOriginalScheduledTime().AsTime()
		if waited := g.now.Sub(since); since.Unix() > 0 && waited > untaken {
			g.add("stuck/"+id, remora.Failing, source, "look into the log of remora-worker; start it again, if need be",
				"%s stands still since %s: no worker decides what comes next", name, remora.Span(waited))
		}
		return
	}
	if took := g.now.Sub(info.GetStartTime().AsTime()); info.GetType().GetName() == remora.BackupWorkflow && took > longest {
		g.add("stuck/"+id, remora.Failing, source, "see how far it is with: remora watch "+source, "%s runs since %s", name, remora.Span(took))
	}
	if len(d.GetPendingActivities()) == 0 && !slices.ContainsFunc(d.GetPendingChildren(), func(c *workflowpb.PendingChildExecutionInfo) bool { return !remora.LetGo(c.GetWorkflowTypeName()) }) {
		if what := g.person(ctx, info.GetExecution()); what != "" {
			g.add("person/"+id, remora.Failing, source, "put that right, then: remora resolve "+source, "%s needs a person: %s", name, what)
		}
	}
}

// failsAgain tells whether a step fails again and again: one that has been at work for long after a failure does not.
func failsAgain(a *workflowpb.PendingActivityInfo, now time.Time) bool {
	atWork := a.GetState() == enums.PENDING_ACTIVITY_STATE_STARTED && now.Sub(a.GetLastStartedTime().AsTime()) > again
	return a.GetAttempt() > 1 && a.GetLastFailure() != nil && !atWork && !a.GetPaused()
}

// failure is what the last try of a step ended with.
func failure(a *workflowpb.PendingActivityInfo) *remora.Problem {
	err := temporal.GetDefaultFailureConverter().FailureToError(a.GetLastFailure())
	var text remora.ProblemText
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok && app.HasDetails() && app.Details(&text) == nil {
		return text.Problem()
	}
	return remora.ProblemOf(a.GetActivityType().GetName(), err)
}

// person is what an idle run waits for somebody to put right; empty when it does not, or cannot be asked now.
func (g *glance) person(ctx context.Context, run *commonpb.WorkflowExecution) string {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answer, err := g.Temporal.QueryWorkflow(ctx, run.GetWorkflowId(), run.GetRunId(), "__temporal_workflow_metadata")
	var said sdkpb.WorkflowMetadata
	if err != nil || answer.Get(&said) != nil {
		return ""
	}
	return remora.WaitsForPerson(said.GetCurrentDetails())
}

// ofQueues looks whether a worker takes work from each queue. The first is proven by this step, for whoever runs it.
func (g *glance) ofQueues(ctx context.Context) error {
	for _, queue := range []string{remora.Queue, remora.DataQueue} {
		d, err := g.Temporal.DescribeTaskQueue(ctx, queue, enums.TASK_QUEUE_TYPE_ACTIVITY)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(d.GetPollers(), func(p *taskqueuepb.PollerInfo) bool { return time.Since(p.GetLastAccessTime().AsTime()) < stalePoller }) {
			g.add("queue/"+queue, remora.Failing, "", "start one with: remora up, or remora-worker", "no worker takes work from the queue %s", queue)
		}
		g.differing(queue, d.GetPollers())
	}
	return nil
}

// Knows comes before the digest of what a worker knows of the sources, in its name in Temporal.
const Knows = "sources:"

// differing tells of workers that know other sources than each other (S12): what one has planned, another may do. Those
// that were gone before this one was started do not count.
func (g *glance) differing(queue string, pollers []*taskqueuepb.PollerInfo) {
	who := map[string]string{}
	for _, p := range pollers {
		_, knows, ok := strings.Cut(p.GetIdentity(), Knows)
		if at := p.GetLastAccessTime().AsTime(); ok && at.After(g.Since) && time.Since(at) < stalePoller {
			who[strings.Fields(knows + " ")[0]] = p.GetIdentity()
		}
	}
	if len(who) > 1 {
		g.add("queue/differing/"+queue, remora.Failing, "", "give all of them the same remora.yaml, and start them again",
			"workers differ in what their configuration says of the repository and the sources: %s", strings.Join(slices.Sorted(maps.Values(who)), "; "))
	}
}

const (
	// lookBack is for how long at least it is looked for runs that left no record: the list of runs may lag, and a record
	// may not have been written.
	lookBack = 24 * time.Hour
	// settling is for how long others may still write that record.
	settling = 2 * time.Minute
	// farBack is for how long at most, after an outage.
	farBack = 14 * lookBack
)

// terminated finds the backups that ended without a record of that: terminated, or lost before they could write it.
func (g *glance) terminated(ctx context.Context) error {
	back := lookBack
	if at := g.state.At; !at.IsZero() {
		back = min(max(back, g.now.Sub(at)), farBack)
	}
	closed, err := g.list(ctx, "WorkflowType = '%s' AND ExecutionStatus IN ('Terminated', 'TimedOut', 'Failed') AND CloseTime > '%s' AND CloseTime < '%s'",
		remora.BackupWorkflow, g.now.Add(-back).Format(time.RFC3339), g.now.Add(-settling).Format(time.RFC3339))
	for _, info := range closed {
		if err := g.ofClosed(ctx, info); err != nil {
			return err
		}
	}
	return err
}

// whyLost says why a backup could not leave a record of its own.
var whyLost = map[enums.WorkflowExecutionStatus]string{
	enums.WORKFLOW_EXECUTION_STATUS_TERMINATED: "its workflow was terminated in Temporal",
	enums.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:  "its workflow ran out of time in Temporal",
	enums.WORKFLOW_EXECUTION_STATUS_FAILED:     "it failed, and could not record why",
}

func (g *glance) ofClosed(ctx context.Context, info *workflowpb.WorkflowExecutionInfo) error {
	run, id := info.GetExecution().GetRunId(), info.GetExecution().GetWorkflowId()
	source, inLane := strings.CutPrefix(id, remora.Lane(""))
	if !inLane || len(g.missing) >= mostMissing || slices.ContainsFunc(g.runs, func(b remora.Backup) bool { return b.Run == run }) {
		return nil
	}
	event, err := g.Temporal.GetWorkflowHistory(ctx, id, run, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT).Next()
	if errors.As(err, new(*serviceerror.NotFound)) {
		return nil
	}
	if err != nil {
		return err
	}
	begun := event.GetWorkflowExecutionStartedEventAttributes()
	first := begun.GetFirstExecutionRunId()
	var req remora.BackupRequest
	if err := converter.GetDefaultDataConverter().FromPayloads(begun.GetInput(), &req); err != nil {
		return err
	}
	if slices.ContainsFunc(g.runs, func(b remora.Backup) bool { // or its slot has told
		return b.Run == first || req.Slot.Schedule != "" && b.Source == source && b.Slot.Schedule == req.Slot.Schedule && b.Slot.Due.Equal(req.Slot.Due)
	}) {
		return nil
	}
	started := info.GetStartTime().AsTime()
	lost := remora.FailedRun{
		Status: remora.Failed, Slot: req.Slot, Run: first, ID: remora.BackupID(source, first, "", started), Source: source, Name: req.Name,
		Kind: remora.BackupKindOf(req.Kinds), Purpose: remora.Regular, RequestedBy: req.RequestedBy, Started: started, Ended: info.GetCloseTime().AsTime(),
		Problem: whyLost[info.GetStatus()], Hint: "Take another one: remora backup " + source,
	}
	g.missing = append(g.missing, lost)
	g.runs = append(g.runs, remora.Backup{Manifest: remora.Manifest{Run: first, Source: source, Slot: req.Slot}})
	if !slices.ContainsFunc(g.runs, func(b remora.Backup) bool {
		return b.Source == source && b.Purpose == remora.Regular && b.Started.After(started)
	}) {
		g.add("failed/"+source, remora.Failing, source, lost.Hint, "the last backup failed: %s", lost.Problem)
	}
	return nil
}
