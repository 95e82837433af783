package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
)

func newBackupCommand(a *app) *cobra.Command {
	var database, files, detach bool
	var name string
	cmd := &cobra.Command{
		Use:   "backup [SOURCE]",
		Short: "Take a backup now",
		Long: `Takes one consistent backup of a source, stores it, and reads back what was stored; only then it counts as completed.
Without --database or --files it takes all that the source has. SOURCE may be left out when there is only one.

Ctrl-C stops watching, not the backup.`,
		Example: "  remora backup shop\n  remora backup shop --database --name before-migration",
		Args:    atMostOne("one SOURCE"),
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			err := remora.CheckBackupName(name)
			if err == nil || !cmd.Flags().Changed("name") {
				return nil
			}
			return invalid("start a backup", "--name "+name, err.Error(), "choose another name")
		},
		RunE: a.onSource(func(ctx context.Context, s *session, src *config.Source) error {
			req := remora.BackupRequest{Source: src.Name, Kinds: chosen(database, files), Name: name}
			if err := missing("start a backup", src, req.Kinds); err != nil {
				return err
			}
			if len(req.Kinds) == 0 {
				req.Kinds = src.Kinds()
			}
			return s.backUp(ctx, req, detach)
		}),
	}
	cmd.Flags().BoolVar(&database, "database", false, "take the database")
	cmd.Flags().BoolVar(&files, "files", false, "take the files")
	cmd.Flags().StringVar(&name, "name", "", "a `name` to find the backup by")
	cmd.Flags().BoolVar(&detach, "detach", false, "start it and do not wait")
	return cmd
}

func (s *session) backUp(ctx context.Context, req remora.BackupRequest, detach bool) error {
	run, err := s.control.Backup(ctx, req)
	if err != nil {
		return err
	}
	return s.finish(ctx, run, detach, "The backup", s.app.printEnded)
}
