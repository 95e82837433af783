package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/testenv"
)

// schedule writes the schedules of the one source into the configuration.
func (p *place) schedule(schedules string) {
	p.t.Helper()
	text, err := os.ReadFile(p.config)
	require.NoError(p.t, err)
	before, _, again := strings.Cut(string(text), ", schedules:")
	if !again {
		before = strings.TrimSuffix(strings.TrimSpace(before), "}")
	}
	require.NoError(p.t, os.WriteFile(p.config, []byte(before+", schedules: {"+schedules+"}}\n"), 0o600))
}

func (p *place) must(args ...string) string {
	p.t.Helper()
	s := p.run(args...)
	require.Zero(p.t, s.code, s.err)
	return s.out
}

// shown is what is said of a schedule, without the spaces of its columns.
func (p *place) shown(name string) string {
	p.t.Helper()
	return regexp.MustCompile(" +").ReplaceAllString(p.must("schedule", "show", name), " ")
}

func TestSchedulesFromTheConfigurationToTheEnd(t *testing.T) {
	server := testenv.NewTemporal(t)
	p := newPlace(t, server.Address, server.Namespace, "shop")
	p.now = time.Now
	require.Contains(t, p.must("schedule", "list"), "There is no schedule.")
	p.schedule(`nightly: {daily: "02:30", zone: Europe/Berlin, retention_days: 90}, often: {every: 6h}`)

	made := "+ schedule/shop/nightly: it is missing: daily at 02:30 Europe/Berlin\n+ schedule/shop/often: it is missing: every 6h\n" +
		"+ retention: it is missing: daily at 04:17 UTC\n+ verify: it is missing: daily at 05:17 UTC\n+ monitor: it is missing: every 5m\n"
	require.Equal(t, made+"Nothing was changed; without --dry-run it is.\n", p.must("schedule", "apply", "--dry-run"))
	require.Equal(t, made+"All schedules are as configured now. Start the workers again: they know the file as it was when they began.\n", p.must("schedule", "apply"))
	require.Equal(t, "All schedules are as configured.\n", p.must("schedule", "apply"))

	out := p.must("schedule", "create", "shop", "sundays", "--kind", "files", "--weekly", "sun 03:30", "--zone", "Europe/Berlin", "--retention-days", "9", "--deadline", "1h")
	require.Equal(t, "shop/sundays is made: back up files of shop, waiting up to 1h for it, kept 9 days, every Sunday at 03:30 Europe/Berlin.\n", out)
	require.Contains(t, p.must("schedule", "create", "shop", "odd", "--daily", "02:15", "--zone", "Europe/Berlin"), "  note: on 20")
	for _, again := range []string{"sundays", "nightly"} {
		s := p.run("schedule", "create", "shop", again, "--daily", "01:00")
		require.Equal(t, 2, s.code)
		require.Contains(t, s.err, "choose another name")
	}

	require.Contains(t, p.must("schedule", "pause", "shop/sundays", "--why", "disk exchange"), "shop/sundays is paused")
	p.must("schedule", "pause", "retention")
	var all []control.Scheduled
	testenv.Wait(t, 20*time.Second, "all to be listed", func() error {
		all = nil
		for line := range strings.Lines(p.must("schedule", "list", "-o", "json")) {
			var one control.Scheduled
			require.NoError(t, json.Unmarshal([]byte(line), &one))
			all = append(all, one)
		}
		if len(all) != 7 {
			return errors.New(p.must("schedule", "list"))
		}
		return nil
	})
	list := p.must("schedule", "list")
	for _, line := range []string{
		`(?m)^SCHEDULE +WHEN +STATE +LAST +OUTCOME +NEXT$`,
		`(?m)^retention \(system\) +daily at 04:17 UTC +paused by alice@\S+ +-$`,
		`(?m)^shop/nightly +daily at 02:30 Europe/Berlin +active +20\d\d-\d\d-\d\d \d\d:\d\d:\d\d$`,
		`(?m)^shop/sundays +every Sunday at 03:30 Europe/Berlin +paused by alice@\S+: disk exchange +-$`,
	} {
		require.Regexp(t, line, list)
	}
	require.NotContains(t, p.must("schedule", "list", "shop"), "(system)")

	due := time.Now().Add(-24 * time.Hour).UTC().Truncate(time.Second)
	p.repository(func(ctx context.Context, r *repository.Repository) {
		for i, status := range []remora.Status{remora.Skipped, remora.Missed, remora.Failed} {
			at := due.Add(time.Duration(i) * time.Hour)
			require.NoError(t, r.RecordFailure(ctx, remora.FailedRun{
				ID: "shop-" + string(status), Source: "shop", Status: status, Slot: remora.Slot{Schedule: "nightly", Due: at},
				Started: at, Ended: at, Purpose: remora.Regular, Kind: remora.FilesBackup, Problem: "no luck",
			}))
		}
	})
	out = p.shown("shop/nightly")
	for _, line := range []string{
		"when: daily at 02:30 Europe/Berlin\n", "does: back up files of shop, waiting up to 6h for it, kept 90 days\n",
		"kept: 90 days\n", "made by: the configuration\n", "outcome: failed\n",
		"slots: 3 on record, of which 1 failed, 1 skipped, 1 missed\n",
		"in Temporal: 0 missed because it was away, 0 skipped because the run before went on\n",
		" clocks of Europe/Berlin skip 02:30: nothing is due at that time\n", "missed shop-missed: no luck\n",
	} {
		require.Contains(t, out, line)
	}
	require.Equal(t, 10, strings.Count(out, " 02:30:00 CE"), "the next ten runs, in its zone: %s", out)
	require.Equal(t, 10, strings.Count(out, ":30:00 UTC\n"), "and in UTC")

	// The configuration changes; what commands made and paused stays, also when Temporal is lost.
	p.schedule(`nightly: {daily: "02:30", zone: Europe/Berlin, kind: files, retention_days: 30}, hourly: {every: 1h}`)
	changes := "+ schedule/shop/hourly: it is missing: every 1h\n" +
		"~ schedule/shop/nightly: action: back up files of shop, waiting up to 6h for it, kept 90 days, should be back up files of shop, waiting up to 6h for it, kept 30 days\n" +
		"- schedule/shop/often: it is not configured: every 6h\nAll schedules are as configured now. Start the workers again: they know the file as it was when they began.\n"
	require.Equal(t, changes, p.must("schedule", "apply"))
	p.repository(func(ctx context.Context, r *repository.Repository) {
		records, err := r.Schedules(ctx)
		require.NoError(t, err)
		deleted := map[string]bool{}
		for _, record := range records {
			deleted[record.ID] = record.Deleted
		}
		require.Equal(t, map[string]bool{
			"retention": false, "schedule/shop/hourly": false, "schedule/shop/nightly": false, "schedule/shop/odd": false,
			"schedule/shop/often": true, "schedule/shop/sundays": false,
		}, deleted)
	})
	p.must("schedule", "delete", "shop/odd")
	fresh := testenv.NewTemporal(t)
	text, err := os.ReadFile(p.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(p.config, []byte(strings.Replace(string(text), server.Address, fresh.Address, 1)), 0o600))
	require.Equal(t, 6, strings.Count(p.must("schedule", "apply"), "+ "))
	require.Contains(t, p.shown("shop/sundays"), "state: paused by alice@")

	require.Contains(t, p.must("schedule", "resume", "shop/sundays"), "shop/sundays goes on")
	require.Equal(t, 2, p.run("schedule", "resume", "shop/sundays").code)
	require.Contains(t, p.must("schedule", "trigger", "shop/sundays"), "was triggered")
	testenv.Wait(t, 10*time.Second, "the triggered run", func() error {
		if !strings.Contains(p.shown("shop/sundays"), "outcome: running") {
			return errors.New("not yet")
		}
		return nil
	})
	s := p.run("schedule", "trigger", "shop/sundays")
	require.Equal(t, 3, s.code, s.err)
	require.Contains(t, p.must("schedule", "delete", "shop/sundays"), "is deleted")
	require.Equal(t, 4, p.run("schedule", "show", "shop/sundays").code)
	s = p.run("schedule", "delete", "shop/nightly")
	require.Equal(t, 2, s.code)
	require.Contains(t, s.err, "no command made it\n  what to do: remove it from the configuration, then: remora schedule apply.")
	s = p.run("schedule", "pause", "shop/nightlyy")
	require.Equal(t, 4, s.code)
	require.Contains(t, s.err, "did you mean shop/nightly?")
}

func TestWrongSchedulesAreRefused(t *testing.T) {
	p := newPlace(t, nobody, "remora", "shop")
	for args, says := range map[string]string{
		"create shop":                                     "takes a SOURCE and a NAME, not 1",
		"create shop x":                                   "say when in one way",
		"create shop x --daily 25:00":                     "(--daily)",
		"create shop x --every 1s":                        "from 60s to 720h",
		"create shop x --every 1h --zone UTC":             "counts in UTC",
		"create shop x --daily 02:30 --kind database":     "the source has no database",
		"create shop x --daily 02:30 --retention-days -1": "(--retention-days)",
		"create shop x --every 6 ":                        "invalid argument",
		"create shop x --cron 0_0_30_2_*":                 "this never happens",
	} {
		words := strings.Fields("schedule " + args)
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "_", " ")
		}
		s := p.run(words...)
		require.Equal(t, 2, s.code, args+": "+s.err)
		require.Contains(t, s.err, says, args)
		require.Equal(t, 2, strings.Count(s.err, "\n"), s.err)
	}
	require.Equal(t, 4, p.run("schedule", "create", "nowhere", "x", "--daily", "02:30").code)
	for _, args := range [][]string{{"list"}, {"show", "shop/x"}, {"apply"}, {"create", "shop", "x", "--daily", "02:30"}} {
		require.Equal(t, 7, p.run(append([]string{"schedule"}, args...)...).code)
	}
}
