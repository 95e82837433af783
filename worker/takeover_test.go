package main

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	taskqueue "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

const childVariable = "REMORA_TEST_WORKER"

func TestMain(m *testing.M) {
	if where := os.Getenv(childVariable); where != "" {
		workForEver(strings.Split(where, ","))
	}
	if os.Getenv(mainVariable) != "" {
		main()
	}
	os.Exit(testenv.Run(m))
}

var quiet = slog.New(slog.DiscardHandler)

// workForEver is a worker whose steps never end, for tests to kill.
func workForEver(where []string) {
	r, err := enrol(where[2], quiet)
	if err != nil {
		panic(err)
	}
	c, err := client.Dial(client.Options{HostPort: where[0], Namespace: where[1], Identity: r.identity(), Logger: nothing{}})
	if err != nil {
		panic(err)
	}
	w := worker.New(c, remora.DataQueue, worker.Options{MaxHeartbeatThrottleInterval: 100 * time.Millisecond})
	w.RegisterActivityWithOptions(func(ctx context.Context) error {
		for {
			activity.RecordHeartbeat(ctx)
			time.Sleep(50 * time.Millisecond)
		}
	}, activity.RegisterOptions{Name: "long"})
	if err := w.Run(nil); err != nil {
		panic(err)
	}
}

type nothing struct{}

func (nothing) Debug(string, ...any) {}
func (nothing) Info(string, ...any)  {}
func (nothing) Warn(string, ...any)  {}
func (nothing) Error(string, ...any) {}

func longStep(ctx workflow.Context) error {
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue: remora.DataQueue, StartToCloseTimeout: time.Hour, HeartbeatTimeout: 3 * time.Minute,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Minute},
	}), "long").Get(ctx, nil)
}

// scene is a workflow that waits for one long step.
type scene struct {
	t        *testing.T
	dir      string
	server   *testenv.TemporalServer
	client   client.Client
	run      client.WorkflowRun
	attempts atomic.Int32
}

func newScene(t *testing.T) *scene {
	s := &scene{t: t, dir: filepath.Join(t.TempDir(), "workers"), server: testenv.NewTemporal(t)}
	s.client = s.server.Client(t)
	w := worker.New(s.client, remora.Queue, worker.Options{DisableWorkflowWorker: false, LocalActivityWorkerOnly: true})
	w.RegisterWorkflowWithOptions(longStep, workflow.RegisterOptions{Name: "longStep"})
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	var err error
	s.run, err = s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "long", TaskQueue: remora.Queue}, "longStep")
	require.NoError(t, err)
	return s
}

// child starts a worker process and waits until it is at work.
func (s *scene) child() *os.Process {
	s.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+s.server.Address+","+s.server.Namespace+","+s.dir)
	require.NoError(s.t, cmd.Start())
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s.begun(1)
	return cmd.Process
}

// begun waits until the step's attempt has begun somewhere.
func (s *scene) begun(attempt int32) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		d, err := s.client.DescribeWorkflowExecution(s.t.Context(), "long", "")
		return err == nil && len(d.GetPendingActivities()) == 1 && d.GetPendingActivities()[0].GetAttempt() == attempt &&
			d.GetPendingActivities()[0].GetState() == enums.PENDING_ACTIVITY_STATE_STARTED
	}, 20*time.Second, 50*time.Millisecond)
}

// successor starts a worker in this process, that ends the step at once.
func (s *scene) successor() *roster {
	s.t.Helper()
	r, err := enrol(s.dir, quiet)
	require.NoError(s.t, err)
	s.t.Cleanup(r.leave)
	w := worker.New(s.client, remora.DataQueue, worker.Options{Identity: r.identity()})
	w.RegisterActivityWithOptions(func(ctx context.Context) error {
		s.attempts.Store(activity.GetInfo(ctx).Attempt)
		return nil
	}, activity.RegisterOptions{Name: "long"})
	r.watch(s.client, s.server.Namespace)
	require.NoError(s.t, w.Start())
	s.t.Cleanup(w.Stop)
	return r
}

func (s *scene) doneWithin(limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	return s.run.Get(ctx, nil) == nil
}

func TestStepOfAKilledWorkerIsTakenOverAtOnce(t *testing.T) {
	s := newScene(t)
	child := s.child()
	require.NoError(t, child.Kill())
	_, _ = child.Wait()
	s.successor()
	require.True(t, s.doneWithin(10*time.Second), "the heartbeat timeout is 3 minutes")
	require.EqualValues(t, 2, s.attempts.Load())
}

// A step may have been sent to a process that died before it could even begin it.
func TestStepThatWasOnItsWayToAKilledWorkerIsTakenOver(t *testing.T) {
	s := newScene(t)
	victim, err := enrol(s.dir, quiet)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = s.client.WorkflowService().PollActivityTaskQueue(ctx, &workflowservice.PollActivityTaskQueueRequest{
		Namespace: s.server.Namespace, Identity: victim.identity(), TaskQueue: &taskqueue.TaskQueue{Name: remora.DataQueue},
	})
	require.NoError(t, err)
	s.begun(1)
	require.NoError(t, syscall.Close(victim.lock)) // as the kernel does
	s.successor()
	require.True(t, s.doneWithin(10*time.Second))
}

// A frozen worker may wake up and go on writing: its steps stay its own until the heartbeat timeout.
func TestStepOfAFrozenWorkerIsLeftAlone(t *testing.T) {
	s := newScene(t)
	child := s.child()
	require.NoError(t, child.Signal(syscall.SIGSTOP))
	s.successor()
	require.False(t, s.doneWithin(6*time.Second))
	require.NoError(t, child.Kill())
	_, _ = child.Wait()
	require.True(t, s.doneWithin(10*time.Second))
}

func TestFilesOfDeadWorkersAreRemovedInTheEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "workers")
	victim, err := enrol(dir, quiet)
	require.NoError(t, err)
	r, err := enrol(dir, quiet)
	require.NoError(t, err)
	found, err := r.findDead()
	require.NoError(t, err)
	require.Empty(t, found, "both live")

	require.NoError(t, syscall.Close(victim.lock))
	c := testenv.Temporal(t).Client(t)
	r.settle(t.Context(), c, testenv.Temporal(t).Namespace)
	require.FileExists(t, filepath.Join(dir, victim.name), "it is looked after for a while")
	r.dead[victim.name] = time.Now().Add(-mourning)
	r.settle(t.Context(), c, testenv.Temporal(t).Namespace)
	require.NoFileExists(t, filepath.Join(dir, victim.name))
	require.FileExists(t, filepath.Join(dir, r.name))
}
