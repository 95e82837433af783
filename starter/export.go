package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/mysql"
	"github.com/remora-backup/remora/internal/remora"
)

// exportFlags are what the command line says about an export.
type exportFlags struct {
	format, to, source, from string
	tables                   []string
}

func newExportCommand(a *app) *cobra.Command {
	f := exportFlags{format: "sql"}
	cmd := a.command("export", flags{"format": &f.format, "to": &f.to, "table": &f.tables, "source": &f.source, "from": &f.from},
		a.with(needRepository, func(ctx context.Context, s *session, args []string) error { return s.export(ctx, args[0], f) }))
	cmd.PreRunE = func(*cobra.Command, []string) error {
		switch {
		case f.format != "sql" && f.format != "tsv":
			return badFlag("--format "+f.format, "use sql or tsv")
		case f.to == "" && (f.format == "tsv" || a.json()):
			return badUsage("", "this does not go to standard output", "say where it goes with --to")
		}
		return nil
	}
	return cmd
}

// exportJSON is what an export has come to.
type exportJSON struct {
	Backup string `json:"backup"`
	To     string `json:"to"`
	remora.Summary
}

func (s *session) export(ctx context.Context, ref string, f exportFlags) error {
	held, b, err := s.held(ctx, ref, f.source, f.from)
	if err != nil {
		return err
	}
	if _, ok := b.Part(remora.Database); !ok {
		return invalid("export", b.ID, "it holds no database", "see what it holds with: remora ls "+b.ID+"\nbring files back with: remora restore "+b.ID+" --files")
	}
	lease, err := held.Lease(ctx, b.ID, "", "an export by "+s.app.actor())
	if err != nil {
		return err
	}
	said := exportJSON{Backup: b.ID, To: f.to}
	part, err := held.Part(ctx, b.ID, remora.Database)
	if err == nil {
		said.Summary, err = f.write(part, s.app.Out)
	}
	if err = lease.End(ctx, err); err != nil {
		return err
	}
	return s.app.answer(said, func() { fmt.Fprintf(s.app.Err, "%s is exported: %s\n", b.ID, counts(remora.Database, said.Summary)) })
}

// write writes where the command line says, and tells what was written.
func (f exportFlags) write(part fs.FS, out io.Writer) (remora.Summary, error) {
	db, err := mysql.NewExport(part, several(f.tables))
	switch {
	case err != nil:
	case f.to == "":
		err = db.SQL(out)
	default:
		err = f.writeNew(db)
	}
	if err != nil && !errors.As(err, new(*remora.Problem)) {
		err = remora.Fail(remora.Unavailable, "export", cmp.Or(f.to, "standard output"), "make room there, or choose a place where you may write", "%w", remora.Cause(err))
	}
	return db.Summary, err
}

// writeNew writes something new, which gets its name when it is whole.
func (f exportFlags) writeNew(db *mysql.Export) error {
	if _, err := os.Lstat(f.to); err == nil {
		return invalid("export", f.to, "it is there already", "it is not overwritten: move it away, or choose another name")
	}
	beside, err := os.MkdirTemp(filepath.Dir(f.to), ".remora-export-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(beside) }()
	whole := filepath.Join(beside, "whole")
	if f.format == "sql" {
		err = create(whole, db.SQL)
	} else {
		err = db.TSV(func(name string, write func(io.Writer) error) error { return create(filepath.Join(whole, name), write) })
	}
	if err != nil {
		return err
	}
	return os.Rename(whole, f.to)
}

// create makes a file for its owner alone, with the directories above it, and brings it to the disk.
func create(path string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return cmp.Or(write(file), file.Sync(), file.Close())
}
