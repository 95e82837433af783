package filetree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

const switchOp = "switch the files"

// Switch brings every directory to turn.Live by exchanging it with the one that lies beside the root. Each exchange
// is one step of the file system; a crash between two of them is finished by the next call, and an error puts back
// what was exchanged.
func (t *Tree) Switch(ctx context.Context, turn remora.Turn) (err error) {
	defer tell(switchOp, t.cfg.Root, &err)
	h, j, err := t.take(ctx, turn.Run)
	if err != nil {
		return err
	}
	defer h.release()
	spots, err := t.admit(j, turn)
	if err != nil {
		return err
	}
	if turn.Stay {
		j.Seq, j.KeepUntil = turn.Seq, turn.KeepUntil
		return h.write(j)
	}
	x := &exchange{t: t, h: h, j: j, spots: spots, wasLive: j.Switched}
	defer func() { _ = x.close() }()
	before, ok := level(spots)
	switch {
	case !ok:
		before = turn.Live.Other() // a crash fell between two directories
	case len(spots) == 0:
		before = j.Live
	}
	x.settled, x.before = ok, before
	if err := x.intend(turn); err != nil {
		return err
	}
	if err := x.turn(ctx); err != nil {
		tell(switchOp, t.cfg.Root, &err)
		return errors.Join(err, x.back())
	}
	if j.State == turning {
		j.State = turned
		if err := x.renote(turn.Live); err != nil {
			return err
		}
	}
	return h.write(j)
}

// admit refuses a turn that the journal or the directories contradict. Nothing has been touched then.
func (t *Tree) admit(j *journal, turn remora.Turn) ([]spot, error) {
	run := "run " + j.Run
	switch {
	case turn.Live != remora.Restored && turn.Live != remora.Replaced || turn.Seq < 1:
		return nil, refuse(remora.Invalid, run, "", "there is no turn %d to side %q", turn.Seq, turn.Live)
	case turn.Seq < j.Seq || turn.Seq == j.Seq && turn.Live != j.Live:
		return nil, refuse(remora.Fenced, run, "a later step has taken over; nothing to do",
			"turn %d to %s comes after turn %d to %s: %w", turn.Seq, turn.Live, j.Seq, j.Live, remora.ErrStaleTurn)
	case j.State == discarding:
		return nil, refuse(remora.Fenced, run, "start a new restore", "one side is already being discarded")
	case turn.Stay && (turn.Live != j.Live || j.State != turned):
		return nil, refuse(remora.Fenced, run, "finish it first: remora rollback", "the %s side is not live", turn.Live)
	case turn.Stay: // wherever the directories are: none is touched
		return nil, nil
	case j.unproven() && turn.Live == remora.Restored:
		return nil, refuse(remora.Fenced, run, "start a new restore", "the stage has not been compared with the backup")
	case j.unproven():
		return nil, nil // the compensation of a stage that never became one: nothing has been exchanged
	}
	spots, err := t.spots(j)
	if err != nil {
		return nil, err
	}
	for _, s := range spots {
		if s.side == "" || s.side != turn.Live && !s.want {
			return nil, t.unknown(s)
		}
	}
	if turn.Live == remora.Restored {
		_, err = t.checkMounts(j.places())
	}
	return spots, err
}

// exchange is the work of one Switch.
type exchange struct {
	t     *Tree
	h     *held
	j     *journal
	spots []spot
	// before is the side that was live; settled tells that all of it was.
	before  remora.Side
	settled bool
	// wasLive tells that a staged directory was, or may have been, live.
	wasLive bool

	// above is the folder that live and away are open at: most entries have it in common with the one before.
	above      string
	live, away *os.File
}

// intend writes what is about to happen.
func (x *exchange) intend(turn remora.Turn) error {
	x.j.Seq, x.j.Live, x.j.KeepUntil = turn.Seq, turn.Live, turn.KeepUntil
	if turn.Live == remora.Restored {
		x.j.Switched = true
		for _, p := range x.j.places() {
			above := ancestors(x.t.cfg.Root, p.dir)
			if there, err := identityAt(x.t.putAway(x.j, p.dir)); err != nil || !there.exists() {
				continue // nothing comes there
			}
			for _, at := range above[:len(above)-1] {
				if _, err := os.Lstat(at); errors.Is(err, fs.ErrNotExist) && !slices.Contains(x.j.Made, at) {
					x.j.Made = append(x.j.Made, at)
				}
			}
		}
	}
	if !x.j.unproven() {
		x.j.State = turning
	}
	return x.h.write(x.j)
}

// turn does it. From the first exchange on it is not interrupted.
func (x *exchange) turn(ctx context.Context) error {
	if x.j.Live == remora.Restored {
		if err := x.prepare(ctx); err != nil {
			return err
		}
	}
	if x.settled && x.before != x.j.Live && !x.j.unproven() {
		if err := x.list(); err != nil {
			return err
		}
	}
	for i := range x.spots {
		if x.spots[i].side != x.j.Live {
			if err := x.flip(&x.spots[i]); err != nil {
				return err
			}
		}
	}
	if err := x.close(); err != nil {
		return err
	}
	if x.j.Live == remora.Replaced {
		return x.unmake()
	}
	return nil
}

// prepare makes what the way there needs: the folders above a directory that does not exist, and, the first time, in
// the restored directories the live entries that no backup holds.
func (x *exchange) prepare(ctx context.Context) error {
	if err := x.makeFolders(); err != nil {
		return err
	}
	for _, d := range x.uncarried() {
		n, err := x.t.carry(ctx, x.j, d)
		if err != nil {
			return err
		}
		x.j.Carried += n
		if n > 0 {
			x.t.log.InfoContext(ctx, "carried what the backup leaves out", slog.String("directory", d.Path), slog.Int64("entries", n))
		}
	}
	return nil
}

func (x *exchange) uncarried() (dirs []journalDirectory) {
	if x.j.Seq > 1 {
		return nil
	}
	for _, d := range x.j.Directories {
		if x.j.byEntry(d) && d.Before.exists() && x.settled && x.before == remora.Replaced {
			dirs = append(dirs, d)
		}
	}
	for _, s := range x.spots {
		if s.Path == s.dir && !x.j.byEntry(s.journalDirectory) && s.side == remora.Replaced && s.Before.exists() {
			dirs = append(dirs, s.journalDirectory)
		}
	}
	return dirs
}

// makeFolders makes the missing folders above what is exchanged: those within a directory as they were staged, others as
// the root was.
func (x *exchange) makeFolders() error {
	for _, at := range x.j.Made {
		like := x.j.RootEntry
		if rel, err := filepath.Rel(x.t.cfg.Root, at); err == nil && x.within(filepath.ToSlash(rel)) {
			info, err := os.Lstat(x.t.putAway(x.j, filepath.ToSlash(rel)))
			if err != nil {
				return err
			}
			like = ownedBy(info)
		}
		owner := remora.FileOwner{UID: like.UID, GID: like.GID}
		given := like.Mode != 0 && currentOwnership().may(owner)
		mode := safeMode(fs.ModeDir|like.mode(), given)
		err := os.Mkdir(at, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil && given {
			err = os.Lchown(at, int(owner.UID), int(owner.GID))
		}
		if err == nil {
			err = os.Chmod(at, mode)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// within tells whether a path is one of the directories, or lies in one.
func (x *exchange) within(at string) bool {
	return slices.ContainsFunc(x.j.Directories, func(d journalDirectory) bool { return within(at, d.Path) })
}

// unmake removes, on the way back, the folders that the way there had to make.
func (x *exchange) unmake() error {
	for _, at := range slices.Backward(x.j.Made) {
		if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
	}
	x.j.Made = nil
	return nil
}

// flip exchanges the two sides of one directory or entry, or moves the one that exists.
func (x *exchange) flip(s *spot) error {
	if err := x.open(s); err != nil {
		return err
	}
	base := path.Base(s.Path)
	from, to, how := x.away, x.live, uint(unix.RENAME_NOREPLACE)
	switch hasLive, hasAway := has(x.live, base), has(x.away, base); {
	case hasLive && hasAway && x.j.Copy:
		how = 0 // which replaces an empty directory, and nothing else
	case hasLive && hasAway:
		how = unix.RENAME_EXCHANGE
	case hasLive:
		from, to = x.live, x.away
	case !hasAway && s.Path != s.dir:
		from = nil // the application has just removed it
	}
	if from != nil {
		err := unix.Renameat2(int(from.Fd()), base, int(to.Fd()), base, how)
		switch {
		case x.j.Copy && (errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR)):
			return refuse(remora.Changed, x.t.live(s.Path), "choose a directory that does not exist yet", "somebody else has put something there meanwhile")
		case err != nil:
			return &os.PathError{Op: "exchange", Path: x.t.live(s.Path), Err: err}
		}
	}
	x.wasLive = true
	s.side = s.side.Other()
	return nil
}

// open opens the folders that hold the two sides, and sees that what was exchanged in the ones before is on disk.
// Between two exchanges in one folder it need not be: the disk then holds some of them, like after a kill.
func (x *exchange) open(s *spot) (err error) {
	above := path.Dir(s.Path)
	if x.live != nil && x.above == above {
		return nil
	}
	if err := x.close(); err != nil {
		return err
	}
	if x.live, err = folderAt(x.t.cfg.Root, above); err != nil {
		return err
	}
	if x.away, err = x.h.shelf(s.dir).Open(path.Join(x.j.stageName(), above)); err != nil {
		_ = x.live.Close()
		x.live = nil
		return err
	}
	x.above = above
	return nil
}

// close returns when all that was exchanged is on disk.
func (x *exchange) close() error {
	if x.live == nil {
		return nil
	}
	err := errors.Join(x.live.Sync(), x.away.Sync(), x.live.Close(), x.away.Close())
	x.live = nil
	return err
}

func has(folder *os.File, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(int(folder.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// back brings every directory to the side that was live before the turn, as well as it can. What it cannot do, the
// next call finds: the journal says turning, and the directories say where they are.
func (x *exchange) back() error {
	var failed error
	for i := len(x.spots) - 1; i >= 0; i-- {
		if x.spots[i].side != x.before {
			failed = errors.Join(failed, x.flip(&x.spots[i]))
		}
	}
	if failed != nil {
		return fmt.Errorf("and the way back failed: %w", failed)
	}
	failed = x.close()
	if x.before == remora.Replaced {
		failed = errors.Join(failed, x.unmake())
	}
	// Where nothing staged was ever live, the stage may be discarded without a backup of it.
	x.j.Switched = x.wasLive
	return errors.Join(failed, x.renote(x.before), x.h.write(x.j))
}

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
