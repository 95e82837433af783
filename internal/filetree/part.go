package filetree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"
	"time"
	"unicode/utf8"

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
	// Attributes are the extended attributes by path ("." is the directory itself) and name.
	Attributes map[string]map[string][]byte `json:"attributes,omitempty"`
}

func (p part) total() count {
	var all count
	for _, d := range p.Directories {
		all.plus(d.count)
	}
	return all
}

func (p part) summary() remora.Summary {
	all := p.total()
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

// readPart reads part.json and refuses what this program, or this configuration, must not restore.
func (t *Tree) readPart(op string, from fs.FS) (part, error) {
	var p part
	broken := func(err error) error {
		return &remora.Problem{
			Op: op, Kind: remora.Corrupt, Subject: remora.PartFile, Err: err,
			Hint: "check the backup with remora verify --data, and use another one",
		}
	}
	f, err := from.Open(remora.PartFile)
	if err != nil {
		return p, fmt.Errorf("open %s: %w", remora.PartFile, err)
	}
	defer func() { _ = f.Close() }()
	if err := json.NewDecoder(io.LimitReader(f, maxPart)).Decode(&p); err != nil {
		return p, broken(err)
	}
	if p.Format != partFormat {
		return p, &remora.Problem{
			Op: op, Kind: remora.Unsupported, Subject: remora.PartFile,
			Err: fmt.Errorf("it has format %d, this program reads format %d", p.Format, partFormat), Hint: "use a newer remora",
		}
	}
	seen := map[string]bool{}
	for _, d := range p.Directories {
		if err := checkDirectory(d.Path); err != nil {
			return p, broken(err)
		}
		if seen[d.Path] {
			return p, broken(fmt.Errorf("directory %q is named twice", d.Path))
		}
		seen[d.Path] = true
		if !t.configured(d.Path) {
			return p, &remora.Problem{
				Op: op, Kind: remora.Invalid, Subject: "directory " + d.Path,
				Err:  errors.New("it is in the backup, but not among the directories of the source"),
				Hint: "add it to files.directories",
			}
		}
	}
	return p, nil
}

func (t *Tree) configured(dir string) bool {
	for _, d := range t.dirs {
		if d == dir {
			return true
		}
	}
	return false
}

// corrupt is the error for an entry of a part that no capture of ours can have written.
func corrupt(op, subject, why string) error {
	return &remora.Problem{
		Op: op, Kind: remora.Corrupt, Subject: subject, Err: errors.New(why),
		Hint: "nothing was restored; use another backup",
	}
}

// walkPart enters every directory of a part, parents first, with its entries in the order of their names. Names are
// checked before anybody sees them: a hostile part cannot lead out of the stage.
func walkPart(ctx context.Context, op string, from fs.FS, dir, rel string, enter func(rel string, entries []fs.FileInfo) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	at := path.Join(dir, rel)
	entries, err := readPartDir(op, from, at)
	if err != nil {
		return err
	}
	if err := enter(rel, entries); err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := walkPart(ctx, op, from, dir, path.Join(rel, e.Name()), enter); err != nil {
			return err
		}
	}
	return nil
}

func readPartDir(op string, from fs.FS, at string) ([]fs.FileInfo, error) {
	listed, err := fs.ReadDir(from, at)
	if err != nil {
		return nil, fmt.Errorf("read %s in the backup: %w", at, err)
	}
	entries := make([]fs.FileInfo, 0, len(listed))
	for _, l := range listed {
		name := l.Name()
		if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") || !utf8.ValidString(name) {
			return nil, corrupt(op, fmt.Sprintf("%q in %s", name, at), "this is not the name of a file")
		}
		if len(at)+1+len(name) > maxPath {
			return nil, corrupt(op, at, "a path in it is too long")
		}
		info, err := l.Info()
		if err != nil {
			return nil, fmt.Errorf("read %s in the backup: %w", path.Join(at, name), err)
		}
		if info.Name() != name {
			return nil, corrupt(op, fmt.Sprintf("%q in %s", name, at), "it has two names")
		}
		if mode := info.Mode(); !mode.IsRegular() && !mode.IsDir() && mode.Type() != fs.ModeSymlink {
			return nil, corrupt(op, path.Join(at, name), "it is neither a file, a directory nor a symlink")
		}
		entries = append(entries, info)
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	for i := 1; i < len(entries); i++ {
		if entries[i].Name() == entries[i-1].Name() {
			return nil, corrupt(op, path.Join(at, entries[i].Name()), "it is there twice")
		}
	}
	return entries, nil
}

// readLink reads a symlink of a part. The target may be anything that a symlink can hold: it is never followed.
func readLink(op string, from fs.FS, at string) (string, error) {
	target, err := fs.ReadLink(from, at)
	if err != nil {
		return "", fmt.Errorf("read the symlink %s in the backup: %w", at, err)
	}
	if target == "" || len(target) > 4095 || strings.ContainsRune(target, 0) {
		return "", corrupt(op, at, "its target is not a path")
	}
	return target, nil
}
