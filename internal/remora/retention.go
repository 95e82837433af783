package remora

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// KeepPolicy says which backups of a source stay. Whatever one rule keeps, stays; 0 means that a rule keeps nothing.
type KeepPolicy struct {
	// Last is how many of the newest good backups stay.
	Last int `json:"last,omitempty"`
	// DatabaseDays and FilesDays are for how many days backups with that component stay.
	DatabaseDays int `json:"database_days,omitempty"`
	FilesDays    int `json:"files_days,omitempty"`
	// Daily, Weekly, Monthly and Yearly are for how many days, weeks, months and years, that have one, the newest good
	// backup stays.
	Daily   int `json:"daily,omitempty"`
	Weekly  int `json:"weekly,omitempty"`
	Monthly int `json:"monthly,omitempty"`
	Yearly  int `json:"yearly,omitempty"`
}

// Hold keeps a backup whatever retention says.
type Hold struct {
	Backup string    `json:"backup"`
	By     string    `json:"by"`
	Why    string    `json:"why,omitempty"`
	At     time.Time `json:"at"`
	// Until is when it ends by itself; zero means never.
	Until time.Time `json:"until,omitzero"`
}

// ActiveHold is the hold of a backup while it holds.
func (b Backup) ActiveHold(now time.Time) *Hold {
	if b.Hold == nil || !b.Hold.Until.IsZero() && !now.Before(b.Hold.Until) {
		return nil
	}
	return b.Hold
}

// Lease says that somebody reads a backup, so that nobody deletes it (S29).
type Lease struct {
	Backup string `json:"backup"`
	// Reader is the run that reads, where that is known, and What says so in words.
	Reader string `json:"reader,omitempty"`
	What   string `json:"what"`
	// Until is when the lease ends unless it is renewed.
	Until time.Time `json:"until"`
}

// RetentionRequest starts a Retention.
type RetentionRequest struct {
	// Copy names the copy of the repository; empty means the repository.
	Copy string `json:"copy,omitempty"`
	// Source narrows it to one source; empty means all.
	Source string `json:"source,omitempty"`
	// Force is the hash of the dangerous plan that a person has seen and insists on.
	Force       string `json:"force,omitempty"`
	RequestedBy string `json:"requested_by"`
}

// Command is the command line that asks for the same, with further flags.
func (r RetentionRequest) Command(flags string) string {
	command := "remora cleanup"
	if r.Source != "" {
		command += " " + r.Source
	}
	if r.Copy != "" {
		command += " --copy " + r.Copy
	}
	return command + " " + flags
}

// Inventory is what there is to decide about in a repository, as of one moment.
type Inventory struct {
	// Now is the time of the storage, and Skew how far its clock is ahead of ours.
	Now  time.Time
	Skew time.Duration
	// Backups and failed runs, with their holds.
	Backups  []Backup
	Restores []Restore
	Leases   []Lease
}

// RetentionPlan says of every backup whether it stays, and why.
type RetentionPlan struct {
	// Copy is the copy that it is about; empty means the repository.
	Copy     string    `json:"copy,omitempty"`
	At       time.Time `json:"at"`
	Verdicts []Verdict `json:"verdicts"`
	// Refusals say why nothing, or nothing of some source, may be deleted without a person's word.
	Refusals []Refusal `json:"refusals,omitempty"`
	// Bytes is how much only the backups refer to that would be deleted, as it is stored.
	Bytes int64 `json:"bytes"`
	// Hash is over what is refused and why; where nothing is, over all that would be deleted.
	Hash string `json:"hash"`
}

// Verdict is what a plan says of one backup, or of the record of a failed run.
type Verdict struct {
	Backup  string     `json:"backup"`
	Source  string     `json:"source"`
	Kind    BackupKind `json:"kind,omitempty"`
	Status  Status     `json:"status"`
	Purpose Purpose    `json:"purpose,omitempty"`
	Started time.Time  `json:"started"`
	Delete  bool       `json:"delete"`
	// Refused keeps it for now: it would be deleted, but for a Refusal.
	Refused bool   `json:"refused,omitempty"`
	Why     string `json:"why"`
}

// Refusal is why a plan is not carried out for a source, or for all where Source is empty.
type Refusal struct {
	Source string `json:"source,omitempty"`
	Why    string `json:"why"`
}

// Deletes are the ids of what is to be deleted, oldest first.
func (p RetentionPlan) Deletes() (ids []string) {
	for _, v := range p.Verdicts {
		if v.Delete && !v.Refused {
			ids = append(ids, v.Backup)
		}
	}
	return ids
}

// Seal computes the plan's hash.
func (p *RetentionPlan) Seal() {
	h := sha256.New()
	for _, v := range p.Verdicts {
		if v.Delete && v.Refused == (len(p.Refusals) > 0) {
			fmt.Fprintln(h, v.Backup, v.Why)
		}
	}
	p.Hash = hex.EncodeToString(h.Sum(nil)[:8])
}

// Force lifts the refusals of a plan that a person has seen, and tells whether this is that plan.
func (p *RetentionPlan) Force(hash string) bool {
	if hash != p.Hash {
		return false
	}
	for i := range p.Verdicts {
		p.Verdicts[i].Refused = false
	}
	p.Refusals = nil
	return true
}

// RetentionResult is what a Retention came to.
type RetentionResult struct {
	Copy string `json:"copy,omitempty"`
	// Kept and Deleted count backups and records of failed runs; Spared counts those that were to be deleted, and were
	// held or read by the time.
	Kept    int `json:"kept"`
	Deleted int `json:"deleted"`
	Spared  int `json:"spared,omitempty"`
	// Freed is how many bytes came back now, Later about how many more will because of what was deleted now, and Owed
	// that with what earlier runs promised and has not come back yet.
	Freed int64 `json:"freed"`
	Later int64 `json:"later"`
	Owed  int64 `json:"owed"`
}

// The inputs and answers of the steps of a Retention.
type (
	// Planned is what a history remembers of a RetentionPlan; the plan itself is a record in the repository.
	Planned struct {
		Hash   string `json:"hash"`
		Keep   int    `json:"keep"`
		Delete int    `json:"delete"`
		Bytes  int64  `json:"bytes"`
		// Refused says why not all of it is deleted without a person's word.
		Refused []string `json:"refused,omitempty"`
	}
	// DeleteInput deletes, of the recorded plan with that hash, at most Limit backups from From on.
	DeleteInput struct {
		Copy  string `json:"copy,omitempty"`
		Hash  string `json:"hash"`
		From  int    `json:"from"`
		Limit int    `json:"limit"`
	}
	// DeletedPage is how many of a page were deleted, by this attempt or by one before.
	DeletedPage struct {
		Deleted int `json:"deleted"`
	}
	// ReclaimInput gives space back. Bytes is about how much what Run deleted will come to.
	ReclaimInput struct {
		Copy  string `json:"copy,omitempty"`
		Run   string `json:"run"`
		Bytes int64  `json:"bytes"`
	}
)
