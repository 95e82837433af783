package filetree

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"github.com/remora-backup/remora/internal/remora"
)

// An exchange by entry leaves a directory where it is, because it is mounted, and exchanges what lies in it. Each
// entry is a small exchange of its own, so a crash leaves some of them on one side and some on the other, and the next
// call goes on. Which side is live is read from our private folder alone: nobody else changes that, while the
// application may change what is live at any time (see docs/decisions, 0012).

// entrySpots adds to found where the entries of a directory are. top is the directory itself.
func (t *Tree) entrySpots(found []spot, j *journal, top spot) ([]spot, error) {
	away, err := top.entriesBelow(filepath.Join(t.shelf(j.ByEntry, top.Path), j.stageName()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	whole := top.away.Inode == top.Staged.Inode
	for _, e := range top.Entries {
		s := spot{dir: top.Path, away: identity{Inode: away[e.Name].inode}}
		s.Path = top.Path + "/" + e.Name
		s.Before.Inode, s.Staged.Inode = e.Before, e.Staged
		if s.side, err = t.entrySide(s); err != nil {
			return nil, err
		}
		s.want = whole && s.away.Inode == map[remora.Side]uint64{remora.Replaced: e.Staged, remora.Restored: e.Before}[s.side]
		found = append(found, s)
	}
	return found, nil
}

// entrySide is the side of an entry that is live: the one that is not put away.
func (t *Tree) entrySide(s spot) (remora.Side, error) {
	switch {
	case s.Before.exists() && s.away.Inode == s.Before.Inode:
		return remora.Restored, nil
	case s.Staged.exists() && s.away.Inode == s.Staged.Inode, !s.Staged.exists():
		return remora.Replaced, nil
	case !s.Before.exists():
		return remora.Restored, nil
	}
	// The application removed the other one in the middle of the exchange.
	live, err := identityAt(t.live(s.Path))
	switch live.Inode {
	case s.Before.Inode:
		return remora.Replaced, err
	case s.Staged.Inode:
		return remora.Restored, err
	default:
		return "", err
	}
}

// note writes down which entries each side has, side being the live one. Live entries that no backup holds, and that
// have no counterpart, take no part: they stay where they are (S8).
func (x *exchange) note(side remora.Side) error {
	for i := range x.j.Directories {
		d := &x.j.Directories[i]
		if !x.j.byEntry(*d) {
			continue
		}
		live, err := d.entriesBelow(x.t.cfg.Root)
		if err != nil {
			return err
		}
		away, err := d.entriesBelow(filepath.Join(x.t.shelf(x.j.ByEntry, d.Path), x.j.stageName()))
		if err != nil {
			return err
		}
		names := maps.Clone(away)
		for name, e := range live {
			if away[name].inode != 0 || d.Chosen != nil || !e.special && utf8.ValidString(name) && !patterns(x.j.Stay).match(name) {
				names[name] = e
			}
		}
		d.Entries = []journalEntry{}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if reserved(name) {
				continue
			}
			e := journalEntry{Name: name, Before: live[name].inode, Staged: away[name].inode}
			if side == remora.Restored {
				e.Before, e.Staged = e.Staged, e.Before
			}
			d.Entries = append(d.Entries, e)
		}
	}
	return nil
}

// renote notes what the entries have become: the application may have removed some while they moved.
func (x *exchange) renote(side remora.Side) error {
	noted := func(d journalDirectory) bool { return d.Entries != nil }
	if x.j.unproven() || !slices.ContainsFunc(x.j.Directories, noted) { // nothing has moved
		return nil
	}
	return x.note(side)
}

// list notes the entries before the first of them moves.
func (x *exchange) list() (err error) {
	if err := x.note(x.before); err != nil {
		return err
	}
	if err := x.h.write(x.j); err != nil {
		return err
	}
	x.spots, err = x.t.spots(x.j)
	return err
}

type dirEntry struct {
	inode   uint64
	special bool
}

// entriesBelow are the entries of a directory that take part, by their names in it, where it lies below a folder.
func (d journalDirectory) entriesBelow(folder string) (map[string]dirEntry, error) {
	if d.Chosen == nil {
		return inodes(filepath.Join(folder, filepath.FromSlash(d.Path)))
	}
	found := map[string]dirEntry{}
	for _, name := range d.Chosen {
		there, err := identityIn(folder, path.Join(d.Path, name))
		if err != nil {
			return nil, err
		}
		if there.exists() {
			found[name] = dirEntry{inode: there.Inode}
		}
	}
	return found, nil
}

// inodes lists a folder.
func inodes(folder string) (map[string]dirEntry, error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	listed, err := f.Readdir(-1)
	found := make(map[string]dirEntry, len(listed))
	for _, info := range listed {
		found[info.Name()] = dirEntry{inode: identityOf(info).Inode, special: special(info)}
	}
	return found, errors.Join(err, f.Close())
}
