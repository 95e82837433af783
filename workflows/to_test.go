package workflows

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

func copyElsewhere() remora.ApplyRequest {
	req := applyRequest()
	req.To = "shop_copy"
	return req
}

func TestStoryOfACopyIntoAnotherSchema(t *testing.T) {
	w := newWorld(t)
	s := newStage(t, w, "op/shop")
	s.ExecuteWorkflow(remora.ApplyWorkflow, copyElsewhere())
	require.NoError(t, s.GetWorkflowError())
	require.Equal(t, []string{
		"repository.Describe", "database.Preflight", "database.Stage", "database.Compare", "database.Switch", "database.Leftovers", "database.Discard",
	}, w.calls, "no safety backup, no maintenance, no checks, no files")
	checkCopy(t, w, nil)
}

// checkCopy holds the promise of a copy: it is there as a whole, or nothing of it is, and what is live was not touched.
func checkCopy(t *testing.T, w *world, err error) {
	t.Helper()
	w.lives(original)
	w.tidy()
	require.Len(t, w.backups, 1)
	if err == nil {
		require.Equal(t, saved, w.elsewhere.live)
	} else {
		require.Empty(t, w.elsewhere.live)
	}
}

func TestCopyIntoAnotherSchemaWithEveryStepFailing(t *testing.T) {
	faults(t, append([]string{"cancel"}, allFaults...), func(t *testing.T, f fault) bool {
		w := newWorld(t)
		s := newStage(t, w, "op/shop")
		f.again = s.CancelWorkflow
		w.fault = f
		s.resolveSoon("op/shop")
		s.ExecuteWorkflow(remora.ApplyWorkflow, copyElsewhere())
		require.True(t, s.IsWorkflowCompleted())
		checkCopy(t, w, s.GetWorkflowError())
		if f.how == "once" {
			require.NoError(t, s.GetWorkflowError())
		}
		return w.fired
	})
}

func TestRestoreIntoAnotherSchemaEndsWithoutAWindow(t *testing.T) {
	w := newWorld(t)
	s := newStage(t, w, "restore/shop")
	req := request()
	req.Selection = remora.Selection{Tables: []string{"orders"}, To: "shop_copy"}
	s.ExecuteWorkflow(remora.RestoreWorkflow, req)
	require.NoError(t, s.GetWorkflowError())
	var r remora.Restore
	require.NoError(t, s.GetWorkflowResult(&r))
	require.Equal(t, remora.OutcomeCopied, r.Outcome)
	require.Equal(t, req.Selection, r.Selection)
	require.Equal(t, []remora.Kind{remora.Database}, r.Kinds)
	require.Empty(t, r.Live)
	require.Zero(t, r.KeepUntil)
	require.NotZero(t, r.Ended)
	require.Equal(t, r, w.restores[r.ID])
	require.Equal(t, remora.OutcomeCopied, w.notices[len(w.notices)-1].Outcome)
	checkCopy(t, w, nil)

	req.Kinds = both
	s = newStage(t, newWorld(t), "restore/shop")
	s.ExecuteWorkflow(remora.RestoreWorkflow, req)
	require.ErrorContains(t, s.GetWorkflowError(), "for the database alone")
}

// S20: what a terminated copy left is settled by the journal: one that is in its place stays, any other is removed.
func TestACopyThatLostItsWorkflowIsSettled(t *testing.T) {
	for name, c := range map[string]struct {
		left *entry
		live string
		how  remora.Outcome
	}{
		"staged":           {&entry{stage: saved, live: remora.Replaced}, "", remora.OutcomeRolledBack},
		"switched":         {&entry{seq: 1, switched: true, live: remora.Restored}, saved, remora.OutcomeCopied},
		"on its way back":  {&entry{seq: 2, switched: true, away: saved, live: remora.Replaced}, "", remora.OutcomeRolledBack},
		"nothing was left": {nil, "", remora.OutcomeRolledBack},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.restores["r"] = remora.Restore{
				ID: "r", Run: "lost", Source: "shop", Backup: "good", Outcome: remora.OutcomeRunning, Selection: remora.Selection{To: "shop_copy"},
			}
			if c.left != nil {
				w.elsewhere.journal["lost"], w.elsewhere.live = c.left, c.live
				if name == "switched" { // and the record was lost with it
					delete(w.restores, "r")
				}
			}
			s := newStage(t, w, "restore/shop")
			s.ExecuteWorkflow(remora.RestoreWorkflow, remora.RestoreRequest{PlanRequest: remora.PlanRequest{Source: "shop"}, RequestedBy: "ada", Adopt: true})
			require.NoError(t, s.GetWorkflowError())
			var r remora.Restore
			require.NoError(t, s.GetWorkflowResult(&r))
			require.Equal(t, c.how, r.Outcome)
			require.Equal(t, "shop_copy", r.To)
			require.Equal(t, c.live, w.elsewhere.live)
			w.lives(original)
			w.tidy()
		})
	}
}
