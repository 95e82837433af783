package remora

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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
	// Hash is bound to the start of the restore: a target that changed since asks again.
	Hash string `json:"hash"`
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

// Phase is one finished phase of a run.
type Phase struct {
	Name string        `json:"name"`
	Took time.Duration `json:"took"`
	// RequestedBy is who asked for a phase that somebody asked for after the start: a rollback, an accept.
	RequestedBy string   `json:"requested_by,omitempty"`
	Summary     *Summary `json:"summary,omitempty"`
}
