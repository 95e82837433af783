package workflows

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// stage is one workflow running against a world, with skipped time.
type stage struct {
	*testsuite.TestWorkflowEnvironment
	w *world
}

func newStage(t testing.TB, w *world, id string) *stage {
	suite := &testsuite.WorkflowTestSuite{}
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestWorkflowEnvironment()
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: id, TaskQueue: remora.Queue})
	env.SetTestTimeout(20 * time.Second)
	env.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{&rightClock{}}})
	Register(env)
	w.register(env)
	env.SetOnChildWorkflowStartedListener(func(info *workflow.Info, _ workflow.Context, args converter.EncodedValues) {
		var n remora.Notice
		if info.WorkflowType.Name == remora.NotifyWorkflow && args.Get(&n) == nil {
			w.notices = append(w.notices, n)
		}
	})
	return &stage{env, w}
}

// rightClock mends what the SDK's environment tells a child of its start: the time outside of the test.
type rightClock struct {
	interceptor.WorkerInterceptorBase
	interceptor.WorkflowInboundInterceptorBase
}

func (*rightClock) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &rightClock{WorkflowInboundInterceptorBase: interceptor.WorkflowInboundInterceptorBase{Next: next}}
}

func (r *rightClock) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	workflow.GetInfo(ctx).WorkflowStartTime = workflow.Now(ctx)
	return r.Next.ExecuteWorkflow(ctx, in)
}

// asked sends an update and keeps its answer.
type asked struct {
	rejected error
	result   any
	err      error
	over     bool
}

func (a *asked) Accept()          {}
func (a *asked) Reject(err error) { a.rejected = err }
func (a *asked) Complete(result any, err error) {
	a.result, a.err, a.over = result, err, true
}

func (a *asked) done() bool { return a.over && a.err == nil }

func (s *stage) ask(after time.Duration, update string) *asked {
	a := &asked{}
	s.RegisterDelayedCallback(func() { s.UpdateWorkflow(update, update+after.String(), a) }, after)
	return a
}

// resolveSoon answers whatever waits for a person, again and again for two virtual days.
func (s *stage) resolveSoon(ids ...string) {
	for i := range 48 {
		s.RegisterDelayedCallback(func() {
			for _, id := range ids {
				_ = s.UpdateWorkflowByID(id, remora.ResolveUpdate, fmt.Sprint("resolve", i), &asked{}) // gone or not asking
			}
		}, time.Duration(i+1)*time.Hour+7*time.Second+11*time.Millisecond) // when no workflow is just beginning
	}
}

func kindOf(err error) string {
	var app *temporal.ApplicationError
	if !errors.As(err, &app) {
		return fmt.Sprintf("%T", err)
	}
	return app.Type()
}

func request() remora.RestoreRequest {
	return remora.RestoreRequest{PlanRequest: remora.PlanRequest{Source: "shop", Backup: "good", Undo: 24 * time.Hour}, RequestedBy: "ada"}
}

func applyRequest() remora.ApplyRequest {
	return remora.ApplyRequest{RestoreRequest: request(), Run: "run", ID: "shop-restore-1", Started: time.Unix(1700000000, 0).UTC()}
}

func backupRequest() remora.BackupRequest {
	return remora.BackupRequest{Source: "shop", Kinds: both, RequestedBy: "ada"}
}

// faults breaks every step in every way, in a fresh world each, and says whether the fault was met.
func faults(t *testing.T, hows []string, try func(t *testing.T, f fault) (fired bool)) {
	for _, how := range hows {
		for _, when := range []string{"before", "after"} {
			for nth := 1; ; nth++ {
				fired := true
				require.Less(t, nth, 200, "the saga does not end")
				t.Run(fmt.Sprintf("%s %s step %d", how, when, nth), func(t *testing.T) {
					fired = try(t, fault{nth: nth, when: when, how: how})
				})
				if !fired {
					require.Greater(t, nth, 5, "the saga is too short to be true")
					break
				}
			}
		}
	}
}

var allFaults = []string{"once", "exhausted", "final"}

func TestBackupStory(t *testing.T) {
	w := newWorld(t)
	s := newStage(t, w, "op/shop")
	s.ExecuteWorkflow(remora.BackupWorkflow, backupRequest())
	require.NoError(t, s.GetWorkflowError())
	var result remora.BackupResult
	require.NoError(t, s.GetWorkflowResult(&result))
	require.Equal(t, []string{
		"database.Preflight", "files.Preflight", "repository.Room", "database.Capture", "files.Capture", "repository.Commit", "repository.Verify",
		"repository.AfterBackup",
	}, w.calls)
	require.True(t, w.backups[result.ID].verified)
	require.Equal(t, remora.FullBackup, result.Kind)
}

func checkBackup(t *testing.T, w *world, err error) {
	t.Helper()
	w.lives(original)
	w.tidy()
	made := w.of(remora.Regular)
	if err == nil {
		require.Len(t, made, 1)
		require.True(t, made[0].verified, "completed means read back")
		require.Empty(t, w.failures)
		return
	}
	require.Len(t, w.failures, 1, "a failed run leaves a record")
	for _, f := range w.failures {
		require.NotEmpty(t, f.Problem)
		require.NotEmpty(t, f.Phase)
	}
}

func TestApplyStory(t *testing.T) {
	w := newWorld(t)
	s := newStage(t, w, "op/shop")
	s.ExecuteWorkflow(remora.ApplyWorkflow, applyRequest())
	require.NoError(t, s.GetWorkflowError())
	require.Equal(t, []string{
		"repository.Describe", "database.Preflight", "files.Preflight",
		"database.Capture", "files.Capture", "repository.Commit", "repository.Verify",
		"database.Stage", "database.Compare", "files.Stage", "files.Compare",
		"database.Prepare", "maintenance.Look", "maintenance.Enter", "database.Switch", "files.Switch", "checks.Run", "database.Switch", "maintenance.Leave",
	}, w.calls)
	w.lives(saved)
	safety := w.of(remora.Safety)
	require.Len(t, safety, 1)
	require.Equal(t, original, safety[0].content[remora.Database])
}

// checkApply holds the promise of a restore: AFTER in every component, or BEFORE with nothing left.
func checkApply(t *testing.T, w *world, err error) {
	t.Helper()
	if err == nil {
		w.lives(saved)
		for _, kind := range both {
			require.Equal(t, original, w.kinds[kind].journal["run"].away, "the replaced side is kept")
		}
		require.Empty(t, w.offline)
		return
	}
	w.lives(original)
	w.tidy()
}

// A restore whose live checks fail is undone, with everything that it had done by then.
func TestApplyWithFailingChecksIsUndone(t *testing.T) {
	w := newWorld(t)
	w.failing = map[string][]string{saved: {"sources.shop.checks[0]: it gives no row"}}
	s := newStage(t, w, "op/shop")
	s.ExecuteWorkflow(remora.ApplyWorkflow, applyRequest())
	err := s.GetWorkflowError()
	require.Equal(t, string(remora.RolledBack), kindOf(err))
	require.ErrorContains(t, err, "sources.shop.checks[0]: it gives no row")
	checkApply(t, w, err)
	require.Len(t, w.of(remora.PutAway), 1, "S1: the restored side was live for a moment, and is held")
	require.Equal(t, 1, w.count(remora.ChecksActivity), "what was there before is not judged")
}

// S28: checks that need the application online alarm, and undo nothing.
func TestS28ChecksThatComeLaterOnlyAlarm(t *testing.T) {
	w := newWorld(t)
	w.later = 2
	w.failing = map[string][]string{saved + " online": {"sources.shop.checks[1]: it answered 500"}}
	s := newStage(t, w, "op/shop")
	s.ExecuteWorkflow(remora.ApplyWorkflow, applyRequest())
	require.NoError(t, s.GetWorkflowError())
	var applied remora.Applied
	require.NoError(t, s.GetWorkflowResult(&applied))
	require.Equal(t, []string{"a live check failed: sources.shop.checks[1]: it answered 500"}, applied.Warnings)
	require.Equal(t, []string{remora.ChecksActivity, "database.Switch", remora.LeaveActivity, remora.ChecksActivity}, w.calls[len(w.calls)-4:])
	checkApply(t, w, nil)
}

// S24: caches and queues are reset between the switch and the checks, in maintenance, and so they are on every way back from
// there. What fails is told, and decides nothing.
func TestS24CachesAreResetAfterASwitch(t *testing.T) {
	reset := remora.AfterActivity
	forward := []string{"files.Switch", reset, reset, "checks.Run", "database.Switch", "maintenance.Leave"}
	back := []string{"files.Switch", "database.Switch", reset, reset, "maintenance.Leave"}
	for name, c := range map[string]struct {
		failing string // the live content that checks fail with
		fault   fault
		last    []string
		warns   int
		rolled  bool
	}{
		"forward":      {last: forward},
		"passes":       {fault: fault{nth: 18, when: "before", how: "once"}, last: forward},
		"fails":        {fault: fault{nth: 18, when: "before", how: "exhausted"}, last: forward, warns: 1},
		"cannot be":    {fault: fault{nth: 19, when: "before", how: "final"}, last: forward, warns: 1},
		"back":         {failing: saved, last: back, rolled: true},
		"back, fails":  {failing: saved, fault: fault{nth: 24, when: "before", how: "exhausted"}, last: back, warns: 1, rolled: true},
		"half way":     {fault: fault{nth: 17, when: "before", how: "final"}, last: back, rolled: true},
		"did not move": {fault: fault{nth: 16, when: "before", how: "busy"}, last: []string{"repository.FindRestore", "database.Switch", "maintenance.Leave"}, rolled: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.commands, w.fault, w.failing = 2, c.fault, map[string][]string{c.failing: {"it gives no row"}}
			s := newStage(t, w, "restore/shop")
			s.ExecuteWorkflow(remora.RestoreWorkflow, request())
			r, _ := w.recorded(t)
			require.Equal(t, c.rolled, r.Outcome == remora.OutcomeRolledBack, "%s", r.Problem)
			require.Len(t, r.Warnings, c.warns)
			for _, said := range r.Warnings {
				require.Contains(t, said, "caches or queues may be stale; run it by hand")
			}
			at := slices.Index(w.calls, remora.LeaveActivity) + 1
			require.Equal(t, c.last, w.calls[at-len(c.last):at])
			require.NotEmpty(t, w.notices)
			require.Len(t, w.notices[0].Warnings, c.warns)
		})
	}
}

// What somebody else took offline is neither entered nor left, on the way forward and on the way back.
func TestAnApplicationThatWasOfflineStaysOffline(t *testing.T) {
	for _, refuse := range []int{0, 14} {
		w := newWorld(t)
		w.theirs, w.later, w.refuse = true, 1, refuse
		s := newStage(t, w, "op/shop")
		s.ExecuteWorkflow(remora.ApplyWorkflow, applyRequest())
		require.Zero(t, w.count(remora.EnterActivity))
		checkApply(t, w, s.GetWorkflowError())
		if refuse != 0 {
			require.Equal(t, string(remora.RolledBack), kindOf(s.GetWorkflowError()))
			continue
		}
		var applied remora.Applied
		require.NoError(t, s.GetWorkflowResult(&applied))
		require.Len(t, applied.Warnings, 2)
		require.Contains(t, applied.Warnings[0], "offline already, and stays so")
		require.Contains(t, applied.Warnings[1], "1 checks need the application online")
	}
}
