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
	head := []string{"RESTORE", "OUTCOME", "STARTED", "AGE", "OF BACKUP", "UNDO UNTIL", "PUT AWAY IN"}
	return list(a, restores, "Nothing was restored yet.", head, func(r remora.Restore) []string {
		return []string{r.ID, string(r.Outcome), clock(r.Started), a.age(r.Started), r.Backup, undoable(r), r.PutAwayBackup}
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
