package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/robfig/cron/v3"

	"github.com/remora-backup/remora/internal/remora"
)

// ScheduleFields are how people say what is backed up when: in the file, and on the command line.
type ScheduleFields struct {
	// Kind is full, which is the default and means all that the source has, database or files; or drill.
	Kind string
	// One of these says when: "02:30", "sun 03:30", "1 04:00", five fields of cron, or a length of time.
	Daily, Weekly, Monthly, Cron string
	Every                        time.Duration
	// Zone is the zone of the clock; empty means UTC.
	Zone string
	// RetentionDays is how long its backups are kept; 0 means as long as others of the source.
	RetentionDays int
	// Deadline is how long a slot waits for a busy source; 0 means half of what lies between two slots, at most 6 hours.
	Deadline time.Duration
}

const (
	shortest, longest = time.Minute, 720 * time.Hour
	// patience bounds the lengths that nobody chose.
	patience = 6 * time.Hour
	mostDays = 36500
)

var (
	weekly  = regexp.MustCompile(`^(?i:(sun|mon|tue|wed|thu|fri|sat)) (([01][0-9]|2[0-3]):[0-5][0-9])$`)
	monthly = regexp.MustCompile(`^([1-9]|[12][0-9]|3[01]) (([01][0-9]|2[0-3]):[0-5][0-9])$`)
)

// NewSchedule makes a schedule of what was said, or tells which of the fields is wrong.
func NewSchedule(source *Source, name string, f ScheduleFields) (remora.Schedule, *Mistake) {
	s := remora.Schedule{Source: source.Name, Name: name, RetentionDays: f.RetentionDays, Kinds: source.Kinds()}
	if err := remora.CheckSourceName(name); err != nil {
		return s, &Mistake{Text: scheduleName}
	}
	switch kind := remora.Kind(f.Kind); {
	case f.Kind == "drill" && f.RetentionDays != 0:
		return s, &Mistake{Key: "retention_days", Text: "a drill leaves no backup that could be kept; remove it"}
	case f.Kind == "drill":
		s.Drill, s.Kinds = true, nil
	case f.Kind == "" || f.Kind == string(remora.FullBackup):
	case kind != remora.Database && kind != remora.Files:
		return s, &Mistake{Key: "kind", Text: "write full, database, files or drill"}
	case !slices.Contains(s.Kinds, kind):
		return s, &Mistake{Key: "kind", Text: fmt.Sprintf("the source has no %s; write full for all that it has, or add %[1]s: to the source", kind)}
	default:
		s.Kinds = []remora.Kind{kind}
	}
	var wrong *Mistake
	if s.Timing, wrong = timing(f); wrong != nil {
		return s, wrong
	}
	switch {
	case f.Deadline != 0 && (f.Deadline < shortest || f.Deadline > longest):
		return s, &Mistake{Key: "deadline", Text: lengthWanted(shortest, longest)}
	case f.RetentionDays < 0 || f.RetentionDays > mostDays:
		return s, &Mistake{Key: "retention_days", Text: fmt.Sprintf("write a whole number from 1 to %d", mostDays)}
	}
	period, longest := distances(s.Timing)
	if period == 0 {
		return s, &Mistake{Key: "cron", Text: "this never happens; write a day that the month has"}
	}
	s.Timing.Period = longest
	s.Deadline = cmp.Or(f.Deadline, max(shortest, min(period/2, patience)))
	s.CatchUp = max(shortest, min(period, patience))
	if period >= 10*time.Minute {
		s.Spread = min(5*time.Minute, period/10)
	}
	return s, nil
}

const scheduleName = "a schedule's name has 1 to 40 of a-z, 0-9, - and _, and begins with a letter or digit"

// timing is when that is.
func timing(f ScheduleFields) (remora.Timing, *Mistake) {
	ways := 0
	for _, given := range []bool{f.Daily != "", f.Weekly != "", f.Monthly != "", f.Cron != "", f.Every != 0} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return remora.Timing{}, &Mistake{Text: `say when in one way: daily: "02:30", weekly: "sun 03:30", monthly: "1 04:00", every: 6h, or cron: "30 2 * * *"`}
	}
	if f.Every != 0 {
		switch {
		case f.Every < shortest || f.Every > longest:
			return remora.Timing{}, &Mistake{Key: "every", Text: lengthWanted(shortest, longest)}
		case f.Zone != "":
			return remora.Timing{}, &Mistake{Key: "zone", Text: "every: counts in UTC, whatever clocks do; remove the zone, or say daily:, weekly:, monthly: or cron:"}
		}
		return remora.Every(f.Every), nil
	}
	zone := cmp.Or(f.Zone, "UTC")
	if !isZone(zone) {
		return remora.Timing{}, &Mistake{Key: "zone", Text: noZone}
	}
	text, wrong := cronText(f)
	return remora.Calendar(text, zone), wrong
}

const noZone = "there is no such time zone; write one such as Europe/Berlin or UTC"

func isZone(name string) bool {
	_, err := time.LoadLocation(name)
	return err == nil && name != "Local"
}

// cronText writes what was said of the calendar as five fields of cron.
func cronText(f ScheduleFields) (string, *Mistake) {
	switch {
	case f.Daily != "":
		if !timeOfDay.MatchString(f.Daily) {
			return "", &Mistake{Key: "daily", Text: noTime}
		}
		return atTime(f.Daily) + " * * *", nil
	case f.Weekly != "":
		m := weekly.FindStringSubmatch(f.Weekly)
		if m == nil {
			return "", &Mistake{Key: "weekly", Text: `write a day and a time of day in quotes, such as "sun 03:30"`}
		}
		day := slices.Index([]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}, strings.ToLower(m[1]))
		return fmt.Sprintf("%s * * %d", atTime(m[2]), day), nil
	case f.Monthly != "":
		m := monthly.FindStringSubmatch(f.Monthly)
		if m == nil {
			return "", &Mistake{Key: "monthly", Text: `write a day of the month and a time of day in quotes, such as "1 04:00"`}
		}
		return atTime(m[2]) + " " + m[1] + " * *", nil
	}
	s, err := parseCron(f.Cron)
	switch {
	case err != nil:
		return "", &Mistake{Key: "cron", Text: fmt.Sprintf(`write the five fields minute, hour, day of month, month and day of week, such as "30 2 * * 1-5" (%v)`, err)}
	case s.Dom&star == 0 && s.Dow&star == 0:
		return "", &Mistake{Key: "cron", Text: "day of month and day of week are both given, which some programs take for either and others for both; leave one as *, and write two schedules where both are meant"}
	}
	return strings.Join(strings.Fields(f.Cron), " "), nil
}

const noTime = `write a time of day in quotes, such as "03:30"`

// atTime is a time of day as the first two fields of cron.
func atTime(clock string) string {
	hour, minute := strings.TrimPrefix(clock[:2], "0"), strings.TrimPrefix(clock[3:], "0")
	return cmp.Or(minute, "0") + " " + cmp.Or(hour, "0")
}

// star is the bit of a field of cron that is not restricted.
const star = 1 << 63

func parseCron(text string) (*cron.SpecSchedule, error) {
	switch n := len(strings.Fields(text)); {
	case strings.Contains(text, "="):
		return nil, errors.New("a zone is not one of them; write zone: beside it")
	case n != 5:
		return nil, fmt.Errorf("there are %d", n)
	}
	parsed, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(text)
	if err != nil {
		return nil, err
	}
	s := parsed.(*cron.SpecSchedule)
	for _, field := range []uint64{s.Minute, s.Hour, s.Dom, s.Month, s.Dow} {
		if field == 0 {
			return nil, errors.New("a field is empty")
		}
	}
	return s, nil
}

// distances are the shortest and the longest between two moments of a calendar; 0 where there are none.
func distances(t remora.Timing) (least, most time.Duration) {
	s, err := parseCron(t.Cron)
	if err != nil {
		return t.Every, 0 // always as far apart
	}
	at := s.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) // always the same answer
	for i, month := 0, at.AddDate(0, 0, 35); i < 100 || at.Before(month); i++ {
		next := s.Next(at)
		if at.IsZero() || next.IsZero() {
			return 0, 0
		}
		d := next.Sub(at)
		if most = max(most, d); least == 0 || d < least {
			least = d
		}
		at = next
	}
	return least, most
}

// TimingNotes says what the calendar and the clocks of its zone do to a timing in the year after now.
func TimingNotes(t remora.Timing, now time.Time) (notes []string) {
	s, err := parseCron(t.Cron)
	zone, err1 := time.LoadLocation(t.Zone)
	if err != nil || err1 != nil {
		return nil
	}
	if day := bits.TrailingZeros64(s.Dom); day > 28 {
		notes = append(notes, fmt.Sprintf("some months have no day %d: nothing is due in those", day))
	}
	for at := now.In(zone); ; {
		_, change := at.ZoneBounds()
		if change.IsZero() || change.After(now.AddDate(1, 0, 0)) {
			return notes
		}
		_, before := change.Add(-time.Second).Zone()
		_, after := change.Zone()
		wall := change.UTC().Add(time.Duration(min(before, after)) * time.Second) // where it jumps from, or back to
		long := time.Duration(max(before, after)-min(before, after)) * time.Second
		if first, more := due(s, wall, long); first != "" {
			what := "skip %s: nothing is due at that time"
			switch {
			case after < before:
				what = "show %s twice: it may be due twice"
			case long < time.Hour: // Temporal knows a time that is not there by its hour
				what = "skip %s: it is due later in that hour"
			}
			notes = append(notes, fmt.Sprintf("on %s the clocks of %s "+what, wall.Format(time.DateOnly), t.Zone, first+more))
		}
		at = change
	}
}

// due is the first minute of a stretch of wall clock that fits, and how many more do.
func due(s *cron.SpecSchedule, from time.Time, long time.Duration) (first, more string) {
	n := 0
	for at := s.Next(from.Add(-time.Second)); !at.IsZero() && at.Before(from.Add(long)); at = s.Next(at) {
		if n++; n == 1 {
			first = at.Format("15:04")
		}
	}
	if n > 1 {
		more = fmt.Sprintf(" and %d more of its times", n-1)
	}
	return first, more
}

// Schedules are all that are configured: those of the sources, and when everything missing goes to a copy.
func (c *Config) Schedules() (sources []remora.Schedule, copies map[string]remora.Timing) {
	for _, name := range c.Names() {
		sources = append(sources, c.Sources[name].Schedules...)
	}
	copies = map[string]remora.Timing{}
	for name, to := range c.Copies {
		if to.Daily != "" {
			copies[name] = remora.Calendar(atTime(to.Daily)+" * * *", to.Zone)
		}
	}
	return sources, copies
}

// planned is what the file says of a schedule, and where.
type planned struct {
	key    string
	fields ScheduleFields
}

func (r *reader) schedules(to map[string]planned) setter {
	return r.named("", scheduleName, func(key, name string, n ast.Node) {
		p := planned{key: key}
		f := &p.fields
		r.mapping(key, n, fields{
			"kind": r.text(&f.Kind), "zone": r.text(&f.Zone), "cron": r.text(&f.Cron),
			"daily": r.text(&f.Daily), "weekly": r.text(&f.Weekly), "monthly": r.text(&f.Monthly),
			"every":          r.duration(&f.Every, shortest, longest),
			"deadline":       r.duration(&f.Deadline, shortest, longest),
			"retention_days": r.number(&f.RetentionDays, 1, mostDays),
		})
		if isMapping(n) && !r.mistaken(key) {
			to[name] = p
		}
	})
}

// schedule makes the schedules of a source once everything else of it is known.
func (r *reader) schedule(c *Config, s *Source, all map[string]planned) {
	now := time.Now()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		made, wrong := NewSchedule(s, name, all[name].fields)
		if wrong != nil {
			key := all[name].key
			if wrong.Key != "" {
				key = below(key, wrong.Key)
			}
			r.wrongKey(key, "%s", wrong.Text)
			continue
		}
		for _, note := range TimingNotes(made.Timing, now) {
			c.Warnings = append(c.Warnings, all[name].key+": "+note)
		}
		s.Schedules = append(s.Schedules, made)
	}
}
