package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/repository"
)

func newRepositoryCommand(a *app) *cobra.Command {
	create := func(ctx context.Context, s *session, args []string) error { return s.createCopy(ctx, args[0]) }
	var from string
	change := func(ctx context.Context, s *session, args []string) error {
		return s.changePassword(ctx, from, args...)
	}
	recover := func(ctx context.Context, s *session, _ []string) error { return s.tryRecovery(ctx) }
	var gone string
	var force bool
	adopt := func(ctx context.Context, s *session, _ []string) error { return s.adopt(ctx, gone, force) }
	return a.group("repository",
		a.command("repository adopt", flags{"gone": &gone, "force": &force}, a.with(needRepository|needControl, adopt)),
		a.command("repository create", nil, a.with(needRepository, create)),
		a.command("repository password", flags{"from": &from}, a.with(needRepository, change)),
		a.command("repository recovery", nil, a.with(needRepository, recover)))
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
