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

// maxNames bounds how many names of one sort part.json lists; maxOwners how many owners.
const (
	maxNames  = 1000
	maxOwners = 100
)

// Capture stores the directories and, last, what it counted itself: a backup is only as good as its census.
func (t *Tree) Capture(ctx context.Context, job remora.Job, of remora.Subject, to remora.PartWriter) (sum remora.Summary, err error) {
	defer tell("back up the files", t.cfg.Root, &err)
	p := part{Format: partFormat, Source: t.cfg.Source, Host: t.where(), Captured: time.Now().UTC().Truncate(time.Second), PutAway: of.PutAway}
	if info, err := os.Lstat(t.cfg.Root); err == nil {
		p.Root = ownedBy(info)
	}
	skip := nothing
	if of.PutAway == "" {
		p.Exclude, skip = t.exclude, t.exclude.match
	}
	subjects, err := t.subjects(of)
	if err != nil {
		return sum, err
	}
	var warnings []string
	for _, s := range subjects {
		if !s.exists() {
			p.Missing = append(p.Missing, s.dir)
			warnings = append(warnings, "directory "+s.dir+" does not exist and is not in this backup")
			continue
		}
		c := &capture{place: s, job: job, skip: skip, part: &p}
		if err := c.run(ctx, to); err != nil {
			return sum, err
		}
		p.Directories = append(p.Directories, c.result)
		warnings = append(warnings, c.result.warnings()...)
	}
	if err := to.Put(ctx, remora.PartFile, func(w io.Writer) error { return json.NewEncoder(w).Encode(p) }); err != nil {
		return sum, fmt.Errorf("write %s: %w", remora.PartFile, err)
	}
	sum = p.summary()
	sum.Warnings = warnings
	return sum, nil
}

// subjects are the directories to capture, wherever they lie now.
func (t *Tree) subjects(of remora.Subject) ([]place, error) {
	if of.PutAway != "" {
		return t.putAwayPlaces(of.PutAway)
	}
	if err := t.halfSwitched(); err != nil {
		return nil, err
	}
	places, err := t.places()
	if err == nil && !of.Partial {
		err = refuseMissing(places)
	}
	return places, err
}

// refuseMissing makes sure that an unmounted disk never becomes a green backup.
func refuseMissing(places []place) error {
	for _, p := range places {
		if !p.exists() {
			return refuse(remora.Invalid, p.at, "check that its disk is mounted; else make it, or take it out of files.directories", "it does not exist")
		}
	}
	return nil
}

// halfSwitched refuses to back up directories of which some are on one side of a restore and some on the other.
func (t *Tree) halfSwitched() error {
	found, err := t.journals()
	if err != nil {
		return err
	}
	for _, j := range found {
		if j.State != turning {
			continue
		}
		spots, err := t.spots(j)
		if err != nil {
			return err
		}
		if _, ok := level(spots); !ok {
			return refuse(remora.Busy, t.cfg.Root, "let it finish, or end it with remora rollback", "the restore of run %s stands between two directories", j.Run)
		}
	}
	return nil
}

// putAwayPlaces finds the side of a restore that is not live. Nothing is a valid answer: there was nothing before.
func (t *Tree) putAwayPlaces(run string) ([]place, error) {
	j, err := t.find(run)
	if err != nil {
		return nil, err
	}
	if _, err := t.settledSpots(j); err != nil {
		return nil, err
	}
	var found []place
	for _, d := range j.Directories {
		here := place{dir: d.Path, at: t.putAway(j, d.Path), identity: d.Staged, chosen: d.Chosen} // of entries: their folder
		if !j.ByEntry {
			if here.identity, err = identityAt(here.at); err != nil {
				return nil, err
			}
		}
		if here.exists() {
			found = append(found, here)
		}
	}
	return found, nil
}

// capture is the work on one directory.
type capture struct {
	place
	job    remora.Job
	skip   func(rel string) bool
	part   *part
	result partDirectory
	files  []string // what was there when it began (S15)
}

func (c *capture) run(ctx context.Context, to remora.PartWriter) error {
	c.result.Path, c.result.Chosen = c.dir, c.chosen
	before, err := look(ctx, c.job, c.at, c.skip, c.note)
	if err != nil {
		return err
	}
	progress := remora.Progress{Phase: "archive " + c.dir, Total: before.entries(), Unit: "files", Since: time.Now()}
	var seen atomic.Int64
	stored, err := to.PutTree(ctx, c.dir, c.at, func(rel string) bool {
		if c.skip(rel) {
			return true
		}
		now := progress
		now.Done, now.Item = min(seen.Add(1), progress.Total), rel
		c.job.Tell(now)
		return false
	})
	if err != nil {
		return err
	}
	c.result.count = count{Files: stored.Files, Directories: stored.Directories, Symlinks: stored.Symlinks, Bytes: stored.Bytes}
	c.result.Changed, c.result.Skipped = few(stored.Changed), few(stored.Skipped)
	return c.check(ctx, before)
}

// note keeps what the writer does not: extended attributes, and the names that must still be there at the end.
func (c *capture) note(rel string, info fs.FileInfo) error {
	if o, ok := ownerOf(info); ok && len(c.part.Owners) < maxOwners && !slices.Contains(c.part.Owners, o) {
		c.part.Owners = append(c.part.Owners, o)
	}
	switch {
	case rel == ".":
		c.result.owned, c.result.Modified = ownedBy(info), info.ModTime()
	case info.Mode().IsRegular():
		c.files = append(c.files, rel)
	case !info.IsDir():
		return nil
	}
	found, err := attributes(filepath.Join(c.at, filepath.FromSlash(rel)))
	if err != nil {
		return fmt.Errorf("read the extended attributes of %s: %w", rel, err)
	}
	if len(found) > 0 {
		if c.result.Attributes == nil {
			c.result.Attributes = map[string]map[string][]byte{}
		}
		c.result.Attributes[rel] = found
	}
	return nil
}

// check compares what was stored with what our own eyes saw before and after, and names the files that were there at
// the start and are gone at the end.
func (c *capture) check(ctx context.Context, before *census) error {
	if now, err := identityAt(c.at); err != nil || now.Inode != c.Inode {
		return refuse(remora.Changed, c.at, "run the backup again", "%w", errors.Join(errors.New("the directory was replaced by another one while it was read"), err))
	}
	after, err := look(ctx, c.job, c.at, c.skip, unseen)
	if err != nil {
		return err
	}
	stored := c.result.count
	if before.same(after) {
		if len(c.result.Changed) > 0 {
			stored.Bytes = after.Bytes
		}
		if stored != after.count {
			return c.miscounted(after.count)
		}
		return nil
	}
	var lost []string
	for _, rel := range c.files {
		if _, err := os.Lstat(filepath.Join(c.at, filepath.FromSlash(rel))); errors.Is(err, fs.ErrNotExist) {
			lost = append(lost, rel)
		}
	}
	c.result.Vanished = few(lost)
	// What was there all the time must be in the backup; what came or went meanwhile may be.
	if stored.Files < before.Files-int64(len(lost)) {
		return c.miscounted(before.count)
	}
	return nil
}

func (c *capture) miscounted(counted count) error {
	return refuse(remora.Corrupt, c.at, "run the backup again; if this stays, it is a bug of ours", "%v were stored, but %v are there", c.result.count, counted)
}

func (d partDirectory) warnings() (w []string) {
	add := func(what string, names []string) {
		if n := len(names); n > 0 {
			w = append(w, fmt.Sprintf("%d in %s %s: %s", n, d.Path, what, strings.Join(names[:min(n, 3)], ", ")))
		}
	}
	add("changed while they were read", d.Changed)
	add("cannot be stored and were skipped", d.Skipped)
	add("vanished while the directory was read", d.Vanished)
	return w
}

func few(names []string) []string { return names[:min(len(names), maxNames)] }
