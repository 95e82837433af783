package repository

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

func TestSchedulesAreRemembered(t *testing.T) { everywhere(t, testSchedulesAreRemembered) }

func testSchedulesAreRemembered(t *testing.T, r *Repository) {
	none, err := r.Schedules(t.Context())
	require.NoError(t, err)
	require.Empty(t, none)
	at := time.Date(2026, 3, 1, 2, 30, 0, 0, time.UTC)
	made := remora.Schedule{Source: "shop", Name: "often", Kinds: []remora.Kind{remora.Files}, Timing: remora.Every(time.Hour), Deadline: time.Minute, AdHoc: true}
	often := remora.ScheduleRecord{ID: made.ID(), Schedule: &made, Since: at}
	retention := remora.ScheduleRecord{ID: "retention", Since: at, Paused: &remora.Pause{By: "ada", Why: "disks", At: at}}
	require.NoError(t, r.RecordSchedule(t.Context(), often))
	require.NoError(t, r.RecordSchedule(t.Context(), retention))
	often.Paused = retention.Paused
	require.NoError(t, r.RecordSchedule(t.Context(), often))
	all, err := r.Schedules(t.Context())
	require.NoError(t, err)
	require.Equal(t, []remora.ScheduleRecord{retention, often}, all, "the latest of each")
}
