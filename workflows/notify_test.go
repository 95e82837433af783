package workflows

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

func notice() remora.Notice {
	return remora.Notice{ID: "n1", Event: remora.BackupFailed, Source: "shop", Problem: "it broke"}
}

// events are what people were told, by event and outcome.
func (w *world) events() (all []string) {
	for _, n := range w.notices {
		all = append(all, string(n.Event)+" "+string(n.Outcome))
	}
	return all
}

// F45: a mail server that is away for an hour delays a notice, and nothing else.
func TestNoticeIsToldOnceTheMailServerIsBack(t *testing.T) {
	w := newWorld(t)
	w.channels = []string{"ops@example.com", remora.WebhookChannel}
	s := newStage(t, w, "notify/n1")
	back := s.Now().Add(time.Hour)
	w.deaf = func(to string) error {
		if to != remora.WebhookChannel && s.Now().Before(back) {
			return broken(remora.Unavailable)
		}
		return nil
	}
	s.ExecuteWorkflow(remora.NotifyWorkflow, notice())
	var told remora.Notified
	require.NoError(t, s.GetWorkflowResult(&told))
	require.Equal(t, remora.Notified{Delivered: w.channels}, told)
	require.Equal(t, []remora.NotifyInput{{Notice: notice(), To: remora.WebhookChannel}, {Notice: notice(), To: "ops@example.com"}}, w.told, "who was told is not told again")
	require.Less(t, s.Now().Sub(back), 16*time.Minute)
	require.Empty(t, w.undelivered)
}

// F45, I11: what cannot be told for a day is recorded, for its channel alone.
func TestNoticeThatCannotBeToldIsRecorded(t *testing.T) {
	for name, c := range map[string]struct {
		kind    remora.ProblemKind
		atLeast time.Duration
	}{
		"away for 25 hours": {remora.Unavailable, 23 * time.Hour},
		"refused":           {remora.Denied, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.channels = []string{"ops@example.com", remora.WebhookChannel}
			s := newStage(t, w, "notify/n1")
			began := s.Now()
			w.deaf = func(to string) error {
				if to != remora.WebhookChannel && s.Now().Before(began.Add(25*time.Hour)) {
					return broken(c.kind)
				}
				return nil
			}
			s.ExecuteWorkflow(remora.NotifyWorkflow, notice())
			require.NoError(t, s.GetWorkflowError(), "it fails nothing")
			require.Len(t, w.undelivered, 1)
			u := w.undelivered[0]
			require.Equal(t, "ops@example.com", u.To)
			require.Equal(t, notice(), u.Notice)
			require.Contains(t, u.Problem, "the test broke it")
			require.GreaterOrEqual(t, u.At.Sub(began), c.atLeast)
			require.LessOrEqual(t, u.At.Sub(began), 24*time.Hour+time.Minute)
			require.Len(t, w.told, 1)
		})
	}
}

func TestTestMessageIsTriedOnceAndAnswered(t *testing.T) {
	w := newWorld(t)
	w.channels = []string{"ops@example.com", remora.WebhookChannel}
	tries := 0
	w.deaf = func(to string) error {
		if to == remora.WebhookChannel {
			return nil
		}
		tries++
		return broken(remora.Unavailable)
	}
	s := newStage(t, w, "notify/test")
	s.ExecuteWorkflow(remora.NotifyWorkflow, remora.Notice{ID: "test", Event: remora.TestEvent})
	var told remora.Notified
	require.NoError(t, s.GetWorkflowResult(&told))
	require.Equal(t, []string{remora.WebhookChannel}, told.Delivered)
	require.Len(t, told.Undelivered, 1)
	require.Contains(t, told.Undelivered[0].Problem, "the test broke it")
	require.Equal(t, 1, tries)
	require.Empty(t, w.undelivered, "whoever asked has the answer")
}

func TestWhoIsToldWhat(t *testing.T) {
	restore := func(change func(*world, *stage)) func(*world, *stage) {
		return func(w *world, s *stage) {
			change(w, s)
			s.ExecuteWorkflow(remora.RestoreWorkflow, request())
		}
	}
	clean := newWorld(t)
	newStage(t, clean, "restore/shop").ExecuteWorkflow(remora.RestoreWorkflow, request())
	applied := clean.calls
	for name, c := range map[string]struct {
		play func(*world, *stage)
		told []string
	}{
		"backup": {func(_ *world, s *stage) { s.ExecuteWorkflow(remora.BackupWorkflow, backupRequest()) }, []string{"backup.completed "}},
		"backup that fails": {func(w *world, s *stage) {
			w.refuse = 4
			s.ExecuteWorkflow(remora.BackupWorkflow, backupRequest())
		}, []string{"backup.failed "}},
		"backup that is cancelled": {func(_ *world, s *stage) {
			s.RegisterDelayedCallback(s.CancelWorkflow, 0)
			s.ExecuteWorkflow(remora.BackupWorkflow, backupRequest())
		}, nil},
		"copy that fails": {func(w *world, s *stage) {
			w.refuse = 1
			s.ExecuteWorkflow(remora.CopyWorkflow, copyRequest())
		}, []string{"copy.failed "}},
		"copy of all that fails": {func(w *world, s *stage) {
			w.damaged["good"] = true
			s.ExecuteWorkflow(remora.CopyAllWorkflow, remora.CopyAllRequest{To: "offsite"})
		}, []string{"copy.failed "}},
		"copy": {func(_ *world, s *stage) { s.ExecuteWorkflow(remora.CopyWorkflow, copyRequest()) }, nil},
		"restore that expires": {
			restore(func(*world, *stage) {}),
			[]string{"restore applied", "restore expired"},
		},
		"restore that is undone and accepted": {restore(func(_ *world, s *stage) {
			s.ask(time.Hour, remora.RollbackUpdate)
			s.ask(2*time.Hour, remora.AcceptUpdate)
		}), []string{"restore applied", "restore undone", "restore accepted"}},
		"restore that is refused": {
			restore(func(w *world, _ *stage) { w.refuse = 2 }),
			[]string{"restore refused"},
		},
		"restore that is rolled back": {
			restore(func(w *world, _ *stage) { w.refuse = 16 }),
			[]string{"restore rolled back"},
		},
		"restore that needs a person": {restore(func(w *world, s *stage) {
			w.fault = fault{nth: 1 + slices.Index(applied, remora.LeaveActivity), when: "before", how: "final"}
			s.resolveSoon("op/shop")
		}), []string{"needs_person ", "restore applied", "restore expired"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := newStage(t, w, "restore/shop")
			c.play(w, s)
			require.Equal(t, c.told, w.events())
			ids := map[string]bool{}
			for _, n := range w.notices {
				require.NotEmpty(t, n.ID)
				require.False(t, ids[n.ID], "one ID is told once: %s", n.ID)
				ids[n.ID] = true
				require.False(t, n.At.IsZero())
			}
		})
	}
}
