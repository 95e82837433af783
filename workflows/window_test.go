package workflows

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

func (s *stage) restored(t *testing.T) remora.Restore {
	t.Helper()
	require.True(t, s.IsWorkflowCompleted())
	require.NoError(t, s.GetWorkflowError())
	var r remora.Restore
	require.NoError(t, s.GetWorkflowResult(&r))
	return r
}

func (a *asked) granted(t *testing.T) remora.Restore {
	t.Helper()
	require.NoError(t, a.rejected)
	require.NoError(t, a.err)
	r, ok := a.result.(remora.Restore)
	require.True(t, ok, "the answer is %T", a.result)
	return r
}

func restoring(t *testing.T) (*world, *stage) {
	w := newWorld(t)
	return w, newStage(t, w, "restore/shop")
}

func (w *world) held(t *testing.T, id, content string) {
	t.Helper()
	require.Contains(t, w.backups, id)
	require.True(t, w.backups[id].verified)
	for _, kind := range both {
		require.Equal(t, content, w.backups[id].content[kind])
	}
}

func TestUndoWindowExpires(t *testing.T) {
	w, s := restoring(t)
	began := s.Now()
	s.ExecuteWorkflow(remora.RestoreWorkflow, request())
	r := s.restored(t)
	require.Equal(t, remora.OutcomeExpired, r.Outcome)
	require.Equal(t, remora.Restored, r.Live)
	require.GreaterOrEqual(t, s.Now().Sub(began), 24*time.Hour)
	w.lives(saved)
	w.tidy()
	w.held(t, r.PutAwayBackup, original)
	w.held(t, r.SafetyBackup, original)
	require.Equal(t, r.Outcome, w.restores[r.ID].Outcome)
	require.NotEmpty(t, r.Phases)
}

func TestAcceptEndsTheWindow(t *testing.T) {
	w, s := restoring(t)
	accept := s.ask(time.Hour, remora.AcceptUpdate)
	began := s.Now()
	s.ExecuteWorkflow(remora.RestoreWorkflow, request())
	r := s.restored(t)
	require.Equal(t, remora.OutcomeAccepted, accept.granted(t).Outcome)
	require.Equal(t, remora.OutcomeAccepted, r.Outcome)
	require.Less(t, s.Now().Sub(began), 2*time.Hour)
	w.lives(saved)
	w.tidy()
	w.held(t, r.PutAwayBackup, original)
}

func TestRollbackMakesTheReplacedSideLive(t *testing.T) {
	w, s := restoring(t)
	rollback := s.ask(time.Hour, remora.RollbackUpdate)
	s.RegisterDelayedCallback(func() { w.lives(original) }, 2*time.Hour)
	s.ExecuteWorkflow(remora.RestoreWorkflow, request())
	r := s.restored(t)
	got := rollback.granted(t)
	require.Equal(t, remora.OutcomeUndone, got.Outcome)
	require.Equal(t, remora.Replaced, got.Live)
	require.Equal(t, remora.OutcomeExpired, r.Outcome)
	w.lives(original)
	w.tidy()
	w.held(t, r.PutAwayBackup, saved)
}

// S23: live checks after a rollback only report; the record says what they said of the last switch.
func TestS23ChecksAfterARollbackOnlyReport(t *testing.T) {
	w, s := restoring(t)
	w.failing = map[string][]string{original: {"sources.shop.checks[0]: it gives no row"}}
	rollback := s.ask(time.Hour, remora.RollbackUpdate)
	again := s.ask(2*time.Hour, remora.RollbackUpdate)
	s.ExecuteWorkflow(remora.RestoreWorkflow, request())
	r := s.restored(t)
	require.Equal(t, remora.OutcomeUndone, rollback.granted(t).Outcome)
	require.Equal(t, []string{"a live check failed: sources.shop.checks[0]: it gives no row"}, rollback.granted(t).Warnings)
	require.Empty(t, again.granted(t).Warnings)
	require.Empty(t, r.Warnings)
	w.lives(saved)
	w.tidy()
}

func TestAnUndoCanBeUndone(t *testing.T) {
	w, s := restoring(t)
	s.ask(time.Hour, remora.RollbackUpdate)
	again := s.ask(2*time.Hour, remora.RollbackUpdate)
	s.ExecuteWorkflow(remora.RestoreWorkflow, request())
	r := s.restored(t)
	require.Equal(t, remora.OutcomeApplied, again.granted(t).Outcome)
	require.Equal(t, remora.Restored, r.Live)
	w.lives(saved)
	w.tidy()
	w.held(t, r.PutAwayBackup, original)
}

// extend asks, some time after the start, for a window of a length from now on.
func (s *stage) extend(after, length time.Duration) *asked {
	a := &asked{}
	s.RegisterDelayedCallback(func() {
		s.UpdateWorkflow(remora.ExtendUpdate, remora.ExtendUpdate+after.String(), a, remora.WishInput{RequestedBy: "grace", Until: s.Now().Add(length)})
	}, after)
	return a
}

// S10: extend answers after the journals know of it. It moves nothing, and takes nobody offline.
func TestS10ExtendAnswersOnceTheJournalsKnow(t *testing.T) {
	w, s := restoring(t)
	began := s.Now()
	extended := s.extend(time.Hour, 71*time.Hour)
	shorter := s.extend(2*time.Hour, 30*time.Hour)
	s.RegisterDelayedCallback(func() {
		r := extended.granted(t)
		require.Equal(t, remora.OutcomeApplied, r.Outcome)
		require.WithinDuration(t, began.Add(72*time.Hour), r.KeepUntil, time.Minute)
		require.Equal(t, r.KeepUntil, w.restores[r.ID].KeepUntil)
		for _, kind := range both {
			require.True(t, r.KeepUntil.Equal(w.kinds[kind].journal["default-test-run-id"].keep), "the journal of %s", kind)
		}
		last := r.Phases[len(r.Phases)-1]
		require.Equal(t, "extend the undo window until "+r.KeepUntil.UTC().Format(time.RFC3339), last.Name)
		require.Equal(t, "grace", last.RequestedBy)
		require.Equal(t, string(remora.Invalid), kindOf(shorter.rejected), "it is never shortened")
		require.ErrorContains(t, shorter.rejected, "only ever lengthened")
	}, 3*time.Hour)
	undo := s.ask(70*time.Hour, remora.RollbackUpdate)
	s.ExecuteWorkflow(remora.RestoreWorkflow, request())
	r := s.restored(t)
	require.Equal(t, remora.OutcomeUndone, undo.granted(t).Outcome, "long after the window that was first asked for")
	require.Equal(t, remora.OutcomeExpired, r.Outcome)
	require.GreaterOrEqual(t, s.Now().Sub(began), 72*time.Hour)
	require.Equal(t, 2, w.count("maintenance.Enter"), "for the restore and its undo alone")
	require.Equal(t, remora.RestoreExtended, w.notices[1].Event, "whoever was told of the earlier end")
	require.Equal(t, "grace", w.notices[1].By)
	require.WithinDuration(t, began.Add(72*time.Hour), w.notices[1].KeepUntil, time.Minute)
	w.lives(original)
	w.tidy()
}

// Whatever fails in an extend: where it was granted the window stays open, and where not, it does no harm.
func TestExtendWithEveryStepFailing(t *testing.T) {
	faults(t, allFaults, func(t *testing.T, f fault) bool {
		w, s := restoring(t)
		began, step := s.Now(), f.nth // the first three are those of the extend
		s.RegisterDelayedCallback(func() {
			f.nth += len(w.calls)
			w.fault = f
		}, time.Hour)
		extended := s.extend(2*time.Hour, 94*time.Hour)
		undo := s.ask(23*time.Hour, remora.RollbackUpdate)
		redo := s.ask(25*time.Hour, remora.RollbackUpdate)
		s.resolveSoon("op/shop")
		s.ExecuteWorkflow(remora.RestoreWorkflow, request())
		r := s.restored(t)
		require.Equal(t, remora.OutcomeExpired, r.Outcome)
		if extended.err == nil {
			require.GreaterOrEqual(t, s.Now().Sub(began), 96*time.Hour)
			require.NoError(t, redo.rejected)
		}
		require.True(t, undo.done() || step > 3, "an extend does not stand in the way of a rollback")
		w.lives(map[remora.Side]string{remora.Restored: saved, remora.Replaced: original}[r.Live])
		w.tidy()
		return w.fired && step <= 6
	})
}

// A window whose end has failed can be extended, and then ends again by time.
func TestExtendAfterTheEndHasFailed(t *testing.T) {
	w, s := restoring(t)
	s.RegisterDelayedCallback(func() { w.fault = fault{nth: len(w.calls) + 3, when: "before", how: "final"} }, 23*time.Hour) // the capture
	began := s.Now()
	extended := s.extend(24*time.Hour+10*time.Minute, 24*time.Hour)
	s.ExecuteWorkflow(remora.RestoreWorkflow, request())
	require.True(t, w.fired)
	require.Empty(t, extended.granted(t).Problem)
	r := s.restored(t)
	require.Equal(t, remora.OutcomeExpired, r.Outcome)
	require.Greater(t, s.Now().Sub(began), 48*time.Hour)
	w.held(t, r.PutAwayBackup, original)
	w.tidy()
}

// A rollback in the last minutes keeps the other side long enough for a second thought.
func TestLateRollbackCanBeUndone(t *testing.T) {
	w, s := restoring(t)
	s.ask(23*time.Hour+55*time.Minute, remora.RollbackUpdate)
	again := s.ask(24*time.Hour+30*time.Minute, remora.RollbackUpdate)
	s.ExecuteWorkflow(remora.RestoreWorkflow, request())
	s.restored(t)
	again.granted(t)
	w.lives(saved)
	w.tidy()
}

func TestCancelInTheWindowChangesNothing(t *testing.T) {
	w, s := restoring(t)
	s.RegisterDelayedCallback(s.CancelWorkflow, time.Hour)
	s.RegisterDelayedCallback(func() {
		for _, r := range w.restores {
			require.Contains(t, r.Hint, "remora rollback")
			require.Contains(t, r.Hint, "remora accept")
		}
		w.lives(saved)
	}, 2*time.Hour)
	rollback := s.ask(3*time.Hour, remora.RollbackUpdate)
	s.ExecuteWorkflow(remora.RestoreWorkflow, request())
	r := s.restored(t)
	rollback.granted(t)
	require.Equal(t, remora.OutcomeExpired, r.Outcome)
	w.lives(original)
	w.tidy()
}

func TestUpdatesOutsideTheWindowAreRefused(t *testing.T) {
	w, s := restoring(t)
	var early, resolve, second asked
	w.gate = func(_ context.Context, name string, _ int) {
		if name == "database.Stage" {
			s.UpdateWorkflow(remora.RollbackUpdate, "early", &early)
		}
		if name == "maintenance.Enter" && w.count("maintenance.Enter") == 2 {
			s.UpdateWorkflow(remora.AcceptUpdate, "second", &second)
		}
	}
	s.RegisterDelayedCallback(func() { s.UpdateWorkflow(remora.ResolveUpdate, "resolve", &resolve) }, time.Hour)
	s.ask(2*time.Hour, remora.RollbackUpdate)
	s.ExecuteWorkflow(remora.RestoreWorkflow, request())
	s.restored(t)
	require.Equal(t, string(remora.Invalid), kindOf(early.rejected))
	require.Equal(t, string(remora.Invalid), kindOf(resolve.rejected))
	require.Equal(t, string(remora.Busy), kindOf(second.rejected))
}

// S1: where the put-away side cannot be saved nothing is discarded; the window stays open for a person, who may
// resolve it, accept again, or roll back.
func TestS1WindowStaysOpenUntilThePutAwaySideIsSaved(t *testing.T) {
	for name, then := range map[string]struct {
		update string
		live   string
	}{
		"resolve":  {remora.ResolveUpdate, saved},
		"accept":   {remora.AcceptUpdate, saved},
		"rollback": {remora.RollbackUpdate, original},
		"time":     {"", saved},
	} {
		t.Run(name, func(t *testing.T) {
			w, s := restoring(t)
			s.RegisterDelayedCallback(func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.fault = fault{nth: len(w.calls) + 3, when: "before", how: "final"} // the capture of the put-away database
			}, time.Hour)
			accept := s.ask(2*time.Hour, remora.AcceptUpdate)
			s.RegisterDelayedCallback(func() {
				require.True(t, w.fired)
				require.Equal(t, string(remora.Denied), kindOf(accept.err))
				require.Equal(t, original, w.kinds[remora.Database].journal["default-test-run-id"].away)
				for _, r := range w.restores {
					require.Equal(t, remora.OutcomeApplied, r.Outcome)
					require.Contains(t, r.Problem, "nothing was discarded")
				}
			}, 2*time.Hour+10*time.Minute)
			answer := &asked{}
			if then.update != "" {
				answer = s.ask(2*time.Hour+20*time.Minute, then.update)
			}
			s.ExecuteWorkflow(remora.RestoreWorkflow, request())
			r := s.restored(t)
			if then.update != "" {
				answer.granted(t)
			}
			require.Empty(t, r.Problem)
			w.lives(then.live)
			w.tidy()
		})
	}
}

func TestRefusedBeforeAnythingIsTouched(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world, *remora.RestoreRequest)
		kind   remora.ProblemKind
	}{
		"unknown backup": {func(_ *world, r *remora.RestoreRequest) { r.Backup = "none" }, remora.NotFound},
		"pending backup": {func(w *world, _ *remora.RestoreRequest) { w.backups["good"].verified = false }, remora.Invalid},
		"other source":   {func(w *world, _ *remora.RestoreRequest) { w.backups["good"].manifest.Source = "blog" }, remora.Invalid},
		"changed plan":   {func(_ *world, r *remora.RestoreRequest) { r.PlanHash = "of another day" }, remora.Changed},
		"unknown kind":   {func(_ *world, r *remora.RestoreRequest) { r.Kinds = []remora.Kind{"redis"} }, remora.Invalid},
		"missing part": {func(w *world, _ *remora.RestoreRequest) {
			w.backups["good"].manifest.Parts = w.backups["good"].manifest.Parts[:1]
		}, ""},
		"failed safety backup": {func(w *world, _ *remora.RestoreRequest) { w.refuse = 5 }, remora.Unsupported},
	} {
		t.Run(name, func(t *testing.T) {
			w, s := restoring(t)
			req := request()
			c.change(w, &req)
			if c.kind == "" {
				req.Kinds, c.kind = both, remora.NotFound
			}
			s.ExecuteWorkflow(remora.RestoreWorkflow, req)
			require.Equal(t, string(c.kind), kindOf(s.GetWorkflowError()))
			for _, r := range w.restores {
				require.Equal(t, remora.OutcomeRefused, r.Outcome)
				require.NotEmpty(t, r.Problem)
			}
			require.Zero(t, w.count("database.Stage"))
			w.lives(original)
			w.tidy()
		})
	}
}

// recorded is the one record of a restore, and the names of its phases.
func (w *world) recorded(t *testing.T) (r remora.Restore, phases []string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Len(t, w.restores, 1)
	for _, r = range w.restores {
		for _, p := range r.Phases {
			name := p.Name
			if p.Failed {
				name += ": failed"
			}
			phases = append(phases, name)
		}
	}
	return r, phases
}

// The record of a restore that ended early says how far it had come, and how it went back.
func TestARestoreThatEndsEarlyIsOnRecord(t *testing.T) {
	for name, c := range map[string]struct {
		at      string
		cancel  bool
		outcome remora.Outcome
		safety  bool
		phases  []string
	}{
		"refused": {"files.Preflight", false, remora.OutcomeRefused, false, []string{"look up backup good", "check database of shop", "check files of shop: failed"}},
		"cancelled": {"database.Stage", true, remora.OutcomeRolledBack, true, []string{
			"dump database of shop", "archive files of shop", "commit", "verify", "stage database of shop: failed", "way back: discard what was staged",
		}},
		"blocked": {"files.Switch", false, remora.OutcomeRolledBack, true, []string{
			"maintenance on", "switch database of shop", "switch files of shop: failed",
			"way back: switch files back", "way back: switch database back", "way back: leave maintenance",
			"dump database of shop", "commit", "verify", "way back: discard what was staged", // it was live for a moment (S1)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w, s := restoring(t)
			w.gate = func(_ context.Context, step string, nth int) {
				if step != c.at || w.fired {
					return
				}
				if w.fired = true; c.cancel {
					s.CancelWorkflow()
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				w.refuse = nth
			}
			s.ExecuteWorkflow(remora.RestoreWorkflow, request())
			require.Error(t, s.GetWorkflowError())
			r, phases := w.recorded(t)
			require.Equal(t, c.outcome, r.Outcome)
			require.NotEmpty(t, r.Problem)
			require.Equal(t, c.safety, r.SafetyBackup != "")
			require.Equal(t, both, append(r.Kinds, both...)[:2], "what was asked for")
			require.Equal(t, c.phases, phases[len(phases)-len(c.phases):])
			w.lives(original)
			w.tidy()
		})
	}
}

func TestPlanHashOfTheShownPlanIsAccepted(t *testing.T) {
	w := newWorld(t)
	s := newStage(t, w, "plan/1")
	s.ExecuteWorkflow(remora.PlanWorkflow, request().PlanRequest)
	require.NoError(t, s.GetWorkflowError())
	var plan remora.Plan
	require.NoError(t, s.GetWorkflowResult(&plan))
	require.Equal(t, both, plan.Kinds)

	s = newStage(t, w, "restore/shop")
	req := request()
	req.PlanHash = plan.Hash
	s.ExecuteWorkflow(remora.RestoreWorkflow, req)
	s.restored(t)
	w.lives(saved)

	w = newWorld(t)
	w.shape = "a migration has added a table since"
	s = newStage(t, w, "restore/shop")
	s.ExecuteWorkflow(remora.RestoreWorkflow, req)
	require.Equal(t, string(remora.Changed), kindOf(s.GetWorkflowError()))
	require.Zero(t, w.count("database.Capture"), "nothing was begun")
	r, _ := w.recorded(t)
	require.Equal(t, remora.OutcomeRefused, r.Outcome)
	require.Contains(t, r.Problem, "what would be replaced has changed since the plan was shown")
	require.Contains(t, r.Hint, "read the new plan")
}

func TestAPreviewTellsWhatWouldRefuseARestore(t *testing.T) {
	w := newWorld(t)
	w.refuse = 2 // the look at whether it can be restored
	s := newStage(t, w, "plan/1")
	req := request().PlanRequest
	req.Kinds, req.Preview = both, true
	s.ExecuteWorkflow(remora.PlanWorkflow, req)
	var plan remora.Plan
	require.NoError(t, s.GetWorkflowResult(&plan))
	require.Equal(t, []string{remora.DescribeActivity, "database.Preflight", "database.Preflight", "database.Preview", "files.Preflight", "files.Preview", remora.RoomActivity}, w.calls)
	require.Equal(t, []string{"a restore would be refused now: do it: the test broke it"}, plan.Targets[0].Live.Warnings)
	require.Equal(t, &remora.Preview{Tables: []remora.TablePreview{{Name: "good", Added: 1}}}, plan.Targets[0].Preview)
	w.lives(original)
}

func TestStageThatDiffersIsNeverSwitched(t *testing.T) {
	w, s := restoring(t)
	w.gate = func(_ context.Context, name string, _ int) {
		if name == "files.Compare" {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.kinds[remora.Files].journal["default-test-run-id"].stage = "damaged"
		}
	}
	s.ExecuteWorkflow(remora.RestoreWorkflow, request())
	require.Equal(t, string(remora.RolledBack), kindOf(s.GetWorkflowError()))
	require.ErrorContains(t, s.GetWorkflowError(), "it differs")
	w.lives(original)
	w.tidy()
	require.Zero(t, w.count("maintenance.Enter"), "the application was never offline")
}

// S14: nothing live is nothing to save, and nothing to hold before the discard.
func TestS14NothingLive(t *testing.T) {
	w, s := restoring(t)
	for _, kind := range both {
		w.kinds[kind].live = ""
	}
	s.ExecuteWorkflow(remora.RestoreWorkflow, request())
	r := s.restored(t)
	require.Empty(t, r.SafetyBackup)
	require.Empty(t, r.PutAwayBackup)
	require.Contains(t, r.Phases[len(r.Phases)-10:][0].Name+r.Phases[3].Name, "nothing is live")
	w.lives(saved)
	w.tidy()
}

// S14: a window without a safety backup never ends by itself.
func TestS14WithoutSafetyBackupTheWindowWaits(t *testing.T) {
	w, s := restoring(t)
	req := request()
	req.WithoutSafety = "the disk under the database is dying"
	s.RegisterDelayedCallback(func() {
		for _, r := range w.restores {
			require.Equal(t, remora.OutcomeApplied, r.Outcome)
		}
	}, 30*24*time.Hour)
	extend := s.extend(30*24*time.Hour, time.Hour)
	accept := s.ask(31*24*time.Hour, remora.AcceptUpdate)
	s.ExecuteWorkflow(remora.RestoreWorkflow, req)
	r := s.restored(t)
	accept.granted(t)
	require.ErrorContains(t, extend.rejected, "does not end by time, since no safety backup was taken (the disk under the database is dying)")
	require.Empty(t, r.SafetyBackup)
	require.Empty(t, w.of(remora.Safety))
	require.Len(t, w.of(remora.PutAway), 1)
	w.lives(saved)
	w.tidy()
}

// A check asks for everything once, and says what is wrong instead of failing.
func TestCheckFindsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world)
		failed []string
	}{
		"nothing":         {func(*world) {}, nil},
		"nothing live":    {func(w *world) { w.kinds[remora.Database].live = "" }, []string{"shop database: there is nothing to back up"}},
		"no repository":   {func(w *world) { w.refuse = 1 }, []string{"repository: the test broke it"}},
		"a missing right": {func(w *world) { w.refuse = 3 }, []string{"shop files: the test broke it"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := newStage(t, w, "check/1")
			c.change(w)
			s.ExecuteWorkflow(remora.CheckWorkflow, remora.FindingsRequest{Sources: []remora.FindingsSource{{Name: "shop", Kinds: both}}})
			require.NoError(t, s.GetWorkflowError())
			var found []remora.Finding
			require.NoError(t, s.GetWorkflowResult(&found))
			var failed []string
			for _, f := range found {
				if f.Level == remora.Failing {
					failed = append(failed, f.Subject+": "+f.Said[strings.LastIndex(f.Said, ": ")+2:])
				}
			}
			require.Equal(t, c.failed, failed)
			require.Greater(t, len(found), 5)
			w.tidy()
		})
	}
}

// The repository is away when the window opens (F18, F22): the record is made good once it is back.
func TestARecordThatIsOwedIsMadeGood(t *testing.T) {
	w, s := restoring(t)
	tries := 0
	w.chance = func(_ context.Context, name string) (before, after error) {
		if name == remora.RecordRestoreActivity {
			if tries++; tries > 1 && tries < 8 {
				return broken(remora.Full), nil
			}
		}
		return nil, nil
	}
	outcomes := func() []remora.Outcome {
		var all []remora.Outcome
		for _, r := range w.restores {
			all = append(all, r.Outcome)
		}
		return all
	}
	s.RegisterDelayedCallback(func() { require.Equal(t, []remora.Outcome{remora.OutcomeRunning}, outcomes(), "it is away") }, 10*time.Second)
	s.RegisterDelayedCallback(func() { require.Equal(t, []remora.Outcome{remora.OutcomeApplied}, outcomes()) }, 10*time.Minute)
	s.ExecuteWorkflow(remora.RestoreWorkflow, request())
	require.Equal(t, remora.OutcomeExpired, s.restored(t).Outcome)
	require.Equal(t, 9, tries)
}

// A restore that finds its backup damaged has all of it read back, so that it is known as corrupt (F28).
func TestWhatCannotBeStagedIsReadBack(t *testing.T) {
	w, s := restoring(t)
	w.rotten["good"] = true
	w.chance = func(_ context.Context, name string) (before, after error) {
		if name == remora.Database.Activity(remora.StageVerb) {
			return broken(remora.Corrupt), nil
		}
		return nil, nil
	}
	s.ExecuteWorkflow(remora.RestoreWorkflow, request())
	require.Equal(t, string(remora.RolledBack), kindOf(s.GetWorkflowError()))
	w.lives(original)
	w.tidy()
	require.Contains(t, mapped(w.notices), remora.BackupCorrupt)
}

func mapped(notices []remora.Notice) (events []remora.Event) {
	for _, n := range notices {
		events = append(events, n.Event)
	}
	return events
}
