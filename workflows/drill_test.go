package workflows

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/remora-backup/remora/internal/remora"
)

func drillRequest() remora.DrillRequest {
	return remora.DrillRequest{Source: "shop", RequestedBy: "ada"}
}

func TestStoryOfADrill(t *testing.T) {
	w := newWorld(t)
	s := newStage(t, w, "op/shop")
	s.ExecuteWorkflow(remora.DrillWorkflow, drillRequest())
	require.NoError(t, s.GetWorkflowError())
	var p remora.Proof
	require.NoError(t, s.GetWorkflowResult(&p))
	require.Equal(t, []string{
		"repository.Describe", "database.Preflight", "files.Preflight", "database.Stage", "database.Compare", "files.Stage", "files.Compare",
		"checks.Run", "database.Discard", "files.Discard", "repository.RecordProof",
	}, w.calls, "no safety backup, no maintenance, no switch; and nothing is proven before nothing is left")
	require.Equal(t, remora.Proven, p.Outcome)
	require.Equal(t, "good", p.Backup)
	require.Equal(t, 2, p.Checks)
	require.Len(t, p.Phases, 8)
	require.Equal(t, "ada", p.RequestedBy)
	require.Equal(t, []remora.Proof{p}, w.proofs)
	require.True(t, remora.IsDrill(p.Run))
	require.Empty(t, w.notices)
	checkDrill(t, w)
}

// checkDrill holds the promise of a drill: what is live was not touched, nothing of it is left, and it is no backup.
func checkDrill(t *testing.T, w *world) {
	t.Helper()
	w.lives(original)
	w.tidy()
	require.Len(t, w.backups, 1)
	require.Empty(t, w.restores)
	require.Empty(t, w.failures)
}

// F47: a drill that failed tells of the backup, one that could not be made tells nothing of it.
func TestDrillsThatProveNothing(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world)
		event  remora.Event
		how    remora.DrillOutcome
		kind   remora.ProblemKind
		phase  string
	}{
		"the data differs": {func(w *world) {
			w.gate = func(_ context.Context, name string, _ int) {
				if name == "files.Compare" {
					w.mu.Lock()
					w.backups["good"].content[remora.Files] = "another"
					w.mu.Unlock()
				}
			}
		}, remora.DrillFailed, remora.DrillFailing, remora.Corrupt, "compare staged files of shop"},
		"a check fails": {func(w *world) {
			w.failing = map[string][]string{"drilled " + saved: {"sources.shop.checks[0]: it gives no row"}}
		}, remora.DrillFailed, remora.DrillFailing, remora.Corrupt, "check staged database of shop"},
		"rights are missing": {func(w *world) { w.fault = fault{nth: 4, how: "final", when: "before"} }, remora.DrillError, remora.DrillNotMade, remora.Denied, "stage database of shop"},
		"there is no backup": {func(w *world) { delete(w.backups, "good") }, remora.DrillError, remora.DrillNotMade, remora.NotFound, "look up the backup"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.change(w)
			s := newStage(t, w, "op/shop")
			s.ExecuteWorkflow(remora.DrillWorkflow, drillRequest())
			require.Equal(t, string(c.kind), kindOf(s.GetWorkflowError()))
			require.Len(t, w.proofs, 1)
			require.Equal(t, c.how, w.proofs[0].Outcome)
			require.Equal(t, c.phase, w.proofs[0].Phase)
			require.NotEmpty(t, w.proofs[0].Problem)
			require.Len(t, w.notices, 1)
			require.Equal(t, c.event, w.notices[0].Event)
			w.lives(original)
			w.tidy()
		})
	}
}

// Whatever fails: live data is not touched, nothing is left but where removing it failed, which is told and left to the
// monitor, and no proof is recorded of what was not proven.
func TestDrillWithEveryStepFailing(t *testing.T) {
	faults(t, append([]string{"cancel"}, allFaults...), func(t *testing.T, f fault) bool {
		w := newWorld(t)
		s := newStage(t, w, "op/shop")
		f.again = s.CancelWorkflow
		w.fault = f
		s.ExecuteWorkflow(remora.DrillWorkflow, drillRequest())
		require.True(t, s.IsWorkflowCompleted())
		err := s.GetWorkflowError()
		switch {
		case f.how == "once":
			require.NoError(t, err)
		case err != nil && f.nth < 11:
			for _, p := range w.proofs {
				require.NotEqual(t, remora.Proven, p.Outcome)
			}
		}
		if f.nth == 9 || f.nth == 10 { // removing was what failed
			require.NoError(t, err)
			for kind, side := range w.kinds {
				for run := range side.journal {
					require.Contains(t, w.proofs[0].Warnings[0], "until the monitor can remove it")
					again := newStage(t, w, "op/shop")
					w.fault = fault{}
					again.ExecuteWorkflow(remora.DrillWorkflow, remora.DrillRequest{Source: "shop", RequestedBy: "monitor", Settle: []remora.Leftover{{Kind: kind, Run: run}}})
					require.NoError(t, again.GetWorkflowError())
				}
			}
		}
		checkDrill(t, w)
		return w.fired
	})
}

func weekly() remora.Schedule {
	s := nightly()
	s.Name, s.Kinds, s.Drill, s.RetentionDays = "weekly", nil, true, 0
	return s
}

func TestASlotOfDrills(t *testing.T) {
	w := newWorld(t)
	s := newSlot(t, w, 0)
	s.ExecuteWorkflow(remora.SlotWorkflow, remora.SlotRequest{Schedule: weekly()})
	require.NoError(t, s.GetWorkflowError())
	require.Equal(t, "schedule weekly", w.proofs[0].RequestedBy)
	require.Equal(t, remora.Slot{Schedule: "weekly", Due: dueAt}, w.proofs[0].Slot)
	checkDrill(t, w)

	// I10: a slot that is missed has its record; it is no backup that is missing.
	w = newWorld(t)
	s = newSlot(t, w, 7*time.Hour)
	s.ExecuteWorkflow(remora.SlotWorkflow, remora.SlotRequest{Schedule: weekly()})
	require.NoError(t, s.GetWorkflowError())
	require.Len(t, w.notices, 1)
	require.Equal(t, remora.DrillError, w.notices[0].Event)
	require.Equal(t, []string{remora.RecordFailureActivity}, w.calls)
	require.Equal(t, remora.DrillMissed, w.proofs[0].Outcome)
	require.Equal(t, remora.Slot{Schedule: "weekly", Due: dueAt}, w.proofs[0].Slot)
	checkDrill(t, w)

	w = newWorld(t) // one that says itself why it could not be made is recorded once
	w.fault = fault{nth: 4, how: "final", when: "before"}
	s = newSlot(t, w, 0)
	s.ExecuteWorkflow(remora.SlotWorkflow, remora.SlotRequest{Schedule: weekly()})
	require.Error(t, s.GetWorkflowError())
	require.Len(t, w.proofs, 1)
	require.Equal(t, remora.DrillNotMade, w.proofs[0].Outcome)
	require.Equal(t, "stage database of shop", w.proofs[0].Phase)
	checkDrill(t, w)
}

// What a drill left is no restore: nobody takes it over as one.
func TestAdoptLeavesDrillsAlone(t *testing.T) {
	w := newWorld(t)
	w.kinds[remora.Database].journal[remora.DrillRun("x")] = &entry{kind: remora.Database, stage: saved, live: remora.Replaced}
	s := newStage(t, w, "restore/shop")
	s.ExecuteWorkflow(remora.RestoreWorkflow, remora.RestoreRequest{PlanRequest: remora.PlanRequest{Source: "shop"}, RequestedBy: "ada", Adopt: true})
	require.Equal(t, string(remora.NotFound), kindOf(s.GetWorkflowError()))
	require.Len(t, w.kinds[remora.Database].journal, 1)
}

func playDrill(t *testing.T, r *recording) {
	var p remora.Proof
	require.NoError(t, r.start("op/shop", remora.DrillWorkflow, drillRequest()).Get(t.Context(), &p))
	require.Equal(t, remora.Proven, p.Outcome)
	checkDrill(t, r.world)
}

func playFailedDrill(t *testing.T, r *recording) {
	r.failing = map[string][]string{"drilled " + saved: {"sources.shop.checks[0]: it gives no row"}}
	require.Equal(t, string(remora.Corrupt), kindOf(r.start("op/shop", remora.DrillWorkflow, drillRequest()).Get(t.Context(), nil)))
	checkDrill(t, r.world)
	r.refuse = len(r.calls) + 5
	require.Equal(t, string(remora.Unsupported), kindOf(r.start("op/shop", remora.DrillWorkflow, drillRequest()).Get(t.Context(), nil)))
	checkDrill(t, r.world)
	r.awaitTold(remora.DrillFailed, remora.DrillError)
}

// held starts a drill and holds it at a step.
func (r *recording) heldDrill(step string) client.WorkflowRun {
	waiting := make(chan struct{}, 1)
	r.mu.Lock()
	r.gate = untilCancelled(step, waiting)
	r.mu.Unlock()
	run := r.start("op/shop", remora.DrillWorkflow, drillRequest())
	<-waiting
	r.mu.Lock()
	r.gate = nil
	r.mu.Unlock()
	return run
}

// S19: whoever wants the source has it at once: a slot, which stops nobody else, and a restore.
func playDrillGivesWay(t *testing.T, r *recording) {
	stopped := func(run client.WorkflowRun) {
		t.Helper()
		err := run.Get(t.Context(), nil)
		require.True(t, temporal.IsCanceledError(err), "%v", err)
	}
	drill := r.heldDrill("files.Stage")
	hourly := nightly()
	hourly.Spread = 0
	require.NoError(t, r.start("slot/shop/nightly", remora.SlotWorkflow, remora.SlotRequest{Schedule: hourly, RequestedBy: "ada"}).Get(t.Context(), nil))
	stopped(drill)
	require.Len(t, r.of(remora.Regular), 1)

	drill = r.heldDrill("database.Compare")
	r.startRestore(time.Hour)
	r.await(remora.OutcomeApplied)
	stopped(drill)
	require.Equal(t, remora.OutcomeUndone, r.update(remora.RollbackUpdate).Outcome)
	require.Equal(t, remora.OutcomeAccepted, r.update(remora.AcceptUpdate).Outcome)
	r.lives(original)
	r.tidy()
	require.Empty(t, r.proofs)
}

// S20: what a terminated drill left is removed by the monitor.
func playTerminatedDrill(t *testing.T, r *recording) {
	run := r.heldDrill("database.Compare")
	r.terminate("op/shop")
	require.Error(t, run.Get(t.Context(), nil))
	r.mu.Lock()
	left := remora.DrillRun(run.GetRunID())
	require.Contains(t, r.kinds[remora.Database].journal, left)
	r.watched.found.Drilled = []remora.DrillRequest{{Source: "shop", RequestedBy: remora.MonitorActor, Settle: []remora.Leftover{{Kind: remora.Database, Run: left}}}}
	r.mu.Unlock()
	r.monitor()
	require.NoError(t, r.ended("op/shop"))
	checkDrill(t, r.world)
	require.Empty(t, r.proofs)
}
