package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
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

// PutTree stores the directory dir under name, with modes, owners and times. Files that an earlier backup of the
// source holds with the same size, time, mode and owner are not read again. Nothing outside dir is ever read, whatever
// links are put in the way. What cannot be read fails by name; what was there and vanished is listed as changed.
func (p *PartWriter) PutTree(ctx context.Context, name, dir string, skip func(rel string) bool) (remora.TreeSummary, error) {
	if err := p.claim(name); err != nil {
		return remora.TreeSummary{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		p.release(name)
		return remora.TreeSummary{}, problem("read the directory", dir, err)
	}
	defer func() { _ = root.Close() }()
	t := &tree{p: p, name: name, dir: dir, root: root, skip: skip, slots: make(chan struct{}, parallelFiles)}
	before, err := p.earlier(ctx, name)
	if err == nil {
		_, err = t.directory(ctx, ".", before)
	}
	if err != nil {
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

const readOp = "read the files"

// problem says which file; kopia's and the disk's own texts do not.
func (t *tree) problem(rel string, err error) error {
	var known *remora.Problem
	if errors.As(err, &known) {
		return err
	}
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = fmt.Errorf("%s: %w", p.Op, p.Err)
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

// directory stores a directory and everything below. It returns nil when the directory has vanished.
func (t *tree) directory(ctx context.Context, rel string, before *snapshot.DirEntry) (*snapshot.DirEntry, error) {
	info, names, err := t.list(rel)
	if rel != "." && errors.Is(err, fs.ErrNotExist) {
		t.note(func(s *remora.TreeSummary) { s.Changed = append(s.Changed, rel+" (vanished)") })
		return nil, nil
	}
	if err != nil {
		return nil, t.problem(rel, err)
	}
	old, err := t.p.r.children(ctx, before)
	if err != nil { // an earlier backup that cannot be read is not needed
		t.p.r.log.Warn("an earlier backup cannot be compared with", "directory", rel, "error", err)
		old = nil
	}
	builder := &snapshotfs.DirManifestBuilder{}
	files, inner := errgroup.WithContext(ctx)
	err = t.each(inner, files, builder, rel, names, old)
	if err := errors.Join(files.Wait(), err); err != nil {
		return nil, firstProblem(err)
	}
	entry, err := writeDir(ctx, t.p.w, builder, describe(t.base(rel), snapshot.EntryTypeDirectory, info))
	if err != nil {
		return nil, problem(writeOp, t.p.r.cfg.Path, err)
	}
	t.p.collapse(t.path(rel), names, entry)
	t.note(func(s *remora.TreeSummary) { s.Directories++ })
	return entry, nil
}

// each stores the entries of one directory: its files in files, its directories one after the other.
func (t *tree) each(ctx context.Context, files *errgroup.Group, to *snapshotfs.DirManifestBuilder, dir string, names []string, old map[string]*snapshot.DirEntry) error {
	for _, name := range names {
		if err := errors.Join(ctx.Err(), t.p.trouble()); err != nil {
			return err
		}
		rel := path.Join(dir, name)
		if t.skip != nil && t.skip(rel) {
			continue
		}
		if !utf8.ValidString(name) {
			return &remora.Problem{Op: readOp, Kind: remora.Unsupported, Subject: quote(filepath.Join(t.dir, rel)), Hint: "rename it, or exclude it in the configuration", Err: errors.New("the name is not UTF-8, and could not be told from another one later")}
		}
		info, err := t.root.Lstat(rel)
		if errors.Is(err, fs.ErrNotExist) {
			t.note(func(s *remora.TreeSummary) { s.Changed = append(s.Changed, rel+" (vanished)") })
			continue
		}
		if err != nil {
			return t.problem(rel, err)
		}
		var entry *snapshot.DirEntry
		switch info.Mode().Type() {
		case fs.ModeDir:
			entry, err = t.directory(ctx, rel, old[name])
		case fs.ModeSymlink:
			entry, err = t.link(ctx, rel, info)
		case 0:
			t.slots <- struct{}{}
			files.Go(func() error {
				defer func() { <-t.slots }()
				entry, err := t.file(ctx, rel, old[name])
				if entry != nil {
					t.p.keepEntry(t.path(rel), entry)
					to.AddEntry(entry)
				}
				return err
			})
		default:
			t.note(func(s *remora.TreeSummary) {
				s.Skipped = append(s.Skipped, fmt.Sprintf("%s (%s)", rel, kindName(info.Mode())))
			})
		}
		if err != nil {
			return err
		}
		if entry != nil {
			to.AddEntry(entry)
		}
	}
	return nil
}

func (t *tree) list(rel string) (fs.FileInfo, []string, error) {
	d, err := t.root.Open(rel)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = d.Close() }()
	info, err := d.Stat()
	if err != nil {
		return nil, nil, err
	}
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return info, names, err
}

func (t *tree) link(ctx context.Context, rel string, info fs.FileInfo) (*snapshot.DirEntry, error) {
	target, err := t.root.Readlink(rel)
	if err != nil {
		return nil, t.problem(rel, err)
	}
	id, err := putBytes(ctx, t.p.w, "link", []byte(target))
	if err != nil {
		return nil, problem(writeOp, t.p.r.cfg.Path, err)
	}
	entry := describe(path.Base(rel), snapshot.EntryTypeSymlink, info)
	entry.ObjectID, entry.FileSize = id, int64(len(target))
	t.p.keepEntry(t.path(rel), &entry)
	t.note(func(s *remora.TreeSummary) { s.Symlinks++ })
	return &entry, nil
}

// file stores a file, as long as it was when it was opened. It returns nil when the file has vanished.
func (t *tree) file(ctx context.Context, rel string, before *snapshot.DirEntry) (*snapshot.DirEntry, error) {
	f, err := t.root.OpenFile(rel, os.O_RDONLY|unix.O_NONBLOCK, 0) // never waits, should it have become a pipe
	if errors.Is(err, fs.ErrNotExist) {
		t.note(func(s *remora.TreeSummary) { s.Changed = append(s.Changed, rel+" (vanished)") })
		return nil, nil
	}
	if err != nil {
		return nil, t.problem(rel, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, t.problem(rel, err)
	}
	if !info.Mode().IsRegular() {
		t.note(func(s *remora.TreeSummary) { s.Changed = append(s.Changed, rel+" (replaced)") })
		return nil, nil
	}
	entry := describe(path.Base(rel), snapshot.EntryTypeFile, info)
	entry.FileSize = info.Size()
	if same(&entry, before) {
		entry.ObjectID = before.ObjectID
	} else if err := t.read(ctx, rel, f, info, &entry); err != nil {
		return nil, err
	}
	t.note(func(s *remora.TreeSummary) { s.Files++; s.Bytes += entry.FileSize })
	return &entry, nil
}

func (t *tree) read(ctx context.Context, rel string, f *os.File, info fs.FileInfo, entry *snapshot.DirEntry) error {
	name := t.path(rel)
	to := t.p.open(ctx, name)
	defer t.p.close(name, to)
	counted := &stream{ctx: ctx, p: t.p, to: to}
	if _, err := io.CopyBuffer(counted, onlyReader{io.LimitReader(f, info.Size())}, make([]byte, 256<<10)); err != nil {
		return t.problem(rel, err)
	}
	id, err := to.Result()
	if err != nil {
		return problem(writeOp, t.p.r.cfg.Path, err)
	}
	entry.ObjectID, entry.FileSize = id, counted.n
	after, err := f.Stat()
	if err != nil {
		return t.problem(rel, err)
	}
	if counted.n != after.Size() || !after.ModTime().Equal(info.ModTime()) {
		t.note(func(s *remora.TreeSummary) { s.Changed = append(s.Changed, rel) })
	}
	return nil
}

type onlyReader struct{ io.Reader }

// same tells whether the file that before describes is this one, unread.
func same(now, before *snapshot.DirEntry) bool {
	return before != nil && before.Type == now.Type && before.FileSize == now.FileSize && before.ModTime == now.ModTime &&
		before.Permissions == now.Permissions && before.UserID == now.UserID && before.GroupID == now.GroupID
}

func (t *tree) path(rel string) string { return path.Join(t.name, rel) }

func (t *tree) base(rel string) string { return path.Base(t.path(rel)) }

// collapse puts a finished directory in the place of its entries.
func (p *PartWriter) collapse(dir string, names []string, entry *snapshot.DirEntry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		delete(p.entries, path.Join(dir, name))
	}
	p.entries[dir] = entry
}

// earlier is what the newest backup of the source that is not known to be damaged holds under name, or nil.
func (p *PartWriter) earlier(ctx context.Context, name string) (*snapshot.DirEntry, error) {
	var err error
	p.previous.Do(func() { p.before, err = p.r.newestPart(ctx, p.spec.Source, p.spec.Kind) })
	if err != nil || p.before == nil {
		return nil, err
	}
	at := p.before
	for elem := range pathElements(name) {
		children, err := p.r.children(ctx, at)
		if err != nil || children[elem] == nil {
			return nil, nil // what cannot be read is not needed: the files are read instead
		}
		at = children[elem]
	}
	return at, nil
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

// firstProblem prefers what a person can act on to the cancellations that it caused.
func firstProblem(err error) error {
	var known *remora.Problem
	if errors.As(err, &known) {
		return known
	}
	return err
}
