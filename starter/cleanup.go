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
	cmd := &cobra.Command{
		Use:   "cleanup [SOURCE]",
		Short: "Delete the backups that need not be kept",
		Long: `Deletes the backups that no rule of the configuration keeps, and gives their space back. With --dry-run it deletes
nothing, and says of every backup whether it stays, and why.

The newest good backup always stays, and so does what somebody holds or reads. What looks like a mistake is refused:
more than half of the good backups of a source at once, a newest backup that is much smaller than the one before, or a
clock that is wrong. --force takes the hash of the plan that was refused; a plan that is not the same any more is refused
again. Space comes back over days, once nobody can be reading it.`,
		Example: "  remora cleanup --dry-run\n  remora cleanup shop --force 0a1b2c3d4e5f6071",
		Args:    atMostOne("one SOURCE"),
		RunE: a.with(needRepository|needControl, func(ctx context.Context, s *session, args []string) (err error) {
			if req.Source, err = s.filterSource(args); err != nil {
				return err
			}
			if req.Copy != "" && s.cfg.Copies[req.Copy] == nil {
				return unknownCopy("cleanup", s.cfg, req.Copy)
			}
			if dryRun {
				return s.planCleanup(ctx, req)
			}
			return s.cleanup(ctx, req, detach)
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be deleted, and why")
	cmd.Flags().StringVar(&req.Copy, "copy", "", "in the copy of this `name`, not in the repository")
	cmd.Flags().StringVar(&req.Force, "force", "", "delete also what was refused, by the plan with this `hash`")
	cmd.Flags().BoolVar(&detach, "detach", false, "start it and do not wait")
	return cmd
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

func (s *session) cleanup(ctx context.Context, req remora.RetentionRequest, detach bool) error {
	run, err := s.control.Retention(ctx, req)
	if err != nil {
		return err
	}
	return s.finish(ctx, run, detach, "The cleanup", s.app.printEnded)
}

func newHoldCommand(a *app) *cobra.Command {
	var h remora.Hold
	var source, until string
	cmd := &cobra.Command{
		Use:   "hold BACKUP",
		Short: "Keep a backup whatever retention says",
		Long:  "Keeps a backup in the repository until it is released, whatever retention says. " + refHelp,
		Example: "  remora hold latest --why \"before the migration\" --until 30d\n" +
			"  remora hold shop-20261123T023000Z-1f2e --until 2027-01-31",
		Args: exactly(1, "one BACKUP"),
		RunE: a.with(needRepository, func(ctx context.Context, s *session, args []string) (err error) {
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
		}),
	}
	cmd.Flags().StringVar(&h.Why, "why", "", "the reason, in your `words`")
	cmd.Flags().StringVar(&until, "until", "", "when the hold ends by itself: a `date` (2027-01-31), or a time from now (30d)")
	cmd.Flags().StringVar(&source, "source", "", "look among the backups of this `source`")
	return cmd
}

func newReleaseCommand(a *app) *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use:   "release BACKUP",
		Short: "Let retention decide about a held backup again",
		Long:  "Ends the hold of a backup: retention decides about it again. " + refHelp,
		Args:  exactly(1, "one BACKUP"),
		RunE: a.with(needRepository, func(ctx context.Context, s *session, args []string) error {
			b, err := s.inRepository(ctx, "release", args[0], source)
			if err != nil {
				return err
			}
			if err := s.repository.Release(ctx, b.ID); err != nil {
				return err
			}
			held := b.Hold
			return a.answer(cmp.Or(held, &remora.Hold{Backup: b.ID}), func() {
				if held == nil {
					a.say("%s was not held.", b.ID)
				} else {
					a.say("%s is not held any more; it was, by %s.", b.ID, held.By)
				}
			})
		}),
	}
	cmd.Flags().StringVar(&source, "source", "", "look among the backups of this `source`")
	return cmd
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
