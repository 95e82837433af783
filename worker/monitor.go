package main

import (
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/activities"
	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/repository"
)

// monitoring are the steps of the monitor.
func monitoring(cfg *config.Config, locations *repository.Locations, s *sources, c client.Client, watch activities.Watch) *activities.Monitor {
	return &activities.Monitor{
		Temporal: c, Namespace: cfg.Temporal.Namespace, Locations: locations, Sources: cfg.Expected(), Of: s.of, Watch: watch,
	}
}
