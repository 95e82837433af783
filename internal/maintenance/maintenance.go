// Package maintenance takes an application offline while its data is switched, and back afterwards.
//
// An application that was offline before stays offline: a run only undoes what it did itself.
package maintenance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// Mode is a way to take an application offline. Both calls may be repeated, also by another process, and may come
// without each other. Errors are *remora.Problem.
type Mode interface {
	// Enter takes the application offline on behalf of a run. Where it is offline already, by somebody else, Enter
	// succeeds and the matching Leave changes nothing.
	Enter(ctx context.Context, run string) error
	// Leave brings the application back, where this run took it offline.
	Leave(ctx context.Context, run string) error
	// String names the mode for people; it is empty for None.
	String() string
}

// None is for applications that are not taken offline: both calls do nothing.
func None() Mode { return none{} }

type none struct{}

func (none) Enter(context.Context, string) error { return nil }
func (none) Leave(context.Context, string) error { return nil }
func (none) String() string                      { return "" }

// FlagFile takes an application offline by making a file that it looks for. The folder of the file must exist. The
// file holds {"run": ..., "since": ...} and can be read by everybody.
func FlagFile(path string) Mode { return flagFile(path) }

type flagFile string

func (f flagFile) String() string { return "file " + string(f) }

type flag struct {
	Run   string    `json:"run"`
	Since time.Time `json:"since"`
}

func (f flagFile) Enter(ctx context.Context, run string) error {
	const op = "take the application offline"
	if err := ctx.Err(); err != nil {
		return err
	}
	text, err := json.Marshal(flag{Run: run, Since: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if err := f.create(append(text, '\n')); err != nil && !errors.Is(err, fs.ErrExist) {
		return f.problem(op, err)
	}
	return nil
}

// create makes the file complete or not at all, and never replaces one: a file that is there means that the
// application is offline already. Whose it is, its content tells.
func (f flagFile) create(text []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(string(f)), ".remora-flag-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	_, err = tmp.Write(text)
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), string(f)); err != nil {
		return err
	}
	return f.sync()
}

func (f flagFile) Leave(ctx context.Context, run string) error {
	const op = "bring the application back"
	if err := ctx.Err(); err != nil {
		return err
	}
	ours, err := f.carries(run)
	if err != nil {
		return f.problem(op, err)
	}
	if !ours {
		return nil
	}
	if err := os.Remove(string(f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f.problem(op, err)
	}
	if err := f.sync(); err != nil {
		return f.problem(op, err)
	}
	return nil
}

// carries tells whether the file is one that this run made. Anything else was there before, or belongs to somebody.
func (f flagFile) carries(run string) (bool, error) {
	text, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var found flag
	understood := json.Unmarshal(text, &found) == nil // else it is somebody else's
	return understood && found.Run == run && run != "", nil
}

func (f flagFile) sync() error {
	folder, err := os.Open(filepath.Dir(string(f)))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func (f flagFile) problem(op string, err error) error {
	p := &remora.Problem{Op: op, Kind: remora.Unavailable, Subject: string(f), Err: err}
	if cause := (*fs.PathError)(nil); errors.As(err, &cause) {
		p.Err = cause.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		p.Kind, p.Hint = remora.Invalid, "make the folder "+filepath.Dir(string(f))+", or correct maintenance.file"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		p.Kind, p.Hint = remora.Denied, "let the worker's user write there"
	case errors.Is(err, syscall.ENOSPC):
		p.Kind, p.Hint = remora.Full, "free some space there"
	}
	return p
}
