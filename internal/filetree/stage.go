package filetree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

// Stage builds the directories of the part again, in a fresh private folder on the file system of each.
func (t *Tree) Stage(ctx context.Context, job remora.Job, from fs.FS) (sum remora.Summary, err error) {
	defer tell("stage the files", t.work, &err)
	p, err := t.readPart(ctx, job, from)
	if err != nil {
		return sum, err
	}
	h, err := t.lock(ctx, job.Run)
	if err != nil {
		return sum, err
	}
	defer h.release()
	j, err := t.beginStage(h, job, p)
	if err != nil {
		_ = t.tidy(h) // the lock file alone is left, if anything
		return sum, err
	}
	warnings, err := t.fill(ctx, job, h, j, p, from)
	if err != nil {
		return sum, err
	}
	j.State = staged
	sum = p.summary()
	sum.Warnings = warnings
	return sum, h.write(j)
}

// beginStage writes the journal of a fresh attempt and clears away the earlier ones.
func (t *Tree) beginStage(h *held, job remora.Job, p part) (*journal, error) {
	j := &journal{
		Format: journalFormat, Installation: t.cfg.Installation, Source: t.cfg.Source, Run: job.Run, Host: t.where(), Root: t.cfg.Root,
		ByEntry: t.cfg.ByEntry, Copy: t.copies(), State: staging, Attempt: 1, Live: remora.Replaced, Since: time.Now().UTC().Truncate(time.Second),
		Stay: slices.Concat(t.exclude, p.Exclude), RootEntry: p.Root,
	}
	old, err := t.ours(h.work, job.Run)
	switch {
	case errors.Is(err, errNoJournal):
	case err != nil:
		return nil, err
	case old.Seq > 0 || old.State == discarding:
		return nil, refuse(remora.Fenced, "run "+job.Run, "start a new restore", "the journal says that this restore has already been switched or ended")
	default:
		j.Attempt, j.Since = old.Attempt+1, old.Since
	}
	places, err := t.places()
	if err != nil {
		return nil, err
	}
	for _, at := range places {
		switch d, ok := p.directory(at.dir); {
		case j.Copy: // what is empty there gives way, and is nothing to go back to
			j.Directories = append(j.Directories, journalDirectory{Path: at.dir})
		case ok:
			j.Directories = append(j.Directories, journalDirectory{Path: at.dir, Before: at.identity, Chosen: d.Chosen})
		}
	}
	if err := t.unsettled(job.Run); err != nil {
		return nil, err
	}
	if err := h.write(j); err != nil {
		return nil, err
	}
	if err := h.clear(job.Run); err != nil {
		return nil, err
	}
	if _, err := t.space(p); err != nil {
		return nil, err
	}
	return j, h.keepRoom(job.Run)
}

// fill copies every directory of the part, flushes all to disk, and notes what was made.
func (t *Tree) fill(ctx context.Context, job remora.Job, h *held, j *journal, p part, from fs.FS) ([]string, error) {
	s := &stager{from: from, own: currentOwnership()}
	if j.Copy {
		s.around = &entry{mode: fs.ModeDir | p.Root.mode(), owner: remora.FileOwner{UID: p.Root.UID, GID: p.Root.GID}, owned: p.Root.Mode != 0}
	}
	for _, d := range p.Directories {
		s.meter = newMeter(job, "stage "+d.Path, d.Bytes)
		err := inStage(h, j, d.Path, func(root *os.Root) error {
			s.root = root
			return errors.Join(s.directory(ctx, d), s.flush())
		})
		if err != nil {
			return nil, err
		}
	}
	for i := range j.Directories {
		var err error
		if j.Directories[i].Staged, err = identityAt(t.putAway(j, j.Directories[i].Path)); err != nil {
			return nil, err
		}
	}
	return s.warnings(), nil
}

// flush returns when all that was staged is on disk.
func (s *stager) flush() error {
	return opened(s.root, ".", func(f *os.File) error { return unix.Syncfs(int(f.Fd())) })
}

// inStage does something in the folder that a directory is staged in.
func inStage(h *held, j *journal, dir string, do func(*os.Root) error) error {
	shelf := h.shelf(dir)
	if err := shelf.MkdirAll(j.stageOf(), 0o700); err != nil {
		return err
	}
	root, err := shelf.OpenRoot(j.stageOf())
	if err != nil {
		return err
	}
	return errors.Join(do(root), root.Close())
}

// stager builds directories below root. Regular files are copied several at a time; symlinks come after them, so
// that nothing can be written through one, and what a directory is like comes last, since filling it changes that.
type stager struct {
	root *os.Root
	from fs.FS
	own  ownership
	// around is what the folders around a directory are like, where they are not live ones.
	around *entry

	made    count
	folders []entry // parents first
	links   []entry
	meter   *meter

	lock               sync.Mutex
	stripped, disowned int64
}

func (s *stager) directory(ctx context.Context, d partDirectory) error {
	s.made, s.folders, s.links = count{Directories: 1}, []entry{d.top()}, nil
	for at := d.Path; s.around != nil && at != "."; {
		at = path.Dir(at)
		folder := *s.around
		folder.at = at
		s.folders = slices.Insert(s.folders, 0, folder)
	}
	if err := s.root.MkdirAll(d.Path, 0o700); err != nil {
		return err
	}
	err := d.walk(ctx, s.from, func(ctx context.Context, files *errgroup.Group, _ string, entries []entry) error {
		for _, e := range entries {
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
	if err != nil {
		return err
	}
	if s.made != d.count {
		return corrupt("directory "+d.Path, "part.json counts %v, but the part holds %v", d.count, s.made)
	}
	for _, e := range s.links {
		if err := s.link(e); err != nil {
			return err
		}
	}
	for _, e := range slices.Backward(s.folders) {
		if err := opened(s.root, e.at, func(f *os.File) error { return s.dress(f, e) }); err != nil {
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
	buffer, _ := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	n, err := io.CopyBuffer(io.MultiWriter(out, s.meter.file(ctx, e.rel)), struct{ io.Reader }{in}, *buffer)
	if err != nil {
		return err
	}
	if n != e.size {
		return corrupt(e.at, "it should have %d bytes, but has %d", e.size, n)
	}
	return s.dress(out, e)
}

func (s *stager) link(e entry) error {
	target, err := readLink(s.from, e.at)
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
	return opened(s.root, path.Dir(e.at), func(folder *os.File) error { return touch(folder, path.Base(e.at), e.mtime) })
}

// dress counts what could not be given back.
func (s *stager) dress(f *os.File, e entry) error {
	disowned, stripped, err := s.own.dress(s.root, f, e)
	s.lock.Lock()
	defer s.lock.Unlock()
	if disowned {
		s.disowned++
	}
	if stripped {
		s.stripped++
	}
	return err
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

func newMeter(job remora.Job, phase string, total int64) *meter {
	return &meter{job: job, now: remora.Progress{Phase: phase, Total: total, Unit: "bytes", Since: time.Now()}}
}

// file is a writer that counts the bytes of one file, and fails when the context ends.
func (m *meter) file(ctx context.Context, name string) io.Writer {
	return writer(func(b []byte) (int, error) {
		m.lock.Lock()
		defer m.lock.Unlock()
		m.now.Item = name
		m.now.Done += int64(len(b))
		m.job.Tell(m.now)
		return len(b), ctx.Err()
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }
