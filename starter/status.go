package main

import (
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
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			s, err := a.open(ctx, needRepository|needControl)
			if err != nil {
				return err
			}
			defer s.close(ctx)
			names := s.cfg.Names()
			if len(args) > 0 {
				src, err := s.source(args[0], true)
				if err != nil {
					return err
				}
				names = []string{src.Name}
			}
			o, err := s.control.Status(ctx, names)
			if err != nil {
				return err
			}
			if err := a.printStatus(o); err != nil {
				return err
			}
			if o.Away != "" {
				return s.control.Reach(ctx)
			}
			return nil
		},
	}
}

func (a *app) printStatus(o control.Overview) error {
	if a.json() {
		return a.printJSON(o)
	}
	a.say("%s", remora.OneLine(o.Sentence))
	for _, s := range o.Sources {
		a.say("\n%s", s.Source)
		a.statusLines(s, o.Away != "")
	}
	return nil
}

func (a *app) statusLines(s control.SourceStatus, away bool) {
	if s.Newest == nil {
		a.say("  newest good backup: none yet; take one with: remora backup %s", s.Source)
	} else {
		a.say("  newest good backup: %s, %s, %s", s.Newest.ID, a.moment(s.Newest.Started), size(s.Newest.Bytes()))
	}
	if s.FailedSince > 0 && s.Last != nil {
		a.say("  failed since:       %s; the last run: %s", count(int64(s.FailedSince), "run", "runs"), outcomeOf(*s.Last))
	}
	switch {
	case away:
		a.say("  running:            not known")
	case s.Running != nil:
		a.say("  running:            %s", s.Running.Sentence(a.Now()))
	default:
		a.say("  running:            nothing")
	}
	if s.Person != "" {
		a.say("  needs a person:     %s", remora.OneLine(s.Person))
		a.say("    what to do:       put that right, then: remora resolve %s", s.Source)
	}
	if w := s.Window; w != nil {
		a.say("  restore:            %s", a.window(*w))
		if w.Problem != "" {
			a.say("  needs a look:       %s", remora.OneLine(w.Problem))
		}
		if w.Hint != "" {
			a.say("    what to do:       %s", remora.OneLine(w.Hint))
		}
	}
}

func outcomeOf(b remora.Backup) string {
	if b.Problem != "" {
		return remora.OneLine(string(b.Status) + ": " + b.Problem)
	}
	return string(b.Status)
}

// window says how long, and how, a restore can be undone.
func (a *app) window(r remora.Restore) string {
	what := "what was restored from " + r.Backup + " is live, and can be undone"
	if r.Outcome == remora.OutcomeUndone {
		what = "the one from " + r.Backup + " was rolled back, and can be brought back"
	}
	until := "until somebody ends it"
	if !r.KeepUntil.IsZero() {
		until = "until " + a.moment(r.KeepUntil)
	}
	return fmt.Sprintf("%s %s: remora rollback %s, or remora accept %[3]s", what, until, r.Source)
}
