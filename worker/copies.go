package main

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/remora-backup/remora/activities"
	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/retention"
)

// copying are the steps of the configured copies.
func copying(cfg *config.Config, locations *repository.Locations, watch activities.Watch) *activities.Copies {
	c := &activities.Copies{Locations: locations, Keep: map[string]retention.Policy{}, Watch: watch}
	for _, name := range cfg.CopyNames() {
		to := cfg.Copies[name]
		c.Keep[name] = retention.Policy(to.Keep)
		if to.AfterBackup {
			c.AfterBackup = append(c.AfterBackup, name)
		}
	}
	return c
}

// catchUp is how late a daily copy may still begin, after an outage of Temporal: by then the next one is near.
const catchUp = 12 * time.Hour

// ensureSchedules makes the schedules of the copies, or changes their times to what is configured; a pause stays. A
// schedule that is no longer configured is only told of: whoever started this worker may have another configuration.
func ensureSchedules(ctx context.Context, c client.Client, cfg *config.Config, log *slog.Logger) {
	for _, name := range cfg.CopyNames() {
		to := cfg.Copies[name]
		made, err := ensureSchedule(ctx, c.ScheduleClient(), name, to)
		switch {
		case err != nil: // copies can be had without: it stops nobody
			log.Error("the schedule of a copy was not made", "copy", name, "error", err)
		case made && to.Daily != "":
			log.Info("scheduled the daily copy", "copy", name, "at", to.Daily, "zone", to.Zone)
		case made:
			log.Warn("a schedule is there that is not configured; it goes on", "schedule", remora.CopyLane(name, ""))
		}
	}
}

// ensureSchedule tells whether anything was not as configured.
func ensureSchedule(ctx context.Context, schedules client.ScheduleClient, name string, to *config.Copy) (bool, error) {
	id := remora.CopyLane(name, "")
	handle := schedules.GetHandle(ctx, id)
	found, err := handle.Describe(ctx)
	switch {
	case errors.As(err, new(*serviceerror.NotFound)) && to.Daily == "":
		return false, nil
	case errors.As(err, new(*serviceerror.NotFound)):
		_, err = schedules.Create(ctx, client.ScheduleOptions{
			ID: id, Spec: daily(to), Overlap: enums.SCHEDULE_OVERLAP_POLICY_SKIP, CatchupWindow: catchUp,
			Action: copyAll(name),
		})
		if errors.Is(err, temporal.ErrScheduleAlreadyRunning) { // another worker was quicker
			err = nil
		}
		return true, err
	case err != nil:
		return false, err
	case to.Daily == "":
		return true, nil
	case sameTimes(found, to):
		return false, nil
	}
	return true, handle.Update(ctx, client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
		s := in.Description.Schedule
		spec := daily(to)
		s.Spec, s.Action = &spec, copyAll(name)
		return &client.ScheduleUpdate{Schedule: &s}, nil
	}})
}

// sameTimes tells whether a schedule says when a copy is made, as it is configured.
func sameTimes(found *client.ScheduleDescription, to *config.Copy) bool {
	spec, want := found.Schedule.Spec, daily(to)
	if spec == nil || len(spec.Calendars) != 1 || spec.TimeZoneName != want.TimeZoneName {
		return false
	}
	at, due := spec.Calendars[0], want.Calendars[0]
	return len(at.Hour) == 1 && len(at.Minute) == 1 && at.Hour[0].Start == due.Hour[0].Start && at.Minute[0].Start == due.Minute[0].Start
}

func daily(to *config.Copy) client.ScheduleSpec {
	hour, _ := strconv.Atoi(to.Daily[:2])
	minute, _ := strconv.Atoi(to.Daily[3:])
	return client.ScheduleSpec{
		Calendars:    []client.ScheduleCalendarSpec{{Hour: []client.ScheduleRange{{Start: hour}}, Minute: []client.ScheduleRange{{Start: minute}}}},
		TimeZoneName: to.Zone,
	}
}

func copyAll(name string) *client.ScheduleWorkflowAction {
	return &client.ScheduleWorkflowAction{
		ID: remora.CopyLane(name, ""), Workflow: remora.CopyAllWorkflow, TaskQueue: remora.Queue,
		Args:          []any{remora.CopyAllRequest{To: name, RequestedBy: "schedule"}},
		StaticSummary: "copy all backups to " + name,
	}
}
