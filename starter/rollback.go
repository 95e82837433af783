package main

import (
	"context"
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
		RunE:    a.inWindow("roll back", (*control.Control).Rollback, "turned"),
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
		RunE:    a.inWindow("accept", (*control.Control).Accept, "accepted"),
	}
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
	if r.Outcome == remora.OutcomeRolledBack || r.Outcome == remora.OutcomeRefused {
		why = fmt.Sprintf("it never went live: %s at %s", r.Outcome, s.app.moment(r.Ended))
	}
	return remora.Fail(remora.NotFound, op, r.ID, hint, "%s", why)
}
