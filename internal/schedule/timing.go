package schedule

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/robfig/cron/v3"
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/internal/remora"
)

// calendar are the minutes, hours, days of the month, months and days of the week that fit, a bit for each.
type calendar [5]uint64

// bounds are the least and the greatest value of each.
var bounds = [5][2]int{{0, 59}, {0, 23}, {1, 31}, {1, 12}, {0, 6}}

func calendarOf(text string) (calendar, error) {
	const star = 1 << 63 // marks a field that is not restricted
	parsed, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(text)
	s, ok := parsed.(*cron.SpecSchedule)
	if err != nil || !ok {
		return calendar{}, fmt.Errorf("read %q as cron: %w", text, err)
	}
	return calendar{s.Minute &^ star, s.Hour &^ star, s.Dom &^ star, s.Month &^ star, s.Dow &^ star}, nil
}

// ranges are the runs of bits that are set.
func (c calendar) ranges(field int) (found []client.ScheduleRange) {
	for i := bounds[field][0]; i <= bounds[field][1]; i++ {
		switch n := len(found); {
		case c[field]>>i&1 == 0:
		case n > 0 && found[n-1].End == i-1:
			found[n-1].End = i
		default:
			found = append(found, client.ScheduleRange{Start: i, End: i, Step: 1})
		}
	}
	return found
}

// String writes the calendar as cron, always in the same way.
func (c calendar) String() string {
	var fields []string
	for i, b := range bounds {
		var runs []string
		for _, r := range c.ranges(i) {
			switch {
			case r.Start == b[0] && r.End == b[1]:
				runs = append(runs, "*")
			case r.Start == r.End:
				runs = append(runs, strconv.Itoa(r.Start))
			default:
				runs = append(runs, fmt.Sprintf("%d-%d", r.Start, r.End))
			}
		}
		fields = append(fields, strings.Join(runs, ","))
	}
	return strings.Join(fields, " ")
}

// bitsOf are the values that ranges hold.
func bitsOf(ranges []client.ScheduleRange) (bits uint64) {
	for _, r := range ranges {
		for i := r.Start; i <= max(r.Start, r.End) && i < 64; i += max(1, r.Step) {
			bits |= 1 << i
		}
	}
	return bits
}

// plain writes a timing as timingOf reads it back.
func plain(t remora.Timing) (remora.Timing, error) {
	if t.Every > 0 {
		return remora.Every(t.Every), nil
	}
	c, err := calendarOf(t.Cron)
	return remora.Calendar(c.String(), cmp.Or(t.Zone, "UTC")), err
}

// specOf tells Temporal when that is. There is no jitter: a slot puts itself off, and its nominal time stays exact.
func specOf(t remora.Timing) (*client.ScheduleSpec, error) {
	if t.Every > 0 {
		return &client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: t.Every}}}, nil
	}
	c, err := calendarOf(t.Cron)
	if err != nil {
		return nil, err
	}
	return &client.ScheduleSpec{
		Calendars: []client.ScheduleCalendarSpec{{
			Second: []client.ScheduleRange{{}},
			Minute: c.ranges(0), Hour: c.ranges(1), DayOfMonth: c.ranges(2), Month: c.ranges(3), DayOfWeek: c.ranges(4),
		}},
		TimeZoneName: t.Zone,
	}, nil
}

// timingOf reads what Temporal says of when that is. What Remora never writes has only a text, which equals no other.
func timingOf(s *client.ScheduleSpec) remora.Timing {
	odd := remora.Timing{Text: "as somebody set it in Temporal"}
	switch {
	case s == nil, len(s.Calendars)+len(s.Intervals) != 1, len(s.Skip) > 0, s.Jitter > 0, !s.StartAt.IsZero(), !s.EndAt.IsZero():
		return odd
	case len(s.Intervals) == 1:
		if s.Intervals[0].Offset != 0 {
			return odd
		}
		return remora.Every(s.Intervals[0].Every)
	}
	at := s.Calendars[0]
	if bitsOf(at.Second) != 1 || len(at.Year) > 0 {
		return odd
	}
	c := calendar{bitsOf(at.Minute), bitsOf(at.Hour), bitsOf(at.DayOfMonth), bitsOf(at.Month), bitsOf(at.DayOfWeek)}
	return remora.Calendar(c.String(), cmp.Or(s.TimeZoneName, "UTC"))
}
