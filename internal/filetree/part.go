package filetree

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/remora-backup/remora/internal/remora"
)

// partFormat is the version of part.json that this package writes.
const partFormat = 1

// maxPart bounds, in bytes, a part.json that is read: extended attributes of millions of files fit, a hostile file
// does not fill the memory.
const maxPart = 512 << 20

// part is part.json: what the part holds, and what the writer cannot hold.
type part struct {
	Format   int       `json:"format"`
	Source   string    `json:"source"`
	Host     string    `json:"host"` // "<host name>:<root>"
	Captured time.Time `json:"captured"`
	// PutAway is the restore whose put-away side this is; empty for live data.
	PutAway string `json:"put_away,omitempty"`
	// Root is the folder that holds the directories, should it have to be made again.
	Root    owned    `json:"root"`
	Exclude []string `json:"exclude,omitempty"`
	Missing []string `json:"missing,omitempty"`
	// Owners are the owners of all entries, as far as they are few.
	Owners      []remora.FileOwner `json:"owners,omitempty"`
	Directories []partDirectory    `json:"directories"`
}

// owned are the mode (permission, setgid and sticky bits, as chmod counts them) and the owner of a directory.
type owned struct {
	Mode uint32 `json:"mode"`
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
}

type partDirectory struct {
	Path string `json:"path"`
	owned
	Modified time.Time `json:"modified"`
	count
	Changed  []string `json:"changed,omitempty"`
	Skipped  []string `json:"skipped,omitempty"`
	Vanished []string `json:"vanished,omitempty"`
	// Chosen are the files and directories, relative to it, that alone are meant; one that is not there is meant to be
	// gone. None means all.
	Chosen []string `json:"chosen,omitempty"`
	// Attributes are the extended attributes by path ("." is the directory itself) and name.
	Attributes map[string]map[string][]byte `json:"attributes,omitempty"`
}

func (p part) summary() remora.Summary {
	var all count
	for _, d := range p.Directories {
		all.plus(d.count)
	}
	return remora.Summary{Objects: int64(len(p.Directories)), Entries: all.Files, Bytes: all.Bytes, Facts: map[string]string{"root": p.Host}}
}

func (p part) directory(dir string) (partDirectory, bool) {
	for _, d := range p.Directories {
		if d.Path == dir {
			return d, true
		}
	}
	return partDirectory{}, false
}

// corrupt is the error for what no capture of ours can have written.
func corrupt(subject, why string, args ...any) error {
	return refuse(remora.Corrupt, subject, "nothing was restored: check the backup with remora verify --data, and use another one", why, args...)
}

// readPart reads part.json, refuses what this program, or this configuration, must not restore, and leaves what is chosen.
func (t *Tree) readPart(ctx context.Context, job remora.Job, from fs.FS) (part, error) {
	var p part
	f, err := from.Open(remora.PartFile)
	if err != nil {
		return p, fmt.Errorf("open %s: %w", remora.PartFile, err)
	}
	defer func() { _ = f.Close() }()
	if err := json.NewDecoder(io.LimitReader(f, maxPart)).Decode(&p); err != nil {
		return p, corrupt(remora.PartFile, "%w", err)
	}
	if p.Format != partFormat {
		return p, refuse(remora.Unsupported, remora.PartFile, "use a newer remora", "it has format %d, this program reads format %d", p.Format, partFormat)
	}
	seen := map[string]bool{}
	for _, d := range p.Directories {
		if err := checkDirectory(d.Path); err != nil {
			return p, corrupt(remora.PartFile, "%w", err)
		}
		if seen[d.Path] {
			return p, corrupt(remora.PartFile, "directory %q is named twice", d.Path)
		}
		seen[d.Path] = true
		for other := range seen {
			if other != d.Path && (within(d.Path, other) || within(other, d.Path)) {
				return p, corrupt(remora.PartFile, "directories %q and %q overlap", other, d.Path)
			}
		}
		if !t.copies() && !slices.Contains(t.cfg.Directories, d.Path) {
			return p, refuse(remora.Invalid, "directory "+d.Path, "add it to files.directories", "it is in the backup, but not among the directories of the source")
		}
	}
	paths := job.Selection.Paths
	if t.copies() {
		paths = t.chosen.Paths
	}
	return p, p.choose(ctx, from, paths)
}

// entry is something of a part: on its way to disk, or to be found there.
type entry struct {
	at    string // the path below the stage, and in the part
	rel   string // the path within its directory
	mode  fs.FileMode
	mtime time.Time // zero where the part knows none
	owner remora.FileOwner
	owned bool
	attrs map[string][]byte
	size  int64
}

// top is the directory itself, as part.json describes it.
func (d partDirectory) top() entry {
	return entry{
		at: d.Path, rel: ".", mode: fs.ModeDir | fileMode(d.Mode), mtime: d.Modified,
		owner: remora.FileOwner{UID: d.UID, GID: d.GID}, owned: true, attrs: d.Attributes["."],
	}
}

// filesAtOnce is how many files are copied, or compared, at a time.
const filesAtOnce = 4

// walk enters every folder of the directory in a part, parents first, with its entries in the order of their names.
// What enter starts in files is awaited. Names are checked before anybody sees them: a hostile part cannot lead out
// of the stage.
func (d partDirectory) walk(ctx context.Context, from fs.FS, enter func(ctx context.Context, files *errgroup.Group, at string, entries []entry) error) error {
	files, ctx := errgroup.WithContext(ctx)
	files.SetLimit(filesAtOnce)
	var folder func(rel string) error
	folder = func(rel string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		entries, err := d.list(from, rel)
		if err != nil {
			return err
		}
		if err := enter(ctx, files, path.Join(d.Path, rel), entries); err != nil {
			return err
		}
		for _, e := range entries {
			if !e.mode.IsDir() {
				continue
			}
			if err := folder(e.rel); err != nil {
				return err
			}
		}
		return nil
	}
	err := folder(".")
	return cmp.Or(files.Wait(), err) // the error of a file is the cause when it has cancelled the walk
}

func (d partDirectory) list(from fs.FS, rel string) ([]entry, error) {
	at := path.Join(d.Path, rel)
	listed, err := fs.ReadDir(from, at)
	if err != nil {
		return nil, fmt.Errorf("read %s in the backup: %w", at, err)
	}
	entries := make([]entry, 0, len(listed))
	seen := make(map[string]bool, len(listed))
	for _, l := range listed {
		name := l.Name()
		if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") || !utf8.ValidString(name) {
			return nil, corrupt(fmt.Sprintf("%q in %s", name, at), "this is not the name of a file")
		}
		e := entry{at: path.Join(at, name), rel: path.Join(rel, name)}
		if !d.means(e.rel) {
			continue
		}
		info, err := l.Info()
		if err != nil {
			return nil, fmt.Errorf("read %s in the backup: %w", e.at, err)
		}
		e.mode, e.mtime, e.size, e.attrs = info.Mode(), info.ModTime(), info.Size(), d.Attributes[e.rel]
		e.owner, e.owned = ownerOf(info)
		switch {
		case len(e.at) > maxPath:
			return nil, corrupt(at, "a path in it is too long")
		case info.Name() != name || seen[name]:
			return nil, corrupt(e.at, "it is there twice, or has two names")
		case !e.mode.IsRegular() && !e.mode.IsDir() && e.mode.Type() != fs.ModeSymlink:
			return nil, corrupt(e.at, "it is neither a file, a directory nor a symlink")
		}
		seen[name] = true
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.at, b.at) })
	return entries, nil
}

// readLink reads a symlink of a part. The target may be anything that a symlink can hold: it is never followed.
func readLink(from fs.FS, at string) (string, error) {
	target, err := fs.ReadLink(from, at)
	if err != nil {
		return "", fmt.Errorf("read the symlink %s in the backup: %w", at, err)
	}
	if target == "" || len(target) > 4095 || strings.ContainsRune(target, 0) {
		return "", corrupt(at, "its target is not a path")
	}
	return target, nil
}
