package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/schedule"
)

// Scheduled is a schedule, as Temporal has it and as the repository remembers it.
type Scheduled struct {
	schedule.State
	// Name is how people call it: "shop/nightly", "retention".
	Name string `json:"name"`
	// PausedBy says who paused it with Remora; nil where somebody did it in Temporal.
	PausedBy *remora.Pause `json:"paused_by,omitempty"`
	// Last is when it last started something, and Outcome what became of its last slot.
	Last    time.Time `json:"last,omitzero"`
	Outcome string    `json:"outcome,omitempty"`
	// Slots are what became of its slots, newest first.
	Slots []remora.Backup `json:"slots,omitempty"`

	record remora.ScheduleRecord
}

func (c *Control) book() *schedule.Book { return schedule.New(c.client, c.cfg.Namespace) }

// Schedules lists the schedules of a source, or all.
func (c *Control) Schedules(ctx context.Context, source string) (all []Scheduled, err error) {
	const op = "list the schedules"
	if err := c.Reach(ctx); err != nil {
		return nil, err
	}
	states, err := c.book().List(ctx)
	if err != nil {
		return nil, c.asked(op, source, err)
	}
	records, err := c.repository.Schedules(ctx)
	if err != nil {
		return nil, err
	}
	backups, err := c.repository.List(ctx, repository.Filter{Source: source})
	for _, s := range states {
		if source == "" || s.Schedule != nil && s.Schedule.Source == source {
			all = append(all, scheduled(s, records, backups))
		}
	}
	return all, err
}

// scheduled puts together what is known of a schedule.
func scheduled(state schedule.State, records []remora.ScheduleRecord, backups []remora.Backup) Scheduled {
	s := Scheduled{State: state, Name: schedule.Ref(state.ID), record: remora.ScheduleRecord{ID: state.ID}}
	for _, r := range records {
		if r.ID == s.ID && !r.Deleted {
			s.record = r
			if s.Paused {
				s.PausedBy = r.Paused
			}
		}
	}
	if n := len(s.Recent); n > 0 {
		s.Last = s.Recent[n-1].Due
	}
	if s.Schedule != nil {
		s.Slots = slices.DeleteFunc(slices.Clone(backups), func(b remora.Backup) bool {
			return b.Source != s.Schedule.Source || b.Slot.Schedule != s.Schedule.Name
		})
	}
	switch {
	case s.Running > 0:
		s.Outcome = "running"
	case len(s.Slots) > 0:
		s.Outcome = string(s.Slots[0].Status)
		s.Last = s.Slots[0].Slot.Due
	}
	return s
}

// Schedule finds one by its name.
func (c *Control) Schedule(ctx context.Context, name string) (Scheduled, error) {
	const op = "find the schedule"
	if err := c.Reach(ctx); err != nil {
		return Scheduled{}, err
	}
	for _, id := range []string{remora.SchedulePrefix + name, name} {
		state, err := c.book().Find(ctx, id)
		if err != nil {
			return Scheduled{}, c.asked(op, name, err)
		}
		if state == nil {
			continue
		}
		records, err := c.repository.Schedules(ctx)
		if err != nil {
			return Scheduled{}, err
		}
		backups, err := c.repository.List(ctx, repository.Filter{})
		return scheduled(*state, records, backups), err
	}
	all, err := c.Schedules(ctx, "")
	near, hint := 3+len(name)/3, "`remora schedule list` shows what there is; what was just configured is made by `remora schedule apply`"
	for _, s := range all {
		if d := levenshtein.ComputeDistance(name, s.Name); d < near {
			near, hint = d, "did you mean "+s.Name+"?"
		}
	}
	return Scheduled{}, cmp.Or(err, error(remora.Fail(remora.NotFound, op, remora.OneLine(name), hint, "there is no such schedule")))
}

// CreateSchedule makes one that is not configured. It is remembered first, so that it survives the loss of Temporal.
func (c *Control) CreateSchedule(ctx context.Context, s remora.Schedule) error {
	const op = "create the schedule"
	if err := c.Reach(ctx); err != nil {
		return err
	}
	s.AdHoc = true
	name := schedule.Ref(s.ID())
	there, err := c.book().Find(ctx, s.ID())
	switch {
	case err != nil:
		return c.asked(op, name, err)
	case there != nil:
		return remora.Fail(remora.Invalid, op, name, "choose another name; one that a command made goes with: remora schedule delete "+name, "there is a schedule of this name already")
	}
	record := remora.ScheduleRecord{ID: s.ID(), Schedule: &s, Since: c.cfg.Now().UTC()}
	if err := c.repository.RecordSchedule(ctx, record); err != nil {
		return err
	}
	_, _, err = c.book().Ensure(ctx, schedule.Plan([]remora.Schedule{s}, nil, nil)[:1])
	return c.asked(op, name, err)
}

// What can be done with a schedule.
const (
	PauseSchedule   = "pause"
	ResumeSchedule  = "resume"
	TriggerSchedule = "trigger"
	DeleteSchedule  = "delete"
)

// ChangeSchedule does one of these; why goes with a pause. Pauses are remembered, so that they survive Temporal.
func (c *Control) ChangeSchedule(ctx context.Context, what, name, why string) (Scheduled, error) {
	s, err := c.Schedule(ctx, name)
	if err != nil {
		return s, err
	}
	now, op := c.cfg.Now().UTC(), what+" the schedule"
	pause, change := remora.Pause{By: c.cfg.Actor, Why: why, At: now}, func() error { return nil }
	switch what {
	case TriggerSchedule:
		if s.Running > 0 {
			return s, remora.Fail(remora.Busy, op, s.Name, "wait until it is over: remora schedule show "+s.Name, "its last run still goes on")
		}
		return s, c.asked(op, s.Name, c.book().Trigger(ctx, s.ID))
	case PauseSchedule:
		s.record.Resume(now) // where it was paused before
		s.record.Paused = &pause
		change = func() error { return c.book().Pause(ctx, s.ID, pause) }
	case ResumeSchedule:
		if !s.Paused {
			return s, remora.Fail(remora.Invalid, op, s.Name, "see its next runs with: remora schedule show "+s.Name, "it is not paused")
		}
		if s.record.Paused == nil { // somebody paused it in Temporal, and when is not known
			s.record.Since = now
		}
		s.record.Resume(now)
		change = func() error { return c.book().Resume(ctx, s.ID, c.cfg.Actor) }
	case DeleteSchedule:
		if s.Schedule == nil || !s.Schedule.AdHoc {
			return s, remora.Fail(remora.Invalid, op, s.Name, "remove it from the configuration, then: remora schedule apply. Or: remora schedule pause "+s.Name, "no command made it")
		}
		s.record.Schedule, s.record.Deleted = nil, true
		change = func() error { return c.book().Delete(ctx, s.ID) }
	}
	if err := c.repository.RecordSchedule(ctx, s.record); err != nil {
		return s, err
	}
	return s, c.asked(op, s.Name, change())
}

// ApplySchedules makes Temporal as configured, with what commands made, and tells what was not so; a dry run only tells.
func (c *Control) ApplySchedules(ctx context.Context, sources []remora.Schedule, copies map[string]remora.Timing, dry bool) (changes []schedule.Drift, err error) {
	if err := c.Reach(ctx); err != nil {
		return nil, err
	}
	records, err := c.repository.Schedules(ctx)
	if err != nil {
		return nil, err
	}
	wanted, change := schedule.Plan(sources, copies, records), c.book().Apply
	if dry {
		change = c.book().Drift
	}
	changes, err = change(ctx, wanted)
	if err != nil || dry {
		return changes, c.asked("apply the schedules", "", err)
	}
	now := c.cfg.Now().UTC()
	fresh := schedule.Unrecorded(wanted, records, now)
	for _, r := range records { // the slots of what is due at another time count from now on
		at := slices.IndexFunc(changes, func(d schedule.Drift) bool { return d.ID == r.ID && (d.What == schedule.Extra || d.What == "time") })
		if at >= 0 {
			r.Since, r.Deleted = now, changes[at].What == schedule.Extra
			fresh = append(fresh, r)
		}
	}
	for _, r := range fresh {
		if err := c.repository.RecordSchedule(ctx, r); err != nil {
			return changes, err
		}
	}
	return changes, nil
}

// Sentence says in words whether a schedule runs.
func (s Scheduled) Sentence() string {
	switch {
	case !s.Paused:
		return "active"
	case s.PausedBy != nil:
		return "paused " + s.PausedBy.String()
	default:
		return strings.TrimSuffix(fmt.Sprintf("paused in Temporal: %s", s.Note), ": ")
	}
}
