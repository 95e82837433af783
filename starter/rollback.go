package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
)

const restoreHelp = "RESTORE is the restore's id, a unique beginning of it, or the name of its source;\nit may be left out when there is only one source."

func newRollbackCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rollback [RESTORE]",
		Short: "Undo a restore, or undo that",
		Long: `Makes what was live before a restore live again, in the time of a switch. What the restore brought is kept for the rest
of the undo window, so that a second rollback brings it back.
` + restoreHelp,
		Example: "  remora rollback shop",
		Args:    atMostOne("one RESTORE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inWindow(cmd.Context(), args, "roll back", func(ctx context.Context, s *session, source string, tell func(control.Update)) error {
				r, err := s.control.Rollback(ctx, source, tell)
				if err != nil {
					return err
				}
				return a.printTurned(r)
			})
		},
	}
}

func newAcceptCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "accept [RESTORE]",
		Short: "Keep what is live, and end the undo window of a restore",
		Long: `Ends the undo window of a restore: what is live stays. What was put away is backed up and read back first, and only
then removed.
` + restoreHelp,
		Example: "  remora accept shop",
		Args:    atMostOne("one RESTORE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inWindow(cmd.Context(), args, "accept", func(ctx context.Context, s *session, source string, tell func(control.Update)) error {
				r, err := s.control.Accept(ctx, source, tell)
				if err != nil {
					return err
				}
				return a.printAccepted(r)
			})
		},
	}
}

// inWindow finds the restore that is meant and does something in its undo window, while telling what happens.
func (a *app) inWindow(ctx context.Context, args []string, op string, do func(context.Context, *session, string, func(control.Update)) error) error {
	s, err := a.open(ctx, needRepository|needControl)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	source, err := s.restoreOf(ctx, args, op)
	if err != nil {
		return err
	}
	t := newTeller(a)
	err = do(ctx, s, source, t.tell)
	if err != nil && interrupted(ctx, err) {
		return a.detached(source)
	}
	return err
}

// restoreOf is the source whose open restore is meant.
func (s *session) restoreOf(ctx context.Context, args []string, op string) (string, error) {
	if len(args) == 0 {
		src, err := s.source("", false)
		if err != nil {
			return "", err
		}
		return src.Name, nil
	}
	if src, ok := s.cfg.Sources[args[0]]; ok {
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
	if r.Outcome == remora.OutcomeRolledBack || r.Outcome == remora.OutcomeRefused {
		why = fmt.Sprintf("it never went live: %s at %s", r.Outcome, s.app.moment(r.Ended))
	}
	return &remora.Problem{Op: op, Kind: remora.NotFound, Subject: r.ID, Hint: hint, Err: errors.New(why)}
}

func (a *app) printTurned(r remora.Restore) error {
	if a.json() {
		return a.printJSON(endJSON{Event: string(r.Outcome), At: a.Now(), Restore: &r})
	}
	if r.Outcome == remora.OutcomeUndone {
		a.say("Rolled back: %s is as it was before the restore.", r.Source)
	} else {
		a.say("Back again: what was restored from %s is live.", r.Backup)
	}
	a.say("The other side is kept %s. Turn again: remora rollback %s   Keep this: remora accept %[2]s", a.keptUntil(r), r.Source)
	return nil
}

func (a *app) keptUntil(r remora.Restore) string {
	if r.KeepUntil.IsZero() {
		return "until somebody ends the undo window"
	}
	return "until " + a.moment(r.KeepUntil)
}

func (a *app) printAccepted(r remora.Restore) error {
	if a.json() {
		return a.printJSON(endJSON{Event: string(r.Outcome), At: a.Now(), Restore: &r})
	}
	a.say("Accepted: what is live on %s stays.", r.Source)
	if r.PutAwayBackup != "" {
		a.say("What was put away is in backup %s.", r.PutAwayBackup)
	}
	return nil
}
