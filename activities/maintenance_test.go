package activities

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/testsuite"

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
}
