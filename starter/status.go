package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
)

func newStatusCommand(a *app) *cobra.Command {
	return a.command("status", nil, a.with(needRepository|needControl, func(ctx context.Context, s *session, args []string) error {
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
	}))
}

func (a *app) printStatus(o control.Overview) error {
	return a.answer(o, func() {
		a.say("%s", wrapped(remora.OneLine(o.Sentence), 0, columns))
		if len(o.Sources) > 0 {
			a.say("")
			_ = a.table([]string{"SOURCE", "NEWEST GOOD", "OBJECTIVE", "LAST RUN", "NEXT RUN", "STORED"}, each(o.Sources, a.statusRow)) // a broken pipe has nobody left to tell
		}
		for _, s := range o.Sources {
			a.section(s.Source, "source status", s)
		}
		a.section("everything", "alerts", o.Alerts)
		if o.RecoveryTried.IsZero() {
			a.say("\nThe recovery copy of the repository's password was never tried: remora repository recovery")
		}
		if !o.Monitored.IsZero() && a.Now().Sub(o.Monitored) > monitorSilence && o.Away == "" {
			a.say("\nThe monitor has not looked since %s: see `remora check`.", a.age(o.Monitored))
		}
	})
}

// columns is how wide the answer is at most.
const columns = 100

// monitorSilence is longer than a monitor that looks lets pass between two records.
const monitorSilence = 2 * time.Hour

// section prints what there is to say under a name; nothing, where that is nothing.
func (a *app) section(name, block string, v any) {
	if said := a.words(block, v, columns); said != "" {
		a.say("\n%s\n%s", name, strings.TrimSuffix(said, "\n"))
	}
}

// statusRow is a source in one line.
func (a *app) statusRow(s control.SourceStatus) []string {
	const longest = 30 // a name may be longer, and the line has 100 columns
	row := []string{s.Source, "none", "", "", "", ""}
	if name := []rune(s.Source); len(name) > longest {
		row[0] = string(name[:longest-1]) + "…"
	}
	if s.Newest != nil {
		row[1] = a.age(s.Newest.Started)
	}
	if s.Objective > 0 {
		row[2] = control.Span(s.Objective)
	}
	if s.Last != nil {
		row[3] = string(s.Last.Status)
		if s.Last.Status != remora.Completed {
			row[3] += " " + a.age(s.Last.Started)
		}
	}
	if !s.Next.IsZero() {
		row[4] = a.age(s.Next)
	}
	if s.Stored > 0 {
		row[5] = size(s.Stored)
	}
	return row
}
