package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// Backup captures the components of a source as one backup, and reads it back. An error means: there is no such
// backup, or it was not proven; the failed run is recorded.
func Backup(ctx workflow.Context, req remora.BackupRequest) (remora.BackupResult, error) {
	info := workflow.GetInfo(ctx)
	op, err := begin(ctx, "backup", req.Source, firstRun(info), req.RequestedBy)
	if err != nil {
		return remora.BackupResult{}, err
	}
	m := remora.Manifest{
		ID:   remora.BackupID(req.Source, op.run, "", info.WorkflowStartTime),
		Name: req.Name, Purpose: remora.Regular, Started: info.WorkflowStartTime,
		Slot: req.Slot, RetentionDays: req.RetentionDays,
	}
	m, err = op.backup(ctx, m, req.Kinds)
	if err != nil {
		return remora.BackupResult{}, op.failed(ctx, m, req.Kinds, err)
	}
	copying := op.copyAfter(ctx, m.ID)
	op.tell(ctx, remora.Notice{
		Event: remora.BackupCompleted, Subject: m.ID, By: op.actor, Started: m.Started, Due: m.Slot.Due,
		Bytes: m.Bytes(), Added: m.Added(), Warnings: warnings(m),
	})
	conclude(ctx, string(remora.Completed), "completed: "+m.ID)
	return remora.BackupResult{ID: m.ID, Kind: m.Kind, Bytes: m.Bytes(), Added: m.Added(), Warnings: warnings(m), Copying: copying}, nil
}

// backup is the story of a regular backup.
func (op *operation) backup(ctx workflow.Context, m remora.Manifest, kinds []remora.Kind) (remora.Manifest, error) {
	kinds, err := checkKinds("back up "+op.source, kinds)
	if err != nil {
		return m, err
	}
	if m.Name != "" {
		if err := remora.CheckBackupName(m.Name); err != nil {
			return m, &remora.Problem{Op: "back up " + op.source, Kind: remora.Invalid, Err: err}
		}
	}
	sizes := map[remora.Kind]int64{}
	for _, kind := range kinds {
		err := op.phase(ctx, words(kind, remora.PreflightVerb, op.source), func() (*remora.Summary, error) {
			found, err := op.preflight(ctx, kind, "")
			if err == nil && found.Empty {
				err = remora.Fail(remora.NotFound, "back up "+op.source, string(kind)+" on "+found.Identity,
					"See that the configuration names the right server and directories.", "there is nothing to back up")
			}
			m.Warnings = append(m.Warnings, found.Summary.Warnings...)
			sizes[kind] = found.Summary.Bytes
			return &found.Summary, err
		})
		if err != nil {
			return m, err
		}
	}
	if err := op.makeRoom(ctx, sizes); err != nil {
		return m, err
	}
	return op.takeBackup(ctx, m, kinds, remora.Subject{})
}

// takeBackup captures the components, commits them as m and reads everything back. All backups are taken here: those
// that people ask for, safety backups, and those of what a restore put away. A cancel before the commit leaves no
// backup; once the commit has begun, the backup is finished and proven whatever is cancelled.
func (op *operation) takeBackup(ctx workflow.Context, m remora.Manifest, kinds []remora.Kind, what remora.Subject) (remora.Manifest, error) {
	m.Format, m.Run, m.Source, m.RequestedBy = remora.ManifestFormat, op.run, op.source, op.actor
	m.Kind = remora.BackupKindOf(kinds)
	for _, kind := range kinds {
		summary := ""
		if what.PutAway != "" {
			summary = "save put-away " + string(kind) + " of " + op.source
		}
		err := op.phase(ctx, words(kind, remora.CaptureVerb, op.source), func() (*remora.Summary, error) {
			part, err := of[remora.PartRef](ctx, op, kind, remora.CaptureVerb, summary, remora.ComponentInput{Backup: m.ID, Of: what})
			m.Parts = append(m.Parts, part)
			return &part.Summary, err
		})
		if err != nil {
			return m, err
		}
	}
	if err := ctx.Err(); err != nil {
		return m, err
	}

	ctx, _ = workflow.NewDisconnectedContext(ctx)
	m.Ended = workflow.Now(ctx)
	err := op.phase(ctx, "commit", func() (*remora.Summary, error) {
		committed, err := op.commit(ctx, m)
		if err == nil {
			m = committed
		}
		return nil, err
	})
	if err != nil {
		return m, err
	}
	return m, op.phase(ctx, "verify", func() (*remora.Summary, error) {
		// What is put away is about to be gone everywhere else: nothing of it is taken on trust (S1).
		read, summary, err := op.verify(ctx, remora.VerifyInput{Source: op.source, Backup: m.ID, Full: m.Purpose == remora.PutAway})
		if err == nil && read.Problem != "" {
			err = remora.Fail(remora.Corrupt, "verify", m.ID,
				"Look at the disk that the repository lies on, then take another backup.", "%s", read.Problem)
		}
		return summary, err
	})
}

// failed records that the run did not become a backup, and gives the error to end with.
func (op *operation) failed(ctx workflow.Context, m remora.Manifest, kinds []remora.Kind, err error) error {
	p := problemOf("back up "+op.source, err)
	cancelled := ctx.Err() != nil && p.Kind == remora.Cancelled
	how := string(remora.Failed)
	if cancelled {
		how = "cancelled"
	}
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	conclude(ctx, how, how+": "+p.Error())
	op.recordFailed(ctx, m, kinds, p)
	if cancelled {
		return err
	}
	op.tell(ctx, remora.Notice{
		Event: remora.BackupFailed, Subject: m.ID, By: op.actor, Started: m.Started, Due: m.Slot.Due,
		Phase: op.told.phase, Problem: p.Error(), Hint: p.Text().Hint, Warnings: warnings(m),
	})
	return failure(p)
}

// recordFailed leaves the record of a backup that did not come to be, wherever the run stands.
func (op *operation) recordFailed(ctx workflow.Context, m remora.Manifest, kinds []remora.Kind, p *remora.Problem) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	op.recordRun(ctx, bestEffort, remora.FailedRun{
		Run: op.run, ID: m.ID, Source: op.source, Name: m.Name, Kind: remora.BackupKindOf(kinds), Purpose: m.Purpose,
		RequestedBy: op.actor, Started: m.Started, Ended: workflow.Now(ctx),
		Phase: op.told.phase, Problem: p.Error(), Hint: p.Text().Hint, Status: remora.Failed, Slot: m.Slot,
	})
}

// warnings are what the parts of a backup noticed, bounded: the rest is in the backup itself.
func warnings(m remora.Manifest) []string {
	all := append([]string{}, m.Warnings...)
	for _, part := range m.Parts {
		all = append(all, part.Summary.Warnings...)
	}
	return all[:min(len(all), remora.MaxDifferences)]
}
