package filetree

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"io/fs"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pkg/xattr"
	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

// maxPath bounds the length, in bytes, of a path that is captured or restored. The same path must still fit into
// the 4,095 bytes of a system call when it lies in the work folder, whose name is longer.
const maxPath = 4095 - 200

// count is what a directory holds, itself included.
type count struct {
	Files       int64 `json:"files"`
	Directories int64 `json:"directories"`
	Symlinks    int64 `json:"symlinks"`
	Bytes       int64 `json:"bytes"`
}

func (c *count) add(mode fs.FileMode, size int64) {
	switch {
	case mode.IsRegular():
		c.Files++
		c.Bytes += size
	case mode.IsDir():
		c.Directories++
	case mode&fs.ModeSymlink != 0:
		c.Symlinks++
	}
}

func (c *count) plus(d count) {
	c.Files += d.Files
	c.Directories += d.Directories
	c.Symlinks += d.Symlinks
	c.Bytes += d.Bytes
}

func (c count) String() string {
	return fmt.Sprintf("%d files, %d directories, %d symlinks and %d bytes", c.Files, c.Directories, c.Symlinks, c.Bytes)
}

func (c count) entries() int64 { return c.Files + c.Directories + c.Symlinks }

// census is our own view of a directory on disk, independent of the writer that stores it.
type census struct {
	count
	state hash.Hash64 // of every entry's name, type, mode, size and time

	visit    func(rel string, info fs.FileInfo) error
	job      remora.Job
	progress remora.Progress
}

// same tells whether nothing was added, removed, resized or touched between two looks.
func (c *census) same(d *census) bool {
	return c.count == d.count && c.state.Sum64() == d.state.Sum64()
}

// look walks the directory at base and counts it; visit sees every entry, base itself as ".". It
// refuses by name what a backup could not give back: unreadable entries, names that are not UTF-8, paths that are too
// long.
func look(ctx context.Context, job remora.Job, base string, skip func(rel string) bool, visit func(rel string, info fs.FileInfo) error) (*census, error) {
	c := &census{
		state: fnv.New64a(), visit: visit, job: job,
		progress: remora.Progress{Phase: "count " + filepath.Base(base), Unit: "files", Since: time.Now()},
	}
	return c, filepath.WalkDir(base, func(at string, d fs.DirEntry, err error) error {
		rel := "."
		if at != base {
			rel = filepath.ToSlash(at[len(base)+1:])
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist) && rel != ".":
			return nil // removed while we walked
		case err != nil:
			return err
		case rel != "." && skip(rel):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		return c.entry(at, rel, d)
	})
}

func (c *census) entry(at, rel string, d fs.DirEntry) error {
	switch {
	case !utf8.ValidString(at):
		return refuse(remora.Unsupported, fmt.Sprintf("%q", at), "rename it, or name it in files.exclude", "its name is not valid UTF-8")
	case len(at) > maxPath:
		return refuse(remora.Unsupported, at[:80]+"…", "rename it, or name it in files.exclude", "its path has %d bytes; more than %d cannot be restored", len(at), maxPath)
	}
	info, err := d.Info()
	if err == nil && info.Mode().IsRegular() {
		if err = unix.Faccessat(unix.AT_FDCWD, at, unix.R_OK, unix.AT_EACCESS); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return refuse(remora.Denied, at, "let the worker's user read it, or name it in files.exclude", "%w", err)
		}
	}
	if errors.Is(err, fs.ErrNotExist) && rel != "." {
		return nil
	}
	if err != nil {
		return err
	}
	c.add(info.Mode(), info.Size())
	_, _ = fmt.Fprintf(c.state, "%q %v %d %d\n", rel, info.Mode(), info.Size(), info.ModTime().UnixNano())
	if c.progress.Done++; c.progress.Done%256 == 0 {
		c.progress.Item = rel
		c.job.Tell(c.progress)
	}
	return c.visit(rel, info)
}

// kept tells which extended attributes travel with a backup: those of users, and access control lists.
func kept(name string) bool {
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "system.posix_acl_")
}

// attributes reads the extended attributes of a file or directory; none when the file system knows none, or it is
// gone.
func attributes(at string) (map[string][]byte, error) {
	names, err := xattr.LList(at)
	if none(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found := map[string][]byte{}
	for _, name := range names {
		if !kept(name) {
			continue
		}
		value, err := xattr.LGet(at, name)
		if none(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[name] = value
	}
	return found, nil
}

// none tells whether an error about extended attributes means that there are none.
func none(err error) bool {
	return errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, fs.ErrNotExist)
}
