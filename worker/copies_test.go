package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// A starting worker makes the schedule of a copy, changes it to what is configured, and leaves a pause and what is no
// longer configured alone.
func TestSchedulesOfCopiesAreAsConfigured(t *testing.T) {
	server := testenv.NewTemporal(t)
	c := server.Client(t)
	cfg := &config.Config{Copies: map[string]*config.Copy{"offsite": {Daily: "03:30", Zone: "Europe/Berlin"}, "other": {Zone: "UTC"}}}
	ensureSchedules(t.Context(), c, cfg, quiet)
	ensureSchedules(t.Context(), c, cfg, quiet)
	handle := c.ScheduleClient().GetHandle(t.Context(), "copy/offsite")
	made, err := handle.Describe(t.Context())
	require.NoError(t, err)
	require.Equal(t, enums.SCHEDULE_OVERLAP_POLICY_SKIP, made.Schedule.Policy.Overlap)
	require.Equal(t, catchUp, made.Schedule.Policy.CatchupWindow)
	action := made.Schedule.Action.(*client.ScheduleWorkflowAction)
	require.Equal(t, remora.CopyAllWorkflow, action.Workflow)
	require.Equal(t, remora.Queue, action.TaskQueue)
	next := made.Info.NextActionTimes[0]
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	require.Equal(t, "03:30:00", next.In(berlin).Format("15:04:05"))
	require.True(t, sameTimes(made, cfg.Copies["offsite"]))
	_, err = c.ScheduleClient().GetHandle(t.Context(), "copy/other").Describe(t.Context())
	require.Error(t, err, "what has no time has no schedule")

	require.NoError(t, handle.Pause(t.Context(), client.SchedulePauseOptions{Note: "by ada"}))
	cfg.Copies["offsite"].Daily, cfg.Copies["offsite"].Zone = "22:05", "UTC"
	ensureSchedules(t.Context(), c, cfg, quiet)
	made, err = handle.Describe(t.Context())
	require.NoError(t, err)
	require.True(t, sameTimes(made, cfg.Copies["offsite"]))
	require.True(t, made.Schedule.State.Paused)
	require.Equal(t, "by ada", made.Schedule.State.Note)
	require.Equal(t, catchUp, made.Schedule.Policy.CatchupWindow)

	cfg.Copies["offsite"].Daily = ""
	ensureSchedules(t.Context(), c, cfg, quiet)
	_, err = handle.Describe(t.Context())
	require.NoError(t, err, "a person deletes schedules")
}
