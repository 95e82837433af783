package main

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// newMetrics leads what the SDK counts to a registry of ours. kopia's and the Go runtime's counts are in Prometheus' own.
func newMetrics() (*prometheus.Registry, client.MetricsHandler, error) {
	ours := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(ours), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	if err != nil {
		return nil, nil, err
	}
	provider := metric.NewMeterProvider(metric.WithReader(exporter), metric.WithView(metric.NewView(
		metric.Instrument{Kind: metric.InstrumentKindHistogram}, // in seconds; some steps take hours
		metric.Stream{Aggregation: metric.AggregationExplicitBucketHistogram{Boundaries: []float64{.01, .1, 1, 10, 60, 600, 3600}}},
	)))
	return ours, opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{
		Meter: provider.Meter("temporal"), UseMonotonicCounters: true, OnError: func(error) {}, // it is not counted, then
	}), nil
}

// records are what the repository knows of how things stand, whether Temporal is there or not.
type records struct {
	backups  []remora.Backup // and failed runs, newest first
	restores []remora.Restore
	proofs   []remora.Proof
	monitor  remora.MonitorState
}

func readRecords(ctx context.Context, locations *repository.Locations) (none records, err error) {
	repo, err := locations.At(ctx, "")
	if err != nil {
		return none, err
	}
	backups, err1 := repo.List(ctx, repository.Filter{})
	restores, err2 := repo.Restores(ctx, "")
	proofs, err3 := repo.Proofs(ctx, "")
	state, err4 := repo.MonitorState(ctx)
	if err := cmp.Or(err1, err2, err3, err4); err != nil {
		return none, err
	}
	return records{backups, restores, proofs, state}, nil
}

// newestGood is the newest backup of a source that somebody or a schedule asked for, and that was read back; nil when
// there is none.
func (r records) newestGood(source string) *remora.Backup {
	for i, b := range r.backups {
		if b.Source == source && b.Status == remora.Completed && b.Purpose == remora.Regular {
			return &r.backups[i]
		}
	}
	return nil
}

// stock tells Prometheus what the records say. Labels have the names of configured sources and words of our own.
type stock struct {
	cfg       *config.Config
	locations *repository.Locations

	mu    sync.Mutex
	at    time.Time
	known records
	err   error
}

// Describe says nothing beforehand: which metrics there are depends on what there is.
func (*stock) Describe(chan<- *prometheus.Desc) {}

// Collect reads the records, unless that was just done: whoever asks often costs nothing.
func (s *stock) Collect(to chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.at) > 30*time.Second {
		s.known, s.err = readRecords(context.Background(), s.locations)
		s.at = time.Now()
	}
	tell := func(name, help string, value float64, labels prometheus.Labels) {
		to <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, labels), prometheus.GaugeValue, value)
	}
	tell("remora_build_info", "The version of the worker.", 1, prometheus.Labels{"version": tool()})
	tell("remora_repository_up", "Whether the repository's records could be read.", map[bool]float64{true: 1}[s.err == nil], nil)
	for _, name := range s.cfg.Names() {
		of := prometheus.Labels{"source": name}
		if objective := objectiveOf(s.cfg.Sources[name]); objective > 0 {
			tell("remora_backup_objective_seconds", "How old the newest good backup may be.", objective.Seconds(), of)
		}
		if b := s.known.newestGood(name); b != nil {
			tell("remora_backup_age_seconds", "How long ago the newest good backup began.", time.Since(b.Started).Seconds(), of)
			tell("remora_backup_bytes", "The size of the newest good backup.", float64(b.Bytes()), of)
			tell("remora_backup_added_bytes", "What the newest good backup added to the repository.", float64(b.Added()), of)
			tell("remora_backup_duration_seconds", "How long the newest good backup took.", b.Ended.Sub(b.Started).Seconds(), of)
		}
		if p := remora.LastProof(remora.DrillsOf(name, s.known.proofs)); p != nil {
			tell("remora_proof_age_seconds", "How long ago the last drill began that was a proof.", time.Since(p.Started).Seconds(), of)
			tell("remora_proof_duration_seconds", "How long it took that drill to bring the data back.", p.Took.Seconds(), of)
		}
	}
	if s.err != nil {
		return
	}
	count := map[[3]string]float64{} // by the metric's name, source and outcome
	for _, b := range s.known.backups {
		if s.cfg.Sources[b.Source] != nil && b.Purpose == remora.Regular {
			count[[3]string{"remora_history_runs", b.Source, string(b.Status)}]++
		}
	}
	for _, r := range s.known.restores {
		if s.cfg.Sources[r.Source] != nil {
			count[[3]string{"remora_restores", r.Source, string(r.Outcome)}]++
		}
	}
	for w, n := range count {
		tell(w[0], "How many the history holds.", n, prometheus.Labels{"source": w[1], "outcome": w[2]})
	}
	tell("remora_monitor_age_seconds", "How long ago the monitor last wrote; it does once an hour at least.", time.Since(s.known.monitor.At).Seconds(), nil)
	alerts := map[remora.Level]float64{remora.Warning: 0, remora.Failing: 0}
	for _, a := range s.known.monitor.Open() {
		alerts[a.Level]++
	}
	for level, n := range alerts {
		tell("remora_alerts", "Problems that the monitor found and that are not over.", n, prometheus.Labels{"level": string(level)})
	}
	if sizes := s.known.monitor.Sizes; len(sizes) > 0 {
		tell("remora_repository_stored_bytes", "The size of the repository, measured once a day.", float64(sizes[len(sizes)-1].Stored), nil)
		tell("remora_repository_free_bytes", "The room for the repository, measured once a day; -1 where nobody can tell.", float64(sizes[len(sizes)-1].Free), nil)
	}
}
