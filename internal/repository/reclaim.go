package repository

import (
	"cmp"
	"context"
	"errors"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/maintenance"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot/snapshotmaintenance"
	"github.com/remora-backup/remora/internal/remora"
)

// Delete makes a backup not exist any more. The space comes back with Reclaim, days later: until then whoever reads it
// goes on reading. A backup that is not there is deleted already.
func (r *Repository) Delete(ctx context.Context, id string) error {
	err := r.write(ctx, "delete", func(ctx context.Context, w repo.RepositoryWriter) error {
		found, err := records[committed](ctx, w, map[string]string{manifest.TypeLabelKey: backupType, labelBackup: id})
		checks, err2 := w.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: verificationType, labelBackup: id})
		if err := cmp.Or(err, err2); err != nil {
			return err
		}
		for _, f := range found {
			if err := errors.Join(w.DeleteManifest(ctx, f.ID), w.DeleteManifest(ctx, f.Value.Snapshot)); err != nil {
				return err
			}
		}
		return forget(ctx, w, checks)
	})
	return problem("delete the backup", id, err)
}

// Reclaim gives back the space of what no backup refers to any more. It is safe beside writers and readers, since what
// is younger than a day, or was let go of hours ago, is left for a later time. Only the repository's owner may, and only
// one Reclaim runs at a time.
func (r *Repository) Reclaim(ctx context.Context) error {
	const op = "reclaim space"
	err := repo.DirectWriteSession(ctx, r.rep, repo.WriteSessionOptions{Purpose: op}, func(ctx context.Context, w repo.DirectRepositoryWriter) error {
		w, err := r.pastDamage(ctx, w)
		if err != nil {
			return err
		}
		return snapshotmaintenance.Run(ctx, w, maintenance.ModeFull, false, maintenance.SafetyFull)
	})
	if errors.As(err, new(maintenance.NotOwnedError)) {
		return &remora.Problem{Op: op, Kind: remora.Denied, Subject: r.Where(), Hint: "reclaim space there with that owner's program", Err: err}
	}
	return problem(op, r.Where(), err)
}
