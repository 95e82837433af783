package control

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/remora-backup/remora/internal/remora"
)

// Running is an operation that holds a source's lane.
type Running struct {
	// Operation says what it is: "a backup", "a restore".
	Operation string    `json:"operation"`
	By        string    `json:"by,omitempty"`
	Since     time.Time `json:"since"`
	// Phase and Progress tell how far it is, as its worker last said.
	Phase    string           `json:"phase,omitempty"`
	Progress *remora.Progress `json:"progress,omitempty"`
	// Attempt, Problem and Next are set when the phase failed and is tried again.
	Attempt int       `json:"attempt,omitempty"`
	Problem string    `json:"problem,omitempty"`
	Next    time.Time `json:"next,omitzero"`
	// Paused says who has the phase paused in Temporal.
	Paused string `json:"paused,omitempty"`
	// Run is where Temporal knows it.
	Run Run `json:"run"`
}

// running is what works on a source as it stands.
func (s state) running() Running {
	top := s.top()
	r := Running{Operation: remora.OperationName(top.workflow), By: top.actor, Since: top.started, Run: top.run(s.source)}
	for _, step := range s.work().steps {
		if r.Phase != "" && step.progress == nil {
			continue
		}
		r.Phase, r.Progress = step.name(), step.progress
		r.Attempt, r.Problem, r.Next, r.Paused = 0, "", time.Time{}, step.paused
		if step.attempt > 1 {
			r.Attempt, r.Next, r.Problem = step.attempt, step.next, step.why()
		}
	}
	return r
}

// Sentence says in one line who does what since when and how far that is.
func (r Running) Sentence(now time.Time) string {
	var b strings.Builder
	b.WriteString(r.Operation)
	if r.By != "" {
		fmt.Fprintf(&b, " by %s", r.By)
	}
	fmt.Fprintf(&b, " runs since %s (%s)", r.Since.Local().Format("15:04:05"), Span(now.Sub(r.Since)))
	if r.Phase != "" {
		fmt.Fprintf(&b, ": %s", r.Phase)
	}
	if r.Progress != nil {
		if far := HowFar(*r.Progress); far != "" {
			fmt.Fprintf(&b, ", %s", far)
		}
	}
	if r.Paused != "" {
		fmt.Fprintf(&b, ", %s", r.Paused)
	} else if r.Attempt > 1 {
		fmt.Fprintf(&b, ", attempt %d", r.Attempt)
		if r.Problem != "" {
			fmt.Fprintf(&b, " after: %s", r.Problem)
		}
	}
	return remora.OneLine(b.String())
}

// HowFar is a progress in a few words: "43 % (1.2 GB of 2.8 GB)".
func HowFar(p remora.Progress) string {
	switch {
	case p.Total > 0:
		percent := min(100, 100*float64(p.Done)/float64(p.Total))
		return fmt.Sprintf("%.0f %% (%s of %s)", percent, Amount(p.Done, p.Unit), Amount(p.Total, p.Unit))
	case p.Done > 0:
		return Amount(p.Done, p.Unit)
	default:
		return ""
	}
}

// Amount is a count with its unit: "1.2 GB", "12,345 rows".
func Amount(n int64, unit string) string {
	if unit == "bytes" {
		return humanize.Bytes(uint64(max(0, n)))
	}
	return strings.TrimSpace(humanize.Comma(n) + " " + unit)
}

// Span is a length of time for people.
func Span(d time.Duration) string { return remora.Span(d) }
