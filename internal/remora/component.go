package remora

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"time"
)

// Kind names a component of a source. It is also the name of the component's folder in a backup.
type Kind string

// The components that a source can have.
const (
	Database Kind = "database"
	Files    Kind = "files"
)

// Kinds lists those that are meant, database first; nil when none is.
func Kinds(database, files bool) (kinds []Kind) {
	if database {
		kinds = append(kinds, Database)
	}
	if files {
		kinds = append(kinds, Files)
	}
	return kinds
}

// Named says them in words: "database and files".
func Named(kinds []Kind) string {
	return strings.Join(Each(kinds, func(k Kind) string { return string(k) }), " and ")
}

// DefaultStall is how long a copy may stand still where nobody chose it.
const DefaultStall = 300 * time.Second

// DefaultUndo is how long a restore can be undone where nobody chose it.
const DefaultUndo = 24 * time.Hour

// PartFile is the file, at the root of every part, that holds the part's census and digests.
const PartFile = "part.json"

// Job is one call of a component's verb on behalf of a run. Every name that a component gives to something outside
// (a schema, a directory, a lock) carries Run, so that a repeated call finds what the first one left.
type Job struct {
	// Run is the run id of the top workflow: stable over retries and resets.
	Run string
	// Seq is, for a Discard, the last turn that whoever asks knows of; 0 where nobody tells. After a later one the other
	// side is put away, and what was said of this one does not hold for it (S1).
	Seq int
	// Selection says what of a part is meant; the zero value means all of it, in its own place.
	Selection Selection
	// Report takes the state of the work, as often as the component likes; it never blocks. It may be nil.
	Report func(Progress)
}

// Stale refuses a Discard after which a turn came: now is the journal's last one.
func (j Job) Stale(op string, now int) error {
	if j.Seq == 0 || now <= j.Seq {
		return nil
	}
	return Fail(Fenced, op, "run "+j.Run, "", "it was asked for before turn %d: %w", now, ErrStaleTurn)
}

// Tell reports p where somebody listens.
func (j Job) Tell(p Progress) {
	if j.Report != nil {
		j.Report(p)
	}
}

// Intent says what a Preflight prepares.
type Intent struct {
	// From is the part that is about to be restored. It is nil when a capture is meant.
	From fs.FS
	// Partial accepts a capture of which some is missing: see Subject.
	Partial bool
}

// Restore tells whether a restore is meant.
func (i Intent) Restore() bool { return i.From != nil }

// Estimate is what a Preflight found: what is live now, and what the work will meet. It changes nothing.
type Estimate struct {
	// Summary counts what is live now (entries and bytes may be the server's estimates).
	Summary Summary `json:"summary"`
	// Empty is true when nothing is live: no schema, no directory. Nothing can be captured then, and a restore has
	// nothing to save before it starts.
	Empty bool `json:"empty,omitempty"`
	// Identity names the server or the root directory that the verbs act on (S12).
	Identity string `json:"identity"`
	// Fingerprint changes when what a restore would replace changes in shape: other tables, other definitions, other
	// directories. Changed rows and files do not change it.
	Fingerprint string `json:"fingerprint"`
	// Replaces names, for people, what a restore would put away: "table shop.orders (about 1,200 rows)".
	Replaces []string `json:"replaces,omitempty"`
	// Restores counts what is meant of the part, where that is not all of it.
	Restores *Summary `json:"restores,omitempty"`
	// Warnings are what a person should know before saying yes.
	Warnings []string `json:"warnings,omitempty"`
	// Shape is how what is live differs in shape from the part that is to be restored.
	Shape Shape `json:"shape,omitzero"`
	// Space is what the restore takes beside the live data.
	Space []Space `json:"space,omitempty"`
	// Skew is how far the clock of the server is ahead of ours; 0 where the component has no clock of its own.
	Skew time.Duration `json:"skew,omitempty"`
}

// Subject says which data a verb reads.
type Subject struct {
	// PutAway is the run of the restore whose put-away side is meant. Empty means the live data.
	PutAway string `json:"put_away,omitempty"`
	// Partial accepts that some of what is configured does not exist, and records what. It is meant for the safety
	// backup before a restore, which is often needed because something is missing; any other capture refuses then, so
	// that an unmounted disk never becomes a green backup.
	Partial bool `json:"partial,omitempty"`
}

// Summary counts what a verb handled.
type Summary struct {
	// Objects counts tables or directories.
	Objects int64 `json:"objects"`
	// Entries counts rows or files.
	Entries int64 `json:"entries"`
	// Bytes is the logical size.
	Bytes int64 `json:"bytes"`
	// Facts are short facts for people and for later checks, such as "server" or "position". Never secrets or rows.
	Facts map[string]string `json:"facts,omitempty"`
	// Warnings are what was noticed and is worth a person's look.
	Warnings []string `json:"warnings,omitempty"`
}

// Diff is the answer of a Compare. No differences means: equal in every row, file, count and definition.
type Diff struct {
	// Compared counts what was read back.
	Compared Summary `json:"compared"`
	// Differences names what differs, at most MaxDifferences of them. Never with row data.
	Differences []string `json:"differences,omitempty"`
}

// Equal tells whether nothing differs.
func (d Diff) Equal() bool { return len(d.Differences) == 0 }

// MaxDifferences bounds Diff.Differences: a person needs the first few, a history must stay small.
const MaxDifferences = 20

// Side is one of the two sides of a restore.
type Side string

// The sides of a restore: what the backup brought, and what was live before.
const (
	Restored Side = "restored"
	Replaced Side = "replaced"
)

// Other is the opposite side.
func (s Side) Other() Side {
	if s == Restored {
		return Replaced
	}
	return Restored
}

// Turn asks for one side of a restore to be live. It is a level, not an edge: repeating it changes nothing, and an
// older Seq than the journal's is refused with ErrStaleTurn, so a late retry can never switch twice.
type Turn struct {
	Run string `json:"run"`
	// Seq is 1 for the switch of a restore, 2 for its compensation or first rollback, and so on.
	Seq  int  `json:"seq"`
	Live Side `json:"live"`
	// KeepUntil is the end of the undo window, written into the journal.
	KeepUntil time.Time `json:"keep_until"`
	// Hold keeps back what acts by itself (events of a database) until the same turn is asked for without it, after the
	// live checks (S24).
	Hold bool `json:"hold,omitempty"`
	// Stay moves nothing: Live is live already, and only the later KeepUntil is written.
	Stay bool `json:"stay,omitempty"`
	// Report takes who is being waited for; it may be nil.
	Report func(Progress) `json:"-"`
}

// Tell reports p where somebody listens.
func (t Turn) Tell(p Progress) { Job{Report: t.Report}.Tell(p) }

// ErrStaleTurn says that the journal has already seen a later turn of the same run.
var ErrStaleTurn = errors.New("stale turn")

// Leftover is a run that the journal beside the data knows.
type Leftover struct {
	Kind         Kind   `json:"kind"`
	Run          string `json:"run"`
	Source       string `json:"source"`
	Installation string `json:"installation"`
	Seq          int    `json:"seq"`
	// Live is the side that is live now, as the data says; Replaced before the first switch.
	Live Side `json:"live"`
	// Switched tells whether a switch ever happened: then the put-away side holds data that was once live.
	Switched  bool      `json:"switched"`
	KeepUntil time.Time `json:"keep_until,omitzero"`
	Since     time.Time `json:"since"`
	// To is the place where it is built, if that is not the live one.
	To string `json:"to,omitempty"`
	// Nothing tells that the put-away side of a switch holds nothing, so that nothing of it is to be saved (S14).
	Nothing bool `json:"nothing,omitempty"`
	// Foreign tells that another installation began it: it is reported, and left alone (S10).
	Foreign bool `json:"foreign,omitempty"`
	// What names, for people, what is kept: schemas or directories.
	What []string `json:"what,omitempty"`
}

// Component is one half of a source: its database or its files. Every call may be repeated after a crash, by another
// process, under the same Run, and ends in the same state. Calls for one source are never concurrent except Leftovers
// and Preflight; the sagas' lane sees to that, and the component's own lock holds where the lane cannot. What people
// must see is returned as a *Problem.
type Component interface {
	// Preflight tells whether the work can succeed: reachable, rights, space, census. It changes nothing.
	Preflight(ctx context.Context, job Job, intent Intent) (Estimate, error)

	// Capture writes one consistent image of the subject; last its PartFile with census and digests.
	Capture(ctx context.Context, job Job, of Subject, to PartWriter) (Summary, error)

	// Stage builds the part beside the live data, which stays untouched. A repeated call starts afresh.
	Stage(ctx context.Context, job Job, from fs.FS) (Summary, error)

	// Compare reads the stage of this run back and compares it with the part.
	Compare(ctx context.Context, job Job, from fs.FS) (Diff, error)

	// Switch makes turn.Live live: journalled, atomic, bounded in time. On error nothing has changed.
	Switch(ctx context.Context, turn Turn) error

	// Discard removes whatever of this run is not live, and settles its journal. It refuses names that are not ours.
	// A side that was once live is only removed when heldBy names the verified backup that holds it (S1). A run
	// that the journal does not know has nothing to discard.
	Discard(ctx context.Context, job Job, heldBy string) error

	// Leftovers lists every run in the journal beside the data, of any installation.
	Leftovers(ctx context.Context) ([]Leftover, error)
}

// Previewer is a component that can tell how its live data differs from a part, without changing anything.
type Previewer interface {
	// Preview compares the live data with the part, by the same digests as Compare. It reads the live data once, and of
	// the part only what differs.
	Preview(ctx context.Context, job Job, from fs.FS) (Preview, error)
}

// Preparer is a component whose Switch is shorter when some of its work is done before, with the application online.
type Preparer interface {
	// Prepare does what can be done before turn without moving anything, and waits, for a bounded time, for those who
	// would be in its way.
	Prepare(ctx context.Context, turn Turn) error
}

// Copier is a component that can be built beside itself, in a place of its own.
type Copier interface {
	// Into is the component in the place that was chosen, of what was chosen. Whatever is asked of it leaves what is live
	// alone; what was put away by it is discarded without being saved.
	Into(chosen Selection) Component
}

// PartWriter takes the content of a part. It is implemented by the repository and safe for concurrent use.
type PartWriter interface {
	// Put stores what write writes under path (slash-separated, relative to the part); it keeps it only if write
	// returns nil. A path put twice is an error.
	Put(ctx context.Context, path string, write func(io.Writer) error) error

	// PutTree stores the directory dir under path, without the entries for which skip is true (rel is
	// slash-separated, relative to dir; a skipped directory is not entered).
	PutTree(ctx context.Context, path, dir string, skip func(rel string) bool) (TreeSummary, error)
}

// TreeSummary counts what PutTree stored.
type TreeSummary struct {
	Files       int64 `json:"files"`
	Directories int64 `json:"directories"`
	Symlinks    int64 `json:"symlinks"`
	Bytes       int64 `json:"bytes"`
	// Changed lists files whose size or time changed while they were read, relative to dir.
	Changed []string `json:"changed,omitempty"`
	// Skipped lists entries that cannot be stored (sockets, devices, pipes), with the reason.
	Skipped []string `json:"skipped,omitempty"`
}

// FileOwner is what Sys returns for an entry of an opened part: the owner that was captured.
type FileOwner struct {
	UID, GID uint32
}

// Limits are what a copy may ask of the server that it reads or loads. The zero value of each asks for no limit.
type Limits struct {
	// BytesPerSecond bounds the rows that pass, of all sessions of a copy together.
	BytesPerSecond int64
	// ThreadsRunning is how many threads may be at work on the server, beside ours, before a copy pauses.
	ThreadsRunning int
	// ReplicationLag is how far a replica that is read may be behind its source before a copy pauses.
	ReplicationLag time.Duration
}
