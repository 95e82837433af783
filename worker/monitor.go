package main

import (
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/activities"
	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/schedule"
)

// monitoring are the steps of the monitor.
func monitoring(cfg *config.Config, locations *repository.Locations, s *sources, c client.Client, watch activities.Watch) *activities.Monitor {
	schedules, copies := cfg.Schedules()
	return &activities.Monitor{
		Temporal: c, Namespace: cfg.Temporal.Namespace, Book: schedule.New(c, cfg.Temporal.Namespace), Locations: locations,
		Sources: cfg.Expected(), Schedules: schedules, Copies: copies, Of: s.of, Watch: watch,
	}
}
