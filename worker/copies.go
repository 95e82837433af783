package main

import (
	"github.com/remora-backup/remora/activities"
	"github.com/remora-backup/remora/internal/config"
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
