package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/blob/filesystem"
	"github.com/kopia/kopia/repo/blob/sharded"
	"github.com/remora-backup/remora/internal/remora"
	"golang.org/x/sys/unix"
)

// little is the free space, in bytes, below which nothing optional is written.
const little = 64 << 20

// folder is the path of a directory that holds a repository.
type folder string

func (f folder) String() string { return string(f) }

func (f folder) open(ctx context.Context, create bool) (blob.Storage, error) {
	return openDirectory(ctx, string(f), create)
}

// claim makes the directory, locks it, sees that it is empty, and makes it private.
func (f folder) claim(_ context.Context, op string) (clear, release func(), err error) {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return nil, nil, err
	}
	dir, err := os.Open(string(f))
	if err != nil {
		return nil, nil, err
	}
	release = func() { _ = dir.Close() } // which unlocks it
	if err := lockEmpty(op, dir); err != nil {
		release()
		return nil, nil, err
	}
	clear = func() { // it was empty and locked: whatever is there now is ours
		left, _ := contents(string(f))
		for _, name := range left {
			_ = os.RemoveAll(filepath.Join(string(f), name))
		}
	}
	return clear, release, nil
}

func lockEmpty(op string, dir *os.File) error {
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return remora.Fail(remora.Busy, op, dir.Name(), "wait for the other one to end", "somebody else is creating it")
	}
	found, err := contents(dir.Name())
	switch {
	case err != nil:
		return err
	case slices.Contains(found, fileOf(formatBlob)):
		return remora.Fail(remora.Invalid, op, dir.Name(), "use it as it is, with its own password, or choose another directory", "there already is a repository")
	case len(found) > 0:
		return remora.Fail(remora.Invalid, op, dir.Name(), "choose an empty directory", "the directory is not empty: it holds %q", found[0])
	}
	return dir.Chmod(0o700)
}

// contents names what is in a directory, beside what a new disk has.
func contents(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	var names []string
	for _, e := range entries {
		if e.Name() != "lost+found" {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// fileOf is the name of the file of one of the few blobs with short names.
func fileOf(id blob.ID) string { return string(id) + sharded.CompleteBlobSuffix }

func (f folder) file(id blob.ID) string { return filepath.Join(string(f), fileOf(id)) }

func (f folder) read(_ context.Context, id blob.ID) ([]byte, error) {
	text, err := os.ReadFile(f.file(id))
	if errors.Is(err, fs.ErrNotExist) {
		err = blob.ErrBlobNotFound
	}
	return text, err
}

func (f folder) write(_ context.Context, id blob.ID, text []byte) error {
	return keepFile(f.file(id), text)
}

func (f folder) begun(context.Context) bool {
	_, err := os.Stat(filepath.Join(string(f), ".shards"))
	return err == nil
}

func (f folder) name(id blob.ID) string { return fileOf(id) }

func (f folder) putBack(file string) string {
	return fmt.Sprintf("put the copy of it back with: cp %s %s", cmp.Or(file, f.file(copyBlob)), f.file(formatBlob))
}

func (f folder) settle() error { return syncDirectory(string(f)) }

func (f folder) sweep() error { return sweep(string(f)) }

func (f folder) health(_ context.Context, h *Health) error {
	var s unix.Statfs_t
	if err := unix.Statfs(string(f), &s); err != nil {
		return &fs.PathError{Op: "look at", Path: string(f), Err: err}
	}
	free := int64(s.Bavail) * s.Bsize
	h.Free = &free
	return nil
}

// directory keeps blobs in a local directory, in kopia's own layout, so that the stock command reads it. It differs in
// how it writes: what an index names is on the disk before the index is, a full or forbidden disk is an error at once
// instead of after ten tries, and a failed write leaves no file behind.
type directory struct {
	blob.Storage
	path string
}

func openDirectory(ctx context.Context, path string, create bool) (blob.Storage, error) {
	base, err := filesystem.New(ctx, &filesystem.Options{
		Path:          path,
		FileMode:      0o600,
		DirectoryMode: 0o700,
		Options:       sharded.Options{DirectoryShards: []int{1, 3}, ListParallelism: 4},
	}, create)
	if err != nil {
		return nil, fmt.Errorf("open directory %s: %w", path, err)
	}
	return &directory{Storage: base, path: path}, nil
}

// ConnectionInfo is what the connection file remembers.
func (d *directory) ConnectionInfo() blob.ConnectionInfo { return connectionInfo(folder(d.path)) }

// IsReadOnly keeps kopia from tidying its records while somebody only reads, where the tidying could not be written.
func (d *directory) IsReadOnly() bool {
	if unix.Access(d.path, unix.W_OK) != nil {
		return true
	}
	var s unix.Statfs_t
	return unix.Statfs(d.path, &s) == nil && s.Bavail*uint64(s.Bsize) < little
}

// PutBlob writes a blob atomically. Packs and session markers mean nothing until an index names them; before
// anything else is written, all of them are made durable.
func (d *directory) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if opts.HasRetentionOptions() || opts.DoNotRecreate || !opts.SetModTime.IsZero() {
		return fmt.Errorf("put blob %s: %w", id, blob.ErrUnsupportedPutBlobOption)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !strings.ContainsAny(string(id[:1]), "pqs") {
		if err := syncDirectory(d.path); err != nil {
			return err
		}
	}
	// kopia's storage knows where in its shards the blob belongs.
	_, name, err := d.Storage.(shards).GetShardedPathAndFilePath(ctx, id)
	if err != nil {
		return err
	}
	if err := d.write(name, data); err != nil || opts.GetModTime == nil {
		return err
	}
	info, err := os.Stat(name)
	if err == nil {
		*opts.GetModTime = info.ModTime()
	}
	return err
}

type shards interface {
	GetShardedPathAndFilePath(ctx context.Context, id blob.ID) (dir, file string, err error)
}

func (d *directory) write(name string, data blob.Bytes) error {
	temp, err := d.createTemp(name)
	if err != nil {
		return err
	}
	_, err = data.WriteTo(temp)
	return become(temp, name, err)
}

// createTemp creates the file that will become name, and the shard that it lies in, but never the repository itself:
// it may be an unmounted disk.
func (d *directory) createTemp(name string) (*os.File, error) {
	dir, pattern := filepath.Dir(name), filepath.Base(name)+".tmp.*"
	file, err := os.CreateTemp(dir, pattern) // mode 0600
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	rel, err := filepath.Rel(d.path, dir)
	if err != nil {
		return nil, err
	}
	if err := root.MkdirAll(rel, 0o700); err != nil {
		return nil, err
	}
	return os.CreateTemp(dir, pattern)
}

// syncDirectory makes everything written to the filesystem of path durable, and reports writes that failed meanwhile.
func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return &fs.PathError{Op: "sync", Path: path, Err: err}
	}
	return nil
}

// leftover is the name of a temporary file of ours, or of kopia's.
var leftover = regexp.MustCompile(`\.f\.tmp\.[0-9a-f]+$`)

// sweep removes the temporary files that killed writers left in the repository, once they are a week old.
func sweep(path string) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || !leftover.MatchString(e.Name()) {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && time.Since(info.ModTime()) < 7*24*time.Hour {
			return nil
		}
		if err != nil {
			return err
		}
		return root.Remove(name)
	})
}
