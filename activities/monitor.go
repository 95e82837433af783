package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/internal/monitor"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/retention"
	"github.com/remora-backup/remora/internal/schedule"
)

// Monitor holds the steps that look how everything is.
type Monitor struct {
	Temporal  client.Client
	Namespace string
	Locations *repository.Locations
	// Sources are what is expected of each, but for its schedules.
	Sources []remora.Expected
	// Schedules are those of the configuration, Copies when all is copied, and Book what Temporal has of both.
	Schedules []remora.Schedule
	Copies    map[string]remora.Timing
	Book      *schedule.Book
	// Of finds the component of a source.
	Of func(kind remora.Kind) func(source string) (remora.Component, error)
	// Since is when this worker was started.
	Since time.Time
	// Now is the clock; nil means time.Now.
	Now   func() time.Time
	Watch Watch
}

// Register makes the steps known under their wire names.
func (m *Monitor) Register(to Registry) {
	step(to, m.Watch, remora.LookAroundActivity, func(remora.LookInput) string { return "look how everything is" }, m.look)
	act(to, m.Watch, remora.RecordMonitorActivity, func(remora.MonitorState) string { return "record what the monitor remembers" }, m.record)
}

func (m *Monitor) record(ctx context.Context, s remora.MonitorState) error {
	r, err := m.Locations.At(ctx, "")
	if err != nil {
		return err
	}
	return r.RecordMonitorState(ctx, s)
}

// look finds out what is wrong. What cannot be looked at fails nothing: it stays as it was last seen, and that it cannot
// be looked at is a finding of its own.
func (m *Monitor) look(ctx context.Context, in remora.LookInput) (remora.LookResult, error) {
	g := &glance{Monitor: m, now: time.Now().UTC(), state: in.Before}
	if m.Now != nil {
		g.now = m.Now().UTC()
	}
	g.part(ctx, "the repository", g.ofRepository, "overdue/", "failed/", "missed/", "corrupt/", "halved/", "full/", "copy/", "undelivered",
		"left/", "foreign/", "schedule/", "unproven/", "slow/", "drill/", "drilled/")
	g.part(ctx, "the runs in Temporal", g.ofRuns, "failing/", "stuck/", "person/")
	g.part(ctx, "the queues in Temporal", g.ofQueues, "queue/")
	if g.home != nil {
		g.part(ctx, "the runs that left no record", g.terminated)
		g.part(ctx, "what restores have left", g.ofLeftovers, "left/", "foreign/", "drilled/")
		g.part(ctx, "the schedules", g.ofSchedules, "schedule/")
	}
	g.forget(ctx)
	return g.result(), nil
}

// glance is one look.
type glance struct {
	*Monitor
	now   time.Time
	state remora.MonitorState
	found []remora.Alert
	// unknown are the beginnings of the keys that were not looked at.
	unknown []string
	home    *repository.Repository // nil while it is away
	written time.Time
	runs    []remora.Backup // newest first
	proofs  []remora.Proof  // likewise
	sampled bool
	// scheduled are the records of schedules, and wanted what follows from them and the configuration.
	scheduled []remora.ScheduleRecord
	wanted    []schedule.Wanted

	missing   []remora.FailedRun
	accounted map[string]time.Time
	lost      []string
	drilled   []remora.DrillRequest
}

// The bounds of what travels through a history. Of what is missing there may be a page of slots more.
const (
	mostAlerts  = 200
	mostMissing = 50
)

func (g *glance) result() remora.LookResult {
	before := g.state.Alerts
	r := remora.LookResult{Accounted: g.accounted, Missing: g.missing, Lost: g.lost, Drilled: g.drilled}
	g.state.Alerts, r.Notices = monitor.Turn(before, g.found[:min(len(g.found), mostAlerts)], g.unknown, g.now)
	same := func(a, b remora.Alert) bool {
		return a.Key == b.Key && a.Level == b.Level && a.Told.Equal(b.Told) && a.Gone.IsZero() == b.Gone.IsZero()
	}
	hourly := !g.written.Truncate(time.Hour).Equal(g.now.Truncate(time.Hour))
	r.Write = g.home != nil && (g.sampled || hourly || len(g.missing) > 0 || !slices.EqualFunc(before, g.state.Alerts, same))
	g.state.At = g.now
	r.State = g.state
	return r
}

// part looks at one part of the whole; keys are the beginnings of its alerts.
func (g *glance) part(ctx context.Context, what string, look func(context.Context) error, keys ...string) {
	err := look(ctx)
	if err == nil {
		return
	}
	g.unknown = append(g.unknown, keys...)
	p := remora.ProblemOf("look at "+what, err)
	g.add("blind/"+what, remora.Failing, "", p.Text().Hint, "the monitor cannot look at %s: %s", what, p.Error())
}

func (g *glance) add(key string, level remora.Level, source, hint, format string, args ...any) {
	g.found = append(g.found, monitor.Found(key, level, source, hint, format, args...))
}

// ofRepository reads what the repository knows, and judges it.
func (g *glance) ofRepository(ctx context.Context) error {
	r, err := g.Locations.At(ctx, "")
	if err != nil {
		return err
	}
	state, err := r.MonitorState(ctx)
	if err != nil {
		return err
	}
	if g.written = state.At; g.state.At.After(state.At) { // it remembers more than it wrote
		state.At, state.Alerts, state.Failing = g.state.At, g.state.Alerts, g.state.Failing
	}
	g.state = state
	if g.runs, err = r.List(ctx, repository.Filter{}); err != nil {
		return err
	}
	if g.scheduled, err = r.Schedules(ctx); err != nil {
		return err
	}
	g.wanted = schedule.Plan(g.Schedules, g.Copies, g.scheduled)
	if g.proofs, err = r.Proofs(ctx, ""); err != nil {
		return err
	}
	undelivered, err := r.Undelivered(ctx)
	if err != nil {
		return err
	}
	if n := len(undelivered); n > 0 {
		u := undelivered[0]
		g.add("undelivered", remora.Failing, "", u.Hint, "notices that could not be told: %d; the last one to %s: %s", n, u.To, u.Problem)
	}
	for _, s := range g.Sources {
		s.Schedules = schedule.Of(s.Source, g.Schedules, g.scheduled)
		runs := slices.DeleteFunc(slices.Clone(g.runs), func(b remora.Backup) bool { return b.Source != s.Source })
		g.found = append(g.found, monitor.Findings(s, runs, remora.DrillsOf(s.Source, g.proofs), g.now)...)
		g.halved(s.Source, runs)
		g.behind(s.Source, runs)
	}
	g.home = r
	return g.space(ctx, r)
}

// space looks how much room there is: for nothing in a directory each time, and once a day with a list of all blobs.
func (g *glance) space(ctx context.Context, r *repository.Repository) error {
	free, err := r.Free(ctx)
	if err != nil {
		return err
	}
	if monitor.SampleDue(g.state.Sizes, g.now) {
		s, err := r.Sample(ctx)
		if err != nil {
			return err
		}
		s.At, g.sampled = g.now, true
		g.state.Sizes = monitor.Sampled(g.state.Sizes, s)
	}
	g.found = append(g.found, monitor.Space(g.state.Sizes, free)...)
	return nil
}

// halved compares the newest good backup with the one before.
func (g *glance) halved(source string, runs []remora.Backup) {
	var good []remora.Backup
	for _, b := range runs {
		if b.Purpose == remora.Regular && b.Status == remora.Completed && (len(good) == 0 || b.Kind == good[0].Kind) {
			good = append(good, b)
		}
	}
	if len(good) < 2 {
		return
	}
	if why := retention.Suspect(good[0], good[1]); why != "" {
		g.add("halved/"+source, remora.Warning, source, "see that nothing is missing: remora show "+good[0].ID, "the newest backup is suspect: %s", why)
	}
}

// lag is for how long a copy may lack a backup.
const lag = 48 * time.Hour

// behind tells which copies lack good backups for long. An older one may have been left out, or removed there.
func (g *glance) behind(source string, runs []remora.Backup) {
	for _, name := range g.Locations.Names() {
		var lacks []remora.Backup
		for _, b := range runs {
			if slices.Contains(b.Copies, name) {
				break
			}
			if b.Purpose == remora.Regular && b.Status == remora.Completed {
				lacks = append(lacks, b)
			}
		}
		if n := len(lacks); n > 0 && g.now.Sub(lacks[n-1].Started) > lag {
			g.add("copy/"+name+"/"+source, remora.Warning, source, "catch up with: remora copy --all --to "+name,
				"the copy %s lacks its newest %d backups, since %s", name, n, remora.Span(g.now.Sub(lacks[n-1].Started)))
		}
	}
}

// leftoverTime bounds how long a journal may take to answer.
const leftoverTime = 15 * time.Second

// ofLeftovers looks for restores that nobody looks after (S10, S20): a record that is not settled, or a journal beside the
// data, while neither the restore nor anything else is at work on the source.
func (g *glance) ofLeftovers(ctx context.Context) error {
	for _, s := range g.Sources {
		lane, err := describe(ctx, g.Temporal, remora.Lane(s.Source), "")
		if err != nil {
			return err
		}
		restore, err := describe(ctx, g.Temporal, remora.RestoreLane(s.Source), "")
		if err != nil {
			return err
		}
		if running(lane) {
			g.unknown = append(g.unknown, "left/"+s.Source, "foreign/"+s.Source, "drilled/"+s.Source)
			continue
		}
		cared := running(restore) // then drills alone may have left something
		if cared {
			g.unknown = append(g.unknown, "left/"+s.Source)
		}
		records, err := g.home.Restores(ctx, s.Source) // after that: what ends meanwhile is settled here
		if err != nil {
			return err
		}
		left := !cared && slices.ContainsFunc(records, func(r remora.Restore) bool { return r.Outcome.Unsettled() })
		var drilled []remora.Leftover
		for _, kind := range s.Kinds {
			ours, of, err := g.journal(ctx, kind, s.Source)
			if err != nil { // its database is away: backups tell that
				g.unknown = append(g.unknown, "left/"+s.Source, "foreign/"+s.Source, "drilled/"+s.Source)
			}
			left = left || ours && !cared
			drilled = append(drilled, of...)
		}
		switch last := lane.GetWorkflowExecutionInfo(); {
		case len(drilled) > 0 && g.tried(last) && last.GetType().GetName() == remora.DrillWorkflow:
			g.add("drilled/"+s.Source, remora.Warning, s.Source, "see why in Temporal: workflow "+remora.Lane(s.Source), "what a drill built cannot be removed: %s", strings.Join(few(drilled[0].What), ", "))
		case len(drilled) > 0 && !left: // else whatever is done about that has the lane
			g.drilled = append(g.drilled, remora.DrillRequest{Source: s.Source, RequestedBy: remora.MonitorActor, Settle: drilled})
		}
		switch {
		case left && g.tried(restore.GetWorkflowExecutionInfo()):
			g.add("left/"+s.Source, remora.Failing, s.Source, fmt.Sprintf("settle it with: remora rollback %[1]s, or keep what is live with: remora accept %[1]s", s.Source),
				"a restore lost its workflow, and could not be taken over")
		case left:
			g.lost = append(g.lost, s.Source)
		}
	}
	return nil
}

// tried tells whether a restore was to be taken over in the last hour, in vain.
func (g *glance) tried(last *workflowpb.WorkflowExecutionInfo) bool {
	return last.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_FAILED && schedule.Attribute(last.GetSearchAttributes(), remora.ActorAttribute) == remora.MonitorActor && g.now.Sub(last.GetCloseTime().AsTime()) < time.Hour
}

// journal tells whether the journal beside the data knows a restore of ours, and which drills. Those of others are reported,
// and left alone.
func (g *glance) journal(ctx context.Context, kind remora.Kind, source string) (ours bool, drilled []remora.Leftover, err error) {
	component, err := g.Of(kind)(source)
	if err != nil {
		return false, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, leftoverTime)
	defer cancel()
	all, err := component.Leftovers(ctx)
	for _, l := range all {
		switch {
		case l.Installation != g.home.Installation():
			g.add("foreign/"+source, remora.Warning, source, "settle it with the program of that installation",
				"a restore of another installation left %s beside the %s", strings.Join(few(l.What), ", "), kind)
		case l.Source == source && remora.IsDrill(l.Run):
			drilled = append(drilled, l)
		case l.Source == source:
			ours = true
		}
	}
	return ours, drilled, err
}
