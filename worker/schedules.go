package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/schedule"
)

// scheduleAgain is how long to wait before the schedules are tried again, when Temporal or the repository was away.
const scheduleAgain = 30 * time.Second

// keepSchedules sees once that no schedule is missing, and tells what else is not as wanted (S30). It tries until that
// is done; until then the worker works without.
func keepSchedules(ctx context.Context, book *schedule.Book, cfg *config.Config, locations *repository.Locations, log *slog.Logger) {
	again(ctx, scheduleAgain, func() bool {
		err := ensureSchedules(ctx, book, cfg, locations, log)
		if err != nil && ctx.Err() == nil {
			log.Error("the schedules could not be looked after; they are tried again", "in", scheduleAgain, "error", err)
		}
		return err == nil
	})
}

// ensureSchedules makes what is missing: also what commands made and paused, for Temporal may have been lost. So it
// needs the repository itself: without its records, what somebody paused would run.
func ensureSchedules(ctx context.Context, book *schedule.Book, cfg *config.Config, locations *repository.Locations, log *slog.Logger) error {
	repo, err := locations.At(ctx, "")
	if err != nil {
		return err
	}
	records, err := repo.Schedules(ctx)
	if err != nil {
		return err
	}
	sources, copies := cfg.Schedules()
	wanted := schedule.Plan(sources, copies, records)
	for _, fresh := range schedule.Unrecorded(wanted, records, time.Now().UTC()) {
		if err := repo.RecordSchedule(ctx, fresh); err != nil {
			return err
		}
	}
	made, drift, err := book.Ensure(ctx, wanted)
	for _, id := range made {
		log.Info("made a schedule", "schedule", id)
	}
	for _, d := range drift {
		log.Warn("a schedule is not as configured, and goes on as it is; see: remora schedule apply --dry-run", "schedule", d.ID, "drift", d.String())
	}
	return err
}
