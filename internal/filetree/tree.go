package filetree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

// workName is the folder that holds everything that is not live: beside the root, or, for an exchange by entry, within
// each directory.
const workName = ".remora"

// Config names the directories of a source.
type Config struct {
	// Source is the name of the source, and Installation the id of the repository that it is backed up to (S11).
	Source, Installation string
	// Root is the absolute path below which the directories lie. It contains no symlink.
	Root string
	// Directories are slash-separated paths relative to Root. None lies within another.
	Directories []string
	// Exclude are patterns (with ** for any number of directories) of entries that are neither captured nor replaced.
	// A pattern is matched against the slash-separated path relative to each directory; one without a slash also
	// against the base name, at any depth.
	Exclude []string
	// ByEntry leaves the directories where they are and exchanges what lies in them, entry by entry: for directories that
	// are mounted, here or in a container (S7). All of them must exist.
	ByEntry bool
	// Reserved are directories that are in use, of this source and of others: nothing is built in or around them.
	Reserved []string
	// Log may be nil.
	Log *slog.Logger
}

// Tree is the directories of one source. It holds no state and is safe for concurrent use.
type Tree struct {
	cfg     Config
	work    string // the work folder with the lock and the journals
	exclude patterns
	log     *slog.Logger
	// chosen is what of a part is built elsewhere: see Into.
	chosen remora.Selection
}

var _ remora.Component = (*Tree)(nil)

// New checks the configuration and returns the tree. It does not touch the disk.
func New(cfg Config) (*Tree, error) {
	if err := check(cfg); err != nil {
		return nil, &remora.Problem{Op: "configure the files of a source", Kind: remora.Invalid, Subject: cfg.Source, Err: err}
	}
	cfg.Directories = slices.Clone(cfg.Directories)
	t := &Tree{cfg: cfg, exclude: slices.Clone(cfg.Exclude), log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))}
	t.work = t.home(cfg.ByEntry)
	return t, nil
}

func check(cfg Config) error {
	if err := remora.CheckSourceName(cfg.Source); err != nil {
		return err
	}
	switch {
	case cfg.Installation == "":
		return errors.New("the installation id is missing")
	case !filepath.IsAbs(cfg.Root) || filepath.Clean(cfg.Root) != cfg.Root || cfg.Root == "/" || !utf8.ValidString(cfg.Root):
		return fmt.Errorf("root %q must be an absolute, clean path below /", cfg.Root)
	case reserved(filepath.Base(cfg.Root)):
		return fmt.Errorf("root %q has a name that remora keeps for itself", cfg.Root)
	case len(cfg.Directories) == 0:
		return errors.New("directories are missing: name at least one below root")
	}
	for i, d := range cfg.Directories {
		if err := checkDirectory(d); err != nil {
			return err
		}
		for _, other := range cfg.Directories[:i] {
			if within(d, other) || within(other, d) {
				return fmt.Errorf("directories %q and %q overlap", other, d)
			}
		}
	}
	return patterns(cfg.Exclude).check()
}

// checkDirectory is also applied to what a backup says: it must not lead out of the root.
func checkDirectory(d string) error {
	switch {
	case !fs.ValidPath(d) || d == "." || strings.ContainsRune(d, 0) || len(d) > 1024:
		return fmt.Errorf("directory %q must be a clean path relative to root, without \"..\"", d)
	case d == remora.PartFile || strings.HasPrefix(d, remora.PartFile+"/"):
		return fmt.Errorf("directory %q has a name that the backup format keeps for itself", d)
	case slices.ContainsFunc(strings.Split(d, "/"), reserved):
		return fmt.Errorf("directory %q has a name that remora keeps for itself", d)
	}
	return nil
}

// reserved names are ours: they are never captured (S8).
func reserved(name string) bool {
	return strings.HasPrefix(name, ".remora") || strings.HasPrefix(name, "_remora")
}

// within tells whether the slash-separated path p is dir or lies below it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func (t *Tree) live(dir string) string { return filepath.Join(t.cfg.Root, filepath.FromSlash(dir)) }

// shelf is the work folder that holds the other side of what lies at a path: on the file system of its directory.
func (t *Tree) shelf(byEntry bool, at string) string {
	switch {
	case byEntry:
		for _, dir := range t.cfg.Directories {
			if within(at, dir) {
				at = dir
			}
		}
		return filepath.Join(t.live(at), workName)
	case t.copies():
		return filepath.Join(t.cfg.Root, workName)
	default:
		return filepath.Join(filepath.Dir(t.cfg.Root), workName)
	}
}

// home is the work folder that holds the lock and the journals. It must not depend on the order of the configuration.
func (t *Tree) home(byEntry bool) string { return t.shelf(byEntry, slices.Min(t.cfg.Directories)) }

// identity is a file system object's place on disk. The device is kept for people: its number may change when a
// machine starts again.
type identity struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

func (i identity) exists() bool { return i.Inode != 0 }

func identityOf(info fs.FileInfo) identity {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return identity{}
	}
	return identity{Device: st.Dev, Inode: st.Ino}
}

// identityAt is empty when nothing is there.
func identityAt(at string) (identity, error) {
	info, err := os.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return identity{}, nil
	}
	if err != nil {
		return identity{}, err
	}
	return identityOf(info), nil
}

// folderAt opens a folder below root, on a way that leads through no symlink.
func folderAt(root, rel string) (*os.File, error) {
	f, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(rel, "/") {
		at := filepath.Join(f.Name(), name)
		fd, err := unix.Openat(int(f.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		_ = f.Close()
		switch {
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
			return nil, refuse(remora.Unsupported, at, "restore that itself, or name the way that the link leads to", "it is a symlink, or no directory")
		case err != nil:
			return nil, &os.PathError{Op: "open", Path: at, Err: err}
		}
		f = os.NewFile(uintptr(fd), at)
	}
	return f, nil
}

// identityIn is what lies below root, on a way that leads through no symlink; empty when nothing does.
func identityIn(root, rel string) (identity, error) {
	folder, err := folderAt(root, path.Dir(rel))
	if errors.Is(err, fs.ErrNotExist) {
		return identity{}, nil
	}
	if err != nil {
		return identity{}, err
	}
	defer func() { _ = folder.Close() }()
	var st unix.Stat_t
	if err := unix.Fstatat(int(folder.Fd()), path.Base(rel), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil && !errors.Is(err, unix.ENOENT) {
		return identity{}, &os.PathError{Op: "lstat", Path: filepath.Join(root, rel), Err: err}
	}
	return identity{Device: st.Dev, Inode: st.Ino}, nil
}

// place is where a directory, or something chosen in it, lies, and what is there: nothing, when the identity is empty.
type place struct {
	dir, at string
	identity
	chosen []string // of a directory, what alone is meant
}

// whole tells whether it is one of the directories.
func (t *Tree) whole(p place) bool { return slices.Contains(t.cfg.Directories, p.dir) }

// places looks at every directory. A symlink on the way is refused: an exchange would move the link, not the data
// (S7), and a journal beside the link would not lie beside the data.
func (t *Tree) places() ([]place, error) {
	if err := t.mayCopy(); err != nil {
		return nil, err
	}
	parent := filepath.Dir(t.cfg.Root)
	resolved, err := filepath.EvalSymlinks(parent)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, refuse(remora.Invalid, parent, "check files.root, that its disk is mounted, and that the application is installed",
			"the folder that holds root does not exist")
	case err != nil:
		return nil, err
	case resolved != parent:
		return nil, refuse(remora.Unsupported, t.cfg.Root, "set files.root to "+filepath.Join(resolved, filepath.Base(t.cfg.Root)), "its path leads through a symlink")
	}
	found := make([]place, 0, len(t.cfg.Directories))
	for _, dir := range t.cfg.Directories {
		here := place{dir: dir, at: t.live(dir)}
		for _, p := range ancestors(t.cfg.Root, dir) {
			info, err := os.Lstat(p)
			if errors.Is(err, fs.ErrNotExist) {
				here.identity = identity{}
				break
			}
			switch {
			case err != nil:
				return nil, err
			case info.Mode()&fs.ModeSymlink != 0:
				return nil, refuse(remora.Unsupported, p, "name the directory that the link points to", "it is a symlink")
			case !info.IsDir():
				return nil, refuse(remora.Unsupported, p, "check files.root and files.directories", "it is not a directory")
			}
			here.identity = identityOf(info)
		}
		found = append(found, here)
	}
	return found, nil
}

// opened does something with an open file or folder.
func opened(root *os.Root, name string, do func(*os.File) error) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(do(f), f.Close())
}

// ancestors are root, and each directory from there down to dir.
func ancestors(root, dir string) []string {
	all := []string{root}
	for name := range strings.SplitSeq(dir, "/") {
		all = append(all, filepath.Join(all[len(all)-1], name))
	}
	return all
}

// where names the root for a plan: the machine and the path (S12).
func (t *Tree) where() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return host + ":" + cmp.Or(t.chosen.To, t.cfg.Root)
}

var runName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`)

// checkRun refuses runs that would not survive as the name of a folder.
func checkRun(run string) error {
	if !runName.MatchString(run) {
		return refuse(remora.Invalid, run, "", "this is not the name of a run")
	}
	return nil
}

// refuse is the error of whatever stops a verb for a reason of ours. The verb itself says what was being done: tell.
func refuse(kind remora.ProblemKind, subject, hint, why string, args ...any) error {
	return remora.Fail(kind, "", subject, hint, why, args...)
}

// tell turns the error that a verb ends with into what a person reads: what was being done, and, where the file
// system refused, with what and what to do about it. place is the subject where the error names none.
func tell(op, place string, err *error) {
	switch known, ok := errors.AsType[*remora.Problem](*err); {
	case *err == nil, errors.Is(*err, context.Canceled), errors.Is(*err, context.DeadlineExceeded):
	case ok:
		if known.Op == "" {
			known.Op = op
		}
	default:
		*err = fault(op, place, *err)
	}
}

func fault(op, place string, err error) error {
	p := &remora.Problem{Op: op, Kind: remora.Internal, Subject: place, Err: err}
	// Where the path is in the subject, the cause alone is enough. Words around it say more than the path: they stay.
	if at, ok := errors.AsType[*fs.PathError](err); ok && err.Error() == at.Error() {
		p.Subject, p.Err = at.Path, at.Err
		if !filepath.IsAbs(at.Path) {
			p.Subject = at.Path + " in " + place
		}
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		p.Kind, p.Hint = remora.Full, "free some space on this file system; the step is then tried again"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.EROFS):
		p.Kind, p.Hint = remora.Denied, "let the worker's user read and write there, or run the worker as root"
	case errors.Is(err, unix.EIO), errors.Is(err, unix.ESTALE), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		p.Kind = remora.Unavailable
	case errors.Is(err, unix.ENAMETOOLONG):
		p.Kind, p.Hint = remora.Unsupported, "shorten the path"
	}
	return p
}

// patterns say what is neither captured nor replaced.
type patterns []string

func (p patterns) check() error {
	for _, pattern := range p {
		switch {
		case pattern == "" || strings.HasPrefix(pattern, "/") || strings.HasPrefix(pattern, "!"):
			return fmt.Errorf("exclude %q: patterns are relative to each directory, such as *.tmp or cache/**, and cannot be negated", pattern)
		case !doublestar.ValidatePattern(pattern):
			return fmt.Errorf("exclude %q is not a valid pattern", pattern)
		}
	}
	return nil
}

// match tells whether an entry, by its slash-separated path within a directory, is left alone. A directory that
// matches is left alone with everything in it.
func (p patterns) match(rel string) bool {
	base := path.Base(rel)
	if rel == base && reserved(rel) {
		return true
	}
	for _, pattern := range p {
		pattern = strings.TrimSuffix(pattern, "/")
		if doublestar.MatchUnvalidated(pattern, rel) || !strings.Contains(pattern, "/") && doublestar.MatchUnvalidated(pattern, base) {
			return true
		}
	}
	return false
}
