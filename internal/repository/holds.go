package repository

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// Hold keeps a backup whatever retention says, until it is released or ends by itself. A later hold takes the place of
// an earlier one.
func (r *Repository) Hold(ctx context.Context, h remora.Hold) error {
	const op = "hold the backup"
	if _, err := r.exactly(ctx, op, h.Backup); err != nil {
		return err
	}
	if err := holds.put(ctx, r, h.Backup, h); err != nil {
		return err
	}
	_, err := r.exactly(ctx, op, h.Backup) // it may have been deleted meanwhile
	return err
}

// Release ends the hold of a backup. One that has none is released already.
func (r *Repository) Release(ctx context.Context, id string) error {
	return holds.drop(ctx, r, id)
}

// A lease ends after leaseTime unless it is renewed, which it is each leaseBeat.
const (
	leaseTime = 2 * time.Hour
	leaseBeat = 15 * time.Minute
)

// Leased is a backup that somebody reads. It ends with End.
type Leased struct {
	r       *Repository
	key     string
	lease   remora.Lease
	stop    context.CancelFunc
	stopped chan struct{}
}

// Lease keeps a backup from being deleted while somebody reads it (S29): reader is the run that does, and what says so
// in words. The lease is durable, and the backup still there, when Lease returns; it is renewed until End. Should a
// deletion have looked for leases just before, it goes on all the same, and the reader with it: what was stored stays
// for at least a day after its backup is gone.
func (r *Repository) Lease(ctx context.Context, backup, reader, what string) (*Leased, error) {
	l := &Leased{r: r, key: rand.Text(), lease: remora.Lease{Backup: backup, Reader: reader, What: what}, stopped: make(chan struct{})}
	switch err := l.renew(ctx); remora.KindOf(err) {
	case "":
	case remora.Full, remora.Denied: // where nothing can be written, nothing can be deleted, and a restore must go on
		r.log.Warn("a backup is read without a lease", "backup", backup, "reader", reader, "error", err)
	default:
		return nil, err
	}
	if _, err := r.exactly(ctx, openOp, backup); err != nil {
		_ = leases.drop(context.WithoutCancel(ctx), r, l.key) // it ends by itself
		return nil, err
	}
	var renewing context.Context
	renewing, l.stop = context.WithCancel(ctx)
	go l.keep(renewing)
	return l, nil
}

func (l *Leased) renew(ctx context.Context) error {
	l.lease.Until = time.Now().Add(leaseTime).UTC()
	return leases.put(ctx, l.r, l.key, l.lease)
}

func (l *Leased) keep(ctx context.Context) {
	defer close(l.stopped)
	beat := time.NewTicker(leaseBeat)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			if err := l.renew(ctx); err != nil && ctx.Err() == nil { // the next beat, or one of the seven after it, does
				l.r.log.Warn("a lease was not renewed", "backup", l.lease.Backup, "reader", l.lease.Reader, "error", err)
			}
		}
	}
}

// releaseTime bounds how long an ended lease is taken back; one that is left ends by itself.
const releaseTime = 10 * time.Second

// End gives the lease back. err is what the reading came to: what looks like damage, where the backup is gone, is that it
// was deleted.
func (l *Leased) End(ctx context.Context, err error) error {
	l.stop()
	<-l.stopped
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	if failed := leases.drop(ctx, l.r, l.key); failed != nil {
		l.r.log.Warn("a lease was not given back", "backup", l.lease.Backup, "reader", l.lease.Reader, "error", failed)
	}
	if remora.KindOf(err) != remora.Corrupt {
		return err
	}
	if _, gone := l.r.exactly(ctx, openOp, l.lease.Backup); remora.KindOf(gone) == remora.NotFound {
		return remora.Fail(remora.NotFound, readBackupOp, l.lease.Backup, "see what there is with: remora history", "it was deleted meanwhile")
	}
	return err
}

// Leases are those that have been taken and not given back, also where they have ended.
func (r *Repository) Leases(ctx context.Context) ([]remora.Lease, error) {
	byKey, err := leases.list(ctx, r)
	return slices.Collect(maps.Values(byKey)), err
}

// Inventory is what retention decides about in a copy, or in the repository, as of our own clock. The restores that the
// repository knows may read from a copy, and count there as well.
func (l *Locations) Inventory(ctx context.Context, copied string) (r *Repository, in remora.Inventory, err error) {
	in.Now = time.Now().UTC()
	if r, err = l.At(ctx, copied); err != nil {
		return nil, in, err
	}
	if in.Backups, err = r.List(ctx, Filter{}); err != nil {
		return nil, in, err
	}
	if in.Leases, err = r.Leases(ctx); err != nil {
		return nil, in, err
	}
	for _, name := range slices.Compact([]string{"", copied}) {
		from, err := l.At(ctx, name)
		if err != nil {
			return nil, in, err
		}
		restores, err := from.Restores(ctx, "")
		if err != nil {
			return nil, in, err
		}
		in.Restores = append(in.Restores, restores...)
	}
	return r, in, nil
}

// Clock is the time of the storage, and how far it is ahead of ours.
func (r *Repository) Clock(ctx context.Context) (now time.Time, skew time.Duration, err error) {
	health, err := r.Check(ctx)
	return time.Now().Add(health.Skew).UTC(), health.Skew, err
}
