package activities

import (
	"context"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"go.temporal.io/sdk/activity"

	"github.com/remora-backup/remora/internal/remora"
)

// Repository holds the steps that work on backups as a whole.
type Repository struct {
	Store Store
	Watch Watch
	// Tool is the version of this program, for the manifest.
	Tool string
	// MaxBytes is how large a regular backup may be; 0 means any size.
	MaxBytes int64
	// VerifyDays is within how many days all bytes of every backup are read again.
	VerifyDays int
	// Further are findings about what is no part of the repository: who is told. Nil means none.
	Further func(context.Context) []remora.Finding
}

// Register makes the steps known under their wire names.
func (r *Repository) Register(to Registry) {
	step(to, r.Watch, remora.DescribeActivity, func(in remora.DescribeInput) string { return "look up backup " + in.Backup }, r.describe)
	step(to, r.Watch, remora.CommitActivity, func(in remora.CommitInput) string { return "commit " + in.Manifest.ID }, r.commit)
	reporting(to, r.Watch, remora.VerifyActivity, true, func(in remora.VerifyInput) string { return "verify " + in.Backup }, r.verify)
	step(to, r.Watch, remora.DueForVerifyActivity, func(remora.DueInput) string { return "see which backups to verify" }, r.due)
	act(to, r.Watch, remora.RoomActivity, roomOp, r.room)
	act(to, r.Watch, remora.RecordFailureActivity, func(in remora.FailedRun) string { return "record the failed run " + in.ID }, r.Store.RecordFailure)
	act(to, r.Watch, remora.RecordRestoreActivity, func(in remora.Restore) string { return "record the restore " + in.ID }, r.recordRestore)
	step(to, r.Watch, remora.FindRestoreActivity, func(in remora.FindRestoreInput) string { return "look up the restore of " + in.Source }, r.findRestore)
	act(to, r.Watch, remora.RecordProofActivity, func(in remora.Proof) string { return "record the drill " + in.ID }, r.Store.RecordProof)
	step(to, r.Watch, remora.CheckRepositoryActivity, func(struct{}) string { return "check the repository" }, r.check)
}

func (r *Repository) describe(ctx context.Context, in remora.DescribeInput) (remora.Backup, error) {
	return r.Store.Find(ctx, in.Backup, in.Source, in.From)
}

func (r *Repository) verify(ctx context.Context, in remora.VerifyInput, report reporter) (remora.Verification, error) {
	return r.Store.Verify(ctx, in, report)
}

func (r *Repository) commit(ctx context.Context, in remora.CommitInput) (remora.Manifest, error) {
	m := in.Manifest
	m.Tool = r.Tool
	if m.Purpose == remora.Regular { // each part was within the limit
		if err := tooLarge(m.Bytes(), r.MaxBytes); err != nil {
			return m, err
		}
	}
	return r.Store.Commit(ctx, m)
}

func (r *Repository) recordRestore(ctx context.Context, in remora.Restore) error {
	if in.Outcome == remora.OutcomeRunning {
		if err := mayBegin(ctx, r.Store, in.Source, in.Run); err != nil {
			return err
		}
	}
	return r.Store.RecordRestore(ctx, in)
}

func (r *Repository) findRestore(ctx context.Context, in remora.FindRestoreInput) (remora.Restore, error) {
	return findRestore(ctx, r.Store, in)
}

// lowSpace is when it is time to look for more.
const lowSpace = 1 << 30

// check finds out how the repository is, and who answers.
func (r *Repository) check(ctx context.Context, _ struct{}) ([]remora.Finding, error) {
	host, _ := os.Hostname() // the version says enough
	told := activity.GetInfo(ctx).StartedTime
	found := []remora.Finding{
		remora.Found(remora.Fine, "worker", "%s on %s answered", r.Tool, host),
		remora.FoundSkew("temporal clock", time.Until(told)),
	}
	if r.Further != nil {
		found = append(found, r.Further(ctx)...)
	}
	health, err := r.Store.Check(ctx, "")
	if err != nil {
		return found, err
	}
	found = append(found,
		remora.Found(remora.Fine, "repository", "%s opens with its password, and can be written and read (%s)", health.Where, health.Took.Round(time.Millisecond)),
		remora.Found(remora.Fine, "repository format", "backups are written as version %d", remora.ManifestFormat),
		remora.FoundSkew("repository clock", health.Skew))
	if health.Free != nil {
		space := remora.Found(remora.Fine, "repository space", "%s free", humanize.Bytes(uint64(max(0, *health.Free))))
		if *health.Free < lowSpace {
			space.Level, space.Hint = remora.Warning, "make room on that disk: a backup that does not fit fails"
		}
		found = append(found, space)
	}
	for _, name := range r.Store.Copies() {
		if health, err := r.Store.Check(ctx, name); err != nil {
			found = append(found, remora.FoundProblem("copy "+name, remora.ProblemOf("check the copy", err)))
		} else {
			found = append(found, remora.Found(remora.Fine, "copy "+name, "%s opens with its password, and can be written and read", health.Where))
		}
	}
	return found, nil
}

func findRestore(ctx context.Context, store Store, in remora.FindRestoreInput) (remora.Restore, error) {
	all, err := store.Restores(ctx, in.Source)
	for _, restore := range all {
		if restore.Run == in.Run || in.Run == "" && restore.Outcome.Unsettled() {
			return restore, nil
		}
	}
	return remora.Restore{}, err
}

// mayBegin refuses to begin a restore that has gone on already: a workflow that was reset in Temporal asks for that.
func mayBegin(ctx context.Context, store Store, source, run string) error {
	restore, err := findRestore(ctx, store, remora.FindRestoreInput{Source: source, Run: run})
	if err != nil || restore.ID == "" || restore.Outcome == remora.OutcomeRunning {
		return err
	}
	return remora.Fail(remora.Superseded, "begin the restore", restore.ID,
		"Start a new one: remora restore", "it has been begun before, and is %s", restore.Outcome)
}
