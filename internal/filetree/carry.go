package filetree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// carry gives the restored directory what lives in the replaced one and is in no backup: entries that the exclude
// patterns leave out, sockets and pipes (S8). Files are linked, not copied, where the file system allows it: the two
// sides share them. What the restored directory already has is left alone, so it may be repeated. It returns how many
// entries it added.
func (t *Tree) carry(ctx context.Context, j *journal, dir string) (int64, error) {
	live, err := os.OpenRoot(t.live(dir))
	if err != nil {
		return 0, err
	}
	defer func() { _ = live.Close() }()
	stage, err := os.OpenRoot(path.Join(t.work, j.stageName(), dir))
	if err != nil {
		return 0, err
	}
	defer func() { _ = stage.Close() }()
	c := &carrier{ctx: ctx, live: live, stage: stage, stay: j.Stay, own: currentOwnership()}
	if err := c.folder("."); err != nil {
		return c.added, fault("carry what the backup leaves out", t.live(dir), err)
	}
	return c.added, nil
}

type carrier struct {
	ctx         context.Context //nolint:containedctx // it lives as long as one call
	live, stage *os.Root
	stay        patterns
	own         ownership
	added       int64
}

// folder looks for entries that stay, at any depth.
func (c *carrier) folder(rel string) error {
	entries, err := c.list(rel)
	if err != nil {
		return err
	}
	for _, info := range entries {
		at := path.Join(rel, info.Name())
		switch {
		case c.stay.match(at) || info.Mode()&(fs.ModeSocket|fs.ModeNamedPipe) != 0:
			err = c.add(at, info)
		case info.IsDir():
			err = c.folder(at)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	return nil
}

func (c *carrier) list(rel string) ([]fs.FileInfo, error) {
	if err := c.ctx.Err(); err != nil {
		return nil, err
	}
	f, err := c.live.Open(rel)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return f.Readdir(-1)
}

// add carries one entry, with everything in it.
func (c *carrier) add(at string, info fs.FileInfo) error {
	times, err := c.above(at)
	if err != nil || times == nil {
		return err
	}
	there, err := c.stage.Lstat(at)
	if err == nil && (!there.IsDir() || !info.IsDir()) {
		return nil // what the backup has, wins; the live one stays on the replaced side
	}
	if info.IsDir() {
		return c.addFolder(at, info, errors.Is(err, fs.ErrNotExist))
	}
	if err := c.place(at, info); err != nil {
		return err
	}
	c.added++
	// The folder that took it is as old as the backup says.
	return c.stage.Chtimes(path.Dir(at), time.Time{}, times.ModTime())
}

// above makes the folders that lead to an entry. It returns the last one, or nil when the backup has something else
// in the way.
func (c *carrier) above(at string) (fs.FileInfo, error) {
	dir := path.Dir(at)
	info, err := c.stage.Lstat(dir)
	if err == nil {
		if !info.IsDir() {
			return nil, nil
		}
		return info, nil
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return nil, err
	}
	if above, err := c.above(dir); above == nil || err != nil {
		return nil, err
	}
	live, err := c.live.Lstat(dir)
	if err != nil {
		return nil, err
	}
	if err := c.mkdir(dir, live); err != nil {
		return nil, err
	}
	return c.stage.Lstat(dir)
}

func (c *carrier) mkdir(at string, like fs.FileInfo) error {
	if err := c.stage.Mkdir(at, 0o700); err != nil {
		return err
	}
	return c.dress(at, like)
}

func (c *carrier) dress(at string, like fs.FileInfo) error {
	owner, _ := ownerOf(like)
	given := c.own.may(owner)
	if given {
		if err := c.stage.Lchown(at, int(owner.UID), int(owner.GID)); err != nil {
			return err
		}
	}
	if err := c.stage.Chmod(at, safeMode(like.Mode(), given)); err != nil {
		return err
	}
	return c.stage.Chtimes(at, time.Time{}, like.ModTime())
}

func (c *carrier) addFolder(at string, info fs.FileInfo, fresh bool) error {
	if fresh {
		if err := c.mkdir(at, info); err != nil {
			return err
		}
		c.added++
	}
	entries, err := c.list(at)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.add(path.Join(at, e.Name()), e); err != nil {
			return err
		}
	}
	if !fresh {
		return nil
	}
	return c.stage.Chtimes(at, time.Time{}, info.ModTime())
}

// place links an entry, or copies it where it must not be linked.
func (c *carrier) place(at string, info fs.FileInfo) error {
	from, err := c.live.Open(path.Dir(at))
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	to, err := c.stage.Open(path.Dir(at))
	if err != nil {
		return err
	}
	defer func() { _ = to.Close() }()
	base := path.Base(at)
	err = unix.Linkat(int(from.Fd()), base, int(to.Fd()), base, 0)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EMLINK) && !errors.Is(err, unix.EXDEV):
		return err
	case info.Mode().IsRegular():
		return c.copy(at, info)
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := c.live.Readlink(at)
		if err != nil {
			return err
		}
		return c.stage.Symlink(target, at)
	default:
		return nil // a socket or pipe of somebody else: its server makes it again
	}
}

// copy is complete or absent: it is made under another name first.
func (c *carrier) copy(at string, info fs.FileInfo) error {
	part := path.Join(path.Dir(at), ".remora-carried")
	if err := c.stage.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	in, err := c.live.Open(at)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := c.stage.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, &interrupted{c.ctx, in})
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(err, c.stage.Remove(part))
	}
	if err := c.dress(part, info); err != nil {
		return err
	}
	return c.stage.Rename(part, at)
}

// interrupted is a reader that ends with its context.
type interrupted struct {
	ctx context.Context //nolint:containedctx // it lives as long as one copy
	r   io.Reader
}

func (i *interrupted) Read(b []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(b)
}
