package filetree

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// carry gives the restored directory what lives in the replaced one and is in no backup: entries that the exclude
// patterns leave out, sockets and pipes (S8). They are linked: the two sides share them. What the restored directory
// already has is left alone, so it may be repeated. It returns how many entries it added.
func (t *Tree) carry(ctx context.Context, j *journal, d journalDirectory) (int64, error) {
	live, err := os.OpenRoot(t.live(d.Path))
	if err != nil {
		return 0, err
	}
	defer func() { _ = live.Close() }()
	stage, err := os.OpenRoot(t.putAway(j, d.Path))
	if err != nil {
		return 0, err
	}
	defer func() { _ = stage.Close() }()
	c := &carrier{live: live, stage: stage, stay: j.Stay, byEntry: j.ByEntry, own: currentOwnership()}
	for _, name := range d.names() {
		there, err := identityIn(t.cfg.Root, path.Join(d.Path, name))
		if err != nil {
			return c.added, err
		}
		if !there.exists() {
			continue
		}
		info, err := live.Lstat(name)
		if err == nil && info.IsDir() {
			err = c.folder(ctx, name, false)
		}
		if err != nil {
			return c.added, err
		}
	}
	return c.added, nil
}

type carrier struct {
	live, stage *os.Root
	stay        patterns
	byEntry     bool
	own         ownership
	added       int64
}

// folder looks for entries that stay, at any depth; in a folder that stays, all do.
func (c *carrier) folder(ctx context.Context, rel string, all bool) error {
	entries, err := listFolder(c.live, rel)
	if err != nil {
		return err
	}
	for _, info := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := path.Join(rel, info.Name())
		stays := all || c.stay.match(at) || special(info)
		if c.byEntry && stays && rel == "." && !c.paired(at) {
			continue // it stays where it is
		}
		there := true
		switch {
		case stays && info.IsDir():
			there, err = c.make(at)
		case stays:
			err = c.link(at, info)
		}
		if err == nil && there && info.IsDir() {
			err = c.folder(ctx, at, stays)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// paired tells whether the stage has something of that name.
func (c *carrier) paired(at string) bool {
	_, err := c.stage.Lstat(at)
	return err == nil && !reserved(at)
}

// special are entries that no backup holds.
func special(info fs.FileInfo) bool { return info.Mode()&(fs.ModeSocket|fs.ModeNamedPipe) != 0 }

func listFolder(root *os.Root, rel string) (entries []fs.FileInfo, err error) {
	err = opened(root, rel, func(f *os.File) error {
		entries, err = f.Readdir(-1)
		return err
	})
	return entries, err
}

// make gives the stage a folder like the live one, and before it those that lead there. It is false when the backup
// has something else in the way: that wins, and the live one stays on the replaced side.
func (c *carrier) make(at string) (bool, error) {
	info, err := c.stage.Lstat(at)
	if err == nil {
		return info.IsDir(), nil
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return false, err
	}
	if ok, err := c.make(path.Dir(at)); !ok || err != nil {
		return false, err
	}
	like, err := c.live.Lstat(at)
	if err != nil {
		return false, err
	}
	return true, c.into(path.Dir(at), func() error {
		if err := c.stage.Mkdir(at, 0o700); err != nil {
			return err
		}
		e := entry{at: at, mode: like.Mode(), mtime: like.ModTime()}
		e.owner, e.owned = ownerOf(like)
		return opened(c.stage, at, func(f *os.File) error {
			_, _, err := c.own.dress(c.stage, f, e)
			return err
		})
	})
}

// into adds one entry to a folder of the stage, which stays as old as the backup says.
func (c *carrier) into(folder string, add func() error) error {
	info, err := c.stage.Lstat(folder)
	if err != nil {
		return err
	}
	if err := add(); err != nil {
		return err
	}
	c.added++
	return c.stage.Chtimes(folder, time.Time{}, info.ModTime())
}

func (c *carrier) link(at string, info fs.FileInfo) error {
	if ok, err := c.make(path.Dir(at)); !ok || err != nil {
		return err
	}
	if _, err := c.stage.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
		return err // what the backup has, wins
	}
	err := c.into(path.Dir(at), func() error {
		return opened(c.live, path.Dir(at), func(from *os.File) error {
			return opened(c.stage, path.Dir(at), func(to *os.File) error {
				return unix.Linkat(int(from.Fd()), path.Base(at), int(to.Fd()), path.Base(at), 0)
			})
		})
	})
	if errors.Is(err, unix.EPERM) && special(info) {
		return nil // somebody else's: its server makes it again
	}
	if err != nil {
		return &fs.PathError{Op: "carry", Path: filepath.Join(c.live.Name(), filepath.FromSlash(at)), Err: err}
	}
	return nil
}
