package main

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/schedule"
	"github.com/remora-backup/remora/internal/testenv"
)

// A starting worker makes what is missing, also on a server that has lost everything, and only tells of the rest.
func TestS30StartingWorkerMakesMissingSchedules(t *testing.T) {
	dir := t.TempDir()
	at := repository.Config{
		Path: filepath.Join(dir, "repository"), State: filepath.Join(dir, "state"),
		Password: func() (remora.Secret, error) { return "a password", nil },
	}
	locations := repository.NewLocations(at, nil)
	t.Cleanup(func() { _ = locations.Close(t.Context()) })
	server := testenv.NewTemporal(t)
	c := server.Client(t)
	book := schedule.New(c, server.Namespace)
	nightly := remora.Schedule{Source: "shop", Name: "nightly", Kinds: []remora.Kind{remora.Files}, Timing: remora.Calendar("30 2 * * *", "UTC"), Deadline: time.Hour, CatchUp: time.Hour}
	cfg := &config.Config{
		Sources: map[string]*config.Source{"shop": {Name: "shop", Schedules: []remora.Schedule{nightly}}},
		Copies:  map[string]*config.Copy{"offsite": {Daily: "03:30", Zone: "Europe/Berlin"}, "other": {Zone: "UTC"}},
	}
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	require.Error(t, ensureSchedules(t.Context(), book, cfg, locations, log), "there is no repository yet, and nobody knows what is paused")
	found, err := book.Find(t.Context(), nightly.ID())
	require.NoError(t, err)
	require.Nil(t, found)

	require.NoError(t, repository.Create(t.Context(), at))
	locations = repository.NewLocations(at, nil)
	began := time.Now().Truncate(time.Second)
	for range 2 {
		require.NoError(t, ensureSchedules(t.Context(), book, cfg, locations, log))
	}
	require.Equal(t, 5, strings.Count(said.String(), "made a schedule"), said.String())
	require.NotContains(t, said.String(), "drift")
	repo, err := locations.At(t.Context(), "")
	require.NoError(t, err)
	records, err := repo.Schedules(t.Context())
	require.NoError(t, err)
	require.Len(t, records, 1)
	require.Equal(t, nightly.ID(), records[0].ID)
	require.False(t, records[0].Since.Before(began), "its slots count from now on")
	found, err = book.Find(t.Context(), "copy/offsite")
	require.NoError(t, err)
	require.Equal(t, "daily at 03:30 Europe/Berlin", found.Timing.Text)

	// The configuration changes, somebody pauses, and then Temporal is lost.
	cfg.Copies["offsite"].Daily, cfg.Sources["shop"].Schedules = "22:05", nil
	require.NoError(t, c.ScheduleClient().GetHandle(t.Context(), "copy/offsite").Pause(t.Context(), client.SchedulePauseOptions{Note: "by ada"}))
	require.NoError(t, ensureSchedules(t.Context(), book, cfg, locations, log))
	require.Contains(t, said.String(), "copy/offsite: time: daily at 03:30 Europe/Berlin, should be daily at 22:05 Europe/Berlin")
	require.Contains(t, said.String(), "schedule/shop/nightly: it is not configured: daily at 02:30 UTC")
	cfg.Sources["shop"].Schedules = []remora.Schedule{nightly}
	records[0].Paused = &remora.Pause{By: "ada", Why: "disks"}
	require.NoError(t, repo.RecordSchedule(t.Context(), records[0]))
	fresh := testenv.NewTemporal(t)
	book = schedule.New(fresh.Client(t), fresh.Namespace)
	require.NoError(t, ensureSchedules(t.Context(), book, cfg, locations, log))
	found, err = book.Find(t.Context(), nightly.ID())
	require.NoError(t, err)
	require.True(t, found.Paused)
	require.Equal(t, "by ada: disks", found.Note)
	after, err := repo.Schedules(t.Context())
	require.NoError(t, err)
	require.Equal(t, records[0].Since, after[0].Since, "what was due while Temporal was lost is missed")
}
