package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
)

func newShowCommand(a *app) *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use:     "show BACKUP|RESTORE",
		Short:   "Tell all about a backup or a restore",
		Long:    "Tells all about a backup or a restore. " + refHelp + "\nA RESTORE is its id or a unique beginning of it.",
		Example: "  remora show latest\n  remora show shop-20261123T023000Z-1f2e",
		Args:    exactly(1, "one BACKUP or RESTORE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			s, err := a.open(ctx, needRepository)
			if err != nil {
				return err
			}
			defer s.close(ctx)
			b, err := s.backup(ctx, args[0], source)
			if err == nil {
				return a.printBackup(b)
			}
			if remora.KindOf(err) == remora.NotFound {
				if r, restoreErr := s.repository.FindRestore(ctx, args[0]); restoreErr == nil {
					return a.printRestore(r)
				}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&source, "source", "", "look among the backups of this `source`")
	return cmd
}

const refHelp = "A BACKUP is its id, a unique beginning of that, its name, or latest:\nthe newest completed backup of --source, or of the only source."

func (a *app) printBackup(b remora.Backup) error {
	if a.json() {
		return a.printJSON(b)
	}
	took := ""
	if !b.Ended.IsZero() {
		took = control.Span(b.Ended.Sub(b.Started))
	}
	a.fields(
		[2]string{"backup", b.ID}, [2]string{"name", b.Name}, [2]string{"source", b.Source},
		[2]string{"status", string(b.Status)}, [2]string{"problem", b.Problem}, [2]string{"in phase", b.Phase},
		[2]string{"what to do", b.Hint},
		[2]string{"holds", string(b.Kind)}, [2]string{"taken", purpose(b)}, [2]string{"by", b.RequestedBy},
		[2]string{"started", a.moment(b.Started)}, [2]string{"took", took},
		[2]string{"size", stored(b)}, [2]string{"verified", a.verified(b)}, [2]string{"tool", b.Tool},
	)
	for _, part := range b.Parts {
		a.say("\n%s", part.Kind)
		a.say("  %s; %s new; %s", counts(part.Kind, part.Summary), size(part.Added), control.Span(part.Ended.Sub(part.Started)))
		for _, name := range slices.Sorted(maps.Keys(part.Summary.Facts)) {
			a.say("  %s: %s", remora.OneLine(name), remora.OneLine(part.Summary.Facts[name]))
		}
		for _, w := range part.Summary.Warnings {
			a.say("  note: %s", remora.OneLine(w))
		}
	}
	for _, k := range b.Empty {
		a.say("\n%s\n  nothing was live", k)
	}
	for _, w := range b.Warnings {
		a.say("\nnote: %s", remora.OneLine(w))
	}
	return nil
}

func purpose(b remora.Backup) string {
	switch b.Purpose {
	case remora.Safety:
		return "of what was live before the restore " + b.OfRestore
	case remora.PutAway:
		return "of what the restore " + b.OfRestore + " put away, before that was removed"
	default:
		return "on request"
	}
}

func stored(b remora.Backup) string {
	if len(b.Parts) == 0 {
		return ""
	}
	return fmt.Sprintf("%s, of which %s were new", size(b.Bytes()), size(b.Added()))
}

func (a *app) verified(b remora.Backup) string {
	v := b.Verification
	switch {
	case v == nil && b.Status == remora.Pending:
		return "not yet"
	case v == nil:
		return ""
	case v.Problem != "":
		return a.moment(v.At) + ": " + v.Problem
	default:
		return fmt.Sprintf("%s, %s read back", a.moment(v.At), size(v.Bytes))
	}
}

func (a *app) printRestore(r remora.Restore) error {
	if a.json() {
		return a.printJSON(r)
	}
	undo := ""
	if r.Outcome.Open() {
		undo = "until " + a.moment(r.KeepUntil)
		if r.KeepUntil.IsZero() {
			undo = "until somebody ends it"
		}
		undo += "; remora rollback " + r.Source + " or remora accept " + r.Source
	}
	live := ""
	if r.Live != "" {
		live = "what was " + string(r.Live)
	}
	a.fields(
		[2]string{"restore", r.ID}, [2]string{"source", r.Source}, [2]string{"of backup", r.Backup},
		[2]string{"what", both(r.Kinds)}, [2]string{"outcome", string(r.Outcome)}, [2]string{"live now", live},
		[2]string{"undo", undo}, [2]string{"problem", r.Problem}, [2]string{"what to do", r.Hint},
		[2]string{"by", r.RequestedBy}, [2]string{"started", a.moment(r.Started)}, [2]string{"ended", a.moment(r.Ended)},
		[2]string{"safety backup", r.SafetyBackup}, [2]string{"without safety backup", r.WithoutSafety},
		[2]string{"put away in backup", r.PutAwayBackup},
	)
	for _, p := range r.Phases {
		a.say("  %8s  %s", control.Span(p.Took), remora.OneLine(p.Name))
	}
	return nil
}
