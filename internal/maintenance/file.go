package maintenance

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

// FlagFile takes an application offline by making a file that it looks for. The folder of the file must exist. The
// file holds {"run": ..., "since": ...} and can be read by everybody.
func FlagFile(path string) Mode {
	return &file{
		path: path, title: "file " + path, missing: "make the folder " + filepath.Dir(path) + ", or correct maintenance.file",
		text: func(m mark) ([]byte, error) { return json.Marshal(m) },
		mark: func(text []byte) (m mark, err error) { return m, json.Unmarshal(text, &m) },
	}
}

// file is a mode whose truth is one file, complete or not there; whose it is, its content tells.
type file struct {
	path, title, missing string
	text                 func(mark) ([]byte, error)
	mark                 func(text []byte) (mark, error)
	// by is who enters and leaves for a run; empty leaves for whoever it was.
	by string
}

// For is the mode in the hands of one workflow of a run: what that has entered, another one's late Leave does not end (S3).
func (f *file) For(by string) Mode {
	own := *f
	own.by = by
	return &own
}

// mark says whose the file is.
type mark struct {
	Run   string    `json:"run"`
	Since time.Time `json:"since"`
	// By is which workflow of the run has entered last.
	By string `json:"by,omitempty"`
}

func (f *file) String() string { return f.title }

func (f *file) Offline(_ context.Context, run string) (bool, error) {
	found, err := f.read()
	if err == nil { // whoever asks is going to enter
		err = syscall.Access(filepath.Dir(f.path), unix.W_OK|unix.X_OK)
	}
	return err == nil && found != nil && !f.carries(found, run), f.problem("ask whether the application is offline", err)
}

func (f *file) Enter(ctx context.Context, run string) error {
	const op = "take the application offline"
	if err := ctx.Err(); err != nil {
		return err
	}
	text, err := f.text(mark{Run: run, By: f.by, Since: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	err = f.create(ctx, run, append(text, '\n'), os.Link)
	if errors.Is(err, fs.ErrExist) { // the application is offline already: where by another workflow of the run, it is ours now
		found, readErr := f.read()
		if err = readErr; err == nil && f.carries(found, run) && !f.mine(found, run) {
			err = f.create(ctx, run, append(text, '\n'), os.Rename)
		}
	}
	return f.problem(op, err)
}

// create makes the file complete or not at all, and puts it in its place: with a link it never replaces one. It belongs to the owner of its folder, as far as we may say so: the application
// reads, and its own command replaces and removes it.
func (f *file) create(ctx context.Context, run string, text []byte, put func(from, to string) error) (err error) {
	folder := filepath.Dir(f.path)
	owner, err := os.Stat(folder)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(folder, f.beginnings(run))
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // a Leave removes what stays
	_, err = tmp.Write(text)
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if at, ok := owner.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := os.Lchown(tmp.Name(), int(at.Uid), int(at.Gid)); err != nil && !errors.Is(err, syscall.EPERM) {
			return err
		}
	}
	if err := cmp.Or(ctx.Err(), put(tmp.Name(), f.path)); err != nil { // the disk may have stood still meanwhile
		return err
	}
	return f.sync()
}

// beginnings is the pattern of what Enter makes before the file is complete; a crash leaves it for Leave.
func (f *file) beginnings(run string) string {
	sum := sha256.Sum256([]byte(run))
	return ".remora-" + hex.EncodeToString(sum[:6]) + "-*"
}

func (f *file) Leave(ctx context.Context, run string) error {
	const op = "bring the application back"
	if err := ctx.Err(); err != nil {
		return err
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(f.path), f.beginnings(run)))
	for _, name := range left {
		_ = os.Remove(name) // the other worker that still needs it tries again
	}
	found, err := f.read()
	if err != nil {
		return f.problem(op, err)
	}
	if !f.mine(found, run) {
		return nil
	}
	// Whoever froze here may find another file in the place: it is looked at again where nobody can exchange it.
	aside := filepath.Join(filepath.Dir(f.path), strings.Replace(f.beginnings(run), "*", rand.Text(), 1))
	if err = os.Rename(f.path, aside); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if found, _ := os.ReadFile(aside); err == nil && f.mine(found, run) {
		err = os.Remove(aside)
	} else if err == nil {
		err = os.Rename(aside, f.path)
	}
	return f.problem(op, errors.Join(err, f.sync()))
}

// mine tells whether it is for us to end what the file begins.
func (f *file) mine(text []byte, run string) bool {
	m, _ := f.mark(text)
	return f.carries(text, run) && (f.by == "" || m.By == "" || m.By == f.by)
}

// carries tells whether the file is one that this run made. What we do not understand is somebody else's.
func (f *file) carries(text []byte, run string) bool {
	m, err := f.mark(text)
	return err == nil && m.Run == run && run != ""
}

// read gives the content of the file; nil where there is none.
func (f *file) read() ([]byte, error) {
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

func (f *file) sync() error {
	folder, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func (f *file) problem(op string, err error) error {
	if err == nil {
		return nil
	}
	p := &remora.Problem{Op: op, Kind: remora.Unavailable, Subject: f.path, Err: remora.Cause(err)}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		p.Kind, p.Hint = remora.Invalid, f.missing
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		p.Kind, p.Hint = remora.Denied, "let the worker's user write there"
	case errors.Is(err, syscall.ENOSPC):
		p.Kind, p.Hint = remora.Full, "free some space there"
	}
	return p
}
