package main

import (
	"cmp"
	"log/slog"
	"os"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/activities"
	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/notify"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/schedule"
)

// steps are all that this worker can do.
func steps(cfg *config.Config, locations *repository.Locations, s *sources, c client.Client, g *gate, log *slog.Logger) []interface{ Register(activities.Registry) } {
	always := activities.Watch{Stall: cfg.Stall, Log: log} // also while the repository is another installation's
	watch := always
	watch.Gate = g.pass
	store := activities.RepositoryStore(locations)
	sender := newSender(cfg)
	schedules, copies := cfg.Schedules()
	var afterBackup []string
	for _, name := range cfg.CopyNames() {
		if cfg.Copies[name].AfterBackup {
			afterBackup = append(afterBackup, name)
		}
	}
	component := func(kind remora.Kind) *activities.Component {
		return &activities.Component{Kind: kind, Of: s.of(kind), Store: store, Watch: watch, MaxBytes: cfg.MaxBackup}
	}
	return []interface{ Register(activities.Registry) }{
		component(remora.Database), component(remora.Files),
		&activities.Repository{
			Store: store, Watch: watch, Tool: tool(), MaxBytes: cfg.MaxBackup, VerifyDays: cfg.VerifyDays, Further: sender.Check,
		},
		&activities.Notify{Sender: sender, Locations: locations, Watch: always},
		&activities.Copies{Locations: locations, AfterBackup: afterBackup, Keep: cfg.KeepOf, Watch: watch},
		&activities.Monitor{
			Temporal: c, Namespace: cfg.Temporal.Namespace, Book: schedule.New(c, cfg.Temporal.Namespace), Locations: locations,
			Sources: cfg.Expected(), Schedules: schedules, Copies: copies, Of: s.of, Watch: watch, Since: time.Now(),
		},
		&activities.Lane{Client: c, Watch: always},
		&activities.Retention{Locations: locations, Keep: cfg.KeepOf, Watch: watch},
		&activities.Maintenance{Mode: s.mode, After: s.afterOf, Temporal: c, Watch: watch},
		&activities.Checks{Of: s.checksOf, Database: s.of(remora.Database), Mode: s.mode, Watch: watch},
	}
}

// newSender tells people what the configuration wants them to be told.
func newSender(cfg *config.Config) *notify.Sender {
	host, _ := os.Hostname() // it only tells machines apart
	return notify.New(notify.Config{
		Host: cmp.Or(host, "an unnamed machine"), Email: cfg.Notify.Email, Webhook: cfg.Notify.Webhook,
		OnSuccess: cfg.Notify.OnSuccess, OnFailure: cfg.Notify.OnFailure,
	})
}
