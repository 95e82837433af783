package remora

import (
	"slices"
	"strings"
	"time"
)

// Alert is a problem that the monitor found and that is not over.
type Alert struct {
	// Key names the problem: "overdue/shop". One with the same key is the same problem.
	Key     string `json:"key"`
	Level   Level  `json:"level"`
	Source  string `json:"source,omitempty"`
	Problem string `json:"problem"`
	Hint    string `json:"hint,omitempty"`
	// Since is when it was first seen, and Told when people were last told.
	Since time.Time `json:"since"`
	Told  time.Time `json:"told,omitzero"`
	// Gone is from when on it was not found any more. It is over once that has lasted.
	Gone time.Time `json:"gone,omitzero"`
}

// MonitorState is what the monitor remembers, in the repository.
type MonitorState struct {
	// At is when it last looked and wrote; it writes when something changed, and once an hour.
	At     time.Time `json:"at"`
	Alerts []Alert   `json:"alerts,omitempty"`
	// Accounted is up to when the slots of each schedule, by its id, have been accounted for.
	Accounted map[string]time.Time `json:"accounted,omitempty"`
	// Failing is since when a step of a run has failed again and again, by run and step.
	Failing map[string]time.Time `json:"failing,omitempty"`
	// Sizes are daily samples of the repository, oldest first.
	Sizes []SizeSample `json:"sizes,omitempty"`
}

// Open are the alerts whose problem was found at the last look.
func (s MonitorState) Open() []Alert {
	return slices.DeleteFunc(slices.Clone(s.Alerts), func(a Alert) bool { return !a.Gone.IsZero() })
}

// Expected is what is expected of a source.
type Expected struct {
	Source string
	Kinds  []Kind
	// RecoveryPoint is how old the newest good backup of each component may be; 0 means as the schedules promise.
	RecoveryPoint time.Duration
	// RecoveryTime is how long it may take to bring it back, 0 meaning any; Drill how old its newest proof may be, 0 meaning
	// as the schedules promise.
	RecoveryTime, Drill time.Duration
	Schedules           []Schedule
}

// ProofObjective is how old the newest proof may be; 0 where nobody promised anything.
func (e Expected) ProofObjective() time.Duration {
	return Objective(e.Drill, slices.DeleteFunc(slices.Clone(e.Schedules), func(s Schedule) bool { return !s.Drill }))
}

// Objective is how old the newest good backup of a component may be; 0 where nobody promised anything.
func (e Expected) Objective(kind Kind) time.Duration {
	return Objective(e.RecoveryPoint, slices.DeleteFunc(slices.Clone(e.Schedules), func(s Schedule) bool { return !slices.Contains(s.Kinds, kind) }))
}

// LookInput asks for a look around.
type LookInput struct {
	// Before is what the monitor remembers of its last look, which the repository may not know.
	Before MonitorState `json:"before"`
}

// LookResult is what a look found.
type LookResult struct {
	// State is what is to be remembered, and Accounted replaces State.Accounted once Missing is recorded.
	State     MonitorState         `json:"state"`
	Accounted map[string]time.Time `json:"accounted,omitempty"`
	// Write tells that the repository should know State.
	Write bool `json:"write,omitempty"`
	// Notices are to be told, Missing are runs and slots that left no record of their own, Lost the sources with a restore
	// that no workflow looks after.
	Notices []Notice    `json:"notices,omitempty"`
	Missing []FailedRun `json:"missing,omitempty"`
	Lost    []string    `json:"lost,omitempty"`
	// Drilled remove what drills have left beside the data of sources.
	Drilled []DrillRequest `json:"drilled,omitempty"`
}

// MonitorActor is who asks where nobody but the monitor does.
const MonitorActor = "monitor"

// needsPerson begins the details of a run that waits for somebody.
const needsPerson = "needs a person: "

// WaitsForPerson is what a run waits for somebody to put right, by the details that it shows; empty when it does not wait.
func WaitsForPerson(details string) string {
	what, ok := strings.CutPrefix(details, needsPerson)
	if !ok {
		return ""
	}
	what, _, _ = strings.Cut(what, "\n\nThen send the update")
	return OneLine(strings.ReplaceAll(what, "\n\n", " "))
}

// SizeSample is how large a repository was, and how much room it had, in bytes. Free is -1 where nobody can tell.
type SizeSample struct {
	At     time.Time `json:"at"`
	Stored int64     `json:"stored"`
	Free   int64     `json:"free"`
}
