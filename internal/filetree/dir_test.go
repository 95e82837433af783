package filetree

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/remora-backup/remora/internal/remora"
)

// dirWriter is a part in a plain directory. It stands in for the repository, so that these tests are about what this
// package does and what the file system does, can run thousands of times, and can hand out parts that no repository
// would: TestARealRepositoryGivesItBack covers the seam.
type dirWriter struct {
	dir string
	// mutate, when set, is called before a tree is copied and after its top has been listed.
	mutate func()
	lie    func(*remora.TreeSummary)
}

var _ remora.PartWriter = (*dirWriter)(nil)

func (w *dirWriter) Put(_ context.Context, path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(filepath.Join(w.dir, path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return write(f)
}

func (w *dirWriter) PutTree(_ context.Context, path, dir string, skip func(string) bool) (remora.TreeSummary, error) {
	if w.mutate != nil {
		w.mutate()
	}
	var sum remora.TreeSummary
	to := filepath.Join(w.dir, path)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return sum, err
	}
	err := w.copy(dir, ".", to, skip, &sum)
	if w.lie != nil {
		w.lie(&sum)
	}
	return sum, err
}

func (w *dirWriter) copy(dir, rel, to string, skip func(string) bool, sum *remora.TreeSummary) error {
	if rel != "." && skip(rel) {
		return nil
	}
	from := filepath.Join(dir, rel)
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		sum.Directories++
		if err := os.Mkdir(to, 0o700); err != nil {
			return err
		}
		entries, err := os.ReadDir(from)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := w.copy(dir, filepath.Join(rel, e.Name()), filepath.Join(to, e.Name()), skip, sum); err != nil {
				return err
			}
		}
	case info.Mode()&fs.ModeSymlink != 0:
		sum.Symlinks++
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		if err := os.Symlink(target, to); err != nil {
			return err
		}
	case info.Mode().IsRegular():
		sum.Files++
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		sum.Bytes += int64(len(data))
		if err := os.WriteFile(to, data, 0o600); err != nil {
			return err
		}
		if err := os.Chmod(to, info.Mode()); err != nil {
			return err
		}
	default:
		sum.Skipped = append(sum.Skipped, fmt.Sprintf("%s (%v)", rel, info.Mode().Type()))
		return nil
	}
	st := info.Sys().(*syscall.Stat_t)
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink == 0 { // a new owner takes bits away
		if err := os.Chmod(to, info.Mode()); err != nil {
			return err
		}
	}
	parent, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }()
	return touch(parent, filepath.Base(to), info.ModTime())
}

// fs opens what was written.
func (w *dirWriter) fs() fs.FS { return os.DirFS(w.dir) }

// listener keeps the progress that a job reported.
type listener struct {
	lock sync.Mutex
	got  []remora.Progress
}

func (l *listener) report(p remora.Progress) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.got = append(l.got, p)
}
