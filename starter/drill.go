package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/config"
)

func newDrillCommand(a *app) *cobra.Command {
	var backup string
	var detach bool
	return a.command("drill", flags{"backup": &backup, "detach": &detach},
		a.onSource(func(ctx context.Context, s *session, src *config.Source) error {
			run, err := s.control.Drill(ctx, src.Name, backup)
			if err != nil {
				return err
			}
			return s.finish(ctx, run, detach, "The drill", a.printEnded)
		}))
}
