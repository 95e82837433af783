package workflows

import (
	"strings"

	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// Verify reads one backup back. It touches no source and needs no lane. What it finds damaged becomes corrupt, and
// people are told.
func Verify(ctx workflow.Context, req remora.VerifyRequest) (remora.Verified, error) {
	op, err := begin(ctx, "verify", req.Source, firstRun(workflow.GetInfo(ctx)), req.RequestedBy)
	if err != nil {
		return remora.Verified{}, err
	}
	var sum remora.Verified
	err = op.readBack(ctx, remora.VerifyInput{Source: req.Source, Backup: req.Backup, Full: req.Full}, &sum)
	return sum, op.copied(ctx, "verify "+req.Backup, err)
}

// VerifyAll reads all bytes of the backups whose turn it is. A damaged one does not keep it from the others; once there
// is one, those that may share what it has lost are read, too.
func VerifyAll(ctx workflow.Context, req remora.VerifyAllRequest) (remora.Verified, error) {
	op, err := beginAny(ctx, "verify", "", firstRun(workflow.GetInfo(ctx)), req.RequestedBy)
	if err != nil {
		return remora.Verified{}, err
	}
	sum, err := op.verifyDue(ctx)
	if err == nil && len(sum.Damaged) > 0 {
		err = remora.Fail(remora.Corrupt, "verify the backups", "",
			"See what is damaged with: remora show BACKUP; take a new backup of these sources now, and check the repository's disk.", "damaged: %s", strings.Join(sum.Damaged, ", "))
	}
	return sum, op.copied(ctx, "verify the backups", err)
}

func (op *operation) verifyDue(ctx workflow.Context) (sum remora.Verified, err error) {
	var in remora.DueInput
	for {
		due, err := take[[]remora.ListedBackup](ctx, op.short, step{remora.DueForVerifyActivity, remora.Queue, "see which backups to verify"}, in)
		if err != nil {
			return sum, err
		}
		for _, b := range due {
			err := op.readBack(ctx, remora.VerifyInput{Source: b.Source, Backup: b.ID, Full: true, Run: op.run}, &sum)
			switch kind := problemOf("verify", err).Kind; {
			case err == nil, kind == remora.Corrupt, kind == remora.NotFound: // deleted meanwhile
			default:
				return sum, err
			}
			in.Skip = append(in.Skip, b.ID)
		}
		if len(sum.Damaged) == 0 || len(due) == 0 {
			return sum, nil
		}
		in.Suspect = true
	}
}

// readBack verifies one backup, adds it to the sum, and tells people of damage.
func (op *operation) readBack(ctx workflow.Context, in remora.VerifyInput, sum *remora.Verified) error {
	return op.phase(ctx, "verify "+in.Backup, func() (*remora.Summary, error) {
		read, summary, err := op.verify(ctx, in)
		if err == nil {
			sum.Backups++
			sum.Bytes += read.Bytes
			return summary, nil
		}
		if p := problemOf("verify "+in.Backup, err); p.Kind == remora.Corrupt {
			sum.Damaged = append(sum.Damaged, in.Backup)
			op.notify(ctx, remora.Notice{
				ID: "corrupt/" + in.Backup + "/" + op.run, Event: remora.BackupCorrupt, Source: in.Source, Subject: in.Backup,
				By: op.actor, Problem: p.Error(), Hint: p.Text().Hint,
			})
		}
		return nil, err
	})
}
