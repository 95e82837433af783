package workflows

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/internal/remora"
)

// makeStale makes n backups that need not be kept.
func (w *world) makeStale(n int) {
	for i := range n {
		id := fmt.Sprintf("old%03d", i)
		w.backups[id] = &stored{verified: true}
		w.stale = append(w.stale, id)
	}
}

func TestRetentionStory(t *testing.T) {
	w := newWorld(t)
	w.makeStale(2*deletePage + 20)
	w.stale[7] = "held"
	s := newStage(t, w, "op/repository")
	s.ExecuteWorkflow(remora.RetentionWorkflow, remora.RetentionRequest{RequestedBy: "ada"})
	require.NoError(t, s.GetWorkflowError())
	var done remora.RetentionResult
	require.NoError(t, s.GetWorkflowResult(&done))
	require.Equal(t, remora.RetentionResult{Kept: 5, Deleted: 119, Spared: 1, Freed: 3, Later: 1190, Owed: 1190}, done)
	require.Equal(t, []string{"retention.Plan", "retention.Delete", "retention.Delete", "retention.Delete", "retention.Reclaim"}, w.calls)
	require.Len(t, w.backups, 2, "the good one, and the one that was held")
}

func TestRetentionWithNothingToDeleteReclaims(t *testing.T) {
	w := newWorld(t)
	s := newStage(t, w, "prune/offsite")
	s.ExecuteWorkflow(remora.RetentionWorkflow, remora.RetentionRequest{Copy: "offsite"})
	require.NoError(t, s.GetWorkflowError())
	require.Equal(t, []string{"retention.Plan", "retention.Reclaim"}, w.calls)
}

// F43: whatever fails, nothing but what was planned is gone, and the next one finishes.
func TestRetentionWithEveryStepFailing(t *testing.T) {
	for _, how := range allFaults {
		for _, when := range []string{"before", "after"} {
			for nth := 1; nth <= 4; nth++ {
				t.Run(fmt.Sprint(how, when, nth), func(t *testing.T) {
					w := newWorld(t)
					w.makeStale(deletePage + 1)
					w.fault = fault{nth: nth, when: when, how: how}
					s := newStage(t, w, "op/repository")
					s.ExecuteWorkflow(remora.RetentionWorkflow, remora.RetentionRequest{})
					require.True(t, w.fired)
					require.Equal(t, how == "once", s.GetWorkflowError() == nil)
					require.Contains(t, w.backups, "good")
					w.fault = fault{}
					s = newStage(t, w, "op/repository")
					s.ExecuteWorkflow(remora.RetentionWorkflow, remora.RetentionRequest{})
					require.NoError(t, s.GetWorkflowError())
					require.Len(t, w.backups, 1)
				})
			}
		}
	}
}

// What is safe goes; the rest needs a person, who is told, and who gets the command.
func TestADangerousPlanNeedsAPerson(t *testing.T) {
	w := newWorld(t)
	w.makeStale(3)
	w.refused = []string{"9 of the 10 good backups of blog would be deleted at once"}
	s := newStage(t, w, "prune/offsite")
	s.ExecuteWorkflow(remora.RetentionWorkflow, remora.RetentionRequest{Copy: "offsite"})
	err := s.GetWorkflowError()
	require.Equal(t, "Refused", kindOf(err))
	require.ErrorContains(t, err, "9 of the 10")
	require.Contains(t, problemOf("", err).Hint, "remora cleanup --copy offsite --force hash")
	require.Len(t, w.backups, 1)
	require.Len(t, w.notices, 1)
	require.Equal(t, remora.RetentionRefused, w.notices[0].Event)
	require.Contains(t, w.notices[0].Hint, "--force hash")

	s = newStage(t, w, "prune/offsite")
	s.ExecuteWorkflow(remora.RetentionWorkflow, remora.RetentionRequest{Copy: "offsite", Force: "another"})
	require.Equal(t, "Refused", kindOf(s.GetWorkflowError()), "the plan has changed")
	s = newStage(t, w, "prune/offsite")
	s.ExecuteWorkflow(remora.RetentionWorkflow, remora.RetentionRequest{Copy: "offsite", Force: "hash"})
	require.NoError(t, s.GetWorkflowError())
	require.Len(t, w.notices, 1)
}

// One at a time: what a schedule starts runs in the lane, finds it taken and ends quietly; a command is told.
func playRetention(t *testing.T, r *recording) {
	r.makeStale(deletePage + 1)
	waiting, goOn := make(chan struct{}, 1), make(chan struct{})
	r.gate = func(_ context.Context, name string, _ int) {
		if name == remora.PlanRetentionActivity {
			waiting <- struct{}{}
			<-goOn
		}
	}
	first := r.start("retention-2026-11-27T03:00:00Z", remora.RetentionWorkflow, remora.RetentionRequest{RequestedBy: "schedule"})
	<-waiting
	second := r.start("retention-2026-11-27T04:00:00Z", remora.RetentionWorkflow, remora.RetentionRequest{RequestedBy: "schedule"})
	require.NoError(t, second.Get(t.Context(), nil))
	_, err := r.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		ID: remora.RepositoryLane(""), TaskQueue: remora.Queue, WorkflowExecutionErrorWhenAlreadyStarted: true,
	}, remora.RetentionWorkflow, remora.RetentionRequest{})
	require.ErrorContains(t, err, "already")
	close(goOn)
	var done remora.RetentionResult
	require.NoError(t, first.Get(t.Context(), &done))
	require.Equal(t, deletePage+1, done.Deleted)
	require.Equal(t, 1, r.count(remora.PlanRetentionActivity))
}

func playRefusedRetention(t *testing.T, r *recording) {
	r.makeStale(1)
	r.channels = []string{"email"}
	r.refused = []string{"9 of the 10 good backups of blog would be deleted at once"}
	run := r.start("retention-2026-11-27T03:00:00Z", remora.RetentionWorkflow, remora.RetentionRequest{RequestedBy: "schedule"})
	err := run.Get(t.Context(), nil)
	require.Equal(t, "Refused", kindOf(err))
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.told) == 1
	}, 30*time.Second, 50*time.Millisecond, "nobody is told")
}
