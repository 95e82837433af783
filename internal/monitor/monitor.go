// Package monitor judges how an installation stands: pure functions from what was seen to what is wrong, and from what is
// wrong to what people are told. Who looks, and who tells, is somebody else.
//
// A problem is an alert with a stable key. It is told once, again every day while it lasts, and once when it is over. It
// is over when it was not found for an hour: one that comes and goes meanwhile stays the same alert, so that nobody gets
// mail every few minutes, and nobody is told that all is well while it is about to return. One that becomes worse is told
// again at once. What could not be looked at is neither found nor over.
package monitor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

const (
	// reminder is how often people are told of a problem that lasts.
	reminder = 24 * time.Hour
	// over is for how long a problem is not found before it is over.
	over = time.Hour
	// most is how many notices one look may cause; the others follow with the next.
	most = 20
)

// maxText bounds the texts of an alert, in bytes: a history must stay small.
const maxText = 500

// Found is a problem as a look finds it.
func Found(key string, level remora.Level, source, hint, format string, args ...any) remora.Alert {
	text := func(s string) string { return remora.Cut(remora.OneLine(s), maxText) }
	return remora.Alert{Key: key, Level: level, Source: source, Problem: text(fmt.Sprintf(format, args...)), Hint: text(hint)}
}

// Turn brings the alerts up to what a look found, and says what people are told of it. An alert that is found may say
// since when the problem is, and when people were told of it by others. The keys that begin with one of unknown were not
// looked at.
func Turn(before, found []remora.Alert, unknown []string, now time.Time) (after []remora.Alert, tell []remora.Notice) {
	fresh := map[string]remora.Alert{}
	for _, f := range found {
		if known, there := fresh[f.Key]; !there || rank(f.Level) > rank(known.Level) {
			fresh[f.Key] = f
		}
	}
	notice := func(a *remora.Alert, event remora.Event) bool {
		if len(tell) == most {
			return false
		}
		a.Told = now
		tell = append(tell, noticeOf(*a, event))
		return true
	}
	for _, a := range before {
		f, there := fresh[a.Key]
		delete(fresh, a.Key)
		switch {
		case there:
			worse := rank(f.Level) > rank(a.Level)
			a.Problem, a.Hint, a.Gone = f.Problem, f.Hint, time.Time{}
			if worse {
				a.Level = f.Level
			}
			switch {
			case a.Told.IsZero():
				notice(&a, remora.AlertRaised)
			case worse || now.Sub(a.Told) >= reminder:
				notice(&a, remora.AlertReminder)
			}
		case slices.ContainsFunc(unknown, func(part string) bool { return strings.HasPrefix(a.Key, part) }):
		case a.Gone.IsZero():
			a.Gone = now
		case now.Sub(a.Gone) >= over && (a.Told.IsZero() || notice(&a, remora.AlertCleared)):
			continue
		}
		after = append(after, a)
	}
	for _, key := range slices.Sorted(maps.Keys(fresh)) {
		a := fresh[key]
		if a.Since.IsZero() {
			a.Since = now
		}
		if a.Told.IsZero() {
			notice(&a, remora.AlertRaised)
		}
		after = append(after, a)
	}
	return after, tell
}

func rank(l remora.Level) int {
	return slices.Index([]remora.Level{remora.Warning, remora.Failing}, l)
}

// noticeOf says an alert. Its id is the same however often the same thing is about to be told.
func noticeOf(a remora.Alert, event remora.Event) remora.Notice {
	id := fmt.Sprintf("alert/%s/%d/%s", a.Key, a.Since.Unix(), event)
	if event == remora.AlertReminder {
		id = fmt.Sprintf("%s/%d", id, a.Told.Unix())
	}
	n := remora.Notice{ID: id, Event: event, Source: a.Source, Subject: a.Key, Problem: a.Problem, Hint: a.Hint, Since: a.Since}
	if event == remora.AlertCleared {
		n.Hint = "" // nothing is to be done
	}
	return n
}

// Worst sorts alerts by what needs somebody most, and then by age.
func Worst(alerts []remora.Alert) []remora.Alert {
	return slices.SortedStableFunc(slices.Values(alerts), func(a, b remora.Alert) int {
		return cmp.Or(rank(b.Level)-rank(a.Level), a.Since.Compare(b.Since), cmp.Compare(a.Key, b.Key))
	})
}
