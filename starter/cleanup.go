package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
)

func newCleanupCommand(a *app) *cobra.Command {
	var req remora.RetentionRequest
	var dryRun, detach bool
	return a.command("cleanup", flags{"dry-run": &dryRun, "copy": &req.Copy, "force": &req.Force, "detach": &detach},
		a.with(needRepository|needControl, func(ctx context.Context, s *session, args []string) (err error) {
			if req.Source, err = s.filterSource(args); err != nil {
				return err
			}
			if req.Copy != "" && s.cfg.Copies[req.Copy] == nil {
				return unknownCopy("cleanup", s.cfg, req.Copy)
			}
			if dryRun {
				return s.planCleanup(ctx, req)
			}
			run, err := s.control.Retention(ctx, req)
			if err != nil {
				return err
			}
			return s.finish(ctx, run, detach, "The cleanup", a.printEnded)
		}))
}

func (s *session) planCleanup(ctx context.Context, req remora.RetentionRequest) error {
	plan, err := control.RetentionPlan(ctx, s.locations, req, func(source string) remora.KeepPolicy { return s.cfg.KeepOf(req.Copy, source) })
	if err != nil {
		return err
	}
	a := s.app
	return a.answer(plan, func() {
		var rows [][]string
		gone, records := 0, 0
		for _, v := range plan.Verdicts {
			what := "keep"
			switch failed := v.Status != remora.Completed && v.Status != remora.Pending && v.Status != remora.Corrupted; {
			case v.Delete && v.Refused:
				what, gone = "REFUSED", gone+1
			case v.Delete:
				what, gone = "delete", gone+1
			case failed:
				records++
				continue
			}
			rows = append(rows, []string{v.Backup, string(v.Kind), clock(v.Started), what, v.Why})
		}
		_ = a.table([]string{"BACKUP", "KIND", "STARTED", "", "WHY"}, rows) // a broken pipe has nobody left to tell
		a.text("cleanup plan", struct {
			remora.RetentionPlan
			Gone, Records int
			Force         string
		}{plan, gone, records, req.Command("--force " + plan.Hash)})()
	})
}

func newHoldCommand(a *app) *cobra.Command {
	var h remora.Hold
	var source, until string
	return a.command("hold", flags{"why": &h.Why, "until": &until, "source": &source},
		a.with(needRepository, func(ctx context.Context, s *session, args []string) (err error) {
			if h.Until, err = a.parseUntil(until); err != nil {
				return err
			}
			b, err := s.inRepository(ctx, "hold", args[0], source)
			if err != nil {
				return err
			}
			h.Backup, h.By, h.At, h.Why = b.ID, a.actor(), a.Now().UTC(), remora.OneLine(h.Why)
			if err := s.repository.Hold(ctx, h); err != nil {
				return err
			}
			b.Hold = &h
			return a.answer(h, func() { a.say("%s is held %s.", b.ID, a.held(b)) })
		}))
}

func newReleaseCommand(a *app) *cobra.Command {
	var source string
	return a.command("release", flags{"source": &source}, a.with(needRepository, func(ctx context.Context, s *session, args []string) error {
		b, err := s.inRepository(ctx, "release", args[0], source)
		if err != nil {
			return err
		}
		if err := s.repository.Release(ctx, b.ID); err != nil {
			return err
		}
		return a.answer(cmp.Or(b.Hold, &remora.Hold{Backup: b.ID}), func() {
			if b.Hold == nil {
				a.say("%s was not held.", b.ID)
			} else {
				a.say("%s is not held any more; it was, by %s.", b.ID, b.Hold.By)
			}
		})
	}))
}

// inRepository finds a backup that the repository itself holds.
func (s *session) inRepository(ctx context.Context, op, ref, source string) (remora.Backup, error) {
	b, err := s.backup(ctx, ref, source, "")
	if err == nil && b.Location != "" {
		err = invalid(op, b.ID, "it is in the copy "+b.Location+" alone: "+b.Because, "a hold is in the repository")
	}
	return b, err
}

// parseUntil reads a moment to come; empty means never.
func (a *app) parseUntil(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := a.parseTime("--until", text)
	if age, ageErr := parseAge(text); ageErr == nil {
		t, err = a.Now().Add(age), nil
	}
	if err == nil && !t.After(a.Now()) {
		err = badUsage("--until "+text, "that is not to come", fmt.Sprintf("use a date after %s, or a time from now such as 30d", a.Now().Local().Format("2006-01-02")))
	}
	return t.UTC(), err
}
