// Package workflows holds the sagas: what a backup and a restore do, step after step, and how each step is undone.
// They are deterministic and do no I/O: the steps are activities, called by the names in remora's wire contract.
//
// Backup runs in the lane of its source. Slot is what a schedule starts: it waits for that lane, and accounts for the
// slot. Restore lives from its plan to the end of its undo window and runs its exclusive phases as children in that
// lane: Apply stages, proves and switches, or builds a copy in another schema; Turn makes the other side live again;
// Discard puts away what is no longer needed, once a backup holds it; Adopt finds out how a restore stands that lost
// its workflow. Plan and Check only look.
//
// Drill does the first half of a restore, asks the checks of what it has built, and removes that: it proves a backup, in
// the lane of its source, and gives way to everybody.
//
// Retention deletes what need not be kept, one at a time in each repository. Monitor looks every few minutes whether all
// is well, and has what was lost taken over; Notify tells people, and nothing waits for it.
//
// Copy and CopyAll bring backups to further repositories, Verify and VerifyAll read backups back; they touch no source
// and need no lane.
//
// A restore that fails or is cancelled leaves the source as it was: every step pushes its compensation before it
// starts (undo.go), and a compensation has no last attempt. What cannot be undone without a person waits for the
// update "resolve", and keeps the lane meanwhile.
package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// Registry is the part of a worker that takes workflows.
type Registry interface {
	RegisterWorkflowWithOptions(w any, options workflow.RegisterOptions)
}

// Register makes all workflows known under their wire names.
func Register(r Registry) {
	for name, w := range map[string]any{
		remora.BackupWorkflow:  Backup,
		remora.PlanWorkflow:    Plan,
		remora.RestoreWorkflow: Restore,
		remora.RecordWorkflow:  Record,
		remora.ApplyWorkflow:   Apply,
		remora.TurnWorkflow:    Turn,
		remora.DiscardWorkflow: Discard,
		remora.AdoptWorkflow:   Adopt,
		remora.CheckWorkflow:   Check,
		remora.CopyWorkflow:    Copy,
		remora.CopyAllWorkflow: CopyAll,
		remora.NotifyWorkflow:  Notify,
		remora.SlotWorkflow:    Slot,
		remora.MonitorWorkflow: Monitor,
		remora.DrillWorkflow:   Drill,

		remora.VerifyWorkflow:    Verify,
		remora.VerifyAllWorkflow: VerifyAll,
		remora.RetentionWorkflow: Retention,
	} {
		r.RegisterWorkflowWithOptions(w, workflow.RegisterOptions{Name: name})
	}
}
