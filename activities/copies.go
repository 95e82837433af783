package activities

import (
	"context"
	"slices"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/retention"
)

// Copies holds the steps that bring backups into the copies of the repository.
type Copies struct {
	Locations *repository.Locations
	// AfterBackup names the copies that each backup goes to as soon as it is completed.
	AfterBackup []string
	// Keep says what stays of a source in a copy.
	Keep  Keep
	Watch Watch
}

// Register makes the steps known under their wire names.
func (c *Copies) Register(to Registry) {
	register(to, remora.AfterBackupActivity, func(context.Context, struct{}) ([]string, error) { return c.AfterBackup, nil })
	reporting(to, c.Watch, remora.CopyActivity, true, func(in remora.CopyInput) string { return "copy " + in.Backup + " to " + in.To }, c.copy)
	step(to, c.Watch, remora.MissingActivity, func(in remora.MissingInput) string { return "compare the copy " + in.To + " with the repository" }, c.missing)
	act(to, c.Watch, remora.RecordCopiesActivity, func(in remora.RecordCopiesInput) string { return "record what the copy " + in.To + " holds" }, c.record)
}

// both opens the repository and a copy.
func (c *Copies) both(ctx context.Context, name string) (main, copied *repository.Repository, err error) {
	if main, err = c.Locations.At(ctx, ""); err == nil {
		copied, err = c.Locations.At(ctx, name)
	}
	return main, copied, err
}

func (c *Copies) copy(ctx context.Context, in remora.CopyInput, report reporter) (remora.Copied, error) {
	main, copied, err := c.both(ctx, in.To)
	if err != nil {
		return remora.Copied{}, err
	}
	m, err := main.Copy(ctx, copied, in.Backup, report)
	return remora.Copied{To: in.To, Backups: 1, Bytes: m.Bytes(), Added: m.Added()}, err
}

// missing lists the completed regular backups that a copy lacks, or has not verified yet. What is not to be kept there
// is not missing.
func (c *Copies) missing(ctx context.Context, in remora.MissingInput) ([]remora.ListedBackup, error) {
	_, here, err := c.Locations.Inventory(ctx, "")
	if err != nil {
		return nil, err
	}
	copied, err := c.Locations.At(ctx, in.To)
	if err != nil {
		return nil, err
	}
	there, err := copied.List(ctx, repository.Filter{Status: remora.Completed})
	if err != nil {
		return nil, err
	}
	settled := append(in.Skip, remora.Each(there, func(b remora.Backup) string { return b.ID })...)
	for _, v := range retention.Make(here, c.Keep.in(in.To), "").Verdicts {
		if v.Delete {
			settled = append(settled, v.Backup)
		}
	}
	var missing []remora.ListedBackup
	for _, b := range slices.Backward(here.Backups) {
		if b.Purpose == remora.Regular && b.Status == remora.Completed && !slices.Contains(settled, b.ID) && len(missing) < in.Limit {
			missing = append(missing, remora.ListedBackup{ID: b.ID, Source: b.Source})
		}
	}
	return missing, nil
}

func (c *Copies) record(ctx context.Context, in remora.RecordCopiesInput) error {
	main, copied, err := c.both(ctx, in.To)
	if err != nil {
		return err
	}
	return main.RecordCopies(ctx, in.To, copied)
}
