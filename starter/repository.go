package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/repository"
)

func newRepositoryCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "repository",
		Short: "Make the further repositories that backups are copied to",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "create NAME",
		Short: "Make an empty repository for copies",
		Long: `Makes the repository that the configuration names under copies as NAME. It is never made by itself, so that a disk that
is not mounted is not taken for an empty one. Where its password_file is missing, a password is made, too.`,
		Example: "  remora repository create offsite",
		Args:    exactly(1, "the NAME of one copy"),
		RunE: a.with(needRepository, func(ctx context.Context, s *session, args []string) error {
			return s.createCopy(ctx, args[0])
		}),
	})
	return cmd
}

func unknownCopy(op string, cfg *config.Config, name string) error {
	hint := "add it to copies in " + cfg.File
	if known := cfg.CopyNames(); len(known) > 0 {
		hint = "configured are: " + strings.Join(known, ", ")
	}
	return invalid(op, name, "no copy of this name is configured", hint)
}

func (s *session) createCopy(ctx context.Context, name string) (err error) {
	c := s.cfg.Copies[name]
	if c == nil {
		return unknownCopy("create the copy", s.cfg, name)
	}
	var made traces
	defer func() {
		if err != nil {
			made.remove()
		}
	}()
	newPasswordAt := ""
	if _, missing := os.Lstat(c.PasswordFile); c.PasswordFile != "" && errors.Is(missing, fs.ErrNotExist) {
		newPasswordAt = c.PasswordFile
		if err := made.folder(filepath.Dir(newPasswordAt)); err != nil {
			return err
		}
		if err := made.file(newPasswordAt, newPassword().Reveal()+"\n"); err != nil {
			return err
		}
	}
	at := opening(c.Repository, s.cfg.State, "command", "copy-"+name)
	at.CopyOf = s.repository
	if err := repository.Create(ctx, at); err != nil {
		return err
	}
	answer := initJSON{Repository: c.Where(), RepositoryPassword: newPasswordAt}
	return s.app.answer(answer, s.app.text("copy made", struct {
		initJSON
		Name string
	}{answer, name}))
}
