package filetree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

// workName is the folder beside the root that holds everything that is not live.
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
	// Log may be nil.
	Log *slog.Logger
}

// Tree is the directories of one source. It holds no state and is safe for concurrent use.
type Tree struct {
	source, installation string
	root, work           string
	dirs                 []string
	exclude              patterns
	log                  *slog.Logger
}

var _ remora.Component = (*Tree)(nil)

// New checks the configuration and returns the tree. It does not touch the disk.
func New(cfg Config) (*Tree, error) {
	if err := check(cfg); err != nil {
		return nil, &remora.Problem{Op: "configure the files of a source", Kind: remora.Invalid, Subject: cfg.Source, Err: err}
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Tree{
		source: cfg.Source, installation: cfg.Installation,
		root: cfg.Root, work: filepath.Join(filepath.Dir(cfg.Root), workName),
		dirs: append([]string(nil), cfg.Directories...), exclude: append(patterns(nil), cfg.Exclude...),
		log: log,
	}, nil
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
	}
	for _, name := range strings.Split(d, "/") {
		if reserved(name) {
			return fmt.Errorf("directory %q has a name that remora keeps for itself", d)
		}
	}
	return nil
}

// reserved names are ours: they are never captured (S8).
func reserved(name string) bool {
	return strings.HasPrefix(name, ".remora") || strings.HasPrefix(name, "_remora")
}

// within tells whether the slash-separated path p is dir or lies below it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func (t *Tree) live(dir string) string { return filepath.Join(t.root, filepath.FromSlash(dir)) }

// identity is a file system object's place on disk. The device is kept for people: its number may change when a
// machine starts again.
type identity struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

func identityOf(info fs.FileInfo) identity {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return identity{}
	}
	return identity{Device: st.Dev, Inode: st.Ino}
}

// place is what lies at the path of a configured directory.
type place struct {
	dir    string
	exists bool
	id     identity
}

// places looks at every directory. A symlink on the way is refused: an exchange would move the link, not the data
// (S7), and a journal beside the link would not lie beside the data.
func (t *Tree) places(op string) ([]place, error) {
	refuse := func(p, why, hint string) error {
		return &remora.Problem{Op: op, Kind: remora.Unsupported, Subject: p, Err: errors.New(why), Hint: hint}
	}
	parent := filepath.Dir(t.root)
	resolved, err := filepath.EvalSymlinks(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &remora.Problem{
			Op: op, Kind: remora.Invalid, Subject: parent, Err: errors.New("the folder that holds root does not exist"),
			Hint: "check files.root, that its disk is mounted, and that the application is installed",
		}
	}
	if err != nil {
		return nil, fault(op, parent, err)
	}
	if resolved != parent {
		return nil, refuse(t.root, "its path leads through a symlink", "set files.root to "+filepath.Join(resolved, filepath.Base(t.root)))
	}
	found := make([]place, 0, len(t.dirs))
	for _, dir := range t.dirs {
		at := place{dir: dir}
		for p := range ancestors(t.root, dir) {
			info, err := os.Lstat(p)
			if errors.Is(err, fs.ErrNotExist) {
				at = place{dir: dir}
				break
			}
			switch {
			case err != nil:
				return nil, fault(op, p, err)
			case info.Mode()&fs.ModeSymlink != 0:
				return nil, refuse(p, "it is a symlink", "name the directory that the link points to")
			case !info.IsDir():
				return nil, refuse(p, "it is not a directory", "check files.root and files.directories")
			}
			at.exists, at.id = true, identityOf(info)
		}
		found = append(found, at)
	}
	return found, nil
}

// ancestors yields root, and each directory from there down to dir.
func ancestors(root, dir string) func(func(string) bool) {
	return func(yield func(string) bool) {
		p := root
		if !yield(p) {
			return
		}
		for _, name := range strings.Split(dir, "/") {
			p = filepath.Join(p, name)
			if !yield(p) {
				return
			}
		}
	}
}

// where names the root for a plan: the machine and the path (S12).
func (t *Tree) where() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return host + ":" + t.root
}

func fingerprint(found []place) string {
	h := sha256.New()
	for _, at := range found {
		_, _ = fmt.Fprintf(h, "%q %v %d\n", at.dir, at.exists, at.id.Inode)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

var runName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`)

// checkRun refuses runs that would not survive as the name of a folder.
func checkRun(op, run string) error {
	if !runName.MatchString(run) {
		return &remora.Problem{Op: op, Kind: remora.Invalid, Subject: run, Err: errors.New("this is not the name of a run")}
	}
	return nil
}

// fault turns an error of the file system into what a person reads.
func fault(op, subject string, err error) error {
	var known *remora.Problem
	if errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	p := &remora.Problem{Op: op, Kind: remora.Internal, Subject: subject, Err: err}
	// The path is in the subject; the cause alone is enough.
	var at *fs.PathError
	if errors.As(err, &at) {
		p.Err = at.Err
		if p.Subject == "" {
			p.Subject = at.Path
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
