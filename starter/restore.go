package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
)

// restoreFlags are what the command line says about a restore.
type restoreFlags struct {
	database, files bool
	tables, paths   []string
	to              string
	source, from    string
	undo            string
	withoutSafety   string
	force, detach   bool
	preview         bool
}

func newRestoreCommand(a *app) *cobra.Command {
	var f restoreFlags
	cmd := a.command("restore", flags{
		"database": &f.database, "files": &f.files, "table": &f.tables, "path": &f.paths, "to": &f.to, "source": &f.source, "from": &f.from, "undo-window": &f.undo,
		"without-safety-backup": &f.withoutSafety, "force": &f.force, "detach": &f.detach, "preview": &f.preview,
	}, a.with(needRepository|needControl, func(ctx context.Context, s *session, args []string) error {
		b, err := s.backup(ctx, args[0], f.source, f.from)
		if err != nil {
			return err
		}
		req, err := s.planRequest(b, f)
		if err != nil {
			return err
		}
		return s.restore(ctx, req, f)
	}))
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { return a.checkRestore(cmd, f) }
	return cmd
}

// checkRestore refuses, before anything is opened, what nobody could answer.
func (a *app) checkRestore(cmd *cobra.Command, f restoreFlags) error {
	if cmd.Flags().Changed("without-safety-backup") && strings.TrimSpace(f.withoutSafety) == "" {
		return badFlag("--without-safety-backup", "say why in a few words; they are recorded")
	}
	said, chosen := cmd.Flags().Changed, f.selection()
	switch {
	case said("to") && (chosen.To == "" || !utf8.ValidString(f.to) || strings.Contains(f.to, "/") && !strings.HasPrefix(f.to, "/")):
		return badFlag("--to "+f.to, "name a schema, or an absolute directory on the worker's machine, that does not exist yet: --to shop_copy, --to /srv/look")
	case said("to") && chosen.Place() == remora.Files && (f.database || said("table")):
		return badUsage("--to "+f.to, "a directory is for the files alone", "leave --database and --table out; --to NAME, without a slash, is a schema for the database")
	case said("to") && chosen.Place() == remora.Database && (f.files || said("path")):
		return badUsage("--to "+f.to, "a schema is for the database alone", "leave --files and --path out; --to /DIRECTORY is for the files")
	case f.preview && said("to"):
		return badUsage("--to "+f.to, "a place of its own replaces nothing, so there is nothing to preview", "leave --preview or --to out")
	case f.preview && f.detach:
		return badUsage("--detach", "a preview starts nothing that could go on", "leave it out")
	case slices.Contains(chosen.Tables, ""):
		return badFlag("--table "+strings.Join(f.tables, " --table "), "name a table of the backup, such as orders, or shop.orders where there are several schemas")
	case slices.ContainsFunc(chosen.Paths, func(p string) bool { return p == "" || strings.HasPrefix(p, "/") || !utf8.ValidString(p) }):
		return badFlag(fmt.Sprintf("--path %q", f.paths), "name a file or directory as it lies below files.root, such as receipts/2026; remora ls BACKUP files shows what there is")
	case f.to != "" && (said("undo-window") || said("without-safety-backup")):
		return badUsage("--to "+f.to, "nothing live is touched, so there is no safety backup and no undo window", "leave --undo-window and --without-safety-backup out")
	}
	if f.force || f.preview || f.to != "" || a.Interactive && !a.json() { // nothing live is replaced by what is built elsewhere
		return nil
	}
	return invalid("restore", "", "a restore asks before it replaces live data, and there is nobody to answer",
		"run it on a terminal, or add --force: it skips the question and nothing else")
}

// selection is what the flags choose of a backup. A path may hold a comma; a slash at its end, or at that of a directory,
// says nothing.
func (f restoreFlags) selection() remora.Selection {
	paths := each(f.paths, func(p string) string { return strings.TrimRight(p, "/") })
	return remora.Selection{To: strings.TrimRight(f.to, "/"), Tables: several(f.tables), Paths: paths}
}

// several splits the values of a flag that may be given several times, and name several things.
func several(values []string) (all []string) {
	for _, some := range values {
		all = append(all, strings.Split(some, ",")...)
	}
	return all
}

// planRequest refuses what no worker needs to be asked about.
func (s *session) planRequest(b remora.Backup, f restoreFlags) (remora.PlanRequest, error) {
	if err := restorable(b); err != nil {
		return remora.PlanRequest{}, err
	}
	src, err := s.cfg.Source(b.Source)
	if err != nil {
		return remora.PlanRequest{}, err
	}
	selection := f.selection()
	kinds := selection.With(remora.Kinds(f.database || f.to != "" && selection.Place() == remora.Database, f.files))
	if err := missing("restore", src, kinds); err != nil {
		return remora.PlanRequest{}, err
	}
	undo := src.UndoWindow
	if f.undo != "" {
		if undo, err = undoLength("--undo-window", f.undo); err != nil {
			return remora.PlanRequest{}, err
		}
	}
	return remora.PlanRequest{Source: src.Name, Backup: b.ID, Kinds: kinds, Undo: undo, From: f.from, Selection: selection, Preview: f.preview}, nil
}

// restorable refuses a backup that is not completed: what was not read back may not be what was stored.
func restorable(b remora.Backup) error {
	switch b.Status {
	case remora.Completed:
		return nil
	case remora.Corrupted: // scripts are told by the same exit code as by a verification
		return remora.Fail(remora.Corrupt, "restore", b.ID,
			"choose another one: remora history "+b.Source+" --status completed", "it is %s: what is stored is not what it should be", b.Status)
	default:
		return invalid("restore", b.ID, fmt.Sprintf("it is %s; only completed backups can be restored", b.Status),
			"choose another one: remora history "+b.Source+" --status completed")
	}
}

// longestUndo bounds what may be asked for: the replaced data lies beside the live data all that time.
const longestUndo = 90 * 24 * time.Hour

func undoLength(flag, text string) (time.Duration, error) {
	d, err := parseAge(text)
	if err != nil || d < time.Minute || d > longestUndo {
		return 0, badFlag(flag+" "+text, "use a length from 1m to 90d, such as 72h or 7d")
	}
	return d, nil
}

// restore plans, asks, starts and follows.
func (s *session) restore(ctx context.Context, asked remora.PlanRequest, f restoreFlags) error {
	t := newTeller(s.app)
	plan, err := s.control.Plan(ctx, asked, func(u control.Update) {
		if f.preview || u.Event == control.Noticed || u.Event == control.Retrying {
			t.tell(u) // the phases of a plan alone take no time worth a line
		}
	})
	t.clear()
	if err != nil {
		return err
	}
	maintenance := s.cfg.Sources[asked.Source].Maintenance.String()
	if err := s.app.printPlan(plan, maintenance, f.withoutSafety); err != nil {
		return err
	}
	if f.preview {
		return nil
	}
	req := remora.RestoreRequest{PlanRequest: asked, WithoutSafety: f.withoutSafety}
	if !f.force && f.to == "" {
		if err := s.app.confirm(ctx, "restore", plan.Source); err != nil {
			return err
		}
	}
	if !f.force || !asked.All() { // a worker that has never heard of the choice refuses it
		req.PlanHash = plan.Hash
	}
	run, err := s.control.Restore(ctx, req)
	if err != nil {
		return err
	}
	return s.finish(ctx, run, f.detach, "The restore", func(end control.Ended) error {
		if end.Restore == nil { // it ended before it could say anything of itself
			end.Restore = &remora.Restore{ID: run.RunID, Source: run.Source, Outcome: "over"}
		}
		return s.app.printEnded(end)
	})
}

// confirm asks for the name of the source, or of what else it is about.
func (a *app) confirm(ctx context.Context, op, source string) error {
	_, _ = fmt.Fprintf(a.Out, "\nType %s to go on: ", source)
	name, err := typed(ctx, a.readLine)
	switch {
	case ctx.Err() != nil:
		a.say("")
		return ctx.Err()
	case err == nil && strings.TrimSpace(name) == source:
		return nil
	}
	return invalid(op, source, "the name was not typed", "nothing was touched; ask again and type the name as it stands")
}

// typed waits for what a person types, which read reads, or for ctx to end.
func typed(ctx context.Context, read func() (string, error)) (string, error) {
	done := make(chan struct{})
	var line string
	var failed error
	go func() { // ends with the process at the latest: a read from a terminal cannot be called off
		line, failed = read()
		close(done)
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-done:
		return line, failed
	}
}

func (a *app) readLine() (string, error) {
	line, err := bufio.NewReader(a.In).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}

// printPlan says what is going to happen, before it does, or what a restore would change. maintenance names what takes
// the application offline.
func (a *app) printPlan(p remora.Plan, maintenance, withoutSafety string) error {
	preview := slices.ContainsFunc(p.Targets, func(t remora.Target) bool { return t.Preview != nil })
	said := struct {
		Event string      `json:"event"`
		At    time.Time   `json:"at"`
		Plan  remora.Plan `json:"plan"`
	}{"plan", a.Now(), p}
	return a.answer(said, func() {
		a.text("plan", struct {
			remora.Plan
			Maintenance, WithoutSafety string
			Preview                    bool
			Mind                       []string
		}{p, maintenance, withoutSafety, preview, mind(p, withoutSafety)})()
		if !preview {
			return
		}
		a.say("\nWhat a restore would change")
		for i, t := range p.Targets {
			if i > 0 {
				a.say("")
			}
			if t.Preview != nil {
				a.printPreview(*t.Preview)
			}
		}
		a.say("\nNothing was changed.")
	})
}

// mind is what a person should know first: what stands in the way, what is odd about what is live, and about the backup.
func mind(p remora.Plan, withoutSafety string) (all []string) {
	if withoutSafety != "" {
		all = append(all, "no safety backup is taken: of what is live, the undo window alone keeps anything")
	}
	of := p.Backup.Warnings
	for _, t := range p.Targets {
		all, of = append(all, t.Live.Warnings...), append(slices.Clone(t.Restores.Warnings), of...)
	}
	all = append(all, each(of, func(w string) string { return "of the backup: " + w })...)
	const most = 12
	if more := len(all) - most; more > 0 {
		all = append(all[:most], fmt.Sprintf("and %d more, which -o json lists", more))
	}
	return all
}

// printPreview says how what is live differs from a backup.
func (a *app) printPreview(p remora.Preview) {
	rows := each(p.Tables, func(t remora.TablePreview) []string {
		said := append([]string{t.Name}, each([]int64{t.Now, t.Then, t.Added, t.Removed, t.Changed}, humanize.Comma)...)
		if t.Counted {
			said[3], said[4], said[5] = "?", "?", "?"
		}
		if t.Ranges == 0 {
			return append(said, "-")
		}
		return append(said, fmt.Sprintf("%d of %d", t.Differ, t.Ranges))
	})
	if len(rows) > 0 {
		_ = a.table([]string{"TABLE", "ROWS NOW", "THEN", "ADDED", "REMOVED", "CHANGED", "RANGES DIFFER"}, rows) // a broken pipe has nobody left to tell
	}
	if p.Directories == nil {
		a.text("preview", p)()
		return
	}
	_ = a.table([]string{"DIRECTORY", "ENTRIES NOW", "THEN", "ADDED", "REMOVED", "CHANGED"}, each(p.Directories, func(d remora.DirectoryPreview) []string {
		return append([]string{d.Name}, each([]int64{d.Now, d.Then, d.Added, d.Removed, d.Changed}, humanize.Comma)...)
	}))
	a.text("preview of files", p)()
}
