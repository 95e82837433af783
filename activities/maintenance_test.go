package activities

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/maintenance"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// S3: a step that takes the application offline after its restore was terminated and settled leaves nobody offline; one
// whose restore is at work does.
func TestS3AnEnterThatComesLateLeavesAgain(t *testing.T) {
	c := testenv.NewTemporal(t).Client(t)
	folder := t.TempDir()
	flag := filepath.Join(folder, "offline")
	mode := maintenance.Journalled(maintenance.FlagFile(flag), filepath.Join(folder, "journal"))
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.SetTestTimeout(time.Minute)
	(&Maintenance{Mode: func(string) (maintenance.Mode, error) { return mode, nil }, Temporal: c}).Register(env)
	enter := func() {
		t.Helper()
		_, err := env.ExecuteActivity(remora.EnterActivity, remora.MaintenanceInput{Source: "shop", Run: "run"})
		require.NoError(t, err)
	}
	begin := func(workflow string) {
		t.Helper()
		_, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: remora.Lane("shop"), TaskQueue: "nobody's"}, workflow)
		require.NoError(t, err)
	}
	enter()
	require.NoFileExists(t, flag, "nothing is known of its restore any more")
	begin(remora.BackupWorkflow)
	enter()
	require.NoFileExists(t, flag, "a backup does not want it")
	require.NoError(t, c.TerminateWorkflow(t.Context(), remora.Lane("shop"), "", "the test does"))
	begin(remora.ApplyWorkflow)
	enter()
	require.FileExists(t, flag)
	require.NoError(t, c.TerminateWorkflow(t.Context(), remora.Lane("shop"), "", "the test does"))
	enter()
	require.NoFileExists(t, flag)
	require.NoFileExists(t, filepath.Join(folder, "journal"))

	// A Discard that goes back first, for an Apply that was terminated, wants it as well, until it brings the application back.
	w := worker.New(c, "ours", worker.Options{})
	(&Maintenance{Mode: func(string) (maintenance.Mode, error) { return mode, nil }, Temporal: c}).Register(w)
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		in := remora.MaintenanceInput{Source: "shop", Run: "run", Entered: true}
		for _, name := range []string{remora.EnterActivity, remora.LeaveActivity} {
			if err := workflow.ExecuteActivity(ctx, name, in).Get(ctx, nil); err != nil {
				return err
			}
			workflow.GetSignalChannel(ctx, "on").Receive(ctx, nil)
		}
		return nil
	}, workflow.RegisterOptions{Name: remora.DiscardWorkflow})
	require.NoError(t, w.Start())
	defer w.Stop()
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: remora.Lane("shop"), TaskQueue: "ours"}, remora.DiscardWorkflow)
	require.NoError(t, err)
	testenv.Wait(t, time.Minute, "the Discard to take it offline", func() error { _, err := os.Stat(flag); return err })
	enter()
	require.FileExists(t, flag, "one that comes late leaves it so")
	require.NoError(t, c.SignalWorkflow(t.Context(), run.GetID(), run.GetRunID(), "on", nil))
	testenv.Wait(t, time.Minute, "the Discard to bring it back", func() error {
		if _, err := os.Stat(flag); !errors.Is(err, fs.ErrNotExist) {
			return errors.New("it is offline")
		}
		return nil
	})
	enter()
	require.NoFileExists(t, flag, "and one that comes later brings it back itself")
	require.NoError(t, c.SignalWorkflow(t.Context(), run.GetID(), run.GetRunID(), "on", nil))
	require.NoError(t, run.Get(t.Context(), nil))
}

// S24: what is run after a switch ends within its time, and only the last line of what a program says against itself is told.
func TestS24CommandsAfterASwitch(t *testing.T) {
	told := filepath.Join(t.TempDir(), "told")
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.SetTestTimeout(time.Minute)
	m := &Maintenance{
		Mode: func(string) (maintenance.Mode, error) { return maintenance.None(), nil },
		After: func(string) ([][]string, error) {
			return [][]string{
				{"sh", "-c", `echo "$0 $REMORA_SOURCE $REMORA_RUN" > ` + told, "hunter2"},
				{"sh", "-c", "echo row of a customer >&2; echo no such cache >&2; exit 3", "hunter2"},
				{"sleep", "60"},
				{"/nowhere/php"},
			}, nil
		},
		within: 2 * time.Second,
	}
	m.Register(env)
	found, err := env.ExecuteActivity(remora.LookActivity, remora.MaintenanceInput{Source: "shop", Run: "run"})
	require.NoError(t, err)
	var answer remora.MaintenanceResult
	require.NoError(t, found.Get(&answer))
	require.Equal(t, remora.MaintenanceResult{After: 4}, answer)

	run := func(nth int) error {
		_, err := env.ExecuteActivity(remora.AfterActivity, remora.MaintenanceInput{Source: "shop", Run: "run", Nth: nth})
		return err
	}
	require.NoError(t, run(0))
	text, err := os.ReadFile(told)
	require.NoError(t, err)
	require.Equal(t, "hunter2 shop run\n", string(text))
	for nth, says := range map[int]string{
		1: "run sources.shop.restore.after[1] (sh): it ended with exit status 3: no such cache",
		2: "run sources.shop.restore.after[2] (sleep): it did not end within 2s and was killed",
		3: "run sources.shop.restore.after[3] (/nowhere/php): no such file or directory",
	} {
		err := run(nth)
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "hunter2")
		require.NotContains(t, err.Error(), "customer")
	}
	require.NoError(t, run(4), "the configuration has fewer by now")
}
