package main

import (
	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/remora"
)

func newWatchCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "watch [SOURCE]",
		Short:   "Follow what runs on a source now, or what runs next",
		Long:    "Follows what runs on a source, from its beginning to its end. When nothing runs, it waits for what runs next.\nIt ends as the run ends: with the same exit status. Ctrl-C stops watching, not the run.",
		Example: "  remora watch shop",
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
			running, err := s.control.Watch(ctx, src.Name, func() {
				if !a.json() {
					a.say("Nothing is running on %s. Waiting for what comes next; Ctrl-C ends the wait.", src.Name)
				}
			})
			if err != nil {
				return err
			}
			if !a.json() {
				a.say("On %s %s.", src.Name, running.Sentence(a.Now()))
			}
			end, err := s.follow(ctx, running.Run)
			if err != nil {
				return err
			}
			switch {
			case end.Backup != nil:
				return a.printBackedUp(end)
			case end.Restore != nil:
				return a.printRestored(*end.Restore)
			case a.json():
				return a.printJSON(endJSON{Event: string(remora.Completed), At: a.Now()})
			default:
				a.say("Done.")
				return nil
			}
		},
	}
}
