package schedule

import (
	"slices"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// Known is what is known of a schedule and its slots. Due, History and Runs may hold more than is needed, in any order.
type Known struct {
	Schedule remora.Schedule
	Record   remora.ScheduleRecord
	// Due are all moments after Until, and not after the Horizon, at which the schedule was due: Temporal says it.
	Due []time.Time
	// History are the backups and the runs without one.
	History []remora.Backup
	// Runs are the workflows of slots, as far as Temporal knows them.
	Runs []Run
	// Until is up to when the slots have been accounted for before.
	Until time.Time
	Now   time.Time
}

// Run is the workflow of one slot.
type Run struct {
	Due, Began time.Time
	// Ended is zero while it is at work.
	Ended time.Time
	// Well tells that it ended by itself, and so left what it had to: its backup may have been deleted since.
	Well bool
}

// page is how many slots are recorded at once: after an outage of months the next calls go on.
const page = 200

// settling is how long after the end of a slot's workflow its record may be missing in a history that was read before the
// workflows were: a minute for the reading, and for clocks that differ.
const settling = time.Minute

// Horizon is up to when slots may be judged: a younger one may still be caught up with, or is about to begin.
func Horizon(s remora.Schedule, now time.Time) time.Time {
	return now.Add(-s.CatchUp - s.Spread - time.Minute)
}

// Account gives the records of those slots that nobody has begun, or whose workflow ended without a word, and up to when
// all slots are accounted for then. It goes no further than the first slot that is still at work, and never back. What was
// due before the schedule was made or changed, or while it was paused, is not judged; nor is, until the next time, what
// ended while the history was being read. The records are the same for the
// same slots, so that it does no harm to record them twice.
func Account(k Known) (records []remora.FailedRun, until time.Time) {
	until = later(k.Until, Horizon(k.Schedule, k.Now))
	recorded := map[int64]bool{}
	for _, b := range k.History {
		if k.mine(b) {
			recorded[b.Slot.Due.Unix()] = true
		}
	}
	due := slices.Clone(k.Due)
	slices.SortFunc(due, time.Time.Compare)
	for _, at := range slices.CompactFunc(due, time.Time.Equal) {
		run, began := k.run(at)
		switch {
		case !at.After(k.Until) || at.After(Horizon(k.Schedule, k.Now)) || recorded[at.Unix()]:
		case began && (run.Ended.IsZero() || run.Ended.After(k.Now.Add(-settling))):
			return records, later(k.Until, at.Add(-time.Nanosecond))
		case at.Before(k.Record.Since) || k.Record.Rests(at):
		case len(records) == page:
			return records, records[page-1].Slot.Due
		case began && run.Well:
		case began:
			records = append(records, k.Schedule.Without(remora.Failed, at, "the workflow of the slot was ended in Temporal and left no record", k.Schedule.Again()))
		default:
			records = append(records, k.absent(at))
		}
	}
	return records, until
}

// absent is the record of a slot that did not begin. Temporal begins none while the one before is at work; otherwise
// nobody was there.
func (k Known) absent(at time.Time) remora.FailedRun {
	if other := k.atWork(at); !other.IsZero() {
		return k.Schedule.Without(remora.Skipped, at, "the slot of "+minute(other)+" was still at work", "Let the schedule leave more time between its slots, or see what takes so long: remora history "+k.Schedule.Source)
	}
	why := "nobody was there to begin it: Temporal or every worker was away"
	if b := k.before(at); b != nil {
		why += "; the slot before, of " + minute(b.Slot.Due) + ", ended " + minute(b.Ended)
	}
	return k.Schedule.Without(remora.Missed, at, why, "See that Temporal and a remora-worker are running: remora check. "+k.Schedule.Again())
}

// atWork is the slot that was at work at that moment, if any. A slot that was itself missed only waited for a worker.
// Temporal may have lost its memory, and the repository remembers only when the backup itself was taken: both are asked.
func (k Known) atWork(at time.Time) (other time.Time) {
	missed := map[int64]bool{}
	within := func(due, began, ended time.Time) {
		if due.Before(at) && !began.After(at) && (ended.IsZero() || ended.After(at)) && !missed[due.Unix()] {
			other = due
		}
	}
	for _, b := range k.History {
		if k.mine(b) && b.Status == remora.Missed {
			missed[b.Slot.Due.Unix()] = true
		}
	}
	for _, b := range k.History {
		if k.mine(b) && !b.Ended.IsZero() {
			within(b.Slot.Due, b.Started, b.Ended)
		}
	}
	for _, r := range k.Runs {
		within(r.Due, r.Began, r.Ended)
	}
	return other
}

// before is what is recorded of the last slot before that moment; nil for none.
func (k Known) before(at time.Time) (last *remora.Backup) {
	for i, b := range k.History {
		if k.mine(b) && b.Slot.Due.Before(at) && (last == nil || b.Slot.Due.After(last.Slot.Due)) {
			last = &k.History[i]
		}
	}
	return last
}

// run is the workflow of the slot: the one at work, where there were several.
func (k Known) run(due time.Time) (found Run, ok bool) {
	for _, r := range k.Runs {
		if r.Due.Equal(due) && (!ok || r.Ended.IsZero()) {
			found, ok = r, true
		}
	}
	return found, ok
}

func (k Known) mine(b remora.Backup) bool {
	return b.Source == k.Schedule.Source && b.Slot.Schedule == k.Schedule.Name
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// minute is a moment in a text that may be read anywhere.
func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
