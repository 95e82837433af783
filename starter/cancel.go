package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/config"
)

func newCancelCommand(a *app) *cobra.Command {
	return a.command("cancel", nil, a.onSource(func(ctx context.Context, s *session, src *config.Source) error {
		c, err := s.control.Cancel(ctx, src.Name)
		if err != nil {
			return err
		}
		return a.answer(c, func() { a.say("%s", c.Message) })
	}))
}
