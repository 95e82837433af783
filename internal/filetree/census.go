package filetree

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"io/fs"
	"os"
	"path"
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

// census is our own view of a directory on disk, independent of the writer that stores it.
type census struct {
	count
	special int64 // sockets, pipes, devices
	state   hash.Hash64
	device  uint64
	foreign string // the first entry on another file system
}

// same tells whether nothing was added, removed, resized or touched between two looks.
func (c *census) same(d *census) bool {
	return c.count == d.count && c.special == d.special && c.state.Sum64() == d.state.Sum64()
}

func (c *census) add(rel string, info fs.FileInfo) {
	c.count.add(info.Mode(), info.Size())
	if info.Mode()&(fs.ModeSocket|fs.ModeNamedPipe|fs.ModeDevice|fs.ModeIrregular) != 0 {
		c.special++
	}
	if c.foreign == "" && identityOf(info).Device != c.device {
		c.foreign = rel
	}
	_, _ = fmt.Fprintf(c.state, "%q %v %d %d\n", rel, info.Mode(), info.Size(), info.ModTime().UnixNano())
}

// look walks the directory at base and counts it; visit, which may be nil, sees every entry. It refuses by name what
// a backup could not give back: unreadable entries, names that are not UTF-8, paths that are too long.
func look(ctx context.Context, op string, job remora.Job, base string, skip func(rel string) bool, visit func(rel string, info fs.FileInfo) error) (*census, error) {
	info, err := os.Lstat(base)
	if err != nil {
		return nil, fault(op, base, err)
	}
	c := &census{state: fnv.New64a(), device: identityOf(info).Device}
	c.add(".", info)
	progress := remora.Progress{Phase: "count " + filepath.Base(base), Unit: "files", Since: time.Now()}
	w := walker{op: op, base: base, skip: skip, private: os.Geteuid() != 0, visit: func(rel string, info fs.FileInfo) error {
		c.add(rel, info)
		if progress.Done++; progress.Done%256 == 0 {
			progress.Item = rel
			job.Tell(progress)
		}
		if visit == nil {
			return nil
		}
		return visit(rel, info)
	}}
	return c, w.walk(ctx, "")
}

type walker struct {
	op, base string
	skip     func(rel string) bool
	visit    func(rel string, info fs.FileInfo) error
	private  bool // whether this user may meet files that it cannot read
}

func (w walker) walk(ctx context.Context, rel string) error {
	at := filepath.Join(w.base, filepath.FromSlash(rel))
	entries, err := os.ReadDir(at)
	if errors.Is(err, fs.ErrNotExist) && rel != "" {
		return nil // removed while we walked
	}
	if err != nil {
		return fault(w.op, at, err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.entry(ctx, path.Join(rel, e.Name()), e); err != nil {
			return err
		}
	}
	return nil
}

func (w walker) entry(ctx context.Context, rel string, e fs.DirEntry) error {
	if w.skip(rel) {
		return nil
	}
	at := filepath.Join(w.base, filepath.FromSlash(rel))
	if err := w.keepable(at); err != nil {
		return err
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault(w.op, at, err)
	}
	if w.private && info.Mode().IsRegular() {
		if err := unix.Faccessat(unix.AT_FDCWD, at, unix.R_OK, unix.AT_EACCESS); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return w.unreadable(at, err)
		}
	}
	if err := w.visit(rel, info); err != nil || !info.IsDir() {
		return err
	}
	return w.walk(ctx, rel)
}

func (w walker) unreadable(at string, err error) error {
	return &remora.Problem{
		Op: w.op, Kind: remora.Denied, Subject: at, Err: err,
		Hint: "let the worker's user read it, or name it in files.exclude",
	}
}

func (w walker) keepable(at string) error {
	refuse := func(subject, why string) error {
		return &remora.Problem{
			Op: w.op, Kind: remora.Unsupported, Subject: subject, Err: errors.New(why),
			Hint: "rename it, or name it in files.exclude",
		}
	}
	if !utf8.ValidString(at) {
		return refuse(fmt.Sprintf("%q", at), "its name is not valid UTF-8")
	}
	if len(at) > maxPath {
		return refuse(at[:80]+"…", fmt.Sprintf("its path has %d bytes; more than %d cannot be restored", len(at), maxPath))
	}
	return nil
}

// kept tells which extended attributes travel with a backup: those of users, and access control lists.
func kept(name string) bool {
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "system.posix_acl_")
}

// attributes reads the extended attributes of a file or directory; nil when it has none, or the file system knows
// none, or it is gone.
func attributes(at string) (map[string][]byte, error) {
	names, err := xattr.LList(at)
	if none(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found map[string][]byte
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
		if found == nil {
			found = map[string][]byte{}
		}
		found[name] = value
	}
	return found, nil
}

// none tells whether an error about extended attributes means that there are none.
func none(err error) bool {
	return errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, fs.ErrNotExist)
}
