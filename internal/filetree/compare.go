package filetree

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

// Compare reads the stage back and compares it with the part: every name, byte, mode, owner, time, symlink and
// extended attribute; nothing may be missing and nothing may be there that is not in the part. Only a stage that was
// found equal can be switched to, so a late attempt that stages again cannot slip uncompared files in (as S2).
func (t *Tree) Compare(ctx context.Context, job remora.Job, from fs.FS) (diff remora.Diff, err error) {
	defer tell("compare the staged files with the backup", t.work, &err)
	p, err := t.readPart(ctx, job, from)
	if err != nil {
		return diff, err
	}
	h, j, err := t.take(ctx, job.Run)
	if err != nil {
		return diff, err
	}
	defer h.release()
	if j.State != staged && j.State != compared {
		return diff, refuse(remora.Fenced, "run "+job.Run, "start a new restore", "the journal knows no finished stage of this run")
	}
	c := &comparer{from: from, own: currentOwnership()}
	for _, d := range p.Directories {
		c.read, c.meter = count{}, newMeter(job, "compare "+d.Path, d.Bytes)
		err := inStage(h, j, d.Path, func(root *os.Root) error {
			c.root = root
			return c.directory(ctx, d)
		})
		diff.Compared.Objects++
		diff.Compared.Entries += c.read.Files
		diff.Compared.Bytes += c.read.Bytes
		if errors.Is(err, errEnough) {
			break
		}
		if err != nil {
			return diff, err
		}
	}
	diff.Differences = c.found
	if j.State = staged; diff.Equal() {
		j.State = compared
	}
	return diff, h.write(j)
}

// errEnough ends a comparison that has found as much as anybody wants to read.
var errEnough = errors.New("enough differences")

type comparer struct {
	root *os.Root
	from fs.FS
	own  ownership

	meter *meter
	lock  sync.Mutex
	read  count // of the directory that is being compared
	found []string
}

// differ notes a difference, where it is still worth noting.
func (c *comparer) differ(format string, args ...any) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if len(c.found) < remora.MaxDifferences {
		c.found = append(c.found, remora.OneLine(fmt.Sprintf(format, args...)))
	}
}

// enough is errEnough once so much differs that nobody reads on.
func (c *comparer) enough() error {
	c.lock.Lock()
	defer c.lock.Unlock()
	if len(c.found) == remora.MaxDifferences {
		return errEnough
	}
	return nil
}

func (c *comparer) directory(ctx context.Context, d partDirectory) error {
	info, err := c.root.Lstat(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		c.differ("directory %s is missing", d.Path)
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.like(d.top(), info); err != nil {
		return err
	}
	c.read.Directories++
	err = d.walk(ctx, c.from, c.folder)
	if err == nil && c.read != d.count {
		c.differ("directory %s: part.json counts %v, but %v were read back", d.Path, d.count, c.read)
	}
	return err
}

// folder compares one folder's entries by name, and starts the comparison of its files.
func (c *comparer) folder(ctx context.Context, files *errgroup.Group, at string, want []entry) error {
	info, err := c.root.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || err == nil && !info.IsDir() {
		return nil // noted with its parent
	}
	if err != nil {
		return err
	}
	listed, err := listFolder(c.root, at)
	if err != nil {
		return err
	}
	there := make(map[string]fs.FileInfo, len(listed))
	for _, info := range listed {
		there[info.Name()] = info
	}
	for _, e := range want {
		info, ok := there[path.Base(e.at)]
		delete(there, path.Base(e.at))
		if !ok {
			c.differ("%s is missing", e.at)
			continue
		}
		if err := cmp.Or(c.like(e, info), c.enough()); err != nil {
			return err
		}
		if info.Mode().Type() != e.mode.Type() {
			continue
		}
		c.read.add(info.Mode(), info.Size())
		if e.mode.IsRegular() {
			files.Go(func() error { return c.content(ctx, e) })
		}
	}
	for _, name := range slices.Sorted(maps.Keys(there)) {
		c.differ("%s is not in the backup", path.Join(at, name))
	}
	return c.enough()
}

// like compares everything but the content.
func (c *comparer) like(want entry, got fs.FileInfo) error {
	if want.mode.Type() != got.Mode().Type() {
		c.differ("%s should be of type %v, but is %v", want.at, want.mode.Type(), got.Mode().Type())
		return nil
	}
	given := want.owned && c.own.may(want.owner)
	if mode := safeMode(want.mode, given); want.mode.Type() != fs.ModeSymlink && unixMode(mode) != unixMode(got.Mode()) {
		c.differ("%s should have the mode %04o, but has %04o", want.at, unixMode(mode), unixMode(got.Mode()))
	}
	if owner, _ := ownerOf(got); given && owner != want.owner {
		c.differ("%s should belong to %d:%d, but belongs to %d:%d", want.at, want.owner.UID, want.owner.GID, owner.UID, owner.GID)
	}
	if !sameTime(want.mtime, got.ModTime()) {
		c.differ("%s should be of %v, but is of %v", want.at, want.mtime.UTC(), got.ModTime().UTC())
	}
	if want.mode.Type() == fs.ModeSymlink {
		return c.target(want)
	}
	attrs, err := attributes(filepath.Join(c.root.Name(), filepath.FromSlash(want.at)))
	if err == nil && !maps.EqualFunc(attrs, want.attrs, bytes.Equal) {
		c.differ("%s has other extended attributes", want.at)
	}
	return err
}

// sameTime forgives a file system that keeps times in whole seconds, or micro- or 100 nanoseconds.
func sameTime(want, got time.Time) bool {
	if want.IsZero() {
		return true
	}
	for _, unit := range []time.Duration{1, 100 * time.Nanosecond, time.Microsecond, time.Second} {
		if want.Truncate(unit).Equal(got) {
			return true
		}
	}
	return false
}

func (c *comparer) target(want entry) error {
	wanted, err := readLink(c.from, want.at)
	if err != nil {
		return err
	}
	got, err := c.root.Readlink(want.at)
	if err == nil && got != wanted {
		c.differ("the symlink %s should point to %q, but points to %q", want.at, wanted, got)
	}
	return err
}

// content compares two files byte for byte.
func (c *comparer) content(ctx context.Context, want entry) error {
	in, err := c.from.Open(want.at)
	if err != nil {
		return fmt.Errorf("open %s in the backup: %w", want.at, err)
	}
	defer func() { _ = in.Close() }()
	f, err := c.root.Open(want.at)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	seen := c.meter.file(ctx, want.rel)
	a, _ := buffers.Get().(*[]byte)
	b, _ := buffers.Get().(*[]byte)
	defer buffers.Put(a)
	defer buffers.Put(b)
	for at := int64(0); ; {
		n, errA := io.ReadFull(in, *a)
		m, errB := io.ReadFull(f, *b)
		if err := errors.Join(unexpected(errA), unexpected(errB)); err != nil {
			return fmt.Errorf("read %s: %w", want.at, err)
		}
		if !bytes.Equal((*a)[:n], (*b)[:m]) {
			c.differ("%s has other bytes, or another length, after byte %d", want.at, at)
			return c.enough()
		}
		if _, err := seen.Write((*a)[:n]); err != nil || errA != nil {
			return err
		}
		at += int64(n)
	}
}

// unexpected drops the errors that only say that a file has ended.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

var _ remora.Previewer = (*Tree)(nil)

// Preview compares what is live with the part by names, types, modes, owners, sizes and times, and the content of files
// that differ in their time alone (see docs/decisions, 0039).
func (t *Tree) Preview(ctx context.Context, job remora.Job, from fs.FS) (said remora.Preview, err error) {
	defer tell("compare the live files with the backup", t.cfg.Root, &err)
	p, err := t.readPart(ctx, job, from)
	if err != nil {
		return said, err
	}
	v := &preview{t: t, from: from, stay: slices.Concat(t.exclude, p.Exclude), said: &said}
	if v.root, err = os.OpenRoot(t.cfg.Root); err == nil {
		defer func() { _ = v.root.Close() }()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return said, err
	}
	for _, d := range p.Directories {
		v.directory, v.now = d, remora.DirectoryPreview{Name: d.Path}
		v.meter = newMeter(job, "compare live "+d.Path, 0)
		if err := d.walk(ctx, from, v.folder); err != nil {
			return said, err
		}
		v.now.Now = v.now.Then - v.now.Added + v.now.Removed
		said.Compared.Objects++
		said.Compared.Entries += v.now.Now
		said.Compared.Bytes += v.meter.now.Done
		said.Directories = append(said.Directories, v.now)
	}
	slices.SortFunc(said.Names, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	return said, nil
}

type preview struct {
	t         *Tree
	from      fs.FS
	root      *os.Root // nil where there is none
	stay      patterns
	directory partDirectory
	meter     *meter

	lock sync.Mutex
	now  remora.DirectoryPreview
	said *remora.Preview
}

// note counts an entry that differs, and names it while there is room.
func (v *preview) note(as string, n *int64, at string) {
	v.lock.Lock()
	defer v.lock.Unlock()
	if *n++; len(v.said.Names) < remora.MaxPreviewed {
		v.said.Names = append(v.said.Names, as+" "+remora.Cut(remora.OneLine(at), 200))
	}
}

// list lists a live folder; where there is none, or a link, there is nothing.
func (v *preview) list(at string) ([]fs.FileInfo, error) {
	f, err := folderAt(v.t.cfg.Root, at)
	if errors.Is(err, fs.ErrNotExist) || remora.KindOf(err) == remora.Unsupported {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := f.Readdir(-1)
	return entries, errors.Join(err, f.Close())
}

// folder tells how the entries of one folder differ.
func (v *preview) folder(ctx context.Context, files *errgroup.Group, at string, want []entry) error {
	listed, err := v.list(at)
	if err != nil {
		return err
	}
	there := map[string]fs.FileInfo{}
	for _, info := range listed {
		there[info.Name()] = info
	}
	for _, e := range want {
		v.now.Then++
		name := path.Base(e.at)
		info := there[name]
		delete(there, name)
		switch {
		case info == nil:
			v.note("+", &v.now.Added, e.at)
		case info.Mode().Type() != e.mode.Type(): // another thing of the same name
			v.note("+", &v.now.Added, e.at)
			if err := v.gone(e.at, info); err != nil {
				return err
			}
		default:
			files.Go(func() error {
				differs, err := v.differs(ctx, e, info)
				if differs {
					v.note("~", &v.now.Changed, e.at)
				}
				return err
			})
		}
	}
	for name, info := range there {
		if err := v.gone(path.Join(at, name), info); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// gone counts what is live alone, with all below it.
func (v *preview) gone(at string, info fs.FileInfo) error {
	rel := strings.TrimPrefix(at, v.directory.Path+"/")
	if v.stay.match(rel) || special(info) || !v.directory.means(rel) {
		return nil
	}
	v.note("-", &v.now.Removed, at)
	if !info.IsDir() {
		return nil
	}
	below, err := v.list(at)
	for _, info := range below {
		err = errors.Join(err, v.gone(path.Join(at, info.Name()), info))
	}
	return err
}

// differs compares an entry of the same type.
func (v *preview) differs(ctx context.Context, e entry, info fs.FileInfo) (bool, error) {
	_, err := v.meter.file(ctx, e.rel).Write(nil)
	same := sameTime(e.mtime, info.ModTime())
	e.mtime = time.Time{}
	c := &comparer{from: v.from, root: v.root, own: currentOwnership(), meter: v.meter}
	if err == nil {
		err = c.like(e, info)
	}
	switch {
	case err != nil, len(c.found) > 0, !e.mode.IsRegular():
	case e.size != info.Size():
		return true, nil
	case !same:
		err = c.content(ctx, e)
	}
	if errors.Is(err, fs.ErrNotExist) { // removed while we looked
		return true, nil
	}
	return len(c.found) > 0, err
}
