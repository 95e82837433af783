package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.temporal.io/sdk/client"
	"go.uber.org/fx"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// startEndpoints answers machines that look after this worker. It works without, too, as where another one has the port.
func startEndpoints(lc fx.Lifecycle, cfg *config.Config, locations *repository.Locations, roll *roster, ours *prometheus.Registry, c client.Client, log *slog.Logger) {
	if cfg.Monitor.Listen == "" {
		return
	}
	ours.MustRegister(&stock{cfg: cfg, locations: locations}) // which describes nothing, and so contradicts nothing
	server := &http.Server{
		Handler:  endpoints(prometheus.Gatherers{ours, prometheus.DefaultGatherer}, func(ctx context.Context) error { return ready(ctx, cfg, locations, roll, c) }),
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
	}
	lc.Append(fx.StartStopHook(func(ctx context.Context) {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Monitor.Listen)
		if err != nil {
			log.Error("nobody can ask how this worker is", "listen", cfg.Monitor.Listen, "error", err)
			return
		}
		go func() { _ = server.Serve(listener) }() // until it is closed
	}, server.Close))
}

// atOnce bounds how many ask at once: a storage that hangs keeps whoever asked about it.
const atOnce = 8

// endpoints are pages for machines. They change nothing, and tell no secrets.
func endpoints(from prometheus.Gatherer, ready func(context.Context) error) http.Handler {
	asking, mux := make(chan struct{}, atOnce), http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(from, promhttp.HandlerOpts{MaxRequestsInFlight: atOnce, ErrorHandling: promhttp.ContinueOnError}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { // a loop that fails ends the program
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		select {
		case asking <- struct{}{}:
			defer func() { <-asking }()
		default:
			http.Error(w, "those who asked before have no answer yet", http.StatusServiceUnavailable)
			return
		}
		if err := ready(r.Context()); err != nil {
			http.Error(w, remora.ProblemOf("look at the worker", err).Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

// ready tells why this worker does not work: Temporal does not answer, it has not asked for work, or the repository is
// away.
func ready(ctx context.Context, cfg *config.Config, locations *repository.Locations, roll *roster, c client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	asks, err := asksForWork(ctx, c, func(who string) bool { return who == roll.identity() })
	switch {
	case err != nil:
		return unreachable(cfg.Temporal.Address)
	case !asks:
		return remora.Fail(remora.Unavailable, "look for the worker", "", "", "it has not asked Temporal for work in the last %s", silence)
	}
	_, err = locations.At(ctx, "")
	return err
}
