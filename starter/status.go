package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
)

func newStatusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status [SOURCE]",
		Short: "Tell how things stand",
		Long: `Tells how things stand: the newest good backup and its age, what failed since, what is running and how far it is, and
which restores can still be undone. When Temporal does not answer it tells what the repository knows and ends with 7.`,
		Example: "  remora status\n  remora status shop -o json",
		Args:    atMostOne("one SOURCE"),
		RunE: a.with(needRepository|needControl, func(ctx context.Context, s *session, args []string) error {
			name, err := s.filterSource(args)
			if err != nil {
				return err
			}
			names := []string{name}
			if name == "" {
				names = s.cfg.Names()
			}
			o, err := s.control.Status(ctx, names)
			if err != nil {
				return err
			}
			if s.copy != "" {
				o.Sentence = "The repository cannot be opened, so no backup can be taken; this is what the copy " + s.copy + " holds. " + o.Sentence
			}
			if err := a.printStatus(o); err != nil || o.Away == "" {
				return err
			}
			return s.control.Reach(ctx)
		}),
	}
}

func (a *app) printStatus(o control.Overview) error {
	return a.answer(o, func() {
		a.say("%s", remora.OneLine(o.Sentence))
		for _, s := range o.Sources {
			a.say("\n%s", s.Source)
			a.fields(a.statusLines(s)...)
		}
	})
}

// statusLines say what needs somebody first, then what is safe, what runs, and what can be undone.
func (a *app) statusLines(s control.SourceStatus) [][2]string {
	var lines [][2]string
	line := func(name, format string, args ...any) {
		lines = append(lines, [2]string{"  " + name, fmt.Sprintf(format, args...)})
	}
	if s.Person != "" {
		line("needs a person", "%s", s.Person)
		line("what to do", "put that right, then: remora resolve %s", s.Source)
	}
	if w := s.Window; w != nil && w.Problem != "" {
		line("needs a look", "%s", w.Problem)
		line("what to do", "%s", w.Hint)
	}
	if s.FailedSince > 0 && s.Last != nil {
		line("failed", "%s since the newest good backup; last: %s", count(int64(s.FailedSince), "run", "runs"), cmp.Or(s.Last.Problem, string(s.Last.Status)))
	}
	if s.Newest == nil {
		line("backup", "none yet; take one with: remora backup %s", s.Source)
	} else {
		line("backup", "%s, %s, %s", a.age(s.Newest.Started), size(s.Newest.Bytes()), s.Newest.ID)
	}
	for _, b := range s.Behind {
		line("copy "+b.Copy, "it lacks the newest %s, since %s; catch up with: remora copy --all --to %s", count(int64(b.Backups), "backup", "backups"), a.age(b.Since), b.Copy)
	}
	if s.Running != nil {
		line("running", "%s", s.Running.Sentence(a.Now()))
	}
	if w := s.Window; w != nil && w.Outcome.Open() {
		what := "live"
		if w.Outcome == remora.OutcomeUndone {
			what = "rolled back"
		}
		line("restore", "of %s, %s; can be undone %s: remora rollback %s, or remora accept %[4]s", w.Backup, what, a.until(w.KeepUntil), s.Source)
	}
	return lines
}
