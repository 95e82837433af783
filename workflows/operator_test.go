package workflows

import (
	"context"
	"crypto/rand"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/remora-backup/remora/internal/remora"
)

// What an operator can do to a run in Temporal's Web UI is done here, on a real server (F37, S20). Whatever it is: the
// data is BEFORE or AFTER, never between; the application is back; a person can settle what is left; and what is said
// is true.

// hold keeps a step from ending until it is cancelled, paused, or its workflow is gone; then it has no effect. release
// lets its next try pass.
func (r *recording) hold(step string) (reached func(), release func()) {
	waiting := make(chan struct{}, 1)
	gate := func(to func(context.Context, string, int)) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.gate = to
	}
	gate(untilCancelled(step, waiting))
	return func() { <-waiting }, func() { gate(nil) }
}

func (r *recording) terminate(id string) {
	r.t.Helper()
	require.NoError(r.t, r.TerminateWorkflow(r.t.Context(), id, "", "the test does"))
}

// adopted starts what `remora rollback` and the next `remora restore` start when nobody looks after a restore.
func (r *recording) adopt() client.WorkflowRun {
	return r.start("restore/shop", remora.RestoreWorkflow, remora.RestoreRequest{
		PlanRequest: remora.PlanRequest{Source: "shop"}, RequestedBy: "grace", Adopt: true,
	})
}

// reset resets a run to its first or its last workflow task, as the Web UI offers.
func (r *recording) reset(id, run string, first bool) {
	r.t.Helper()
	var point int64
	events := r.GetWorkflowHistory(r.t.Context(), id, run, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		require.NoError(r.t, err)
		if e.GetEventType() == enums.EVENT_TYPE_WORKFLOW_TASK_COMPLETED && (point == 0 || !first) {
			point = e.GetEventId()
		}
	}
	_, err := r.WorkflowService().ResetWorkflowExecution(r.t.Context(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: "remora", WorkflowExecution: &common.WorkflowExecution{WorkflowId: id, RunId: run}, Reason: "the test does",
		WorkflowTaskFinishEventId: point, RequestId: rand.Text(),
	})
	require.NoError(r.t, err)
}

// record is what the repository knows of the one restore.
func (r *recording) record() remora.Restore {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Len(r.t, r.restores, 1)
	for _, one := range r.restores {
		return one
	}
	return remora.Restore{}
}

// ended waits for the newest run of an id, and gives what it ended with.
func (r *recording) ended(id string) error {
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	return r.GetWorkflow(ctx, id, "").Get(ctx, nil)
}

// S20: a Restore that is terminated in its undo window is taken over: what was live stays, and rollback and accept work.
func playAdopted(t *testing.T, r *recording) {
	r.startRestore(time.Hour)
	r.await(remora.OutcomeApplied)
	require.Equal(t, remora.OutcomeUndone, r.update(remora.RollbackUpdate).Outcome)
	require.Equal(t, remora.OutcomeApplied, r.update(remora.RollbackUpdate).Outcome)
	r.terminate("restore/shop")
	before := r.record()

	r.adopt()
	require.Eventually(t, func() bool { return r.record().Hint != "" }, 20*time.Second, 20*time.Millisecond)
	taken := r.record()
	require.Equal(t, before.ID, taken.ID, "it is the same restore")
	require.Equal(t, remora.OutcomeApplied, taken.Outcome)
	require.Contains(t, taken.Hint, "grace has taken it over")
	r.lives(saved)
	undone := r.update(remora.RollbackUpdate)
	require.Equal(t, remora.OutcomeUndone, undone.Outcome)
	require.Equal(t, "ada", undone.Phases[len(undone.Phases)-1].RequestedBy, "who rolled back is on record")
	r.lives(original)
	require.Equal(t, remora.OutcomeAccepted, r.update(remora.AcceptUpdate).Outcome)
	require.NoError(t, r.ended("restore/shop"))
	r.lives(original)
	r.tidy()
}

// A Restore that is terminated before its switch undoes itself by its own child; the record is settled by the next
// command. Where the child was terminated as well, that discards the stage and leaves maintenance.
func playTerminatedBeforeSwitch(t *testing.T, r *recording) {
	reached, release := r.hold("files.Stage")
	r.startRestore(time.Hour)
	reached()
	r.terminate("restore/shop")
	r.terminate("op/shop")
	release()
	require.NotEmpty(t, r.kinds[remora.Database].journal, "the stage is left")
	require.NoError(t, r.adopt().Get(t.Context(), nil))
	require.Equal(t, remora.OutcomeRolledBack, r.record().Outcome)
	require.Contains(t, r.record().Hint, "How long its steps took is not known.")
	r.lives(original)
	r.tidy()
	require.Equal(t, string(remora.NotFound), kindOf(r.adopt().Get(t.Context(), nil)), "there is nothing to take over any more")
}

// Terminated in the middle of the switch, both of them: between, and offline, until the next command brings it back.
func playTerminatedInSwitch(t *testing.T, r *recording) {
	reached, release := r.hold("files.Switch")
	r.startRestore(time.Hour)
	reached()
	r.terminate("restore/shop")
	r.terminate("op/shop")
	r.mu.Lock()
	require.NotEqual(t, r.kinds[remora.Database].live, r.kinds[remora.Files].live)
	require.NotEmpty(t, r.offline)
	r.mu.Unlock()
	release()
	r.adopt()
	r.await(remora.OutcomeUndone)
	r.lives(original)
	require.Empty(t, r.offline)
	require.Equal(t, remora.OutcomeApplied, r.update(remora.RollbackUpdate).Outcome, "what was restored is kept, and can be had")
	r.lives(saved)
	require.Equal(t, remora.OutcomeAccepted, r.update(remora.AcceptUpdate).Outcome)
	require.NoError(t, r.ended("restore/shop"))
	r.tidy()
}

// A switch that is terminated before it moved anything, in a worker that does not hear of it: it comes too late, whoever
// settles the restore, and whenever it wakes up (S3).
func playLateSwitch(t *testing.T, r *recording) {
	for _, wakes := range []string{"files.Leftovers", "maintenance.Leave"} {
		for _, both := range []bool{false, true} {
			reached, _ := r.hold("database.Switch")
			run := r.startRestore(time.Hour)
			reached()
			var woke sync.Once
			r.mu.Lock()
			r.gate = func(_ context.Context, name string, _ int) {
				if name != wakes {
					return
				}
				woke.Do(func() {
					r.mu.Lock()
					defer r.mu.Unlock()
					for at := range r.kinds[remora.Database].journal {
						_ = component{r.world, remora.Database}.turned(remora.ComponentInput{Turn: remora.Turn{Run: at, Seq: firstSwitch, Live: remora.Restored}})
					}
				})
			}
			r.mu.Unlock()
			if both {
				r.terminate("restore/shop")
				r.terminate("op/shop")
				run = r.adopt()
				require.NoError(t, run.Get(t.Context(), nil))
			} else {
				r.terminate("op/shop")
				require.Equal(t, string(remora.RolledBack), kindOf(run.Get(t.Context(), nil)))
			}
			require.Equal(t, remora.OutcomeRolledBack, r.record().Outcome)
			r.lives(original)
			r.tidy()
			r.mu.Lock()
			r.gate = nil
			clear(r.restores)
			r.mu.Unlock()
		}
	}
}

// A rollback that is terminated in the middle is brought back by its Restore, which says so.
func playTerminatedTurn(t *testing.T, r *recording) {
	r.startRestore(time.Hour)
	r.await(remora.OutcomeApplied)
	reached, release := r.hold("files.Switch")
	rollback, err := r.UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{
		WorkflowID: "restore/shop", UpdateName: remora.RollbackUpdate, WaitForStage: client.WorkflowUpdateStageAccepted,
		Args: []any{remora.WishInput{RequestedBy: "ada"}},
	})
	require.NoError(t, err)
	reached()
	r.terminate("op/shop")
	release()
	require.ErrorContains(t, rollback.Get(t.Context(), nil), "terminated")
	r.lives(saved)
	require.Empty(t, r.offline)
	require.Equal(t, remora.OutcomeApplied, r.record().Outcome)
	require.Equal(t, remora.OutcomeUndone, r.update(remora.RollbackUpdate).Outcome, "it can be asked again")
	r.lives(original)
	require.Equal(t, remora.OutcomeAccepted, r.update(remora.AcceptUpdate).Outcome)
	require.NoError(t, r.ended("restore/shop"))
	r.tidy()
}

// The end of a window that is terminated is repeated, whatever of it had happened.
func playTerminatedDiscard(t *testing.T, r *recording) {
	run := r.startRestore(time.Hour)
	r.await(remora.OutcomeApplied)
	reached, release := r.hold("files.Discard")
	accept, err := r.UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{
		WorkflowID: "restore/shop", UpdateName: remora.AcceptUpdate, WaitForStage: client.WorkflowUpdateStageAccepted,
		Args: []any{remora.WishInput{RequestedBy: "ada"}},
	})
	require.NoError(t, err)
	reached()
	r.terminate("op/shop")
	release()
	require.NoError(t, accept.Get(t.Context(), nil))
	require.NoError(t, run.Get(t.Context(), nil))
	require.Equal(t, remora.OutcomeAccepted, r.record().Outcome)
	r.lives(saved)
	r.tidy()
}

// An Apply that is reset while it stages begins again, or goes on; its Restore waits for it either way.
func playResetStage(t *testing.T, r *recording) {
	for _, first := range []bool{true, false} {
		reached, release := r.hold("files.Stage")
		run := r.startRestore(time.Hour)
		reached()
		r.reset("op/shop", "", first)
		release()
		r.await(remora.OutcomeApplied)
		r.update(remora.AcceptUpdate)
		require.NoError(t, run.Get(t.Context(), nil))
		r.lives(saved)
		r.tidy()
		r.mu.Lock()
		clear(r.restores)
		r.mu.Unlock()
	}
}

// An Apply that is reset to its beginning after the database was switched forgets that; its way back asks the journal.
func playResetSwitch(t *testing.T, r *recording) {
	reached, release := r.hold("files.Switch")
	run := r.startRestore(time.Hour)
	reached()
	r.reset("op/shop", "", true)
	release()
	require.Equal(t, string(remora.RolledBack), kindOf(run.Get(t.Context(), nil)))
	r.lives(original)
	r.tidy()
	require.Equal(t, remora.OutcomeRolledBack, r.record().Outcome)

	// Reset when it was about to switch, and cancelled then: it has forgotten the maintenance as well.
	clear(r.restores)
	reached, release = r.hold("database.Switch")
	run = r.startRestore(time.Hour)
	reached()
	require.NotEmpty(t, r.offline)
	release()
	reached, release = r.hold("files.Stage")
	r.reset("op/shop", "", true)
	reached()
	require.NoError(t, r.CancelWorkflow(t.Context(), "restore/shop", ""))
	require.True(t, temporal.IsCanceledError(run.Get(t.Context(), nil)))
	release()
	r.lives(original)
	r.tidy()
}

// Resets of what has ended change nothing: neither an Apply whose window is open, nor a Turn, nor a Restore.
func playResetEnded(t *testing.T, r *recording) {
	r.startRestore(time.Hour)
	r.await(remora.OutcomeApplied)
	apply := r.GetWorkflow(t.Context(), "op/shop", "").GetRunID()
	for _, first := range []bool{true, false} {
		r.reset("op/shop", apply, first)
		_ = r.ended("op/shop")
		r.lives(saved)
		require.Equal(t, remora.OutcomeApplied, r.record().Outcome)
		require.Len(t, r.of(remora.PutAway), 0, "nothing was discarded")
	}
	require.Equal(t, remora.OutcomeUndone, r.update(remora.RollbackUpdate).Outcome)
	turn := r.GetWorkflow(t.Context(), "op/shop", "").GetRunID()
	require.Equal(t, remora.OutcomeApplied, r.update(remora.RollbackUpdate).Outcome)
	require.Equal(t, remora.OutcomeUndone, r.update(remora.RollbackUpdate).Outcome)
	r.reset("op/shop", turn, true)
	require.Equal(t, string(remora.Superseded), kindOf(r.ended("op/shop")))
	r.lives(original)
	require.Empty(t, r.offline)

	// A Restore that is reset in its window goes on from where the data is, not from where it was.
	r.reset("restore/shop", "", true)
	require.Eventually(t, func() bool { return r.record().Hint != "" }, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, remora.OutcomeUndone, r.record().Outcome)
	r.lives(original)
	require.Equal(t, remora.OutcomeAccepted, r.update(remora.AcceptUpdate).Outcome)
	require.NoError(t, r.ended("restore/shop"))
	r.tidy()

	r.reset("restore/shop", "", true) // and one that is over stays over
	require.Equal(t, string(remora.NotFound), kindOf(r.ended("restore/shop")))
	require.Equal(t, remora.OutcomeAccepted, r.record().Outcome)
	r.lives(original)
	r.tidy()
}

// A Backup that is reset is the same backup.
func playResetBackup(t *testing.T, r *recording) {
	reached, release := r.hold("files.Capture")
	r.start("op/shop", remora.BackupWorkflow, backupRequest())
	reached()
	r.reset("op/shop", "", true)
	release()
	require.NoError(t, r.ended("op/shop"))
	checkBackup(t, r.world, nil)
	r.reset("op/shop", "", true)
	require.NoError(t, r.ended("op/shop"))
	checkBackup(t, r.world, nil)
}

// A paused step stops and is not undone; it goes on when it is unpaused or reset, and a cancel reaches it.
func playPaused(t *testing.T, r *recording) {
	execution := &common.WorkflowExecution{WorkflowId: "op/shop"}
	pause := func() {
		reached, release := r.hold("files.Stage")
		r.startRestore(time.Hour)
		reached()
		_, err := r.WorkflowService().PauseActivity(t.Context(), &workflowservice.PauseActivityRequest{
			Namespace: "remora", Execution: execution, Identity: "ada", Reason: "the disk is busy",
			Activity: &workflowservice.PauseActivityRequest_Type{Type: "files.Stage"},
		})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			d, err := r.DescribeWorkflowExecution(t.Context(), "op/shop", "")
			return err == nil && len(d.GetPendingActivities()) == 1 && d.GetPendingActivities()[0].GetState() == enums.PENDING_ACTIVITY_STATE_PAUSED
		}, 20*time.Second, 20*time.Millisecond)
		release()
		require.Equal(t, saved, r.kinds[remora.Database].journal[r.record().Run].stage, "nothing was undone")
	}
	pause()
	_, err := r.WorkflowService().UnpauseActivity(t.Context(), &workflowservice.UnpauseActivityRequest{
		Namespace: "remora", Execution: execution, Activity: &workflowservice.UnpauseActivityRequest_Type{Type: "files.Stage"},
	})
	require.NoError(t, err)
	r.await(remora.OutcomeApplied)
	r.update(remora.AcceptUpdate)
	require.NoError(t, r.ended("restore/shop"))
	r.tidy()

	clear(r.restores)
	pause()
	require.NoError(t, r.CancelWorkflow(t.Context(), "restore/shop", ""))
	require.True(t, temporal.IsCanceledError(r.ended("restore/shop")))
	r.lives(saved)
	r.tidy()

	clear(r.restores)
	pause()
	_, err = r.WorkflowService().ResetActivity(t.Context(), &workflowservice.ResetActivityRequest{
		Namespace: "remora", Execution: execution, Activity: &workflowservice.ResetActivityRequest_Type{Type: "files.Stage"},
	})
	require.NoError(t, err)
	r.await(remora.OutcomeApplied)
	r.update(remora.AcceptUpdate)
	require.NoError(t, r.ended("restore/shop"))
	r.tidy()
}
