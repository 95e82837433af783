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
func Journalled(m Mode, path string) Mode { return journalled{m, path} }

type journalled struct {
	Mode
	path string
}

func (j journalled) Offline(ctx context.Context, run string) (bool, error) {
	holder, err := j.holder()
	if err != nil || holder == run {
		return false, err
	}
	return j.Mode.Offline(ctx, run)
}

func (j journalled) Enter(ctx context.Context, run string) error {
	if err := j.Claim(run); err != nil {
		return err
	}
	return j.Mode.Enter(ctx, run)
}

func (j journalled) Leave(ctx context.Context, run string) error {
	holder, err := j.holder()
	if err != nil || holder != run || run == "" {
		return err
	}
	if err := j.Mode.Leave(ctx, run); err != nil {
		return err
	}
	return j.problem(os.Remove(j.path))
}

// Claim says that run has the application offline, or is about to: on another machine too, whose word is taken.
func (j journalled) Claim(run string) error {
	if holder, err := j.holder(); err != nil || holder == run {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(j.path), 0o700); err != nil {
		return j.problem(err)
	}
	f, err := os.OpenFile(j.path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return j.problem(err)
	}
	_, err = f.WriteString(run + "\n") // torn, it is nobody's, and the caller has not gone on
	return j.problem(errors.Join(err, f.Sync(), f.Close()))
}

func (j journalled) holder() (string, error) {
	text, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSuffix(string(text), "\n"), j.problem(err)
}

func (j journalled) problem(err error) error {
	return (&file{path: j.path, missing: "make the folder of the worker's state"}).problem("remember whose the maintenance is", err)
}
