package schedule

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/remora-backup/remora/internal/remora"
)

var (
	noon   = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	hourly = remora.Schedule{Source: "shop", Name: "hourly", Kinds: []remora.Kind{remora.Database}, CatchUp: 50 * time.Minute, Spread: 9 * time.Minute}
)

// listed is a record as the repository lists it.
func listed(f remora.FailedRun) remora.Backup {
	b := remora.Backup{Status: f.Status}
	b.ID, b.Source, b.Slot, b.Started, b.Ended = f.ID, f.Source, f.Slot, f.Started, f.Ended
	return b
}

func backedUp(due time.Time, took time.Duration) remora.Backup {
	b := remora.Backup{Status: remora.Completed}
	b.ID, b.Source, b.Slot, b.Started, b.Ended = "b"+due.Format("1504"), "shop", remora.Slot{Schedule: "hourly", Due: due}, due, due.Add(took)
	return b
}

func at(hour int) time.Time { return noon.Add(time.Duration(hour-12) * time.Hour) }

func TestAccount(t *testing.T) {
	due := []time.Time{at(6), at(7), at(8), at(9), at(10), at(11), at(12)}
	for name, c := range map[string]struct {
		change func(k *Known)
		want   []string
		until  time.Time
	}{
		"all were backed up": {nil, nil, at(11)},
		"one was missed": {
			func(k *Known) { k.History = slices.Delete(k.History, 2, 3) },
			[]string{"8 missed nobody was there to begin it: Temporal or every worker was away; the slot before, of 2026-11-27 07:00 UTC, ended 2026-11-27 07:05 UTC"},
			at(11),
		},
		"the one before was at work": {
			func(k *Known) {
				k.History = slices.Delete(k.History, 2, 3)
				k.History[1].Ended = at(8).Add(time.Minute)
			},
			[]string{"8 skipped the slot of 2026-11-27 07:00 UTC was still at work"},
			at(11),
		},
		"the one before had its backup, and was still reading it back": {
			func(k *Known) {
				k.History = slices.Delete(k.History, 2, 3)
				k.Runs = []Run{{Due: at(7), Began: at(7), Ended: at(8).Add(time.Minute)}}
			},
			[]string{"8 skipped the slot of 2026-11-27 07:00 UTC was still at work"},
			at(11),
		},
		"its backup was deleted since": {
			func(k *Known) {
				k.History = slices.Delete(k.History, 2, 3)
				k.Runs = []Run{{Due: at(8), Began: at(8), Ended: at(8).Add(5 * time.Minute), Well: true}}
			},
			nil, at(11),
		},
		"one was caught up with, late, in place of two": {
			func(k *Known) {
				k.History = slices.Delete(k.History, 2, 3)
				k.History[1].Started, k.History[1].Ended = at(8).Add(10*time.Minute), at(8).Add(15*time.Minute)
			},
			[]string{"8 missed nobody was there to begin it: Temporal or every worker was away; the slot before, of 2026-11-27 07:00 UTC, ended 2026-11-27 08:15 UTC"},
			at(11),
		},
		"no worker was there for two": {
			func(k *Known) {
				k.History = slices.Delete(k.History, 2, 3)
				k.History[1] = listed(hourly.Without(remora.Missed, at(7), "no worker", ""))
				k.History[1].Ended = at(8).Add(30 * time.Minute)
			},
			[]string{"8 missed nobody was there to begin it: Temporal or every worker was away; the slot before, of 2026-11-27 07:00 UTC, ended 2026-11-27 08:30 UTC"},
			at(11),
		},
		"one ended without a word": {
			func(k *Known) {
				k.History = slices.Delete(k.History, 2, 3)
				k.Runs = []Run{{Due: at(8), Began: at(8), Ended: at(9)}}
			},
			[]string{"8 failed the workflow of the slot was ended in Temporal and left no record"},
			at(11),
		},
		"one that waited for a worker ended while this was read, and its record may have come too late": {
			func(k *Known) {
				k.History = []remora.Backup{backedUp(at(6), 0)}
				k.Runs = []Run{{Due: at(8), Began: at(8), Ended: at(12).Add(-30 * time.Second), Well: true}}
			},
			[]string{"7 missed nobody was there to begin it: Temporal or every worker was away; the slot before, of 2026-11-27 06:00 UTC, ended 2026-11-27 06:00 UTC"},
			at(8).Add(-1),
		},
		"one is still at work: nothing after it is judged": {
			func(k *Known) {
				k.History = []remora.Backup{backedUp(at(6), 0)}
				k.Runs = []Run{{Due: at(8), Began: at(8)}}
			},
			[]string{"7 missed nobody was there to begin it: Temporal or every worker was away; the slot before, of 2026-11-27 06:00 UTC, ended 2026-11-27 06:00 UTC"},
			at(8).Add(-1),
		},
		"what was due before it was changed, and while it was paused": {
			func(k *Known) {
				k.History, k.Until = nil, at(5)
				k.Record.Since = at(7)
				k.Record.Paused = &remora.Pause{At: at(8)}
				k.Record.Resume(at(9).Add(time.Minute))
				k.Record.Paused = &remora.Pause{At: at(11)}
			},
			[]string{
				"7 missed nobody was there to begin it: Temporal or every worker was away",
				"10 missed nobody was there to begin it: Temporal or every worker was away",
			},
			at(11),
		},
		"another schedule's outcome is none of it": {
			func(k *Known) {
				k.History[2].Slot.Schedule = "other"
			},
			[]string{"8 missed nobody was there to begin it: Temporal or every worker was away; the slot before, of 2026-11-27 07:00 UTC, ended 2026-11-27 07:05 UTC"},
			at(11),
		},
		"what was accounted for before": {
			func(k *Known) { k.History, k.Until = nil, at(11).Add(time.Minute) },
			nil, at(11).Add(time.Minute),
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := Known{Schedule: hourly, Due: due, Until: at(5).Add(time.Minute), Now: at(12)}
			for _, d := range due {
				k.History = append(k.History, backedUp(d, 5*time.Minute))
			}
			if c.change != nil {
				c.change(&k)
			}
			records, until := Account(k)
			var got []string
			for _, r := range records {
				got = append(got, fmt.Sprintf("%d %s %s", r.Slot.Due.Hour(), r.Status, r.Problem))
			}
			require.Equal(t, c.want, got)
			require.Equal(t, c.until, until)
		})
	}
}

// After an outage of months, all slots are recorded nevertheless, some at each call.
func TestAccountGoesOnAfterALongOutage(t *testing.T) {
	k := Known{Schedule: hourly, Until: noon.AddDate(0, -3, 0), Now: noon}
	for d := k.Until.Add(time.Hour); !d.After(noon); d = d.Add(time.Hour) {
		k.Due = append(k.Due, d)
	}
	got := map[string]bool{}
	for range 20 {
		records, until := Account(k)
		require.LessOrEqual(t, len(records), page)
		for _, r := range records {
			require.False(t, got[r.ID], "%s twice", r.ID)
			got[r.ID] = true
		}
		k.Until = until
	}
	require.Len(t, got, len(k.Due)-1, "all but the youngest")
}

// outcome says of one slot alone what is to be recorded, by looking at everything, as somebody with a list on paper
// would. It is "" for nothing.
func outcome(k Known, d time.Time) remora.Status {
	grace := k.Schedule.CatchUp + k.Schedule.Spread + time.Minute
	if !d.After(k.Until) || k.Now.Sub(d) < grace || d.Before(k.Record.Since) {
		return ""
	}
	for _, p := range append(slices.Clone(k.Record.Pauses), orNone(k.Record.Paused)...) {
		if !d.Before(p.At) && (p.Until.IsZero() || d.Before(p.Until)) {
			return ""
		}
	}
	missed := map[time.Time]bool{}
	for _, b := range k.History {
		if b.Slot.Due.Equal(d) && b.Slot.Schedule == k.Schedule.Name {
			return ""
		}
		missed[b.Slot.Due] = missed[b.Slot.Due] || b.Status == remora.Missed
	}
	how := remora.Missed
	for _, b := range k.History {
		if b.Slot.Due.Before(d) && !b.Started.After(d) && b.Ended.After(d) && !missed[b.Slot.Due] {
			how = remora.Skipped
		}
	}
	for _, r := range k.Runs {
		switch {
		case (r.Ended.IsZero() || k.Now.Sub(r.Ended) < time.Minute) && !r.Due.After(d) && slices.Contains(k.Due, r.Due) && r.Due.After(k.Until) && !inHistory(k, r.Due) && k.Now.Sub(r.Due) >= grace:
			return ""
		case r.Due.Before(d) && !r.Began.After(d) && (r.Ended.IsZero() || r.Ended.After(d)) && !missed[r.Due] && how == remora.Missed:
			how = remora.Skipped
		}
	}
	for _, r := range k.Runs {
		if r.Due.Equal(d) && r.Well {
			return ""
		}
		if r.Due.Equal(d) {
			return remora.Failed
		}
	}
	return how
}

func recordedAt(k Known, d time.Time) bool {
	return slices.ContainsFunc(k.Runs, func(r Run) bool { return r.Due.Equal(d) && r.Well }) || inHistory(k, d)
}

func inHistory(k Known, d time.Time) bool {
	return slices.ContainsFunc(k.History, func(b remora.Backup) bool { return b.Slot.Due.Equal(d) })
}

func orNone(p *remora.Pause) []remora.Pause {
	if p == nil {
		return nil
	}
	return []remora.Pause{*p}
}

func TestAccountAgreesWithANaiveOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := Known{Schedule: hourly, Now: noon.Add(time.Duration(rapid.IntRange(0, 59).Draw(t, "minute")) * time.Minute)}
		minutes := func(most int, what string) time.Duration {
			return time.Duration(rapid.IntRange(0, most).Draw(t, what)) * time.Minute
		}
		k.Until = k.Now.Add(-minutes(900, "until"))
		if rapid.Bool().Draw(t, "changed") {
			k.Record.Since = k.Now.Add(-minutes(900, "since"))
		}
		for range rapid.IntRange(0, 2).Draw(t, "pauses") {
			k.Record.Paused = &remora.Pause{At: k.Now.Add(-minutes(900, "paused"))}
			if rapid.Bool().Draw(t, "resumed") {
				k.Record.Resume(k.Record.Paused.At.Add(minutes(200, "rest")))
			}
		}
		for d := noon.Add(-15 * time.Hour); d.Before(k.Now); d = d.Add(time.Hour) {
			k.Due = append(k.Due, d)
			began := d.Add(minutes(80, "began late"))
			switch rapid.IntRange(0, 5).Draw(t, "what happened") {
			case 0, 1:
				b := backedUp(d, 0)
				b.Started, b.Ended = began, began.Add(minutes(100, "took"))
				b.Status = rapid.SampledFrom([]remora.Status{remora.Completed, remora.Failed, remora.Skipped, remora.Missed, remora.Pending}).Draw(t, "status")
				k.History = append(k.History, b)
			case 2:
				k.Runs = append(k.Runs, Run{Due: d, Began: began, Ended: began.Add(minutes(100, "took")), Well: rapid.Bool().Draw(t, "well")})
			case 3:
				if rapid.IntRange(0, 9).Draw(t, "open") == 0 {
					k.Runs = append(k.Runs, Run{Due: d, Began: began})
				}
			}
		}
		want := map[time.Time]remora.Status{}
		for _, d := range k.Due {
			if how := outcome(k, d); how != "" {
				want[d] = how
			}
		}
		k.Due = rapid.Permutation(k.Due).Draw(t, "due in any order")
		records, until := Account(k)
		got := map[time.Time]remora.Status{}
		for _, r := range records {
			got[r.Slot.Due] = r.Status
		}
		require.Equal(t, want, got)
		require.Len(t, records, len(got), "a slot twice")
		require.False(t, until.Before(k.Until), "it goes back")
		again, same := Account(k)
		require.Equal(t, records, again)
		require.Equal(t, until, same)
		for _, r := range records {
			k.History = append(k.History, listed(r))
		}
		more, _ := Account(k)
		require.Empty(t, more, "a slot is recorded twice")
		for _, d := range k.Due { // and none is left behind
			if d.After(k.Until) && !d.After(until) && !d.Before(k.Record.Since) && !k.Record.Rests(d) {
				require.True(t, recordedAt(k, d), "%s is not accounted for", d)
			}
		}
		k.Until = until
		more, later := Account(k)
		require.Empty(t, more)
		require.False(t, later.Before(until))
	})
}
