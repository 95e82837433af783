package maintenance

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Journalled remembers, in a file of this machine, which run took the application offline, for a mode that cannot see
// it: a Leave that comes out of the blue, as after a workflow was terminated, must not take away what somebody else set.
func Journalled(m Mode, path string) Mode { return journalled{Mode: m, path: path} }

type journalled struct {
	Mode
	path string
	by   string
}

// For is the mode in the hands of one workflow of a run. A program or a hook that was begun cannot be held back any more.
func (j journalled) For(by string) Mode {
	j.by = by
	return j
}

func (j journalled) Offline(ctx context.Context, run string) (bool, error) {
	holder, _, err := j.holder()
	if err != nil || holder == run {
		return false, err
	}
	return j.Mode.Offline(ctx, run)
}

func (j journalled) Enter(ctx context.Context, run string) error {
	if err := j.write(run); err != nil {
		return err
	}
	return j.Mode.Enter(ctx, run)
}

func (j journalled) Leave(ctx context.Context, run string) error {
	if mine, err := j.mine(run); err != nil || !mine {
		return err
	}
	if err := j.Mode.Leave(ctx, run); err != nil {
		return err
	}
	return j.problem(os.Remove(j.path))
}

// mine tells whether it is for us to end what run has entered.
func (j journalled) mine(run string) (bool, error) {
	holder, by, err := j.holder()
	return holder == run && run != "" && (j.by == "" || by == "" || by == j.by), err
}

// Claim says that run has the application offline: on another machine too, whose word is taken where nothing here says
// otherwise.
func (j journalled) Claim(run string) error {
	if holder, _, err := j.holder(); err != nil || holder == run {
		return err
	}
	return j.write(run)
}

func (j journalled) write(run string) error {
	if err := os.MkdirAll(filepath.Dir(j.path), 0o700); err != nil {
		return j.problem(err)
	}
	f, err := os.OpenFile(j.path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return j.problem(err)
	}
	_, err = f.WriteString(run + "\n" + j.by) // torn, it is nobody's, and the caller has not gone on
	return j.problem(errors.Join(err, f.Sync(), f.Close()))
}

// holder is the run that has entered, and which of its workflows did.
func (j journalled) holder() (run, by string, err error) {
	text, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	run, by, _ = strings.Cut(string(text), "\n")
	return run, by, j.problem(err)
}

func (j journalled) problem(err error) error {
	return (&file{path: j.path, missing: "make the folder of the worker's state"}).problem("remember whose the maintenance is", err)
}
