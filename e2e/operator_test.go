package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// TestS20WhatAnOperatorDoesInTemporal pauses and terminates real runs, as the Web UI does (F37, S20).
func TestS20WhatAnOperatorDoesInTemporal(t *testing.T) {
	s := newSite(t, big)
	server := testenv.Temporal(t)
	c := server.Client(t)
	lane := &common.WorkflowExecution{WorkflowId: remora.Lane(s.source())}
	terminate := func(id string) {
		t.Helper()
		require.NoError(t, c.TerminateWorkflow(t.Context(), id, "", "the test does"))
	}
	pending := func() (steps []string) {
		d, err := c.DescribeWorkflowExecution(t.Context(), lane.GetWorkflowId(), "")
		require.NoError(t, err)
		for _, a := range d.GetPendingActivities() {
			steps = append(steps, a.GetActivityType().GetName()+" "+a.GetState().String())
		}
		return steps
	}
	s.must("backup", s.source(), "--name", "good")
	good := s.read()
	s.damage()
	damaged := s.read()

	// Paused while it stages: it stops, nothing is undone, and people are told.
	s.must("restore", "good", "--force", "--detach")
	require.Eventually(t, func() bool { // a rehearsal before it looks like a stage
		steps := pending()
		return len(steps) == 1 && steps[0] == "database.Stage Started" && s.hasStage()
	}, time.Minute, 10*time.Millisecond, "the restore never staged")
	_, err := c.WorkflowService().PauseActivity(t.Context(), &workflowservice.PauseActivityRequest{
		Namespace: server.Namespace, Execution: lane, Identity: "ada", Reason: "the disk is busy",
		Activity: &workflowservice.PauseActivityRequest_Type{Type: "database.Stage"},
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(pending()) == 1 && pending()[0] == "database.Stage Paused" }, time.Minute, 20*time.Millisecond)
	require.True(t, s.hasStage())
	require.Contains(t, s.must("status"), "paused in Temporal by ada: the disk is busy")

	// Terminated there, with all that could compensate: the next restore settles it and goes on.
	terminate(remora.RestoreLane(s.source()))
	terminate(lane.GetWorkflowId())
	require.True(t, s.hasStage(), "nothing has cleaned up")
	require.Contains(t, s.must("status"), "no workflow looks after the restore")
	out := s.must("restore", "good", "--force")
	require.Contains(t, out, "taking it over")
	s.requireEqual(good, s.read(), "after the restore")
	restores := list[remora.Restore](s, "restores", s.source())
	require.Equal(t, []remora.Outcome{remora.OutcomeApplied, remora.OutcomeRolledBack}, []remora.Outcome{restores[0].Outcome, restores[1].Outcome})

	// Terminated in its undo window: the monitor takes it over without anybody asking, and what is live stays.
	terminate(remora.RestoreLane(s.source()))
	look, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "look", TaskQueue: remora.Queue}, remora.MonitorWorkflow)
	require.NoError(t, err)
	require.NoError(t, look.Get(t.Context(), nil))
	require.Eventually(t, func() bool {
		return strings.Contains(list[remora.Restore](s, "restores", s.source())[0].Hint, "monitor has taken it over")
	}, time.Minute, 100*time.Millisecond, "nobody took it over")
	s.requireEqual(good, s.read(), "after it was taken over")

	// A window that was taken over can be lengthened, and so can one that nobody looks after: it is taken over first.
	kept := list[remora.Restore](s, "restores", s.source())[0].KeepUntil
	require.Contains(t, s.must("extend", s.source(), "--for", "48h"), "Extended: ")
	terminate(remora.RestoreLane(s.source()))
	s.must("extend", restores[0].ID, "--until", time.Now().Add(80*24*time.Hour).Format("2006-01-02"))
	extended := list[remora.Restore](s, "restores", s.source())[0]
	require.Greater(t, extended.KeepUntil.Sub(kept), 70*24*time.Hour)
	require.Contains(t, extended.Phases[len(extended.Phases)-1].Name, "extend the undo window until ")
	require.NotEmpty(t, extended.Phases[len(extended.Phases)-1].RequestedBy)
	out, code := s.remora("extend", s.source(), "--until", time.Now().Add(48*time.Hour).Format(time.RFC3339))
	require.Equal(t, 2, code, out)
	require.Contains(t, out, "only ever lengthened")
	s.requireEqual(good, s.read(), "after it was extended")

	// Terminated again: rollback and accept take it over.
	terminate(remora.RestoreLane(s.source()))
	s.must("rollback", restores[0].ID)
	s.requireEqual(damaged, s.read(), "after the rollback")
	terminate(remora.RestoreLane(s.source()))
	s.must("accept", s.source())
	s.requireEqual(damaged, s.read(), "after the accept")
	s.requireNothingLeft()
	last := list[remora.Restore](s, "restores", s.source())[0]
	require.Equal(t, restores[0].ID, last.ID)
	require.Equal(t, remora.OutcomeAccepted, last.Outcome)
	require.NotEmpty(t, last.PutAwayBackup)
	require.NotEmpty(t, last.Phases[len(last.Phases)-1].RequestedBy, "who accepted is on record")
	out, code = s.remora("accept", s.source())
	require.Equal(t, 4, code, out)
	require.Contains(t, out, "its last restore is over since")
}

// hasStage tells whether a stage lies on the server.
func (s *site) hasStage() bool {
	var n int
	require.NoError(s.t, s.db().QueryRow(`SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE '\_remora\_%\_b%'`).Scan(&n))
	return n > 0
}
