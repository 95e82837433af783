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
	cmd := &cobra.Command{
		Use:   "schedule",
		Short: "See and change what happens by itself",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newScheduleApplyCommand(a), newScheduleCreateCommand(a),
		a.newScheduleChange(control.DeleteSchedule, "Remove a schedule that a command made", "is deleted; what it has started goes on"),
		&cobra.Command{
			Use:   "list [SOURCE]",
			Short: "List the schedules, when they last ran and run next",
			Args:  atMostOne("one SOURCE"),
			RunE:  a.scheduling(func(ctx context.Context, s *session, args []string) error { return s.listSchedules(ctx, args) }),
		},
		a.newScheduleChange(control.PauseSchedule, "Stop a schedule until somebody resumes it", "is paused; what it has started goes on. Resume it with: remora schedule resume %[1]s"),
		a.newScheduleChange(control.ResumeSchedule, "Let a paused schedule go on", "goes on; what was due meanwhile is not made up for"),
		&cobra.Command{
			Use:     "show SCHEDULE",
			Short:   "Show a schedule, its next ten runs and what became of its slots",
			Long:    "Shows a schedule, its next ten runs in its own zone and in UTC, what coming clock changes do to it, and what became of its last slots.",
			Example: "  remora schedule show shop/nightly",
			Args:    exactly(1, "one SCHEDULE"),
			RunE: a.scheduling(func(ctx context.Context, s *session, args []string) error {
				found, err := s.control.Schedule(ctx, args[0])
				if err != nil {
					return err
				}
				return a.answer(found, func() { a.sayScheduled(found) })
			}),
		},
		a.newScheduleChange(control.TriggerSchedule, "Let a schedule start what it starts, now", "was triggered. See what comes of it: remora schedule show %[1]s"),
	)
	return cmd
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
func (a *app) newScheduleChange(what, short, then string) *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: what + " SCHEDULE", Short: short, Args: exactly(1, "one SCHEDULE"), Example: "  remora schedule " + what + " shop/nightly",
		RunE: a.scheduling(func(ctx context.Context, s *session, args []string) error {
			found, err := s.control.ChangeSchedule(ctx, what, args[0], why)
			if err != nil {
				return err
			}
			if strings.Contains(then, "%") {
				then = fmt.Sprintf(then, found.Name)
			}
			return a.answer(map[string]string{"schedule": found.Name, "done": what}, func() { a.say("%s %s.", found.Name, then) })
		}),
	}
	if what == control.PauseSchedule {
		cmd.Flags().StringVar(&why, "why", "", "the `reason`, for whoever asks later")
	}
	return cmd
}

func newScheduleCreateCommand(a *app) *cobra.Command {
	var f config.ScheduleFields
	cmd := &cobra.Command{
		Use:   "create SOURCE NAME",
		Short: "Make a schedule that is not configured",
		Long: `Makes a schedule beside those of the configuration. It stays until remora schedule delete removes it; apply leaves it alone.
Say when in one way. Times are those of UTC, or of the clock of --zone.`,
		Example: "  remora schedule create shop hourly --kind database --every 1h\n  remora schedule create shop sundays --weekly 'sun 03:30' --zone Europe/Berlin --retention-days 90",
		Args:    exactly(2, "a SOURCE and a NAME"),
		RunE: a.scheduling(func(ctx context.Context, s *session, args []string) error {
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
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Kind, "kind", "full", "`what`: full, database or files")
	flags.StringVar(&f.Daily, "daily", "", "at a `time` of day: 02:30")
	flags.StringVar(&f.Weekly, "weekly", "", "at a `day` and time: \"sun 03:30\"")
	flags.StringVar(&f.Monthly, "monthly", "", "at a `day` of the month and time: \"1 04:00\"")
	flags.StringVar(&f.Cron, "cron", "", "five `fields`: \"30 2 * * 1-5\"")
	flags.DurationVar(&f.Every, "every", 0, "at each multiple of a `length`: 6h")
	flags.StringVar(&f.Zone, "zone", "", "the `zone` of the clock (default: UTC)")
	flags.IntVar(&f.RetentionDays, "retention-days", 0, "keep its backups this many `days`; 0: as others of the source")
	flags.DurationVar(&f.Deadline, "deadline", 0, "the `length` that it waits for a busy source (default: half of what lies between two, at most 6h)")
	return cmd
}

func newScheduleApplyCommand(a *app) *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make the schedules as configured",
		Long: `Makes the schedules in Temporal as this configuration says, and shows what it makes (+), changes (~) and deletes (-).
What commands made stays, and so does a pause. A starting worker only makes what is missing.`,
		Example: "  remora schedule apply --dry-run",
		Args:    exactly(0, "no arguments"),
		RunE: a.scheduling(func(ctx context.Context, s *session, _ []string) error {
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
		}),
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what would change")
	return cmd
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
