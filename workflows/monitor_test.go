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

// watched is what the monitor sees of a world, and what it made known.
type watched struct {
	found  remora.LookResult
	before []remora.MonitorState
	states []remora.MonitorState
}

func (w *world) lookAround(ctx context.Context, in remora.LookInput) (found remora.LookResult, err error) {
	return w.watched.found, w.step(ctx, remora.LookAroundActivity, func() error {
		w.watched.before = append(w.watched.before, in.Before)
		return nil
	})
}

func (w *world) recordMonitor(ctx context.Context, s remora.MonitorState) error {
	return w.step(ctx, remora.RecordMonitorActivity, func() error {
		w.watched.states = append(w.watched.states, s)
		return nil
	})
}

func alerted() remora.LookResult {
	at := time.Unix(1700000000, 0).UTC()
	return remora.LookResult{
		Write: true, State: remora.MonitorState{
			At: at, Alerts: []remora.Alert{{Key: "overdue/shop", Level: remora.Failing, Source: "shop", Problem: "late", Since: at, Told: at}},
			Sizes: []remora.SizeSample{{At: at}}, Accounted: map[string]time.Time{"schedule/shop/nightly": at},
		},
		Accounted: map[string]time.Time{"schedule/shop/nightly": at.Add(time.Hour)},
		Missing:   []remora.FailedRun{{ID: "shop-1", Source: "shop", Status: remora.Missed}, {ID: "shop-2", Source: "shop", Status: remora.Failed}},
		Notices:   []remora.Notice{{ID: "alert/overdue/shop/1700000000/alert.raised", Event: remora.AlertRaised, Source: "shop", Problem: "late"}},
	}
}

// A look that finds nothing costs one step, and hands on what it remembers.
func TestAQuietMonitor(t *testing.T) {
	w := newWorld(t)
	w.watched.found.State.Failing = map[string]time.Time{"run/5": time.Unix(1, 0).UTC()}
	s := newStage(t, w, "monitor")
	s.SetLastCompletionResult(remora.MonitorState{Alerts: []remora.Alert{{Key: "x"}}})
	s.ExecuteWorkflow(remora.MonitorWorkflow)
	var state remora.MonitorState
	require.NoError(t, s.GetWorkflowResult(&state))
	require.Equal(t, w.watched.found.State, state)
	require.Equal(t, []string{remora.LookAroundActivity}, w.calls)
	require.Equal(t, "x", w.watched.before[0].Alerts[0].Key)
}

// What left no record is recorded before the watermark moves, and that before people are told.
func TestTheMonitorRecordsThenTells(t *testing.T) {
	w := newWorld(t)
	w.watched.found = alerted()
	s := newStage(t, w, "monitor")
	s.ExecuteWorkflow(remora.MonitorWorkflow)
	require.NoError(t, s.GetWorkflowError())
	require.Len(t, w.failures, 2)
	require.Equal(t, w.watched.found.Accounted, w.watched.states[0].Accounted)
	require.Len(t, w.notices, 1)
	require.Equal(t, []string{"monitor.Look", "repository.RecordFailure", "repository.RecordFailure", "monitor.Record"}, w.calls)
	var state remora.MonitorState
	require.NoError(t, s.GetWorkflowResult(&state))
	require.Len(t, state.Alerts, 1)
	require.Empty(t, state.Sizes, "what the repository holds is not in every history")
	require.Empty(t, state.Accounted)
}

// Whatever fails: people are told, and the watermark never passes what is not recorded.
func TestTheMonitorWithEveryStepFailing(t *testing.T) {
	for _, how := range allFaults {
		for nth := 2; nth <= 4; nth++ {
			t.Run(fmt.Sprint(how, nth), func(t *testing.T) {
				w := newWorld(t)
				w.watched.found = alerted()
				w.fault = fault{nth: nth, when: "before", how: how}
				s := newStage(t, w, "monitor")
				s.ExecuteWorkflow(remora.MonitorWorkflow)
				require.NoError(t, s.GetWorkflowError())
				require.True(t, w.fired)
				require.Len(t, w.notices, 1)
				for _, state := range w.watched.states {
					require.Equal(t, len(w.failures) == 2, state.Accounted["schedule/shop/nightly"].Equal(w.watched.found.Accounted["schedule/shop/nightly"]))
				}
			})
		}
	}
}

// monitor looks once as the schedule does.
func (r *recording) monitor() {
	r.t.Helper()
	run, err := r.ExecuteWorkflow(r.t.Context(), client.StartWorkflowOptions{ID: "monitor", TaskQueue: remora.Queue}, remora.MonitorWorkflow)
	require.NoError(r.t, err)
	require.NoError(r.t, run.Get(r.t.Context(), nil))
}

func playQuietMonitor(t *testing.T, r *recording) {
	r.monitor()
	require.Empty(t, r.watched.states)
}

// S20: a restore that lost its workflow in its undo window is taken over by the monitor, without anybody asking. What was
// live stays, and rollback and accept work. It is taken over once.
func playMonitorAlerts(t *testing.T, r *recording) {
	r.startRestore(time.Hour)
	r.await(remora.OutcomeApplied)
	r.terminate("restore/shop")
	r.mu.Lock()
	r.channels = []string{"mail"}
	r.watched.found = alerted()
	r.watched.found.Lost = []string{"shop"}
	r.mu.Unlock()
	r.monitor()
	r.monitor()
	require.Eventually(t, func() bool { return r.record().Hint != "" }, 20*time.Second, 20*time.Millisecond)
	require.Contains(t, r.record().Hint, "monitor has taken it over")
	r.lives(saved)
	require.Equal(t, remora.OutcomeUndone, r.update(remora.RollbackUpdate).Outcome)
	r.lives(original)
	require.Equal(t, remora.OutcomeAccepted, r.update(remora.AcceptUpdate).Outcome)
	require.NoError(t, r.ended("restore/shop"))
	r.tidy()
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.told) > 0
	}, 20*time.Second, 20*time.Millisecond)
	r.mu.Lock()
	defer r.mu.Unlock()
	var alerts int
	for _, in := range r.told {
		if in.Notice.Event == remora.AlertRaised {
			alerts++
		}
	}
	require.Equal(t, 1, alerts, "the same notice is told once")
}
