package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
)

func newRollbackCommand(a *app) *cobra.Command {
	return a.command("rollback", nil, a.inWindow("roll back", (*control.Control).Rollback, "turned"))
}

func newAcceptCommand(a *app) *cobra.Command {
	return a.command("accept", nil, a.inWindow("accept", (*control.Control).Accept, "accepted"))
}

func newExtendCommand(a *app) *cobra.Command {
	var by, until string
	var end func(now time.Time) time.Time
	extend := func(c *control.Control, ctx context.Context, source string, tell func(control.Update)) (remora.Restore, error) {
		return c.Extend(ctx, source, end, tell)
	}
	cmd := a.command("extend", flags{"for": &by, "until": &until}, a.inWindow("extend", extend, "extended"))
	cmd.PreRunE = func(*cobra.Command, []string) (err error) {
		end, err = a.laterEnd(by, until)
		return err
	}
	return cmd
}

// laterEnd is what an extend makes of the end of an undo window: one that is so much later, or a moment.
func (a *app) laterEnd(by, until string) (func(time.Time) time.Time, error) {
	if (by == "") == (until == "") {
		return nil, badUsage("", "it does not say until when, in one way", "add --for 24h, or --until 2026-11-30T18:00")
	}
	if until == "" {
		d, err := undoLength("--for", by)
		return func(end time.Time) time.Time {
			if now := a.Now(); end.Before(now) { // what should have ended it has failed
				end = now
			}
			return end.Add(d)
		}, err
	}
	at, err := a.parseTime("--until", until)
	if ahead := at.Sub(a.Now()); err == nil && (ahead <= 0 || ahead > longestUndo) {
		err = badFlag("--until "+until, "use a date, or a date and time, that is to come within 90 days")
	}
	return func(time.Time) time.Time { return at }, err
}

// windowAction is what may be done in the undo window of a source's restore.
type windowAction func(c *control.Control, ctx context.Context, source string, tell func(control.Update)) (remora.Restore, error)

// inWindow finds the restore that is meant, does something in its undo window, and prints what that came to.
func (a *app) inWindow(op string, do windowAction, said string) runner {
	return a.with(needRepository|needControl, func(ctx context.Context, s *session, args []string) error {
		source, err := s.restoreOf(ctx, args, op)
		if err != nil {
			return err
		}
		var r remora.Restore
		err = s.told(ctx, source, func(tell func(control.Update)) error {
			r, err = do(s.control, ctx, source, tell)
			return err
		})
		if err != nil {
			return err
		}
		return a.answer(ended(a, control.Ended{Restore: &r}), a.text(said, r))
	})
}

// restoreOf is the source whose open restore is meant.
func (s *session) restoreOf(ctx context.Context, args []string, op string) (string, error) {
	if len(args) == 0 || s.cfg.Sources[args[0]] != nil {
		src, err := s.source(args...)
		if err != nil {
			return "", err
		}
		return src.Name, nil
	}
	r, err := s.repository.FindRestore(ctx, args[0])
	if err != nil {
		return "", err
	}
	if !r.Outcome.Open() && r.Outcome != remora.OutcomeRunning {
		return "", s.over(op, r)
	}
	return r.Source, nil
}

// over says how a restore that cannot be turned any more has ended.
func (s *session) over(op string, r remora.Restore) error {
	hint := "`remora show " + r.ID + "` tells all about it"
	if r.PutAwayBackup != "" {
		hint = "what it put away is in backup " + r.PutAwayBackup + "; bring that back with: remora restore " + r.PutAwayBackup
	}
	why := fmt.Sprintf("its undo window is over: %s at %s", r.Outcome, s.app.moment(r.Ended))
	if slices.Contains([]remora.Outcome{remora.OutcomeRolledBack, remora.OutcomeRefused, remora.OutcomeCopied}, r.Outcome) {
		why = fmt.Sprintf("it never went live: %s at %s", r.Outcome, s.app.moment(r.Ended))
	}
	return remora.Fail(remora.NotFound, op, r.ID, hint, "%s", why)
}
