package workflows

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

var dueAt = time.Date(2027, 3, 1, 1, 30, 0, 0, time.UTC)

func nightly() remora.Schedule {
	return remora.Schedule{
		Source: "shop", Name: "nightly", Kinds: both, RetentionDays: 90, Deadline: 2 * time.Hour, CatchUp: 6 * time.Hour, Spread: 10 * time.Minute,
	}
}

// newSlot is a slot that begins late by so much.
func newSlot(t testing.TB, w *world, late time.Duration) *stage {
	s := newStage(t, w, "slot/shop/nightly-"+dueAt.Format(time.RFC3339))
	s.SetStartTime(dueAt.Add(late))
	require.NoError(t, s.SetTypedSearchAttributesOnStart(dueAttributes(dueAt)))
	return s
}

func dueAttributes(due time.Time) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyTime(remora.DueAttribute).ValueSet(due))
}

// outcomes are what is recorded of a slot, each with what says so.
func (w *world) outcomes(source string, slot remora.Slot) (all []remora.Status, why []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.backups {
		if s.manifest.Source == source && s.manifest.Slot == slot {
			status := remora.Pending
			if s.verified {
				status = remora.Completed
			}
			all, why = append(all, status), append(why, s.manifest.ID)
		}
	}
	for _, f := range w.failures {
		if f.Source == source && f.Slot == slot {
			all, why = append(all, f.Status), append(why, f.Problem)
		}
	}
	return all, why
}

// ended fails the test unless the slot that was due has exactly one outcome, and gives it.
func (w *world) ended(t testing.TB) (how remora.Status, why string) {
	t.Helper()
	all, reasons := w.outcomes("shop", remora.Slot{Schedule: "nightly", Due: dueAt})
	require.Len(t, all, 1, "%v", reasons)
	return all[0], reasons[0]
}

func TestSlotStory(t *testing.T) {
	w := newWorld(t)
	s := newSlot(t, w, 20*time.Second)
	s.ExecuteWorkflow(remora.SlotWorkflow, remora.SlotRequest{Schedule: nightly()})
	require.NoError(t, s.GetWorkflowError())
	var result remora.BackupResult
	require.NoError(t, s.GetWorkflowResult(&result))
	m := w.backups[result.ID].manifest
	require.Equal(t, remora.Slot{Schedule: "nightly", Due: dueAt}, m.Slot, "the moment that was meant, not when it began")
	require.Equal(t, 90, m.RetentionDays)
	require.Equal(t, "schedule nightly", m.RequestedBy)
	require.Equal(t, dueAt.Add(nightly().Offset()), m.Started, "put off by its part of the spread")
	require.Positive(t, nightly().Offset())
	require.Empty(t, w.failures)
}

// What a person triggers is begun at once, and is theirs.
func TestSlotByHand(t *testing.T) {
	w := newWorld(t)
	s := newStage(t, w, "slot/shop/nightly")
	s.SetStartTime(dueAt.Add(time.Hour))
	s.ExecuteWorkflow(remora.SlotWorkflow, remora.SlotRequest{Schedule: nightly(), RequestedBy: "ada"})
	require.NoError(t, s.GetWorkflowError())
	var result remora.BackupResult
	require.NoError(t, s.GetWorkflowResult(&result))
	m := w.backups[result.ID].manifest
	require.Equal(t, "ada", m.RequestedBy)
	require.Equal(t, dueAt.Add(time.Hour), m.Started)
	require.Equal(t, remora.Slot{Schedule: "nightly", Due: dueAt.Add(time.Hour)}, m.Slot)
}

// What Temporal's own trigger begins is due at that moment, between the minutes, and is not put off either.
func TestSlotThatIsTriggered(t *testing.T) {
	w := newWorld(t)
	s := newStage(t, w, "slot/shop/nightly")
	s.SetStartTime(dueAt.Add(17 * time.Second))
	s.ExecuteWorkflow(remora.SlotWorkflow, remora.SlotRequest{Schedule: nightly()})
	require.NoError(t, s.GetWorkflowError())
	var result remora.BackupResult
	require.NoError(t, s.GetWorkflowResult(&result))
	require.Equal(t, dueAt.Add(17*time.Second), w.backups[result.ID].manifest.Started)
}

// I10: whatever fails, the slot has one outcome, and it is that of the workflow.
func TestSlotWithEveryStepFailing(t *testing.T) {
	faults(t, allFaults, func(t *testing.T, f fault) bool {
		w := newWorld(t)
		w.fault = f
		s := newSlot(t, w, 0)
		s.ExecuteWorkflow(remora.SlotWorkflow, remora.SlotRequest{Schedule: nightly()})
		require.True(t, s.IsWorkflowCompleted())
		how, why := w.ended(t)
		switch err := s.GetWorkflowError(); {
		case err == nil:
			require.Equal(t, remora.Completed, how)
		case how == remora.Failed:
			require.ErrorContains(t, err, why)
		default:
			require.Greater(t, f.nth, 4, "committed, and then something failed")
		}
		return w.fired
	})
}

func TestSlotCancelledAtEveryStep(t *testing.T) {
	faults(t, []string{"cancel"}, func(t *testing.T, f fault) bool {
		w := newWorld(t)
		s := newSlot(t, w, 0)
		f.again = s.CancelWorkflow
		w.fault = f
		s.ExecuteWorkflow(remora.SlotWorkflow, remora.SlotRequest{Schedule: nightly()})
		require.True(t, s.IsWorkflowCompleted())
		if how, why := w.ended(t); how == remora.Failed {
			require.True(t, temporal.IsCanceledError(s.GetWorkflowError()))
			require.Contains(t, why, "cancelled")
		} else {
			require.Equal(t, remora.Completed, how, "a backup that is being committed is finished")
		}
		return w.fired
	})
}

func TestSlotCancelledBeforeItBegan(t *testing.T) {
	w := newWorld(t)
	s := newSlot(t, w, 0)
	s.RegisterDelayedCallback(s.CancelWorkflow, time.Second)
	s.ExecuteWorkflow(remora.SlotWorkflow, remora.SlotRequest{Schedule: nightly()})
	require.True(t, temporal.IsCanceledError(s.GetWorkflowError()))
	how, why := w.ended(t)
	require.Equal(t, remora.Skipped, how)
	require.Equal(t, "it was cancelled before it began", why)
	require.Zero(t, w.count("database.Preflight"))
}

// A slot that waited for a worker for longer than its schedule catches up is missed, and says so; one that is caught up
// with in time has its backup, whatever the time.
func TestSlotThatBeginsLate(t *testing.T) {
	for late, want := range map[time.Duration]remora.Status{
		6 * time.Hour: remora.Completed, 6*time.Hour + 2*time.Minute: remora.Missed,
	} {
		w := newWorld(t)
		s := newSlot(t, w, late)
		s.ExecuteWorkflow(remora.SlotWorkflow, remora.SlotRequest{Schedule: nightly()})
		require.NoError(t, s.GetWorkflowError())
		how, why := w.ended(t)
		require.Equal(t, want, how)
		if want == remora.Missed {
			require.Equal(t, "no worker was there to begin it until 2027-03-01 07:32 UTC, and that is too late", why)
			require.Equal(t, remora.SlotSkipped, w.notices[0].Event)
			require.Equal(t, dueAt, w.notices[0].Due)
		}
	}
}

// A slot waits for whoever is at work, asks nobody to stop, and gives up at its deadline.
func TestSlotWaitsForItsSource(t *testing.T) {
	for held, want := range map[time.Duration]remora.Status{90 * time.Minute: remora.Completed, 3 * time.Hour: remora.Skipped} {
		w := newWorld(t)
		w.holds = remora.Holder{Operation: "a restore", By: "alice@host", Since: dueAt.Add(-time.Hour)}
		s := newStage(t, w, "beside")
		s.SetStartTime(dueAt)
		stopped := false
		s.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
			err := workflow.Sleep(ctx, held)
			stopped = err != nil
			return err
		}, workflow.RegisterOptions{Name: "holder"})
		s.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
			holding := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: "op/shop"}), "holder")
			if err := holding.GetChildWorkflowExecution().Get(ctx, nil); err != nil {
				return err
			}
			ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: "slot", TypedSearchAttributes: dueAttributes(dueAt)})
			err := workflow.ExecuteChildWorkflow(ctx, remora.SlotWorkflow, remora.SlotRequest{Schedule: nightly()}).Get(ctx, nil)
			if err != nil {
				return err
			}
			return holding.Get(ctx, nil)
		}, workflow.RegisterOptions{Name: "beside"})
		s.ExecuteWorkflow("beside")
		require.NoError(t, s.GetWorkflowError())
		require.False(t, stopped, "restores come first")
		how, why := w.ended(t)
		require.Equal(t, want, how)
		if want == remora.Skipped {
			require.Equal(t, "the source was busy until the deadline: a restore by alice@host, since 2027-03-01 00:30 UTC", why)
			require.Len(t, w.notices, 1)
			for _, f := range w.failures {
				require.Equal(t, dueAt.Add(nightly().Offset()+2*time.Hour), f.Ended)
			}
		}
	}
}

// startSlot has a schedule on a real server begin its slot now.
func (r *recording) startSlot(s remora.Schedule) (slot client.WorkflowRun) {
	r.t.Helper()
	s.Spread = 0
	handle, err := r.ScheduleClient().Create(r.t.Context(), client.ScheduleOptions{
		ID: s.ID(), TriggerImmediately: true,
		Action: &client.ScheduleWorkflowAction{
			ID: "slot/shop/nightly", Workflow: remora.SlotWorkflow, TaskQueue: remora.Queue, Args: []any{remora.SlotRequest{Schedule: s}},
		},
	})
	require.NoError(r.t, err)
	require.Eventually(r.t, func() bool {
		d, err := handle.Describe(r.t.Context())
		if err == nil && len(d.Info.RecentActions) > 0 {
			began := d.Info.RecentActions[0].StartWorkflowResult
			slot = r.GetWorkflow(r.t.Context(), began.WorkflowID, began.FirstExecutionRunID)
		}
		return slot != nil
	}, 20*time.Second, 50*time.Millisecond, "the schedule does not begin its slot")
	return slot
}

// slotEnds gives the one outcome of the slot, and fails the test unless that is for the moment that the schedule meant.
func (r *recording) slotEnds(slot client.WorkflowRun) (how remora.Status, why string) {
	r.t.Helper()
	due, err := time.Parse(time.RFC3339, strings.TrimPrefix(slot.GetID(), "slot/shop/nightly-"))
	require.NoError(r.t, err)
	all, reasons := r.outcomes("shop", remora.Slot{Schedule: "nightly", Due: due})
	require.Len(r.t, all, 1, "%v; %v", reasons, r.failures)
	return all[0], reasons[0]
}

func playSlot(t *testing.T, r *recording) {
	slot := r.startSlot(nightly())
	require.NoError(t, slot.Get(t.Context(), nil))
	how, _ := r.slotEnds(slot)
	require.Equal(t, remora.Completed, how)
}

// A slot names who is at work, asks nobody to stop, and gives up.
func playSkippedSlot(t *testing.T, r *recording) {
	waiting := make(chan struct{}, 1)
	r.gate = untilCancelled("files.Capture", waiting)
	backup := r.start("op/shop", remora.BackupWorkflow, backupRequest())
	<-waiting
	busy := nightly()
	busy.Deadline = 2 * time.Second
	slot := r.startSlot(busy)
	require.NoError(t, slot.Get(t.Context(), nil), "a skip is no failure")
	how, why := r.slotEnds(slot)
	require.Equal(t, remora.Skipped, how)
	require.Contains(t, why, "the source was busy until the deadline: a backup by ada, since ")
	described, err := r.DescribeWorkflowExecution(t.Context(), "op/shop", backup.GetRunID())
	require.NoError(t, err)
	require.Equal(t, enums.WORKFLOW_EXECUTION_STATUS_RUNNING, described.GetWorkflowExecutionInfo().GetStatus())
	require.NoError(t, r.CancelWorkflow(t.Context(), "op/shop", ""))
	require.Error(t, backup.Get(t.Context(), nil))
}

func playFailedSlot(t *testing.T, r *recording) {
	r.refuse = 5
	slot := r.startSlot(nightly())
	err := slot.Get(t.Context(), nil)
	require.Equal(t, string(remora.Unsupported), kindOf(err))
	how, why := r.slotEnds(slot)
	require.Equal(t, remora.Failed, how)
	require.ErrorContains(t, err, why)
	for _, f := range r.failures {
		require.Equal(t, "archive files of shop", f.Phase, "what the backup knows of it stays")
	}
}

// A backup that is terminated can say nothing: its slot says it.
func playTerminatedSlot(t *testing.T, r *recording) {
	waiting := make(chan struct{}, 1)
	r.gate = untilCancelled("files.Capture", waiting)
	slot := r.startSlot(nightly())
	<-waiting
	require.NoError(t, r.TerminateWorkflow(t.Context(), "op/shop", "", "the test does"))
	require.Equal(t, string(remora.Cancelled), kindOf(slot.Get(t.Context(), nil)))
	how, why := r.slotEnds(slot)
	require.Equal(t, remora.Failed, how)
	require.Equal(t, "back up shop: its workflow was terminated in Temporal", why)
}
