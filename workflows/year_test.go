package workflows

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/retention"
	"github.com/remora-backup/remora/internal/schedule"
)

// TestYear lives through a year of schedules in seconds: with both changes of the clock and a leap day in
// two zones, backups that fail, restores that keep a source busy, a Temporal and workers that are away for less and for
// more than the schedules catch up, a repository that does not answer, and pauses. The slots and the backups are the real
// workflows, the accounting and the planner of retention the real ones; Temporal's schedules, the monitor and the
// repository are models. When slots are due is found by reading a wall clock at every minute of the year.
//
// REMORA_YEAR_SEED=N lives through the same year again.
func TestYear(t *testing.T) {
	seed := rand.Uint64()
	if text := os.Getenv("REMORA_YEAR_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("again: REMORA_YEAR_SEED=%d go test ./workflows -run TestYear -v", seed)
	y := newYear(t, seed)
	s := newStage(t, y.world, "year")
	s.SetTestTimeout(5 * time.Minute)
	s.SetStartTime(newYear0)
	for _, kind := range both {
		s.OnActivity(kind.Activity(remora.CaptureVerb), mock.Anything, mock.Anything).
			AfterFn(func() time.Duration { return time.Duration(1+y.roll(kind, y.now())%40) * time.Minute }).Return(component{y.world, kind}.capture)
	}
	s.RegisterWorkflowWithOptions(y.live, workflow.RegisterOptions{Name: "year"})
	s.RegisterWorkflowWithOptions(func(ctx workflow.Context, long time.Duration) error { return workflow.Sleep(ctx, long) },
		workflow.RegisterOptions{Name: "restoring"})
	s.ExecuteWorkflow("year")
	require.NoError(t, s.GetWorkflowError())
	y.tell()
}

var (
	newYear0 = time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC)
	newYear1 = time.Date(2028, 6, 1, 0, 0, 0, 0, time.UTC)
)

// span is a time during which something is away.
type span struct{ from, until time.Time }

func (s span) holds(at time.Time) bool { return !at.Before(s.from) && at.Before(s.until) }

// within is when the span ends that holds a moment; zero for none.
func within(all []span, at time.Time) time.Time {
	for _, s := range all {
		if s.holds(at) {
			return s.until
		}
	}
	return time.Time{}
}

// year is the model: Temporal's schedules, the monitor, and what can go wrong.
type year struct {
	*world
	t    *testing.T
	seed uint64
	rand *rand.Rand
	now  func() time.Time

	plans []*planned
	// temporal, workers and disk are when they are away; restores are when each source is restored.
	temporal, workers, disk []span
	restores                map[string][]span
	policy                  remora.KeepPolicy

	gone    map[string]remora.Status // of the slots whose backups retention has deleted
	corrupt map[string]bool
	deleted int
	refused int
	newest  map[string]time.Time
	longest map[string]time.Duration
}

// planned is one schedule, as the model's server has it.
type planned struct {
	remora.Schedule
	record remora.ScheduleRecord
	due    []time.Time
	pauses []span
	runs   map[time.Time]*schedule.Run
	// killed are the slots whose workflow somebody has terminated; judged are those that the monitor has recorded.
	killed, judged map[time.Time]bool
	open           *schedule.Run
	until          time.Time
}

func newYear(t *testing.T, seed uint64) *year {
	y := &year{
		world: newWorld(t), t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), now: func() time.Time { return newYear0 },
		restores: map[string][]span{}, policy: remora.KeepPolicy{Last: 25, DatabaseDays: 14, FilesDays: 14}, // the days decide for shop, which has more backups, the number for blog
		gone: map[string]remora.Status{}, corrupt: map[string]bool{}, newest: map[string]time.Time{}, longest: map[string]time.Duration{},
	}
	delete(y.backups, "good")
	y.chance = y.mayFail
	daily := func(time.Time) bool { return true }
	sundays := func(at time.Time) bool { return at.Weekday() == time.Sunday }
	monthly := func(day int) func(time.Time) bool { return func(at time.Time) bool { return at.Day() == day } }
	y.plan("shop", "nightly", "Europe/Berlin", "02:30", daily, remora.Database)
	y.plan("shop", "evening", "Europe/Berlin", "18:00", daily, remora.Files)
	y.plan("shop", "weekly", "Europe/Berlin", "02:30", sundays, both...)
	y.plan("shop", "monthly", "Europe/Berlin", "03:00", monthly(31), both...)
	y.plan("blog", "nightly", "America/New_York", "01:30", daily, both...)
	often := func(at time.Time) bool { return at.Day() <= 2 && at.Minute() == 45 && at.Hour()%4 == 0 }
	y.plan("blog", "often", "America/New_York", "", often, remora.Files)
	y.plan("blog", "weekly", "America/New_York", "02:30", sundays, both...)
	y.plan("blog", "monthly", "America/New_York", "02:00", monthly(29), both...)
	// A third of the outages is longer than the six hours for which slots are caught up with.
	y.temporal = y.spans(20, 10*time.Minute, 9*time.Hour)
	y.temporal = append(y.temporal, y.long(100, 60*time.Hour))
	y.workers = y.spans(20, 10*time.Minute, 9*time.Hour)
	y.workers = append(y.workers, y.long(200, 60*time.Hour))
	y.disk = y.spans(25, 10*time.Minute, 5*time.Hour)
	for _, source := range []string{"shop", "blog"} {
		y.restores[source] = append([]span{y.long(1, 30*time.Hour)}, y.spans(40, 10*time.Minute, 6*time.Hour)...)
	}
	return y
}

func (y *year) minutes(least, most int) time.Duration {
	return time.Duration(least+y.rand.IntN(most-least+1)) * time.Minute
}

// spans are about n of them, in the order of time, most of them at night, when slots are due.
func (y *year) spans(n int, least, most time.Duration) (all []span) {
	at := newYear0
	for {
		at = at.Add(time.Duration(y.rand.Int64N(int64(2 * newYear1.Sub(newYear0) / time.Duration(n)))))
		if y.rand.IntN(3) > 0 {
			at = at.Truncate(24 * time.Hour).Add(23*time.Hour + y.minutes(0, 420))
		}
		s := span{at, at.Add(least + time.Duration(y.rand.Int64N(int64(most-least))))}
		if s.until.After(newYear1) {
			return all
		}
		all, at = append(all, s), s.until
	}
}

// long is a span that no year is without, on about that day.
func (y *year) long(day int, d time.Duration) span {
	from := newYear0.AddDate(0, 0, day).Add(y.minutes(0, 1440))
	return span{from, from.Add(d)}
}

// plan makes a schedule that is due whenever the wall clock of its zone reads so.
func (y *year) plan(source, name, zone, clock string, on func(local time.Time) bool, kinds ...remora.Kind) {
	where, err := time.LoadLocation(zone)
	require.NoError(y.t, err)
	p := &planned{
		Schedule: remora.Schedule{
			Source: source, Name: name, Kinds: kinds, Deadline: 3 * time.Hour, CatchUp: 6 * time.Hour, Spread: 20 * time.Minute,
		},
		runs: map[time.Time]*schedule.Run{}, killed: map[time.Time]bool{}, judged: map[time.Time]bool{},
	}
	p.record = remora.ScheduleRecord{ID: p.ID(), Since: newYear0}
	for at := newYear0; at.Before(newYear1); at = at.Add(time.Minute) {
		if local := at.In(where); (clock == "" || local.Format("15:04") == clock) && on(local) {
			p.due = append(p.due, at)
		}
	}
	p.until, p.pauses = newYear0, y.spans(3, 12*time.Hour, 240*time.Hour)
	y.plans = append(y.plans, p)
}

// roll is chance for what runs beside other things, in no order: by what it is for.
func (y *year) roll(what ...any) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, y.seed, what)
	return h.Sum64()
}

// mayFail breaks about every tenth backup somewhere, and everything of the repository while that is away.
func (y *year) mayFail(ctx context.Context, name string) (before, after error) {
	info := activity.GetInfo(ctx)
	roll := y.roll(name, info.WorkflowExecution.RunID, info.ActivityID, info.Attempt)
	ofRepository := strings.HasPrefix(name, "repository.") || strings.HasSuffix(name, ".Capture")
	switch {
	case name == remora.RecordFailureActivity && info.Attempt > 8 && strings.HasPrefix(info.WorkflowExecution.ID, "slot/"):
		return nil, nil // the SDK's environment ends at the tenth attempt what has no last one
	case ofRepository && !within(y.disk, y.now()).IsZero():
		return broken(remora.Unavailable), nil
	case name == remora.NotifyActivity || name == remora.HolderActivity || name == remora.RecordFailureActivity || roll%60 > 0:
		return nil, nil
	case roll%120 == 0:
		return broken(remora.Denied), nil
	default:
		return nil, broken(remora.Denied)
	}
}

// until sleeps up to a moment.
func until(ctx workflow.Context, at time.Time) {
	if d := at.Sub(workflow.Now(ctx)); d > 0 {
		_ = workflow.Sleep(ctx, d)
	}
}

// live is the year. It ends when all of it can be judged.
func (y *year) live(ctx workflow.Context) error {
	y.now = func() time.Time { return workflow.Now(ctx) }
	for _, p := range y.plans {
		workflow.Go(ctx, func(ctx workflow.Context) { y.serve(ctx, p) })
		workflow.Go(ctx, func(ctx workflow.Context) { y.pause(ctx, p) })
	}
	for _, source := range slices.Sorted(maps.Keys(y.restores)) {
		workflow.Go(ctx, func(ctx workflow.Context) { y.restore(ctx, source) })
	}
	for at := newYear0.Add(5 * time.Hour); at.Before(newYear1.Add(72 * time.Hour)); at = at.Add(6 * time.Hour) {
		until(ctx, at)
		if within(y.temporal, at).IsZero() && within(y.workers, at).IsZero() && within(y.disk, at).IsZero() {
			y.monitor(at)
		}
		y.look(at)
		if at.Hour() == 5 {
			y.retain(at)
			y.check(at)
		}
	}
	return nil
}

// serve is Temporal's schedule: it begins slots when they are due, or late after an outage, and none while the one before
// is at work.
func (y *year) serve(ctx workflow.Context, p *planned) {
	for _, due := range p.due {
		until(ctx, due)
		if p.rests(due) {
			continue
		}
		if back := within(y.temporal, due); !back.IsZero() {
			until(ctx, back)
		}
		now := workflow.Now(ctx)
		if now.Sub(due) <= p.CatchUp && !p.rests(now) && p.open == nil {
			run := &schedule.Run{Due: due, Began: now}
			p.open, p.runs[due] = run, run
			require.False(y.t, p.judged[due], "%s %s was given up before it began", p.ID(), due)
			workflow.Go(ctx, func(ctx workflow.Context) {
				if y.rand.IntN(150) == 0 {
					p.killed[due] = true
					until(ctx, now.Add(y.minutes(10, 1200)))
					run.Ended, p.open = workflow.Now(ctx), nil
					return
				}
				if back := within(y.workers, now); !back.IsZero() {
					until(ctx, back)
				}
				ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
					WorkflowID:            "slot/" + p.Source + "/" + p.Name + "-" + due.Format(time.RFC3339),
					TypedSearchAttributes: dueAttributes(due),
				})
				_ = workflow.ExecuteChildWorkflow(ctx, remora.SlotWorkflow, remora.SlotRequest{Schedule: p.Schedule}).Get(ctx, nil)
				run.Ended, p.open = workflow.Now(ctx), nil
			})
		}
	}
}

func (p *planned) rests(at time.Time) bool { return !within(p.pauses, at).IsZero() }

func (y *year) pause(ctx workflow.Context, p *planned) {
	for _, s := range p.pauses {
		until(ctx, s.from)
		p.record.Paused = &remora.Pause{At: workflow.Now(ctx)}
		until(ctx, s.until)
		p.record.Resume(workflow.Now(ctx))
	}
}

// restore keeps a source busy, and asks a backup that is at work to stop, as a restore does.
func (y *year) restore(ctx workflow.Context, source string) {
	for _, s := range y.restores[source] {
		until(ctx, s.from)
		_, _ = inLane[nothing](ctx, laneCall{workflow: "restoring", source: source, input: s.until.Sub(s.from), patience: lanePatience})
	}
}

// list is what the repository lists.
func (y *year) list() (all []remora.Backup) {
	for id, s := range y.backups {
		b := remora.Backup{Manifest: s.manifest, Status: remora.Pending}
		switch {
		case y.corrupt[id]:
			b.Status = remora.Corrupted
		case s.verified:
			b.Status = remora.Completed
		}
		all = append(all, b)
	}
	for _, f := range y.failures {
		b := remora.Backup{Status: f.Status, Problem: f.Problem}
		b.ID, b.Source, b.Slot, b.Started, b.Ended, b.Purpose = f.ID, f.Source, f.Slot, f.Started, f.Ended, f.Purpose
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b remora.Backup) int { return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(a.ID, b.ID)) })
	return all
}

// monitor accounts for the slots that nobody else has recorded.
func (y *year) monitor(now time.Time) {
	y.mu.Lock()
	defer y.mu.Unlock()
	history := y.list()
	for _, p := range y.plans {
		k := schedule.Known{Schedule: p.Schedule, Record: p.record, History: history, Until: p.until, Now: now}
		for _, due := range p.due {
			if due.After(p.until) && !due.After(schedule.Horizon(p.Schedule, now)) {
				k.Due = append(k.Due, due)
			}
		}
		for _, r := range p.runs {
			if now.Sub(r.Due) < 90*24*time.Hour { // Temporal forgets
				k.Runs = append(k.Runs, *r)
			}
		}
		records, until := schedule.Account(k)
		require.False(y.t, until.Before(p.until), "%s: it goes back", p.ID())
		for _, r := range records {
			require.Equal(y.t, p.killed[r.Slot.Due], r.Status == remora.Failed, "%s left no record of its own", r.Run)
			p.judged[r.Slot.Due] = true
			y.keepFailure(r)
		}
		p.until = until
	}
}

// look measures how old the newest good backup of each source is.
func (y *year) look(now time.Time) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, b := range y.list() {
		if b.Status == remora.Completed && b.Started.After(y.newest[b.Source]) {
			y.newest[b.Source] = b.Started
		}
	}
	for source, newest := range y.newest {
		y.longest[source] = max(y.longest[source], now.Sub(newest))
	}
}

// retain deletes what need not be kept, and compares that with what somebody with a list on paper would do.
func (y *year) retain(now time.Time) {
	y.mu.Lock()
	defer y.mu.Unlock()
	all := y.list()
	for _, b := range all { // reading all of them has found one to be damaged
		if b.Status == remora.Completed && y.rand.IntN(4000) == 0 {
			y.corrupt[b.ID] = true
		}
	}
	all = y.list()
	var inUse []string
	if len(all) > 0 {
		inUse = append(inUse, all[y.rand.IntN(len(all))].ID)
	}
	in := remora.Inventory{Now: now, Backups: all}
	for _, id := range inUse {
		in.Leases = append(in.Leases, remora.Lease{Backup: id, Until: now.Add(time.Hour)})
	}
	plan := retention.Make(in, func(string) remora.KeepPolicy { return y.policy }, "")
	var got, want []string
	for _, v := range plan.Verdicts {
		if v.Delete {
			got = append(got, v.Backup)
		}
	}
	for _, b := range all {
		if !stays(y.policy, all, b, inUse, now) {
			want = append(want, b.ID)
		}
	}
	require.ElementsMatch(y.t, want, got, "the planner and paper disagree on %s", now)
	y.refused += len(plan.Refusals)
	newest := map[string]remora.Backup{}
	for _, b := range all {
		if b.Status == remora.Completed && !b.Started.Before(newest[b.Source].Started) {
			newest[b.Source] = b
		}
	}
	deletes := plan.Deletes()
	for _, b := range all {
		if !slices.Contains(deletes, b.ID) {
			continue
		}
		require.NotEqual(y.t, newest[b.Source].ID, b.ID, "the newest good backup was deleted on %s", now)
		y.gone[slotKey(b.Source, b.Slot)] = b.Status
		delete(y.backups, b.ID)
		y.deleted++
	}
}

// stays decides about one backup alone.
func stays(policy remora.KeepPolicy, all []remora.Backup, b remora.Backup, inUse []string, now time.Time) bool {
	if b.Status != remora.Completed && b.Status != remora.Corrupted && b.Status != remora.Pending {
		return true
	}
	newer := 0
	newest := map[remora.Kind]bool{remora.Database: b.Kind != remora.FilesBackup, remora.Files: b.Kind != remora.DatabaseBackup}
	for _, o := range all {
		if o.Source == b.Source && o.Status == remora.Completed && (o.Started.After(b.Started) || o.Started.Equal(b.Started) && o.ID > b.ID) {
			newer++
			newest[remora.Database] = newest[remora.Database] && o.Kind == remora.FilesBackup
			newest[remora.Files] = newest[remora.Files] && o.Kind == remora.DatabaseBackup
		}
	}
	if b.Status == remora.Pending {
		return newest[remora.Database] || newest[remora.Files] || now.Sub(b.Started) <= 7*24*time.Hour || slices.Contains(inUse, b.ID)
	}
	return newest[remora.Database] || newest[remora.Files] || newer < policy.Last || now.Sub(b.Started) <= time.Duration(policy.DatabaseDays)*24*time.Hour || slices.Contains(inUse, b.ID)
}

func slotKey(source string, s remora.Slot) string {
	return source + "/" + s.Schedule + "/" + s.Due.UTC().Format(time.RFC3339)
}

// outcomesByKey are all outcomes of all slots, those of deleted backups as well.
func (y *year) outcomesByKey() map[string][]remora.Status {
	all := map[string][]remora.Status{}
	for _, b := range y.list() {
		key := slotKey(b.Source, b.Slot)
		all[key] = append(all[key], b.Status)
	}
	for key, status := range y.gone {
		all[key] = append(all[key], status)
	}
	return all
}

// check holds I10: every slot that is accounted for has exactly one outcome, the one that it deserves; the monitor is
// not behind; and nothing else is recorded.
func (y *year) check(now time.Time) {
	y.mu.Lock()
	defer y.mu.Unlock()
	all := y.outcomesByKey()
	known := 0
	for _, p := range y.plans {
		for _, due := range p.due {
			key := slotKey(p.Source, remora.Slot{Schedule: p.Name, Due: due})
			got := all[key]
			known += len(got)
			if p.rests(due) {
				require.Empty(y.t, got, "%s was due in a pause", key)
				continue
			}
			require.LessOrEqual(y.t, len(got), 1, "%s has several outcomes", key)
			if !due.After(p.until) {
				require.Len(y.t, got, 1, "%s has no outcome on %s", key, now)
				y.deserved(p, due, got[0], key)
			}
		}
		if p.open == nil && within(y.temporal, now.Add(-24*time.Hour)).IsZero() && within(y.workers, now.Add(-24*time.Hour)).IsZero() {
			require.Less(y.t, now.Sub(p.until), 100*time.Hour, "the monitor is behind with %s on %s", p.ID(), now)
		}
	}
	total := 0
	for _, got := range all {
		total += len(got)
	}
	require.Equal(y.t, total, known, "there are records of slots that were never due")
}

// deserved tells whether a slot that the server did not begin says so, and why.
func (y *year) deserved(p *planned, due time.Time, got remora.Status, key string) {
	if run := p.runs[due]; run != nil {
		if got == remora.Missed {
			require.False(y.t, within(y.workers, run.Began).IsZero(), "%s was missed though a worker was there", key)
		}
		return
	}
	want := []remora.Status{remora.Missed}
	for _, other := range p.runs {
		if other.Due.Before(due) && !other.Began.After(due) && (other.Ended.IsZero() || other.Ended.After(due)) {
			want = []remora.Status{remora.Skipped}
			if !within(y.workers, other.Began).IsZero() {
				want = append(want, remora.Missed) // it only waited for a worker
			}
		}
	}
	require.Contains(y.t, want, got, key)
}

// tell prints what the year came to.
func (y *year) tell() {
	all := y.outcomesByKey()
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := []remora.Status{remora.Completed, remora.Corrupted, remora.Pending, remora.Failed, remora.Skipped, remora.Missed}
	fmt.Fprint(table, "\nschedule\tslots\t")
	for _, how := range head {
		fmt.Fprintf(table, "%s\t", how)
	}
	fmt.Fprintln(table, "paused\t")
	slots, sum := 0, map[remora.Status]int{}
	for _, p := range y.plans {
		by, paused := map[remora.Status]int{}, 0
		for _, due := range p.due {
			if p.rests(due) {
				paused++
				continue
			}
			got := all[slotKey(p.Source, remora.Slot{Schedule: p.Name, Due: due})]
			require.Len(y.t, got, 1, "%s %s", p.ID(), due)
			by[got[0]]++
			sum[got[0]]++
			slots++
		}
		fmt.Fprintf(table, "%s/%s\t%d\t", p.Source, p.Name, len(p.due)-paused)
		for _, how := range head {
			fmt.Fprintf(table, "%d\t", by[how])
		}
		fmt.Fprintf(table, "%d\t\n", paused)
	}
	fmt.Fprintf(table, "all\t%d\t", slots)
	for _, how := range head {
		fmt.Fprintf(table, "%d\t", sum[how])
		if how != remora.Corrupted {
			require.Positive(y.t, sum[how], "a year without a slot that is %s proves little", how)
		}
	}
	fmt.Fprintln(table, "\t")
	require.NoError(y.t, table.Flush())
	fmt.Fprintf(&text, "backups kept %d, deleted %d, plans refused %d; notices %d\n", len(y.backups), y.deleted, y.refused, len(y.notices))
	for _, source := range slices.Sorted(maps.Keys(y.longest)) {
		fmt.Fprintf(&text, "longest without a new good backup of %s: %s\n", source, y.longest[source].Round(time.Minute))
	}
	y.t.Log(text.String())
}
