package repository

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/remora-backup/remora/internal/remora"
)

const (
	scheduleType  = "remora-schedule"
	labelSchedule = "schedule"
)

// RecordSchedule remembers of a schedule what the configuration does not say; the latest record wins.
func (r *Repository) RecordSchedule(ctx context.Context, s remora.ScheduleRecord) error {
	return problem("record the schedule", s.ID, r.record(ctx, scheduleType, labelSchedule, s.ID, s))
}

// Schedules are the records of schedules, also of those that were deleted, by their ids.
func (r *Repository) Schedules(ctx context.Context) ([]remora.ScheduleRecord, error) {
	if err := r.Refresh(ctx); err != nil {
		return nil, err
	}
	byID, err := latest[remora.ScheduleRecord](ctx, r.rep, scheduleType, labelSchedule)
	if err != nil {
		return nil, problem("list the schedules", r.Where(), err)
	}
	return slices.SortedFunc(maps.Values(byID), func(a, b remora.ScheduleRecord) int { return cmp.Compare(a.ID, b.ID) }), nil
}
