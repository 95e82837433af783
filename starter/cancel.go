package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/control"
)

func newCancelCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "cancel [SOURCE]",
		Short: "Stop what runs on a source",
		Long: `Asks what runs on a source to stop. A backup leaves nothing behind; a restore that has not switched yet leaves the source
as it was. It returns at once; follow the end with remora watch. A restore that is done is undone with remora rollback.`,
		Example: "  remora cancel shop",
		Args:    atMostOne("one SOURCE"),
		RunE: a.onSource(func(ctx context.Context, s *session, src *config.Source) error {
			c, err := s.control.Cancel(ctx, src.Name)
			if err != nil {
				return err
			}
			answer := cancelJSON{Source: src.Name, Cancelled: c.Running != nil, Message: c.Message, Running: c.Running}
			return a.answer(answer, func() { a.say("%s", c.Message) })
		}),
	}
}

// cancelJSON is the answer to a cancel.
type cancelJSON struct {
	Source    string           `json:"source"`
	Cancelled bool             `json:"cancelled"`
	Message   string           `json:"message"`
	Running   *control.Running `json:"running,omitempty"`
}
