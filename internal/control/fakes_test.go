package control

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// site is a Temporal with a worker that runs stand-ins under the wire names. The real workflows need databases and are
// tested with them; here a test must decide when a step heartbeats, fails and ends.
type site struct {
	t       *testing.T
	control *Control
	// dump is what "database.Capture" does; nil ends at once.
	mu   sync.Mutex
	dump func(ctx context.Context) error
}

// newSite makes a site on a server, with a worker unless none is wanted.
func newSite(t *testing.T, server *testenv.TemporalServer) *site {
	t.Helper()
	s := &site{t: t}
	var err error
	s.control, err = New(Config{Address: server.Address, Namespace: server.Namespace, Actor: "alice@desk", Poll: 50 * time.Millisecond}, nil)
	require.NoError(t, err)
	t.Cleanup(s.control.Close)
	return s
}

func (s *site) startWorker(server *testenv.TemporalServer) {
	s.t.Helper()
	c, err := client.Dial(client.Options{HostPort: server.Address, Namespace: server.Namespace, Logger: quietLog{}})
	require.NoError(s.t, err)
	w := worker.New(c, remora.Queue, worker.Options{MaxHeartbeatThrottleInterval: 20 * time.Millisecond, DefaultHeartbeatThrottleInterval: 20 * time.Millisecond})
	for name, fake := range map[string]any{
		remora.BackupWorkflow: fakeBackup, remora.PlanWorkflow: fakePlan, remora.RestoreWorkflow: fakeRestore,
		remora.ApplyWorkflow: fakeApply, remora.TurnWorkflow: fakeTurn, remora.DiscardWorkflow: fakeTurn,
	} {
		w.RegisterWorkflowWithOptions(fake, workflow.RegisterOptions{Name: name})
	}
	w.RegisterActivityWithOptions(s.capture, activity.RegisterOptions{Name: "database.Capture"})
	w.RegisterActivityWithOptions(func(context.Context) error { return nil }, activity.RegisterOptions{Name: "database.Switch"})
	w.RegisterActivityWithOptions(func(context.Context, remora.Restore) error { return nil }, activity.RegisterOptions{Name: remora.RecordRestoreActivity})
	require.NoError(s.t, w.Start())
	s.t.Cleanup(func() { w.Stop(); c.Close() })
}

// during makes "database.Capture" do something before it ends.
func (s *site) during(do func(ctx context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dump = do
}

func (s *site) capture(ctx context.Context) (remora.PartRef, error) {
	s.mu.Lock()
	do := s.dump
	s.mu.Unlock()
	if do != nil {
		if err := do(ctx); err != nil {
			return remora.PartRef{}, err
		}
	}
	return remora.PartRef{Kind: remora.Database, Summary: remora.Summary{Objects: 3, Entries: 1200, Bytes: 3_100_000}}, nil
}

// hold heartbeats a progress until the returned func is called.
func (s *site) hold(p remora.Progress) (release func()) {
	done := make(chan struct{})
	s.during(func(ctx context.Context) error {
		for {
			activity.RecordHeartbeat(ctx, p)
			select {
			case <-done:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(30 * time.Millisecond):
			}
		}
	})
	return sync.OnceFunc(func() { close(done) })
}

func withCapture(ctx workflow.Context, summary string) (part remora.PartRef, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, HeartbeatTimeout: 10 * time.Second, WaitForCancellation: true, Summary: summary,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Second},
	})
	err = workflow.ExecuteActivity(ctx, "database.Capture").Get(ctx, &part)
	return part, err
}

func short(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
}

// fakeBackup dumps; named "stuck", it waits for a person first, in the words of the real ones.
func fakeBackup(ctx workflow.Context, req remora.BackupRequest) (remora.BackupResult, error) {
	if req.Name == "stuck" {
		resolved := false
		err := workflow.SetUpdateHandler(ctx, remora.ResolveUpdate, func(workflow.Context) error { resolved = true; return nil })
		workflow.SetCurrentDetails(ctx, "needs a person: leave maintenance: remove /srv/down: permission denied\n\nchmod it\n\nThen send the update \"resolve\" to this workflow.")
		if err := errors.Join(err, workflow.Await(ctx, func() bool { return resolved })); err != nil {
			return remora.BackupResult{}, err
		}
	}
	part, err := withCapture(ctx, "dump database of "+req.Source)
	if err != nil {
		return remora.BackupResult{}, err
	}
	return remora.BackupResult{ID: req.Source + "-1", Kind: remora.DatabaseBackup, Bytes: part.Summary.Bytes}, nil
}

// fakePlan is there at once, but for a preview that never ends.
func fakePlan(ctx workflow.Context, req remora.PlanRequest) (remora.Plan, error) {
	if req.Preview && req.Backup == "endless" {
		return remora.Plan{}, workflow.Await(ctx, func() bool { return false })
	}
	p := remora.Plan{Source: req.Source, Backup: remora.Backup{Manifest: remora.Manifest{ID: req.Backup}}, Kinds: []remora.Kind{remora.Database}, Undo: req.Undo}
	p.Seal()
	return p, nil
}

// fakeRestore has the shape of a restore: records, an Apply in the lane, an undo window with updates.
func fakeRestore(ctx workflow.Context, req remora.RestoreRequest) (remora.Restore, error) {
	record := remora.Restore{ID: req.Source + "-restore-1", Source: req.Source, Backup: req.Backup, Outcome: remora.OutcomeRunning}
	save := func(ctx workflow.Context, o remora.Outcome) {
		record.Outcome = o
		_ = workflow.ExecuteActivity(short(ctx), remora.RecordRestoreActivity, record).Get(ctx, nil)
	}
	child := func(ctx workflow.Context, name string) error {
		cctx := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: remora.Lane(req.Source), WaitForCancellation: true})
		return workflow.ExecuteChildWorkflow(cctx, name, req.Source).Get(ctx, nil)
	}
	over := false
	err := workflow.SetUpdateHandler(ctx, remora.RollbackUpdate, func(ctx workflow.Context) (remora.Restore, error) {
		if err := child(ctx, remora.TurnWorkflow); err != nil {
			return record, err
		}
		save(ctx, remora.OutcomeUndone)
		return record, nil
	})
	if err != nil {
		return record, err
	}
	err = workflow.SetUpdateHandler(ctx, remora.AcceptUpdate, func(ctx workflow.Context) (remora.Restore, error) {
		err := child(ctx, remora.DiscardWorkflow)
		save(ctx, remora.OutcomeAccepted)
		over = true
		return record, err
	})
	if err != nil {
		return record, err
	}
	switch {
	case req.Adopt && req.Source == "half-done":
		save(ctx, remora.OutcomeRolledBack)
		return record, nil
	case req.Adopt && req.Source == "between":
		record.KeepUntil = workflow.Now(ctx).Add(time.Hour)
		save(ctx, remora.OutcomeUndone)
		err = workflow.Await(ctx, func() bool { return over && workflow.AllHandlersFinished(ctx) })
		return record, err
	case req.Adopt && req.Source != "lost":
		return record, failed(&remora.Problem{Op: "take over", Kind: remora.NotFound, Err: errors.New("nothing waits")})
	case req.Adopt:
	default:
		save(ctx, remora.OutcomeRunning)
		if err := child(ctx, remora.ApplyWorkflow); err != nil {
			return record, err
		}
	}
	record.KeepUntil = workflow.Now(ctx).Add(time.Hour)
	save(ctx, remora.OutcomeApplied)
	err = workflow.Await(ctx, func() bool { return over && workflow.AllHandlersFinished(ctx) })
	return record, err
}

func fakeApply(ctx workflow.Context, source string) (remora.Applied, error) {
	_, err := withCapture(ctx, "stage database of "+source)
	if err != nil {
		p := &remora.Problem{Op: "restore " + source, Kind: remora.RolledBack, Hint: "see the log", Err: errors.New("it is as it was before")}
		return remora.Applied{}, failed(p)
	}
	return remora.Applied{Kinds: []remora.Kind{remora.Database}}, nil
}

func fakeTurn(ctx workflow.Context, _ string) error {
	return workflow.ExecuteActivity(short(ctx), "database.Switch").Get(ctx, nil)
}

func failed(p *remora.Problem) error {
	return temporal.NewApplicationErrorWithOptions(p.Error(), string(p.Kind), temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{p.Text()}})
}

// updates collects what was told. It is safe for concurrent use.
type updates struct {
	mu  sync.Mutex
	all []Update
}

func (u *updates) add(one Update) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all = append(u.all, one)
}

// find is the first update of that kind, if any.
func (u *updates) find(e Event) (Update, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, one := range u.all {
		if one.Event == e {
			return one, true
		}
	}
	return Update{}, false
}

func (u *updates) noticed() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []string
	for _, one := range u.all {
		if one.Event == Noticed {
			all = append(all, one.Message)
		}
	}
	return all
}

// eventually waits until an execution has got somewhere.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, 50*time.Millisecond, what)
}

// terminate frees a lane that a test leaves taken.
func (s *site) terminate(ids ...string) {
	s.t.Cleanup(func() {
		for _, id := range ids {
			_ = s.control.client.TerminateWorkflow(context.Background(), id, "", "the test is over")
		}
	})
}

type quietLog struct{}

func (quietLog) Debug(string, ...any) {}
func (quietLog) Info(string, ...any)  {}
func (quietLog) Warn(string, ...any)  {}
func (quietLog) Error(string, ...any) {}
