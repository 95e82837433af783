package repository

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
	"github.com/remora-backup/remora/internal/remora"
)

// directory reads a stored directory. It is strict: a name that could lead out of the directory is damage.
func (r *Repository) directory(ctx context.Context, id object.ID) (*snapshot.DirManifest, error) {
	from, err := r.rep.OpenObject(ctx, id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = from.Close() }()
	var stored snapshot.DirManifest
	if err := json.NewDecoder(from).Decode(&stored); err != nil {
		return nil, fmt.Errorf("unable to parse directory %s: %w", id, err)
	}
	if stored.StreamType != "kopia:directory" {
		return nil, fmt.Errorf("malformed directory %s: type %q", id, stored.StreamType)
	}
	met := make(map[string]bool, len(stored.Entries))
	for _, e := range stored.Entries {
		if !fs.ValidPath(e.Name) || e.Name == "." || strings.ContainsAny(e.Name, "/\x00") || met[e.Name] {
			return nil, fmt.Errorf("malformed directory %s: bad name %s", id, quote(e.Name))
		}
		met[e.Name] = true
	}
	return &stored, nil
}

// children are the entries of a directory by their names; there are none in anything else.
func (r *Repository) children(ctx context.Context, dir *snapshot.DirEntry) (map[string]*snapshot.DirEntry, error) {
	if dir == nil || dir.Type != snapshot.EntryTypeDirectory {
		return nil, nil
	}
	stored, err := r.directory(ctx, dir.ObjectID)
	if err != nil {
		return nil, err
	}
	all := make(map[string]*snapshot.DirEntry, len(stored.Entries))
	for _, e := range stored.Entries {
		all[e.Name] = e
	}
	return all, nil
}

// visitor is told of stored entries by walk: of each with its blocks, and of what could not be read of it, or below it.
type visitor interface {
	meet(ctx context.Context, name string, e *snapshot.DirEntry, blocks []content.ID) (deeper bool, err error)
	// miss gives the error back where the walk cannot go on beside it.
	miss(ctx context.Context, name string, e *snapshot.DirEntry, err error) error
}

// walk visits an entry, and what is below it as far as the visitor wants to go deeper.
func (r *Repository) walk(ctx context.Context, name string, e *snapshot.DirEntry, v visitor) error {
	var children map[string]*snapshot.DirEntry
	deeper := false
	blocks, err := r.rep.VerifyObject(ctx, e.ObjectID)
	if err == nil {
		deeper, err = v.meet(ctx, name, e, blocks)
	}
	if err == nil && deeper {
		children, err = r.children(ctx, e)
	}
	if err != nil {
		return cmp.Or(ctx.Err(), v.miss(ctx, name, e, err))
	}
	for _, child := range children {
		if err := r.walk(ctx, path.Join(name, child.Name), child, v); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// cachedDirectories bounds how many directories a tree keeps in memory.
const cachedDirectories = 64

// backupFS shows stored directories as a file system. Links are followed inside it and never out of it. Reading ends
// when the context that it was opened with does.
type backupFS struct {
	ctx    context.Context
	r      *Repository
	root   *snapshot.DirEntry
	mu     sync.Mutex
	loaded map[object.ID]map[string]*snapshot.DirEntry
}

var (
	_ fs.StatFS     = (*backupFS)(nil)
	_ fs.ReadLinkFS = (*backupFS)(nil)
)

var (
	errEscapes = errors.New("the link leads out of the backup")
	errNotDir  = errors.New("not a directory")
	errIsDir   = errors.New("is a directory")
	errTooDeep = errors.New("too many links")
)

const readBackupOp = "read the backup"

// Part opens a part of a committed backup, by its full id. Links are followed inside the part and never out of it; the
// Sys of an entry is a remora.FileOwner, and files can Seek. Reading ends when ctx does.
func (r *Repository) Part(ctx context.Context, id string, kind remora.Kind) (fs.FS, error) {
	root, err := r.partOf(ctx, id, kind)
	if err != nil {
		return nil, err
	}
	return &backupFS{ctx: ctx, r: r, root: root, loaded: map[object.ID]map[string]*snapshot.DirEntry{}}, nil
}

// Tree opens a whole backup, as Part opens one part of it.
func (r *Repository) Tree(ctx context.Context, id string) (fs.FS, error) { return r.Part(ctx, id, "") }

func (f *backupFS) children(dir *snapshot.DirEntry) (map[string]*snapshot.DirEntry, error) {
	if dir.Type != snapshot.EntryTypeDirectory {
		return nil, errNotDir
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, ok := f.loaded[dir.ObjectID]; ok {
		return known, nil
	}
	found, err := f.r.children(f.ctx, dir)
	if err != nil {
		return nil, problem(readBackupOp, "", err)
	}
	if len(f.loaded) >= cachedDirectories {
		clear(f.loaded)
	}
	f.loaded[dir.ObjectID] = found
	return found, nil
}

// find walks to name. The last element is followed, should it be a link, when follow is set.
func (f *backupFS) find(op, name string, follow bool) (*snapshot.DirEntry, error) {
	fail := func(err error) (*snapshot.DirEntry, error) { return nil, &fs.PathError{Op: op, Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}
	at, entry, rest := ".", f.root, name
	for links := 0; rest != "."; {
		first, after, more := strings.Cut(rest, "/")
		children, err := f.children(entry)
		if err != nil {
			return fail(err)
		}
		child := children[first]
		switch {
		case child == nil:
			return fail(fs.ErrNotExist)
		case child.Type == snapshot.EntryTypeSymlink && (more || follow):
			target, err := f.target(child)
			if err != nil {
				return fail(err)
			}
			rest = path.Join(at, target, after)
			if path.IsAbs(target) || !fs.ValidPath(rest) {
				return fail(errEscapes)
			}
			if links++; links > 40 {
				return fail(errTooDeep)
			}
			at, entry = ".", f.root
		case more:
			at, entry, rest = path.Join(at, first), child, after
		default:
			return child, nil
		}
	}
	return f.root, nil
}

func (f *backupFS) target(link *snapshot.DirEntry) (string, error) {
	if link.Type != snapshot.EntryTypeSymlink {
		return "", fs.ErrInvalid
	}
	from, err := f.r.rep.OpenObject(f.ctx, link.ObjectID)
	if err != nil {
		return "", problem(readBackupOp, link.Name, err)
	}
	defer func() { _ = from.Close() }()
	text, err := io.ReadAll(io.LimitReader(from, 1<<16))
	return string(text), problem(readBackupOp, link.Name, err)
}

// Open opens a file or a directory, following links.
func (f *backupFS) Open(name string) (fs.File, error) {
	entry, err := f.find("open", name, true)
	if err != nil {
		return nil, err
	}
	opened := file{info: fileInfo{entry: entry, name: path.Base(name)}, path: name}
	if opened.info.IsDir() {
		children, err := f.children(entry)
		if err != nil {
			return nil, opened.failed("open", err)
		}
		list := make([]fs.DirEntry, 0, len(children))
		for _, name := range slices.Sorted(maps.Keys(children)) {
			list = append(list, fs.FileInfoToDirEntry(fileInfo{entry: children[name], name: name}))
		}
		return &openDir{file: opened, list: list}, nil
	}
	from, err := f.r.rep.OpenObject(f.ctx, entry.ObjectID)
	if err != nil {
		return nil, opened.failed("open", problem(readBackupOp, name, err))
	}
	return &openFile{file: opened, Reader: from}, nil
}

// Stat describes what name leads to.
func (f *backupFS) Stat(name string) (fs.FileInfo, error) { return f.stat("stat", name, true) }

// Lstat describes name itself.
func (f *backupFS) Lstat(name string) (fs.FileInfo, error) { return f.stat("lstat", name, false) }

func (f *backupFS) stat(op, name string, follow bool) (fs.FileInfo, error) {
	entry, err := f.find(op, name, follow)
	if err != nil {
		return nil, err
	}
	return fileInfo{entry: entry, name: path.Base(name)}, nil
}

// ReadLink is the text of a link, wherever it points.
func (f *backupFS) ReadLink(name string) (string, error) {
	entry, err := f.find("readlink", name, false)
	if err != nil {
		return "", err
	}
	target, err := f.target(entry)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return target, nil
}

type fileInfo struct {
	entry *snapshot.DirEntry
	name  string
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) ModTime() time.Time { return i.entry.ModTime.ToTime() }
func (i fileInfo) IsDir() bool        { return i.entry.Type == snapshot.EntryTypeDirectory }

// Sys is the captured owner.
func (i fileInfo) Sys() any {
	return remora.FileOwner{UID: i.entry.UserID, GID: i.entry.GroupID}
}

func (i fileInfo) Size() int64 {
	if i.IsDir() {
		return 0
	}
	return i.entry.FileSize
}

func (i fileInfo) Mode() fs.FileMode {
	mode := fs.FileMode(i.entry.Permissions) & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	switch i.entry.Type {
	case snapshot.EntryTypeDirectory:
		return mode | fs.ModeDir
	case snapshot.EntryTypeSymlink:
		return mode | fs.ModeSymlink
	case snapshot.EntryTypeFile:
		return mode
	default:
		return mode | fs.ModeIrregular
	}
}

// file is what open files and directories have in common.
type file struct {
	info fileInfo
	path string
}

func (o *file) Stat() (fs.FileInfo, error) { return o.info, nil }

func (o *file) failed(op string, err error) error {
	return &fs.PathError{Op: op, Path: o.path, Err: err}
}

// openFile is a file that is read; it has nothing to release.
type openFile struct {
	file
	object.Reader
}

func (o *openFile) Read(b []byte) (int, error) {
	if len(b) == 0 { // which kopia's reader takes for the end
		return 0, nil
	}
	n, err := o.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = o.failed("read", problem(readBackupOp, o.path, err))
	}
	return n, err
}

type openDir struct {
	file
	list []fs.DirEntry
}

func (o *openDir) Read([]byte) (int, error) { return 0, o.failed("read", errIsDir) }
func (o *openDir) Close() error             { return nil }

func (o *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(o.list) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(o.list) {
		n = len(o.list)
	}
	some := o.list[:n:n]
	o.list = o.list[n:]
	return some, nil
}
