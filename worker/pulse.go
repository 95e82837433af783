package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.uber.org/fx"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// pulse asks a URL while all is well. Its owner raises the alarm when that ends, whatever the reason: no worker, no
// machine, no network, or this worker's own look at the repository, for which Temporal is not needed.
type pulse struct {
	cfg       *config.Config
	locations *repository.Locations
	every     time.Duration
	stale     time.Duration // how long ago the monitor may have written: it does once an hour
	log       *slog.Logger

	said string // why there is no ping, as last logged
}

func startPulse(lc fx.Lifecycle, cfg *config.Config, locations *repository.Locations, log *slog.Logger) {
	if cfg.Monitor.Ping == "" {
		return
	}
	p := &pulse{cfg: cfg, locations: locations, every: 5 * time.Minute, stale: 2 * time.Hour, log: log}
	background(lc, p.run)
}

func (p *pulse) run(ctx context.Context) {
	again(ctx, p.every, forEver(func() { p.beat(ctx) }))
}

// beat asks the URL, or logs why not: once, until that changes.
func (p *pulse) beat(ctx context.Context) {
	var why string
	known, err := readRecords(ctx, p.locations)
	if err == nil {
		err = unwell(known, p.cfg.Sources, p.stale, time.Now())
	}
	if err == nil {
		err = ping(ctx, p.cfg.Monitor.Ping)
	}
	if err != nil {
		why = remora.OneLine(err.Error())
	}
	switch {
	case ctx.Err() != nil || why == p.said:
	case why == "":
		p.log.Info("the ping goes out again")
	default:
		p.log.Warn("the ping does not go out", "why", why)
	}
	p.said = why
}

func objectiveOf(s *config.Source) time.Duration {
	return remora.Objective(s.RecoveryPoint, slices.DeleteFunc(slices.Clone(s.Schedules), func(one remora.Schedule) bool { return one.Drill }))
}

// unwell says why somebody should come and look. A source without an objective does not count.
func unwell(known records, sources map[string]*config.Source, stale time.Duration, now time.Time) error {
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		objective, b := objectiveOf(sources[name]), known.newestGood(name)
		if objective > 0 && (b == nil || now.Sub(b.Started) > objective) {
			return fmt.Errorf("%s has no good backup of the last %s", name, objective)
		}
	}
	for _, a := range known.monitor.Open() {
		if a.Level == remora.Failing {
			return fmt.Errorf("the monitor has an open alert: %s", a.Key)
		}
	}
	if now.Sub(known.monitor.At) > stale {
		return fmt.Errorf("the monitor has not looked within the last %s", stale)
	}
	return nil
}

// ping asks a URL and follows it nowhere. No error repeats it, since it is as good as a password.
func ping(ctx context.Context, to string) error {
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, to, http.NoBody) // it was read as a URL
	asking := http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := asking.Do(req)
	if asked, ok := errors.AsType[*url.Error](err); ok {
		err = asked.Err
	}
	if err != nil {
		return fmt.Errorf("the owner of the ping does not answer: %w", err)
	}
	if answer.StatusCode/100 != 2 {
		err = fmt.Errorf("the owner of the ping answers %s", answer.Status)
	}
	return errors.Join(err, answer.Body.Close())
}
