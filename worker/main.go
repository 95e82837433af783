// Command remora-worker runs the workflows and the activities of Remora: it is the process that talks to databases,
// directories and the repository. It takes its work from Temporal; any number of workers may run. SIGTERM lets it
// hand over what it is doing and end within half a minute.
//
// This package is the only place that wires the parts together.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"go.uber.org/dig"
	"go.uber.org/fx"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stderr, os.Getenv))
}

const (
	// drain is how long running steps may take to hand over when the worker is asked to stop.
	drain = 20 * time.Second
	// startTime bounds what follows the wait for Temporal.
	startTime = 2 * time.Minute
)

// run is the whole life of a worker; it gives the exit code.
func run(args []string, stderr io.Writer, getenv func(string) string) int {
	flags := flag.NewFlagSet("remora-worker", flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("config", "", "`FILE` with the configuration (default: $REMORA_CONFIG, ./remora.yaml, /etc/remora/remora.yaml)")
	ask := flags.Bool("healthy", false, "tell whether a worker on this machine takes work, and end: the exit code is 0 when one does")
	if err := flags.Parse(args); err != nil {
		return exitUsage
	}
	if flags.NArg() > 0 {
		return say(stderr, remora.Fail(remora.Invalid, "start", "", "Usage: remora-worker [--config FILE] [--healthy]", "unknown argument %q", flags.Arg(0)))
	}
	cfg, err := config.Load(*file, getenv)
	if err != nil {
		return say(stderr, err)
	}
	if *ask {
		if err := healthy(cfg); err != nil {
			return say(stderr, err)
		}
		return 0
	}
	if err := runnable(cfg); err != nil {
		return say(stderr, err)
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	app := fx.New(
		fx.NopLogger,
		fx.StartTimeout(startTime), fx.StopTimeout(drain+8*time.Second),
		fx.Supply(cfg, log),
		fx.Provide(openRepository, newSources, newRoster, newMetrics, dial),
		fx.Invoke(startPulse, startWorkers, startEndpoints),
	)
	return live(app, log, stderr)
}

// live starts the worker, waits until it is asked to stop, and stops it.
func live(app *fx.App, log *slog.Logger, stderr io.Writer) int {
	if err := app.Err(); err != nil {
		return say(stderr, dig.RootCause(err))
	}
	ctx, cancel := context.WithTimeout(context.Background(), app.StartTimeout())
	defer cancel()
	if err := app.Start(ctx); err != nil {
		return say(stderr, err)
	}
	asked := <-app.Wait()
	if asked.Signal != nil {
		log.Info("stopping", "signal", asked.Signal.String())
	}
	ctx, cancel = context.WithTimeout(context.Background(), app.StopTimeout())
	defer cancel()
	if err := app.Stop(ctx); err != nil {
		log.Error("did not stop cleanly", "error", err)
		return exitFailed
	}
	return asked.ExitCode
}

// The exit codes are those of the command.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 7
)

// say prints the one line that a worker which cannot run leaves, and gives the exit code.
func say(stderr io.Writer, err error) int {
	p := remora.ProblemOf("start", err)
	line := p.Error()
	if hint := p.Text().Hint; hint != "" {
		line += ". " + hint
	}
	fmt.Fprintln(stderr, "remora-worker: "+remora.OneLine(line))
	switch p.Kind {
	case remora.Invalid:
		return exitUsage
	case remora.Unreachable:
		return exitUnreachable
	default:
		return exitFailed
	}
}
