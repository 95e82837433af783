package main

import (
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/activities"
	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/monitor"
	"github.com/remora-backup/remora/internal/repository"
)

// monitoring are the steps of the monitor.
func monitoring(cfg *config.Config, locations *repository.Locations, s *sources, c client.Client, watch activities.Watch) *activities.Monitor {
	m := &activities.Monitor{Temporal: c, Namespace: cfg.Temporal.Namespace, Locations: locations, Of: s.of, Watch: watch}
	for _, name := range cfg.Names() {
		source := cfg.Sources[name]
		m.Sources = append(m.Sources, monitor.Source{Name: name, Kinds: source.Kinds(), RecoveryPoint: source.RecoveryPoint, Schedules: source.Schedules})
	}
	return m
}
