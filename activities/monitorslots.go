package activities

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/converter"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/schedule"
)

// forgotten is how long a schedule may be paused before people are asked whether that is meant.
const forgotten = 7 * 24 * time.Hour

// ofSchedules compares the schedules that Temporal has with what is wanted, and accounts for their slots.
func (g *glance) ofSchedules(ctx context.Context) error {
	drift, err := g.Book.Drift(ctx, g.wanted)
	if err != nil {
		return err
	}
	for _, d := range drift {
		level := remora.Warning
		if d.What == schedule.Missing {
			level = remora.Failing
		}
		g.add("schedule/"+d.ID, level, sourceOf(d.ID), "see what would be changed with: remora schedule apply --dry-run; where that is nothing, start the workers again, which began before the configuration changed", "a schedule is not as wanted: %s", d.String())
	}
	g.accounted = map[string]time.Time{}
	for _, w := range g.wanted {
		if w.Paused != nil && g.now.Sub(w.Paused.At) > forgotten {
			g.add("schedule/"+w.ID+"/paused", remora.Warning, w.Source, "let it go on with: remora schedule resume "+schedule.Ref(w.ID),
				"the schedule %s is paused for %s, %s", schedule.Ref(w.ID), remora.Span(g.now.Sub(w.Paused.At)), w.Paused.String())
		}
		if req, ok := w.Args.(remora.SlotRequest); ok {
			i := slices.IndexFunc(g.scheduled, func(r remora.ScheduleRecord) bool { return r.ID == w.ID && !r.Deleted })
			if i < 0 {
				continue // a starting worker writes it, and its slots count from then on
			}
			if g.accounted[w.ID], err = g.account(ctx, req.Schedule, g.scheduled[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// sourceOf is the source of a schedule; empty for one that is not of a source.
func sourceOf(id string) string {
	ref, ours := strings.CutPrefix(id, remora.SchedulePrefix)
	if !ours {
		return ""
	}
	source, _, _ := strings.Cut(ref, "/")
	return source
}

// account finds the slots that left no record, and gives up to when all are accounted for.
func (g *glance) account(ctx context.Context, s remora.Schedule, r remora.ScheduleRecord) (time.Time, error) {
	until, known := g.state.Accounted[s.ID()]
	horizon := schedule.Horizon(s, g.now)
	switch {
	case !known && s.Drill: // earlier versions left no records of them
		return horizon, nil
	case !known:
		until = r.Since.Add(-time.Nanosecond)
	}
	if !horizon.After(until) || len(g.missing) >= mostMissing {
		return until, nil
	}
	due, err := g.Book.Times(ctx, s.ID(), until, horizon)
	if errors.As(err, new(*serviceerror.NotFound)) {
		return until, nil // it is missing, which is told
	}
	if err != nil {
		return until, err
	}
	runs, err := g.slots(ctx, s, until)
	if err != nil {
		return until, err
	}
	history := g.runs
	if s.Drill {
		history = nil
		for _, p := range g.proofs {
			b := remora.Backup{Manifest: remora.Manifest{Source: p.Source, Slot: p.Slot, Started: p.Started, Ended: p.Ended}}
			if p.Outcome == remora.DrillMissed {
				b.Status = remora.Missed
			}
			history = append(history, b)
		}
	}
	missing, until := schedule.Account(schedule.Known{Schedule: s, Record: r, Due: due, History: history, Runs: runs, Until: until, Now: g.now})
	g.missing = append(g.missing, missing...)
	return until, nil
}

// slots are the workflows of a schedule that may have been at work since.
func (g *glance) slots(ctx context.Context, s remora.Schedule, since time.Time) (runs []schedule.Run, err error) {
	found, err := g.list(ctx, "WorkflowType = '%s' AND %s = '%s' AND StartTime > '%s'",
		remora.SlotWorkflow, remora.SourceAttribute, s.Source, since.Add(-longest).Format(time.RFC3339))
	for _, info := range found {
		if !strings.HasPrefix(info.GetExecution().GetWorkflowId(), "slot/"+s.Source+"/"+s.Name+"-") {
			continue
		}
		r := schedule.Run{Began: info.GetStartTime().AsTime()}
		if info.GetCloseTime() != nil {
			r.Ended, r.Well = info.GetCloseTime().AsTime(), info.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_COMPLETED
		}
		_ = converter.GetDefaultDataConverter().FromPayload(info.GetSearchAttributes().GetIndexedFields()[remora.DueAttribute], &r.Due) // none where somebody triggered it
		runs = append(runs, r)
	}
	return runs, err
}
