package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	temporallog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.uber.org/fx"
	"google.golang.org/grpc"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/schedule"
	"github.com/remora-backup/remora/workflows"
)

const (
	// dialTime is how long a starting worker waits for Temporal: both may be starting with the machine.
	dialTime = 60 * time.Second
	// copies is how many long copies run at once in this worker. More would only share the same disks.
	copies = 4
	// liveness is how often progress reaches a watcher.
	liveness = time.Second
)

// dial connects to Temporal and sees that our namespace is there.
func dial(lc fx.Lifecycle, cfg *config.Config, roll *roster, counted client.MetricsHandler, log *slog.Logger) (client.Client, error) {
	options := client.Options{
		HostPort: cfg.Temporal.Address, Namespace: cfg.Temporal.Namespace,
		ConnectionOptions: plainNames(), Identity: roll.identity(),
		Logger: temporallog.NewStructuredLogger(log), MetricsHandler: counted,
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	c, err := dialPatiently(ctx, options, log)
	if err != nil {
		return nil, err
	}
	ready, done := context.WithTimeout(context.Background(), dialTime)
	defer done()
	if err := ensureNamespace(ready, c, cfg.Temporal.Namespace, log); err != nil {
		c.Close()
		return nil, err
	}
	lc.Append(fx.StopHook(c.Close))
	return c, nil
}

// plainNames looks up the address of Temporal and nothing else. gRPC would also ask the DNS for settings of the service,
// and wait for that answer where a private network has none.
func plainNames() client.ConnectionOptions {
	return client.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithDisableServiceConfig()}}
}

// dialPatiently tries until ctx ends, and says once that it waits.
func dialPatiently(ctx context.Context, options client.Options, log *slog.Logger) (client.Client, error) {
	var c client.Client
	waiting := false
	again(ctx, time.Second, func() bool {
		var err error
		if c, err = client.DialContext(ctx, options); err != nil && !waiting {
			log.Warn("waiting for Temporal", "address", options.HostPort, "for_at_most", dialTime)
			waiting = true
		}
		return err == nil
	})
	if c == nil {
		return nil, unreachable(options.HostPort)
	}
	return c, nil
}

func unreachable(address string) error {
	return remora.Fail(remora.Unreachable, "connect to Temporal", address,
		"Start it (remora up does), or correct temporal.address in the configuration.", "it does not answer")
}

// startWorkers takes work from both queues as long as the program lives.
// Its parts are made in the order of its arguments: what is wrong on this machine is said before Temporal is waited for.
func startWorkers(lc fx.Lifecycle, down fx.Shutdowner, cfg *config.Config, locations *repository.Locations, s *sources, roll *roster, c client.Client, log *slog.Logger) {
	options := func(copies int) worker.Options {
		return worker.Options{
			MaxConcurrentActivityExecutionSize: copies, // 0: no limit worth naming
			WorkerStopTimeout:                  drain,
			MaxHeartbeatThrottleInterval:       liveness,
			DefaultHeartbeatThrottleInterval:   liveness,
			DisableRegistrationAliasing:        true,
			// How long a task waits for the worker that knows its workflow, which may have been killed.
			StickyScheduleToStartTimeout: 2 * time.Second,
			OnFatalError: func(err error) {
				log.Error("the worker cannot go on", "error", err)
				_ = down.Shutdown(fx.ExitCode(exitFailed)) // it is going down already
			},
		}
	}
	workers := []worker.Worker{worker.New(c, remora.Queue, options(0)), worker.New(c, remora.DataQueue, options(copies))}
	workflows.Register(workers[0])
	ours := &ownership{locations: locations, client: c, name: cfg.Temporal.Namespace, file: filepath.Join(cfg.State, "owner"), log: log}
	g := &gate{look: ours.look, log: log}
	for _, w := range workers {
		for _, part := range steps(cfg, locations, s, c, g, log) {
			part.Register(w)
		}
	}
	lc.Append(fx.StartStopHook(
		func() error {
			roll.watch(c, cfg.Temporal.Namespace)
			for _, w := range workers {
				if err := w.Start(); err != nil {
					return &remora.Problem{Op: "take work from Temporal", Kind: remora.Unreachable, Subject: cfg.Temporal.Address, Err: err}
				}
			}
			log.Info("ready", "temporal", cfg.Temporal.Address, "namespace", cfg.Temporal.Namespace, "sources", cfg.Names(), "repository", cfg.Repository.Where())
			return nil
		},
		func() {
			var stopping sync.WaitGroup
			for _, w := range workers {
				stopping.Go(w.Stop)
			}
			stopping.Wait()
			roll.leave()
			log.Info("stopped")
		},
	))
	background(lc, func(ctx context.Context) {
		keepSchedules(ctx, schedule.New(c, cfg.Temporal.Namespace), cfg, locations, log)
	})
}

// version is set when a release is linked; otherwise the build's own records answer.
var version string

func tool() string {
	if info, ok := debug.ReadBuildInfo(); ok && version == "" {
		return "remora " + info.Main.Version
	}
	return "remora " + version
}
