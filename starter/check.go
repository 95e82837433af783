package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/remora"
)

func newCheckCommand(a *app) *cobra.Command {
	return a.command("check", nil, a.with(needControl, func(ctx context.Context, s *session, _ []string) error {
		var sources []remora.FindingsSource
		for _, name := range s.cfg.Names() {
			sources = append(sources, remora.FindingsSource{Name: name, Kinds: s.cfg.Sources[name].Kinds()})
		}
		found, err := s.control.Check(ctx, sources)
		if err != nil {
			return err
		}
		return a.printFindings(append(s.configFindings(), found...))
	}))
}

// configFindings are about what this machine alone can see.
func (s *session) configFindings() []remora.Finding {
	found := []remora.Finding{remora.Found(remora.Fine, "configuration", "%s, %s", s.cfg.File, count(int64(len(s.cfg.Sources)), "source", "sources"))}
	warnings, errs := s.cfg.Check()
	for _, err := range errs {
		found = append(found, remora.FoundProblem("configuration", remora.ProblemOf("check the configuration", err)))
	}
	for _, w := range append(s.cfg.Warnings, warnings...) {
		found = append(found, remora.Found(remora.Warning, "configuration", "%s", w))
	}
	return found
}

func (a *app) printFindings(all []remora.Finding) error {
	words := map[remora.Level]string{remora.Fine: "ok", remora.Warning: "warn", remora.Failing: "FAIL"}
	failed, warned, width := int64(0), int64(0), 0
	for _, f := range all {
		width = max(width, len(f.Subject))
		switch f.Level {
		case remora.Failing:
			failed++
		case remora.Warning:
			warned++
		}
	}
	for _, f := range all {
		if a.json() {
			if err := a.printJSON(f); err != nil {
				return err
			}
			continue
		}
		a.say("%-4s  %-*s  %s", words[f.Level], width, f.Subject, remora.OneLine(f.Said))
		if f.Hint != "" {
			a.say("%-4s  %-*s  what to do: %s", "", width, "", remora.OneLine(f.Hint))
		}
	}
	said := fmt.Sprintf("%d of %s failed, %s", failed, count(int64(len(all)), "check", "checks"), count(warned, "warning", "warnings"))
	if failed > 0 {
		return remora.Fail(remora.Unavailable, "check", "", "", "%s", said)
	}
	if !a.json() {
		a.say("All is well: %s.", said)
	}
	return nil
}
