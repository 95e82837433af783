package control

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

func shopBackup(source string) remora.BackupRequest {
	return remora.BackupRequest{Source: source, Kinds: []remora.Kind{remora.Database}}
}

// requireProblem wants a Problem of that kind whose line or hint has the words.
func requireProblem(t *testing.T, err error, kind remora.ProblemKind, words ...string) {
	t.Helper()
	var p *remora.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, kind, p.Kind, p.Error())
	for _, w := range words {
		require.Contains(t, p.Error()+" "+p.Hint, w)
	}
}

func TestUnreachableTemporalIsSaidAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	c, err := New(Config{Address: address}, nil)
	require.NoError(t, err)
	defer c.Close()
	began := time.Now()
	_, err = c.Backup(context.Background(), shopBackup("shop"))
	requireProblem(t, err, remora.Unreachable, address, "refused", "remora up")
	require.Less(t, time.Since(began), 2*time.Second)
}

func TestSomethingElseAtTemporalsAddressIsUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // it accepts and never says a word
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	c, err := New(Config{Address: l.Addr().String()}, nil)
	require.NoError(t, err)
	defer c.Close()
	requireProblem(t, c.Reach(context.Background()), remora.Unreachable, "no answer within")
}

func TestMissingNamespaceIsNamed(t *testing.T) {
	c, err := New(Config{Address: testenv.Temporal(t).Address, Namespace: "elsewhere"}, nil)
	require.NoError(t, err)
	defer c.Close()
	requireProblem(t, c.Reach(context.Background()), remora.Invalid, `"elsewhere"`)
}

func TestNamesThatAreNoSourcesNeverReachTemporal(t *testing.T) {
	c, err := New(Config{Address: "127.0.0.1:1"}, nil)
	require.NoError(t, err)
	defer c.Close()
	ctx := context.Background()
	for _, name := range []string{"", "../x", "a b", "a\nb", `a"b`, "A", strings.Repeat("a", 41)} {
		t.Run(remora.OneLine(name), func(t *testing.T) {
			_, err := c.Backup(ctx, shopBackup(name))
			requireProblem(t, err, remora.NotFound)
			_, err = c.Restore(ctx, remora.RestoreRequest{PlanRequest: remora.PlanRequest{Source: name}})
			requireProblem(t, err, remora.NotFound)
			_, err = c.Cancel(ctx, name)
			requireProblem(t, err, remora.NotFound)
			_, err = c.Rollback(ctx, name, nil)
			requireProblem(t, err, remora.NotFound)
		})
	}
}

func TestFollowTellsPhasesProgressAndTheResult(t *testing.T) {
	server := testenv.Temporal(t)
	s := newSite(t, server)
	s.startWorker(server)
	release := s.hold(remora.Progress{Phase: "dump shop", Done: 40, Total: 100, Unit: "rows", Item: "orders"})
	ctx := context.Background()
	run, err := s.control.Backup(ctx, shopBackup("followed"))
	require.NoError(t, err)

	var told updates
	end, err := s.control.Follow(ctx, run, func(u Update) {
		told.add(u)
		if u.Event == Progressed {
			release()
		}
	})
	require.NoError(t, err)
	require.Equal(t, "followed-1", end.Backup.ID)

	began, ok := told.find(PhaseStarted)
	require.True(t, ok)
	require.Equal(t, "dump database of followed", began.Phase, "the words of the workflow")
	progress, ok := told.find(Progressed)
	require.True(t, ok)
	require.Equal(t, int64(40), progress.Progress.Done)
	require.Equal(t, began.Phase, progress.Phase)
	ended, ok := told.find(PhaseEnded)
	require.True(t, ok)
	require.Equal(t, int64(1200), ended.Summary.Entries)
	require.Positive(t, ended.Took)
	require.Empty(t, ended.Problem)
}

func TestSecondBackupIsToldWhoHoldsTheLaneAndHowFarThatIs(t *testing.T) {
	server := testenv.Temporal(t)
	s := newSite(t, server)
	s.startWorker(server)
	release := s.hold(remora.Progress{Phase: "dump shop", Done: 43, Total: 100, Unit: "rows"})
	defer release()
	ctx := context.Background()
	run, err := s.control.Backup(ctx, shopBackup("busy"))
	require.NoError(t, err)
	eventually(t, "progress is there", func() bool {
		r, err := s.control.Active(ctx, "busy")
		return err == nil && r.Progress != nil
	})
	_, err = s.control.Backup(ctx, shopBackup("busy"))
	requireProblem(t, err, remora.Busy, "a backup by alice@desk runs since", "dump shop", "43 % (43 rows of 100 rows)", "remora watch busy", "remora cancel busy")
	release()
	_, err = s.control.Follow(ctx, run, nil)
	require.NoError(t, err)
	_, err = s.control.Active(ctx, "busy")
	requireProblem(t, err, remora.NotFound, "nothing is running")
}

func TestRetriesAreToldWithTheLastFailure(t *testing.T) {
	server := testenv.Temporal(t)
	s := newSite(t, server)
	s.startWorker(server)
	tried := 0
	s.during(func(context.Context) error {
		if tried++; tried == 1 {
			p := &remora.Problem{Op: "connect to the database", Kind: remora.Unavailable, Subject: "127.0.0.1:3306", Err: errors.New("connection refused")}
			return temporal.NewApplicationErrorWithOptions(p.Error(), string(p.Kind), temporal.ApplicationErrorOptions{Details: []any{p.Text()}})
		}
		return nil
	})
	run, err := s.control.Backup(context.Background(), shopBackup("retried"))
	require.NoError(t, err)
	var told updates
	_, err = s.control.Follow(context.Background(), run, told.add)
	require.NoError(t, err)
	retry, ok := told.find(Retrying)
	require.True(t, ok)
	require.Equal(t, 2, retry.Attempt)
	require.Equal(t, "connect to the database (127.0.0.1:3306): connection refused", retry.Problem)
	require.Equal(t, "dump database of retried", retry.Phase)
	require.False(t, retry.Next.IsZero())
}

func TestFailureComesBackAsTheProblemThatItWas(t *testing.T) {
	server := testenv.Temporal(t)
	s := newSite(t, server)
	s.startWorker(server)
	s.during(func(context.Context) error {
		return failed(&remora.Problem{Op: "check the rights", Kind: remora.Denied, Subject: "remora@127.0.0.1", Hint: "GRANT SELECT ON shop.* TO remora", Err: errors.New("SELECT is missing")})
	})
	run, err := s.control.Backup(context.Background(), shopBackup("denied"))
	require.NoError(t, err)
	var told updates
	_, err = s.control.Follow(context.Background(), run, told.add)
	requireProblem(t, err, remora.Denied, "check the rights (remora@127.0.0.1): SELECT is missing", "GRANT SELECT ON shop.* TO remora")
	ended, ok := told.find(PhaseEnded)
	require.True(t, ok)
	require.Contains(t, ended.Problem, "SELECT is missing")
}

func TestCancelStopsABackupAndFollowSaysSo(t *testing.T) {
	server := testenv.Temporal(t)
	s := newSite(t, server)
	s.startWorker(server)
	defer s.hold(remora.Progress{Phase: "dump shop", Done: 1})()
	ctx := context.Background()
	run, err := s.control.Backup(ctx, shopBackup("stopped"))
	require.NoError(t, err)
	eventually(t, "it runs", func() bool {
		r, err := s.control.Active(ctx, "stopped")
		return err == nil && r.Progress != nil
	})
	answer, err := s.control.Cancel(ctx, "stopped")
	require.NoError(t, err)
	require.NotNil(t, answer.Running)
	require.Contains(t, answer.Message, "a backup by alice@desk")
	var told updates
	_, err = s.control.Follow(ctx, run, told.add)
	requireProblem(t, err, remora.Cancelled, "it was cancelled")
	require.Contains(t, told.noticed(), "somebody asked for this to be cancelled")

	answer, err = s.control.Cancel(ctx, "stopped")
	require.NoError(t, err)
	require.Nil(t, answer.Running)
	require.Equal(t, "Nothing is running on stopped.", answer.Message)
}

func TestStoppingToFollowLeavesTheRunAlone(t *testing.T) {
	server := testenv.Temporal(t)
	s := newSite(t, server)
	s.startWorker(server)
	release := s.hold(remora.Progress{Phase: "dump shop", Done: 1})
	ctx, cancel := context.WithCancel(context.Background())
	run, err := s.control.Backup(ctx, shopBackup("detached"))
	require.NoError(t, err)
	_, err = s.control.Follow(ctx, run, func(u Update) {
		if u.Event == Progressed {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	release()
	end, err := s.control.Follow(context.Background(), run, nil)
	require.NoError(t, err)
	require.Equal(t, "detached-1", end.Backup.ID)
}

func TestWatchWaitsForWhatComesNext(t *testing.T) {
	server := testenv.Temporal(t)
	s := newSite(t, server)
	s.startWorker(server)
	release := s.hold(remora.Progress{Phase: "dump shop", Done: 1})
	ctx := context.Background()
	r, err := s.control.Watch(ctx, "watched", func() {
		_, err := s.control.Backup(ctx, shopBackup("watched"))
		require.NoError(t, err)
	})
	require.NoError(t, err)
	require.Equal(t, "a backup", r.Operation)
	release()
	end, err := s.control.Follow(ctx, r.Run, nil)
	require.NoError(t, err)
	require.Equal(t, "watched-1", end.Backup.ID)
}

func TestNoWorkerIsSaidWhileWaiting(t *testing.T) {
	server := testenv.NewTemporal(t) // where no worker has ever been
	s := newSite(t, server)
	require.False(t, s.control.HasWorker(context.Background()))
	run, err := s.control.Backup(context.Background(), shopBackup("idle"))
	require.NoError(t, err)
	var told updates
	started := false
	_, err = s.control.Follow(context.Background(), run, func(u Update) {
		told.add(u)
		if u.Event == Noticed && !started {
			started = true
			s.startWorker(server)
		}
	})
	require.NoError(t, err)
	require.Equal(t, []string{NoWorker}, told.noticed())
	require.True(t, s.control.HasWorker(context.Background()))
}

func TestFollowOutlivesTemporal(t *testing.T) {
	server := testenv.NewTemporal(t)
	s := newSite(t, server)
	s.startWorker(server)
	release := s.hold(remora.Progress{Phase: "dump shop", Done: 1})
	run, err := s.control.Backup(context.Background(), shopBackup("outlived"))
	require.NoError(t, err)
	var told updates
	progressed, gone := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		_, err := s.control.Follow(context.Background(), run, func(u Update) {
			told.add(u)
			switch {
			case u.Event == Progressed:
				close(progressed)
			case u.Event == Noticed && strings.Contains(u.Message, "does not answer"):
				close(gone)
			}
		})
		ended <- err
	}()
	<-progressed
	server.Kill(t)
	<-gone
	server.Restart(t)
	eventually(t, "it answers again", func() bool { return len(told.noticed()) == 2 })
	release()
	require.NoError(t, <-ended)
	require.Contains(t, told.noticed()[1], "answers again")
}

// leaver asks Temporal to begin a run, and leaves before the answer.
type leaver struct {
	client.Client
	leave func()
}

func (l leaver) ExecuteWorkflow(ctx context.Context, options client.StartWorkflowOptions, workflow any, args ...any) (client.WorkflowRun, error) {
	if _, hurried := ctx.Deadline(); hurried { // of a short one, the client gives each of its calls the half
		return nil, errors.New("Temporal has less time than it may take")
	}
	l.leave()
	return l.Client.ExecuteWorkflow(ctx, options, workflow, args...)
}

func TestWhoLeavesWhileARunBeginsLearnsOfIt(t *testing.T) {
	s := newSite(t, testenv.Temporal(t))
	ctx, leave := context.WithCancel(t.Context())
	s.control.client = leaver{s.control.client, leave}
	run, err := s.control.Backup(ctx, shopBackup("leaver"))
	require.NoError(t, err)
	require.NotEmpty(t, run.RunID)
	require.Error(t, ctx.Err())
}
