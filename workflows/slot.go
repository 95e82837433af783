package workflows

import (
	"cmp"
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// Slot is one slot of a schedule: it waits until nobody else is at work on the source, and has it backed up, or a backup
// of it proven. Whatever happens, the slot is accounted for once: by its backup or drill, or by a record of why there is
// none. Restores come first: a slot asks nobody but a drill to stop. A slot that is skipped or missed is no failure of this
// workflow.
func Slot(ctx workflow.Context, req remora.SlotRequest) (remora.BackupResult, error) {
	info := workflow.GetInfo(ctx)
	by := cmp.Or(req.RequestedBy, req.Schedule.Actor())
	op, err := begin(ctx, "slot", req.Schedule.Source, firstRun(info), by)
	if err != nil {
		return remora.BackupResult{}, err
	}
	s := &slot{operation: op, schedule: req.Schedule, due: dueOf(ctx, info.WorkflowStartTime), began: workflow.Now(ctx)}
	if s.late() {
		s.without(ctx, remora.Missed, "no worker was there to begin it until "+minute(s.began)+", and that is too late",
			"See that a remora-worker is running: remora check. "+s.schedule.Again())
		return remora.BackupResult{}, nil
	}
	done, err := s.backup(ctx)
	switch {
	case err == nil:
		conclude(ctx, string(remora.Completed), "completed: "+done.ID)
		return done, nil
	case errors.Is(err, errLaneTaken):
		s.busy(ctx)
		return done, nil
	case ctx.Err() != nil && !s.working:
		s.without(ctx, remora.Skipped, "it was cancelled before it began", s.schedule.Again())
		return done, err
	default:
		return done, s.failed(ctx, err)
	}
}

// slot is one slot at work.
type slot struct {
	*operation
	schedule   remora.Schedule
	due, began time.Time
	// working is set once its backup has been started.
	working bool
}

// dueOf is the moment that the schedule meant; for what somebody starts by hand, it is when that was.
func dueOf(ctx workflow.Context, started time.Time) time.Time {
	due, ok := workflow.GetTypedSearchAttributes(ctx).GetTime(temporal.NewSearchAttributeKeyTime(remora.DueAttribute))
	if !ok {
		due = started
	}
	return due.UTC().Truncate(time.Second)
}

// late tells whether the slot begins later than its schedule allows. Temporal itself begins none so late, but one may
// have waited for a worker.
func (s *slot) late() bool {
	return s.schedule.CatchUp > 0 && s.began.Sub(s.due) > s.schedule.CatchUp+time.Minute
}

// backup runs the Backup child as soon as the lane is free. One that begins late may wait as long as any other; one that
// a person asks for is not put off.
func (s *slot) backup(ctx workflow.Context) (done remora.BackupResult, err error) {
	// Schedules are due on whole minutes, but for some of every N: any other moment is that at which somebody triggered it.
	triggered := s.due.Second() != 0 && workflow.GetVersion(ctx, "triggered", workflow.DefaultVersion, 1) == 1
	if put := s.due.Add(s.schedule.Offset()).Sub(s.began); put > 0 && s.actor == s.schedule.Actor() && !triggered {
		workflow.SetCurrentDetails(ctx, "put off to "+minute(s.began.Add(put)))
		if err := pauseFor(ctx, put, "let others begin first"); err != nil {
			return done, err
		}
	}
	call := laneCall{
		workflow: remora.BackupWorkflow, source: s.source, summary: "back up " + s.source + " for " + s.schedule.Actor(),
		input: remora.BackupRequest{
			Source: s.source, Kinds: s.schedule.Kinds, RequestedBy: s.actor, RetentionDays: s.schedule.RetentionDays,
			Slot: remora.Slot{Schedule: s.schedule.Name, Due: s.due},
		},
		patience: s.schedule.Deadline, polite: true,
		waiting: func(ctx workflow.Context) {
			workflow.SetCurrentDetails(ctx, "waiting for whoever is at work on "+s.source)
		},
		started: func() { s.working = true },
	}
	if s.schedule.Drill {
		call.workflow, call.summary = remora.DrillWorkflow, "prove a backup of "+s.source+" for "+s.schedule.Actor()
		call.input = remora.DrillRequest{Source: s.source, RequestedBy: s.actor, Slot: remora.Slot{Schedule: s.schedule.Name, Due: s.due}}
	}
	return inLane[remora.BackupResult](ctx, call)
}

// busy gives the slot up because the source is not free, and says for whom.
func (s *slot) busy(ctx workflow.Context) {
	who, err := holderOf(ctx, s.source)
	why := "the source was busy until the deadline"
	if err == nil && who.Operation != "" {
		why += ": " + who.Operation + " by " + cmp.Or(who.By, "somebody") + ", since " + minute(who.Since)
	}
	s.without(ctx, remora.Skipped, why, "See what it is: remora watch "+s.source+". "+s.schedule.Again())
}

// failed ends the slot as its backup ended. The backup has recorded that itself, unless it was terminated or could not:
// the repository keeps the first record of a slot.
func (s *slot) failed(ctx workflow.Context, err error) error {
	p := problemOf("back up "+s.source, err)
	switch {
	case killed(err):
		p = remora.Fail(remora.Cancelled, p.Op, "", s.schedule.Again(), "its workflow was terminated in Temporal")
		s.tell(ctx, remora.BackupFailed, p.Error(), p.Hint) // it could not itself
	case s.schedule.Drill && p.Kind == remora.Cancelled && ctx.Err() == nil: // which it says nothing of
		p = remora.Fail(remora.Cancelled, "drill "+s.source, "", s.schedule.Again(), "it gave way to a backup or a restore, or somebody cancelled it")
		s.tell(ctx, remora.DrillError, p.Error(), p.Hint)
	}
	s.without(ctx, remora.Failed, p.Error(), p.Hint)
	return ending(ctx, p, err)
}

// tell has people told what became of the slot.
func (s *slot) tell(ctx workflow.Context, event remora.Event, problem, hint string) {
	if s.schedule.Drill {
		event = remora.DrillError
	}
	s.notify(ctx, remora.Notice{
		ID: s.schedule.Without("", s.due, "", "").Run + "/" + s.source, Event: event, Subject: s.schedule.Name, By: s.actor,
		Due: s.due, Started: s.began, Problem: problem, Hint: hint,
	})
}

// without records that the slot left no backup. A failed backup has told people already; nobody else tells of the others.
func (s *slot) without(ctx workflow.Context, how remora.Status, problem, hint string) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	record := s.schedule.Without(how, s.due, problem, hint)
	record.RequestedBy, record.Started, record.Ended = s.actor, s.began, workflow.Now(ctx)
	conclude(ctx, string(how), string(how)+": "+problem)
	if how != remora.Failed {
		s.tell(ctx, remora.SlotSkipped, problem, hint)
	}
	if s.schedule.Drill && workflow.GetVersion(ctx, "slots of drills are recorded", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return
	}
	s.recordRun(ctx, untilRecorded, record)
}

// minute is a moment in a text that may be read anywhere.
func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
