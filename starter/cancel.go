package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/control"
)

func newCancelCommand(a *app) *cobra.Command {
	return a.command("cancel", nil, a.onSource(func(ctx context.Context, s *session, src *config.Source) error {
		c, err := s.control.Cancel(ctx, src.Name)
		if err != nil {
			return err
		}
		answer := cancelJSON{Source: src.Name, Cancelled: c.Running != nil, Message: c.Message, Running: c.Running}
		return a.answer(answer, func() { a.say("%s", c.Message) })
	}))
}

// cancelJSON is the answer to a cancel.
type cancelJSON struct {
	Source    string           `json:"source"`
	Cancelled bool             `json:"cancelled"`
	Message   string           `json:"message"`
	Running   *control.Running `json:"running,omitempty"`
}
