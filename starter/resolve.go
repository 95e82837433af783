package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/config"
)

func newResolveCommand(a *app) *cobra.Command {
	return a.command("resolve", nil, a.onSource(func(ctx context.Context, s *session, src *config.Source) error {
		if err := s.control.Resolve(ctx, src.Name); err != nil {
			return err
		}
		answer := resolvedJSON{Source: src.Name, Message: "It tries again. Follow it: remora watch " + src.Name}
		return a.answer(answer, func() { a.say("%s", answer.Message) })
	}))
}

// resolvedJSON is the answer to a resolve.
type resolvedJSON struct {
	Source  string `json:"source"`
	Message string `json:"message"`
}
