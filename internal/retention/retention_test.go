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
	b.ID, b.Source, b.Purpose, b.Started = fmt.Sprintf("%s-%d", source, n), source, purpose, now.AddDate(0, 0, -daysAgo)
	return b
}

func ids(all []remora.Backup) []string {
	names := []string{}
	for _, b := range all {
		names = append(names, b.ID)
	}
	return names
}

func TestPlan(t *testing.T) {
	var all []remora.Backup
	for i := range 10 {
		all = append(all, backup("shop", i, i, remora.Completed, remora.Regular))
	}
	for name, c := range map[string]struct {
		policy Policy
		change func(all []remora.Backup)
		inUse  []string
		gone   []string
	}{
		"nothing said keeps all":         {Policy{}, nil, nil, nil},
		"the last ones":                  {Policy{Last: 7}, nil, nil, []string{"shop-9", "shop-8", "shop-7"}},
		"the young ones":                 {Policy{Days: 7}, nil, nil, []string{"shop-9", "shop-8"}},
		"either is enough":               {Policy{Last: 2, Days: 8}, nil, nil, []string{"shop-9"}},
		"somebody reads it":              {Policy{Last: 8}, nil, []string{"shop-9"}, []string{"shop-8"}},
		"a damaged one takes no place":   {Policy{Last: 8}, func(all []remora.Backup) { all[0].Status = remora.Corrupted }, nil, []string{"shop-9"}},
		"an old damaged one goes":        {Policy{Last: 8}, func(all []remora.Backup) { all[9].Status = remora.Corrupted }, nil, []string{"shop-9", "shop-8"}},
		"a pending one stays":            {Policy{Last: 8}, func(all []remora.Backup) { all[9].Status = remora.Pending }, nil, []string{"shop-8"}},
		"S9: what a restore saved stays": {Policy{Last: 8}, func(all []remora.Backup) { all[9].Purpose, all[0].Purpose = remora.Safety, remora.PutAway }, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			all := slices.Clone(all)
			if c.change != nil {
				c.change(all)
			}
			require.ElementsMatch(t, c.gone, ids(Plan(c.policy, all, c.inUse, now)))
		})
	}
	old := []remora.Backup{backup("shop", 1, 400, remora.Completed, remora.Regular), backup("shop", 2, 401, remora.Corrupted, remora.Regular)}
	require.Equal(t, []string{"shop-2"}, ids(Plan(Policy{Days: 1}, old, nil, now)), "the newest good one stays, however old")

	require.NoError(t, Check(Plan(Policy{Last: 5}, all, nil, now), all))
	err := Check(Plan(Policy{Last: 4}, all, nil, now), all)
	require.Equal(t, remora.Invalid, remora.KindOf(err))
	require.ErrorContains(t, err, "6 of its 10 good backups")
}

// oracle decides about one backup alone, by counting, as somebody with a list on paper would.
func oracle(policy Policy, all []remora.Backup, b remora.Backup, inUse []string) (stays bool) {
	if policy.Last == 0 && policy.Days == 0 || b.Purpose != remora.Regular || b.Status == remora.Pending || b.Status == remora.Failed {
		return true
	}
	better := 0
	for _, other := range all {
		newer := other.Started.After(b.Started) || other.Started.Equal(b.Started) && other.ID > b.ID
		if other.Source == b.Source && other.Purpose == remora.Regular && other.Status == remora.Completed && newer {
			better++
		}
	}
	young := policy.Days > 0 && now.Sub(b.Started) <= time.Duration(policy.Days)*24*time.Hour
	return better == 0 || better < policy.Last || young || slices.Contains(inUse, b.ID)
}

func TestPlanAgreesWithANaiveOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := Policy{Last: rapid.IntRange(0, 6).Draw(t, "last"), Days: rapid.IntRange(0, 20).Draw(t, "days")}
		var all []remora.Backup
		var inUse []string
		for i := range rapid.IntRange(0, 30).Draw(t, "backups") {
			b := backup(rapid.SampledFrom([]string{"shop", "blog"}).Draw(t, "source"), i, rapid.IntRange(-2, 25).Draw(t, "age"),
				rapid.SampledFrom([]remora.Status{remora.Completed, remora.Completed, remora.Corrupted, remora.Pending, remora.Failed}).Draw(t, "status"),
				rapid.SampledFrom([]remora.Purpose{remora.Regular, remora.Regular, remora.Safety, remora.PutAway}).Draw(t, "purpose"))
			if all = append(all, b); rapid.IntRange(0, 9).Draw(t, "used") == 0 {
				inUse = append(inUse, b.ID)
			}
		}
		var want []string
		for _, b := range all {
			if !oracle(policy, all, b, inUse) {
				want = append(want, b.ID)
			}
		}
		plan := Plan(policy, all, inUse, now)
		got := ids(plan)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("gone %v, want %v", got, want)
		}
		if !slices.IsSortedFunc(plan, func(a, b remora.Backup) int { return a.Started.Compare(b.Started) }) {
			t.Fatalf("not the oldest first: %v", ids(plan))
		}
		rest := slices.DeleteFunc(slices.Clone(all), func(b remora.Backup) bool { return slices.Contains(got, b.ID) })
		if again := Plan(policy, rest, inUse, now); len(again) > 0 {
			t.Fatalf("a second plan deletes more: %v", ids(again))
		}
	})
}
