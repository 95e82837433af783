package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

func newHistoryCommand(a *app) *cobra.Command {
	var kind, status, since, until string
	limit := 50
	return a.command("history", flags{"kind": &kind, "status": &status, "since": &since, "until": &until, "limit": &limit},
		a.with(needRepository, func(ctx context.Context, s *session, args []string) error {
			filter, err := a.historyFilter(kind, status, since, until, limit)
			if err != nil {
				return err
			}
			if filter.Source, err = s.filterSource(args); err != nil {
				return err
			}
			backups, err := s.repository.List(ctx, filter)
			if err != nil {
				return err
			}
			for i := range backups {
				backups[i].Location = s.copy
			}
			return a.printHistory(backups)
		}))
}

func (a *app) historyFilter(kind, status, since, until string, limit int) (repository.Filter, error) {
	f := repository.Filter{Kind: remora.BackupKind(kind), Status: remora.Status(status), Limit: limit}
	switch f.Kind {
	case "", remora.DatabaseBackup, remora.FilesBackup, remora.FullBackup:
	default:
		return f, badFlag("--kind "+kind, "use database, files or full")
	}
	switch f.Status {
	case "", remora.Pending, remora.Completed, remora.Failed, remora.Corrupted, remora.Skipped, remora.Missed:
	default:
		return f, badFlag("--status "+status, "use completed, pending, failed, corrupt, skipped or missed")
	}
	if limit < 0 {
		return f, badFlag("--limit "+strconv.Itoa(limit), "use 0 or more")
	}
	var err error
	if f.Since, err = a.parseTime("--since", since); err != nil {
		return f, err
	}
	f.Until, err = a.parseTime("--until", until)
	return f, err
}

// parseTime reads a date, a date and time, or an age. Empty means no bound.
func (a *app) parseTime(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	if age, err := parseAge(text); err == nil {
		return a.Now().Add(-age), nil
	}
	return time.Time{}, badFlag(flag+" "+text, "use a date (2026-11-23), a date and time (2026-11-23T02:30), or an age (90m, 12h, 7d)")
}

// parseAge reads a length of time, with days beside what Go knows.
func parseAge(text string) (time.Duration, error) {
	if digits, ok := strings.CutSuffix(text, "d"); ok {
		days, err := strconv.ParseUint(digits, 10, 15)
		return time.Duration(days) * 24 * time.Hour, err
	}
	d, err := time.ParseDuration(text)
	if err == nil && d < 0 {
		err = fmt.Errorf("%q is negative", text)
	}
	return d, err
}

func (a *app) printHistory(backups []remora.Backup) error {
	none := "There is nothing to list. Take a backup with: remora backup"
	head := []string{"BACKUP", "STATUS", "KIND", "STARTED", "AGE", "SIZE", "NEW", "NAME"}
	now := a.Now()
	return list(a, backups, none, head, func(b remora.Backup) []string {
		all, added := "-", "-"
		if len(b.Parts) > 0 {
			all, added = size(b.Bytes()), size(b.Added())
		}
		return []string{b.ID, string(b.Status), string(b.Kind), clock(b.Started), a.age(b.Started), all, added, label(b, now)}
	})
}

// label is a backup's name, and why it was taken when nobody asked for it; or why it failed.
func label(b remora.Backup, now time.Time) string {
	var words []string
	if b.Name != "" {
		words = append(words, b.Name)
	}
	switch b.Purpose {
	case remora.Safety:
		words = append(words, "(before a restore)")
	case remora.PutAway:
		words = append(words, "(put away by a restore)")
	}
	if p := b.Proof; p != nil && p.Outcome == remora.Proven {
		words = append(words, "(proven "+control.Span(now.Sub(p.Started))+" ago, back in "+remora.Timed(p.Took)+")")
	} else if p != nil {
		words = append(words, "(its drill failed)")
	}
	if h := b.ActiveHold(now); h != nil {
		words = append(words, "(held by "+h.By+")")
	}
	if b.Slot.Schedule != "" {
		words = append(words, "("+b.Slot.Schedule+" of "+clock(b.Slot.Due)+")")
	}
	if len(b.Copies) > 0 {
		words = append(words, "(also in "+strings.Join(b.Copies, ", ")+")")
	}
	if b.Problem != "" {
		words = append(words, fit(b.Problem, 80))
	}
	return strings.Join(words, " ")
}
