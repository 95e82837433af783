package main

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
)

// metrics are those of the SDK, and ours. kopia's and the Go runtime's are in Prometheus' own registry.
type metrics struct {
	*prometheus.Registry
	sdk client.MetricsHandler
}

// newMetrics leads what the SDK counts to Prometheus, where anybody can ask for it.
func newMetrics(cfg *config.Config) (*metrics, error) {
	m := &metrics{prometheus.NewRegistry(), client.MetricsNopHandler}
	if cfg.Monitor.Listen == "" {
		return m, nil
	}
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(m), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	if err != nil {
		return nil, err
	}
	provider := metric.NewMeterProvider(metric.WithReader(exporter), metric.WithView(metric.NewView(
		metric.Instrument{Kind: metric.InstrumentKindHistogram}, // in seconds; some steps take hours
		metric.Stream{Aggregation: metric.AggregationExplicitBucketHistogram{Boundaries: []float64{.01, .1, 1, 10, 60, 600, 3600}}},
	)))
	m.sdk = opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{
		Meter: provider.Meter("temporal"), UseMonotonicCounters: true, OnError: func(error) {}, // it is not counted, then
	})
	return m, nil
}

// stock is what the repository's records say, for Prometheus.
type stock struct {
	cfg     *config.Config
	records *recent[records]
}

var _ prometheus.Collector = stock{}

// Describe says nothing beforehand: which metrics there are depends on what there is.
func (stock) Describe(chan<- *prometheus.Desc) {}

// scrapeTime is how long a scrape waits for the repository: less than Prometheus usually waits for it.
const scrapeTime = 8 * time.Second

// Collect tells what the records say now. Labels have the names of configured sources and words of our own.
func (s stock) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	g := gauges{to}
	g.tell("remora_build_info", "The version of the worker.", 1, prometheus.Labels{"version": strings.TrimPrefix(tool(), "remora ")})
	known, err := s.records.get(ctx)
	if err != nil {
		g.tell("remora_repository_up", "Whether the repository's records could be read.", 0, nil)
	} else {
		g.tell("remora_repository_up", "Whether the repository's records could be read.", 1, nil)
		g.monitor(known.monitor)
	}
	for _, name := range s.cfg.Names() {
		if objective := objectiveOf(s.cfg.Sources[name]); objective > 0 {
			g.tell("remora_backup_objective_seconds", "How old the newest good backup may be.", objective.Seconds(), prometheus.Labels{"source": name})
		}
		if err == nil {
			g.source(name, known)
		}
	}
}

// gauges takes metrics.
type gauges struct{ to chan<- prometheus.Metric }

// tell gives one value.
func (g gauges) tell(name, help string, value float64, labels prometheus.Labels) {
	g.to <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, labels), prometheus.GaugeValue, value)
}

func (g gauges) monitor(m remora.MonitorState) {
	if !m.At.IsZero() {
		g.tell("remora_monitor_age_seconds", "How long ago the monitor last wrote; it does once an hour at least.", time.Since(m.At).Seconds(), nil)
	}
	alerts := map[remora.Level]int{remora.Warning: 0, remora.Failing: 0}
	for _, a := range m.Alerts {
		alerts[a.Level]++
	}
	for level, n := range alerts {
		g.tell("remora_alerts", "Problems that the monitor found and that are not over.", float64(n), prometheus.Labels{"level": string(level)})
	}
	if len(m.Sizes) == 0 {
		return
	}
	last := m.Sizes[len(m.Sizes)-1]
	g.tell("remora_repository_stored_bytes", "The size of the repository, measured once a day.", float64(last.Stored), nil)
	if last.Free >= 0 {
		g.tell("remora_repository_free_bytes", "The room that is left for the repository, measured once a day.", float64(last.Free), nil)
	}
}

func (g gauges) source(name string, known records) {
	if b := newestGood(known.backups, name); b != nil {
		of := prometheus.Labels{"source": name}
		g.tell("remora_backup_age_seconds", "How long ago the newest good backup began.", time.Since(b.Started).Seconds(), of)
		g.tell("remora_backup_bytes", "The size of the newest good backup.", float64(b.Bytes()), of)
		g.tell("remora_backup_added_bytes", "What the newest good backup added to the repository.", float64(b.Added()), of)
		g.tell("remora_backup_duration_seconds", "How long the newest good backup took.", b.Ended.Sub(b.Started).Seconds(), of)
	}
	runs := map[remora.Status]int{remora.Pending: 0, remora.Completed: 0, remora.Failed: 0, remora.Corrupted: 0, remora.Skipped: 0, remora.Missed: 0}
	for _, b := range known.backups {
		if b.Source == name && b.Purpose == remora.Regular {
			runs[b.Status]++
		}
	}
	for outcome, n := range runs {
		g.tell("remora_history_runs", "Backups and runs that did not become one, as many as the history holds.", float64(n), prometheus.Labels{"source": name, "outcome": string(outcome)})
	}
	restores := map[remora.Outcome]int{}
	for _, r := range known.restores {
		if r.Source == name {
			restores[r.Outcome]++
		}
	}
	for outcome, n := range restores {
		g.tell("remora_restores", "Restores, as many as the history holds.", float64(n), prometheus.Labels{"source": name, "outcome": string(outcome)})
	}
}
