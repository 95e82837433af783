package activities

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/retention"
)

// Copies holds the steps that bring backups into the copies of the repository, and remove them there.
type Copies struct {
	Locations *repository.Locations
	// AfterBackup names the copies that each backup goes to as soon as it is completed.
	AfterBackup []string
	// Keep says what stays in each copy.
	Keep  map[string]retention.Policy
	Watch Watch
}

// Register makes the steps known under their wire names.
func (c *Copies) Register(to Registry) {
	register(to, remora.AfterBackupActivity, func(context.Context, struct{}) ([]string, error) { return c.AfterBackup, nil })
	register(to, remora.CopyActivity, c.copy)
	register(to, remora.MissingActivity, c.missing)
	register(to, remora.RecordCopiesActivity, c.record)
	register(to, remora.PruneActivity, c.prune)
}

// both opens the repository and a copy.
func (c *Copies) both(ctx context.Context, name string) (main, copied *repository.Repository, err error) {
	if main, err = c.Locations.At(ctx, ""); err == nil {
		copied, err = c.Locations.At(ctx, name)
	}
	return main, copied, err
}

func (c *Copies) copy(ctx context.Context, in remora.CopyInput) (remora.Copied, error) {
	return watched(ctx, c.Watch, "copy "+in.Backup+" to "+in.To, func(ctx context.Context, report reporter) (remora.Copied, error) {
		main, copied, err := c.both(ctx, in.To)
		if err != nil {
			return remora.Copied{}, err
		}
		m, err := main.Copy(ctx, copied, in.Backup, report)
		return remora.Copied{To: in.To, Backups: 1, Bytes: m.Bytes(), Added: m.Added()}, err
	})
}

// missing lists the completed regular backups that a copy lacks, or has not verified yet. What is not to be kept there
// is not missing.
func (c *Copies) missing(ctx context.Context, in remora.MissingInput) ([]remora.MissingBackup, error) {
	return plain(ctx, c.Watch, "compare the copy "+in.To+" with the repository", func(ctx context.Context) ([]remora.MissingBackup, error) {
		main, copied, err := c.both(ctx, in.To)
		if err != nil {
			return nil, err
		}
		here, err := main.List(ctx, repository.Filter{Status: remora.Completed})
		there, err2 := copied.List(ctx, repository.Filter{Status: remora.Completed})
		if err := cmp.Or(err, err2); err != nil {
			return nil, err
		}
		settled := in.Skip
		for _, b := range append(there, retention.Plan(c.Keep[in.To], here, nil, time.Now())...) {
			settled = append(settled, b.ID)
		}
		var missing []remora.MissingBackup
		for _, b := range slices.Backward(here) {
			if b.Purpose == remora.Regular && !slices.Contains(settled, b.ID) && len(missing) < in.Limit {
				missing = append(missing, remora.MissingBackup{ID: b.ID, Source: b.Source})
			}
		}
		return missing, nil
	})
}

func (c *Copies) record(ctx context.Context, in remora.RecordCopiesInput) error {
	return act(ctx, c.Watch, "record what the copy "+in.To+" holds", func(ctx context.Context) error {
		main, copied, err := c.both(ctx, in.To)
		if err != nil {
			return err
		}
		return main.RecordCopies(ctx, in.To, copied)
	})
}

// prune deletes from a copy what need not be kept there, and gives space back.
func (c *Copies) prune(ctx context.Context, in remora.PruneRequest) ([]string, error) {
	return reporting(ctx, c.Watch, "prune the copy "+in.Copy, func(ctx context.Context, report reporter) ([]string, error) {
		main, copied, err := c.both(ctx, in.Copy)
		if err != nil || c.Keep[in.Copy] == (retention.Policy{}) {
			return nil, err
		}
		all, err := copied.List(ctx, repository.Filter{})
		used, err2 := inUse(ctx, main, copied)
		if err := cmp.Or(err, err2); err != nil {
			return nil, err
		}
		plan := retention.Plan(c.Keep[in.Copy], all, used, time.Now())
		if err := retention.Check(plan, all); err != nil && !in.Force {
			return nil, err
		}
		var deleted []string
		for i, b := range plan {
			report(remora.Progress{Phase: "delete", Done: int64(i), Total: int64(len(plan)), Unit: "backups", Item: b.ID})
			if used, err = inUse(ctx, main, copied); err != nil { // again: a restore may have begun meanwhile
				return nil, err
			}
			if slices.Contains(used, b.ID) {
				continue
			}
			if err := copied.Delete(ctx, b.ID); err != nil {
				return nil, err
			}
			deleted = append(deleted, b.ID)
		}
		report(remora.Progress{Phase: "reclaim space"})
		return deleted, copied.Reclaim(ctx)
	})
}

// inUse names the backups that running restores read, wherever those are recorded.
func inUse(ctx context.Context, locations ...*repository.Repository) ([]string, error) {
	var used []string
	for _, r := range locations {
		restores, err := r.Restores(ctx, "")
		if err != nil {
			return nil, err
		}
		for _, s := range restores {
			if s.Outcome == remora.OutcomeRunning {
				used = append(used, s.Backup)
			}
		}
	}
	return used, nil
}
