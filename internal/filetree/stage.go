package filetree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

const stageOp = "stage the files"

// copies is how many files are copied, and compared, at a time.
const (
	copies   = 4
	compares = 2
)

// Stage builds the directories of the part again, in a fresh private folder beside the root.
func (t *Tree) Stage(ctx context.Context, job remora.Job, from fs.FS) (remora.Summary, error) {
	if err := checkRun(stageOp, job.Run); err != nil {
		return remora.Summary{}, err
	}
	p, err := t.readPart(stageOp, from)
	if err != nil {
		return remora.Summary{}, err
	}
	h, err := t.lock(ctx, stageOp, job.Run)
	if err != nil {
		return remora.Summary{}, err
	}
	defer h.release()
	j, err := t.beginStage(h, job, p)
	if err != nil {
		_ = t.tidy(h) // the lock file alone is left, if anything
		return remora.Summary{}, err
	}
	warnings, err := t.fill(ctx, job, h, j, p, from)
	if err != nil {
		return remora.Summary{}, fault(stageOp, t.work, err)
	}
	j.State = staged
	if err := h.write(stageOp, j); err != nil {
		return remora.Summary{}, err
	}
	sum := p.summary()
	sum.Warnings = warnings
	return sum, nil
}

// beginStage writes the journal of a fresh attempt and clears away the earlier ones.
func (t *Tree) beginStage(h *held, job remora.Job, p part) (*journal, error) {
	old, err := t.ours(stageOp, h.work, job.Run)
	if err != nil {
		return nil, err
	}
	if old != nil && (old.Seq > 0 || old.State == discarding) {
		return nil, &remora.Problem{
			Op: stageOp, Kind: remora.Fenced, Subject: "run " + job.Run,
			Err: errors.New("the journal says that this restore has already been switched or ended"), Hint: "start a new restore",
		}
	}
	places, err := t.places(stageOp)
	if err != nil {
		return nil, err
	}
	j := &journal{
		Format: journalFormat, Installation: t.installation, Source: t.source, Run: job.Run, Host: t.where(), Root: t.root,
		State: staging, Attempt: 1, Live: remora.Replaced, Was: remora.Replaced, Since: time.Now().UTC().Truncate(time.Second),
		Stay: t.exclude.with(p.Exclude), RootEntry: p.Root,
	}
	if old != nil {
		j.Attempt, j.Since = old.Attempt+1, old.Since
	}
	for _, at := range places {
		if _, ok := p.directory(at.dir); ok {
			j.Directories = append(j.Directories, journalDirectory{Path: at.dir, Existed: at.exists, Before: at.id})
		}
	}
	if err := t.unsettled(stageOp, job.Run, t.dirs); err != nil {
		return nil, err
	}
	if err := h.write(stageOp, j); err != nil {
		return nil, err
	}
	if err := removeTree(h.work, job.Run); err != nil {
		return nil, fault(stageOp, filepath.Join(t.work, job.Run), err)
	}
	return j, t.space(stageOp, p.total())
}

// fill copies every directory of the part, flushes all to disk, and notes what was made.
func (t *Tree) fill(ctx context.Context, job remora.Job, h *held, j *journal, p part, from fs.FS) ([]string, error) {
	if err := h.work.MkdirAll(j.stageName(), 0o700); err != nil {
		return nil, err
	}
	root, err := h.work.OpenRoot(j.stageName())
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	s := &stager{root: root, from: from, own: currentOwnership(), job: job}
	for i := range j.Directories {
		d, _ := p.directory(j.Directories[i].Path)
		if err := s.directory(ctx, d); err != nil {
			return nil, err
		}
		info, err := root.Lstat(d.Path)
		if err != nil {
			return nil, err
		}
		j.Directories[i].Staged = identityOf(info)
	}
	return s.warnings(), flush(root)
}

// flush returns when everything on the file system of root is on disk.
func flush(root *os.Root) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return unix.Syncfs(int(f.Fd()))
}

// stager builds directories below root. Regular files are copied several at a time; symlinks come after them, so
// that nothing can be written through one, and what a directory is like comes last, since filling it changes that.
type stager struct {
	root *os.Root
	from fs.FS
	own  ownership
	job  remora.Job

	made    count
	folders []entry // parents first
	links   []entry
	meter   meter

	lock               sync.Mutex
	stripped, disowned int64
}

// entry is something of the part on its way to disk.
type entry struct {
	at    string // the path below root, and in the part
	rel   string // the path within its directory
	mode  fs.FileMode
	mtime time.Time
	owner remora.FileOwner
	owned bool
	attrs map[string][]byte
	size  int64
}

func entryOf(d partDirectory, rel string, info fs.FileInfo) entry {
	e := entry{at: path.Join(d.Path, rel), rel: rel, mode: info.Mode(), mtime: info.ModTime(), attrs: d.Attributes[rel], size: info.Size()}
	e.owner, e.owned = ownerOf(info)
	return e
}

// top is the directory itself, as part.json describes it.
func (d partDirectory) top() entry {
	return entry{
		at: d.Path, rel: ".", mode: fs.ModeDir | fileMode(d.Mode), mtime: d.Modified,
		owner: remora.FileOwner{UID: d.UID, GID: d.GID}, owned: true, attrs: d.Attributes["."],
	}
}

func (s *stager) directory(ctx context.Context, d partDirectory) error {
	s.made, s.folders, s.links = count{Directories: 1}, []entry{d.top()}, nil
	s.meter = meter{job: s.job, now: remora.Progress{Phase: "stage " + d.Path, Total: d.Bytes, Unit: "bytes", Since: time.Now()}}
	if err := s.root.MkdirAll(d.Path, 0o700); err != nil {
		return err
	}
	files, ctx := errgroup.WithContext(ctx)
	files.SetLimit(copies)
	err := walkPart(ctx, stageOp, s.from, d.Path, ".", func(rel string, entries []fs.FileInfo) error {
		for _, info := range entries {
			e := entryOf(d, path.Join(rel, info.Name()), info)
			s.made.add(e.mode, e.size)
			switch {
			case e.mode.IsDir():
				s.folders = append(s.folders, e)
				if err := s.root.Mkdir(e.at, 0o700); err != nil {
					return err
				}
			case e.mode.IsRegular():
				files.Go(func() error { return s.file(ctx, e) })
			default:
				s.links = append(s.links, e)
			}
		}
		return nil
	})
	// The error of a copy is the cause when it has cancelled the walk.
	if failed := files.Wait(); failed != nil {
		err = failed
	}
	if err != nil {
		return err
	}
	if s.made != d.count {
		return corrupt(stageOp, "directory "+d.Path, fmt.Sprintf("part.json counts %v (files, directories, symlinks, bytes), the part holds %v", d.count, s.made))
	}
	return s.finish()
}

// finish makes the symlinks and then dresses the directories, the deepest first.
func (s *stager) finish() error {
	for _, e := range s.links {
		if err := s.link(e); err != nil {
			return err
		}
	}
	for i := len(s.folders) - 1; i >= 0; i-- {
		e := s.folders[i]
		f, err := s.root.Open(e.at)
		if err != nil {
			return err
		}
		err = s.dress(f, e)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (s *stager) file(ctx context.Context, e entry) (err error) {
	in, err := s.from.Open(e.at)
	if err != nil {
		return fmt.Errorf("open %s in the backup: %w", e.at, err)
	}
	defer func() { _ = in.Close() }()
	out, err := s.root.OpenFile(e.at, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	s.meter.item(e.rel)
	buffer, _ := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(out, &watched{ctx: ctx, meter: &s.meter})}, struct{ io.Reader }{in}, *buffer)
	if err != nil {
		return fault(stageOp, e.at, err)
	}
	if n != e.size {
		return corrupt(stageOp, e.at, fmt.Sprintf("it should have %d bytes, but has %d", e.size, n))
	}
	return s.dress(out, e)
}

func (s *stager) link(e entry) error {
	target, err := readLink(stageOp, s.from, e.at)
	if err != nil {
		return err
	}
	if err := s.root.Symlink(target, e.at); err != nil {
		return err
	}
	if e.owned && s.own.may(e.owner) {
		if err := s.root.Lchown(e.at, int(e.owner.UID), int(e.owner.GID)); err != nil {
			return err
		}
	}
	if e.mtime.IsZero() {
		return nil
	}
	folder, err := s.root.Open(path.Dir(e.at))
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }()
	return touch(folder, path.Base(e.at), e.mtime)
}

// dress gives an open file or directory its owner, mode, extended attributes and time, in the order in which none
// undoes another.
func (s *stager) dress(f *os.File, e entry) error {
	given := e.owned && s.own.may(e.owner)
	if given {
		if err := f.Chown(int(e.owner.UID), int(e.owner.GID)); err != nil {
			return fault(stageOp, e.at, err)
		}
	}
	mode := safeMode(e.mode, given)
	s.note(e, mode, given)
	if err := f.Chmod(mode); err != nil {
		return fault(stageOp, e.at, err)
	}
	for name, value := range e.attrs {
		if err := setAttribute(f, name, value); err != nil {
			return fault(stageOp, e.at, fmt.Errorf("set the extended attribute %q: %w", name, err))
		}
	}
	if e.mtime.IsZero() {
		return nil
	}
	return s.root.Chtimes(e.at, time.Time{}, e.mtime)
}

// note counts what could not be given back.
func (s *stager) note(e entry, mode fs.FileMode, given bool) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if unixMode(mode) != unixMode(e.mode) {
		s.stripped++
	}
	if e.owned && !given {
		s.disowned++
	}
}

func (s *stager) warnings() []string {
	var w []string
	if s.stripped > 0 {
		w = append(w, fmt.Sprintf("%d entries had setuid, setgid or sticky bits that are not restored", s.stripped))
	}
	if s.disowned > 0 {
		w = append(w, fmt.Sprintf("%d entries belong to uid %d now, because the worker may not give them to their recorded owners", s.disowned, s.own.uid))
	}
	return w
}

// setAttribute refuses names that a capture of ours never stores.
func setAttribute(f *os.File, name string, value []byte) error {
	if !kept(name) {
		return errors.New("this name is not restored")
	}
	return unix.Fsetxattr(int(f.Fd()), name, value, 0)
}

// touch sets the time of an entry of an open folder, never of what a symlink points to.
func touch(folder *os.File, name string, mtime time.Time) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: mtime.Unix(), Nsec: int64(mtime.Nanosecond())}}
	return unix.UtimesNanoAt(int(folder.Fd()), name, times, unix.AT_SYMLINK_NOFOLLOW)
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// meter counts bytes of several files at once and tells whoever listens.
type meter struct {
	lock sync.Mutex
	job  remora.Job
	now  remora.Progress
}

func (m *meter) item(name string) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.now.Item = name
	m.job.Tell(m.now)
}

func (m *meter) add(n int64) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.now.Done += n
	m.job.Tell(m.now)
}

// watched is a writer that counts, and ends a copy when its context ends.
type watched struct {
	ctx   context.Context //nolint:containedctx // it lives as long as one copy
	meter *meter
}

func (w *watched) Write(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	w.meter.add(int64(len(b)))
	return len(b), nil
}

// removeTree removes a folder of ours with everything in it, never following a symlink. Directories that their owner
// may not write to are opened up first.
func removeTree(root *os.Root, name string) error {
	err := root.RemoveAll(name)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	walk := fs.WalkDir(root.FS(), name, func(at string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && err == nil {
			return root.Chmod(at, 0o700)
		}
		return nil
	})
	return errors.Join(walk, root.RemoveAll(name))
}
