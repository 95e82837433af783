package repository

import (
	"context"
	"slices"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/manifest"

	"github.com/remora-backup/remora/internal/remora"
)

const (
	undeliveredType = "remora-undelivered"
	labelNotice     = "notice"
	labelTo         = "to"
)

// maxUndelivered is how many of the newest are kept.
const maxUndelivered = 20

// RecordUndelivered leaves the record of a notice that could not be told.
func (r *Repository) RecordUndelivered(ctx context.Context, u remora.Undelivered) error {
	err := r.write(ctx, "undelivered", func(ctx context.Context, w repo.RepositoryWriter) error {
		labels := map[string]string{manifest.TypeLabelKey: undeliveredType, labelNotice: u.Notice.ID, labelTo: u.To}
		same, err := w.FindManifests(ctx, labels)
		if err != nil {
			return err
		}
		if _, err := w.PutManifest(ctx, labels, u); err != nil {
			return err
		}
		if err := forget(ctx, w, same); err != nil {
			return err
		}
		all, err := w.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: undeliveredType}) // oldest first
		if err != nil {
			return err
		}
		return forget(ctx, w, all[:max(0, len(all)-maxUndelivered)])
	})
	return problem("record what was not delivered", u.To, err)
}

// Undelivered are the notices that could not be told since their channel last worked, newest first.
func (r *Repository) Undelivered(ctx context.Context) ([]remora.Undelivered, error) {
	if err := r.Refresh(ctx); err != nil {
		return nil, err
	}
	found, err := records[remora.Undelivered](ctx, r.rep, map[string]string{manifest.TypeLabelKey: undeliveredType})
	if err != nil {
		return nil, problem("list what was not delivered", r.Where(), err)
	}
	var all []remora.Undelivered
	for _, f := range slices.Backward(found) {
		all = append(all, f.Value)
	}
	return all, nil
}

// RecordDelivered forgets what could not be told to a channel: it works again.
func (r *Repository) RecordDelivered(ctx context.Context, to string) error {
	if err := r.Refresh(ctx); err != nil {
		return err
	}
	labels := map[string]string{manifest.TypeLabelKey: undeliveredType, labelTo: to}
	old, err := r.rep.FindManifests(ctx, labels)
	if err == nil && len(old) > 0 {
		err = r.write(ctx, "delivered", func(ctx context.Context, w repo.RepositoryWriter) error { return forget(ctx, w, old) })
	}
	return problem("record what was delivered", to, err)
}
