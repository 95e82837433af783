package schedule

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/sync/errgroup"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

var monday = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func nightly(source, name string, t remora.Timing) remora.Schedule {
	return remora.Schedule{
		Source: source, Name: name, Kinds: []remora.Kind{remora.Database, remora.Files}, Timing: t,
		Deadline: 6 * time.Hour, CatchUp: 6 * time.Hour, Spread: 17 * time.Second,
	}
}

func adHoc(s remora.Schedule) remora.ScheduleRecord {
	s.AdHoc = true
	return remora.ScheduleRecord{ID: s.ID(), Schedule: &s, Since: monday}
}

func ids(wanted []Wanted) (all []string) {
	for _, w := range wanted {
		all = append(all, w.ID)
	}
	return all
}

func TestPlanIsWhatAnInstallationShouldHave(t *testing.T) {
	configured := nightly("shop", "nightly", remora.Calendar("30 2 * * *", "UTC"))
	shadowed, deleted := configured, nightly("shop", "gone", remora.Every(time.Hour))
	shadowed.RetentionDays = 9
	gone := adHoc(deleted)
	gone.Deleted = true
	pause := &remora.Pause{By: "ada", Why: "disks", At: monday}
	records := []remora.ScheduleRecord{
		adHoc(nightly("blog", "often", remora.Every(time.Hour))), adHoc(shadowed), gone,
		{ID: "retention", Paused: pause},
		{ID: "schedule/old/removed", Paused: pause},
	}
	plan := Plan([]remora.Schedule{configured}, map[string]remora.Timing{"offsite": remora.Calendar("0 3 * * *", "UTC")}, records)
	require.Equal(t, []string{"schedule/blog/often", "schedule/shop/nightly", "copy/offsite", "retention", "verify", "monitor"}, ids(plan))
	require.Equal(t, remora.SlotRequest{Schedule: configured}, plan[1].Args, "the configuration wins")
	require.Equal(t, pause, plan[3].Paused)
	require.Equal(t, "slot/shop/nightly", plan[1].WorkflowID)
	require.Equal(t, time.Minute, plan[5].CatchUp)
	require.Empty(t, Unrecorded(plan, records, monday), "both have a record")
	fresh := Unrecorded(plan, []remora.ScheduleRecord{gone, {ID: plan[0].ID, Deleted: true}}, monday)
	require.Equal(t, []remora.ScheduleRecord{{ID: plan[0].ID, Since: monday}, {ID: plan[1].ID, Since: monday}}, fresh, "system schedules have no slots")
}

// Several workers make each schedule once; what somebody edits in Temporal is named, and mended when that is asked for;
// what commands made is left alone; and all of it comes back on a server that knows nothing.
func TestSchedulesAreKeptAsWanted(t *testing.T) {
	server := testenv.NewTemporal(t)
	c := server.Client(t)
	ctx := t.Context()
	book := New(c, server.Namespace)
	handle := func(id string) client.ScheduleHandle { return c.ScheduleClient().GetHandle(ctx, id) }
	sources := []remora.Schedule{
		nightly("shop", "nightly", remora.Calendar("30 2 * * *", "America/Jamaica")),
		nightly("shop", "workdays", remora.Calendar("*/15 9-17 * * mon-fri", "Europe/Berlin")),
		nightly("blog", "hourly", remora.Every(time.Hour)),
		nightly("blog", "monthly", remora.Calendar("0 4 31 * *", "UTC")),
	}
	copies := map[string]remora.Timing{"offsite": remora.Calendar("30 3 * * *", "Europe/Berlin")}
	often := adHoc(nightly("shop", "often", remora.Every(30*time.Minute)))
	wanted := Plan(sources, copies, []remora.ScheduleRecord{often})

	made := make([][]string, 3)
	var workers errgroup.Group
	for i := range made {
		workers.Go(func() (err error) {
			made[i], _, err = New(server.Client(t), server.Namespace).Ensure(ctx, wanted)
			return err
		})
	}
	require.NoError(t, workers.Wait())
	var all []string
	for _, some := range made {
		all = append(all, some...)
	}
	require.ElementsMatch(t, ids(wanted), all, "each was made by one of them")
	again, drift, err := book.Ensure(ctx, wanted)
	require.NoError(t, err)
	require.Empty(t, again)
	require.Empty(t, drift, "what the server tells is what was written")
	var states []State
	testenv.Wait(t, 20*time.Second, "all to be listed", func() error {
		if states, err = book.List(ctx); err == nil && len(states) != len(wanted) {
			return fmt.Errorf("%d are", len(states))
		}
		return err
	})
	require.Equal(t, "schedule/shop/nightly", states[5].ID)
	require.Equal(t, "daily at 02:30 America/Jamaica", states[5].Timing.Text)
	require.Equal(t, sources[0], *states[5].Schedule)
	require.Len(t, states[5].Next, 10)

	// Somebody edits, pauses and adds in the Web UI, and the configuration loses one and changes another.
	edit := func(id string, change func(*client.Schedule)) {
		require.NoError(t, handle(id).Update(ctx, client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			s := in.Description.Schedule
			change(&s)
			return &client.ScheduleUpdate{Schedule: &s}, nil
		}}))
	}
	edit("schedule/shop/nightly", func(s *client.Schedule) {
		s.Spec.Calendars[0].Hour = []client.ScheduleRange{{Start: 5}}
		s.Policy.CatchupWindow = time.Hour
	})
	edit("schedule/blog/hourly", func(s *client.Schedule) { s.Spec.Jitter = time.Minute })
	edit("copy/offsite", func(s *client.Schedule) { s.Spec.TimeZoneName = "" })
	require.NoError(t, handle("schedule/blog/hourly").Pause(ctx, client.SchedulePauseOptions{Note: "by eve"}))
	sources[1].RetentionDays = 9
	wanted = Plan(sources[:3], copies, []remora.ScheduleRecord{{ID: "verify", Paused: &remora.Pause{By: "ada"}}})
	want := []string{
		"schedule/blog/hourly: time: as somebody set it in Temporal, should be every 1h",
		"schedule/shop/nightly: time: daily at 05:30 America/Jamaica, should be daily at 02:30 America/Jamaica",
		"schedule/shop/nightly: catch-up: 1h, should be 6h",
		"schedule/shop/workdays: action: back up database and files of shop, waiting up to 6h for it, should be back up database and files of shop, waiting up to 6h for it, kept 9 days",
		"copy/offsite: time: daily at 03:30 UTC, should be daily at 03:30 Europe/Berlin",
		"verify: pause: it runs, should be paused by ada",
		"schedule/blog/monthly: it is not configured: on day 31 of the month at 04:00 UTC",
	}
	said := func(drift []Drift) (all []string) {
		for _, d := range drift {
			all = append(all, d.String())
		}
		return all
	}
	_, drift, err = book.Ensure(ctx, wanted)
	require.NoError(t, err)
	require.Equal(t, want, said(drift), "a starting worker tells, and changes nothing")
	healed, err := book.Apply(ctx, wanted)
	require.NoError(t, err)
	require.Equal(t, want, said(healed))
	testenv.Wait(t, 20*time.Second, "the deleted one not to be listed", func() error {
		drift, err := book.Drift(ctx, wanted)
		if len(drift) > 0 {
			return errors.New(drift[0].String())
		}
		return err
	})
	found, err := book.Find(ctx, "schedule/blog/hourly")
	require.NoError(t, err)
	require.True(t, found.Paused, "a pause stays")
	require.Equal(t, "by eve", found.Note)
	found, err = book.Find(ctx, often.ID)
	require.NoError(t, err)
	require.NotNil(t, found, "a command made it")
	found, err = book.Find(ctx, "schedule/blog/monthly")
	require.NoError(t, err)
	require.Nil(t, found)

	// Temporal is lost.
	fresh := testenv.NewTemporal(t)
	book = New(fresh.Client(t), fresh.Namespace)
	often.Paused = &remora.Pause{By: "ada", Why: "a\nmove"}
	made[0], drift, err = book.Ensure(ctx, Plan(sources, copies, []remora.ScheduleRecord{often}))
	require.NoError(t, err)
	require.Empty(t, drift)
	require.Len(t, made[0], 9)
	found, err = book.Find(ctx, often.ID)
	require.NoError(t, err)
	require.True(t, found.Paused)
	require.Equal(t, `by ada: a\nmove`, found.Note)
	require.Len(t, found.Next, 10, "also while it is paused")
}

// The times that the server tells afterwards are those at which it started something, to the second.
func TestTimesAreThoseOfTheRuns(t *testing.T) {
	server := testenv.Temporal(t)
	c := server.Client(t)
	ctx := t.Context()
	w := worker.New(c, remora.Queue, worker.Options{})
	w.RegisterWorkflowWithOptions(func(workflow.Context, remora.SlotRequest) error { return nil }, workflow.RegisterOptions{Name: remora.SlotWorkflow})
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	book := New(c, server.Namespace)
	s := nightly("quick", "often", remora.Every(2*time.Second))
	require.NoError(t, book.Delete(ctx, s.ID()), "what is not there is none")
	_, err := book.create(ctx, Plan([]remora.Schedule{s}, nil, nil)[0])
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, book.Delete(context.Background(), s.ID())) })
	var found *State
	testenv.Wait(t, 30*time.Second, "three runs", func() error {
		if found, err = book.Find(ctx, s.ID()); err == nil && len(found.Recent) < 3 {
			return errors.New("not yet")
		}
		return err
	})
	require.NoError(t, book.Pause(ctx, s.ID(), remora.Pause{By: "ada"}))
	first, last := found.Recent[0].Due, found.Recent[2].Due
	times, err := book.Times(ctx, s.ID(), first.Add(-time.Second), last)
	require.NoError(t, err)
	require.Equal(t, []time.Time{found.Recent[0].Due, found.Recent[1].Due, last}, times)
	require.Equal(t, "slot/quick/often-"+first.Format(time.RFC3339), found.Recent[0].WorkflowID)
	times, err = book.Times(ctx, s.ID(), first, last)
	require.NoError(t, err)
	require.Len(t, times, 2, "after from, up to to")
	times, err = book.Times(ctx, s.ID(), monday, monday.Add(3*time.Hour))
	require.NoError(t, err)
	require.Len(t, times, 5400, "in pages")
	require.Equal(t, monday.Add(3*time.Hour), times[5399])

	count := func() int {
		found, err = book.Find(ctx, s.ID())
		require.NoError(t, err)
		return len(found.Recent)
	}
	before := count()
	require.NoError(t, book.Trigger(ctx, s.ID()))
	testenv.Wait(t, 10*time.Second, "the run that was asked for", func() error {
		if count() <= before && before < 10 {
			return errors.New("not yet")
		}
		return nil
	})
	require.NoError(t, book.Resume(ctx, s.ID(), "ada"))
	found, err = book.Find(ctx, s.ID())
	require.NoError(t, err)
	require.Equal(t, "resumed by ada", found.Note)
}

// What people are told of clock changes is what the server does.
func TestClockChangesAreTheServers(t *testing.T) {
	server := testenv.Temporal(t)
	book := New(server.Client(t), server.Namespace)
	for _, c := range []struct {
		zone, cron, from string
		want             []string
	}{
		{"Europe/Berlin", "30 2 * * *", "2027-03-27T00:00:00Z", []string{"2027-03-27T01:30:00Z", "2027-03-29T00:30:00Z"}},
		{"Europe/Berlin", "30 2 * * *", "2027-10-30T12:00:00Z", []string{"2027-10-31T01:30:00Z", "2027-11-01T01:30:00Z"}},
		{"America/New_York", "30 2 * * *", "2027-03-13T00:00:00Z", []string{"2027-03-13T07:30:00Z", "2027-03-15T06:30:00Z"}},
		{"America/New_York", "30 1 * * *", "2027-11-07T00:00:00Z", []string{"2027-11-07T05:30:00Z", "2027-11-07T06:30:00Z", "2027-11-08T06:30:00Z", "2027-11-09T06:30:00Z"}},
		{"Australia/Lord_Howe", "15 2 * * *", "2027-10-02T00:00:00Z", []string{"2027-10-02T15:45:00Z", "2027-10-03T15:15:00Z"}},
		{"America/Jamaica", "30 2 * * *", "2027-03-13T00:00:00Z", []string{"2027-03-13T07:30:00Z", "2027-03-14T07:30:00Z", "2027-03-15T07:30:00Z"}},
	} {
		s := nightly("clock", "change", remora.Calendar(c.cron, c.zone))
		_, err := book.create(t.Context(), Plan([]remora.Schedule{s}, nil, nil)[0])
		require.NoError(t, err)
		from, err := time.Parse(time.RFC3339, c.from)
		require.NoError(t, err)
		times, err := book.Times(t.Context(), s.ID(), from, from.Add(60*time.Hour))
		require.NoError(t, err)
		var got []string
		for _, at := range times {
			got = append(got, at.Format(time.RFC3339))
		}
		require.Equal(t, c.want, got, c.zone+" "+c.from)
		require.NoError(t, book.Delete(t.Context(), s.ID()))
	}
}
