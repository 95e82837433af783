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
	return a.command("up", nil, func(cmd *cobra.Command, _ []string) error { return a.up(cmd.Context()) })
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
