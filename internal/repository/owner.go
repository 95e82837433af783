package repository

import (
	"context"
	"time"

	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"
	"github.com/remora-backup/remora/internal/remora"
)

// Owner tells whose runs may act on what a repository holds (S11).
func (r *Repository) Owner(ctx context.Context) (remora.Owner, error) {
	found, err := owners.list(ctx, r)
	return found[owners.kind], err
}

// SetOwner puts an owner in the place of the one before.
func (r *Repository) SetOwner(ctx context.Context, o remora.Owner) error {
	return owners.put(ctx, r, owners.kind, o)
}

// LastSign is when the owner's workers last wrote: what a run stores or how it ended, or what the monitor saw, which is
// written every hour.
func (r *Repository) LastSign(ctx context.Context) (last time.Time, err error) {
	if err := r.Refresh(ctx); err != nil {
		return last, err
	}
	for _, kind := range []string{snapshot.ManifestType, backupType, verifications.kind, failures.kind, restores.kind, proofs.kind, monitored.kind} {
		found, err := r.rep.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: kind})
		if err != nil {
			return last, problem("look who is at work", r.Where(), err)
		}
		for _, f := range found {
			if f.ModTime.After(last) {
				last = f.ModTime
			}
		}
	}
	return last, nil
}
