package remora

import (
	"cmp"
	"time"
)

// The names on the wire are a contract between control, workflows and activities, and with histories that are still
// running: they are never changed, only added to.
const (
	// Queue takes workflows and short activities; DataQueue takes the long copies, a few at a time.
	Queue     = "remora"
	DataQueue = "remora-data"

	BackupWorkflow  = "remora.Backup"
	PlanWorkflow    = "remora.Plan"
	RestoreWorkflow = "remora.Restore"
	RecordWorkflow  = "remora.Record"
	ApplyWorkflow   = "remora.Apply"
	TurnWorkflow    = "remora.Turn"
	DiscardWorkflow = "remora.Discard"
	AdoptWorkflow   = "remora.Adopt"
	CheckWorkflow   = "remora.Check"
	CopyWorkflow    = "remora.Copy"
	CopyAllWorkflow = "remora.CopyAll"
	// SlotWorkflow is what the schedule of a source starts: it waits for the lane, and takes a backup in it.
	SlotWorkflow      = "remora.Slot"
	RetentionWorkflow = "remora.Retention"
	// VerifyWorkflow reads one backup back, VerifyAllWorkflow those whose turn it is.
	VerifyWorkflow    = "remora.Verify"
	VerifyAllWorkflow = "remora.VerifyAll"
	MonitorWorkflow   = "remora.Monitor"
	NotifyWorkflow    = "remora.Notify"
	DrillWorkflow     = "remora.Drill"

	// RollbackUpdate, AcceptUpdate and ExtendUpdate are for the Restore workflow while its undo window is open; ResolveUpdate
	// is for any workflow whose way back waits for a person.
	RollbackUpdate = "rollback"
	AcceptUpdate   = "accept"
	ExtendUpdate   = "extend"
	ResolveUpdate  = "resolve"

	// RecordQuery answers with the Restore record of a running restore.
	RecordQuery = "record"

	CommitActivity        = "repository.Commit"
	VerifyActivity        = "repository.Verify"
	DescribeActivity      = "repository.Describe"
	RecordFailureActivity = "repository.RecordFailure"
	RecordRestoreActivity = "repository.RecordRestore"
	FindRestoreActivity   = "repository.FindRestore"
	RecordProofActivity   = "repository.RecordProof"
	CopyActivity          = "repository.Copy"
	AfterBackupActivity   = "repository.AfterBackup"
	MissingActivity       = "repository.Missing"
	RecordCopiesActivity  = "repository.RecordCopies"
	// CheckRepositoryActivity takes nothing and answers with Findings.
	CheckRepositoryActivity = "repository.Check"
	EnterActivity           = "maintenance.Enter"
	LeaveActivity           = "maintenance.Leave"
	LookActivity            = "maintenance.Look"
	// AfterActivity runs one of the commands that a source has for after a switch.
	AfterActivity  = "maintenance.After"
	ChecksActivity = "checks.Run"

	// HolderActivity tells who holds the lane of a source.
	HolderActivity = "lane.Holder"
	// RoomActivity compares what a backup needs with the room that there is.
	RoomActivity          = "repository.Room"
	PlanRetentionActivity = "retention.Plan"
	DeleteBackupsActivity = "retention.Delete"
	ReclaimActivity       = "retention.Reclaim"
	DueForVerifyActivity  = "repository.DueForVerify"
	LookAroundActivity    = "monitor.Look"
	RecordMonitorActivity = "monitor.Record"
	// ChannelsActivity answers with whom a Notice goes to; NotifyActivity tells one of them.
	ChannelsActivity    = "notify.Channels"
	NotifyActivity      = "notify.Send"
	UndeliveredActivity = "notify.RecordUndelivered"
)

// The verbs of a component, as activities: "database.Capture".
const (
	PreflightVerb = "Preflight"
	CaptureVerb   = "Capture"
	StageVerb     = "Stage"
	CompareVerb   = "Compare"
	SwitchVerb    = "Switch"
	DiscardVerb   = "Discard"
	LeftoversVerb = "Leftovers"
	// PreviewVerb is that of a Previewer, PrepareVerb that of a Preparer.
	PreviewVerb = "Preview"
	PrepareVerb = "Prepare"
)

// Activity is the wire name of a component's verb.
func (k Kind) Activity(verb string) string { return string(k) + "." + verb }

// The search attributes of every run, all of type Keyword.
const (
	SourceAttribute  = "RemoraSource"
	KindAttribute    = "RemoraKind"
	ActorAttribute   = "RemoraActor"
	OutcomeAttribute = "RemoraOutcome"
)

// Lane is the workflow id under which everything runs that touches a source's data exclusively.
func Lane(source string) string { return "op/" + source }

// RestoreLane is the workflow id of the one restore that a source can have, from its plan to the end of its window.
func RestoreLane(source string) string { return "restore/" + source }

// CopyLane is the workflow id under which one backup is copied to one place; without a backup, that of all backups.
func CopyLane(to, backup string) string {
	if backup == "" {
		return "copy/" + to
	}
	return "copy/" + to + "/" + backup
}

// VerifyRun is the workflow id under which a backup is read back, all its bytes or some, and what people read about it.
func VerifyRun(backup string, full bool) (id, summary string) {
	if full {
		return "verify/" + backup + "/data", "verify all bytes of " + backup
	}
	return "verify/" + backup, "verify " + backup
}

// RepositoryLane is the workflow id under which backups are deleted and space is given back, in the repository or in
// one of its copies.
func RepositoryLane(copied string) string {
	if copied == "" {
		return "op/repository"
	}
	return "prune/" + copied
}

// The ids of the schedules that every installation has; those of the copies are their lanes.
const (
	RetentionSchedule = "retention"
	VerifySchedule    = "verify"
	MonitorSchedule   = "monitor"
)

// LetGo tells whether nobody waits for a child: how it ends changes nothing about whoever started it.
func LetGo(workflow string) bool {
	return workflow == NotifyWorkflow || workflow == RecordWorkflow || workflow == VerifyWorkflow
}

// OperationName says, with its article, what a workflow does with a source.
func OperationName(workflow string) string {
	name := map[string]string{
		BackupWorkflow:    "a backup",
		RestoreWorkflow:   "a restore",
		ApplyWorkflow:     "a restore",
		TurnWorkflow:      "a rollback",
		DiscardWorkflow:   "the end of an undo window",
		PlanWorkflow:      "a plan",
		SlotWorkflow:      "a slot of a schedule",
		AdoptWorkflow:     "the taking over of a restore",
		CopyWorkflow:      "a copy",
		CopyAllWorkflow:   "a copy",
		RetentionWorkflow: "a cleanup",
		VerifyWorkflow:    "a verification",
		VerifyAllWorkflow: "a verification",
		MonitorWorkflow:   "the monitor",
		NotifyWorkflow:    "the telling of people",
		DrillWorkflow:     "a drill",
		RecordWorkflow:    "the record of a restore",
	}[workflow]
	return cmp.Or(name, workflow)
}

// DueAttribute is the search attribute in which Temporal keeps for which moment a schedule has started something.
const DueAttribute = "TemporalScheduledStartTime"

// SlotRequest starts a Slot.
type SlotRequest struct {
	Schedule Schedule `json:"schedule"`
	// RequestedBy is set where a person triggered the slot.
	RequestedBy string `json:"requested_by,omitempty"`
}

// BackupRequest starts a Backup.
type BackupRequest struct {
	Source      string `json:"source"`
	Kinds       []Kind `json:"kinds"`
	Name        string `json:"name,omitempty"`
	RequestedBy string `json:"requested_by"`
	// Slot is which slot of which schedule it is for.
	Slot Slot `json:"slot,omitzero"`
	// RetentionDays is that of the schedule.
	RetentionDays int `json:"retention_days,omitempty"`
}

// BackupResult is the outcome of a Backup.
type BackupResult struct {
	ID       string     `json:"id"`
	Kind     BackupKind `json:"kind"`
	Bytes    int64      `json:"bytes"`
	Added    int64      `json:"added"`
	Warnings []string   `json:"warnings,omitempty"`
	// Copying names the copies to which it is on its way.
	Copying []string `json:"copying,omitempty"`
}

// CopyRequest starts a Copy: of one backup, to one of the configured copies.
type CopyRequest struct {
	Source      string `json:"source"`
	Backup      string `json:"backup"`
	To          string `json:"to"`
	RequestedBy string `json:"requested_by"`
}

// CopyAllRequest starts a CopyAll: of every completed regular backup that the copy lacks, oldest first.
type CopyAllRequest struct {
	To          string `json:"to"`
	RequestedBy string `json:"requested_by"`
	// Copied and Damaged are what earlier pages of the same run came to.
	Copied  Copied   `json:"copied,omitzero"`
	Damaged []string `json:"damaged,omitempty"`
}

// Copied is the result of a Copy or CopyAll.
type Copied struct {
	To string `json:"to"`
	// Backups counts them; Bytes is their logical size, Added what they added to the copy.
	Backups int   `json:"backups"`
	Bytes   int64 `json:"bytes"`
	Added   int64 `json:"added"`
	// Removed counts what was removed from the copy after it, because it need not be kept any more.
	Removed int `json:"removed,omitempty"`
}

// PlanRequest asks for the plan of a restore.
type PlanRequest struct {
	Source string `json:"source"`
	Backup string `json:"backup"`
	// Kinds are the components to restore; empty means all that the backup holds.
	Kinds []Kind        `json:"kinds,omitempty"`
	Undo  time.Duration `json:"undo"`
	// From is the copy to read from; empty means wherever the backup is found, the repository first.
	From string `json:"from,omitempty"`
	Selection
	// Preview asks for what differs, which takes as long as to read the live data. It changes nothing, and needs no lane.
	Preview bool `json:"preview,omitempty"`
}

// RestoreRequest starts a Restore.
type RestoreRequest struct {
	PlanRequest
	// PlanHash binds the start to the plan that was confirmed; empty when nobody was asked (--force).
	PlanHash    string `json:"plan_hash,omitempty"`
	RequestedBy string `json:"requested_by"`
	// WithoutSafety is the typed reason to go on without a safety backup (S14); empty means with one.
	WithoutSafety string `json:"without_safety,omitempty"`
	// Adopt asks for no new restore, but for one of the source that nobody looks after any more (S20).
	Adopt bool `json:"adopt,omitempty"`
}

// WishInput comes with the updates of a Restore. Runs of earlier versions sent none.
type WishInput struct {
	RequestedBy string `json:"requested_by,omitempty"`
	// Until is the end that an extend asks for.
	Until time.Time `json:"until,omitzero"`
}

// AdoptRequest starts an Adopt, the child of a Restore that finds out how a restore stands that lost its workflow.
type AdoptRequest struct {
	Source string `json:"source"`
	// Run is the restore's run; empty means whichever the journals know.
	Run         string `json:"run,omitempty"`
	RequestedBy string `json:"requested_by"`
}

// Adopted is the result of an Adopt: the restore's record as it stands now, and the sequence number of its next Turn.
type Adopted struct {
	Record Restore `json:"record"`
	Seq    int     `json:"seq"`
}

// ApplyRequest starts an Apply, the child of a Restore that stages, proves and switches.
type ApplyRequest struct {
	RestoreRequest
	Run     string    `json:"run"`
	ID      string    `json:"id"`
	Started time.Time `json:"started"`
}

// Applied is the result of an Apply.
type Applied struct {
	Kinds []Kind `json:"kinds"`
	// Empty names the components that had nothing live before, so that nothing of them was put away (S14).
	Empty        []Kind    `json:"empty,omitempty"`
	SafetyBackup string    `json:"safety_backup,omitempty"`
	KeepUntil    time.Time `json:"keep_until"`
	Phases       []Phase   `json:"phases,omitempty"`
	Warnings     []string  `json:"warnings,omitempty"`
}

// TurnRequest starts a Turn, the child of a Restore that makes a side live, or keeps the other one for longer.
type TurnRequest struct {
	Source    string    `json:"source"`
	Run       string    `json:"run"`
	Kinds     []Kind    `json:"kinds"`
	Seq       int       `json:"seq"`
	Live      Side      `json:"live"`
	KeepUntil time.Time `json:"keep_until"`
	// RequestedBy is who asked for it.
	RequestedBy string `json:"requested_by,omitempty"`
	// Stay is that of the Turn.
	Stay bool `json:"stay,omitempty"`
}

// DiscardRequest starts a Discard, the child of a Restore that captures the put-away side, verifies that, and only
// then removes it (S1).
type DiscardRequest struct {
	Source      string    `json:"source"`
	Run         string    `json:"run"`
	Restore     string    `json:"restore"`
	Kinds       []Kind    `json:"kinds"`
	RequestedBy string    `json:"requested_by"`
	Started     time.Time `json:"started"`
	// Nothing names the components whose put-away side holds nothing: nothing was live there before the restore.
	Nothing []Kind `json:"nothing,omitempty"`
	// BackFirst makes the replaced side live before: for an Apply that was terminated, and so could not.
	BackFirst bool `json:"back_first,omitempty"`
	// Selection is that of the restore.
	Selection Selection `json:"selection,omitzero"`
}

// Discarded is the result of a Discard.
type Discarded struct {
	// HeldBy is the backup that holds what was discarded; empty when nothing was put away (the disaster case).
	HeldBy string `json:"held_by,omitempty"`
	// Whole says that nothing was discarded, and nothing made live: all is on the restored side.
	Whole bool `json:"whole,omitempty"`
	// Warnings are what was noticed on the way back.
	Warnings []string `json:"warnings,omitempty"`
}

// The inputs of activities. One struct in, one small struct out; names and ids only.
type (
	// ComponentInput is the input of each verb of a component, which reads what it needs of it.
	ComponentInput struct {
		Source string `json:"source"`
		Run    string `json:"run,omitempty"`
		// Backup is the backup that a part is captured for, or that is restored as the copy From holds it; an empty From
		// means the repository.
		Backup string `json:"backup,omitempty"`
		From   string `json:"from,omitempty"`
		// Of is what is captured, Turn which side is made live, and HeldBy the backup that holds what is discarded, as it
		// stood after the turn with the number Turn.Seq.
		Of     Subject `json:"of,omitzero"`
		Turn   Turn    `json:"turn,omitzero"`
		HeldBy string  `json:"held_by,omitempty"`
		// Selection says what of a part is restored.
		Selection Selection `json:"selection,omitzero"`
	}
	// CommitInput turns captured parts into a backup.
	CommitInput struct {
		Manifest Manifest `json:"manifest"`
	}
	// VerifyInput reads a backup back, as the copy In holds it; empty means where it was written.
	VerifyInput struct {
		Source string `json:"source"`
		Backup string `json:"backup"`
		In     string `json:"in,omitempty"`
		// Full asks for all bytes; what a Run that reads several backups has read already is not read again.
		Full bool   `json:"full,omitempty"`
		Run  string `json:"run,omitempty"`
	}
	// DescribeInput asks for a backup by its id, a unique prefix, its name, or "latest" of Source; From is that of a
	// PlanRequest.
	DescribeInput struct {
		Source string `json:"source"`
		Backup string `json:"backup"`
		From   string `json:"from,omitempty"`
	}
	// CopyInput copies a backup to a copy.
	CopyInput struct {
		Backup string `json:"backup"`
		To     string `json:"to"`
	}
	// MissingInput asks which backups a copy lacks: the oldest first, without those in Skip, at most Limit.
	MissingInput struct {
		To    string   `json:"to"`
		Skip  []string `json:"skip,omitempty"`
		Limit int      `json:"limit"`
	}
	// ListedBackup is a backup of a list that a run goes through.
	ListedBackup struct {
		ID     string `json:"id"`
		Source string `json:"source"`
	}
	// RecordCopiesInput notes in the repository what a copy holds.
	RecordCopiesInput struct {
		To string `json:"to"`
	}
	// FindRestoreInput asks for the record of a restore: that of Run, or the newest of Source that is not settled. The
	// answer is a Restore without an id where there is none.
	FindRestoreInput struct {
		Source string `json:"source"`
		Run    string `json:"run,omitempty"`
	}
	// HolderInput asks who is at work on a source.
	HolderInput struct {
		Source string `json:"source"`
	}
	// Holder is an operation that is at work on a source; empty where there is none.
	Holder struct {
		// Operation says what it is: "a restore".
		Operation string    `json:"operation,omitempty"`
		By        string    `json:"by,omitempty"`
		Since     time.Time `json:"since,omitzero"`
		// Workflow and Run are where Temporal knows it.
		Workflow string `json:"workflow,omitempty"`
		Run      string `json:"run,omitempty"`
	}
	// MaintenanceResult tells how the application was taken offline or back; empty where no way is configured.
	MaintenanceResult struct {
		Mode string `json:"mode,omitempty"`
		// Theirs is the answer of a look: somebody else has the application offline.
		Theirs bool `json:"theirs,omitempty"`
		// After is, in the answer of a look, how many commands are to be run after a switch.
		After int `json:"after,omitempty"`
	}
	// MaintenanceInput takes a source's application offline or back, on behalf of a run.
	MaintenanceInput struct {
		Source string `json:"source"`
		Run    string `json:"run"`
		// Entered says that the history which asks for a leave has entered before.
		Entered bool `json:"entered,omitempty"`
		// By is the workflow that enters, or leaves what it has entered; empty leaves for whichever of the run it was.
		By string `json:"by,omitempty"`
		// Nth says which of the commands after a switch is meant, from 0.
		Nth int `json:"nth,omitempty"`
	}
	// NotifyInput tells one of the channels that ChannelsActivity has named.
	NotifyInput struct {
		Notice Notice `json:"notice"`
		To     string `json:"to"`
	}
)
