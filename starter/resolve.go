package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/remora"
)

func newResolveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "resolve [SOURCE]",
		Short: "Tell a run that waits for a person to try again",
		Long: `Some steps cannot be given up, such as bringing an application back. When one meets a problem that does not pass by itself,
the run says so in remora status and waits. Put right what it names, then type this: it tries again.`,
		Example: "  remora resolve shop",
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
			return s.resolve(ctx, src.Name)
		},
	}
}

// resolvedJSON is the answer to a resolve.
type resolvedJSON struct {
	Source  string `json:"source"`
	Message string `json:"message"`
}

func (s *session) resolve(ctx context.Context, source string) error {
	if err := s.control.Resolve(ctx, source); err != nil {
		return err
	}
	answer := resolvedJSON{Source: source, Message: "It tries again. Follow it: remora watch " + source}
	if s.app.json() {
		return s.app.printJSON(answer)
	}
	s.app.say("%s", remora.OneLine(answer.Message))
	return nil
}
