package retention

import (
	"fmt"

	"github.com/remora-backup/remora/internal/remora"
)

// Suspect says what speaks against a backup: of a component it holds less than half of what the good one before held.
// It is empty when nothing does.
func Suspect(newest, before remora.Backup) string {
	for _, part := range newest.Parts {
		was, ok := before.Part(part.Kind)
		now, then := part.Summary, was.Summary
		switch {
		case !ok:
		case 2*now.Entries < then.Entries:
			unit := "rows"
			if part.Kind == remora.Files {
				unit = "files"
			}
			return fmt.Sprintf("its %s has %d %s, the one before had %d", part.Kind, now.Entries, unit, then.Entries)
		case 2*now.Bytes < then.Bytes:
			return fmt.Sprintf("its %s has %d bytes, the one before had %d", part.Kind, now.Bytes, then.Bytes)
		}
	}
	return ""
}
