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
	cmd := a.command("backup", flags{"database": &database, "files": &files, "name": &name, "detach": &detach},
		a.onSource(func(ctx context.Context, s *session, src *config.Source) error {
			req := remora.BackupRequest{Source: src.Name, Kinds: remora.Kinds(database, files), Name: name}
			if err := missing("start a backup", src, req.Kinds); err != nil {
				return err
			}
			if len(req.Kinds) == 0 {
				req.Kinds = src.Kinds()
			}
			run, err := s.control.Backup(ctx, req)
			if err != nil {
				return err
			}
			return s.finish(ctx, run, detach, "The backup", a.printEnded)
		}))
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		err := remora.CheckBackupName(name)
		if err == nil || !cmd.Flags().Changed("name") {
			return nil
		}
		return invalid("start a backup", "--name "+name, err.Error(), "choose another name")
	}
	return cmd
}
