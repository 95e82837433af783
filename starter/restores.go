package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/remora"
)

func newRestoresCommand(a *app) *cobra.Command {
	return a.command("restores", nil, a.with(needRepository, func(ctx context.Context, s *session, args []string) error {
		source, err := s.filterSource(args)
		if err != nil {
			return err
		}
		restores, err := s.repository.Restores(ctx, source)
		if err != nil {
			return err
		}
		return a.printRestores(restores)
	}))
}

func (a *app) printRestores(restores []remora.Restore) error {
	head := []string{"RESTORE", "OUTCOME", "STARTED", "BY", "OF BACKUP", "UNDO UNTIL", "NOTE"}
	return list(a, restores, "Nothing was restored yet.", head, func(r remora.Restore) []string {
		note := fit(r.Problem, 80)
		if note == "" && r.PutAwayBackup != "" {
			note = "put away in " + r.PutAwayBackup
		}
		return []string{r.ID, string(r.Outcome), clock(r.Started), r.RequestedBy, r.Backup, undoable(r), note}
	})
}

// undoable is the end of an open undo window.
func undoable(r remora.Restore) string {
	switch {
	case !r.Outcome.Open():
		return "-"
	case r.KeepUntil.IsZero():
		return "somebody ends it"
	default:
		return clock(r.KeepUntil)
	}
}
