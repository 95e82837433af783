package workflows

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// What becomes of a restore that is lost, terminated or reset in Temporal, at any of its steps, is played in a model: a
// standing is all that is left of it outside of Temporal.

// stand is how the world stood around a step.
type stand struct {
	*world
	step string
	// nth is how many steps had been begun, done how many had their answer.
	nth, done int
}

// stands are the different standings while a saga goes its way in a world.
func stands(t *testing.T, w *world, id string, start func(*stage)) (all []stand) {
	t.Helper()
	w.witness = func(nth int) {
		now := stand{w.standing(), w.calls[nth-1], nth, len(w.answers)}
		if len(all) == 0 || !all[len(all)-1].same(now.world) {
			all = append(all, now)
		}
	}
	s := newStage(t, w, id)
	s.SetStartTime(began)
	start(s)
	require.NoError(t, s.GetWorkflowError())
	require.Greater(t, len(all), 2)
	return all
}

// worlds are where a restore may begin.
var worlds = map[string]func(*world){
	"as usual": func(*world) {},
	"into nothing": func(w *world) {
		for _, kind := range both {
			w.kinds[kind].live = ""
		}
	},
	"without files": func(w *world) { w.kinds[remora.Files].live = "" },
	"offline":       func(w *world) { w.theirs = true },
	"with checks":   func(w *world) { w.later = 1 },
	"with caches":   func(w *world) { w.commands = 1 },
}

// wishes are those of a person who tries all that a window is for.
func wishes(s *stage) {
	s.ask(time.Hour, remora.RollbackUpdate)
	s.ask(2*time.Hour, remora.RollbackUpdate)
	s.ask(3*time.Hour, remora.AcceptUpdate)
	s.ExecuteWorkflow(remora.RestoreWorkflow, request())
}

// settled takes over what is left, uses its window, and holds what is promised.
func settled(t *testing.T, left stand) {
	t.Helper()
	w := left.world
	w.t = t
	for _, s := range w.kinds { // a worker that was killed before the workflow was leaves a live side that is not whole
		for _, e := range s.journal {
			e.cut = e.seq > 0
		}
	}
	live, agreed := w.kinds[remora.Database].live, w.agrees()
	unsettled := len(w.kinds[remora.Database].journal)+len(w.kinds[remora.Files].journal) > 0
	for _, r := range w.restores {
		unsettled = unsettled || r.Outcome.Unsettled()
	}
	s := newStage(t, w, "restore/shop")
	var standing remora.Restore
	s.RegisterDelayedCallback(func() {
		for _, r := range w.restores {
			standing = r
		}
		w.whole()
	}, 10*time.Minute)
	undo, redo, accept := s.ask(20*time.Minute, remora.RollbackUpdate), s.ask(30*time.Minute, remora.RollbackUpdate), s.ask(50*time.Minute, remora.AcceptUpdate)
	startAdopt(s)
	require.True(t, s.IsWorkflowCompleted())
	if err := s.GetWorkflowError(); !unsettled {
		require.Equal(t, string(remora.NotFound), kindOf(err))
		return
	}
	require.NoError(t, s.GetWorkflowError(), "steps: %v", w.calls)
	if standing.Outcome.Open() {
		undo.granted(t)
		redo.granted(t)
		accept.granted(t)
	}
	require.Contains(t, s.restored(t).Hint+standing.Hint, "taken it over")
	w.tidy()
	w.fresh()
	if w.theirs {
		require.Zero(t, w.count(remora.EnterActivity))
	}
	if agreed {
		require.Equal(t, live, w.level(t), "what was wholly on one side stays there")
	}
	require.Len(t, w.restores, 1)
	for _, r := range w.restores {
		require.False(t, r.Outcome.Unsettled())
	}
}

// S20: whatever is lost with Temporal, or terminated there together with all its children, is settled by whoever looks
// next, by the journals (S4): the components agree, the application is back, and a window that was open is.
func TestS20LostAtAnyStep(t *testing.T) {
	for name, make := range worlds {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			make(w)
			all := stands(t, w, "restore/shop", wishes)
			t.Logf("%d standings", len(all))
			for i, left := range all {
				t.Run(fmt.Sprintf("%d %s", i, left.step), func(t *testing.T) { settled(t, left) })
			}
		})
	}
}

// And so is whoever takes it over, when that is lost as well.
func TestS20LostWhileItIsTakenOver(t *testing.T) {
	for _, at := range []string{"maintenance.Look", "files.Switch", "checks.Run"} {
		all := stands(t, lostAt(at)(t), "restore/shop", startAdopt)
		for i, left := range all {
			t.Run(fmt.Sprintf("%s %d %s", at, i, left.step), func(t *testing.T) { settled(t, left) })
		}
	}
}

// began is when the runs of the model began.
var began = time.Date(2026, 11, 27, 2, 30, 0, 0, time.UTC)

// run is the name of a restore's run in the model.
const run = "default-test-run-id"

// inWindow is a world in which the restore of the model is in its undo window.
func inWindow(t *testing.T) *world {
	w := newWorld(t)
	req := applyRequest()
	req.Run = run
	s := newStage(t, w, "op/shop")
	s.ExecuteWorkflow(remora.ApplyWorkflow, req)
	require.NoError(t, s.GetWorkflowError())
	return w.standing()
}

// children of a restore, each in the world where it begins.
var children = map[string]struct {
	begin func(t *testing.T) *world
	start func(s *stage)
}{
	remora.ApplyWorkflow: {func(t *testing.T) *world { return newWorld(t) }, func(s *stage) {
		req := applyRequest()
		req.Run = run
		s.ExecuteWorkflow(remora.ApplyWorkflow, req)
	}},
	remora.TurnWorkflow: {inWindow, func(s *stage) {
		req := turnBack
		req.Run = run
		s.ExecuteWorkflow(remora.TurnWorkflow, req)
	}},
	remora.DiscardWorkflow: {inWindow, func(s *stage) {
		req := discardRequest()
		req.Run = run
		s.ExecuteWorkflow(remora.DiscardWorkflow, req)
	}},
}

// S20: a child that is terminated at any of its steps leaves the rest to its parent.
func TestS20ChildTerminatedAtAnyStep(t *testing.T) {
	for child, c := range children {
		for i, left := range stands(t, c.begin(t), "op/shop", c.start) {
			t.Run(fmt.Sprintf("%s %d %s", child, i, left.step), func(t *testing.T) {
				w := left.world
				whole := w.agrees() && w.kinds[remora.Database].live == saved
				s := newStage(t, w, "restore/shop")
				terminated := false
				dies := func() bool {
					first := !terminated
					terminated = true
					return first
				}
				if child != remora.ApplyWorkflow {
					s.OnWorkflow(remora.ApplyWorkflow, mock.Anything, mock.Anything).Return(func(ctx workflow.Context, _ remora.ApplyRequest) (remora.Applied, error) {
						return remora.Applied{Kinds: both, KeepUntil: workflow.Now(ctx).Add(24 * time.Hour)}, nil
					})
				}
				switch child {
				case remora.ApplyWorkflow:
					s.OnWorkflow(child, mock.Anything, mock.Anything).Return(remora.Applied{}, &temporal.TerminatedError{})
				case remora.TurnWorkflow:
					s.OnWorkflow(child, mock.Anything, mock.Anything).Return(func(ctx workflow.Context, req remora.TurnRequest) (remora.Turned, error) {
						if dies() {
							return remora.Turned{}, &temporal.TerminatedError{}
						}
						return Turn(ctx, req)
					})
				case remora.DiscardWorkflow:
					s.OnWorkflow(child, mock.Anything, mock.Anything).Return(func(ctx workflow.Context, req remora.DiscardRequest) (remora.Discarded, error) {
						if dies() {
							return remora.Discarded{}, &temporal.TerminatedError{}
						}
						return Discard(ctx, req)
					})
				}
				var undo, redo *asked
				if child == remora.TurnWorkflow {
					undo, redo = s.ask(time.Hour, remora.RollbackUpdate), s.ask(2*time.Hour, remora.RollbackUpdate)
					s.RegisterDelayedCallback(func() { require.Equal(t, saved, w.level(t)) }, 90*time.Minute)
				}
				accept := s.ask(3*time.Hour, remora.AcceptUpdate)
				s.ExecuteWorkflow(remora.RestoreWorkflow, request())
				require.True(t, s.IsWorkflowCompleted())
				w.tidy()
				switch child {
				case remora.ApplyWorkflow:
					if whole {
						accept.granted(t)
						w.lives(saved)
						return
					}
					require.Equal(t, string(remora.RolledBack), kindOf(s.GetWorkflowError()))
					w.lives(original)
				case remora.TurnWorkflow:
					require.ErrorContains(t, undo.err, "terminated")
					redo.granted(t)
					w.lives(original)
				case remora.DiscardWorkflow:
					accept.granted(t)
					w.lives(saved)
				}
			})
		}
	}
}

// S20: a parent that is terminated at any step of its child has the child end what it does, or undo it; whoever looks next
// settles the rest.
func TestS20ParentTerminatedAtAnyStep(t *testing.T) {
	for child, c := range children {
		t.Run(child, func(t *testing.T) {
			faults(t, []string{"cancel"}, func(t *testing.T, f fault) bool {
				w := c.begin(t)
				w.restores["r"] = remora.Restore{ID: "r", Run: run, Source: "shop", Kinds: both, Outcome: remora.OutcomeApplied, Live: remora.Restored}
				if child == remora.ApplyWorkflow {
					w.restores["r"] = remora.Restore{ID: "r", Run: run, Source: "shop", Outcome: remora.OutcomeRunning}
				}
				s := newStage(t, w, "op/shop")
				f.again = s.CancelWorkflow // what the server does to the children of what is terminated
				w.fault = f
				c.start(s)
				require.True(t, s.IsWorkflowCompleted())
				settled(t, stand{world: w.standing()})
				return w.fired
			})
		})
	}
}

// S20: a run that is reset to any earlier point of its history, at any of its steps, does again what it has done already
// with what it remembers: the components agree, and nothing of it is left where it says that it failed.
func TestS20ResetToAnyStep(t *testing.T) {
	for name, one := range sagas {
		if one.id != "op/shop" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			w := one.begin(t)
			all := stands(t, w, one.id, one.start)
			for i, at := range all {
				for remembers := range at.done + 1 {
					t.Run(fmt.Sprintf("%d %s, remembers %d", i, at.step, remembers), func(t *testing.T) {
						again := at.standing()
						again.answers, again.remembered = w.answers[:remembers:remembers], remembers
						s := newStage(t, again, one.id)
						s.SetStartTime(began) // a reset keeps it
						s.resolveSoon("op/shop")
						one.start(s)
						require.True(t, s.IsWorkflowCompleted())
						err := s.GetWorkflowError()
						if name == "discard" && err != nil { // its parent begins another one
							again = again.standing()
							s := newStage(t, again, one.id)
							one.start(s)
							err = s.GetWorkflowError()
							require.NoError(t, err)
						}
						if strings.HasPrefix(name, "apply in") && err != nil && again.elsewhere.live == saved {
							return // reset behind its end, it does not know that all is in its place
						}
						one.check(t, again, err)
					})
				}
			}
		})
	}
}

// And so does a Restore, which may find that it was begun, or is over.
func TestS20RestoreResetAtAnyStep(t *testing.T) {
	for name, make := range worlds {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			make(w)
			for i, at := range stands(t, w, "restore/shop", wishes) {
				t.Run(fmt.Sprintf("%d %s", i, at.step), func(t *testing.T) {
					s := newStage(t, at.world, "restore/shop")
					s.SetStartTime(began)
					s.resolveSoon("op/shop")
					s.ExecuteWorkflow(remora.RestoreWorkflow, request())
					require.True(t, s.IsWorkflowCompleted())
					at.tidy()
					if err := s.GetWorkflowError(); err != nil {
						require.Contains(t, []string{string(remora.RolledBack), string(remora.NotFound)}, kindOf(err), "%v", err)
					}
					at.level(t)
				})
			}
		})
	}
}

// S10: what another installation left is not taken over, and its maintenance is not ended.
func TestS10AnotherInstallationsRestoreIsNotTakenOver(t *testing.T) {
	w := inWindow(t)
	w.offline["theirs"] = true
	for _, s := range w.kinds {
		s.journal["theirs"] = s.journal[run]
		s.journal["theirs"].foreign = true
		delete(s.journal, run)
	}
	s := newStage(t, w, "restore/shop")
	startAdopt(s)
	require.Equal(t, string(remora.NotFound), kindOf(s.GetWorkflowError()))
	require.NotEmpty(t, w.offline)
	require.NotEmpty(t, w.kinds[remora.Files].journal)
	require.Empty(t, w.restores)
}

// An Apply that was terminated on its way back, since the live checks said no, is not taken for one that has come to its end.
func TestS20ATerminatedWayBackIsGoneToItsEnd(t *testing.T) {
	c := children[remora.ApplyWorkflow]
	all := stands(t, c.begin(t), "op/shop", c.start)
	for i, left := range all {
		left.failing = map[string][]string{saved: {"sources.shop.checks[0]: it gives no row"}}
		s := newStage(t, left.world, "restore/shop")
		s.OnWorkflow(remora.ApplyWorkflow, mock.Anything, mock.Anything).Return(remora.Applied{}, &temporal.TerminatedError{})
		s.ExecuteWorkflow(remora.RestoreWorkflow, request())
		require.Equal(t, string(remora.RolledBack), kindOf(s.GetWorkflowError()), "%d %s", i, left.step)
		left.lives(original)
		left.tidy()
	}
}
