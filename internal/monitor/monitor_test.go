package monitor

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/remora-backup/remora/internal/remora"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// Whatever comes and goes: nobody is told the same thing twice, nobody is told that a problem began who has not been told
// that it was over, a problem that lasts is told every day, and mail about one comes at most once an hour and a day.
func TestAlertsAreToldOnceADayAndOnceWhenTheyAreOver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := []string{"a/1", "a/2", "b/1"}
		var alerts []remora.Alert
		now := noon
		told := map[string]bool{}          // ids
		raised := map[string]bool{}        // people know of it
		last := map[string]time.Time{}     // when people were last told of a key
		missed := map[string]time.Time{}   // when it was last not found
		level := map[string]remora.Level{} // the worst that people know of
		for range rapid.IntRange(1, 80).Draw(t, "looks") {
			now = now.Add(time.Duration(rapid.IntRange(1, 400).Draw(t, "minutes")) * time.Minute)
			blind := rapid.IntRange(0, 9).Draw(t, "blind") == 0
			looked := func(key string) bool { return !blind || key[0] != 'a' }
			var unknown []string
			var found []remora.Alert
			if blind {
				unknown = []string{"a/"}
			}
			present := map[string]remora.Level{}
			for _, key := range keys {
				if rapid.Bool().Draw(t, key) && looked(key) {
					present[key] = rapid.SampledFrom([]remora.Level{remora.Warning, remora.Failing}).Draw(t, "level")
					found = append(found, remora.Alert{Key: key, Level: present[key], Problem: fmt.Sprint("it is ", now)})
				}
			}
			after, notices := Turn(alerts, found, unknown, now)
			for _, n := range notices {
				key := n.Subject
				require.False(t, told[n.ID], "%s is told twice", n.ID)
				told[n.ID] = true
				switch n.Event {
				case remora.AlertRaised:
					require.False(t, raised[key], "%s begins twice", key)
					require.Contains(t, present, key)
					raised[key], level[key] = true, present[key]
				case remora.AlertReminder:
					require.True(t, raised[key])
					require.Contains(t, present, key)
					if now.Sub(last[key]) < reminder {
						require.Equal(t, remora.Warning, level[key], "only what became worse is told early")
						require.Equal(t, remora.Failing, present[key])
					}
					level[key] = present[key]
				case remora.AlertCleared:
					require.True(t, raised[key], "%s is over and never was", key)
					require.NotContains(t, present, key)
					require.GreaterOrEqual(t, now.Sub(missed[key]), over, "nobody is told that a problem is over that may return")
					delete(raised, key)
				default:
					t.Fatalf("event %s", n.Event)
				}
				last[key] = now
			}
			for key := range present {
				require.True(t, raised[key], "%s is found and nobody knows", key)
				require.Less(t, now.Sub(last[key]), reminder)
				delete(missed, key)
			}
			for _, key := range keys {
				if _, there := present[key]; !there && looked(key) && missed[key].IsZero() {
					missed[key] = now
				}
				if !missed[key].IsZero() && now.Sub(missed[key]) >= over && looked(key) {
					require.False(t, raised[key], "%s is over for long, and nobody was told", key)
				}
			}
			alerts = after
		}
	})
}

func TestOneThatFlapsIsOneAlert(t *testing.T) {
	var alerts []remora.Alert
	var events []remora.Event
	for minute := 0; minute < 24*60; minute += 5 {
		var found []remora.Alert
		if minute/5%2 == 0 {
			found = []remora.Alert{{Key: "x", Level: remora.Warning}}
		}
		var notices []remora.Notice
		alerts, notices = Turn(alerts, found, nil, noon.Add(time.Duration(minute)*time.Minute))
		for _, n := range notices {
			events = append(events, n.Event)
		}
	}
	require.Equal(t, []remora.Event{remora.AlertRaised}, events)
}

func TestWhatWasToldByItsOwnRunIsNotToldAgainAtOnce(t *testing.T) {
	found := []remora.Alert{{Key: "failed/shop", Level: remora.Failing, Told: noon.Add(-time.Minute), Since: noon.Add(-time.Minute)}}
	alerts, notices := Turn(nil, found, nil, noon)
	require.Empty(t, notices)
	alerts, notices = Turn(alerts, found, nil, noon.Add(24*time.Hour))
	require.Equal(t, remora.AlertReminder, notices[0].Event)
	alerts, _ = Turn(alerts, nil, nil, noon.Add(25*time.Hour))
	require.Empty(t, remora.MonitorState{Alerts: alerts}.Open())
	alerts, notices = Turn(alerts, nil, nil, noon.Add(26*time.Hour))
	require.Equal(t, remora.AlertCleared, notices[0].Event)
	require.Empty(t, alerts)
}

func TestManyAlertsAreToldAFewAtATime(t *testing.T) {
	var found []remora.Alert
	for i := range 3 * most {
		found = append(found, remora.Alert{Key: fmt.Sprint("k", i), Level: remora.Failing})
	}
	var alerts []remora.Alert
	told := map[string]bool{}
	for i := range 4 {
		var notices []remora.Notice
		alerts, notices = Turn(alerts, found, nil, noon.Add(time.Duration(i)*5*time.Minute))
		require.LessOrEqual(t, len(notices), most)
		for _, n := range notices {
			told[n.Subject] = true
		}
	}
	require.Len(t, told, 3*most)
}

func TestTheObjectiveOfAComponentFollowsItsSchedules(t *testing.T) {
	daily := remora.Schedule{Kinds: []remora.Kind{remora.Database}, Timing: remora.Timing{Period: 24 * time.Hour}, Deadline: 6 * time.Hour}
	weekly := remora.Schedule{Kinds: []remora.Kind{remora.Files}, Timing: remora.Timing{Period: 7 * 24 * time.Hour}}
	s := remora.Expected{Schedules: []remora.Schedule{daily, weekly}}
	require.Equal(t, 54*time.Hour, s.Objective(remora.Database))
	require.Equal(t, 14*24*time.Hour, s.Objective(remora.Files))
	s.RecoveryPoint = time.Hour
	require.Equal(t, time.Hour, s.Objective(remora.Files))
	require.Zero(t, remora.Expected{Schedules: []remora.Schedule{daily}}.Objective(remora.Files))
}

func run(status remora.Status, age time.Duration, kinds ...remora.Kind) remora.Backup {
	b := remora.Backup{Status: status, Problem: "no way"}
	b.ID, b.Purpose, b.Started, b.Ended = fmt.Sprint("b-", age), remora.Regular, noon.Add(-age), noon.Add(-age)
	for _, k := range kinds {
		b.Parts = append(b.Parts, remora.PartRef{Kind: k})
	}
	b.Slot = remora.Slot{Schedule: "nightly", Due: noon.Add(-age)}
	return b
}

func TestWhatIsFoundOfASource(t *testing.T) {
	const db, files, hour = remora.Database, remora.Files, time.Hour
	good := func(age time.Duration) remora.Backup { return run(remora.Completed, age, db, files) }
	safety := good(hour)
	safety.Purpose = remora.Safety
	for name, c := range map[string]struct {
		runs []remora.Backup
		want []string
	}{
		"all is well":             {[]remora.Backup{good(3 * hour), run(remora.Failed, 4*hour)}, nil},
		"none yet":                {nil, []string{"overdue/shop: there is no good backup yet"}},
		"none good":               {[]remora.Backup{run(remora.Failed, hour)}, []string{"overdue/shop: there is no good backup yet", "failed/shop: the last backup failed: no way"}},
		"too old":                 {[]remora.Backup{safety, good(50 * hour)}, []string{"overdue/shop: there has been no good backup of the database for 2 days (objective 26 h)"}},
		"files too old":           {[]remora.Backup{run(remora.Completed, hour, db), good(50 * hour)}, []string{"overdue/shop: there has been no good backup of the files for 2 days (objective 26 h)"}},
		"failed since":            {[]remora.Backup{run(remora.Failed, hour), good(2 * hour)}, []string{"failed/shop: the last backup failed: no way"}},
		"missed and skipped":      {[]remora.Backup{run(remora.Missed, hour), run(remora.Skipped, 2*hour), good(3 * hour), run(remora.Skipped, 4*hour), run(remora.Missed, 25*hour)}, []string{"missed/shop: 2 slots passed without a backup; the last one, nightly of " + noon.Add(-hour).Local().Format("2006-01-02 15:04") + ": no way"}},
		"missed, and made up for": {[]remora.Backup{good(hour), run(remora.Missed, 2*hour)}, []string{"missed/shop: a slot passed without a backup; the last one, nightly of " + noon.Add(-2*hour).Local().Format("2006-01-02 15:04") + ": no way"}},
		"corrupt":                 {[]remora.Backup{good(hour), run(remora.Corrupted, 2*hour, db)}, []string{"corrupt/shop: 1 of its backups cannot be read back: b-2h0m0s"}},
		"pending counts not":      {[]remora.Backup{run(remora.Pending, hour, db, files), good(2 * hour)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := remora.Expected{Source: "shop", Kinds: []remora.Kind{db, files}, RecoveryPoint: 26 * hour}
			var got []string
			for _, f := range Findings(s, c.runs, nil, noon) {
				require.Equal(t, "shop", f.Source)
				require.NotEqual(t, remora.Fine, f.Level)
				got = append(got, f.Key+": "+f.Problem)
			}
			require.Equal(t, c.want, got)
		})
	}
}

// F47: a drill that failed and one that could not be made are told apart, and neither keeps the newest proof from ageing.
func TestWhatIsSaidOfDrills(t *testing.T) {
	drill := func(how remora.DrillOutcome, age, took time.Duration) remora.Proof {
		p := remora.Proof{ID: "d", Source: "shop", Backup: "b", Outcome: how, Started: noon.Add(-age), Ended: noon.Add(-age), Took: took}
		if how != remora.Proven {
			p.Problem = "no way"
		}
		return p
	}
	const week = 7 * 24 * time.Hour
	weekly := remora.Expected{Source: "shop", Schedules: []remora.Schedule{{Drill: true, Timing: remora.Timing{Period: week}, Deadline: time.Hour}}}
	chosen := remora.Expected{Source: "shop", Drill: week, RecoveryTime: 5 * time.Minute}
	for name, c := range map[string]struct {
		expected remora.Expected
		proofs   []remora.Proof
		want     []string
	}{
		"nothing is promised":     {remora.Expected{Source: "shop"}, []remora.Proof{drill(remora.Proven, 99*week, time.Hour)}, nil},
		"proven":                  {chosen, []remora.Proof{drill(remora.Proven, time.Hour, time.Minute)}, nil},
		"never":                   {chosen, nil, []string{"unproven warning no drill has proven yet that it can be brought back"}},
		"too long ago":            {chosen, []remora.Proof{drill(remora.Proven, 8*24*time.Hour, time.Minute)}, []string{"unproven failed no drill has proven for 8 days that it can be brought back (objective 7 days)"}},
		"one may fail, of weekly": {weekly, []remora.Proof{drill(remora.Proven, 2*week, time.Minute)}, nil},
		"two may not":             {weekly, []remora.Proof{drill(remora.Proven, 2*week+2*time.Hour, time.Minute)}, []string{"unproven failed no drill has proven for 14 days that it can be brought back (objective 14 days)"}},
		"slow":                    {chosen, []remora.Proof{drill(remora.Proven, time.Hour, 6*time.Minute+40*time.Second)}, []string{"slow warning to bring it back took 6 min 40 s in the last drill (objective 5 min)"}},
		"it failed":               {chosen, []remora.Proof{drill(remora.DrillFailing, time.Hour, 0), drill(remora.Proven, 2*time.Hour, 0)}, []string{"drill failed the last drill failed: no way"}},
		"it was skipped":          {chosen, []remora.Proof{drill(remora.DrillSkipped, time.Hour, 0), drill(remora.Proven, 2*time.Hour, 0)}, []string{"drill warning the last drill was skipped: no way"}},
		"it could not be made": {chosen, []remora.Proof{drill(remora.DrillNotMade, time.Hour, 0), drill(remora.Proven, 2*week, 0)}, []string{
			"unproven failed no drill has proven for 14 days that it can be brought back (objective 7 days)", "drill warning the last drill could not be made: no way",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range Findings(c.expected, []remora.Backup{{Manifest: remora.Manifest{Purpose: remora.Regular}, Status: remora.Completed}}, c.proofs, noon) {
				what, _, _ := strings.Cut(f.Key, "/")
				got = append(got, fmt.Sprint(what, " ", f.Level, " ", f.Problem))
			}
			require.Equal(t, c.want, got)
		})
	}
}

func TestTheDaysUntilTheDiskIsFull(t *testing.T) {
	grow := func(days int, perDay, others int64) (all []remora.SizeSample) {
		for i := range days {
			all = Sampled(all, remora.SizeSample{At: noon.AddDate(0, 0, i), Stored: 100e9 + perDay*int64(i), Free: 400e9 - (perDay+others)*int64(i)})
		}
		return all
	}
	require.Len(t, grow(200, 1, 0), samples)
	for name, c := range map[string]struct {
		sizes []remora.SizeSample
		free  int64
		level remora.Level
		says  string
	}{
		"a bucket":       {grow(30, 1e9, 0), -1, "", ""},
		"much room":      {grow(30, 1e9, 0), 400e9, "", ""},
		"three weeks":    {grow(30, 10e9, 0), 200e9, remora.Warning, "full in about 20 days"},
		"by others":      {grow(30, 1e9, 9e9), 200e9, remora.Warning, "full in about 20 days"},
		"five days":      {grow(30, 10e9, 0), 50e9, remora.Failing, "full in about 5 days"},
		"too few":        {grow(6, 10e9, 0), 50e9, "", ""},
		"it shrinks":     {grow(30, -1e9, 0), 50e9, "", ""},
		"nothing known":  {nil, 50e9, "", ""},
		"nearly nothing": {nil, 1e9, remora.Failing, "only 1.0 GB are free"},
	} {
		t.Run(name, func(t *testing.T) {
			found := Space(c.sizes, c.free)
			if c.level == "" {
				require.Empty(t, found)
				return
			}
			require.Equal(t, c.level, found[0].Level)
			require.Contains(t, found[0].Problem, c.says)
		})
	}
	require.True(t, SampleDue(nil, noon))
	require.False(t, SampleDue(grow(2, 1, 1), noon.AddDate(0, 0, 1).Add(23*time.Hour)))
}
