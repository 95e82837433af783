package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

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
		RunE: a.with(needRepository, func(ctx context.Context, s *session, args []string) error {
			return s.show(ctx, args[0], source)
		}),
	}
	cmd.Flags().StringVar(&source, "source", "", "look among the backups of this `source`")
	return cmd
}

const refHelp = "A BACKUP is its id, a unique beginning of that, its name, or latest:\nthe newest completed backup of --source, or of the only source."

// show prints the backup or the restore that ref means. The beginning of an id must be unique among both.
func (s *session) show(ctx context.Context, ref, source string) error {
	b, err := s.backup(ctx, ref, source, "")
	could := "" // which backups could be meant, when the beginning of an id was given
	switch kind := remora.KindOf(err); {
	case err == nil && ref != b.ID && ref != b.Name && ref != "latest":
		could = "it could be " + b.ID + ", or "
	case err == nil:
		return s.app.printBackup(b)
	case kind == remora.Invalid && ref != "":
		could = fmt.Sprint(errors.Unwrap(err)) + ", or "
	case kind != remora.NotFound:
		return err
	}
	restores, listErr := s.repository.Restores(ctx, source)
	if listErr != nil {
		return listErr
	}
	var begin []remora.Restore
	for _, r := range restores {
		if r.ID == ref {
			return s.app.printRestore(r)
		}
		if ref != "" && strings.HasPrefix(r.ID, ref) {
			begin = append(begin, r)
		}
	}
	switch {
	case len(begin) == 0 && err == nil:
		return s.app.printBackup(b)
	case len(begin) == 0:
		return err
	case len(begin) == 1 && could == "":
		return s.app.printRestore(begin[0])
	}
	return ambiguous(ref, could, begin)
}

// ambiguous says what the beginning of an id could mean: could names the backups.
func ambiguous(ref, could string, restores []remora.Restore) error {
	const shown = 5
	var names []string
	for _, r := range restores[:min(shown, len(restores))] {
		names = append(names, r.ID)
	}
	why := cmp.Or(could, "it could be ") + "the restores " + strings.Join(names, ", ")
	if more := len(restores) - shown; more > 0 {
		why += fmt.Sprintf(" and %d more", more)
	}
	return invalid("find the backup or the restore", strconv.Quote(ref), why, "give a longer beginning of the id")
}

func (a *app) printBackup(b remora.Backup) error {
	return a.answer(b, func() { a.sayBackup(b) })
}

func (a *app) sayBackup(b remora.Backup) {
	took, stored := "", ""
	if !b.Ended.IsZero() {
		took = control.Span(b.Ended.Sub(b.Started))
	}
	if len(b.Parts) > 0 {
		stored = fmt.Sprintf("%s, of which %s were new", size(b.Bytes()), size(b.Added()))
	}
	what, due := "backup", ""
	if b.Status == remora.Skipped || b.Status == remora.Missed {
		what, took = "slot", ""
	}
	if b.Slot.Schedule != "" {
		due = b.Slot.Schedule + ", due " + a.moment(b.Slot.Due)
	}
	a.fields(
		[2]string{what, b.ID}, [2]string{"name", b.Name}, [2]string{"source", b.Source}, [2]string{"schedule", due},
		[2]string{"status", string(b.Status)}, [2]string{"problem", b.Problem}, [2]string{"in phase", b.Phase},
		[2]string{"what to do", b.Hint},
		[2]string{holds(b), string(b.Kind)}, [2]string{"taken", purpose(b)}, [2]string{"by", b.RequestedBy},
		[2]string{"started", a.moment(b.Started)}, [2]string{"took", took},
		[2]string{"size", stored}, [2]string{"verified", a.verified(b)}, [2]string{"held", a.held(b)},
		[2]string{"copies", strings.Join(b.Copies, ", ")}, [2]string{"read from", readFrom(b)}, [2]string{"tool", b.Tool},
	)
	for _, part := range b.Parts {
		a.say("\n%s", part.Kind)
		a.say("  %s; %s new; %s", counts(part.Kind, part.Summary), size(part.Added), control.Span(part.Ended.Sub(part.Started)))
		for _, name := range slices.Sorted(maps.Keys(part.Summary.Facts)) {
			a.say("  %s: %s", remora.OneLine(name), remora.OneLine(part.Summary.Facts[name]))
		}
		a.notes("  ", part.Summary.Warnings)
	}
	for _, k := range b.Empty {
		a.say("\n%s\n  nothing was live", k)
	}
	a.notes("\n", b.Warnings)
}

// held says by whom a backup is held, and why.
func (a *app) held(b remora.Backup) string {
	h := b.ActiveHold(a.Now())
	if h == nil {
		return ""
	}
	until := ""
	if !h.Until.IsZero() {
		until = " until " + a.moment(h.Until)
	}
	return strings.TrimSuffix("by "+h.By+until+": "+h.Why, ": ")
}

// holds says what the kind of a backup means where there is none.
func holds(b remora.Backup) string {
	if b.Status.NoBackup() {
		return "meant to hold"
	}
	return "holds"
}

// readFrom says that a backup is read from a copy, and why.
func readFrom(b remora.Backup) string {
	if b.Location == "" {
		return ""
	}
	return "the copy " + b.Location + "; " + b.Because
}

func purpose(b remora.Backup) string {
	switch {
	case b.Status == remora.Skipped || b.Status == remora.Missed:
		return "not at all"
	case b.Slot.Schedule != "":
		return "by a schedule"
	}
	switch b.Purpose {
	case remora.Safety:
		return "of what was live before the restore " + b.OfRestore
	case remora.PutAway:
		return "of what the restore " + b.OfRestore + " put away, before that was removed"
	default:
		return "on request"
	}
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
		said := fmt.Sprintf("%s, %s read back", a.moment(v.At), size(v.Bytes))
		switch {
		case v.FullAt.IsZero():
			said += "; all bytes: not yet"
		case v.FullAt.Equal(v.At):
			said += ", which is all bytes"
		default:
			said += "; all bytes: " + a.moment(v.FullAt)
		}
		return said
	}
}

func (a *app) printRestore(r remora.Restore) error {
	return a.answer(r, func() { a.sayRestore(r) })
}

func (a *app) sayRestore(r remora.Restore) {
	undo := ""
	if r.Outcome.Open() {
		undo = a.until(r.KeepUntil) + "; remora rollback " + r.Source + " or remora accept " + r.Source
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
	a.notes("  ", r.Warnings)
	for _, p := range r.Phases {
		by := ""
		if p.RequestedBy != "" {
			by = ", by " + p.RequestedBy
		}
		a.say("  %8s  %s", control.Span(p.Took), remora.OneLine(p.Name+by))
	}
}
