package workflows

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/remora-backup/remora/internal/remora"
)

// A saga is one of ours in a place where it may be begun, and what it promises for whatever becomes of it.
type saga struct {
	id    string
	begin func(t *testing.T) *world
	start func(s *stage)
	check func(t *testing.T, w *world, err error)
}

var turnBack = remora.TurnRequest{Source: "shop", Run: "run", Kinds: both, Seq: 2, Live: remora.Replaced, KeepUntil: time.Unix(1800000000, 0), RequestedBy: "ada"}

func discardRequest() remora.DiscardRequest {
	return remora.DiscardRequest{Source: "shop", Run: "run", Restore: "shop-restore-1", Kinds: both, Started: time.Unix(1700000000, 0).UTC(), RequestedBy: "ada"}
}

func adoptRequest() remora.RestoreRequest {
	return remora.RestoreRequest{PlanRequest: remora.PlanRequest{Source: "shop", Undo: 24 * time.Hour}, RequestedBy: "grace", Adopt: true}
}

// applied is a world in which a restore is in its undo window.
func applied(t *testing.T) *world {
	w := newWorld(t)
	w.commands = 2
	s := newStage(t, w, "op/shop")
	s.ExecuteWorkflow(remora.ApplyWorkflow, applyRequest())
	require.NoError(t, s.GetWorkflowError())
	return w.standing()
}

// lostAt makes a world in which all that looked after a restore was lost when this step was to begin.
func lostAt(step string) func(*testing.T) *world {
	return func(t *testing.T) (left *world) {
		w := newWorld(t)
		w.restores["shop-restore-1"] = remora.Restore{ID: "shop-restore-1", Run: "run", Source: "shop", Kinds: both, Outcome: remora.OutcomeRunning}
		w.witness = func(nth int) {
			if left == nil && w.calls[nth-1] == step {
				left = w.standing()
			}
		}
		newStage(t, w, "op/shop").ExecuteWorkflow(remora.ApplyWorkflow, applyRequest())
		require.NotNil(t, left)
		return left
	}
}

// level fails the test unless all components are on one side, and the application as online as it was.
func (w *world) level(t *testing.T) string {
	t.Helper()
	require.True(t, w.agrees(), "steps: %v", w.calls)
	require.Empty(t, w.offline, "steps: %v", w.calls)
	w.whole()
	return w.kinds[remora.Database].live
}

// whole fails the test if what goes with the live side is missing: events that are held, or what a worker dropped that died.
func (w *world) whole() {
	w.t.Helper()
	w.fresh()
	for kind, s := range w.kinds {
		for _, e := range s.journal {
			if e.held || e.cut {
				w.t.Errorf("the live %s is not whole; steps: %v", kind, w.calls)
			}
		}
	}
}

// agrees tells whether all components are on one side.
func (w *world) agrees() bool {
	return (w.kinds[remora.Database].live == saved) == (w.kinds[remora.Files].live == saved)
}

// keeps fails the test unless both sides of a restore are there.
func (w *world) keeps(t *testing.T, live, away string) {
	t.Helper()
	require.Equal(t, live, w.level(t))
	for _, kind := range both {
		require.Equal(t, away, w.kinds[kind].journal["run"].away, "steps: %v", w.calls)
	}
}

var sagas = map[string]saga{
	"backup": {
		id: "op/shop", begin: func(t *testing.T) *world { return newWorld(t) },
		start: func(s *stage) { s.ExecuteWorkflow(remora.BackupWorkflow, backupRequest()) },
		check: checkBackup,
	},
	"apply": {
		id: "op/shop", begin: checkedLater,
		start: func(s *stage) { s.ExecuteWorkflow(remora.ApplyWorkflow, applyRequest()) },
		check: checkApply,
	},
	"apply in a schema":    appliedElsewhere(remora.Database),
	"apply in a directory": appliedElsewhere(remora.Files),
	"turn": {
		id: "op/shop", begin: applied,
		start: func(s *stage) { s.ExecuteWorkflow(remora.TurnWorkflow, turnBack) },
		check: func(t *testing.T, w *world, err error) {
			if err == nil {
				w.keeps(t, original, saved)
			} else {
				w.keeps(t, saved, original)
			}
		},
	},
	"discard": {
		id: "op/shop", begin: applied,
		start: func(s *stage) { s.ExecuteWorkflow(remora.DiscardWorkflow, discardRequest()) },
		check: func(t *testing.T, w *world, err error) {
			if err != nil {
				w.keeps(t, saved, original)
				return
			}
			w.lives(saved)
			w.tidy()
		},
	},
	"discard, back first": {
		id: "op/shop", begin: lostAt("files.Switch"),
		start: func(s *stage) {
			req := discardRequest()
			req.BackFirst = true
			s.ExecuteWorkflow(remora.DiscardWorkflow, req)
		},
		check: func(t *testing.T, w *world, err error) {
			w.lives(original)
			require.Empty(t, w.offline)
			if err == nil {
				w.tidy()
			}
		},
	},
	"restore": {
		id: "restore/shop", begin: func(t *testing.T) *world { return newWorld(t) },
		start: func(s *stage) {
			s.RegisterDelayedCallback(func() { s.UpdateWorkflow(remora.RollbackUpdate, "undo", &asked{}) }, 10*time.Hour)
			s.RegisterDelayedCallback(func() { s.UpdateWorkflow(remora.RollbackUpdate, "redo", &asked{}) }, 12*time.Hour)
			s.ExecuteWorkflow(remora.RestoreWorkflow, request())
		},
		check: func(t *testing.T, w *world, err error) {
			w.tidy()
			for _, r := range w.restores {
				if err == nil {
					w.lives(map[remora.Side]string{remora.Restored: saved, remora.Replaced: original}[r.Live])
				} else {
					require.Contains(t, []remora.Outcome{remora.OutcomeRolledBack, remora.OutcomeRefused, remora.OutcomeRunning}, r.Outcome)
				}
			}
			if err != nil {
				w.lives(original)
			}
			checkAdopted(t, w, nil) // the record of its end may not have been written
		},
	},
	"adopt, staged":   {id: "restore/shop", begin: lostAt("maintenance.Look"), start: startAdopt, check: checkAdopted},
	"adopt, between":  {id: "restore/shop", begin: lostAt("files.Switch"), start: startAdopt, check: checkAdopted},
	"adopt, switched": {id: "restore/shop", begin: lostAt("checks.Run"), start: startAdopt, check: checkAdopted},
}

func checkedLater(t *testing.T) *world {
	w := newWorld(t)
	w.later, w.commands = 1, 2
	return w
}

func appliedElsewhere(kind remora.Kind) saga {
	return saga{
		id: "op/shop", begin: func(t *testing.T) *world { return newWorld(t) },
		start: func(s *stage) { s.ExecuteWorkflow(remora.ApplyWorkflow, copyElsewhere(kind)) },
		check: checkCopy,
	}
}

func startAdopt(s *stage) { s.ExecuteWorkflow(remora.RestoreWorkflow, adoptRequest()) }

// checkAdopted says that whoever could not take it over, or could not record that, may ask again.
func checkAdopted(t *testing.T, w *world, err error) {
	again := err != nil
	for _, r := range w.restores {
		again = again || r.Outcome.Unsettled()
	}
	if again {
		w = w.standing()
		s := newStage(t, w, "restore/shop")
		startAdopt(s)
		require.NoError(t, s.GetWorkflowError())
	}
	w.tidy()
	w.level(t)
	for _, r := range w.restores {
		require.False(t, r.Outcome.Unsettled(), "%s", r.Outcome)
	}
}

// Each step of each saga fails, before its effect and after it, once and for ever, and is cancelled.
func TestEveryStepFails(t *testing.T) {
	for name, one := range sagas {
		t.Run(name, func(t *testing.T) {
			faults(t, append([]string{"cancel"}, allFaults...), func(t *testing.T, f fault) bool {
				w := one.begin(t)
				s := newStage(t, w, one.id)
				f.again = s.CancelWorkflow
				w.fault = f
				s.resolveSoon("op/shop")
				one.start(s)
				require.True(t, s.IsWorkflowCompleted())
				err := s.GetWorkflowError()
				if f.how == "once" {
					require.NoError(t, err)
				}
				if f.how == "cancel" && err != nil && name == "restore" {
					require.True(t, temporal.IsCanceledError(err), "%v", err)
				}
				one.check(t, w, err)
				return w.fired
			})
		})
	}
}

// S21: where a step of a saga fails for good, each step of its way back fails, too: as often as you like, and it is still
// gone to its end, where need be with a person who resolves it each time.
func TestS21EveryStepOfTheWayBackFails(t *testing.T) {
	for _, name := range []string{"apply", "turn"} {
		one := sagas[name]
		for refused := 1; ; refused++ {
			met := false
			for later := 1; ; later++ {
				fired := false
				for _, f := range []fault{{how: "once", times: 1}, {how: "once", times: 12}, {how: "final", times: 1}, {how: "final", times: 3}} {
					t.Run(fmt.Sprintf("%s, step %d, and %d later %s %d times", name, refused, later, f.how, f.times), func(t *testing.T) {
						w := one.begin(t)
						f.nth, f.when = refused+later, []string{"before", "after"}[later%2]
						w.refuse, w.fault = refused, f
						s := newStage(t, w, one.id)
						s.resolveSoon(one.id)
						one.start(s)
						require.True(t, s.IsWorkflowCompleted())
						one.check(t, w, s.GetWorkflowError())
						met, fired = met || len(w.calls) >= refused, fired || w.fired
					})
				}
				if !fired {
					break
				}
			}
			if !met {
				require.Greater(t, refused, 5)
				break
			}
		}
	}
}
