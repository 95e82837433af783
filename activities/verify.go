package activities

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// maxDue bounds how many backups one run verifies; the others come a day later.
const maxDue = 500

func (r *Repository) due(ctx context.Context, in remora.DueInput) ([]remora.ListedBackup, error) {
	all, err := r.Store.List(ctx)
	if err != nil {
		return nil, err
	}
	turn := dueForVerify(all, r.VerifyDays, time.Now())
	if in.Suspect {
		turn = suspects(all)
	}
	due := []remora.ListedBackup{}
	for _, b := range turn {
		if len(due) < maxDue && !slices.Contains(in.Skip, b.ID) {
			due = append(due, remora.ListedBackup{ID: b.ID, Source: b.Source})
		}
	}
	return due, nil
}

// abandoned is when a backup that was never verified has nobody any more who is about to.
const abandoned = 48 * time.Hour

const day = 24 * time.Hour

// dueForVerify are the backups whose bytes are to be read today, most urgent first, so that all bytes of each are read
// again within so many days. Each day gets about as many bytes: as few as let the days to come, which can be overseen
// already, do with no more.
func dueForVerify(all []remora.Backup, days int, now time.Time) []remora.Backup {
	suspect := suspects(all)
	until := func(b remora.Backup) time.Time {
		switch {
		case b.Verification == nil || slices.ContainsFunc(suspect, func(s remora.Backup) bool { return s.ID == b.ID }):
			return now
		case b.Verification.FullAt.IsZero():
			return b.Started.Add(time.Duration(days) * day)
		default:
			return b.Verification.FullAt.Add(time.Duration(days) * day)
		}
	}
	queue := slices.DeleteFunc(slices.Clone(all), func(b remora.Backup) bool {
		return b.Format > remora.ManifestFormat || b.Status != remora.Completed && b.Status != remora.Corrupted && (b.Status != remora.Pending || now.Sub(b.Started) < abandoned)
	})
	slices.SortStableFunc(queue, func(a, b remora.Backup) int {
		return cmp.Or(until(a).Compare(until(b)), a.Started.Compare(b.Started))
	})
	var sum, share int64
	for _, b := range queue {
		sum += max(1, b.Bytes())
		left := max(1, int64(until(b).Sub(now)/day)) // runs that come before it is late, this one among them
		share = max(share, (sum+left-1)/left)
	}
	for i, b := range queue {
		if share <= 0 {
			return queue[:i]
		}
		share -= max(1, b.Bytes())
	}
	return queue
}

// suspects are completed backups of a source of which another one was found corrupt, after all their own bytes were
// last read: they may share what is lost.
func suspects(all []remora.Backup) []remora.Backup {
	found := map[string]time.Time{}
	for _, b := range all {
		if v := b.Verification; v != nil && b.Status == remora.Corrupted && v.At.After(found[b.Source]) {
			found[b.Source] = v.At
		}
	}
	var some []remora.Backup
	for _, b := range all {
		if v := b.Verification; v != nil && b.Status == remora.Completed && b.Format <= remora.ManifestFormat && v.FullAt.Before(found[b.Source]) {
			some = append(some, b)
		}
	}
	return some
}
