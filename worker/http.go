package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.uber.org/fx"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// endpoints are a worker's pages for machines that look after it. They change nothing, and tell no secrets.
type endpoints struct {
	ready   *recent[bool]
	metrics http.Handler
}

const (
	// readyTime is how long somebody waits for an answer that may hang, and readyAge how long it counts.
	readyTime = 5 * time.Second
	readyAge  = 5 * time.Second
	// metricsAge is how long the records that were read count.
	metricsAge = 30 * time.Second
	// retake is how soon a port that another worker has is tried again.
	retake = 5 * time.Second
)

func startEndpoints(lc fx.Lifecycle, cfg *config.Config, locations *repository.Locations, roll *roster, m *metrics, c client.Client, log *slog.Logger) error {
	if cfg.Monitor.Listen == "" {
		return nil
	}
	read := func(ctx context.Context) (records, error) { return readRecords(ctx, locations) }
	if err := m.Register(stock{cfg, &recent[records]{age: metricsAge, ask: read}}); err != nil {
		return err
	}
	e := endpoints{
		ready: &recent[bool]{age: readyAge, ask: func(ctx context.Context) (bool, error) {
			return true, ready(ctx, cfg, locations, roll, c)
		}},
		metrics: promhttp.HandlerFor(prometheus.Gatherers{m, prometheus.DefaultGatherer}, promhttp.HandlerOpts{
			MaxRequestsInFlight: 4, ErrorHandling: promhttp.ContinueOnError,
		}),
	}
	background(lc, func(ctx context.Context) { e.serve(ctx, cfg.Monitor.Listen, log) })
	return nil
}

// ready tells why this worker does not work: Temporal does not answer, it has not asked for work, or the repository is
// away.
func ready(ctx context.Context, cfg *config.Config, locations *repository.Locations, roll *roster, c client.Client) error {
	soon, cancel := context.WithTimeout(ctx, readyTime/2)
	defer cancel()
	for queue, kind := range map[string]enums.TaskQueueType{
		remora.Queue: enums.TASK_QUEUE_TYPE_WORKFLOW, remora.DataQueue: enums.TASK_QUEUE_TYPE_ACTIVITY,
	} {
		asks, err := asksForWork(soon, c, queue, kind, func(identity string) bool { return identity == roll.identity() })
		if err != nil {
			return unreachable(cfg.Temporal.Address)
		}
		if !asks {
			return remora.Fail(remora.Unavailable, "look for the worker", queue, "", "it has not asked Temporal for work in the last %s", silence)
		}
	}
	_, err := locations.At(ctx, "")
	return err
}

// ServeHTTP answers GET and HEAD.
func (e endpoints) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	ctx, cancel := context.WithTimeout(r.Context(), readyTime)
	defer cancel()
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
	case r.URL.Path == "/metrics":
		e.metrics.ServeHTTP(w, r)
	case r.URL.Path == "/healthz": // whoever can answer lives: a loop that fails ends the program
		_, _ = io.WriteString(w, "ok\n")
	case r.URL.Path == "/readyz":
		switch _, err := e.ready.get(ctx); {
		case err == nil:
			_, _ = io.WriteString(w, "ok\n")
		case errors.Is(err, context.DeadlineExceeded):
			http.Error(w, "Temporal or the repository does not answer", http.StatusServiceUnavailable)
		default:
			http.Error(w, remora.ProblemOf("look at the worker", err).Error(), http.StatusServiceUnavailable)
		}
	default:
		http.NotFound(w, r)
	}
}

// serve answers until ctx ends. A worker works without, too: where another one has the port, it waits until that ends.
func (e endpoints) serve(ctx context.Context, address string, log *slog.Logger) {
	server := &http.Server{
		Handler: e, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	for told := false; ; told = true {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err == nil {
			log.Info("tells how it is", "listen", address)
			err = server.Serve(listener)
		}
		if ctx.Err() == nil && !told {
			log.Error("nobody can ask how this worker is", "listen", address, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retake):
		}
	}
}

// background does something beside the work, from the start of the worker to its stop, which does not wait for long: a
// storage may hang.
func background(lc fx.Lifecycle, run func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	lc.Append(fx.StartStopHook(
		func() {
			go func() {
				defer close(done)
				run(ctx)
			}()
		},
		func() {
			cancel()
			select {
			case <-done:
			case <-time.After(time.Second):
			}
		},
	))
}
