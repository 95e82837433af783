package retention

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/remora-backup/remora/internal/remora"
)

var now = time.Date(2026, 11, 27, 3, 30, 0, 0, time.UTC)

func backup(source string, n int, daysAgo int, status remora.Status, purpose remora.Purpose) remora.Backup {
	b := remora.Backup{Status: status}
	b.ID, b.Source, b.Purpose, b.Started = fmt.Sprintf("%s-%02d", source, n), source, purpose, now.AddDate(0, 0, -daysAgo)
	b.Kind = remora.FullBackup
	return b
}

// nights are n good backups, one each night, the newest first.
func nights(n int) (all []remora.Backup) {
	for i := range n {
		all = append(all, backup("shop", i, i, remora.Completed, remora.Regular))
	}
	return all
}

func always(p remora.KeepPolicy) func(string) remora.KeepPolicy {
	return func(string) remora.KeepPolicy { return p }
}

func of(all ...remora.Backup) remora.Inventory { return remora.Inventory{Now: now, Backups: all} }

// verdict is what a plan says of one backup: "keep" or "delete" or "refused", and why.
func verdict(t *testing.T, p remora.RetentionPlan, id string) string {
	t.Helper()
	at := slices.IndexFunc(p.Verdicts, func(v remora.Verdict) bool { return v.Backup == id })
	require.GreaterOrEqual(t, at, 0, id)
	switch v := p.Verdicts[at]; {
	case v.Refused:
		return "refused: " + v.Why
	case v.Delete:
		return "delete: " + v.Why
	default:
		return "keep: " + v.Why
	}
}

func TestEveryVerdictSaysWhy(t *testing.T) {
	restore := func(how remora.Outcome, from, to int) remora.Restore {
		r := remora.Restore{ID: "r", Source: "shop", Outcome: how, Live: remora.Restored, Started: now.AddDate(0, 0, -from)}
		if r.KeepUntil = now.AddDate(0, 0, 1); to >= 0 {
			r.Ended = now.AddDate(0, 0, -to)
		}
		return r
	}
	seven := remora.KeepPolicy{Last: 7}
	for name, c := range map[string]struct {
		policy remora.KeepPolicy
		change func(in *remora.Inventory)
		about  int // which of ten nights
		says   string
	}{
		"nothing said keeps all":       {remora.KeepPolicy{}, nil, 9, "keep: nothing is configured about what to keep of shop"},
		"the last ones":                {seven, nil, 6, "keep: last 7 of 7"},
		"no rule":                      {seven, nil, 7, "delete: no rule keeps it: last 7"},
		"the newest, whatever is said": {remora.KeepPolicy{Last: 1}, func(in *remora.Inventory) { in.Now = now.AddDate(5, 0, 0) }, 0, "keep: newest good (database)"},
		"database days":                {remora.KeepPolicy{Last: 1, DatabaseDays: 8, FilesDays: 2}, nil, 8, "keep: within 8 days (database)"},
		"files days":                   {remora.KeepPolicy{Last: 1, DatabaseDays: 2, FilesDays: 8}, nil, 8, "keep: within 8 days (files)"},
		"older than either":            {remora.KeepPolicy{Last: 1, DatabaseDays: 2, FilesDays: 8}, nil, 9, "delete: no rule keeps it: last 1, 2 days (database), 8 days (files)"},
		"only what it holds": {
			remora.KeepPolicy{Last: 1, DatabaseDays: 2, FilesDays: 8},
			func(in *remora.Inventory) { in.Backups[8].Kind = remora.DatabaseBackup },
			8, "delete: no rule keeps it: last 1, 2 days (database)",
		},
		"the days of its schedule": {remora.KeepPolicy{Last: 1, DatabaseDays: 2}, func(in *remora.Inventory) { in.Backups[9].RetentionDays = 9 }, 9, "keep: within 9 days (database)"},
		"fewer days of its schedule": {
			remora.KeepPolicy{Last: 1, DatabaseDays: 30, FilesDays: 30},
			func(in *remora.Inventory) { in.Backups[9].RetentionDays = 3 },
			9, "delete: no rule keeps it: last 1, 3 days (database), 3 days (files)",
		},
		"daily":         {remora.KeepPolicy{Last: 1, Daily: 3}, nil, 2, "keep: daily 3 of 3"},
		"weekly":        {remora.KeepPolicy{Last: 1, Weekly: 2}, nil, 5, "keep: weekly 2 of 2"}, // 2026-11-22 was a Sunday
		"monthly":       {remora.KeepPolicy{Last: 1, Monthly: 2}, func(in *remora.Inventory) { in.Backups[9].Started = now.AddDate(0, -3, 0) }, 9, "keep: monthly 2 of 2"},
		"yearly":        {remora.KeepPolicy{Last: 1, Yearly: 2}, func(in *remora.Inventory) { in.Backups[9].Started = now.AddDate(-3, 0, 0) }, 9, "keep: yearly 2 of 2"},
		"held for ever": {seven, func(in *remora.Inventory) { in.Backups[9].Hold = &remora.Hold{By: "alice", Why: "audit"} }, 9, "keep: held by alice: audit"},
		"held until": {seven, func(in *remora.Inventory) {
			in.Backups[9].Hold = &remora.Hold{By: "alice", Until: now.AddDate(0, 0, 1)}
		}, 9, "keep: held by alice until 2026-11-28 03:30 UTC"},
		"no longer held": {seven, func(in *remora.Inventory) { in.Backups[9].Hold = &remora.Hold{By: "alice", Until: now} }, 9, "delete: no rule keeps it: last 7"},
		"S29: leased": {seven, func(in *remora.Inventory) {
			in.Leases = []remora.Lease{{Backup: "shop-09", What: "a drill of shop", Until: now.Add(time.Hour)}}
		}, 9, "keep: read by a drill of shop now"},
		"S29: no longer leased": {seven, func(in *remora.Inventory) { in.Leases = []remora.Lease{{Backup: "shop-09", Until: now}} }, 9, "delete: no rule keeps it: last 7"},
		"S29: restored": {seven, func(in *remora.Inventory) {
			in.Restores = []remora.Restore{{ID: "r", Backup: "shop-09", Outcome: remora.OutcomeRunning}}
		}, 9, "keep: read by the restore r now"},
		"a damaged one takes no place": {seven, func(in *remora.Inventory) { in.Backups[0].Status = remora.Corrupted }, 7, "keep: last 7 of 7"},
		"a damaged one in a place":     {seven, func(in *remora.Inventory) { in.Backups[3].Status = remora.Corrupted }, 3, "keep: damaged, and in the place of a good one: last 4 of 7"},
		"a damaged one out of it":      {seven, func(in *remora.Inventory) { in.Backups[9].Status = remora.Corrupted }, 9, "delete: damaged, and as good a one would go"},
		"pending":                      {remora.KeepPolicy{Last: 1}, func(in *remora.Inventory) { in.Backups[7].Status = remora.Pending }, 7, "keep: pending; it stays 7 days, and until there is a newer good one"},
		"long pending":                 {seven, func(in *remora.Inventory) { in.Backups[8].Status = remora.Pending }, 8, "delete: pending; it stays 7 days, and until there is a newer good one"},
		"long pending, and nothing newer": {seven, func(in *remora.Inventory) {
			for i := range in.Backups {
				in.Backups[i].Status = remora.Pending
			}
		}, 9, "keep: pending; it stays 7 days, and until there is a newer good one"},
		"a newer format": {seven, func(in *remora.Inventory) { in.Backups[9].Format = 99 }, 9, "keep: a newer remora wrote it"},
		"a failure":      {seven, func(in *remora.Inventory) { in.Backups[9].Status = remora.Failed }, 9, "keep: failed; such records stay 400 days"},
		"an old failure": {seven, func(in *remora.Inventory) {
			in.Backups[9].Status, in.Backups[9].Started = remora.Missed, now.AddDate(0, 0, -401)
		}, 9, "delete: missed; such records stay 400 days"},
		"S9: put away": {remora.KeepPolicy{Last: 1}, func(in *remora.Inventory) { in.Backups[9].Purpose = remora.PutAway }, 9, "keep: what a restore put away stays 30 days"},
		"S9: put away long ago": {seven, func(in *remora.Inventory) {
			in.Backups[9].Purpose, in.Backups[9].Started = remora.PutAway, now.AddDate(0, 0, -31)
		}, 9, "delete: what a restore put away stays 30 days"},
		"S9: safety in its window": {remora.KeepPolicy{Last: 1}, func(in *remora.Inventory) {
			in.Backups[1].Purpose = remora.Safety // which takes the one place
			in.Backups[9].Purpose, in.Backups[9].OfRestore = remora.Safety, "r"
			in.Restores = []remora.Restore{restore(remora.OutcomeUndone, 9, -1)}
		}, 9, "keep: safety backup of a restore whose window is open until 2026-11-28 03:30 UTC"},
		"S9: the newest safety after its window": {remora.KeepPolicy{Last: 1}, func(in *remora.Inventory) {
			in.Backups[9].Purpose, in.Backups[9].OfRestore = remora.Safety, "r"
			in.Restores = []remora.Restore{restore(remora.OutcomeAccepted, 9, 8)}
		}, 9, "keep: safety backup 1 of 1"},
		"S9: an older safety after its window": {remora.KeepPolicy{Last: 1}, func(in *remora.Inventory) {
			in.Backups[1].Purpose = remora.Safety
			in.Backups[9].Purpose, in.Backups[9].OfRestore = remora.Safety, "r"
			in.Restores = []remora.Restore{restore(remora.OutcomeAccepted, 9, 8)}
		}, 9, "refused: safety backup of a restore that has ended"},
		"S9: what is taken in a window takes no place": {seven, func(in *remora.Inventory) {
			in.Restores = []remora.Restore{restore(remora.OutcomeApplied, 3, -1)}
		}, 9, "keep: last 6 of 7"},
		"S9: also when the window is over": {seven, func(in *remora.Inventory) {
			in.Restores = []remora.Restore{restore(remora.OutcomeAccepted, 3, 1)} // nights 3 and 2, but not 1
		}, 8, "keep: last 7 of 7"},
		"S9: and stays as long as another one would": {seven, func(in *remora.Inventory) {
			in.Restores = []remora.Restore{restore(remora.OutcomeAccepted, 3, 1)}
		}, 3, "keep: taken in an undo window, and takes nobody's place: last 3 of 7"},
	} {
		t.Run(name, func(t *testing.T) {
			in := of(nights(10)...)
			if c.change != nil {
				c.change(&in)
			}
			require.Equal(t, c.says, verdict(t, Make(in, always(c.policy), ""), fmt.Sprintf("shop-%02d", c.about)))
		})
	}
}

// The newest that holds a database and the newest that holds files are seldom the same.
func TestTheNewestGoodOfEachComponentStays(t *testing.T) {
	all := nights(9)
	for i := range all {
		all[i].Kind = remora.DatabaseBackup
	}
	all[7].Kind, all[8].Kind = remora.FilesBackup, remora.FilesBackup
	in := of(all...)
	in.Now = now.AddDate(3, 0, 0)
	plan := Make(in, always(remora.KeepPolicy{Last: 5}), "")
	require.Equal(t, "keep: newest good (files)", verdict(t, plan, "shop-07"))
	require.Contains(t, verdict(t, plan, "shop-08"), "delete: ")
}

func part(kind remora.Kind, bytes, entries int64) remora.PartRef {
	return remora.PartRef{Kind: kind, Summary: remora.Summary{Bytes: bytes, Entries: entries}}
}

func TestRefusals(t *testing.T) {
	sized := func(all []remora.Backup, at int, parts ...remora.PartRef) { all[at].Parts = parts }
	for name, c := range map[string]struct {
		last   int
		change func(in *remora.Inventory)
		says   []string
	}{
		"half is no refusal":  {5, nil, nil},
		"F42: more than half": {4, nil, []string{"6 of the 10 good backups of shop would be deleted at once"}},
		"I15: a clock":        {5, func(in *remora.Inventory) { in.Skew = -6 * time.Minute }, []string{"the clocks of this worker and of the storage are 6m0s apart"}},
		"fewer bytes": {5, func(in *remora.Inventory) {
			sized(in.Backups, 0, part(remora.Database, 49, 10))
			sized(in.Backups, 1, part(remora.Database, 100, 10))
		}, []string{"the newest backup shop-00 is suspect: its database has 49 bytes, the one before had 100"}},
		"fewer files, and the one before held none": {5, func(in *remora.Inventory) {
			sized(in.Backups, 0, part(remora.Files, 100, 1))
			sized(in.Backups, 1, part(remora.Database, 1, 1))
			sized(in.Backups, 2, part(remora.Files, 100, 3))
		}, []string{"the newest backup shop-00 is suspect: its files has 1 files, the one before had 3"}},
		"half as many are not suspect": {5, func(in *remora.Inventory) {
			sized(in.Backups, 0, part(remora.Files, 50, 5))
			sized(in.Backups, 1, part(remora.Files, 100, 10))
		}, nil},
		"nothing to delete is never refused": {10, func(in *remora.Inventory) {
			sized(in.Backups, 0, part(remora.Files, 1, 1))
			sized(in.Backups, 1, part(remora.Files, 100, 10))
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			in := of(nights(10)...)
			if c.change != nil {
				c.change(&in)
			}
			plan := Make(in, always(remora.KeepPolicy{Last: c.last}), "")
			var says []string
			for _, r := range plan.Refusals {
				says = append(says, r.Why)
			}
			require.Equal(t, c.says, says)
			if c.says != nil {
				require.Empty(t, plan.Deletes())
			}
		})
	}
}

// F42: all recent runs failed, or there is no good one: nothing good goes.
func TestNothingGoodGoesWhenAllRecentRunsFailed(t *testing.T) {
	all := nights(10)
	for i := range 8 {
		all[i].Status = []remora.Status{remora.Failed, remora.Skipped, remora.Missed, remora.Pending}[i%4]
	}
	in := of(all...)
	in.Now = now.AddDate(1, 0, 0)
	require.Empty(t, Make(in, always(remora.KeepPolicy{Last: 2, DatabaseDays: 1}), "").Deletes())
	all[8].Status, all[9].Status = remora.Corrupted, remora.Corrupted
	for _, id := range Make(in, always(remora.KeepPolicy{Last: 2, DatabaseDays: 1}), "").Deletes() {
		t.Errorf("%s goes, and there is no good one", id)
	}
}

// What is refused of one source keeps nothing of another; the hash is that of what is refused, and stays the same while
// the rest goes; only that hash lifts the refusal.
func TestARefusalIsOfOneSourceAndIsLiftedByItsHash(t *testing.T) {
	all := nights(10)
	for i := range 6 {
		all = append(all, backup("blog", i, i, remora.Completed, remora.Regular))
	}
	policy := func(source string) remora.KeepPolicy {
		return map[string]remora.KeepPolicy{"shop": {Last: 2}, "blog": {Last: 5}}[source]
	}
	plan := Make(of(all...), policy, "")
	require.Equal(t, []string{"blog-05"}, plan.Deletes())
	rest := slices.DeleteFunc(slices.Clone(all), func(b remora.Backup) bool { return b.ID == "blog-05" })
	later := of(rest...)
	later.Now = now.Add(time.Hour)
	again := Make(later, policy, "")
	require.Empty(t, again.Deletes())
	require.Equal(t, plan.Hash, again.Hash)
	require.False(t, again.Force("another"))
	require.Empty(t, again.Deletes())
	require.True(t, again.Force(plan.Hash))
	require.Len(t, again.Deletes(), 8)
	newer := Make(of(append(rest, backup("shop", 99, -1, remora.Completed, remora.Regular))...), policy, "")
	require.NotEqual(t, plan.Hash, newer.Hash, "it would delete another one as well")
	require.Empty(t, Make(of(all...), policy, "blog").Refusals, "nobody asked about the other source")
}

// oracle decides about one backup alone, by counting in the whole list, as somebody with paper would.
func oracle(in remora.Inventory, p remora.KeepPolicy, b remora.Backup) (stays bool) {
	window := func(b remora.Backup) bool {
		for _, r := range in.Restores {
			over := r.Outcome == remora.OutcomeAccepted && !b.Started.Before(r.Ended)
			if r.Source == b.Source && r.Live != "" && !b.Started.Before(r.Started) && !over {
				return true
			}
		}
		return false
	}
	has := func(b remora.Backup, k remora.Kind) bool {
		return b.Kind == remora.FullBackup || string(b.Kind) == string(k)
	}
	newer := func(count func(other remora.Backup) bool) (n int) {
		for _, o := range in.Backups {
			if (o.Started.After(b.Started) || o.Started.Equal(b.Started) && o.ID > b.ID) && o.Source == b.Source && o.Status == remora.Completed && count(o) {
				n++
			}
		}
		return n
	}
	good := func(o remora.Backup) bool { return o.Purpose == remora.Regular && !window(o) }
	if b.Hold != nil && (b.Hold.Until.IsZero() || b.Hold.Until.After(in.Now)) || p == (remora.KeepPolicy{}) {
		return true
	}
	for _, l := range in.Leases {
		if l.Backup == b.ID && l.Until.After(in.Now) {
			return true
		}
	}
	days := in.Now.Sub(b.Started).Hours() / 24
	newest := func(k remora.Kind) bool {
		return has(b, k) && newer(func(o remora.Backup) bool { return good(o) && has(o, k) }) == 0
	}
	switch {
	case b.Status == remora.Failed:
		return days <= 400
	case b.Status == remora.Pending:
		return days <= 7 || newest(remora.Database) || newest(remora.Files)
	case b.Purpose == remora.PutAway:
		return days <= 30
	case b.Purpose == remora.Safety:
		for _, r := range in.Restores {
			if r.ID == b.OfRestore {
				return r.Outcome == remora.OutcomeApplied || newer(func(o remora.Backup) bool { return o.Purpose == remora.Safety }) < p.Last
			}
		}
		return days <= 30 || newer(func(o remora.Backup) bool { return o.Purpose == remora.Safety }) < p.Last
	}
	database, files := float64(p.DatabaseDays), float64(p.FilesDays)
	if b.RetentionDays > 0 {
		database, files = float64(b.RetentionDays), float64(b.RetentionDays)
	}
	if newest(remora.Database) || newest(remora.Files) || newer(good) < p.Last ||
		has(b, remora.Database) && days <= database || has(b, remora.Files) && days <= files {
		return true
	}
	week := func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprint(y, w) }
	for _, period := range []struct {
		keep int
		name func(time.Time) string
	}{
		{p.Daily, func(t time.Time) string { return t.Format(time.DateOnly) }},
		{p.Weekly, week},
		{p.Monthly, func(t time.Time) string { return t.Format("2006-01") }},
		{p.Yearly, func(t time.Time) string { return t.Format("2006") }},
	} {
		met, same := map[string]bool{}, false
		newer(func(o remora.Backup) bool {
			if good(o) {
				met[period.name(o.Started)] = true
				same = same || period.name(o.Started) == period.name(b.Started)
			}
			return false
		})
		if !same && len(met) < period.keep {
			return true
		}
	}
	return false
}

func draw(t *rapid.T) (remora.Inventory, remora.KeepPolicy) {
	number := func(name string, least, most int) int { return rapid.IntRange(least, most).Draw(t, name) }
	policy := remora.KeepPolicy{
		Last: number("last", 1, 5), DatabaseDays: number("database days", 0, 20), FilesDays: number("files days", 0, 20),
		Daily: number("daily", 0, 5), Weekly: number("weekly", 0, 5), Monthly: number("monthly", 0, 4), Yearly: number("yearly", 0, 3),
	}
	in := remora.Inventory{Now: now}
	for i := range number("restores", 0, 2) {
		r := remora.Restore{ID: fmt.Sprint("r", i), Source: "shop", Outcome: remora.OutcomeApplied, Live: remora.Restored, Started: now.AddDate(0, 0, -number("restored", 0, 60))}
		if rapid.Bool().Draw(t, "ended") {
			r.Outcome, r.Ended = remora.OutcomeAccepted, r.Started.AddDate(0, 0, number("window", 1, 9))
		}
		in.Restores = append(in.Restores, r)
	}
	for i := range number("backups", 0, 40) {
		b := backup(rapid.SampledFrom([]string{"shop", "shop", "blog"}).Draw(t, "source"), i, 0,
			rapid.SampledFrom([]remora.Status{remora.Completed, remora.Completed, remora.Completed, remora.Corrupted, remora.Pending, remora.Failed}).Draw(t, "status"),
			rapid.SampledFrom([]remora.Purpose{remora.Regular, remora.Regular, remora.Regular, remora.Safety, remora.PutAway}).Draw(t, "purpose"))
		b.Started = now.Add(-time.Duration(number("hours", -48, 24*rapid.SampledFrom([]int{3, 40, 900}).Draw(t, "range"))) * time.Hour)
		b.Kind = rapid.SampledFrom([]remora.BackupKind{remora.FullBackup, remora.FullBackup, remora.DatabaseBackup, remora.FilesBackup}).Draw(t, "kind")
		b.RetentionDays = max(0, number("own days", -30, 9))
		b.OfRestore = rapid.SampledFrom([]string{"r0", "r1", "gone"}).Draw(t, "of")
		switch number("claim", 0, 15) {
		case 0:
			b.Hold = &remora.Hold{By: "alice", Until: now.AddDate(0, 0, number("held", -1, 1))}
		case 1:
			in.Leases = append(in.Leases, remora.Lease{Backup: b.ID, Until: now.Add(time.Duration(number("leased", -1, 1)) * time.Hour)})
		}
		in.Backups = append(in.Backups, b)
	}
	return in, policy
}

func TestPlanAgreesWithANaiveOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, policy := draw(t)
		plan := Make(in, always(policy), "")
		if len(plan.Verdicts) != len(in.Backups) {
			t.Fatalf("%d verdicts about %d", len(plan.Verdicts), len(in.Backups))
		}
		gone := map[string]bool{}
		for i, v := range plan.Verdicts {
			b := in.Backups[slices.IndexFunc(in.Backups, func(b remora.Backup) bool { return b.ID == v.Backup })]
			if gone[v.Backup] = v.Delete; v.Delete == oracle(in, policy, b) {
				t.Fatalf("%+v: %v (%s)", b, v.Delete, v.Why)
			}
			if v.Why == "" || i > 0 && v.Started.Before(plan.Verdicts[i-1].Started) {
				t.Fatalf("without a reason, or out of order: %+v", v)
			}
			if b.ActiveHold(now) != nil && v.Delete {
				t.Fatalf("held, and goes: %+v", v)
			}
		}

		shuffled := in
		shuffled.Backups = rapid.Permutation(in.Backups).Draw(t, "order")
		if other := Make(shuffled, always(policy), ""); other.Hash != plan.Hash || !slices.Equal(other.Verdicts, plan.Verdicts) {
			t.Fatal("the order of the list matters")
		}

		rest := in
		rest.Backups = slices.DeleteFunc(slices.Clone(in.Backups), func(b remora.Backup) bool { return gone[b.ID] })
		for _, v := range Make(rest, always(policy), "").Verdicts {
			if v.Delete {
				t.Fatalf("a second plan deletes more: %+v", v)
			}
		}

		more := in
		fresh := backup("shop", 99, -3, remora.Completed, remora.Regular)
		more.Backups = append(slices.Clone(in.Backups), fresh)
		for _, kind := range []remora.Kind{remora.Database, remora.Files} {
			for _, with := range []remora.Inventory{in, more} {
				newest := newestGood(with, kind)
				if newest == "" {
					continue
				}
				for _, v := range Make(with, always(policy), "").Verdicts {
					if v.Backup == newest && v.Delete {
						t.Fatalf("I4: the newest good one goes: %+v", v)
					}
				}
			}
		}
	})
}

// newestGood is the newest good backup of the shop that holds a component.
func newestGood(in remora.Inventory, kind remora.Kind) (id string) {
	var at time.Time
	for _, b := range in.Backups {
		if b.Source == "shop" && b.Status == remora.Completed && b.Purpose == remora.Regular && slices.Contains(kinds(b), kind) && !b.Started.Before(at) {
			id, at = b.ID, b.Started
		}
	}
	return id
}
