package filetree

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/remora-backup/remora/internal/remora"
)

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
