package remora

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Timing says when something is due: by the calendar in a zone, or every so often.
type Timing struct {
	// Cron has five fields, and Zone is the zone of its wall clock. Both are empty where Every is set.
	Cron string `json:"cron,omitempty"`
	Zone string `json:"zone,omitempty"`
	// Every is the distance of two slots, counted in UTC, whatever the wall clock does.
	Every time.Duration `json:"every,omitempty"`
	// Period is the longest distance of two slots: of "0 9 * * 1-5" it is that of a weekend. The configuration fills it.
	Period time.Duration `json:"period,omitempty"`
	// Text is how a person would say it: "daily at 02:30".
	Text string `json:"text"`
}

// Every is due at each multiple of a length of time.
func Every(d time.Duration) Timing { return Timing{Every: d, Text: "every " + Short(d)} }

// Calendar is due when the wall clock of a zone fits the five fields of cron.
func Calendar(cron, zone string) Timing {
	t := Timing{Cron: cron, Zone: zone, Text: "cron " + cron + " " + zone}
	f := strings.Fields(cron)
	if len(f) != 5 {
		return t
	}
	minute, err := strconv.Atoi(f[0])
	hour, err1 := strconv.Atoi(f[1])
	if err != nil || err1 != nil || f[3] != "*" {
		return t
	}
	at := fmt.Sprintf("at %02d:%02d %s", hour, minute, zone)
	weekday, err := strconv.Atoi(f[4])
	day, err1 := strconv.Atoi(f[2])
	switch {
	case f[2] == "*" && f[4] == "*":
		t.Text = "daily " + at
	case f[2] == "*" && err == nil:
		t.Text = "every " + time.Weekday(weekday).String() + " " + at
	case f[4] == "*" && err1 == nil:
		t.Text = fmt.Sprintf("on day %d of the month %s", day, at)
	}
	return t
}

// Short writes a length of time without the units that are zero: "6h", "1h30m".
func Short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Schedule says when a source is backed up without anybody asking.
type Schedule struct {
	Source string `json:"source"`
	Name   string `json:"name"`
	// Kinds are the components that are backed up.
	Kinds  []Kind `json:"kinds"`
	Timing Timing `json:"timing"`
	// Drill says that its slots back up nothing, but prove the newest backup.
	Drill bool `json:"drill,omitempty"`
	// RetentionDays is how long its backups are kept, in place of the days of the source; 0 means those.
	RetentionDays int `json:"retention_days,omitempty"`
	// Deadline is how long a slot waits for a busy source before it is skipped.
	Deadline time.Duration `json:"deadline"`
	// CatchUp is how late a slot may still begin after an outage; one that is later is missed.
	CatchUp time.Duration `json:"catch_up"`
	// Spread is up to how long its slots are put off, always by as much, so that many sources do not begin at once.
	Spread time.Duration `json:"spread,omitempty"`
	// AdHoc tells that a command made it, and not the configuration.
	AdHoc bool `json:"ad_hoc,omitempty"`
}

// SchedulePrefix begins the ids of the schedules of sources.
const SchedulePrefix = "schedule/"

// ID is where Temporal has the schedule.
func (s Schedule) ID() string { return SchedulePrefix + s.Source + "/" + s.Name }

// Sentence says what its slots do.
func (s Schedule) Sentence() string {
	if s.Drill {
		return fmt.Sprintf("prove the newest backup of %s by a drill, waiting up to %s for it", s.Source, Short(s.Deadline))
	}
	text := fmt.Sprintf("back up %s of %s, waiting up to %s for it", Named(s.Kinds), s.Source, Short(s.Deadline))
	if s.RetentionDays > 0 {
		text += fmt.Sprintf(", kept %d days", s.RetentionDays)
	}
	return text
}

// Offset is how long each of its slots is put off: always the same part of its spread.
func (s Schedule) Offset() time.Duration {
	if s.Spread <= 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(s.ID()))
	return time.Duration(h.Sum64() % uint64(s.Spread)).Truncate(time.Second)
}

// Actor is who asks for what the schedule starts.
func (s Schedule) Actor() string { return "schedule " + s.Name }

// Without is the record of a slot that left no backup, as everybody who finds that out writes it: under one id.
func (s Schedule) Without(how Status, due time.Time, problem, hint string) FailedRun {
	slot := Slot{Schedule: s.Name, Due: due.UTC()}
	run := "slot/" + slot.Schedule + "/" + slot.Due.Format(time.RFC3339)
	return FailedRun{
		Status: how, Slot: slot, Run: run, ID: BackupID(s.Source, run, "", due), Source: s.Source, Kind: BackupKindOf(s.Kinds),
		Purpose: Regular, RequestedBy: s.Actor(), Started: slot.Due, Ended: slot.Due, Problem: problem, Hint: hint, Drill: s.Drill,
	}
}

// Again is how to have now what a slot should have brought.
func (s Schedule) Again() string {
	if s.Drill {
		return "Make it now: remora drill " + s.Source
	}
	return "Take a backup now: remora backup " + s.Source
}

// Slot is one moment at which a schedule was due. It has one outcome: its backup, else the first record of a run of it
// that failed or was skipped, else the record that nobody was there. Outranks says it.
type Slot struct {
	// Schedule is the name of the schedule; empty for what somebody asked for.
	Schedule string `json:"schedule,omitempty"`
	// Due is the moment, without any spread.
	Due time.Time `json:"due,omitzero"`
}

// Outranks tells whether what has the status s says more of a slot than what has the other.
func (s Status) Outranks(other Status) bool {
	rank := func(s Status) int {
		switch {
		case s == Missed:
			return 0
		case s.NoBackup():
			return 1
		default:
			return 2
		}
	}
	return rank(s) > rank(other)
}

// ScheduleRecord is what the repository remembers of a schedule, so that it survives the loss of Temporal (S30).
type ScheduleRecord struct {
	// Schedule is set for one that a command made; Temporal and the configuration have the others.
	Schedule *Schedule `json:"schedule,omitempty"`
	ID       string    `json:"id"`
	// Paused says by whom and why; nil while it runs.
	Paused *Pause `json:"paused,omitempty"`
	// Pauses are those that ended lately: what was due before one is still to be accounted for.
	Pauses []Pause `json:"pauses,omitempty"`
	// Since is from when on its slots count: it was made or changed then.
	Since time.Time `json:"since,omitzero"`
	// Deleted tells that a command removed it.
	Deleted bool `json:"deleted,omitempty"`
}

// Pause says who stopped a schedule for a time.
type Pause struct {
	By  string    `json:"by"`
	Why string    `json:"why,omitempty"`
	At  time.Time `json:"at"`
	// Until is when it ended; zero while it lasts.
	Until time.Time `json:"until,omitzero"`
}

// Resume ends the pause. Those that ended so long ago that all before them is accounted for are forgotten.
func (r *ScheduleRecord) Resume(at time.Time) {
	if r.Paused == nil {
		return
	}
	r.Pauses = slices.DeleteFunc(r.Pauses, func(p Pause) bool { return at.Sub(p.Until) > 90*24*time.Hour })
	ended := *r.Paused
	ended.Until = at
	r.Pauses, r.Paused = append(r.Pauses, ended), nil
}

// Rests tells whether the schedule was paused at that moment.
func (r ScheduleRecord) Rests(at time.Time) bool {
	rests := func(p Pause) bool { return !at.Before(p.At) && (p.Until.IsZero() || at.Before(p.Until)) }
	return r.Paused != nil && rests(*r.Paused) || slices.ContainsFunc(r.Pauses, rests)
}

// String is the note that Temporal shows: "by alice: disk exchange".
func (p Pause) String() string { return OneLine(strings.TrimSuffix("by "+p.By+": "+p.Why, ": ")) }

// Objective is how old the newest good backup of a source may be: as chosen, or else so old that one slot may fail and
// the next one wait as long as it may. 0 means that a source has no schedule that could keep any objective.
func Objective(chosen time.Duration, schedules []Schedule) time.Duration {
	if chosen > 0 {
		return chosen
	}
	var shortest time.Duration
	for _, s := range schedules {
		period := cmp.Or(s.Timing.Period, s.Timing.Every)
		if allowed := 2*period + s.Deadline; period > 0 && (shortest == 0 || allowed < shortest) {
			shortest = allowed
		}
	}
	return shortest
}
