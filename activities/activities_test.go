package activities

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// fake is a component, a store and a part in one; work is what its verbs do.
type fake struct {
	work     func(ctx context.Context, job remora.Job) error
	restores []remora.Restore
	listed   []remora.Backup
	finish   error
	finished atomic.Int32
	aborted  atomic.Int32
}

func (f *fake) Preflight(ctx context.Context, job remora.Job, intent remora.Intent) (remora.Estimate, error) {
	return remora.Estimate{Identity: fmt.Sprint(intent.Restore())}, f.work(ctx, job)
}

func (f *fake) Capture(ctx context.Context, job remora.Job, _ remora.Subject, _ remora.PartWriter) (remora.Summary, error) {
	return remora.Summary{Entries: 7}, f.work(ctx, job)
}

func (f *fake) Stage(ctx context.Context, job remora.Job, _ fs.FS) (remora.Summary, error) {
	return remora.Summary{}, f.work(ctx, job)
}

func (f *fake) Compare(ctx context.Context, job remora.Job, _ fs.FS) (remora.Diff, error) {
	d := remora.Diff{}
	for i := range 100 {
		d.Differences = append(d.Differences, fmt.Sprintf("line %d\n%s", i, bytes.Repeat([]byte("x"), 1000)))
	}
	return d, f.work(ctx, job)
}

func (f *fake) Switch(ctx context.Context, turn remora.Turn) error {
	return f.work(ctx, remora.Job{Run: turn.Run})
}

func (f *fake) Discard(ctx context.Context, job remora.Job, _ string) error { return f.work(ctx, job) }

func (f *fake) Leftovers(ctx context.Context) ([]remora.Leftover, error) {
	return nil, f.work(ctx, remora.Job{})
}

func (f *fake) Begin(context.Context, Part) (PartWriter, error) { return f, nil }
func (f *fake) Part(context.Context, string, string, remora.Kind) (fs.FS, error) {
	return fstest.MapFS{}, nil
}

func (f *fake) Lease(context.Context, string, string, string, string) (func(context.Context, error) error, error) {
	return func(_ context.Context, err error) error { return err }, nil
}

func (f *fake) Find(_ context.Context, ref, source, _ string) (remora.Backup, error) {
	return remora.Backup{}, &remora.Problem{Op: "find the backup", Kind: remora.NotFound, Subject: ref + " of " + source}
}

func (f *fake) Commit(_ context.Context, m remora.Manifest) (remora.Manifest, error) { return m, nil }

func (f *fake) Verify(context.Context, remora.VerifyInput, func(remora.Progress)) (remora.Verification, error) {
	return remora.Verification{}, nil
}
func (f *fake) List(context.Context) ([]remora.Backup, error)         { return f.listed, nil }
func (f *fake) Copies() []string                                      { return nil }
func (f *fake) RecordFailure(context.Context, remora.FailedRun) error { return nil }
func (f *fake) RecordRestore(context.Context, remora.Restore) error   { return nil }
func (f *fake) RecordProof(context.Context, remora.Proof) error       { return nil }

func (f *fake) Check(context.Context, string) (repository.Health, error) {
	return repository.Health{Where: "/backups", Free: new(int64)}, f.finish
}

func (f *fake) Restores(context.Context, string) ([]remora.Restore, error) { return f.restores, nil }

func (f *fake) Put(context.Context, string, func(io.Writer) error) error { return nil }

func (f *fake) PutTree(context.Context, string, string, func(string) bool) (remora.TreeSummary, error) {
	return remora.TreeSummary{}, nil
}

func (f *fake) Finish(context.Context) (string, int64, error) {
	f.finished.Add(1)
	return "root", 3, f.finish
}

func (f *fake) Abort(ctx context.Context) error {
	f.aborted.Add(1)
	return ctx.Err() // a clean-up on a dead context does nothing
}

func newEnv(f *fake, w Watch) *testsuite.TestActivityEnvironment {
	suite := &testsuite.WorkflowTestSuite{}
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestActivityEnvironment()
	of := func(source string) (remora.Component, error) {
		if source != "shop" {
			return nil, NoSuchComponent(source, remora.Database)
		}
		return f, nil
	}
	(&Component{Kind: remora.Database, Of: of, Store: f, Watch: w}).Register(env)
	(&Repository{Store: f, Watch: w, Tool: "remora test"}).Register(env)
	return env
}

var capture = remora.ComponentInput{Source: "shop", Run: "run", Backup: "b"}

// problemIn reads what travels in a step's error.
func problemIn(t *testing.T, err error) (remora.ProblemText, *temporal.ApplicationError) {
	t.Helper()
	var app *temporal.ApplicationError
	require.ErrorAs(t, err, &app)
	var text remora.ProblemText
	require.NoError(t, app.Details(&text))
	require.Equal(t, app.Type(), string(text.Kind))
	return text, app
}

func TestProblemsAreTranslatedOnce(t *testing.T) {
	for name, c := range map[string]struct {
		err       error
		kind      remora.ProblemKind
		retryable bool
	}{
		"denied":      {&remora.Problem{Op: "connect", Kind: remora.Denied, Hint: "GRANT"}, remora.Denied, false},
		"busy":        {fmt.Errorf("lock: %w", &remora.Problem{Op: "lock", Kind: remora.Busy}), remora.Busy, true},
		"stale turn":  {fmt.Errorf("switch: %w", remora.ErrStaleTurn), remora.Superseded, false},
		"plain error": {errors.New("boom"), remora.Internal, true},
		"deadline":    {fmt.Errorf("read: %w", context.DeadlineExceeded), remora.Unavailable, true},
		"long error":  {errors.New(string(bytes.Repeat([]byte("x"), 1<<20))), remora.Internal, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{work: func(context.Context, remora.Job) error { return c.err }}
			_, err := newEnv(f, Watch{}).ExecuteActivity("database.Capture", capture)
			text, app := problemIn(t, err)
			require.Equal(t, c.kind, text.Kind)
			require.Equal(t, c.retryable, !app.NonRetryable())
			require.LessOrEqual(t, len(app.Message()), remora.MaxErrorText)
			require.Zero(t, f.finished.Load())
			require.EqualValues(t, 1, f.aborted.Load(), "what failed is aborted")
		})
	}
}

func TestCaptureThatCannotFinishIsAborted(t *testing.T) {
	f := &fake{work: func(context.Context, remora.Job) error { return nil }, finish: errors.New("disk full")}
	_, err := newEnv(f, Watch{}).ExecuteActivity("database.Capture", capture)
	require.Error(t, err)
	require.EqualValues(t, 1, f.aborted.Load())
}

func TestCaptureGivesASmallReference(t *testing.T) {
	f := &fake{work: func(context.Context, remora.Job) error { return nil }}
	value, err := newEnv(f, Watch{}).ExecuteActivity("database.Capture", capture)
	require.NoError(t, err)
	var ref remora.PartRef
	require.NoError(t, value.Get(&ref))
	require.Equal(t, "root", ref.Root)
	require.EqualValues(t, 7, ref.Summary.Entries)
	require.EqualValues(t, 3, ref.Added)
	require.Zero(t, f.aborted.Load())
}

func TestAPanicFailsOneStep(t *testing.T) {
	f := &fake{work: func(context.Context, remora.Job) error { panic("out of cheese") }}
	_, err := newEnv(f, Watch{}).ExecuteActivity("database.Switch", remora.ComponentInput{Source: "shop"})
	text, app := problemIn(t, err)
	require.Equal(t, remora.Internal, text.Kind)
	require.False(t, app.NonRetryable())
	require.NotContains(t, app.Message(), "goroutine", "stacks belong into the log")
}

// untilEnded works until its context ends, reporting the same progress again and again.
func untilEnded(ctx context.Context, job remora.Job) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		job.Tell(remora.Progress{Phase: "dump", Done: 5, Item: "orders"})
		<-tick.C
	}
	return fmt.Errorf("dump: %w", ctx.Err())
}

func TestAStalledStepIsCancelledFromInside(t *testing.T) {
	f := &fake{work: untilEnded}
	_, err := newEnv(f, Watch{Stall: 50 * time.Millisecond, Beat: 10 * time.Millisecond}).ExecuteActivity("database.Capture", capture)
	text, app := problemIn(t, err)
	require.Equal(t, remora.Stalled, text.Kind)
	require.Equal(t, "orders", text.Subject)
	require.False(t, app.NonRetryable())
	require.EqualValues(t, 1, f.aborted.Load())
}

func TestAStepThatMovesIsNotStalled(t *testing.T) {
	f := &fake{work: func(_ context.Context, job remora.Job) error {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := range 30 {
			job.Tell(remora.Progress{Phase: "dump", Done: int64(i)})
			<-tick.C
		}
		return nil
	}}
	_, err := newEnv(f, Watch{Stall: 150 * time.Millisecond, Beat: 10 * time.Millisecond}).ExecuteActivity("database.Capture", capture)
	require.NoError(t, err)
}

func TestAQuietServerIsNotStalled(t *testing.T) {
	f := &fake{work: func(_ context.Context, job remora.Job) error {
		job.Tell(remora.Progress{Phase: "load", Item: "orders", Quiet: true})
		time.Sleep(200 * time.Millisecond) // an index is built: four times the stall limit
		job.Tell(remora.Progress{Phase: "load", Item: "orders"})
		return nil
	}}
	_, err := newEnv(f, Watch{Stall: 50 * time.Millisecond, Beat: 10 * time.Millisecond}).ExecuteActivity("database.Capture", capture)
	require.NoError(t, err)
}

func TestAStoppingWorkerGivesItsStepBack(t *testing.T) {
	f := &fake{}
	stop := make(chan struct{})
	f.work = func(ctx context.Context, job remora.Job) error {
		close(stop)
		return untilEnded(ctx, job)
	}
	env := newEnv(f, Watch{Beat: 10 * time.Millisecond})
	env.SetWorkerStopChannel(stop)
	_, err := env.ExecuteActivity("database.Capture", capture)
	text, app := problemIn(t, err)
	require.Equal(t, remora.Stopping, text.Kind)
	require.False(t, app.NonRetryable())
	require.Equal(t, handOver, app.NextRetryDelay())
}

func TestProgressReachesTheHeartbeat(t *testing.T) {
	f := &fake{}
	seen := make(chan struct{})
	f.work = func(ctx context.Context, job remora.Job) error {
		job.Tell(remora.Progress{Phase: "dump", Done: 42, Total: 100, Unit: "rows", Item: "orders"})
		<-seen
		return nil
	}
	env := newEnv(f, Watch{Beat: time.Millisecond})
	env.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
		var p remora.Progress
		if details.Get(&p) == nil && p.Done == 42 {
			select {
			case <-seen:
			default:
				close(seen)
			}
		}
	})
	_, err := env.ExecuteActivity("database.Capture", capture)
	require.NoError(t, err)
}

func TestListsInResultsStaySmall(t *testing.T) {
	f := &fake{work: func(context.Context, remora.Job) error { return nil }}
	value, err := newEnv(f, Watch{}).ExecuteActivity("database.Compare", remora.ComponentInput{Source: "shop"})
	require.NoError(t, err)
	var d remora.Diff
	require.NoError(t, value.Get(&d))
	require.Len(t, d.Differences, remora.MaxDifferences)
	for _, line := range d.Differences {
		require.Less(t, len(line), 600)
		require.NotContains(t, line, "\n")
	}
}

func TestUnknownNamesAreRefused(t *testing.T) {
	f := &fake{work: func(context.Context, remora.Job) error { return nil }}
	env := newEnv(f, Watch{})
	_, err := env.ExecuteActivity("database.Capture", remora.ComponentInput{Source: "blog"})
	text, app := problemIn(t, err)
	require.Equal(t, remora.Invalid, text.Kind)
	require.True(t, app.NonRetryable())
	_, err = env.ExecuteActivity(remora.DescribeActivity, remora.DescribeInput{Source: "shop", Backup: "none"})
	text, _ = problemIn(t, err)
	require.Equal(t, remora.NotFound, text.Kind)
	require.Equal(t, "none of shop", text.Subject)
	_, err = env.ExecuteActivity("database.Stage", remora.ComponentInput{Source: "shop", Selection: remora.Selection{To: "copy"}})
	text, _ = problemIn(t, err)
	require.Equal(t, remora.Unsupported, text.Kind, "it is never built where it was not asked to be")
}

func TestRestorePreflightReadsThePart(t *testing.T) {
	f := &fake{work: func(context.Context, remora.Job) error { return nil }}
	env := newEnv(f, Watch{})
	for backup, want := range map[string]string{"": "false", "b": "true"} {
		value, err := env.ExecuteActivity("database.Preflight", remora.ComponentInput{Source: "shop", Backup: backup})
		require.NoError(t, err)
		var e remora.Estimate
		require.NoError(t, value.Get(&e))
		require.Equal(t, want, e.Identity)
	}
}

// A restore that has gone on is not begun again, whatever somebody resets in Temporal.
func TestARestoreIsBegunOnce(t *testing.T) {
	f := &fake{work: func(context.Context, remora.Job) error { return nil }}
	env := newEnv(f, Watch{})
	begin := func() (stage, record error) {
		_, stage = env.ExecuteActivity("database.Stage", remora.ComponentInput{Source: "shop", Run: "run", Backup: "b"})
		_, record = env.ExecuteActivity(remora.RecordRestoreActivity, remora.Restore{ID: "r", Run: "run", Source: "shop", Outcome: remora.OutcomeRunning})
		return stage, record
	}
	f.restores = []remora.Restore{{ID: "r", Run: "run", Outcome: remora.OutcomeRunning}, {ID: "other", Run: "other", Outcome: remora.OutcomeAccepted}}
	stage, record := begin()
	require.NoError(t, errors.Join(stage, record))
	f.restores[0].Outcome = remora.OutcomeApplied
	stage, record = begin()
	for _, err := range []error{stage, record} {
		text, app := problemIn(t, err)
		require.Equal(t, remora.Superseded, text.Kind)
		require.True(t, app.NonRetryable())
		require.Contains(t, text.Message, "is applied")
	}
}

// A step that is paused or reset in Temporal stops, and is tried again: nothing is undone.
func TestAPausedStepStops(t *testing.T) {
	for _, cause := range []error{activity.ErrActivityPaused, activity.ErrActivityReset} {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(cause)
		text, app := problemIn(t, translate(ctx, "dump", ctx.Err()))
		require.Equal(t, remora.Stopping, text.Kind)
		require.Contains(t, text.Message, cause.Error())
		require.False(t, app.NonRetryable())
	}
}
