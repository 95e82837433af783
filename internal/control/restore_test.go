package control

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

func restoreOf(source string) remora.RestoreRequest {
	return remora.RestoreRequest{PlanRequest: remora.PlanRequest{Source: source, Backup: source + "-1", Undo: time.Hour}}
}

// restored gives a source with an open undo window.
func restored(t *testing.T, source string) *site {
	t.Helper()
	server := testenv.Temporal(t)
	s := newSite(t, server)
	s.startWorker(server)
	s.terminate(remora.Lane(source), remora.RestoreLane(source))
	run, err := s.control.Restore(context.Background(), restoreOf(source))
	require.NoError(t, err)
	end, err := s.control.Follow(context.Background(), run, nil)
	require.NoError(t, err)
	require.Equal(t, remora.OutcomeApplied, end.Restore.Outcome, "following a restore ends in its undo window")
	return s
}

func TestPlanComesBackSealed(t *testing.T) {
	server := testenv.Temporal(t)
	s := newSite(t, server)
	s.startWorker(server)
	plan, err := s.control.Plan(context.Background(), restoreOf("planned").PlanRequest, nil)
	require.NoError(t, err)
	require.Equal(t, "planned-1", plan.Backup.ID)
	require.NotEmpty(t, plan.Hash)

	req := restoreOf("planned").PlanRequest // by a worker that has never heard of this
	req.To = "elsewhere"
	_, err = s.control.Plan(context.Background(), req, nil)
	requireProblem(t, err, remora.Unsupported, "upgrade the worker")
}

func TestAPreviewEndsWithWhoAskedForIt(t *testing.T) {
	server := testenv.Temporal(t)
	s := newSite(t, server)
	s.startWorker(server)
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	now := time.Now()
	s.control.cfg.Now = func() time.Time { return now }
	find := func(open bool) {
		testenv.Wait(t, time.Minute, "the plan", func() error {
			l, err := s.control.glance(context.Background(), fmt.Sprintf("plan/left/%d", now.UnixNano()), "")
			if err == nil && l.open != open {
				err = fmt.Errorf("it is open: %t", l.open)
			}
			return err
		})
	}
	gone := make(chan error)
	go func() {
		_, err := s.control.Plan(ctx, remora.PlanRequest{Source: "left", Backup: "endless", Preview: true}, nil)
		gone <- err
	}()
	find(true)
	leave()
	require.ErrorIs(t, <-gone, context.Canceled)
	find(false)
}

func TestSecondRestoreIsPointedAtRollbackAndAccept(t *testing.T) {
	s := restored(t, "windowed")
	ctx := context.Background()
	_, err := s.control.Restore(ctx, restoreOf("windowed"))
	requireProblem(t, err, remora.Busy, "undo window", "is open until", "remora rollback windowed", "remora accept windowed")
	_, err = s.control.Plan(ctx, restoreOf("windowed").PlanRequest, nil)
	requireProblem(t, err, remora.Busy, "undo window")
	preview := restoreOf("windowed").PlanRequest
	preview.Preview = true
	_, err = s.control.Plan(ctx, preview, nil)
	require.NoError(t, err, "whoever only looks stands in nobody's way")

	answer, err := s.control.Cancel(ctx, "windowed")
	require.NoError(t, err)
	require.Nil(t, answer.Running, "the window is not cancelled")
	require.Contains(t, answer.Message, "remora rollback windowed")

	run, err := s.control.Backup(ctx, shopBackup("windowed"))
	require.NoError(t, err, "backups go on in the window")
	_, err = s.control.Follow(ctx, run, nil)
	require.NoError(t, err)
}

func TestBackupAndCancelMeetARestoreAtWork(t *testing.T) {
	server := testenv.Temporal(t)
	s := newSite(t, server)
	s.startWorker(server)
	s.terminate(remora.Lane("working"), remora.RestoreLane("working"))
	release := s.hold(remora.Progress{Phase: "load shop", Done: 43, Total: 100, Unit: "rows"})
	defer release()
	ctx := context.Background()
	run, err := s.control.Restore(ctx, restoreOf("working"))
	require.NoError(t, err)
	eventually(t, "it loads", func() bool {
		r, err := s.control.Active(ctx, "working")
		return err == nil && r.Run.Workflow == remora.RestoreWorkflow && r.Progress != nil
	})
	_, err = s.control.Backup(ctx, shopBackup("working"))
	requireProblem(t, err, remora.Busy, "a restore by alice@desk runs since", "load shop, 43 %", "remora cancel working")
	_, err = s.control.Restore(ctx, restoreOf("working"))
	requireProblem(t, err, remora.Busy, "a restore by alice@desk", "load shop, 43 %", "remora cancel working")

	answer, err := s.control.Cancel(ctx, "working")
	require.NoError(t, err)
	require.Equal(t, remora.RestoreLane("working"), answer.Running.Run.ID, "the top workflow is asked, not its child")
	_, err = s.control.Follow(ctx, run, nil)
	requireProblem(t, err, remora.RolledBack, "as it was before", "see the log")
}

func TestRollbackTellsWhatItDoesAndAcceptEndsTheWindow(t *testing.T) {
	s := restored(t, "turned")
	ctx := context.Background()
	var told updates
	r, err := s.control.Rollback(ctx, "turned", told.add)
	require.NoError(t, err)
	require.Equal(t, remora.OutcomeUndone, r.Outcome)
	ended, ok := told.find(PhaseEnded)
	require.True(t, ok, "the last phase is told although the answer came before the next look")
	require.Equal(t, "switch database", ended.Phase)
	for _, u := range told.all {
		require.NotContains(t, u.Phase, "stage", "what the restore did before is not news")
	}
	r, err = s.control.Accept(ctx, "turned", nil)
	require.NoError(t, err)
	require.Equal(t, remora.OutcomeAccepted, r.Outcome)
	l, err := s.control.glance(ctx, remora.RestoreLane("turned"), "")
	require.NoError(t, err)
	require.False(t, l.open, "accept returns when all is done")

	_, err = s.control.Rollback(ctx, "turned", nil)
	requireProblem(t, err, remora.NotFound, "its last restore is over since", "remora restores turned")
	_, err = s.control.Accept(ctx, "never", nil)
	requireProblem(t, err, remora.NotFound, "no restore of it has an open undo window")
}

// S20: a restore whose workflow is gone is taken over by whoever wants to end, turn or replace it.
func TestS20ARestoreWithoutAWorkflowIsTakenOver(t *testing.T) {
	server := testenv.Temporal(t)
	s := newSite(t, server)
	s.startWorker(server)
	c, r := withRepository(t, server.Address, server.Namespace)
	ctx := context.Background()
	for _, source := range []string{"lost", "half-done", "between"} {
		s.terminate(remora.RestoreLane(source))
		outcome := remora.OutcomeApplied
		if source != "lost" {
			outcome = remora.OutcomeRunning
		}
		require.NoError(t, r.RecordRestore(ctx, remora.Restore{ID: source + "-restore-1", Run: "gone", Source: source, Outcome: outcome, Started: time.Now()}))
	}
	o, err := c.Status(ctx, []string{"lost"})
	require.NoError(t, err)
	require.Contains(t, o.Sources[0].Window.Problem, "no workflow looks after the restore lost-restore-1")
	require.Contains(t, o.Sources[0].Window.Hint, "remora rollback lost")

	_, err = c.Plan(ctx, restoreOf("lost").PlanRequest, nil)
	requireProblem(t, err, remora.Busy, "undo window", "remora rollback lost")
	require.NoError(t, c.client.TerminateWorkflow(ctx, remora.RestoreLane("lost"), "", "again"))
	var told updates
	turned, err := c.Rollback(ctx, "lost", told.add)
	require.NoError(t, err)
	require.Equal(t, remora.OutcomeUndone, turned.Outcome)
	require.Contains(t, told.noticed()[0], "taking it over")

	plan, err := c.Plan(ctx, restoreOf("half-done").PlanRequest, nil)
	require.NoError(t, err, "what was only staged does not stand in the way")
	require.NotEmpty(t, plan.Hash)
	settled, err := c.Rollback(ctx, "half-done", nil)
	require.NoError(t, err)
	require.Equal(t, remora.OutcomeRolledBack, settled.Outcome)

	back, err := c.Rollback(ctx, "between", nil)
	require.NoError(t, err)
	require.Equal(t, remora.OutcomeUndone, back.Outcome)
	s2, err := c.stateOf(ctx, "look", "between")
	require.NoError(t, err)
	require.Zero(t, s2.lane.id, "taking it over went back already; it is not turned forth again")
}
