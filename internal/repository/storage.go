package repository

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/blob/filesystem"
	"github.com/kopia/kopia/repo/blob/sharded"
	"golang.org/x/sys/unix"
)

// directoryType is the storage type in kopia's connection file. Its options hold no secret.
const directoryType = "remora-dir"

// little is the free space, in bytes, below which nothing optional is written.
const little = 64 << 20

// init registers the storage type.
func init() { //nolint:gochecknoinits // kopia opens storages through its registry alone
	blob.AddSupportedStorage(directoryType, directoryOptions{}, func(ctx context.Context, o *directoryOptions, create bool) (blob.Storage, error) {
		return openDirectory(ctx, o.Path, create)
	})
}

type directoryOptions struct {
	Path string `json:"path"`
}

// directory keeps blobs in a local directory, in kopia's own layout, so that the stock command reads it. It differs in
// how it writes: what an index names is on the disk before the index is, a full or forbidden disk is an error at once
// instead of after ten tries, and a failed write leaves no file behind.
type directory struct {
	blob.Storage
	path string
	file func(ctx context.Context, id blob.ID) (dir, file string, err error)
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
	layout, ok := base.(interface {
		GetShardedPathAndFilePath(ctx context.Context, id blob.ID) (string, string, error)
	})
	if !ok {
		return nil, fmt.Errorf("open directory %s: unknown layout %T", path, base)
	}
	return &directory{Storage: base, path: path, file: layout.GetShardedPathAndFilePath}, nil
}

// ConnectionInfo is what the connection file remembers.
func (d *directory) ConnectionInfo() blob.ConnectionInfo {
	return blob.ConnectionInfo{Type: directoryType, Config: &directoryOptions{Path: d.path}}
}

// DisplayName names the storage for people.
func (d *directory) DisplayName() string { return "directory " + d.path }

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
	if opts.HasRetentionOptions() || opts.DoNotRecreate {
		return fmt.Errorf("put blob %s: %w", id, blob.ErrUnsupportedPutBlobOption)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !strings.HasPrefix(string(id), "p") && !strings.HasPrefix(string(id), "q") && !strings.HasPrefix(string(id), "s") {
		if err := syncDirectory(d.path); err != nil {
			return err
		}
	}
	dir, file, err := d.file(ctx, id)
	if err != nil {
		return err
	}
	if err := d.write(dir, file, data, opts.SetModTime); err != nil {
		return err
	}
	if opts.GetModTime == nil {
		return nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	*opts.GetModTime = info.ModTime()
	return nil
}

func (d *directory) write(dir, file string, data blob.Bytes, modified time.Time) (err error) {
	temp, err := d.createTemp(dir, file)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp.Name()) // the error that matters is the first one
		}
	}()
	if _, err := data.WriteTo(temp); err != nil {
		_ = temp.Close()
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	if !modified.IsZero() {
		if err := os.Chtimes(temp.Name(), modified, modified); err != nil {
			return err
		}
	}
	return os.Rename(temp.Name(), file)
}

func (d *directory) createTemp(dir, file string) (*os.File, error) {
	var suffix [8]byte
	_, _ = rand.Read(suffix[:]) // never fails
	name := fmt.Sprintf("%s.tmp.%x", file, suffix)
	temp, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if !errors.Is(err, fs.ErrNotExist) {
		return temp, err
	}
	if err := d.makeShard(dir); err != nil {
		return nil, err
	}
	return os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

// makeShard creates a directory inside the repository, never the repository itself: it may be an unmounted disk.
func (d *directory) makeShard(dir string) error {
	rel, err := filepath.Rel(d.path, dir)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return root.MkdirAll(rel, 0o700)
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

var leftover = regexp.MustCompile(`\.tmp\.[0-9a-f]{16}$`)

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
