package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/remora"
)

func newCheckCommand(a *app) *cobra.Command {
	return a.command("check", nil, a.with(needControl, func(ctx context.Context, s *session, _ []string) error {
		found, err := s.control.Check(ctx, each(s.cfg.Names(), func(name string) remora.FindingsSource {
			return remora.FindingsSource{Name: name, Kinds: s.cfg.Sources[name].Kinds()}
		}))
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
	many, width := map[remora.Level]int64{}, 0
	for _, f := range all {
		many[f.Level]++
		width = max(width, len(f.Subject))
	}
	for _, f := range all {
		said := struct {
			remora.Finding
			Width int
		}{f, width}
		if err := a.answer(f, a.text("finding", said)); err != nil {
			return err
		}
	}
	failed := many[remora.Failing]
	said := fmt.Sprintf("%d of %s failed, %s", failed, count(int64(len(all)), "check", "checks"), count(many[remora.Warning], "warning", "warnings"))
	if failed > 0 {
		return remora.Fail(remora.Unavailable, "check", "", "", "%s", said)
	}
	if !a.json() {
		a.say("All is well: %s.", said)
	}
	return nil
}
