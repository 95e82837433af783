package workflows

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

func copyRequest() remora.CopyRequest {
	return remora.CopyRequest{Source: "shop", Backup: "good", To: "offsite", RequestedBy: "ada"}
}

func TestCopyStory(t *testing.T) {
	w := newWorld(t)
	s := newStage(t, w, "copy/offsite/good")
	s.ExecuteWorkflow(remora.CopyWorkflow, copyRequest())
	require.NoError(t, s.GetWorkflowError())
	require.Equal(t, []string{"repository.Copy", "repository.Verify", "repository.RecordCopies"}, w.calls)
	require.True(t, w.copies["offsite"]["good"])
}

// Whatever fails in a copy: it is there and verified, or the run fails; the backup is as it was.
func TestCopyWithEveryStepFailing(t *testing.T) {
	for _, how := range allFaults {
		for _, when := range []string{"before", "after"} {
			for nth := 1; nth <= 3; nth++ {
				t.Run(fmt.Sprint(how, when, nth), func(t *testing.T) {
					w := newWorld(t)
					w.fault = fault{nth: nth, when: when, how: how}
					s := newStage(t, w, "copy/offsite/good")
					s.ExecuteWorkflow(remora.CopyWorkflow, copyRequest())
					require.True(t, s.IsWorkflowCompleted())
					require.True(t, w.fired)
					if s.GetWorkflowError() == nil {
						require.True(t, w.copies["offsite"]["good"])
					}
					require.Equal(t, how == "once" || nth == 3, s.GetWorkflowError() == nil, "what cannot be recorded is copied all the same")
					require.True(t, w.backups["good"].verified)
				})
			}
		}
	}
}

func TestCopyAllGoesOnAfterADamagedBackupAndSaysSo(t *testing.T) {
	w := newWorld(t)
	for i := range 4 {
		w.backups[fmt.Sprint("b", i)] = &stored{verified: true}
	}
	w.damaged["b1"] = true
	s := newStage(t, w, "copy/offsite")
	s.ExecuteWorkflow(remora.CopyAllWorkflow, remora.CopyAllRequest{To: "offsite"})
	err := s.GetWorkflowError()
	require.Equal(t, string(remora.Corrupt), kindOf(err))
	require.ErrorContains(t, err, "b1")
	require.Equal(t, map[string]bool{"good": true, "b0": true, "b2": true, "b3": true}, w.copies["offsite"])
	require.Equal(t, 1, w.count(remora.ReclaimActivity))
}

func TestCopyAllEndsWhereTheCopyIsFull(t *testing.T) {
	w := newWorld(t)
	w.fault = fault{nth: 2, when: "before", how: "final"} // the first copy
	s := newStage(t, w, "copy/offsite")
	s.ExecuteWorkflow(remora.CopyAllWorkflow, remora.CopyAllRequest{To: "offsite"})
	require.Equal(t, string(remora.Denied), kindOf(s.GetWorkflowError()))
	require.Zero(t, w.count(remora.PlanRetentionActivity), "nothing is removed after trouble")
}

func TestManyBackupsAreCopiedInPages(t *testing.T) {
	w := newWorld(t)
	for i := range page + 1 {
		w.backups[fmt.Sprintf("b%03d", i)] = &stored{verified: true}
	}
	s := newStage(t, w, "copy/offsite")
	s.ExecuteWorkflow(remora.CopyAllWorkflow, remora.CopyAllRequest{To: "offsite"})
	require.ErrorContains(t, s.GetWorkflowError(), "continue as new")
	require.Len(t, w.copies["offsite"], page)
	w.stale = []string{"b001", "b002"}
	s = newStage(t, w, "copy/offsite")
	s.ExecuteWorkflow(remora.CopyAllWorkflow, remora.CopyAllRequest{To: "offsite", Copied: remora.Copied{Backups: page}})
	var copied remora.Copied
	require.NoError(t, s.GetWorkflowResult(&copied))
	require.Equal(t, remora.Copied{To: "offsite", Backups: page + 2, Bytes: 20, Added: 2, Removed: 2}, copied)
	require.Len(t, w.copies["offsite"], page+2)
}

// A backup starts its copies, does not wait for them, and is as good when they fail.
func playCopied(t *testing.T, r *recording) {
	r.afterBackup = []string{"offsite"}
	waiting, goOn := make(chan struct{}, 1), make(chan struct{})
	r.gate = func(_ context.Context, name string, _ int) {
		if name == remora.CopyActivity {
			waiting <- struct{}{}
			<-goOn
		}
	}
	var result remora.BackupResult
	require.NoError(t, r.start("op/shop", remora.BackupWorkflow, backupRequest()).Get(t.Context(), &result))
	require.Equal(t, []string{"offsite"}, result.Copying)
	<-waiting
	r.mu.Lock()
	r.damaged[result.ID] = true
	r.mu.Unlock()
	close(goOn)
	err := r.GetWorkflow(t.Context(), remora.CopyLane("offsite", result.ID), "").Get(t.Context(), nil)
	require.Equal(t, string(remora.Corrupt), kindOf(err))
	checkBackup(t, r.world, nil)
}

// Two that clean the same copy at once are one.
func playCopyAll(t *testing.T, r *recording) {
	waiting, goOn := make(chan struct{}, 1), make(chan struct{})
	r.gate = func(_ context.Context, name string, _ int) {
		if name == remora.PlanRetentionActivity {
			waiting <- struct{}{}
			<-goOn
		}
	}
	first := r.start("copy/offsite", remora.CopyAllWorkflow, remora.CopyAllRequest{To: "offsite"})
	<-waiting
	second := r.start("copy/offsite-2026-11-27T03:30:00Z", remora.CopyAllWorkflow, remora.CopyAllRequest{To: "offsite"})
	require.NoError(t, second.Get(t.Context(), nil))
	close(goOn)
	require.NoError(t, first.Get(t.Context(), nil))
	require.Equal(t, 1, r.count(remora.PlanRetentionActivity))
}
