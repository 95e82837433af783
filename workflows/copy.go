package workflows

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// Copy brings one completed backup to one copy of the repository, and reads it back there. It touches no source and
// needs no lane. An error means: the copy does not count there yet; the backup itself is as good as before.
func Copy(ctx workflow.Context, req remora.CopyRequest) (remora.Copied, error) {
	op, err := begin(ctx, "copy", req.Source, firstRun(workflow.GetInfo(ctx)), req.RequestedBy)
	if err != nil {
		return remora.Copied{}, err
	}
	copied, err := op.copyTo(ctx, req.Backup, req.To)
	if err == nil {
		op.recordCopies(ctx, req.To)
	}
	err = op.copied(ctx, "copy "+req.Backup+" to "+req.To, err)
	op.tellCopyFailed(ctx, req.To, req.Backup, err)
	return copied, err
}

// page is how many backups a CopyAll copies before it begins a new history.
const page = 200

// CopyAll brings every completed regular backup that a copy lacks to it, the oldest first, and then removes from the
// copy what need not be kept there. A damaged backup is left out, and told at the end; any other trouble ends it, and
// the next one goes on.
func CopyAll(ctx workflow.Context, req remora.CopyAllRequest) (remora.Copied, error) {
	op, err := beginAny(ctx, "copy", "", firstRun(workflow.GetInfo(ctx)), req.RequestedBy)
	if err != nil {
		return remora.Copied{}, err
	}
	req.Copied.To = req.To
	more, err := op.copyMissing(ctx, &req)
	op.recordCopies(ctx, req.To)
	if more && err == nil {
		return req.Copied, workflow.NewContinueAsNewError(ctx, remora.CopyAllWorkflow, req)
	}
	if err == nil {
		err = op.clean(ctx, &req)
	}
	if err == nil && len(req.Damaged) > 0 {
		err = remora.Fail(remora.Corrupt, "copy all backups to "+req.To, "",
			"See where each is damaged with: remora copy BACKUP --to "+req.To+"; take a new backup now.", "damaged, and not copied: %s", strings.Join(req.Damaged, ", "))
	}
	err = op.copied(ctx, "copy all backups to "+req.To, err)
	op.tellCopyFailed(ctx, req.To, "", err)
	return req.Copied, err
}

// tellCopyFailed tells of a copy that was not made, unless somebody wanted that.
func (op *operation) tellCopyFailed(ctx workflow.Context, to, backup string, err error) {
	if err == nil || temporal.IsCanceledError(err) {
		return
	}
	p := problemOf("copy", err)
	if p.Kind == remora.Refused { // all was copied, and the cleanup has told
		return
	}
	op.tell(ctx, remora.Notice{Event: remora.CopyFailed, Subject: to, Backup: backup, By: op.actor, Phase: op.told.phase, Problem: p.Error(), Hint: p.Text().Hint})
}

// copyMissing copies one page, and tells whether there may be another.
func (op *operation) copyMissing(ctx workflow.Context, req *remora.CopyAllRequest) (more bool, err error) {
	missing, err := take[[]remora.ListedBackup](ctx, op.short,
		step{remora.MissingActivity, remora.Queue, "compare " + req.To + " with the repository"},
		remora.MissingInput{To: req.To, Skip: req.Damaged, Limit: page})
	if err != nil {
		return false, err
	}
	for _, b := range missing {
		one, err := op.copyTo(ctx, b.ID, req.To)
		switch {
		case err == nil:
			req.Copied.Backups++
			req.Copied.Bytes += one.Bytes
			req.Copied.Added += one.Added
		case problemOf("copy", err).Kind == remora.Corrupt:
			req.Damaged = append(req.Damaged, b.ID)
		default:
			return false, err
		}
	}
	return len(missing) == page, nil
}

// copyTo copies a backup and reads it back.
func (op *operation) copyTo(ctx workflow.Context, backup, to string) (copied remora.Copied, err error) {
	name := "copy " + backup + " to " + to
	err = op.phase(ctx, name, func() (*remora.Summary, error) {
		copied, err = take[remora.Copied](ctx, op.long, step{remora.CopyActivity, remora.DataQueue, name}, remora.CopyInput{Backup: backup, To: to})
		return &remora.Summary{Bytes: copied.Bytes}, err
	})
	if err != nil {
		return copied, err
	}
	return copied, op.phase(ctx, "verify "+backup+" in "+to, func() (*remora.Summary, error) {
		_, summary, err := op.verify(ctx, remora.VerifyInput{Backup: backup, In: to})
		return summary, err
	})
}

// recordCopies notes what the copy holds now. The next copy makes good what is missed here.
func (op *operation) recordCopies(ctx workflow.Context, to string) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	_, err := take[nothing](ctx, bestEffort, step{remora.RecordCopiesActivity, remora.Queue, "record what " + to + " holds"}, remora.RecordCopiesInput{To: to})
	if err != nil {
		workflow.GetLogger(ctx).Warn("what the copy holds was not recorded", "copy", to, "error", err)
	}
}

// clean has what need not be kept in a copy removed there, unless somebody is at it already.
func (op *operation) clean(ctx workflow.Context, req *remora.CopyAllRequest) error {
	var done remora.RetentionResult
	err := op.inRepositoryLane(ctx, remora.RetentionRequest{Copy: req.To, RequestedBy: op.actor}, &done)
	if req.Copied.Removed = done.Deleted; err == nil && done.Deleted > 0 {
		op.recordCopies(ctx, req.To)
	}
	return err
}

// copied tells how it ended, and gives the error to end with.
func (op *operation) copied(ctx workflow.Context, what string, err error) error {
	if err == nil {
		conclude(ctx, string(remora.Completed), "completed")
		return nil
	}
	p := problemOf(what, err)
	if ctx.Err() != nil && p.Kind == remora.Cancelled {
		outcome(ctx, "cancelled")
		return err
	}
	conclude(ctx, string(remora.Failed), "failed: "+p.Error())
	return failure(p)
}

// copyAfter starts the copies that a completed backup goes to, and does not wait for them: how they end changes
// nothing about the backup.
func (op *operation) copyAfter(ctx workflow.Context, backup string) (copying []string) {
	if workflow.GetVersion(ctx, "copy-after-backup", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	to, err := take[[]string](ctx, bestEffort, step{remora.AfterBackupActivity, remora.Queue, "see where copies go"}, nothing{})
	if err != nil {
		workflow.GetLogger(ctx).Warn("the backup is not copied", "backup", backup, "error", err)
	}
	for _, name := range to {
		req := remora.CopyRequest{Source: op.source, Backup: backup, To: name, RequestedBy: op.actor}
		if letGo(child(ctx, remora.CopyLane(name, backup), "copy "+backup+" to "+name, abandoned), remora.CopyWorkflow, req) {
			copying = append(copying, name)
		}
	}
	return copying
}

// damaged is told when a backup cannot be read: if that is because it is damaged, all of it is read back, beside this, so
// that it counts as corrupt and the next backup stores again what is lost; and a copy of it is pointed at.
func (op *operation) damaged(ctx workflow.Context, b remora.Backup, err error) error {
	p := problemOf("restore "+op.source, err)
	if p.Kind != remora.Corrupt || op.from != "" {
		return err
	}
	if workflow.GetVersion(ctx, "read back what is damaged", workflow.DefaultVersion, 1) > workflow.DefaultVersion {
		id, summary := remora.VerifyRun(b.ID, true)
		letGo(child(ctx, id, summary, abandoned), remora.VerifyWorkflow, remora.VerifyRequest{Source: b.Source, Backup: b.ID, Full: true, RequestedBy: op.actor})
	}
	hint := fmt.Sprintf("All of backup %s is read back now: remora show %s tells what of it is lost. Restore another one: remora history %s", b.ID, b.ID, b.Source)
	if len(b.Copies) > 0 {
		hint = fmt.Sprintf("A copy holds it, too. Restore that one: remora restore %s --from %s", b.ID, b.Copies[0])
	}
	return remora.Fail(p.Kind, p.Op, p.Subject, hint, "%w", p.Err)
}
