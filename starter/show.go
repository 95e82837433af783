package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/remora"
)

func newShowCommand(a *app) *cobra.Command {
	var source string
	return a.command("show", flags{"source": &source},
		a.with(needRepository, func(ctx context.Context, s *session, args []string) error { return s.show(ctx, args[0], source) }))
}

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
	why := cmp.Or(could, "it could be ") + "the restores " + remora.Few(each(restores, func(r remora.Restore) string { return r.ID }))
	return invalid("find the backup or the restore", strconv.Quote(ref), why, "give a longer beginning of the id")
}

func (a *app) printBackup(b remora.Backup) error { return a.answer(b, a.text("backup", b)) }

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

func (a *app) printRestore(r remora.Restore) error { return a.answer(r, a.text("restore", r)) }
