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
func (d *directory) ConnectionInfo() blob.ConnectionInfo {
	return blob.ConnectionInfo{Type: directoryType, Config: &directoryOptions{Path: d.path}}
}

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
	if err = cmp.Or(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), name)
	}
	if err != nil {
		_ = os.Remove(temp.Name()) // the error that matters is the first one
	}
	return err
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
