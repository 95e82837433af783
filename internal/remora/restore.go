package remora

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
)

// Plan is what a restore is going to do, before it does it.
type Plan struct {
	Source  string        `json:"source"`
	Backup  Backup        `json:"backup"`
	Kinds   []Kind        `json:"kinds"`
	Targets []Target      `json:"targets"`
	Undo    time.Duration `json:"undo"`
	Selection
	// Times is about how long it takes.
	Times Times `json:"times,omitzero"`
	// Hash is bound to the start of the restore: a target that changed since asks again.
	Hash string `json:"hash"`
}

// Times is about how long a restore takes, by how long others took.
type Times struct {
	// Prepare goes by while the source is in use: the safety backup, the stage and its comparison.
	Prepare time.Duration `json:"prepare,omitempty"`
	// Interruption is for how long the application is offline; 0 where it is not taken offline, or nobody knows.
	Interruption time.Duration `json:"interruption,omitempty"`
	// By is the restore or drill that was measured; empty means that none was, and that Prepare is a guess.
	By string `json:"by,omitempty"`
}

// Target is what a restore replaces in one component.
type Target struct {
	Kind     Kind     `json:"kind"`
	Live     Estimate `json:"live"`
	Restores Summary  `json:"restores"`
	// Preview is what differs, where it was asked for and the component can tell.
	Preview *Preview `json:"preview,omitempty"`
}

// Seal computes the plan's hash from what must not change between the question and the start: the backup, the
// components, the servers and the shape of what is live.
func (p *Plan) Seal() {
	h := sha256.New()
	enc := json.NewEncoder(h)
	_ = enc.Encode([]any{p.Source, p.Backup.ID, p.Kinds}) // plain values always encode
	if !p.All() {
		_ = enc.Encode(p.Selection)
	}
	for _, t := range p.Targets {
		_ = enc.Encode([]any{t.Kind, t.Live.Identity, t.Live.Fingerprint, t.Live.Empty})
	}
	p.Hash = hex.EncodeToString(h.Sum(nil)[:16])
}

// Outcome is how a restore stands or ended.
type Outcome string

// The outcomes of a restore.
const (
	// OutcomeRunning lies between the start and the switch.
	OutcomeRunning Outcome = "running"
	// OutcomeApplied means that the restored side is live and the undo window is open.
	OutcomeApplied Outcome = "applied"
	// OutcomeUndone means that the replaced side is live again, and the window is still open.
	OutcomeUndone Outcome = "undone"
	// OutcomeAccepted and OutcomeExpired mean that the window was ended by a person or by time; a backup holds the
	// side that was put away.
	OutcomeAccepted Outcome = "accepted"
	OutcomeExpired  Outcome = "expired"
	// OutcomeRolledBack means that the restore failed or was cancelled, and the source is what it was.
	OutcomeRolledBack Outcome = "rolled back"
	// OutcomeCopied means that the backup was built in a schema of its own: nothing was switched, and nothing can be undone.
	OutcomeCopied Outcome = "copied"
	// OutcomeRefused means that it ended before anything was touched.
	OutcomeRefused Outcome = "refused"
)

// Open tells whether the undo window is open.
func (o Outcome) Open() bool { return o == OutcomeApplied || o == OutcomeUndone }

// Unsettled tells whether a restore still has something to do.
func (o Outcome) Unsettled() bool { return o == OutcomeRunning || o.Open() }

// Restore is the record of a restore, kept in the repository.
type Restore struct {
	ID     string `json:"id"`
	Run    string `json:"run"`
	Source string `json:"source"`
	Backup string `json:"backup"`
	Kinds  []Kind `json:"kinds"`
	Selection
	RequestedBy string  `json:"requested_by"`
	Outcome     Outcome `json:"outcome"`
	// Empty names the components that had nothing live before (S14).
	Empty []Kind `json:"empty,omitempty"`
	// Live is the side that is live, once a switch has happened.
	Live      Side      `json:"live,omitempty"`
	Started   time.Time `json:"started"`
	Ended     time.Time `json:"ended,omitzero"`
	KeepUntil time.Time `json:"keep_until,omitzero"`
	// SafetyBackup holds what was live before; PutAwayBackup what was put away, taken before it was discarded (S1).
	SafetyBackup  string `json:"safety_backup,omitempty"`
	PutAwayBackup string `json:"put_away_backup,omitempty"`
	// WithoutSafety is the typed reason for a restore without a safety backup (S14).
	WithoutSafety string  `json:"without_safety,omitempty"`
	Phases        []Phase `json:"phases,omitempty"`
	Problem       string  `json:"problem,omitempty"`
	Hint          string  `json:"hint,omitempty"`
	// Warnings are what was noticed at the last switch and is worth a person's look: a live check that failed.
	Warnings []string `json:"warnings,omitempty"`
}

// Phase is one phase of a run that is over.
type Phase struct {
	Name string `json:"name"`
	// At is when it began; what earlier versions recorded does not say it.
	At   time.Time     `json:"at,omitzero"`
	Took time.Duration `json:"took"`
	// Failed is the phase that a run failed in, or was cancelled in.
	Failed bool `json:"failed,omitempty"`
	// RequestedBy is who asked for a phase that somebody asked for after the start: a rollback, an accept.
	RequestedBy string   `json:"requested_by,omitempty"`
	Summary     *Summary `json:"summary,omitempty"`
}

// Names of phases. An application is offline from the one to the end of the other.
const (
	OfflinePhase = "maintenance on"
	OnlinePhase  = "maintenance off"
	// WayBack begins the names of the phases that undo others.
	WayBack = "way back: "
)

// PhaseName says in the language of the trade what a verb does to a component of a source. The phases of a run are called
// so in its record.
func PhaseName(kind Kind, verb, source string) string {
	does := map[string]string{
		PreflightVerb: "check", CaptureVerb: "archive", StageVerb: "stage", CompareVerb: "compare staged", SwitchVerb: "switch",
		PrepareVerb: "prepare switch of", DiscardVerb: "discard put-away", LeftoversVerb: "look at journal of", PreviewVerb: "compare live",
	}[verb]
	if kind == Database && verb == CaptureVerb {
		does = "dump"
	}
	return does + " " + string(kind) + " of " + source
}

// Interruption is for how long the restore had the application offline, at its switch and until it was back.
func (r Restore) Interruption() (long time.Duration) {
	var from *Phase
	for i, p := range r.Phases {
		if from == nil && p.Name == OfflinePhase {
			from = &r.Phases[i]
		}
		if from == nil {
			continue
		}
		if long += p.Took; !from.At.IsZero() && !p.At.IsZero() { // with what lies between them
			long = p.At.Add(p.Took).Sub(from.At)
		}
		if p.Name == OnlinePhase || p.Name == WayBack+"leave maintenance" {
			break
		}
	}
	return long
}

// Kind is the component that a phase of the restore was about; empty where it was about none.
func (r Restore) Kind(p Phase) Kind {
	for _, kind := range []Kind{Database, Files} {
		if strings.HasSuffix(p.Name, string(kind)+" of "+r.Source) {
			return kind
		}
	}
	return ""
}
