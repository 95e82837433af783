package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/kopia/kopia/snapshot"
	"github.com/kopia/kopia/snapshot/snapshotfs"
	"github.com/remora-backup/remora/internal/remora"
)

const copyOp = "copy the backup"

// Copy brings a completed backup into another repository: the same id, the same manifest but for the references to what
// is stored, the same trees. Everything is decrypted and authenticated here and encrypted anew there, but for what an
// earlier backup has brought there already. It counts there once Verify has read it back. A repeated Copy ends in the
// same state, and one that was killed goes on; damage here is never copied, and is recorded. report is called by one
// goroutine at a time; it may be nil.
func (r *Repository) Copy(ctx context.Context, to *Repository, id string, report func(remora.Progress)) (remora.Manifest, error) {
	b, err := r.exactly(ctx, copyOp, id)
	if err != nil {
		return remora.Manifest{}, err
	}
	if b.Status != remora.Completed {
		kind := remora.Invalid
		if b.Status == remora.Corrupted {
			kind = remora.Corrupt
		}
		return remora.Manifest{}, remora.Fail(kind, copyOp, id, "choose one that completed: remora history --status completed", "it is %s; what was not read back well is not copied", b.Status)
	}
	there, err := to.exactly(ctx, copyOp, id)
	if remora.KindOf(err) != remora.NotFound { // it has been committed: Verify tells, also once more, how it is
		return there.Manifest, err
	}
	leased, err := r.Lease(ctx, id, "", "a copy to "+to.Where())
	if err != nil {
		return remora.Manifest{}, err
	}
	c := &copier{r: r, to: to, id: id, report: report, began: time.Now(), slots: make(chan struct{}, parallelFiles)}
	m, err := c.backup(ctx, b.Manifest)
	return m, leased.End(ctx, r.damagedSource(ctx, b, err))
}

// backup copies all parts, and commits them.
func (c *copier) backup(ctx context.Context, m remora.Manifest) (remora.Manifest, error) {
	m.Parts = slices.Clone(m.Parts)
	for i := range m.Parts {
		if err := c.part(ctx, m, &m.Parts[i]); err != nil {
			return remora.Manifest{}, err
		}
	}
	return c.to.Commit(ctx, m)
}

// sourceError marks what could not be read of the backup that is copied.
type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }

// damagedSource says that the backup itself is damaged, and records it as a verification would: unless the whole
// repository went away, which looks the same from inside a file.
func (r *Repository) damagedSource(ctx context.Context, b known, err error) error {
	source, ok := errors.AsType[sourceError](err)
	if !ok {
		return err
	}
	p := remora.ProblemOf(copyOp, source.error)
	if p.Kind != remora.Corrupt {
		return p
	}
	if err := r.present(ctx); err != nil {
		return err
	}
	if _, err := r.exactly(ctx, copyOp, b.ID); err != nil { // deleted, and not damaged
		return err
	}
	v := remora.Verification{At: time.Now().UTC(), FullAt: lastFull(b), Problem: "damaged: " + remora.OneLine(p.Error())}
	err = verifications.put(ctx, r, b.ID, v)
	return errors.Join(remora.Fail(remora.Corrupt, copyOp, b.ID,
		"take a new backup now, and check the repository's disk; other backups are copied all the same", "it is %s; nothing of it counts in the copy", v.Problem), err)
}

// copier is one Copy at work.
type copier struct {
	r, to *Repository
	id    string
	began time.Time
	slots chan struct{}
	w     *PartWriter // of the part at work

	mu          sync.Mutex
	report      func(remora.Progress)
	done, total int64
}

// pair is one entry of an earlier backup, as both repositories hold it; nothing where they do not.
type pair struct{ here, there *snapshot.DirEntry }

// part copies one part, and completes its reference.
func (c *copier) part(ctx context.Context, m remora.Manifest, ref *remora.PartRef) error {
	from, err := c.r.partOf(ctx, c.id, ref.Kind)
	if err != nil {
		return sourceError{err}
	}
	stored, err := c.r.directory(ctx, from.ObjectID)
	if err != nil {
		return sourceError{problem(readBackupOp, c.id, err)}
	}
	if c.done, c.total = 0, 0; stored.Summary != nil {
		c.total = stored.Summary.TotalFileSize
	}
	if c.w, err = c.to.Begin(ctx, Spec{Source: m.Source, Run: m.Run, Backup: m.ID, Kind: ref.Kind}); err != nil {
		return err
	}
	defer func() { _ = c.w.Abort(context.WithoutCancel(ctx)) }() // after Finish it does nothing
	if _, err := c.content(ctx, ".", stored.Entries, c.earlier(ctx, m.Source, ref.Kind)); err != nil {
		return err
	}
	ref.Root, ref.Added, err = c.w.Finish(ctx)
	return err
}

// earlier is the part of the newest backup that is completed in both repositories. It only saves copying: where it
// cannot be had, everything is copied.
func (c *copier) earlier(ctx context.Context, source string, kind remora.Kind) pair {
	here, err := c.r.verified(ctx, source)
	there, err2 := c.to.verified(ctx, source)
	if err = cmp.Or(err, err2); err == nil {
		for _, b := range here {
			if _, ok := b.Part(kind); !ok || !slices.ContainsFunc(there, func(k known) bool { return k.ID == b.ID }) {
				continue
			}
			var both pair
			both.here, err = c.r.partOf(ctx, b.ID, kind)
			both.there, err2 = c.to.partOf(ctx, b.ID, kind)
			if err = cmp.Or(err, err2); err == nil {
				return both
			}
			break
		}
	}
	if err != nil {
		c.to.log.Warn("an earlier copy cannot be compared with", "source", source, "error", err)
	}
	return pair{}
}

// content copies what is in a directory: its files several at once, its directories one after the other.
func (c *copier) content(ctx context.Context, dir string, entries []*snapshot.DirEntry, old pair) (*snapshotfs.DirManifestBuilder, error) {
	here, err := c.r.children(ctx, old.here)
	there, err2 := c.to.children(ctx, old.there)
	if err = cmp.Or(err, err2); err != nil {
		c.to.log.Warn("an earlier copy cannot be compared with", "directory", dir, "error", err)
		here, there = nil, nil
	}
	to := &snapshotfs.DirManifestBuilder{}
	alone := func(e *snapshot.DirEntry) bool { return e.Type == snapshot.EntryTypeDirectory }
	return to, spread(ctx, c.w, c.slots, entries, alone, func(ctx context.Context, e *snapshot.DirEntry) error {
		return c.add(ctx, to, path.Join(dir, e.Name), e, pair{here[e.Name], there[e.Name]})
	})
}

// add copies one entry with everything below it.
func (c *copier) add(ctx context.Context, to *snapshotfs.DirManifestBuilder, name string, e *snapshot.DirEntry, old pair) error {
	entry := *e
	var content []string
	switch {
	case old.here != nil && old.there != nil && old.here.ObjectID == e.ObjectID && old.here.Type == e.Type && old.there.Type == e.Type:
		entry.ObjectID = old.there.ObjectID
		c.tell(name, size(e))
	case e.Type == snapshot.EntryTypeDirectory:
		stored, err := c.r.directory(ctx, e.ObjectID)
		if err != nil {
			return sourceError{problem(readBackupOp, name, err)}
		}
		inside, err := c.content(ctx, name, stored.Entries, old)
		if err != nil {
			return err
		}
		copied, err := writeDir(ctx, c.w.w, inside, entry)
		if err != nil {
			return c.w.problem(err)
		}
		entry = *copied
		content = remora.Each(stored.Entries, func(e *snapshot.DirEntry) string { return e.Name })
	default:
		if err := c.file(ctx, name, e, &entry); err != nil {
			return err
		}
	}
	c.w.keepEntry(name, &entry, content)
	to.AddEntry(&entry)
	return nil
}

// size is what an entry adds to the total of what is copied.
func size(e *snapshot.DirEntry) int64 {
	switch {
	case e.DirSummary != nil:
		return e.DirSummary.TotalFileSize
	case e.Type == snapshot.EntryTypeFile:
		return e.FileSize
	}
	return 0
}

// file copies the content of a file, or the text of a link.
func (c *copier) file(ctx context.Context, name string, e, entry *snapshot.DirEntry) error {
	from, err := c.r.rep.OpenObject(ctx, e.ObjectID)
	if err != nil {
		return sourceError{problem(readBackupOp, name, err)}
	}
	defer func() { _ = from.Close() }()
	err = c.w.store(ctx, name, entry, func(w io.Writer) error {
		block := make([]byte, 256<<10)
		for {
			n, err := from.Read(block)
			if n > 0 {
				if _, err := w.Write(block[:n]); err != nil {
					return err
				}
				if e.Type == snapshot.EntryTypeFile { // the total does not count links
					c.tell(name, int64(n))
				}
			}
			switch {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return sourceError{problem(readBackupOp, name, err)}
			}
		}
	})
	if err == nil && entry.FileSize != e.FileSize {
		err = sourceError{problem(readBackupOp, name, fmt.Errorf("malformed file: %d bytes are stored of %d", entry.FileSize, e.FileSize))}
	}
	return err
}

func (c *copier) tell(name string, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += bytes
	if c.report != nil {
		c.report(remora.Progress{Phase: "copy", Since: c.began, Done: c.done, Total: c.total, Unit: "bytes", Item: name})
	}
}

// RecordCopies notes here what a copy holds, so that it can be told without asking there.
func (r *Repository) RecordCopies(ctx context.Context, name string, copied *Repository) error {
	all, err := copied.List(ctx, Filter{Status: remora.Completed})
	if err != nil {
		return err
	}
	now := held{At: time.Now().UTC(), Backups: remora.Each(all, func(b remora.Backup) string { return b.ID })}
	return copies.put(ctx, r, name, now)
}
