package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// write makes the passwords, the repository and the configuration, the configuration last. When something fails,
// everything that this call made is removed again.
func (b *beginning) write(ctx context.Context) (err error) {
	var made traces
	defer func() {
		if err != nil {
			made.remove()
		}
	}()
	if err := made.folder(filepath.Dir(b.file)); err != nil {
		return err
	}
	password := newPassword()
	if err := made.file(b.draft.RepositoryPasswordAt, password.Reveal()+"\n"); err != nil {
		return err
	}
	if b.password != "" {
		if err := made.file(b.draft.Database.PasswordAt, b.password.Reveal()+"\n"); err != nil {
			return err
		}
	}
	if err := made.repository(ctx, b.draft.RepositoryPath, password); err != nil {
		return err
	}
	return made.file(b.file, string(b.text))
}

// repository creates one with a connection file that is thrown away: whoever opens it makes its own.
func (t *traces) repository(ctx context.Context, path string, password remora.Secret) error {
	state, err := os.MkdirTemp("", "remora-init-")
	if err != nil {
		return initProblem("a temporary directory", err.Error(), "Make room there, or set TMPDIR.")
	}
	defer func() { _ = os.RemoveAll(state) }()
	if err := t.folder(filepath.Dir(path)); err != nil {
		return err
	}
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		*t = append(*t, func() { _ = os.Remove(path) }) // only when it is empty
	}
	err = repository.Create(ctx, repository.Config{
		Path: path, State: filepath.Join(state, "state"), Password: func() (remora.Secret, error) { return password, nil },
	})
	if err == nil {
		t.contents(path) // it was empty a moment ago: what is in it now is ours
	}
	return err
}

// newPassword is one that a person can copy from paper: 200 bits in ten groups of letters and digits.
func newPassword() remora.Secret {
	text := strings.ToLower(rand.Text() + rand.Text())[:40]
	groups := make([]string, 0, 10)
	for group := range slices.Chunk([]byte(text), 4) {
		groups = append(groups, string(group))
	}
	return remora.Secret(strings.Join(groups, "-"))
}

// traces are what a command has made so far, and removes again when it fails.
type traces []func()

// remove removes everything, newest first.
func (t *traces) remove() {
	for _, undo := range slices.Backward(*t) {
		undo()
	}
}

// folder makes a directory and those above it that are missing.
func (t *traces) folder(path string) error {
	var missing []string
	for at := path; ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			break
		}
		missing = append(missing, at)
	}
	for _, dir := range slices.Backward(missing) {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return initProblem(dir, reason(err), "Choose another place, or run the command as a user that may write there.")
		}
		*t = append(*t, func() { _ = os.Remove(dir) })
	}
	return nil
}

// file writes a new file for its owner alone, to the disk. It never overwrites.
func (t *traces) file(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		hint := "Choose another place, or run the command as a user that may write there."
		if errors.Is(err, fs.ErrExist) {
			hint = "It is not overwritten. Move it away if nothing needs it, or choose another folder with --config."
		}
		return initProblem(path, reason(err), hint)
	}
	*t = append(*t, func() { _ = os.Remove(path) })
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return initProblem(path, reason(err), "Make room there, or choose another place with --config.")
	}
	return nil
}

// contents marks what is in a directory, and nothing else, as ours.
func (t *traces) contents(dir string) {
	*t = append(*t, func() {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.Name() != "lost+found" {
				_ = os.RemoveAll(filepath.Join(dir, e.Name()))
			}
		}
	})
}

// reason is why something failed, without the path that the problem names already.
func reason(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}
