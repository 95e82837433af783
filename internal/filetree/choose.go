package filetree

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/remora-backup/remora/internal/remora"
)

// A restore of some paths exchanges exactly these entries, at whatever depth they lie (see docs/decisions, 0039). For
// staging and comparing, the part is then one that holds nothing else but the folders that lead to them.

// choose leaves in a part the files and directories that are named by their paths below the root, with all that is below
// them. Where none is, what the part holds is meant. What it does not hold is refused by name.
func (p *part) choose(ctx context.Context, from fs.FS, paths []string) error {
	chosen := map[string][]string{} // by directory, empty for all of it
	for _, at := range paths {
		if !choosable(at) {
			return refuse(remora.Invalid, fmt.Sprintf("path %q", at), "name a file or directory as it lies below files.root, such as receipts/2026", "it is not a clean path below the root")
		}
		found := false
		for _, d := range p.Directories {
			names, some := chosen[d.Path]
			switch {
			case within(d.Path, at):
				chosen[d.Path], found = []string{}, true
			case within(at, d.Path):
				found = true
				if !some || len(names) > 0 {
					chosen[d.Path] = append(names, at[len(d.Path)+1:])
				}
			}
		}
		if !found {
			return refuse(remora.NotFound, fmt.Sprintf("path %q", at), "name something in "+strings.Join(p.names(), ", "), "it is in none of the directories of the backup")
		}
	}
	all := p.Directories
	p.Directories = nil
	for _, d := range all {
		names, some := chosen[d.Path]
		if len(paths) > 0 && !some {
			continue
		}
		held := d.Chosen
		if slices.ContainsFunc(held, func(name string) bool { return !choosable(name) }) {
			return corrupt(remora.PartFile, "what it holds of directory %q has no clean path", d.Path)
		}
		if d.Chosen = outermost(held); len(names) > 0 {
			d.Chosen = outermost(names)
		}
		if len(d.Chosen) > 0 {
			if err := d.tally(ctx, from, held, len(names) > 0); err != nil {
				return err
			}
		}
		p.Directories = append(p.Directories, d)
	}
	return nil
}

// choosable tells whether a path can be that of something below a folder.
func choosable(at string) bool {
	return fs.ValidPath(at) && at != "." && !strings.ContainsRune(at, 0) && len(at) <= maxPath && utf8.ValidString(at)
}

func (p part) names() (all []string) {
	for _, d := range p.Directories {
		all = append(all, d.Path)
	}
	return all
}

// outermost leaves out what lies within something else.
func outermost(names []string) (all []string) {
	for _, name := range slices.Sorted(slices.Values(names)) { // what holds others comes before them
		if !slices.ContainsFunc(all, func(other string) bool { return within(name, other) }) {
			all = append(all, name)
		}
	}
	return all
}

// means tells whether something in a directory is chosen, or leads to what is.
func (d partDirectory) means(rel string) bool {
	return len(d.Chosen) == 0 || slices.ContainsFunc(d.Chosen, func(name string) bool { return within(rel, name) || within(name, rel) })
}

// tally counts what is chosen. What a person has named must be there, and among what the part holds where that is not all.
func (d *partDirectory) tally(ctx context.Context, from fs.FS, held []string, named bool) error {
	missing := map[string]bool{}
	for _, name := range d.Chosen {
		missing[name] = named
	}
	d.count = count{Directories: 1}
	err := d.walk(ctx, from, func(_ context.Context, _ *errgroup.Group, _ string, entries []entry) error {
		for _, e := range entries {
			d.add(e.mode, e.size)
			delete(missing, e.rel)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range d.Chosen {
		outside := len(held) > 0 && !slices.ContainsFunc(held, func(h string) bool { return within(name, h) })
		switch {
		case outside && named:
			return refuse(remora.NotFound, fmt.Sprintf("path %q", path.Join(d.Path, name)), "name one of them", "of %s the backup holds these alone: %q", d.Path, held[:min(len(held), 5)])
		case missing[name]:
			return refuse(remora.NotFound, fmt.Sprintf("path %q", path.Join(d.Path, name)), d.near(from, name), "the backup does not hold it")
		}
	}
	return nil
}

// near says what a part has where something is missing, the most alike first.
func (d partDirectory) near(from fs.FS, missing string) string {
	d.Chosen = nil
	entries, err := d.list(from, path.Dir(missing))
	for err != nil && path.Dir(missing) != "." {
		missing = path.Dir(missing)
		entries, err = d.list(from, path.Dir(missing))
	}
	alike := func(e entry) (n int) {
		for n < min(len(e.rel), len(missing)) && e.rel[n] == missing[n] {
			n++
		}
		return n
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return alike(b) - alike(a) })
	some := []string{}
	for _, e := range entries[:min(len(entries), 3)] {
		some = append(some, path.Base(e.rel))
	}
	return fmt.Sprintf("in %s it has %q; remora ls shows all of it", path.Join(d.Path, path.Dir(missing)), some)
}
