package repository

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/maintenance"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"
	"github.com/kopia/kopia/snapshot/snapshotmaintenance"
	"github.com/remora-backup/remora/internal/remora"
)

// Delete makes a backup, or the record of a failed run, not exist any more. The space comes back with Reclaim, days
// later: until then whoever reads it goes on reading. A backup that is not there is deleted already.
func (r *Repository) Delete(ctx context.Context, id string) error {
	err := r.write(ctx, "delete", func(ctx context.Context, w repo.RepositoryWriter) error {
		found, err := records[committed](ctx, w, map[string]string{manifest.TypeLabelKey: backupType, labelBackup: id})
		if err != nil {
			return err
		}
		return cmp.Or(
			dropCommits(ctx, w, found),
			forgetAll(ctx, w, verifications.labels(id)),
			forgetAll(ctx, w, failures.labels(id)),
			forgetAll(ctx, w, holds.labels(id)),
		)
	})
	return problem("delete the backup", id, err)
}

// Reclaim gives back the space of what no backup refers to any more. It is safe beside writers and readers, since what
// is younger than a day, or was let go of hours ago, is left for a later time. Only the repository's owner may, and only
// one Reclaim runs at a time.
func (r *Repository) Reclaim(ctx context.Context) error {
	const op = "reclaim space"
	if err := r.sweep(ctx, time.Now().Add(-deadAfter)); err != nil {
		return problem(op, r.Where(), err)
	}
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

// deadAfter is how old the last sign of life of a run is that is dead.
const deadAfter = 48 * time.Hour

// sweep deletes what runs left that gave no sign of life since: checkpoints, which keep what they refer to, and leases.
func (r *Repository) sweep(ctx context.Context, since time.Time) error {
	return r.write(ctx, "sweep", func(ctx context.Context, w repo.RepositoryWriter) error {
		snapshots, err := w.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: snapshot.ManifestType})
		reading, err2 := records[remora.Lease](ctx, w, map[string]string{manifest.TypeLabelKey: leases.kind})
		if err := cmp.Or(err, err2); err != nil {
			return err
		}
		alive := map[string]bool{} // a run that is at its second part still needs the checkpoint of its first
		checkpoints := keep(snapshots, func(f *manifest.EntryMetadata) bool { return f.Labels[tagCheckpoint] != "" })
		for _, f := range checkpoints {
			alive[f.Labels[tagRun]] = alive[f.Labels[tagRun]] || f.ModTime.After(since)
		}
		dead := keep(checkpoints, func(f *manifest.EntryMetadata) bool { return !alive[f.Labels[tagRun]] })
		for _, l := range reading {
			if l.Value.Until.Before(since) {
				dead = append(dead, l.EntryMetadata)
			}
		}
		return forget(ctx, w, dead)
	})
}

// OnlyIn is about how many stored bytes these backups alone refer to. It walks every directory once, as Reclaim does, and
// reads no file.
func (r *Repository) OnlyIn(ctx context.Context, ids []string) (int64, error) {
	const op = "measure what only these backups hold"
	if len(ids) == 0 {
		return 0, nil
	}
	all, err := r.all(ctx)
	if err != nil {
		return 0, problem(op, r.Where(), err)
	}
	gone := map[manifest.ID]bool{}
	for _, b := range all {
		if b.snapshot != "" && slices.Contains(ids, b.ID) {
			gone[b.snapshot] = true
		}
	}
	found, err := snapshot.ListSnapshotManifests(ctx, r.rep, nil, nil)
	if err != nil {
		return 0, problem(op, r.Where(), err)
	}
	w := &weigher{r: r, met: map[uint64]bool{}}
	for _, counted := range []bool{false, true} { // what stays comes first
		w.bytes = 0
		for _, id := range found {
			if gone[id] != counted {
				continue
			}
			if err := w.snapshot(ctx, id); err != nil {
				return 0, problem(op, r.Where(), err)
			}
		}
	}
	return w.bytes, nil
}

// weigher adds up the stored bytes of what it meets for the first time. It knows what it has met by 64 bits of a
// cryptographic hash, since there may be millions.
type weigher struct {
	r     *Repository
	met   map[uint64]bool
	bytes int64
}

func (w *weigher) snapshot(ctx context.Context, id manifest.ID) error {
	s, err := snapshot.LoadSnapshot(ctx, w.r.rep, id)
	if errors.Is(err, snapshot.ErrSnapshotNotFound) || err == nil && s.RootEntry == nil {
		return nil // a checkpoint that has just been replaced
	}
	if err != nil {
		return err
	}
	return w.r.walk(ctx, ".", s.RootEntry, w)
}

// meet adds an entry up. One whose blocks were all met before was met with everything below it.
func (w *weigher) meet(ctx context.Context, _ string, _ *snapshot.DirEntry, blocks []content.ID) (fresh bool, err error) {
	for _, id := range blocks {
		key := binary.LittleEndian.Uint64(id.Hash())
		if w.met[key] {
			continue
		}
		w.met[key], fresh = true, true
		if info, err := w.r.rep.ContentInfo(ctx, id); err == nil {
			w.bytes += int64(info.PackedLength)
		}
	}
	return fresh, nil
}

// miss lets what is damaged weigh nothing.
func (w *weigher) miss(_ context.Context, _ string, _ *snapshot.DirEntry, err error) error {
	if damaged(err) {
		return nil
	}
	return err
}

// RecordPlan keeps the plan that is about to be carried out, in place of the one before.
func (r *Repository) RecordPlan(ctx context.Context, plan remora.RetentionPlan) error {
	return plans.put(ctx, r, plans.kind, plan)
}

// RecordedPlan is the plan that was last recorded.
func (r *Repository) RecordedPlan(ctx context.Context) (remora.RetentionPlan, error) {
	found, err := plans.list(ctx, r)
	return found[plans.kind], err
}

// owed is how much space was said to come back, and has not yet.
type owed struct {
	Run   string    `json:"run"`
	Bytes int64     `json:"bytes"`
	At    time.Time `json:"at"`
}

// owedFor is how long a promise stands: what has not come back by then was measured badly, or is referred to again.
const owedFor = 14 * 24 * time.Hour

// Owe promises that about so many bytes will come back because of a run, and takes what has come back off the oldest
// promises. It gives what is owed now. Repeating it for the same run promises nothing twice.
func (r *Repository) Owe(ctx context.Context, run string, later, freed int64) (total int64, err error) {
	found, err := promises.list(ctx, r)
	if err != nil {
		return 0, err
	}
	all := found[promises.kind]
	now, stands := time.Now().UTC(), owedFor
	if r.cfg.Bucket != nil { // what is locked goes later
		stands += time.Duration(r.cfg.Bucket.Lock.Days) * 24 * time.Hour
	}
	all = append(keep(all, func(o owed) bool { return o.Run != run && now.Sub(o.At) < stands }), owed{run, later, now})
	for i := range all {
		back := min(freed, all[i].Bytes)
		all[i].Bytes -= back
		freed -= back
		total += all[i].Bytes
	}
	all = keep(all, func(o owed) bool { return o.Bytes > 0 })
	return total, promises.put(ctx, r, promises.kind, all)
}
