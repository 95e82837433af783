package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/standalone"
)

func newUpCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "up",
		Short: "Run everything on this machine: Temporal and a worker",
		Long: `Runs a Temporal server, with its state in one file and its Web UI on this machine alone, and a worker. What dies is started
again. Ctrl-C or SIGTERM lets the worker hand over what it does and then stops both; a second Ctrl-C ends them at once.

The programs are looked for where REMORA_TEMPORAL and REMORA_WORKER say, beside this program, and in PATH. Under systemd set
KillMode=mixed, so that the worker is stopped before Temporal.`,
		Example: "  remora up --config /etc/remora/remora.yaml",
		Args:    exactly(0, "no arguments"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.up(cmd.Context()) },
	}
}

func (a *app) up(ctx context.Context) error {
	cfg, err := config.Load(a.ConfigPath, a.Getenv)
	if err != nil {
		return err
	}
	return standalone.Run(ctx, standalone.Config{
		Address: cfg.Temporal.Address, Namespace: cfg.Temporal.Namespace, State: cfg.State, ConfigFile: cfg.File,
		Getenv: a.Getenv, Beside: besideUs(), Report: a.sayEvent, Hurry: secondSignal(ctx),
	})
}

// besideUs is the folder of this program, where the other ones usually are too.
func besideUs() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	return filepath.Dir(self)
}

// secondSignal is closed when a person asks again, after the first signal has ended ctx.
func secondSignal(ctx context.Context) <-chan struct{} {
	hurry := make(chan struct{})
	go func() { // ends with the process at the latest
		<-ctx.Done()
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, os.Interrupt, syscall.SIGTERM)
		<-asked
		close(hurry)
	}()
	return hurry
}

// sayEvent prints what happened: a block or a line for a person, one object a line for a program.
func (a *app) sayEvent(e standalone.Event) { _ = a.answer(e, a.text("up", e)) } // a broken pipe ends nothing
