package activities

import (
	"context"
	"slices"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/retention"
)

// Keep says what is to be kept of a source in a copy, or in the repository where no copy is named.
type Keep func(copied, source string) remora.KeepPolicy

func (k Keep) in(copied string) func(source string) remora.KeepPolicy {
	return func(source string) remora.KeepPolicy { return k(copied, source) }
}

// Retention holds the steps that delete what need not be kept, and give its space back.
type Retention struct {
	Locations *repository.Locations
	Keep      Keep
	Watch     Watch
}

// Register makes the steps known under their wire names.
func (r *Retention) Register(to Registry) {
	step(to, r.Watch, remora.PlanRetentionActivity, func(remora.RetentionRequest) string { return "decide what to keep" }, r.plan)
	reporting(to, r.Watch, remora.DeleteBackupsActivity, false, func(remora.DeleteInput) string { return "delete backups" }, r.delete)
	reporting(to, r.Watch, remora.ReclaimActivity, false, func(remora.ReclaimInput) string { return "reclaim space" }, r.reclaim)
}

// plan decides, by the clock of the storage, and records what is to be deleted and why.
func (r *Retention) plan(ctx context.Context, in remora.RetentionRequest) (done remora.Planned, err error) {
	at, found, err := r.Locations.Inventory(ctx, in.Copy)
	if err != nil {
		return done, err
	}
	if found.Now, found.Skew, err = at.Clock(ctx); err != nil {
		return done, err
	}
	plan := retention.Make(found, r.Keep.in(in.Copy), in.Source)
	plan.Copy = in.Copy
	if in.Force != "" && !plan.Force(in.Force) {
		return done, remora.Fail(remora.Refused, "delete what need not be kept", "",
			"Look at the plan as it is now: "+in.Command("--dry-run"), "the plan is not the one with the hash %q any more; nothing was deleted", remora.Cut(in.Force, 40))
	}
	done.Refused = remora.Each(plan.Refusals, func(r remora.Refusal) string { return r.Why })
	done.Hash, done.Delete = plan.Hash, len(plan.Deletes())
	done.Keep = len(plan.Verdicts) - done.Delete
	if plan.Bytes, err = at.OnlyIn(ctx, plan.Deletes()); err != nil {
		return done, err
	}
	done.Bytes = plan.Bytes
	return done, at.RecordPlan(ctx, plan)
}

// delete carries out a page of the recorded plan. Before each deletion it is decided once more, by what there is now:
// holds, leases, restores, and whether it has become the newest good one.
func (r *Retention) delete(ctx context.Context, in remora.DeleteInput, report reporter) (done remora.DeletedPage, err error) {
	at, err := r.Locations.At(ctx, in.Copy)
	if err != nil {
		return done, err
	}
	plan, err := at.RecordedPlan(ctx)
	if err != nil {
		return done, err
	}
	if plan.Hash != in.Hash {
		return done, remora.Fail(remora.Changed, "delete backups", at.Where(), "Start again: remora cleanup", "another plan was made meanwhile")
	}
	ids := plan.Deletes()
	for i := min(in.From, len(ids)); i < min(in.From+in.Limit, len(ids)); i++ {
		report(remora.Progress{Phase: "delete", Done: int64(i), Total: int64(len(ids)), Unit: "backups", Item: ids[i]})
		_, found, err := r.Locations.Inventory(ctx, in.Copy)
		if err != nil {
			return done, err
		}
		found.Now = plan.At
		now := retention.Make(found, r.Keep.in(in.Copy), "").Verdicts
		switch j := slices.IndexFunc(now, func(v remora.Verdict) bool { return v.Backup == ids[i] }); {
		case j >= 0 && !now[j].Delete:
			continue
		case j >= 0:
			if err := at.Delete(ctx, ids[i]); err != nil {
				return done, err
			}
		}
		done.Deleted++ // by this attempt, or by one before
	}
	return done, nil
}

// reclaim gives space back, and measures how much.
func (r *Retention) reclaim(ctx context.Context, in remora.ReclaimInput, report reporter) (done remora.RetentionResult, err error) {
	at, err := r.Locations.At(ctx, in.Copy)
	if err != nil {
		return done, err
	}
	before, err := at.Sample(ctx)
	if err != nil {
		return done, err
	}
	report(remora.Progress{Phase: "reclaim space"})
	if err := at.Reclaim(ctx); err != nil {
		return done, err
	}
	after, err := at.Sample(ctx)
	if err != nil {
		return done, err
	}
	done.Freed = max(0, before.Stored-after.Stored)
	done.Later = in.Bytes
	done.Owed, err = at.Owe(ctx, in.Run, in.Bytes, done.Freed)
	return done, err
}
