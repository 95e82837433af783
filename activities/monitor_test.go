package activities

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/schedule"
	"github.com/remora-backup/remora/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Run(m)) }

// installation is a repository and a Temporal of its own, watched by a monitor with a clock that the test sets.
type installation struct {
	t       *testing.T
	repo    *repository.Repository
	client  client.Client
	server  *testenv.TemporalServer
	monitor *Monitor
	now     time.Time
	memory  remora.MonitorState
	left    []remora.Leftover
}

func newInstallation(t *testing.T) *installation {
	dir, ctx := t.TempDir(), t.Context()
	cfg := repository.Config{Path: filepath.Join(dir, "repository"), State: filepath.Join(dir, "state"), Password: func() (remora.Secret, error) { return "p", nil }}
	require.NoError(t, repository.Create(ctx, cfg))
	locations := repository.NewLocations(cfg, nil)
	t.Cleanup(func() { require.NoError(t, locations.Close(context.Background())) })
	repo, err := locations.At(ctx, "")
	require.NoError(t, err)
	server := testenv.NewTemporal(t)
	i := &installation{t: t, repo: repo, server: server, client: server.Client(t), now: time.Now().UTC()}
	i.monitor = &Monitor{
		Temporal: i.client, Namespace: server.Namespace, Locations: locations, Book: schedule.New(i.client, server.Namespace),
		Sources: []remora.Expected{{Source: "shop", Kinds: []remora.Kind{remora.Database}, RecoveryPoint: 26 * time.Hour}},
		Of: func(remora.Kind) func(string) (remora.Component, error) {
			return func(string) (remora.Component, error) { return journal{of: i}, nil }
		},
		Now: func() time.Time { return i.now },
	}
	return i
}

// journal is a component of which only what restores have left is asked for.
type journal struct {
	remora.Component
	of *installation
}

func (j journal) Leftovers(context.Context) ([]remora.Leftover, error) { return j.of.left, nil }

// look looks once as the Monitor workflow does: what is missing is recorded, and what is remembered comes back.
func (i *installation) look(after time.Duration) (found remora.LookResult) {
	i.t.Helper()
	i.now = i.now.Add(after)
	suite := &testsuite.WorkflowTestSuite{}
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestActivityEnvironment()
	env.SetTestTimeout(time.Minute)
	i.monitor.Register(env)
	answer, err := env.ExecuteActivity(remora.LookAroundActivity, remora.LookInput{Before: i.memory})
	require.NoError(i.t, err)
	require.NoError(i.t, answer.Get(&found))
	for _, missing := range found.Missing {
		require.NoError(i.t, i.repo.RecordFailure(i.t.Context(), missing))
	}
	if len(found.Accounted) > 0 {
		found.State.Accounted = found.Accounted
	}
	if found.Write {
		_, err = env.ExecuteActivity(remora.RecordMonitorActivity, found.State)
		require.NoError(i.t, err)
	}
	i.memory = found.State
	i.memory.Sizes, i.memory.Accounted = nil, nil
	return found
}

// told are the events of a look about the alerts whose keys begin so.
func told(found remora.LookResult, key string) (events []remora.Event) {
	for _, n := range found.Notices {
		if strings.HasPrefix(n.Subject, key) {
			events = append(events, n.Event)
		}
	}
	return events
}

func (i *installation) open(key string) *remora.Alert {
	for _, a := range i.memory.Open() {
		if strings.HasPrefix(a.Key, key) {
			return &a
		}
	}
	return nil
}

func (i *installation) back(up string, started time.Time) {
	i.t.Helper()
	ctx := i.t.Context()
	w, err := i.repo.Begin(ctx, repository.Spec{Source: "shop", Run: up, Backup: up, Kind: remora.Database})
	require.NoError(i.t, err)
	root, added, err := w.Finish(ctx)
	require.NoError(i.t, err)
	_, err = i.repo.Commit(ctx, remora.Manifest{
		Format: remora.ManifestFormat, ID: up, Run: up, Source: "shop", Kind: remora.DatabaseBackup, Purpose: remora.Regular, RequestedBy: "ada", Tool: "test",
		Started: started, Ended: started, Parts: []remora.PartRef{{Kind: remora.Database, Root: root, Added: added, Started: started, Ended: started}},
	})
	require.NoError(i.t, err)
	_, err = i.repo.Verify(ctx, up, nil)
	require.NoError(i.t, err)
}

// A backup that is too old is told once, again after a day, and once when a new one is there.
func TestABackupThatIsTooOldIsToldOnceADay(t *testing.T) {
	i := newInstallation(t)
	i.back("shop-1", i.now.Add(-20*time.Hour))
	require.Empty(t, told(i.look(0), "overdue/"))
	require.Equal(t, []remora.Event{remora.AlertRaised}, told(i.look(7*time.Hour), "overdue/shop"))
	require.Contains(t, i.open("overdue/shop").Problem, "there has been no good backup for 27 h (objective 26 h)")
	for range 3 {
		found := i.look(5 * time.Minute)
		require.Empty(t, told(found, "overdue/"))
	}
	i.memory = remora.MonitorState{} // Temporal was lost: the record remembers
	require.Empty(t, told(i.look(5*time.Minute), "overdue/"))
	require.Equal(t, []remora.Event{remora.AlertReminder}, told(i.look(24*time.Hour), "overdue/shop"))
	i.back("shop-2", i.now)
	require.Empty(t, told(i.look(5*time.Minute), "overdue/"))
	require.Nil(t, i.open("overdue/"), "status tells at once")
	require.Equal(t, []remora.Event{remora.AlertCleared}, told(i.look(time.Hour), "overdue/shop"))
	require.Empty(t, told(i.look(time.Hour), "overdue/"))
	state, err := i.repo.MonitorState(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, state.Sizes)
	require.Positive(t, state.Sizes[0].Stored)
	require.Positive(t, state.Sizes[0].Free)
}

// A look that finds nothing new writes nothing: each write costs a blob.
func TestAMonitorThatFindsNothingNewWritesOnceAnHour(t *testing.T) {
	i := newInstallation(t)
	i.now = i.now.Truncate(time.Hour)
	i.look(0)
	writes := 0
	for range 24 {
		if i.look(5 * time.Minute).Write {
			writes++
		}
	}
	require.LessOrEqual(t, writes, 3, "two hours, and one for what the first look cleared")
}

// While the repository is away that is told, and what it alone knows is neither found nor over.
func TestARepositoryThatIsAwayIsTold(t *testing.T) {
	i := newInstallation(t)
	require.Equal(t, []remora.Event{remora.AlertRaised}, told(i.look(0), "overdue/shop"))
	require.NoError(t, os.Rename(i.repo.Where(), i.repo.Where()+".away"))
	found := i.look(5 * time.Minute)
	require.Equal(t, []remora.Event{remora.AlertRaised}, told(found, "blind/the repository"))
	require.False(t, found.Write)
	require.NotNil(t, i.open("overdue/shop"))
	require.Empty(t, told(i.look(2*time.Hour), ""), "what cannot be looked at is not over")
	require.NoError(t, os.Rename(i.repo.Where()+".away", i.repo.Where()))
	testenv.Wait(t, 20*time.Second, "the repository is opened again", func() error { _, err := i.monitor.Locations.At(t.Context(), ""); return err })
	i.look(5 * time.Minute)
	require.Nil(t, i.open("blind/"))
	require.NotNil(t, i.open("overdue/shop"))
	require.Equal(t, []remora.Event{remora.AlertCleared}, told(i.look(time.Hour), "blind/"))
}

func (i *installation) schedules() {
	records, err := i.repo.Schedules(i.t.Context())
	require.NoError(i.t, err)
	_, _, err = i.monitor.Book.Ensure(i.t.Context(), schedule.Plan(i.monitor.Schedules, nil, records))
	require.NoError(i.t, err)
}

func often() remora.Schedule {
	return remora.Schedule{Source: "shop", Name: "often", Kinds: []remora.Kind{remora.Database}, Timing: remora.Every(30 * time.Minute), Deadline: time.Hour, CatchUp: 10 * time.Minute}
}

// F32, F44: slots that were due while Temporal was away, or before it was lost, are recorded as missed, once each.
func TestSlotsThatNobodyBeganAreRecordedOnce(t *testing.T) {
	i := newInstallation(t)
	proof := often()
	proof.Name, proof.Kinds, proof.Drill = "proof", nil, true
	i.monitor.Schedules = []remora.Schedule{often(), proof}
	// drilled takes the slots of drills out of what is missing.
	drilled := func(found *remora.LookResult) (drills []remora.FailedRun) {
		found.Missing = slices.DeleteFunc(found.Missing, func(f remora.FailedRun) bool {
			if f.Drill {
				drills = append(drills, f)
			}
			return f.Drill
		})
		return drills
	}
	i.now = i.now.Truncate(30 * time.Minute).Add(20 * time.Minute) // no slot becomes due in the next minutes
	require.NoError(t, i.repo.RecordSchedule(t.Context(), remora.ScheduleRecord{ID: often().ID(), Since: i.now.Add(-3 * time.Hour)}))
	require.NoError(t, i.repo.RecordSchedule(t.Context(), remora.ScheduleRecord{ID: proof.ID(), Since: i.now.Add(-3 * time.Hour)}))
	require.Equal(t, []remora.Event{remora.AlertRaised}, told(i.look(0), "schedule/"+often().ID()), "it is missing")
	require.Empty(t, i.memory.Accounted)
	i.schedules()
	found := i.look(5 * time.Minute)
	require.Empty(t, drilled(&found), "of those that an earlier version had, nothing is known")
	require.GreaterOrEqual(t, len(found.Missing), 5)
	require.LessOrEqual(t, len(found.Missing), 6)
	for _, missing := range found.Missing {
		require.Equal(t, remora.Missed, missing.Status)
	}
	require.Nil(t, i.open("schedule/"), "it is there again")
	require.Empty(t, i.look(time.Minute).Missing, "each is recorded once")
	require.Contains(t, i.open("missed/shop").Problem, "slots passed without a backup")

	i.server.Kill(t) // away for two hours, as the monitor's clock goes
	i.server.Restart(t)
	found = i.look(2 * time.Hour)
	testenv.Wait(t, 30*time.Second, "the server to answer what was due", func() error {
		if len(found.Missing) == 0 { // it has just started, and a look does not wait for it
			found = i.look(0)
			return errors.New("nothing yet")
		}
		return nil
	})
	require.InDelta(t, 3, len(drilled(&found)), 1)
	require.GreaterOrEqual(t, len(found.Missing), 3)
	require.LessOrEqual(t, len(found.Missing), 4)
	require.Empty(t, i.look(time.Minute).Missing)
	proofs, err := i.repo.Proofs(t.Context(), "shop")
	require.NoError(t, err)
	require.InDelta(t, 3, len(proofs), 1)
	require.Equal(t, remora.DrillMissed, proofs[0].Outcome)
	require.Contains(t, proofs[0].Hint, "remora drill shop")
	i.look(time.Minute)
	require.Contains(t, i.open("drill/shop").Problem, "the last drill was missed: nobody was there to begin it")
	runs, err := i.repo.List(t.Context(), repository.Filter{Status: remora.Missed})
	require.NoError(t, err)
	due := map[time.Time]bool{}
	for _, b := range runs {
		require.False(t, due[b.Slot.Due], "%s twice", b.Slot.Due)
		due[b.Slot.Due] = true
	}
}

// A schedule that somebody edited in Temporal is told.
func TestAScheduleThatWasEditedIsTold(t *testing.T) {
	i := newInstallation(t)
	i.monitor.Schedules = []remora.Schedule{often()}
	require.NoError(t, i.repo.RecordSchedule(t.Context(), remora.ScheduleRecord{ID: often().ID(), Since: i.now, Paused: &remora.Pause{By: "ada", At: i.now}}))
	i.schedules()
	require.Empty(t, told(i.look(0), "schedule/"))
	edit := func(to time.Duration) {
		err := i.client.ScheduleClient().GetHandle(t.Context(), often().ID()).Update(t.Context(), client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			s := in.Description.Schedule
			s.Spec = &client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: to}}}
			return &client.ScheduleUpdate{Schedule: &s}, nil
		}})
		require.NoError(t, err)
	}
	edit(time.Hour)
	require.Equal(t, []remora.Event{remora.AlertRaised}, told(i.look(5*time.Minute), "schedule/"))
	require.Contains(t, i.open("schedule/").Problem, "every 1h, should be every 30m")
	edit(30 * time.Minute)
	i.look(5 * time.Minute)
	require.Nil(t, i.open("schedule/"))
	require.Equal(t, []remora.Event{remora.AlertRaised}, told(i.look(8*24*time.Hour), "schedule/"+often().ID()+"/paused"), "it is paused for long")
}

// failing is a workflow whose one step fails until it is told not to.
func (i *installation) failing(name string) (heal func()) {
	var well atomic.Bool
	w := worker.New(i.client, remora.Queue, worker.Options{})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, _ remora.BackupRequest) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, MaximumInterval: 200 * time.Millisecond}})
		err := workflow.UpsertTypedSearchAttributes(ctx, temporal.NewSearchAttributeKeyKeyword(remora.SourceAttribute).ValueSet("shop"))
		if err == nil {
			err = workflow.ExecuteActivity(ctx, "database.Capture").Get(ctx, nil)
		}
		return err
	}, workflow.RegisterOptions{Name: name})
	w.RegisterActivityWithOptions(func(ctx context.Context) error {
		if well.Load() {
			return nil
		}
		return translate(ctx, "dump", remora.Fail(remora.Unavailable, "reach the database", "127.0.0.1:3306", "see that it runs", "connection refused"))
	}, activity.RegisterOptions{Name: "database.Capture"})
	require.NoError(i.t, w.Start())
	i.t.Cleanup(w.Stop)
	return func() { well.Store(true) }
}

func (i *installation) start(workflow string) client.WorkflowRun {
	run, err := i.client.ExecuteWorkflow(i.t.Context(), client.StartWorkflowOptions{ID: remora.Lane("shop"), TaskQueue: remora.Queue}, workflow,
		remora.BackupRequest{Source: "shop", Kinds: []remora.Kind{remora.Database}, RequestedBy: "ada"})
	require.NoError(i.t, err)
	return run
}

// What finds the database away is told while it is tried again, and over once it went through: a backup, and the way back of a
// restore (F38), which is an Apply, or a Turn.
func TestWhatIsTriedAgainAndAgainIsTold(t *testing.T) {
	for workflow, says := range map[string]string{remora.BackupWorkflow: "a backup", remora.ApplyWorkflow: "a restore", remora.TurnWorkflow: "a rollback"} {
		t.Run(says, func(t *testing.T) {
			t.Parallel() // they mostly wait
			triedAgain(t, workflow, says)
		})
	}
}

func triedAgain(t *testing.T, workflow, says string) {
	i := newInstallation(t)
	heal := i.failing(workflow)
	run := i.start(workflow)
	testenv.Wait(t, 20*time.Second, "it fails", func() error {
		d, err := i.client.DescribeWorkflowExecution(t.Context(), remora.Lane("shop"), "")
		if err == nil && (len(d.GetPendingActivities()) == 0 || d.GetPendingActivities()[0].GetAttempt() < 3) {
			err = os.ErrNotExist
		}
		return err
	})
	testenv.Wait(t, 20*time.Second, "it is seen", func() error {
		if i.look(0); len(i.memory.Failing) == 0 { // the list of runs may lag
			return os.ErrNotExist
		}
		return nil
	})
	require.Nil(t, i.open("failing/"), "trouble that passes is nobody's business")
	require.Equal(t, []remora.Event{remora.AlertRaised}, told(i.look(12*time.Minute), "failing/op/shop"))
	require.Contains(t, i.open("failing/").Problem, says+" is being tried again since 12 min: reach the database (127.0.0.1:3306): connection refused")
	require.Equal(t, "see that it runs", i.open("failing/").Hint)
	require.Empty(t, told(i.look(5*time.Minute), "failing/"))
	heal()
	require.NoError(t, run.Get(t.Context(), nil))
	testenv.Wait(t, 20*time.Second, "it is seen", func() error {
		if i.look(0); i.open("failing/") != nil {
			return os.ErrExist
		}
		return nil
	})
	require.Equal(t, []remora.Event{remora.AlertCleared}, told(i.look(time.Hour), "failing/op/shop"))
	require.Empty(t, i.memory.Failing)
}

// F37: a backup that was terminated in Temporal leaves the record that it could not write, once.
func TestATerminatedBackupIsRecordedOnce(t *testing.T) {
	i := newInstallation(t)
	i.failing(remora.BackupWorkflow)
	run := i.start(remora.BackupWorkflow)
	require.NoError(t, i.client.TerminateWorkflow(t.Context(), run.GetID(), "", "the test does"))
	var found remora.LookResult
	testenv.Wait(t, 20*time.Second, "it is seen", func() error {
		if found = i.look(3 * time.Minute); len(found.Missing) == 0 {
			return os.ErrNotExist
		}
		return nil
	})
	require.Len(t, found.Missing, 1)
	require.Equal(t, run.GetRunID(), found.Missing[0].Run)
	require.Equal(t, remora.DatabaseBackup, found.Missing[0].Kind)
	require.Equal(t, "ada", found.Missing[0].RequestedBy)
	require.Equal(t, []remora.Event{remora.AlertRaised}, told(found, "failed/shop"), "nobody else could tell")
	found = i.look(5 * time.Minute)
	require.Empty(t, found.Missing)
	require.Empty(t, told(found, "failed/"))
	require.Equal(t, "the last backup failed: its workflow was terminated in Temporal", i.open("failed/shop").Problem)
}

// S10, S20: what a restore left is to be taken over where nothing is at work, and only what is ours.
func TestWhatARestoreLeftIsToBeTakenOver(t *testing.T) {
	i := newInstallation(t)
	require.Empty(t, i.look(0).Lost)
	i.left = []remora.Leftover{{Kind: remora.Database, Run: "r", Source: "shop", Installation: "another", What: []string{"_remora_x"}}}
	found := i.look(5 * time.Minute)
	require.Empty(t, found.Lost)
	require.Equal(t, []remora.Event{remora.AlertRaised}, told(found, "foreign/shop"))
	require.Contains(t, i.open("foreign/").Problem, "another installation left _remora_x")
	i.left = []remora.Leftover{{Kind: remora.Database, Run: "r", Source: "shop", Installation: i.repo.Installation()}}
	require.Equal(t, []string{"shop"}, i.look(5*time.Minute).Lost)
	i.left = nil
	require.NoError(t, i.repo.RecordRestore(t.Context(), remora.Restore{ID: "shop-restore-1", Run: "r", Source: "shop", Outcome: remora.OutcomeApplied, Started: i.now}))
	require.Equal(t, []string{"shop"}, i.look(5*time.Minute).Lost)

	i.failing(remora.BackupWorkflow)
	run := i.start(remora.BackupWorkflow) // a backup holds the lane: it goes first
	require.Empty(t, i.look(5*time.Minute).Lost)
	require.NoError(t, i.client.TerminateWorkflow(t.Context(), run.GetID(), "", "the test does"))
	require.Equal(t, []string{"shop"}, i.look(5*time.Minute).Lost)
	require.False(t, slices.Contains(i.look(5*time.Minute).Lost, "blog"))

	// While somebody looks after a restore, only what a drill left is removed.
	i.left = []remora.Leftover{{Kind: remora.Database, Run: remora.DrillRun("d"), Source: "shop", Installation: i.repo.Installation()}}
	_, err := i.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: remora.RestoreLane("shop"), TaskQueue: "nobody's"}, remora.RestoreWorkflow)
	require.NoError(t, err)
	found = i.look(5 * time.Minute)
	require.Empty(t, found.Lost)
	require.Equal(t, i.left, found.Drilled[0].Settle)
}

// The runs of the monitor are hundreds a day, and do not stay in Temporal.
func TestTheMonitorForgetsItsRunsOfYesterday(t *testing.T) {
	t.Parallel() // Temporal takes half a minute
	i := newInstallation(t)
	run, err := i.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "monitor-1", TaskQueue: "nobody"}, remora.MonitorWorkflow)
	require.NoError(t, err)
	require.NoError(t, i.client.TerminateWorkflow(t.Context(), run.GetID(), run.GetRunID(), "the test does"))
	closed := func() bool {
		all, err := i.client.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: "WorkflowId = 'monitor-1' AND ExecutionStatus != 'Running'"})
		require.NoError(t, err)
		return len(all.GetExecutions()) == 1
	}
	require.Eventually(t, closed, 20*time.Second, 20*time.Millisecond)
	i.look(time.Hour)
	require.True(t, closed())
	i.look(24 * time.Hour)
	require.Eventually(t, func() bool {
		_, err := i.client.DescribeWorkflowExecution(t.Context(), run.GetID(), run.GetRunID())
		return errors.As(err, new(*serviceerror.NotFound))
	}, 100*time.Second, 20*time.Millisecond)
}

// S12: workers that know other sources than each other are told of, for as long as they are there.
func TestS12WorkersThatKnowOtherSourcesAreToldOf(t *testing.T) {
	i := newInstallation(t)
	start := func(knows, name string) func() {
		c, err := client.Dial(client.Options{
			HostPort: i.server.Address, Namespace: i.server.Namespace, Identity: "remora-worker 1@host " + Knows + knows + " " + name,
			Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
		})
		require.NoError(t, err)
		w := worker.New(c, remora.Queue, worker.Options{})
		w.RegisterActivityWithOptions(func() error { return nil }, activity.RegisterOptions{Name: "nothing"})
		require.NoError(t, w.Start())
		end := sync.OnceFunc(func() { w.Stop(); c.Close() })
		t.Cleanup(end)
		return end
	}
	polls := func(n int) {
		testenv.Wait(t, time.Minute, "the workers to ask for work", func() error {
			d, err := i.client.DescribeTaskQueue(t.Context(), remora.Queue, enums.TASK_QUEUE_TYPE_ACTIVITY)
			if err == nil && len(d.GetPollers()) < n {
				err = fmt.Errorf("%d of %d do: %v", len(d.GetPollers()), n, d.GetPollers())
			}
			return err
		})
	}
	start("abc", "one")
	end := start("abc", "two")
	polls(2)
	i.look(0)
	require.Nil(t, i.open("queue/differing/"))
	start("def", "three")
	polls(3)
	require.Equal(t, []remora.Event{remora.AlertRaised}, told(i.look(time.Minute), "queue/differing/"))
	require.Contains(t, i.open("queue/differing/").Problem, "sources:abc")
	require.Contains(t, i.open("queue/differing/").Problem, "sources:def")
	end()
	i.monitor.Since = time.Now().Add(time.Hour) // all of them were gone before this one was started
	i.look(time.Minute)
	require.Nil(t, i.open("queue/differing/"))
}
