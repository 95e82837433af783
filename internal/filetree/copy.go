package filetree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/remora-backup/remora/internal/remora"
)

var _ remora.Copier = (*Tree)(nil)

// Into is the same files in another place: all directories of a part lie in one, which is live where To says. So it is
// staged, compared and switched like any other, by one rename; nothing goes out in exchange, and it is discarded at once.
// What is live of the source is no part of it, and is neither locked nor looked at.
func (t *Tree) Into(chosen remora.Selection) remora.Component {
	into := *t
	into.chosen, into.exclude = chosen, nil
	into.cfg.Root, into.cfg.Directories, into.cfg.ByEntry = filepath.Dir(chosen.To), []string{filepath.Base(chosen.To)}, false
	into.cfg.Reserved = slices.Clone(t.cfg.Reserved)
	for _, dir := range t.cfg.Directories {
		into.cfg.Reserved = append(into.cfg.Reserved, t.live(dir))
	}
	into.work = into.home(false)
	return &into
}

// copies tells whether it is the place of a copy.
func (t *Tree) copies() bool { return t.chosen.To != "" }

// mayCopy refuses a place where nothing may be built, or where something is.
func (t *Tree) mayCopy() error {
	to, parent := t.chosen.To, t.cfg.Root
	refuse := func(hint, why string, args ...any) error { return refuse(remora.Invalid, to, hint, why, args...) }
	const another = "choose a directory that does not exist yet"
	switch {
	case !t.copies():
		return nil
	case !filepath.IsAbs(to) || filepath.Clean(to) != to || to == "/" || len(to) > 1024 || strings.ContainsRune(to, 0) || !utf8.ValidString(to):
		return refuse("name a directory such as /srv/look", "it is not an absolute, clean path")
	case slices.ContainsFunc(strings.Split(to, "/"), reserved):
		return refuse(another, "remora keeps such names for itself")
	}
	resolved, err := filepath.EvalSymlinks(parent)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refuse("make "+parent+" first", "the folder that is to hold it does not exist")
	case err != nil:
		return err
	case resolved != parent:
		return refuse("name it by "+filepath.Join(resolved, filepath.Base(to)), "its path leads through a symlink")
	}
	if dir, err := t.reservedAt(to); dir != "" || err != nil {
		return errors.Join(err, refuse(another+", somewhere else", "it lies in or around %s, which is in use", dir))
	}
	info, err := os.Lstat(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return refuse(another, "it is there already, and is no directory")
	}
	there, err := os.ReadDir(to)
	if err == nil && len(there) > 0 {
		err = refuse(another, "it is there already, and not empty: it holds %q", there[0].Name())
	}
	return err
}

// reservedAt is the directory in use that a path lies in or around, by its name or, since a directory can be mounted in
// several places, by its identity; empty when there is none.
func (t *Tree) reservedAt(to string) (string, error) {
	var above []identity
	for at := to; at != "/"; at = filepath.Dir(at) {
		here, err := identityAt(at)
		if err != nil {
			return "", err
		}
		above = append(above, here)
	}
	for _, dir := range t.cfg.Reserved {
		used, _ := identityAt(dir) // one that cannot be looked at has its name
		if used.exists() && slices.Contains(above, used) || below(to, dir) || below(dir, to) {
			return dir, nil
		}
	}
	return "", nil
}
