package workflows

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// rotting is a world with six backups of which two are damaged: b1, whose turn it is, and b4, which shares with it.
func rotting(t testing.TB) *world {
	w := newWorld(t)
	for i := range 6 {
		w.backups[fmt.Sprint("b", i)] = &stored{}
	}
	w.due, w.suspects = []string{"b0", "b1", "gone", "b2"}, []string{"b0", "b3", "b4"}
	w.rotten["b1"], w.rotten["b4"] = true, true
	return w
}

func checkRotting(t *testing.T, w *world, err error) {
	t.Helper()
	require.Equal(t, string(remora.Corrupt), kindOf(err))
	require.ErrorContains(t, err, "b1, b4")
	for id, good := range map[string]bool{"b0": true, "b1": false, "b2": true, "b3": true, "b4": false, "b5": false} {
		require.Equal(t, good, w.backups[id].verified, id)
	}
}

func TestVerifyAllGoesOnAfterADamagedBackupAndLooksAtWhatSharesWithIt(t *testing.T) {
	w := rotting(t)
	s := newStage(t, w, "verify")
	s.ExecuteWorkflow(remora.VerifyAllWorkflow, struct{}{})
	checkRotting(t, w, s.GetWorkflowError())
	require.Equal(t, 6, w.count(remora.VerifyActivity), "b0 is not read twice")
}

func TestVerifyAllOfGoodBackups(t *testing.T) {
	w := rotting(t)
	clear(w.rotten)
	s := newStage(t, w, "verify")
	s.ExecuteWorkflow(remora.VerifyAllWorkflow, struct{}{})
	var sum remora.Verified
	require.NoError(t, s.GetWorkflowResult(&sum))
	require.Equal(t, remora.Verified{Backups: 3}, sum)
}

func TestVerifyAllEndsWhereTheRepositoryIsAway(t *testing.T) {
	w := rotting(t)
	w.fault = fault{nth: 2, when: "before", how: "exhausted"}
	s := newStage(t, w, "verify")
	s.ExecuteWorkflow(remora.VerifyAllWorkflow, struct{}{})
	require.Equal(t, string(remora.Unavailable), kindOf(s.GetWorkflowError()))
	require.Equal(t, 1, w.count(remora.VerifyActivity), "the others would fare no better")
}

func TestADamagedBackupIsTold(t *testing.T) {
	w := rotting(t)
	s := newStage(t, w, "verify/b1")
	s.ExecuteWorkflow(remora.VerifyWorkflow, remora.VerifyRequest{Source: "shop", Backup: "b1", Full: true, RequestedBy: "ada"})
	require.Equal(t, string(remora.Corrupt), kindOf(s.GetWorkflowError()))
	told := w.notices
	require.Len(t, told, 1)
	require.Equal(t, []string{"shop", "b1", "ada", string(remora.BackupCorrupt)}, []string{told[0].Source, told[0].Subject, told[0].By, string(told[0].Event)})
	require.NotEmpty(t, told[0].Problem)
}

func TestABackupWithoutRoomLetsOldOnesGoFirst(t *testing.T) {
	for full, works := range map[int]bool{0: true, 1: true, 2: false} {
		t.Run(fmt.Sprint(full), func(t *testing.T) {
			w := newWorld(t)
			w.full = full
			s := newStage(t, w, "op/shop")
			asked := 0
			s.SetOnChildWorkflowStartedListener(func(info *workflow.Info, _ workflow.Context, args converter.EncodedValues) {
				if info.WorkflowType.Name == remora.RetentionWorkflow {
					var req remora.RetentionRequest
					require.NoError(t, args.Get(&req))
					require.Equal(t, remora.RetentionRequest{RequestedBy: "backup of shop: short of space"}, req, "nothing is forced")
					asked++
				}
			})
			s.ExecuteWorkflow(remora.BackupWorkflow, backupRequest())
			require.Equal(t, min(full, 1), asked)
			checkBackup(t, w, s.GetWorkflowError())
			if works {
				require.NoError(t, s.GetWorkflowError())
				return
			}
			require.Equal(t, string(remora.Full), kindOf(s.GetWorkflowError()))
			require.Zero(t, w.count("database.Capture"), "nothing is begun")
			for _, f := range w.failures {
				require.Equal(t, remora.RoomPhase, f.Phase)
			}
		})
	}
}

func TestThePlanWarnsWhenTheSafetyBackupMayNotFit(t *testing.T) {
	w := newWorld(t)
	w.full = 1
	s := newStage(t, w, "plan")
	s.ExecuteWorkflow(remora.PlanWorkflow, request().PlanRequest)
	var plan remora.Plan
	require.NoError(t, s.GetWorkflowResult(&plan))
	require.Len(t, plan.Targets[0].Live.Warnings, 1)
	require.Contains(t, plan.Targets[0].Live.Warnings[0], "the safety backup may not fit")
}

func playVerifyAll(t *testing.T, r *recording) {
	more := rotting(t)
	r.backups, r.due, r.suspects, r.rotten = more.backups, more.due, more.suspects, more.rotten
	err := r.start("verify", remora.VerifyAllWorkflow, struct{}{}).Get(t.Context(), nil)
	checkRotting(t, r.world, err)
}
