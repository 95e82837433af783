package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/config"
)

func newWatchCommand(a *app) *cobra.Command {
	return a.command("watch", nil, a.onSource(func(ctx context.Context, s *session, src *config.Source) error { return s.watch(ctx, src.Name) }))
}

func (s *session) watch(ctx context.Context, source string) error {
	a := s.app
	running, err := s.control.Watch(ctx, source, func() {
		if !a.json() {
			a.say("Nothing is running on %s. Waiting for what comes next; Ctrl-C ends the wait.", source)
		}
	})
	if err != nil {
		return err
	}
	if !a.json() {
		a.say("On %s %s.", source, running.Sentence(a.Now()))
	}
	return s.finish(ctx, running.Run, false, "", a.printEnded)
}
