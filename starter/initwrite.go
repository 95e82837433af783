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

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// write makes the passwords, the configuration and the repository; that comes last, since it leaves nothing when it
// fails. Then everything else that this call made is removed again.
func (b *beginning) write(ctx context.Context) (err error) {
	var made traces
	defer func() {
		if err != nil {
			made.remove()
		}
	}()
	files := [][2]string{{b.draft.RepositoryPasswordAt, newPassword().Reveal() + "\n"}}
	if b.password != "" {
		files = append(files, [2]string{b.draft.Database.PasswordAt, b.password.Reveal() + "\n"})
	}
	if at := b.draft.Bucket; at != nil && at.AccessKeyAt != "" {
		files = append(files, [2]string{at.AccessKeyAt, b.accessKey + "\n"}, [2]string{at.SecretKeyAt, b.secretKey.Reveal() + "\n"})
	}
	for _, f := range append(files, [2]string{b.file, string(b.text)}) {
		if err := made.file(f[0], f[1]); err != nil {
			return err
		}
	}
	return made.repository(ctx, b.config.Repository)
}

// repository creates one with a connection file that is thrown away: whoever opens it makes its own.
func (t *traces) repository(ctx context.Context, at config.Repository) error {
	state, err := os.MkdirTemp("", "remora-init-")
	if err != nil {
		return initProblem("a temporary directory", err.Error(), "Make room there, or set TMPDIR.")
	}
	defer func() { _ = os.RemoveAll(state) }()
	if at.Bucket == nil {
		if err := t.folder(filepath.Dir(at.Path)); err != nil {
			return err
		}
		if _, err := os.Lstat(at.Path); errors.Is(err, os.ErrNotExist) {
			*t = append(*t, func() { _ = os.Remove(at.Path) }) // only when it is empty
		}
	}
	return repository.Create(ctx, opening(at, state, "state"))
}

// createConfigured makes the repository that a configuration names.
func (a *app) createConfigured(ctx context.Context, cfg *config.Config) error {
	if cfg.Repository.Where() == "" {
		return initProblem(cfg.File, "no repository is configured here", "Say where backups live: repository: {path: …, password_file: …}, or s3: {…} for path.")
	}
	var made traces
	if err := made.repository(ctx, cfg.Repository); err != nil {
		made.remove()
		return err
	}
	answer := initJSON{Config: cfg.File, Repository: cfg.Repository.Where()}
	return a.answer(answer, a.text("initialised", answer))
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
			return initProblem(dir, remora.Cause(err).Error(), "Choose another place, or run the command as a user that may write there.")
		}
		*t = append(*t, func() { _ = os.Remove(dir) })
	}
	return nil
}

// file writes a new file for its owner alone, to the disk, in a directory that it makes. It never overwrites.
func (t *traces) file(path, text string) error {
	if err := t.folder(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		hint := "Choose another place, or run the command as a user that may write there."
		if errors.Is(err, fs.ErrExist) {
			hint = "It is not overwritten. Move it away if nothing needs it, or choose another folder with --config."
		}
		return initProblem(path, remora.Cause(err).Error(), hint)
	}
	*t = append(*t, func() { _ = os.Remove(path) })
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return initProblem(path, remora.Cause(err).Error(), "Make room there, or choose another place with --config.")
	}
	return nil
}
