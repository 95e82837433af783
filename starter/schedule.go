package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
)

func newScheduleCommand(a *app) *cobra.Command {
	return a.group("schedule",
		newScheduleApplyCommand(a), newScheduleCreateCommand(a),
		a.command("schedule list", nil, a.scheduling(func(ctx context.Context, s *session, args []string) error { return s.listSchedules(ctx, args) })),
		a.command("schedule show", nil, a.scheduling(func(ctx context.Context, s *session, args []string) error {
			found, err := s.control.Schedule(ctx, args[0])
			if err != nil {
				return err
			}
			return a.answer(found, func() { a.sayScheduled(found) })
		})),
		a.newScheduleChange(control.DeleteSchedule, "is deleted; what it has started goes on"),
		a.newScheduleChange(control.PauseSchedule, "is paused; what it has started goes on. Resume it with: remora schedule resume %[1]s"),
		a.newScheduleChange(control.ResumeSchedule, "goes on; what was due meanwhile is not made up for"),
		a.newScheduleChange(control.TriggerSchedule, "was triggered. See what comes of it: remora schedule show %[1]s"),
	)
}

// scheduling runs a command that needs the records of the repository itself: a copy of it has none.
func (a *app) scheduling(do func(ctx context.Context, s *session, args []string) error) runner {
	return a.with(needRepository|needControl, func(ctx context.Context, s *session, args []string) error {
		if s.copy != "" {
			_, err := s.locations.At(ctx, "")
			return err
		}
		return do(ctx, s, args)
	})
}

// newScheduleChange is a command that does one thing with one schedule; then says what that comes to.
func (a *app) newScheduleChange(what, then string) *cobra.Command {
	var why string
	to := flags{}
	if what == control.PauseSchedule {
		to["why"] = &why
	}
	return a.command("schedule "+what, to, a.scheduling(func(ctx context.Context, s *session, args []string) error {
		found, err := s.control.ChangeSchedule(ctx, what, args[0], why)
		if err != nil {
			return err
		}
		if strings.Contains(then, "%") {
			then = fmt.Sprintf(then, found.Name)
		}
		return a.answer(map[string]string{"schedule": found.Name, "done": what}, func() { a.say("%s %s.", found.Name, then) })
	}))
}

func newScheduleCreateCommand(a *app) *cobra.Command {
	f := config.ScheduleFields{Kind: string(remora.FullBackup)}
	return a.command("schedule create", flags{
		"kind": &f.Kind, "daily": &f.Daily, "weekly": &f.Weekly, "monthly": &f.Monthly, "cron": &f.Cron, "every": &f.Every,
		"zone": &f.Zone, "retention-days": &f.RetentionDays, "deadline": &f.Deadline,
	}, a.scheduling(func(ctx context.Context, s *session, args []string) error {
		src, err := s.source(args[0])
		if err != nil {
			return err
		}
		made, wrong := config.NewSchedule(src, args[1], f)
		switch {
		case wrong != nil:
			flag := strings.TrimSuffix("--"+strings.ReplaceAll(wrong.Key, "_", "-"), "--") // or nothing in particular
			return badUsage(flag, wrong.Text, "remora schedule create --help")
		case slices.ContainsFunc(src.Schedules, func(c remora.Schedule) bool { return c.Name == made.Name }):
			return invalid("create the schedule", args[0]+"/"+args[1], "it is configured", "choose another name, or make what is configured with: remora schedule apply")
		}
		if err := s.control.CreateSchedule(ctx, made); err != nil {
			return err
		}
		return a.answer(made, func() {
			a.say("%s/%s is made: %s, %s.", made.Source, made.Name, made.Sentence(), made.Timing.Text)
			a.text("notes within", config.TimingNotes(made.Timing, a.Now()))()
		})
	}))
}

func newScheduleApplyCommand(a *app) *cobra.Command {
	var dry bool
	return a.command("schedule apply", flags{"dry-run": &dry}, a.scheduling(func(ctx context.Context, s *session, _ []string) error {
		sources, copies := s.cfg.Schedules()
		changes, err := s.control.ApplySchedules(ctx, sources, copies, dry)
		if err != nil {
			return err
		}
		for _, c := range changes {
			sign := cmp.Or(map[string]string{"missing": "+", "extra": "-"}[c.What], "~")
			if err := a.answer(c, func() { a.say("%s %s", sign, remora.OneLine(c.String())) }); err != nil {
				return err
			}
		}
		switch {
		case a.json():
		case len(changes) == 0:
			a.say("All schedules are as configured.")
		case dry:
			a.say("Nothing was changed; without --dry-run it is.")
		default:
			a.say("All schedules are as configured now. Start the workers again: they know the file as it was when they began.")
		}
		return nil
	}))
}

func (s *session) listSchedules(ctx context.Context, args []string) error {
	source, err := s.filterSource(args)
	if err != nil {
		return err
	}
	all, err := s.control.Schedules(ctx, source)
	if err != nil {
		return err
	}
	none := "There is no schedule. Write schedules: {nightly: {daily: \"02:30\"}} below a source, then: remora schedule apply"
	return list(s.app, all, none, []string{"SCHEDULE", "WHEN", "STATE", "LAST", "OUTCOME", "NEXT"}, func(one control.Scheduled) []string {
		name, next := one.Name, "-"
		if one.Schedule == nil {
			name += " (system)"
		}
		if len(one.Next) > 0 && !one.Paused {
			next = clock(one.Next[0])
		}
		return []string{name, one.Timing.Text, one.Sentence(), clock(one.Last), one.Outcome, next}
	})
}

func (a *app) sayScheduled(s control.Scheduled) {
	said := struct {
		control.Scheduled
		Count         map[string]int // of slots, by their status
		Coming, Notes []string
	}{Scheduled: s, Count: map[string]int{}, Notes: config.TimingNotes(s.Timing, a.Now())}
	for _, b := range s.Slots {
		said.Count[string(b.Status)]++
	}
	zone, err := time.LoadLocation(s.Timing.Zone) // empty means UTC
	if err != nil {
		zone = time.UTC
	}
	for _, at := range s.Next {
		const layout = "Mon 2006-01-02 15:04:05 MST"
		local, utc := at.In(zone).Format(layout), at.UTC().Format(layout)
		said.Coming = append(said.Coming, strings.TrimSuffix(local+"  "+utc, "  "+local)) // once where it is the same
	}
	a.text("schedule", said)()
}
