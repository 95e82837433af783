package main

import (
	"github.com/remora-backup/remora/activities"
	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/repository"
)

// copying are the steps of the configured copies.
func copying(cfg *config.Config, locations *repository.Locations, watch activities.Watch) *activities.Copies {
	c := &activities.Copies{Locations: locations, Keep: cfg.KeepOf, Watch: watch}
	for _, name := range cfg.CopyNames() {
		if cfg.Copies[name].AfterBackup {
			c.AfterBackup = append(c.AfterBackup, name)
		}
	}
	return c
}
