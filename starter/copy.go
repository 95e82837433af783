package main

import (
	"cmp"
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
)

// copyFlags are what the command line says about a copy.
type copyFlags struct {
	all, detach bool
	to          string
}

func newCopyCommand(a *app) *cobra.Command {
	var f copyFlags
	cmd := a.command("copy", flags{"all": &f.all, "to": &f.to, "detach": &f.detach},
		a.with(needRepository|needControl, func(ctx context.Context, s *session, args []string) error { return s.copyTo(ctx, args, f) }))
	cmd.PreRunE = func(_ *cobra.Command, args []string) error {
		if (len(args) == 1) == f.all {
			return badUsage("", "what to copy is not clear", "name one BACKUP, or use --all")
		}
		return nil
	}
	return cmd
}

func (s *session) copyTo(ctx context.Context, args []string, f copyFlags) error {
	names := s.cfg.CopyNames()
	switch {
	case len(names) == 0:
		return invalid("copy", s.cfg.File, "no copy is configured", "add copies: {offsite: {path: DIR, password_file: FILE}}, and make it with: remora repository create offsite")
	case f.to != "" && s.cfg.Copies[f.to] == nil:
		return unknownCopy("copy", s.cfg, f.to)
	case f.to != "":
		names = []string{f.to}
	}
	begin := func(to string) (control.Run, error) { return s.control.CopyAll(ctx, to) }
	if !f.all {
		b, err := s.backup(ctx, args[0], "", "")
		if err != nil {
			return err
		}
		if b.Location != "" {
			return invalid("copy", b.ID, "it is in the copy "+b.Location+" alone: "+b.Because, "a copy is made from the repository")
		}
		begin = func(to string) (control.Run, error) { return s.control.Copy(ctx, b, to) }
	}
	var errs []error
	for _, name := range names { // one that fails does not keep the backup from the next
		errs = append(errs, s.copyOne(ctx, name, begin, f.detach))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func (s *session) copyOne(ctx context.Context, name string, begin func(to string) (control.Run, error), detach bool) error {
	run, err := begin(name)
	if err != nil {
		return err
	}
	return s.finish(ctx, run, detach, "The copy to "+name, func(end control.Ended) error {
		end.Copied = cmp.Or(end.Copied, &remora.Copied{To: name})
		return s.app.printEnded(end)
	})
}
