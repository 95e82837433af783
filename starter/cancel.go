package main

import (
	"context"

	"github.com/spf13/cobra"

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
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			s, err := a.open(ctx, needControl)
			if err != nil {
				return err
			}
			defer s.close(ctx)
			src, err := s.sourceArgument(args)
			if err != nil {
				return err
			}
			return s.cancel(ctx, src.Name)
		},
	}
}

// cancelJSON is the answer to a cancel.
type cancelJSON struct {
	Source    string           `json:"source"`
	Cancelled bool             `json:"cancelled"`
	Message   string           `json:"message"`
	Running   *control.Running `json:"running,omitempty"`
}

func (s *session) cancel(ctx context.Context, source string) error {
	c, err := s.control.Cancel(ctx, source)
	if err != nil {
		return err
	}
	answer := cancelJSON{Source: source, Cancelled: c.Running != nil, Message: c.Message, Running: c.Running}
	if s.app.json() {
		return s.app.printJSON(answer)
	}
	s.app.say("%s", answer.Message)
	return nil
}
