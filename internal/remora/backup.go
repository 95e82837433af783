package remora

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// BackupKind says which components a backup holds.
type BackupKind string

// The kinds of backups.
const (
	DatabaseBackup BackupKind = "database"
	FilesBackup    BackupKind = "files"
	FullBackup     BackupKind = "full"
)

// BackupKindOf is the kind of a backup that holds these components.
func BackupKindOf(kinds []Kind) BackupKind {
	switch {
	case len(kinds) == 1 && kinds[0] == Database:
		return DatabaseBackup
	case len(kinds) == 1 && kinds[0] == Files:
		return FilesBackup
	default:
		return FullBackup
	}
}

// Purpose says why a backup was taken. Retention treats them apart (S9).
type Purpose string

// The purposes of backups.
const (
	// Regular backups are asked for by people and schedules.
	Regular Purpose = "regular"
	// Safety backups are taken of the live data before a restore.
	Safety Purpose = "safety"
	// PutAway backups hold the side that a restore put away, before it is discarded (S1).
	PutAway Purpose = "replaced"
)

// Status is what may be said of a backup or of a run that wanted to become one.
type Status string

// The statuses. A backup is completed only when what was stored has been read back (Verify).
const (
	Pending   Status = "pending"
	Completed Status = "completed"
	Failed    Status = "failed"
	Corrupted Status = "corrupt"
	// Skipped slots found the source busy up to their deadline; missed ones nobody was there to begin.
	Skipped Status = "skipped"
	Missed  Status = "missed"
)

// NoBackup tells whether the status is that of a run, or of a slot, that left no backup.
func (s Status) NoBackup() bool { return s == Failed || s == Skipped || s == Missed }

// Verb says what a run of that status did: "failed", "was skipped".
func (s Status) Verb() string {
	if s == Failed {
		return string(s)
	}
	return "was " + string(s)
}

// PartRef is the small reference to a captured part that travels through a history.
type PartRef struct {
	Kind Kind `json:"kind"`
	// Root is the repository's object id of the part's directory.
	Root    string    `json:"root"`
	Summary Summary   `json:"summary"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	// Added is how many bytes the part added to the repository, after deduplication and compression.
	Added int64 `json:"added"`
}

// ManifestFormat is the version of the backup format that this program writes. A reader refuses a later one.
const ManifestFormat = 1

// Manifest is backup.json: what a backup is and where it came from.
type Manifest struct {
	Format      int        `json:"format"`
	ID          string     `json:"id"`
	Run         string     `json:"run"`
	Source      string     `json:"source"`
	Name        string     `json:"name,omitempty"`
	Kind        BackupKind `json:"kind"`
	Purpose     Purpose    `json:"purpose"`
	RequestedBy string     `json:"requested_by"`
	Tool        string     `json:"tool"`
	Started     time.Time  `json:"started"`
	Ended       time.Time  `json:"ended"`
	Parts       []PartRef  `json:"parts,omitempty"`
	// Empty names the components that had nothing live to capture (safety backups of the disaster case, S14).
	Empty []Kind `json:"empty,omitempty"`
	// OfRestore is the restore that a safety or replaced backup belongs to.
	OfRestore string   `json:"of_restore,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
	// Slot is which slot of which schedule the backup was taken for.
	Slot Slot `json:"slot,omitzero"`
	// RetentionDays is how long it is kept, in place of the days of its source; 0 means those.
	RetentionDays int `json:"retention_days,omitempty"`
}

// Part is the part of that kind.
func (m Manifest) Part(k Kind) (PartRef, bool) {
	for _, p := range m.Parts {
		if p.Kind == k {
			return p, true
		}
	}
	return PartRef{}, false
}

// Bytes is the logical size of all parts.
func (m Manifest) Bytes() int64 {
	var n int64
	for _, p := range m.Parts {
		n += p.Summary.Bytes
	}
	return n
}

// Added is how many bytes the backup added to the repository.
func (m Manifest) Added() int64 {
	var n int64
	for _, p := range m.Parts {
		n += p.Added
	}
	return n
}

// Verification says that a backup was read back.
type Verification struct {
	At time.Time `json:"at"`
	// FullAt is when all bytes were last read, shared ones too; zero means never.
	FullAt time.Time `json:"full_at,omitzero"`
	// Contents counts blocks that were read, decrypted and authenticated; Present counts those found in place, which
	// an earlier verification, or the same run for another backup, had read.
	Contents int64 `json:"contents"`
	Present  int64 `json:"present"`
	Bytes    int64 `json:"bytes"`
	// Problem is empty when all was well.
	Problem string `json:"problem,omitempty"`
}

// Backup is a manifest with what was recorded about it later, or a run that failed before it had one.
type Backup struct {
	Manifest
	Status       Status        `json:"status"`
	Verification *Verification `json:"verification,omitempty"`
	// Problem and Phase say why and where a failed run ended.
	Problem string `json:"problem,omitempty"`
	Hint    string `json:"hint,omitempty"`
	Phase   string `json:"phase,omitempty"`
	// Proof is the newest drill that said anything about it; nil when there was none.
	Proof *Proof `json:"proof,omitempty"`
	// Hold keeps it whatever retention says; nil when there is none.
	Hold *Hold `json:"hold,omitempty"`
	// Copies names the copies that hold it, as last seen.
	Copies []string `json:"copies,omitempty"`
	// Location is the copy that it was found in, and Because why it was not taken from the repository; both are empty
	// when it was.
	Location string `json:"location,omitempty"`
	Because  string `json:"because,omitempty"`
}

// MainLocation is the word for the repository itself where copies are named beside it.
const MainLocation = "repository"

// FailedRun is the small record that a run, or a slot, leaves when it did not become a backup.
type FailedRun struct {
	// Status is Failed, Skipped or Missed; empty, as earlier versions left it, means Failed.
	Status      Status     `json:"status,omitempty"`
	Slot        Slot       `json:"slot,omitzero"`
	Run         string     `json:"run"`
	ID          string     `json:"id"`
	Source      string     `json:"source"`
	Name        string     `json:"name,omitempty"`
	Kind        BackupKind `json:"kind"`
	Purpose     Purpose    `json:"purpose"`
	RequestedBy string     `json:"requested_by"`
	Started     time.Time  `json:"started"`
	Ended       time.Time  `json:"ended"`
	Phase       string     `json:"phase"`
	Problem     string     `json:"problem"`
	Hint        string     `json:"hint,omitempty"`
	// Drill says that a drill was due: the record is a Proof.
	Drill bool `json:"drill,omitempty"`
}

// BackupID derives the id of a backup from its run, so that a retry is the same backup. slot tells apart the backups
// that one run takes: "" for a backup run, "safety" and "replaced" for those of a restore.
func BackupID(source, run, slot string, started time.Time) string {
	return fmt.Sprintf("%s-%s-%s", source, started.UTC().Format("20060102T150405Z"), tag(run+"/"+slot))
}

// RestoreID derives the id of a restore from its run.
func RestoreID(source, run string, started time.Time) string {
	return fmt.Sprintf("%s-restore-%s-%s", source, started.UTC().Format("20060102T150405Z"), tag(run))
}

func tag(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:2])
}
