package activities

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// A schedule that fails or is skipped all night tells so once, and again every six hours; what is new is told at once.
func TestRepeatsOfAFailureAreNotTold(t *testing.T) {
	begin := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	run := func(minute int, status remora.Status, by string) remora.Backup {
		var b remora.Backup
		b.Purpose, b.Status, b.RequestedBy, b.Started = remora.Regular, status, by, begin.Add(time.Duration(minute)*time.Minute)
		return b
	}
	told := func(event remora.Event, minute int, before ...remora.Backup) bool {
		slices.Reverse(before) // newest first
		return !repeats(remora.Notice{Event: event, By: "often", Started: begin.Add(time.Duration(minute) * time.Minute)}, before)
	}
	good, failed, skipped := run(0, remora.Completed, "often"), run(1, remora.Failed, "often"), run(1, remora.Skipped, "often")
	require.True(t, told(remora.BackupFailed, 1))
	require.True(t, told(remora.BackupFailed, 1, good))
	require.False(t, told(remora.BackupFailed, 2, good, failed))
	require.False(t, told(remora.BackupFailed, 4, failed, run(2, remora.Missed, "often"), run(3, remora.Skipped, "often")))
	require.False(t, told(remora.BackupFailed, 4, failed, run(2, remora.Completed, "other")), "a success of the files is none of the database")
	require.True(t, told(remora.BackupFailed, 2, failed, run(2, remora.Completed, "often")))
	require.True(t, told(remora.BackupFailed, 2, run(1, remora.Failed, "other")))
	require.True(t, told(remora.BackupFailed, 2, skipped), "a failure is worse than what was skipped")
	require.False(t, told(remora.SlotSkipped, 2, skipped))
	require.False(t, told(remora.SlotSkipped, 2, failed))

	var before []remora.Backup
	var at []int
	for minute := 1; minute <= 12*60+1; minute++ {
		if told(remora.BackupFailed, minute, slices.Clone(before)...) {
			at = append(at, minute)
		}
		before = append(before, run(minute, remora.Failed, "often"))
	}
	require.Equal(t, []int{1, 361, 721}, at)
}
