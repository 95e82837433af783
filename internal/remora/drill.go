package remora

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// drillRun begins the run of every drill: whoever finds beside the data what one left knows by that what it is.
const drillRun = "drill-"

// DrillRun is the run of the drill whose workflow has that run.
func DrillRun(run string) string { return drillRun + run }

// IsDrill tells whether a run is that of a drill. Nothing of it was ever live, so nothing needs to be saved of it.
func IsDrill(run string) bool { return strings.HasPrefix(run, drillRun) }

// DrillRequest starts a Drill.
type DrillRequest struct {
	Source string `json:"source"`
	// Backup is the backup to prove; empty means the newest good one.
	Backup      string `json:"backup,omitempty"`
	RequestedBy string `json:"requested_by"`
	// Slot is what of a schedule it is for, if any.
	Slot Slot `json:"slot,omitzero"`
	// Settle is what drills have left that did not come to their end. Where there is some, it is removed, and nothing proven.
	Settle []Leftover `json:"settle,omitempty"`
}

// DrillOutcome is how a drill ended.
type DrillOutcome string

// The outcomes of drills. One that could not be made says nothing about the backup.
const (
	Proven       DrillOutcome = "proven"
	DrillFailing DrillOutcome = "failed"
	DrillNotMade DrillOutcome = "error"
	// DrillSkipped and DrillMissed are those of slots that none was made for.
	DrillSkipped DrillOutcome = "skipped"
	DrillMissed  DrillOutcome = "missed"
)

// Proof is the record of a drill: what it came to, and how long it took. Kept in the repository.
type Proof struct {
	ID          string `json:"id"`
	Run         string `json:"run"`
	Source      string `json:"source"`
	Backup      string `json:"backup,omitempty"`
	RequestedBy string `json:"requested_by"`
	// Slot is what of a schedule it was for: there is one record for each.
	Slot    Slot         `json:"slot,omitzero"`
	Outcome DrillOutcome `json:"outcome"`
	Started time.Time    `json:"started"`
	Ended   time.Time    `json:"ended"`
	// Took is how long it took until the data was there, compared and checked, in nanoseconds: Phases without tidying up.
	Took   time.Duration `json:"took"`
	Phases []Phase       `json:"phases,omitempty"`
	// Rows, Files and Bytes were brought back and compared; Checks were asked, and passed.
	Rows     int64    `json:"rows"`
	Files    int64    `json:"files"`
	Bytes    int64    `json:"bytes"`
	Checks   int      `json:"checks"`
	Warnings []string `json:"warnings,omitempty"`
	// Phase, Problem and Hint say where and why it was no proof.
	Phase   string `json:"phase,omitempty"`
	Problem string `json:"problem,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

// DrillID derives the id of a drill from its run.
func DrillID(source, run string, started time.Time) string {
	return fmt.Sprintf("%s-drill-%s-%s", source, started.UTC().Format("20060102T150405Z"), tag(run))
}

// Proof is what is kept of a slot that left no drill.
func (f FailedRun) Proof() Proof {
	how := map[Status]DrillOutcome{Failed: DrillNotMade, Skipped: DrillSkipped, Missed: DrillMissed}[f.Status]
	return Proof{
		ID: DrillID(f.Source, f.Run, f.Slot.Due), Run: f.Run, Source: f.Source, RequestedBy: f.RequestedBy, Slot: f.Slot, Outcome: how,
		Started: f.Started, Ended: f.Ended, Problem: f.Problem, Hint: f.Hint,
	}
}

// DrillsOf are those of a source.
func DrillsOf(source string, all []Proof) []Proof {
	return slices.DeleteFunc(slices.Clone(all), func(p Proof) bool { return p.Source != source })
}

// LastProof is the newest of proofs, newest first, that is one; nil where none is.
func LastProof(newestFirst []Proof) *Proof {
	for i, p := range newestFirst {
		if p.Outcome == Proven {
			return &newestFirst[i]
		}
	}
	return nil
}

// Stager is a component whose stage can be asked in place of what is live.
type Stager interface {
	// Staged completes the compared stage of a run with what only a switch would bring, so that nothing of it acts by itself,
	// and gives it to be asked. The notes say of what in it an answer would not be its own. It may be repeated.
	Staged(ctx context.Context, run string) (asked Checker, notes []string, err error)
}
