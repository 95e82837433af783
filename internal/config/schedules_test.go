package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/remora-backup/remora/internal/remora"
)

func TestLoadReadsSchedules(t *testing.T) {
	c, err := Load(write(t, `
repository: {path: /b, password_env: P}
sources:
  shop:
    database: {address: h, user: u, password_env: P, schemas: [shop]}
    files: {root: /f, directories: [a]}
    schedules:
      workdays: {kind: files, cron: "*/20  9-17 * * mon-fri", zone: Europe/Berlin, deadline: 5m}
      nightly: {daily: "02:30", zone: America/Jamaica, retention_days: 90}
      often: {kind: database, every: 6m}
      sundays: {weekly: "SUN 03:05"}
      last: {kind: full, monthly: "31 04:00"}
copies:
  offsite: {path: /c, password_env: P, daily: "00:05", zone: Europe/Berlin}
  second: {path: /d, password_env: P}
`), env())
	require.NoError(t, err)
	both, d, f := []remora.Kind{remora.Database, remora.Files}, []remora.Kind{remora.Database}, []remora.Kind{remora.Files}
	six := 6 * time.Hour
	schedules, copies := c.Schedules()
	require.Empty(t, cmp.Diff([]remora.Schedule{
		{Source: "shop", Name: "last", Kinds: both, Timing: remora.Timing{Cron: "0 4 31 * *", Zone: "UTC", Period: 61 * 24 * time.Hour, Text: "on day 31 of the month at 04:00 UTC"}, Deadline: six, CatchUp: six, Spread: 5 * time.Minute},
		{Source: "shop", Name: "nightly", Kinds: both, Timing: remora.Timing{Cron: "30 2 * * *", Zone: "America/Jamaica", Period: 24 * time.Hour, Text: "daily at 02:30 America/Jamaica"}, RetentionDays: 90, Deadline: six, CatchUp: six, Spread: 5 * time.Minute},
		{Source: "shop", Name: "often", Kinds: d, Timing: remora.Timing{Every: 6 * time.Minute, Text: "every 6m"}, Deadline: 3 * time.Minute, CatchUp: 6 * time.Minute},
		{Source: "shop", Name: "sundays", Kinds: both, Timing: remora.Timing{Cron: "5 3 * * 0", Zone: "UTC", Period: 7 * 24 * time.Hour, Text: "every Sunday at 03:05 UTC"}, Deadline: six, CatchUp: six, Spread: 5 * time.Minute},
		{Source: "shop", Name: "workdays", Kinds: f, Timing: remora.Timing{Cron: "*/20 9-17 * * mon-fri", Zone: "Europe/Berlin", Period: 63*time.Hour + 20*time.Minute, Text: "cron */20 9-17 * * mon-fri Europe/Berlin"}, Deadline: 5 * time.Minute, CatchUp: 20 * time.Minute, Spread: 2 * time.Minute},
	}, schedules))
	require.Equal(t, map[string]remora.Timing{"offsite": remora.Calendar("5 0 * * *", "Europe/Berlin")}, copies)
	require.Equal(t, []string{"sources.shop.schedules.last: some months have no day 31: nothing is due in those"}, c.Warnings)
}

// What a clock change does to a time of day is said with zone, date and time; what no change meets is not spoken of.
func TestClockChangesAreTold(t *testing.T) {
	now := time.Date(2026, 11, 27, 7, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		timing remora.Timing
		want   []string
	}{
		"Berlin": {remora.Calendar("30 2 * * *", "Europe/Berlin"), []string{
			"on 2027-03-28 the clocks of Europe/Berlin skip 02:30: nothing is due at that time",
			"on 2027-10-31 the clocks of Europe/Berlin show 02:30 twice: it may be due twice",
		}},
		"Berlin, at the edges":  {remora.Calendar("0 3 * * *", "Europe/Berlin"), nil},
		"Berlin, only weekdays": {remora.Calendar("30 2 * * 1-5", "Europe/Berlin"), nil},
		"Berlin, often": {remora.Calendar("*/20 * * * *", "Europe/Berlin"), []string{
			"on 2027-03-28 the clocks of Europe/Berlin skip 02:00 and 2 more of its times: nothing is due at that time",
			"on 2027-10-31 the clocks of Europe/Berlin show 02:00 and 2 more of its times twice: it may be due twice",
		}},
		"New York, only skipped": {remora.Calendar("30 2 * * *", "America/New_York"), []string{
			"on 2027-03-14 the clocks of America/New_York skip 02:30: nothing is due at that time",
		}},
		"New York, only repeated": {remora.Calendar("59 1 * * *", "America/New_York"), []string{
			"on 2027-11-07 the clocks of America/New_York show 01:59 twice: it may be due twice",
		}},
		"Lord Howe, half an hour": {remora.Calendar("15 2 * * *", "Australia/Lord_Howe"), []string{
			"on 2027-10-03 the clocks of Australia/Lord_Howe skip 02:15: it is due later in that hour",
		}},
		"Lord Howe, repeated": {remora.Calendar("45 1 * * *", "Australia/Lord_Howe"), []string{
			"on 2027-04-04 the clocks of Australia/Lord_Howe show 01:45 twice: it may be due twice",
		}},
		"Lord Howe, outside the half hour": {remora.Calendar("45 2 * * *", "Australia/Lord_Howe"), nil},
		"Jamaica":                          {remora.Calendar("*/5 * * * *", "America/Jamaica"), nil},
		"UTC":                              {remora.Calendar("30 2 * * *", "UTC"), nil},
		"every hour":                       {remora.Every(time.Hour), nil},
		"days that some months have": {remora.Calendar("0 4 30 * *", "UTC"), []string{
			"some months have no day 30: nothing is due in those",
		}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, TimingNotes(c.timing, now)) })
	}
}

// Whatever is written as cron is a schedule or a mistake, and takes no time to tell.
func TestNoCronTextIsTooMuch(t *testing.T) {
	source := &Source{Name: "shop", Files: &Files{}}
	rapid.Check(t, func(t *rapid.T) {
		field := rapid.StringMatching(`([*?]|[0-9]{1,2}|[a-z]{3})([-/,][0-9]{1,3}){0,2}`)
		text := strings.Join(rapid.SliceOfN(field, 5, 5).Draw(t, "fields"), " ")
		s, wrong := NewSchedule(source, "x", ScheduleFields{Cron: text})
		if wrong == nil {
			require.GreaterOrEqual(t, s.CatchUp, time.Minute)
			require.GreaterOrEqual(t, s.Deadline, time.Minute)
			require.LessOrEqual(t, s.Deadline, 6*time.Hour)
		}
	})
}
