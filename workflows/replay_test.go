package workflows

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/remora-backup/remora/activities"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Run(m)) }

const histories = "testdata/replay"

// TestReplay runs today's sagas against the histories of earlier ones: a saga that runs for days must survive an
// upgrade of the worker. A change that breaks it needs workflow.GetVersion, never a new recording over an old one.
func TestReplay(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(histories, "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			replayer := worker.NewWorkflowReplayer()
			Register(replayer)
			quiet := log.NewStructuredLogger(slog.New(slog.DiscardHandler))
			text, err := os.Open(file)
			require.NoError(t, err)
			defer func() { _ = text.Close() }()
			h, err := client.HistoryFromJSON(text, client.HistoryJSONOptions{})
			require.NoError(t, err)
			id := h.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetWorkflowId() // a Retention asks for it
			require.NoError(t, replayer.ReplayWorkflowHistoryWithOptions(quiet, h, worker.ReplayWorkflowHistoryOptions{OriginalExecution: workflow.Execution{ID: id}}))
		})
	}
}

// recording is the world on a real server.
type recording struct {
	*world
	client.Client
	t *testing.T
}

// TestRecord plays the sagas on a real server; with REMORA_RECORD=1 it keeps their histories for TestReplay, under
// names that do not exist yet. What a test without a server cannot show is shown here: lanes.
func TestRecord(t *testing.T) {
	for name, play := range map[string]func(*testing.T, *recording){
		"backup-completed":     playBackup,
		"backup-with-room":     playBackup,
		"backup-failed":        playFailedBackup,
		"backup-cancelled":     playCancelledBackup,
		"backup-copied":        playCopied,
		"copy-all-cleans":      playCopyAll,
		"retention-done":       playRetention,
		"retention-refused":    playRefusedRetention,
		"verify-all":           playVerifyAll,
		"restore-expired":      playExpired,
		"restore-undone":       playUndone,
		"restore-prepared":     playUndone,
		"restore-rolled-back":  playRolledBack,
		"restore-stops-backup": playS19StopsARunningBackup,
		"restore-terminated":   playTerminatedApply,
		"restore-lost":         playTerminatedApply,
		"restore-checked":      playChecked,
		"restore-reset":        withCommands(playChecked),
		"terminated-reset":     withCommands(playTerminatedInSwitch),
		"restore-to":           playCopiedElsewhere,
		"restore-to-directory": playLostDirectory,
		"restore-extended":     playExtended,

		"adopted":                  playAdopted,
		"terminated-before-switch": playTerminatedBeforeSwitch,
		"terminated-in-switch":     playTerminatedInSwitch,
		"terminated-turn":          playTerminatedTurn,
		"terminated-late-switch":   playLateSwitch,
		"terminated-discard":       playTerminatedDiscard,
		"reset-stage":              playResetStage,
		"reset-switch":             playResetSwitch,
		"reset-ended":              playResetEnded,
		"reset-backup":             playResetBackup,
		"paused":                   playPaused,

		"slot-ok":         playSlot,
		"slot-skipped":    playSkippedSlot,
		"slot-failed":     playFailedSlot,
		"slot-terminated": playTerminatedSlot,

		"notify-backup":  playNotifiedBackup,
		"notify-restore": playNotifiedRestore,
		"notify-copy":    playNotifiedCopy,
		"monitor-quiet":  playQuietMonitor,
		"monitor-alerts": playMonitorAlerts,

		"drill-proven":     playDrill,
		"drill-failed":     playFailedDrill,
		"drill-gives-way":  playDrillGivesWay,
		"drill-terminated": playTerminatedDrill,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			w := newWorld(t)
			c := testenv.NewTemporal(t).Client(t)
			for _, queue := range []string{remora.Queue, remora.DataQueue} {
				wk := worker.New(c, queue, worker.Options{MaxHeartbeatThrottleInterval: 100 * time.Millisecond})
				Register(wk)
				w.register(lanes{wk, &activities.Lane{Client: c}})
				require.NoError(t, wk.Start())
				t.Cleanup(wk.Stop)
			}
			r := &recording{w, c, t}
			play(t, r)
			if os.Getenv("REMORA_RECORD") != "" {
				r.keep(name)
			}
		})
	}
}

// lanes registers the world's steps, and in place of one of them the real one, which asks the server.
type lanes struct {
	worker.Worker
	real *activities.Lane
}

func (l lanes) RegisterActivityWithOptions(a any, options activity.RegisterOptions) {
	if options.Name == remora.HolderActivity {
		l.real.Register(l.Worker)
		return
	}
	l.Worker.RegisterActivityWithOptions(a, options)
}

func (r *recording) start(id, name string, in any) client.WorkflowRun {
	r.t.Helper()
	run, err := r.ExecuteWorkflow(r.t.Context(), client.StartWorkflowOptions{
		ID: id, TaskQueue: remora.Queue, WorkflowExecutionErrorWhenAlreadyStarted: true,
	}, name, in)
	require.NoError(r.t, err)
	return run
}

func (r *recording) startRestore(undo time.Duration) client.WorkflowRun {
	req := request()
	req.Undo = undo
	return r.start("restore/shop", remora.RestoreWorkflow, req)
}

// await waits until the restore's record has this outcome.
func (r *recording) await(how remora.Outcome) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, record := range r.restores {
			if record.Outcome == how {
				return true
			}
		}
		return false
	}, 30*time.Second, 50*time.Millisecond, "the restore does not become %s", how)
}

func (r *recording) update(name string) (done remora.Restore) {
	r.t.Helper()
	handle, err := r.UpdateWorkflow(r.t.Context(), client.UpdateWorkflowOptions{
		WorkflowID: "restore/shop", UpdateName: name, WaitForStage: client.WorkflowUpdateStageCompleted,
		Args: []any{remora.WishInput{RequestedBy: "ada"}},
	})
	require.NoError(r.t, err)
	require.NoError(r.t, handle.Get(r.t.Context(), &done))
	return done
}

// keep writes the histories of all runs, where there is none of that name.
func (r *recording) keep(name string) {
	listed, err := r.ListWorkflow(r.t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: "ORDER BY StartTime"})
	if err != nil { // the simple visibility store sorts by itself
		listed, err = r.ListWorkflow(r.t.Context(), &workflowservice.ListWorkflowExecutionsRequest{})
	}
	require.NoError(r.t, err)
	require.NoError(r.t, os.MkdirAll(histories, 0o750))
	seen := map[string]int{}
	for i := len(listed.GetExecutions()) - 1; i >= 0; i-- {
		e := listed.GetExecutions()[i]
		kind := e.GetType().GetName()
		seen[kind]++
		file := filepath.Join(histories, name+"."+kind+"."+string(rune('0'+seen[kind]))+".json")
		if _, err := os.Stat(file); err == nil {
			continue
		}
		var h history.History
		events := r.GetWorkflowHistory(r.t.Context(), e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for events.HasNext() {
			event, err := events.Next()
			require.NoError(r.t, err)
			h.Events = append(h.Events, event)
		}
		text, err := protojson.Marshal(&h)
		require.NoError(r.t, err)
		require.NoError(r.t, os.WriteFile(file, text, 0o600))
	}
}

func playBackup(t *testing.T, r *recording) {
	require.NoError(t, r.start("op/shop", remora.BackupWorkflow, backupRequest()).Get(t.Context(), nil))
	checkBackup(t, r.world, nil)
}

// F45, I11: a backup ends as it does, and as soon, while nobody can be told; that goes on by itself.
func playNotifiedBackup(t *testing.T, r *recording) {
	away := true
	r.deaf = func(string) error { // called with the world's lock held
		if away {
			return broken(remora.Unavailable)
		}
		return nil
	}
	require.NoError(t, r.start("op/shop", remora.BackupWorkflow, backupRequest()).Get(t.Context(), nil))
	r.mu.Lock()
	r.refuse = len(r.calls) + 4
	r.mu.Unlock()
	err := r.start("op/shop", remora.BackupWorkflow, backupRequest()).Get(t.Context(), nil)
	require.Equal(t, string(remora.Unsupported), kindOf(err))
	r.mu.Lock()
	require.Empty(t, r.told)
	away = false
	r.mu.Unlock()
	r.awaitTold(remora.BackupCompleted, remora.BackupFailed)
}

func playNotifiedRestore(t *testing.T, r *recording) {
	run := r.startRestore(time.Hour)
	r.await(remora.OutcomeApplied)
	r.update(remora.RollbackUpdate)
	r.update(remora.AcceptUpdate)
	require.NoError(t, run.Get(t.Context(), nil))
	r.mu.Lock()
	r.refuse = len(r.calls) + 16
	r.mu.Unlock()
	require.Equal(t, string(remora.RolledBack), kindOf(r.startRestore(time.Hour).Get(t.Context(), nil)))
	r.awaitTold(remora.RestoreEvent, remora.RestoreEvent, remora.RestoreEvent, remora.RestoreEvent)
}

func playNotifiedCopy(t *testing.T, r *recording) {
	r.damaged["good"] = true
	for id, start := range map[string]func() client.WorkflowRun{
		"copy/offsite/good": func() client.WorkflowRun { return r.start("copy/offsite/good", remora.CopyWorkflow, copyRequest()) },
		"copy/offsite": func() client.WorkflowRun {
			return r.start("copy/offsite", remora.CopyAllWorkflow, remora.CopyAllRequest{To: "offsite"})
		},
	} {
		require.Equal(t, string(remora.Corrupt), kindOf(start().Get(t.Context(), nil)), id)
	}
	r.awaitTold(remora.CopyFailed, remora.CopyFailed)
}

// awaitTold waits until people were told of these events, in any order.
func (r *recording) awaitTold(events ...remora.Event) {
	r.t.Helper()
	require.EventuallyWithT(r.t, func(c *assert.CollectT) {
		r.mu.Lock()
		defer r.mu.Unlock()
		var told []remora.Event
		for _, in := range r.told {
			told = append(told, in.Notice.Event)
		}
		assert.ElementsMatch(c, events, told)
	}, 30*time.Second, 50*time.Millisecond)
}

func playFailedBackup(t *testing.T, r *recording) {
	r.refuse = 4
	err := r.start("op/shop", remora.BackupWorkflow, backupRequest()).Get(t.Context(), nil)
	require.Equal(t, string(remora.Unsupported), kindOf(err))
	checkBackup(t, r.world, err)
}

// untilCancelled holds a step until its workflow is cancelled.
func untilCancelled(step string, waiting chan<- struct{}) func(context.Context, string, int) {
	return func(ctx context.Context, name string, _ int) {
		if name != step {
			return
		}
		select {
		case waiting <- struct{}{}:
		default:
		}
		for ctx.Err() == nil {
			beat(ctx)
			pause, done := context.WithTimeout(ctx, 20*time.Millisecond)
			<-pause.Done()
			done()
		}
	}
}

func playCancelledBackup(t *testing.T, r *recording) {
	waiting := make(chan struct{}, 1)
	r.gate = untilCancelled("files.Capture", waiting)
	run := r.start("op/shop", remora.BackupWorkflow, backupRequest())
	<-waiting
	require.NoError(t, r.CancelWorkflow(t.Context(), "op/shop", ""))
	err := run.Get(t.Context(), nil)
	require.True(t, temporal.IsCanceledError(err), "%v", err)
	checkBackup(t, r.world, err)
}

func playExpired(t *testing.T, r *recording) {
	var done remora.Restore
	require.NoError(t, r.startRestore(time.Second).Get(t.Context(), &done))
	require.Equal(t, remora.OutcomeExpired, done.Outcome)
	r.lives(saved)
	r.tidy()
}

func playUndone(t *testing.T, r *recording) {
	run := r.startRestore(time.Hour)
	r.await(remora.OutcomeApplied)
	require.NoError(t, r.CancelWorkflow(t.Context(), "restore/shop", ""))
	require.Equal(t, remora.OutcomeUndone, r.update(remora.RollbackUpdate).Outcome)
	r.lives(original)
	require.Equal(t, remora.OutcomeApplied, r.update(remora.RollbackUpdate).Outcome)
	r.lives(saved)
	require.Equal(t, remora.OutcomeAccepted, r.update(remora.AcceptUpdate).Outcome)
	require.NoError(t, run.Get(t.Context(), nil))
	r.tidy()
}

func playRolledBack(t *testing.T, r *recording) {
	r.refuse = 16 // the switch of the files
	err := r.startRestore(time.Hour).Get(t.Context(), nil)
	require.Equal(t, string(remora.RolledBack), kindOf(err))
	r.lives(original)
	r.tidy()
}

// A copy into another schema leaves nothing when it is cancelled, or terminated behind its switch; done, it has no window.
// playLostDirectory loses the workflow of a copy that is in its place, whose journal is found by its record alone.
func playLostDirectory(t *testing.T, r *recording) {
	req := request()
	req.To, req.Kinds = "/srv/look", []remora.Kind{remora.Files}
	waiting := make(chan struct{}, 1)
	r.mu.Lock()
	r.gate = untilCancelled("files.Discard", waiting)
	r.mu.Unlock()
	r.start("restore/shop", remora.RestoreWorkflow, req)
	<-waiting
	for _, id := range []string{"restore/shop", "op/shop"} {
		require.NoError(t, r.TerminateWorkflow(t.Context(), id, "", "the test does"))
	}
	r.mu.Lock()
	r.gate = nil
	r.mu.Unlock()
	var done remora.Restore
	run := r.start("restore/shop", remora.RestoreWorkflow, remora.RestoreRequest{PlanRequest: remora.PlanRequest{Source: "shop"}, RequestedBy: "ada", Adopt: true})
	require.NoError(t, run.Get(t.Context(), &done))
	require.Equal(t, remora.OutcomeCopied, done.Outcome)
	checkCopy(t, r.world, nil)
}

func playCopiedElsewhere(t *testing.T, r *recording) {
	req := request()
	req.To = "shop_copy"
	copied := func(holdAt, id string, end func(id string) error) error {
		waiting := make(chan struct{}, 1)
		r.mu.Lock()
		r.gate = untilCancelled(holdAt, waiting)
		r.mu.Unlock()
		run := r.start("restore/shop", remora.RestoreWorkflow, req)
		<-waiting
		r.mu.Lock()
		r.gate = nil
		r.mu.Unlock()
		require.NoError(t, end(id))
		return run.Get(t.Context(), nil)
	}
	cancel := func(id string) error { return r.CancelWorkflow(t.Context(), id, "") }
	checkCopy(t, r.world, copied("database.Compare", "restore/shop", cancel))
	terminate := func(id string) error { return r.TerminateWorkflow(t.Context(), id, "", "the test does") }
	err := copied("database.Discard", "op/shop", terminate)
	require.Equal(t, string(remora.RolledBack), kindOf(err))
	checkCopy(t, r.world, err)

	var done remora.Restore
	require.NoError(t, r.start("restore/shop", remora.RestoreWorkflow, req).Get(t.Context(), &done))
	require.Equal(t, remora.OutcomeCopied, done.Outcome)
	checkCopy(t, r.world, nil)
}

// S19: a restore and a rollback stop a running backup; the end of a window waits for one.
func playS19StopsARunningBackup(t *testing.T, r *recording) {
	waiting := make(chan struct{}, 1)
	hold := func() client.WorkflowRun {
		r.mu.Lock()
		r.gate = untilCancelled("files.Preflight", waiting)
		r.mu.Unlock()
		backup := r.start("op/shop", remora.BackupWorkflow, backupRequest())
		<-waiting
		r.mu.Lock()
		r.gate = nil
		r.mu.Unlock()
		return backup
	}
	stopped := func(backup client.WorkflowRun) {
		err := backup.Get(t.Context(), nil)
		require.True(t, temporal.IsCanceledError(err), "%v", err)
	}
	backup := hold()
	run := r.startRestore(time.Hour)
	r.await(remora.OutcomeApplied)
	stopped(backup)

	backup = hold()
	require.Equal(t, remora.OutcomeUndone, r.update(remora.RollbackUpdate).Outcome)
	stopped(backup)
	r.lives(original)

	backup = hold()
	accept, err := r.UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{
		WorkflowID: "restore/shop", UpdateName: remora.AcceptUpdate, WaitForStage: client.WorkflowUpdateStageAccepted,
	})
	require.NoError(t, err)
	require.Never(t, func() bool { return r.count("database.Leftovers") > 0 }, time.Second, 50*time.Millisecond)
	described, err := r.DescribeWorkflowExecution(t.Context(), "op/shop", backup.GetRunID())
	require.NoError(t, err)
	require.Equal(t, enums.WORKFLOW_EXECUTION_STATUS_RUNNING, described.GetWorkflowExecutionInfo().GetStatus(), "a backup goes first")
	require.NoError(t, r.CancelWorkflow(t.Context(), "op/shop", ""))
	stopped(backup)
	require.NoError(t, accept.Get(t.Context(), nil))
	require.NoError(t, run.Get(t.Context(), nil))
	r.tidy()
}

// An extend waits for a running backup, stops none, and is no hindrance to a rollback.
func playExtended(t *testing.T, r *recording) {
	run := r.startRestore(time.Hour)
	r.await(remora.OutcomeApplied)
	extend := func(by time.Duration) (time.Time, client.WorkflowUpdateHandle) {
		until := time.Now().Add(by).UTC() //nolint:forbidigo // it is a test: on a real server, time is that of the clock
		handle, err := r.UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{
			WorkflowID: "restore/shop", UpdateName: remora.ExtendUpdate, WaitForStage: client.WorkflowUpdateStageAccepted,
			Args: []any{remora.WishInput{RequestedBy: "ada", Until: until}},
		})
		require.NoError(t, err)
		return until, handle
	}
	granted := func(until time.Time, handle client.WorkflowUpdateHandle) {
		var record remora.Restore
		require.NoError(t, handle.Get(t.Context(), &record))
		require.Equal(t, until, record.KeepUntil)
	}
	granted(extend(2 * time.Hour))

	waiting := make(chan struct{}, 1)
	r.mu.Lock()
	r.gate = untilCancelled("files.Preflight", waiting)
	r.mu.Unlock()
	backup := r.start("op/shop", remora.BackupWorkflow, backupRequest())
	<-waiting
	r.mu.Lock()
	r.gate = nil
	r.mu.Unlock()
	until, handle := extend(3 * time.Hour)
	described, err := r.DescribeWorkflowExecution(t.Context(), "op/shop", backup.GetRunID())
	require.NoError(t, err)
	require.Equal(t, enums.WORKFLOW_EXECUTION_STATUS_RUNNING, described.GetWorkflowExecutionInfo().GetStatus(), "a backup goes first")
	require.Equal(t, remora.OutcomeUndone, r.update(remora.RollbackUpdate).Outcome)
	require.True(t, temporal.IsCanceledError(backup.Get(t.Context(), nil)))
	granted(until, handle)
	r.lives(original)
	require.Equal(t, remora.OutcomeAccepted, r.update(remora.AcceptUpdate).Outcome)
	require.NoError(t, run.Get(t.Context(), nil))
	r.tidy()
}

// S20: an Apply that is terminated in the middle of its switch is undone by its parent.
func playTerminatedApply(t *testing.T, r *recording) {
	waiting := make(chan struct{}, 1)
	r.gate = untilCancelled("files.Switch", waiting)
	run := r.startRestore(time.Hour)
	<-waiting
	r.mu.Lock()
	r.gate = nil
	r.mu.Unlock()
	require.NoError(t, r.TerminateWorkflow(t.Context(), "op/shop", "", "the test does"))
	err := run.Get(t.Context(), nil)
	require.Equal(t, string(remora.RolledBack), kindOf(err))
	r.lives(original)
	r.tidy()
	record, phases := r.recorded(t)
	r.held(t, record.SafetyBackup, original)
	require.Equal(t, []string{"restore, until its workflow was terminated; how long each step took is not known: failed", "way back: go back to what was before"}, phases)
}

// S24: and caches are reset after each switch.
func withCommands(play func(*testing.T, *recording)) func(*testing.T, *recording) {
	return func(t *testing.T, r *recording) {
		r.commands = 2
		play(t, r)
		require.GreaterOrEqual(t, r.count(remora.AfterActivity), 2)
		require.False(t, r.unread)
		r.fresh()
	}
}

// Checks that fail undo a restore, alarm once it is online again, and report after a rollback.
func playChecked(t *testing.T, r *recording) {
	answers := func(failing map[string][]string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.failing, r.later = failing, 1
	}
	no := []string{"sources.shop.checks[0]: it gives no row"}
	answers(map[string][]string{saved: no})
	err := r.startRestore(time.Hour).Get(t.Context(), nil)
	require.Equal(t, string(remora.RolledBack), kindOf(err))
	r.lives(original)
	r.tidy()

	answers(map[string][]string{saved + " online": no, original: no})
	run := r.startRestore(time.Hour)
	r.await(remora.OutcomeApplied)
	require.Len(t, r.update(remora.RollbackUpdate).Warnings, 1)
	r.lives(original)
	require.Equal(t, remora.OutcomeAccepted, r.update(remora.AcceptUpdate).Outcome)
	require.NoError(t, run.Get(t.Context(), nil))
	r.tidy()
}
