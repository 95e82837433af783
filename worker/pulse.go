package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	url        string
	every      time.Duration
	stale      time.Duration // how long ago the monitor may have written
	objectives map[string]time.Duration
	read       func(context.Context) (records, error)
	log        *slog.Logger

	said string // why there is no ping, as last logged
}

const (
	// pulseEvery is how often the URL is asked.
	pulseEvery = 5 * time.Minute
	// staleMonitor allows the monitor, which writes once an hour at least, one hour to be late.
	staleMonitor = 2 * time.Hour
	// pingTime bounds a ping.
	pingTime = 10 * time.Second
)

func startPulse(lc fx.Lifecycle, cfg *config.Config, locations *repository.Locations, log *slog.Logger) {
	if cfg.Monitor.Ping == "" {
		return
	}
	p := &pulse{
		url: cfg.Monitor.Ping, every: pulseEvery, stale: staleMonitor, objectives: map[string]time.Duration{}, log: log,
		read: func(ctx context.Context) (records, error) { return readRecords(ctx, locations) },
	}
	for name, source := range cfg.Sources {
		p.objectives[name] = objectiveOf(source)
	}
	background(lc, p.run)
}

func objectiveOf(s *config.Source) time.Duration {
	return remora.Objective(s.RecoveryPoint, s.Schedules)
}

func (p *pulse) run(ctx context.Context) {
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for {
		p.beat(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// beat asks the URL, or logs why not: once, until that changes.
func (p *pulse) beat(ctx context.Context) {
	why := p.unwell(ctx)
	if why == "" {
		why = p.ping(ctx)
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

func (p *pulse) unwell(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	known, err := p.read(ctx)
	if err != nil {
		return remora.ProblemOf("read the repository", err).Error()
	}
	return unwell(known, p.objectives, p.stale, time.Now())
}

// unwell says why somebody should come and look; empty when all is well. A source without an objective does not count.
func unwell(known records, objectives map[string]time.Duration, stale time.Duration, now time.Time) string {
	for _, a := range known.monitor.Alerts {
		if a.Level == remora.Failing {
			return "the monitor has an open alert: " + a.Key
		}
	}
	var overdue []string
	for source, objective := range objectives {
		switch b := newestGood(known.backups, source); {
		case objective <= 0:
		case b == nil:
			overdue = append(overdue, source+" has no good backup")
		case now.Sub(b.Started) > objective:
			overdue = append(overdue, fmt.Sprintf("the newest good backup of %s is of %s, and may be %s old", source, b.Started.UTC().Format(time.RFC3339), objective))
		}
	}
	switch {
	case len(overdue) > 0:
		return slices.Min(overdue) // always the same one
	case known.monitor.At.IsZero():
		return "the monitor has not looked yet"
	case now.Sub(known.monitor.At) > stale:
		return "the monitor has not looked since " + known.monitor.At.UTC().Format(time.RFC3339)
	default:
		return ""
	}
}

// ping asks the URL, and says what went wrong. It never repeats the URL, which is as good as a password.
func (p *pulse) ping(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return "the URL of the ping is none"
	}
	req.Header.Set("User-Agent", "remora")
	asking := http.Client{CheckRedirect: sameHost}
	answer, err := asking.Do(req)
	if asked, ok := errors.AsType[*url.Error](err); ok {
		err = asked.Err
	}
	if err != nil {
		return "the owner of the ping does not answer: " + remora.OneLine(err.Error())
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.CopyN(io.Discard, answer.Body, 4<<10) // so that the connection can serve again
	if answer.StatusCode/100 != 2 {
		return "the owner of the ping answers " + answer.Status
	}
	return ""
}

// sameHost refuses to tell another server, or to tell this one without encryption.
func sameHost(to *http.Request, before []*http.Request) error {
	if from := before[0].URL; to.URL.Host != from.Host || to.URL.Scheme != from.Scheme || len(before) > 3 {
		return errors.New("it redirects to another server")
	}
	return nil
}
