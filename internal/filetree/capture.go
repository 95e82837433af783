package filetree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

const captureOp = "back up the files"

// maxNames bounds how many names of one sort part.json lists; maxOwners how many owners.
const (
	maxNames  = 1000
	maxOwners = 100
)

// Capture stores the directories and, last, what it counted itself: a backup is only as good as its census.
func (t *Tree) Capture(ctx context.Context, job remora.Job, of remora.Subject, to remora.PartWriter) (remora.Summary, error) {
	p := part{Format: partFormat, Source: t.source, Host: t.where(), Captured: time.Now().UTC().Truncate(time.Second), PutAway: of.PutAway}
	if info, err := os.Lstat(t.root); err == nil {
		p.Root = rootOwned(info)
	}
	subjects, missing, err := t.subjects(of)
	if err != nil {
		return remora.Summary{}, err
	}
	skip := nothing
	if of.PutAway == "" {
		p.Exclude, skip = t.exclude, t.exclude.match
	}
	p.Missing = missing
	var warnings []string
	for _, dir := range missing {
		warnings = append(warnings, "directory "+dir+" does not exist and is not in this backup")
	}
	for _, s := range subjects {
		d, owners, err := s.capture(ctx, job, skip, to)
		if err != nil {
			return remora.Summary{}, err
		}
		p.Directories = append(p.Directories, d)
		warnings = append(warnings, d.warnings()...)
		for _, o := range owners {
			if len(p.Owners) < maxOwners && !slices.Contains(p.Owners, o) {
				p.Owners = append(p.Owners, o)
			}
		}
	}
	if err := to.Put(ctx, remora.PartFile, func(w io.Writer) error { return json.NewEncoder(w).Encode(p) }); err != nil {
		return remora.Summary{}, fmt.Errorf("write %s: %w", remora.PartFile, err)
	}
	sum := p.summary()
	sum.Warnings = warnings
	return sum, nil
}

// subject is one directory to capture: its name in the backup and where it lies now.
type subject struct {
	dir, at string
	inode   uint64
}

func (t *Tree) subjects(of remora.Subject) (found []subject, missing []string, err error) {
	if of.PutAway != "" {
		found, err = t.putAway(of.PutAway)
		return found, nil, err
	}
	if err := t.halfSwitched(); err != nil {
		return nil, nil, err
	}
	places, err := t.places(captureOp)
	if err != nil {
		return nil, nil, err
	}
	if !of.Partial {
		if err := refuseMissing(captureOp, t, places); err != nil {
			return nil, nil, err
		}
	}
	for _, at := range places {
		if at.exists {
			found = append(found, subject{dir: at.dir, at: t.live(at.dir), inode: at.id.Inode})
		} else {
			missing = append(missing, at.dir)
		}
	}
	return found, missing, nil
}

// halfSwitched refuses to back up directories of which some are on one side of a restore and some on the other.
func (t *Tree) halfSwitched() error {
	found, err := t.journals(captureOp)
	if err != nil {
		return err
	}
	for _, j := range found {
		if j.State != turning {
			continue
		}
		spots, err := t.spots(captureOp, j)
		if err != nil {
			return err
		}
		if _, ok := level(spots); !ok {
			return &remora.Problem{
				Op: captureOp, Kind: remora.Busy, Subject: t.root, Err: fmt.Errorf("the restore of run %s stands between two directories", j.Run),
				Hint: "let it finish, or end it with remora rollback",
			}
		}
	}
	return nil
}

// putAway finds the side of a restore that is not live. Nothing is a valid answer: there was nothing before.
func (t *Tree) putAway(run string) ([]subject, error) {
	if err := checkRun(captureOp, run); err != nil {
		return nil, err
	}
	work, err := t.workFolder(captureOp)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault(captureOp, t.work, err)
	}
	var j *journal
	if err == nil {
		defer func() { _ = work.Close() }()
		if j, err = t.ours(captureOp, work, run); err != nil {
			return nil, err
		}
	}
	if j == nil {
		return nil, noJournal(captureOp, t, run)
	}
	spots, err := t.settledSpots(captureOp, j)
	if err != nil {
		return nil, err
	}
	var found []subject
	for _, s := range spots {
		if !s.away {
			continue
		}
		at := filepath.Join(t.work, j.stageName(), filepath.FromSlash(s.Path))
		inode, err := inodeAt(at)
		if err != nil {
			return nil, fault(captureOp, at, err)
		}
		found = append(found, subject{dir: s.Path, at: at, inode: inode})
	}
	return found, nil
}

func (s subject) capture(ctx context.Context, job remora.Job, skip func(string) bool, to remora.PartWriter) (partDirectory, []remora.FileOwner, error) {
	l, err := s.list(ctx, job, skip)
	if err != nil {
		return partDirectory{}, nil, err
	}
	progress := remora.Progress{Phase: "archive " + s.dir, Total: l.before.Files + l.before.Directories + l.before.Symlinks, Unit: "files", Since: time.Now()}
	var seen atomic.Int64
	sum, err := to.PutTree(ctx, s.dir, s.at, func(rel string) bool {
		if skip(rel) {
			return true
		}
		now := progress
		now.Done, now.Item = min(seen.Add(1), progress.Total), rel
		job.Tell(now)
		return false
	})
	if err != nil {
		return partDirectory{}, nil, err
	}
	lost, err := s.check(ctx, job, skip, l, sum)
	if err != nil {
		return partDirectory{}, nil, err
	}
	d := l.directory
	d.count = count{Files: sum.Files, Directories: sum.Directories, Symlinks: sum.Symlinks, Bytes: sum.Bytes}
	d.Changed, d.Skipped, d.Vanished = few(sum.Changed), few(sum.Skipped), few(lost)
	return d, l.owners, nil
}

// listing is a directory as it was when its capture began (S15).
type listing struct {
	directory partDirectory
	before    *census
	files     []string
	owners    []remora.FileOwner
}

func (s subject) list(ctx context.Context, job remora.Job, skip func(string) bool) (*listing, error) {
	info, err := os.Lstat(s.at)
	if err != nil {
		return nil, fault(captureOp, s.at, err)
	}
	l := &listing{directory: partDirectory{Path: s.dir, owned: rootOwned(info), Modified: info.ModTime()}}
	if err := l.note(s.at, ".", info); err != nil {
		return nil, err
	}
	l.before, err = look(ctx, captureOp, job, s.at, skip, func(rel string, info fs.FileInfo) error { return l.note(s.at, rel, info) })
	return l, err
}

// note keeps what the writer does not: extended attributes, and the names that must still be there at the end.
func (l *listing) note(base, rel string, info fs.FileInfo) error {
	if o, ok := ownerOf(info); ok && len(l.owners) < maxOwners && !slices.Contains(l.owners, o) {
		l.owners = append(l.owners, o)
	}
	if info.Mode().IsRegular() {
		l.files = append(l.files, rel)
	} else if !info.IsDir() {
		return nil
	}
	at := filepath.Join(base, filepath.FromSlash(rel))
	found, err := attributes(at)
	if err != nil {
		return fault(captureOp, at, err)
	}
	if found != nil {
		if l.directory.Attributes == nil {
			l.directory.Attributes = map[string]map[string][]byte{}
		}
		l.directory.Attributes[rel] = found
	}
	return nil
}

// check compares what was stored with what our own eyes saw before and after. It returns the files that were there
// at the start and are gone at the end.
func (s subject) check(ctx context.Context, job remora.Job, skip func(string) bool, l *listing, sum remora.TreeSummary) (lost []string, err error) {
	if inode, err := inodeAt(s.at); err != nil || inode != s.inode {
		return nil, &remora.Problem{
			Op: captureOp, Kind: remora.Changed, Subject: s.at, Err: errors.Join(errors.New("the directory was replaced by another one while it was read"), err),
			Hint: "run the backup again",
		}
	}
	after, err := look(ctx, captureOp, job, s.at, skip, nil)
	if err != nil {
		return nil, err
	}
	stored := count{Files: sum.Files, Directories: sum.Directories, Symlinks: sum.Symlinks, Bytes: sum.Bytes}
	if l.before.same(after) {
		if stored.Bytes != after.Bytes && len(sum.Changed) > 0 {
			stored.Bytes = after.Bytes
		}
		if stored != after.count {
			return nil, s.miscounted(stored, after.count)
		}
		return nil, nil
	}
	for _, rel := range l.files {
		if _, err := os.Lstat(filepath.Join(s.at, filepath.FromSlash(rel))); errors.Is(err, fs.ErrNotExist) {
			lost = append(lost, rel)
		}
	}
	// What was there all the time must be in the backup; what came or went meanwhile may be.
	if sum.Files < l.before.Files-int64(len(lost)) {
		return nil, s.miscounted(stored, l.before.count)
	}
	return lost, nil
}

func (s subject) miscounted(stored, counted count) error {
	return &remora.Problem{
		Op: captureOp, Kind: remora.Corrupt, Subject: s.at,
		Err: fmt.Errorf("%d files, %d directories, %d symlinks and %d bytes were stored, but %d, %d, %d and %d are there",
			stored.Files, stored.Directories, stored.Symlinks, stored.Bytes, counted.Files, counted.Directories, counted.Symlinks, counted.Bytes),
		Hint: "run the backup again; if this stays, it is a bug of ours",
	}
}

func (d partDirectory) warnings() []string {
	var w []string
	for _, sort := range []struct {
		names []string
		what  string
	}{
		{d.Changed, "changed while they were read"},
		{d.Skipped, "cannot be stored and were skipped"},
		{d.Vanished, "vanished while the directory was read"},
	} {
		if n := len(sort.names); n > 0 {
			w = append(w, fmt.Sprintf("%d in %s %s: %s", n, d.Path, sort.what, strings.Join(sort.names[:min(n, 3)], ", ")))
		}
	}
	return w
}

func few(names []string) []string { return names[:min(len(names), maxNames)] }
