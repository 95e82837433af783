// Package retention decides which backups stay: a pure function over a list of them. It distrusts itself: it counts
// only what was verified, never lets go of the newest good backup of a source, and refuses a plan that would delete
// more than half of them at once. Who carries a plan out is somebody else.
package retention

import (
	"cmp"
	"slices"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// Policy says how many of the newest backups of each source stay, and for how many days every backup does. 0 means
// that it does not count; the zero value keeps everything.
type Policy struct{ Last, Days int }

// Plan lists the backups to delete, oldest first.
//
// Only completed regular backups are counted, and only regular ones are deleted: what a restore saved ends by a hold of
// its own (S9). Pending backups and failed runs stay. A damaged backup goes when as good a one would, since part of it
// may be the only one; it takes nobody's place. inUse are backups that somebody reads.
func Plan(policy Policy, all []remora.Backup, inUse []string, now time.Time) []remora.Backup {
	if policy == (Policy{}) {
		return nil
	}
	newestFirst := slices.SortedFunc(slices.Values(all), func(a, b remora.Backup) int {
		return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(b.ID, a.ID))
	})
	young := now.AddDate(0, 0, -policy.Days)
	good := map[string]int{} // of each source, newer than the one that is looked at
	var gone []remora.Backup
	for _, b := range newestFirst {
		if b.Purpose != remora.Regular || b.Status != remora.Completed && b.Status != remora.Corrupted {
			continue
		}
		newer := good[b.Source]
		if b.Status == remora.Completed {
			good[b.Source]++
		}
		switch {
		case newer < max(1, policy.Last):
		case policy.Days > 0 && !b.Started.Before(young):
		case slices.Contains(inUse, b.ID):
		default:
			gone = append(gone, b)
		}
	}
	slices.Reverse(gone)
	return gone
}

// Check refuses a plan that deletes more than half of the good backups of a source at once: a mistaken policy, or a
// clock that is wrong, looks like that.
func Check(plan, all []remora.Backup) error {
	good, gone := map[string]int{}, map[string]int{}
	count := func(in map[string]int, list []remora.Backup) {
		for _, b := range list {
			if b.Purpose == remora.Regular && b.Status == remora.Completed {
				in[b.Source]++
			}
		}
	}
	count(good, all)
	count(gone, plan)
	for _, b := range plan {
		if 2*gone[b.Source] > good[b.Source] {
			return remora.Fail(remora.Invalid, "remove what need not be kept", "source "+b.Source,
				"Keep more; or see that it is meant, and that the clock is right, and add --force.", "%d of its %d good backups would be deleted at once; nothing was deleted", gone[b.Source], good[b.Source])
		}
	}
	return nil
}
