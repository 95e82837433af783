package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"unicode/utf8"

	kopiafs "github.com/kopia/kopia/fs"
	"github.com/kopia/kopia/snapshot"
	"github.com/kopia/kopia/snapshot/snapshotfs"
	"github.com/remora-backup/remora/internal/remora"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// parallelFiles is how many files of a tree are read at once.
const parallelFiles = 4

const readOp = "read the files"

// What may become of an entry after it was listed.
var (
	errVanished = errors.New("vanished")
	errReplaced = errors.New("replaced")
)

// PutTree stores the directory dir under name, with modes, owners and times. Files that an earlier backup of the
// source holds with the same size, time, mode and owner are not read again. Nothing outside dir is ever read, whatever
// links are put in the way. What cannot be read fails by name; what was there and vanished is listed as changed.
func (p *PartWriter) PutTree(ctx context.Context, name, dir string, skip func(rel string) bool) (remora.TreeSummary, error) {
	if err := p.claim(name); err != nil {
		return remora.TreeSummary{}, err
	}
	t := &tree{p: p, name: name, dir: dir, skip: skip, slots: make(chan struct{}, parallelFiles)}
	if err := t.put(ctx); err != nil {
		p.release(name)
		return remora.TreeSummary{}, err
	}
	slices.Sort(t.sum.Changed)
	slices.Sort(t.sum.Skipped)
	return t.sum, nil
}

// tree is one PutTree at work.
type tree struct {
	p     *PartWriter
	name  string
	dir   string
	root  *os.Root
	skip  func(rel string) bool
	slots chan struct{}
	mu    sync.Mutex
	sum   remora.TreeSummary
}

func (t *tree) put(ctx context.Context) error {
	root, err := os.OpenRoot(t.dir)
	if err != nil {
		return t.problem(".", err)
	}
	defer func() { _ = root.Close() }()
	t.root = root
	_, err = t.directory(ctx, ".", t.p.earlier(ctx, t.name))
	return err
}

// problem says which file could not be read; kopia's and the disk's own texts do not.
func (t *tree) problem(rel string, err error) error {
	var known *remora.Problem
	var at *fs.PathError
	switch {
	case errors.As(err, &known): // the repository's
		return err
	case rel != "." && errors.Is(err, fs.ErrNotExist):
		return errVanished
	case errors.As(err, &at):
		err = fmt.Errorf("%s: %w", at.Op, at.Err)
	}
	err = problem(readOp, filepath.Join(t.dir, rel), err)
	if errors.As(err, &known) {
		known.Hint = "let the worker read it, or exclude it in the configuration"
	}
	return err
}

func (t *tree) note(change func(*remora.TreeSummary)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.sum)
}

// directory stores a directory and everything below.
func (t *tree) directory(ctx context.Context, rel string, before *snapshot.DirEntry) (*snapshot.DirEntry, error) {
	info, err := t.root.Stat(rel)
	if err != nil {
		return nil, t.problem(rel, err)
	}
	listed, err := fs.ReadDir(t.root.FS(), rel)
	if err != nil {
		return nil, t.problem(rel, err)
	}
	old, err := t.p.r.children(ctx, before)
	if err != nil { // an earlier backup that cannot be read is not needed
		t.p.r.log.Warn("an earlier backup cannot be compared with", "directory", rel, "error", err)
	}
	builder := &snapshotfs.DirManifestBuilder{}
	alone := func(e fs.DirEntry) bool { return !e.Type().IsRegular() }
	err = spread(ctx, t.p, t.slots, listed, alone, func(ctx context.Context, e fs.DirEntry) error {
		at := path.Join(rel, e.Name())
		switch {
		case t.skip != nil && t.skip(at):
			return nil
		case !utf8.ValidString(e.Name()):
			return remora.Fail(remora.Unsupported, readOp, quote(filepath.Join(t.dir, at)), "rename it, or exclude it in the configuration", "the name is not UTF-8, and could not be told from another one later")
		}
		return t.add(ctx, builder, at, e.Type(), old[e.Name()])
	})
	if err != nil {
		return nil, err
	}
	entry, err := writeDir(ctx, t.p.w, builder, describe(path.Base(t.path(rel)), snapshot.EntryTypeDirectory, info))
	if err != nil {
		return nil, t.p.problem(err)
	}
	t.p.keepEntry(t.path(rel), entry, remora.Each(listed, fs.DirEntry.Name))
	t.note(func(s *remora.TreeSummary) { s.Directories++ })
	return entry, nil
}

// spread works on the entries of one directory: on those that are to be met alone one after the other, on the others
// several at once, over all directories as many as there are slots.
func spread[E any](ctx context.Context, p *PartWriter, slots chan struct{}, entries []E, alone func(E) bool, work func(context.Context, E) error) (err error) {
	files, inner := errgroup.WithContext(ctx)
	for _, e := range entries {
		if err = cmp.Or(inner.Err(), p.trouble()); err != nil {
			break
		}
		if alone(e) {
			if err = work(inner, e); err != nil {
				break
			}
			continue
		}
		slots <- struct{}{}
		files.Go(func() error {
			defer func() { <-slots }()
			return work(inner, e)
		})
	}
	return cmp.Or(files.Wait(), err) // what stopped the files explains why the rest was stopped
}

// add stores one entry, or notes why it is not stored.
func (t *tree) add(ctx context.Context, to *snapshotfs.DirManifestBuilder, rel string, kind fs.FileMode, before *snapshot.DirEntry) error {
	var entry *snapshot.DirEntry
	var err error
	switch kind {
	case fs.ModeDir:
		entry, err = t.directory(ctx, rel, before)
	case fs.ModeSymlink:
		entry, err = t.link(ctx, rel)
	case 0:
		entry, err = t.file(ctx, rel, before)
	default:
		t.note(func(s *remora.TreeSummary) {
			s.Skipped = append(s.Skipped, fmt.Sprintf("%s (%s)", rel, kindName(kind)))
		})
		return nil
	}
	if errors.Is(err, errVanished) || errors.Is(err, errReplaced) {
		t.note(func(s *remora.TreeSummary) { s.Changed = append(s.Changed, fmt.Sprintf("%s (%v)", rel, err)) })
		return nil
	}
	if err == nil {
		to.AddEntry(entry)
	}
	return err
}

func (t *tree) link(ctx context.Context, rel string) (*snapshot.DirEntry, error) {
	info, err := t.root.Lstat(rel)
	if err != nil {
		return nil, t.problem(rel, err)
	}
	target, err := t.root.Readlink(rel)
	if err != nil {
		return nil, t.problem(rel, err)
	}
	entry := describe(path.Base(rel), snapshot.EntryTypeSymlink, info)
	err = t.p.store(ctx, t.path(rel), &entry, func(w io.Writer) error {
		_, err := io.WriteString(w, target)
		return err
	})
	if err != nil {
		return nil, err
	}
	t.p.keepEntry(t.path(rel), &entry, nil)
	t.note(func(s *remora.TreeSummary) { s.Symlinks++ })
	return &entry, nil
}

// file stores a file, as long as it was when it was opened.
func (t *tree) file(ctx context.Context, rel string, before *snapshot.DirEntry) (*snapshot.DirEntry, error) {
	f, err := t.root.OpenFile(rel, os.O_RDONLY|unix.O_NONBLOCK, 0) // never waits, should it have become a pipe
	if err != nil {
		return nil, t.problem(rel, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, t.problem(rel, err)
	}
	if !info.Mode().IsRegular() {
		return nil, errReplaced
	}
	entry := describe(path.Base(rel), snapshot.EntryTypeFile, info)
	entry.FileSize = info.Size()
	after := info
	if same(&entry, before) && t.p.r.intact(ctx, before.ObjectID) {
		entry.ObjectID = before.ObjectID
	} else {
		err = t.p.store(ctx, t.path(rel), &entry, func(w io.Writer) error {
			_, err := io.CopyBuffer(w, io.LimitReader(f, info.Size()), make([]byte, 256<<10))
			return t.problem(rel, err)
		})
		if err != nil {
			return nil, err
		}
		if after, err = f.Stat(); err != nil {
			return nil, t.problem(rel, err)
		}
	}
	t.p.keepEntry(t.path(rel), &entry, nil)
	t.note(func(s *remora.TreeSummary) {
		s.Files++
		s.Bytes += entry.FileSize
		if entry.FileSize != after.Size() || !after.ModTime().Equal(info.ModTime()) {
			s.Changed = append(s.Changed, rel)
		}
	})
	return &entry, nil
}

// same tells whether the file that before describes is this one, unread.
func same(now, before *snapshot.DirEntry) bool {
	return before != nil && before.Type == now.Type && before.FileSize == now.FileSize && before.ModTime == now.ModTime &&
		before.Permissions == now.Permissions && before.UserID == now.UserID && before.GroupID == now.GroupID
}

func (t *tree) path(rel string) string { return path.Join(t.name, rel) }

// earlier is what the newest backup of the source that is not known to be damaged holds under name, or nil. It only
// saves reading: where it cannot be had, the files are read.
func (p *PartWriter) earlier(ctx context.Context, name string) *snapshot.DirEntry {
	all, err := p.r.List(ctx, Filter{Source: p.spec.Source})
	newest := slices.IndexFunc(all, func(b remora.Backup) bool {
		_, ok := b.Part(p.spec.Kind)
		return ok && b.Status != remora.Corrupted && !b.Status.NoBackup()
	})
	var at *snapshot.DirEntry
	if newest >= 0 {
		at, err = p.r.partOf(ctx, all[newest].ID, p.spec.Kind)
	}
	for elem := range strings.SplitSeq(name, "/") {
		if at == nil || err != nil {
			break
		}
		var children map[string]*snapshot.DirEntry
		children, err = p.r.children(ctx, at)
		at = children[elem]
	}
	if err != nil {
		p.r.log.Warn("an earlier backup cannot be compared with", "source", p.spec.Source, "directory", name, "error", err)
		return nil
	}
	return at
}

func describe(name string, kind snapshot.EntryType, info fs.FileInfo) snapshot.DirEntry {
	entry := snapshot.DirEntry{
		Name: name, Type: kind, Permissions: snapshot.Permissions(info.Mode() & kopiafs.ModBits),
		ModTime: kopiafs.UTCTimestampFromTime(info.ModTime()),
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		entry.UserID, entry.GroupID = st.Uid, st.Gid
	}
	return entry
}

func kindName(m fs.FileMode) string {
	switch {
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeNamedPipe != 0:
		return "pipe"
	case m&fs.ModeDevice != 0:
		return "device"
	default:
		return "special file"
	}
}
