// Package retention decides which backups stay: a pure function over what there is. It distrusts itself: it counts only
// what was verified, never lets go of the newest good backup of a source or of one of its components, and refuses a plan
// that looks like a mistaken policy, a wrong clock or a broken application. Who carries a plan out is somebody else.
//
// A backup stays while any rule keeps it, and every rule asks how many good backups are newer than it. So nothing that
// goes makes anything else go, and a damaged backup, which takes nobody's place, goes when as good a one would.
package retention

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

const (
	day = 24 * time.Hour
	// putAwayStays is how long a backup of what a restore put away stays, and one whose restore nobody knows.
	putAwayStays = 30 * day
	// pendingStays is how long a backup that nobody verified stays, and failuresStay the record of a failed run.
	pendingStays = 7 * day
	failuresStay = 400 * day
	// maxSkew is how far the clocks of worker and storage may be apart (I15).
	maxSkew = 5 * time.Minute
)

// Make decides about everything in an inventory; a source narrows it to one. policy gives what is to be kept of a
// source, and its zero value keeps everything.
func Make(in remora.Inventory, policy func(source string) remora.KeepPolicy, source string) remora.RetentionPlan {
	oldestFirst := slices.SortedFunc(slices.Values(in.Backups), func(a, b remora.Backup) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	d := &decider{in: in, policy: policy, newer: map[string]*counts{}}
	plan := remora.RetentionPlan{At: in.Now}
	for _, b := range slices.Backward(oldestFirst) {
		if source != "" && b.Source != source {
			continue
		}
		v := remora.Verdict{
			Backup: b.ID, Source: b.Source, Kind: b.Kind, Status: b.Status, Purpose: b.Purpose, Started: b.Started,
		}
		v.Delete, v.Why = d.decide(b)
		plan.Verdicts = append(plan.Verdicts, v)
	}
	slices.Reverse(plan.Verdicts)
	refuse(&plan, d.newer, in.Skew)
	plan.Seal()
	return plan
}

// decider goes from the newest backup to the oldest.
type decider struct {
	in     remora.Inventory
	policy func(source string) remora.KeepPolicy
	newer  map[string]*counts // of each source
}

// counts are what is newer than the backup that is looked at, and counts.
type counts struct {
	good    []remora.Backup
	safety  int
	periods [4]map[string]bool // the days, weeks, months and years that have a good one
}

// decide tells whether a backup goes, and why or why not.
func (d *decider) decide(b remora.Backup) (gone bool, why string) {
	n := d.newer[b.Source]
	if n == nil {
		n = &counts{periods: [4]map[string]bool{{}, {}, {}, {}}}
		d.newer[b.Source] = n
	}
	policy := d.policy(b.Source)
	defer func() { // only what is older sees it
		if b.Status == remora.Completed && b.Format <= remora.ManifestFormat {
			switch {
			case b.Purpose == remora.Safety:
				n.safety++
			case b.Purpose == remora.Regular && !d.inWindow(b):
				n.add(b)
			}
		}
	}()
	if why := d.claimed(b); why != "" {
		return false, why
	}
	switch age := d.in.Now.Sub(b.Started); {
	case policy == (remora.KeepPolicy{}):
		return false, "nothing is configured about what to keep of " + b.Source
	case b.Format > remora.ManifestFormat:
		return false, "a newer remora wrote it"
	case b.Status == remora.Failed || b.Status == remora.Skipped || b.Status == remora.Missed:
		return age > failuresStay, fmt.Sprintf("%s; such records stay %d days", b.Status, failuresStay/day)
	case b.Status == remora.Pending:
		return age > pendingStays && n.lacks(b) == "", fmt.Sprintf("pending; it stays %d days, and until there is a newer good one", pendingStays/day)
	case b.Purpose == remora.Safety:
		return d.safety(b, n, policy)
	case b.Purpose != remora.Regular:
		return age > putAwayStays, fmt.Sprintf("what a restore put away stays %d days", putAwayStays/day)
	}
	why = kept(b, n, policy, d.in.Now)
	switch {
	case why == "" && b.Status == remora.Corrupted:
		return true, "damaged, and as good a one would go"
	case why == "":
		return true, "no rule keeps it: " + rules(policy, b)
	case b.Status == remora.Corrupted:
		return false, "damaged, and in the place of a good one: " + why
	case d.inWindow(b):
		return false, "taken in an undo window, and takes nobody's place: " + why
	}
	return false, why
}

// claimed says who holds a backup or reads it now; holds win over everything.
func (d *decider) claimed(b remora.Backup) string {
	if h := b.ActiveHold(d.in.Now); h != nil {
		until := ""
		if !h.Until.IsZero() {
			until = " until " + moment(h.Until)
		}
		return strings.TrimSuffix("held by "+h.By+until+": "+h.Why, ": ")
	}
	for _, l := range d.in.Leases {
		if l.Backup == b.ID && d.in.Now.Before(l.Until) {
			return "read by " + l.What + " now"
		}
	}
	for _, r := range d.in.Restores {
		if r.Backup == b.ID && r.Outcome == remora.OutcomeRunning {
			return "read by the restore " + r.ID + " now"
		}
	}
	return ""
}

// inWindow tells whether a backup was taken inside an undo window: what it holds may have been undone since (S9).
func (d *decider) inWindow(b remora.Backup) bool {
	return slices.ContainsFunc(d.in.Restores, func(r remora.Restore) bool {
		return r.Source == b.Source && r.Live != "" && !b.Started.Before(r.Started) && (r.Outcome.Open() || b.Started.Before(r.Ended))
	})
}

// safety keeps what was live before a restore to the end of its undo window, and the newest of them.
func (d *decider) safety(b remora.Backup, n *counts, policy remora.KeepPolicy) (gone bool, why string) {
	at := slices.IndexFunc(d.in.Restores, func(r remora.Restore) bool { return r.ID == b.OfRestore })
	switch {
	case at < 0 && d.in.Now.Sub(b.Started) <= putAwayStays:
		return false, fmt.Sprintf("safety backup of a restore that is not known; it stays %d days", putAwayStays/day)
	case at >= 0 && d.in.Restores[at].Outcome.Unsettled():
		until := "somebody ends it"
		if end := d.in.Restores[at].KeepUntil; !end.IsZero() {
			until = moment(end)
		}
		return false, "safety backup of a restore whose window is open until " + until
	case n.safety < max(1, policy.Last):
		return false, fmt.Sprintf("safety backup %d of %d", n.safety+1, max(1, policy.Last))
	}
	return true, "safety backup of a restore that has ended"
}

// kept is the first rule that keeps a backup; empty when none does.
func kept(b remora.Backup, n *counts, policy remora.KeepPolicy, now time.Time) string {
	if kind := n.lacks(b); kind != "" {
		return "newest good (" + string(kind) + ")"
	}
	if len(n.good) < policy.Last {
		return fmt.Sprintf("last %d of %d", len(n.good)+1, policy.Last)
	}
	for _, kind := range kinds(b) {
		if days := daysOf(policy, b, kind); now.Sub(b.Started) <= time.Duration(days)*day {
			return fmt.Sprintf("within %d days (%s)", days, kind)
		}
	}
	for i, rule := range periodRules(policy) {
		if met := n.periods[i]; !met[rule.of(b.Started)] && len(met) < rule.keep {
			return fmt.Sprintf("%s %d of %d", rule.name, len(met)+1, rule.keep)
		}
	}
	return ""
}

func daysOf(policy remora.KeepPolicy, b remora.Backup, kind remora.Kind) int {
	switch {
	case b.RetentionDays > 0:
		return b.RetentionDays
	case kind == remora.Database:
		return policy.DatabaseDays
	}
	return policy.FilesDays
}

// rules says in words what a policy keeps of backups like b.
func rules(policy remora.KeepPolicy, b remora.Backup) string {
	var words []string
	add := func(n int, format string, args ...any) {
		if n > 0 {
			words = append(words, fmt.Sprintf(format, append([]any{n}, args...)...))
		}
	}
	add(policy.Last, "last %d")
	for _, kind := range kinds(b) {
		add(daysOf(policy, b, kind), "%d days (%s)", kind)
	}
	for _, rule := range periodRules(policy) {
		add(rule.keep, "%d "+rule.name)
	}
	return strings.Join(words, ", ")
}

// periodRule keeps the newest good backup of each of so many periods that have one.
type periodRule struct {
	name string
	keep int
	of   func(time.Time) string
}

// periodRules are in the order of counts.periods. Periods are those of UTC, where none is skipped or repeated.
func periodRules(p remora.KeepPolicy) [4]periodRule {
	in := func(layout string) func(time.Time) string {
		return func(t time.Time) string { return t.UTC().Format(layout) }
	}
	return [4]periodRule{
		{"daily", p.Daily, in("2006-01-02")},
		{"weekly", p.Weekly, func(t time.Time) string {
			year, week := t.UTC().ISOWeek()
			return fmt.Sprintf("%d-%d", year, week)
		}},
		{"monthly", p.Monthly, in("2006-01")},
		{"yearly", p.Yearly, in("2006")},
	}
}

func (n *counts) add(b remora.Backup) {
	n.good = append(n.good, b)
	for i, rule := range periodRules(remora.KeepPolicy{}) {
		n.periods[i][rule.of(b.Started)] = true
	}
}

// lacks is a component of a backup of which there is no newer good one; empty where there are of all.
func (n *counts) lacks(b remora.Backup) remora.Kind {
	for _, kind := range kinds(b) {
		if !slices.ContainsFunc(n.good, func(g remora.Backup) bool { return slices.Contains(kinds(g), kind) }) {
			return kind
		}
	}
	return ""
}

func kinds(b remora.Backup) []remora.Kind {
	switch b.Kind {
	case remora.DatabaseBackup:
		return []remora.Kind{remora.Database}
	case remora.FilesBackup:
		return []remora.Kind{remora.Files}
	default:
		return []remora.Kind{remora.Database, remora.Files}
	}
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// refuse marks what is not deleted without a person's word.
func refuse(plan *remora.RetentionPlan, newer map[string]*counts, skew time.Duration) {
	if skew.Abs() > maxSkew {
		plan.Refusals = append(plan.Refusals, remora.Refusal{
			Why: fmt.Sprintf("the clocks of this worker and of the storage are %s apart", skew.Abs().Round(time.Second)),
		})
	}
	good, gone := map[string]int{}, map[string]int{}
	for _, v := range plan.Verdicts {
		if v.Status != remora.Completed || v.Purpose != remora.Regular {
			continue
		}
		good[v.Source]++
		if v.Delete {
			gone[v.Source]++
		}
	}
	for _, source := range slices.Sorted(maps.Keys(gone)) {
		why := suspect(newer[source].good)
		if 2*gone[source] > good[source] {
			why = fmt.Sprintf("%d of the %d good backups of %s would be deleted at once", gone[source], good[source], source)
		}
		if why != "" {
			plan.Refusals = append(plan.Refusals, remora.Refusal{Source: source, Why: why})
		}
	}
	for i, v := range plan.Verdicts {
		plan.Verdicts[i].Refused = v.Delete && slices.ContainsFunc(plan.Refusals, func(r remora.Refusal) bool {
			return r.Source == "" || r.Source == v.Source
		})
	}
}

// suspect says whether the newest good backup holds much less than the one before it, component by component.
func suspect(newestFirst []remora.Backup) string {
	for _, kind := range []remora.Kind{remora.Database, remora.Files} {
		var of []remora.Backup
		for _, b := range newestFirst {
			if part, ok := b.Part(kind); ok && len(of) < 2 {
				b.Parts = []remora.PartRef{part}
				of = append(of, b)
			}
		}
		if len(of) == 2 {
			if why := Suspect(of[0], of[1]); why != "" {
				return "the newest backup " + of[0].ID + " is suspect: " + why
			}
		}
	}
	return ""
}

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
