package filetree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

const switchOp = "switch the files"

// Switch brings every directory to turn.Live by exchanging it with the one that lies beside the root. Each exchange
// is one step of the file system; a crash between two of them is finished by the next call, and an error puts back
// what was exchanged.
func (t *Tree) Switch(ctx context.Context, turn remora.Turn) error {
	if err := checkRun(switchOp, turn.Run); err != nil {
		return err
	}
	h, j, err := t.take(ctx, switchOp, turn.Run)
	if err != nil {
		return err
	}
	defer h.release()
	if j == nil {
		return noJournal(switchOp, t, turn.Run)
	}
	spots, err := t.admit(j, turn)
	if err != nil {
		return err
	}
	if err := t.intend(h, j, turn, spots); err != nil {
		return err
	}
	if err := t.turn(ctx, h, j, spots); err != nil {
		return fault(switchOp, t.root, err)
	}
	if j.State == turning {
		j.State = turned
	}
	return h.write(switchOp, j)
}

func noJournal(op string, t *Tree, run string) error {
	return &remora.Problem{
		Op: op, Kind: remora.Fenced, Subject: filepath.Join(t.work, run+".json"),
		Err:  errors.New("there is no journal of this run beside the files"),
		Hint: "is this the machine, and the disk, that the restore was staged on?",
	}
}

// admit refuses a turn that the journal or the directories contradict. Nothing has been touched then.
func (t *Tree) admit(j *journal, turn remora.Turn) ([]spot, error) {
	fenced := func(err error, hint string) error {
		return &remora.Problem{Op: switchOp, Kind: remora.Fenced, Subject: "run " + j.Run, Err: err, Hint: hint}
	}
	switch {
	case turn.Live != remora.Restored && turn.Live != remora.Replaced || turn.Seq < 1:
		return nil, &remora.Problem{Op: switchOp, Kind: remora.Invalid, Subject: "run " + j.Run, Err: fmt.Errorf("there is no turn %d to side %q", turn.Seq, turn.Live)}
	case turn.Seq < j.Seq || turn.Seq == j.Seq && turn.Live != j.Live:
		return nil, fenced(fmt.Errorf("turn %d to %s comes after turn %d to %s: %w", turn.Seq, turn.Live, j.Seq, j.Live, remora.ErrStaleTurn), "a later step has taken over; nothing to do")
	case j.State == discarding:
		return nil, fenced(errors.New("one side is already being discarded"), "start a new restore")
	case turn.Live == remora.Restored && (j.State == staging || j.State == staged):
		return nil, fenced(errors.New("the stage has not been compared with the backup"), "start a new restore")
	}
	if j.State == staging || j.State == staged {
		return nil, nil // the compensation of a stage that never became one: nothing has been exchanged
	}
	spots, err := t.spots(switchOp, j)
	if err != nil {
		return nil, err
	}
	for _, s := range spots {
		if s.side == "" || s.side != turn.Live && !s.want {
			return nil, t.unknown(switchOp, s)
		}
	}
	if turn.Live == remora.Restored {
		_, err = t.checkMounts(switchOp, paths(spots))
	}
	return spots, err
}

// unknown stops where a directory is neither the one that was replaced nor the restored one: somebody has moved it.
func (t *Tree) unknown(op string, s spot) error {
	return &remora.Problem{
		Op: op, Kind: remora.Changed, Subject: t.live(s.Path),
		Err: fmt.Errorf("what is live, or what is kept in %s, is not the directory (inode %d, restored %d) that the journal knows: it was made or moved by somebody else",
			t.work, s.Before.Inode, s.Staged.Inode),
		Hint: "move the known directory back, or start a new restore; remora touches neither until then",
	}
}

func paths(spots []spot) []string {
	list := make([]string, 0, len(spots))
	for _, s := range spots {
		list = append(list, s.Path)
	}
	return list
}

// intend writes what is about to happen.
func (t *Tree) intend(h *held, j *journal, turn remora.Turn, spots []spot) error {
	if turn.Seq > j.Seq {
		j.Was = j.Live
		if side, ok := level(spots); ok && len(spots) > 0 {
			j.Was = side
		}
		j.Seq, j.Live = turn.Seq, turn.Live
	}
	j.KeepUntil = turn.KeepUntil
	j.Switched = j.Switched || turn.Live == remora.Restored
	if j.State != staging && j.State != staged {
		j.State = turning
	}
	return h.write(switchOp, j)
}

// turn does it. From the first exchange on it is not interrupted.
func (t *Tree) turn(ctx context.Context, h *held, j *journal, spots []spot) error {
	x := &exchange{t: t, h: h, j: j, virgin: j.Seq == 1 && !slices.ContainsFunc(spots, func(s spot) bool { return s.side == remora.Restored })}
	err := x.prepare(ctx, spots)
	for i := range spots {
		if err != nil {
			break
		}
		if spots[i].side != j.Live {
			err = x.flip(&spots[i])
		}
	}
	if err == nil {
		err = x.settle()
	}
	if err == nil {
		return nil
	}
	return errors.Join(err, x.back(spots))
}

// exchange is the work of one Switch.
type exchange struct {
	t *Tree
	h *held
	j *journal
	// virgin tells that no staged directory had been live before this call.
	virgin bool
	moved  int
}

// prepare makes what the way there needs: the folders above a directory that does not exist, and in the restored
// directories the live entries that no backup holds.
func (x *exchange) prepare(ctx context.Context, spots []spot) error {
	if x.j.Live != remora.Restored {
		return nil
	}
	for _, s := range spots {
		if s.side == remora.Restored {
			continue
		}
		if !s.Existed {
			if err := x.makeFolders(s.Path); err != nil {
				return err
			}
			continue
		}
		if x.j.Seq > 1 {
			continue
		}
		n, err := x.t.carry(ctx, x.j, s.Path)
		if err != nil {
			return err
		}
		x.j.Carried += n
		if n > 0 {
			x.t.log.InfoContext(ctx, "carried what the backup leaves out", slog.String("directory", s.Path), slog.Int64("entries", n))
		}
	}
	return nil
}

// makeFolders makes the folders above a directory, journalled, as the root was.
func (x *exchange) makeFolders(dir string) error {
	mode := fileMode(x.j.RootEntry.Mode)
	if mode.Perm() == 0 {
		mode = 0o755
	}
	for at := range ancestors(x.t.root, dir) {
		if at == x.t.live(dir) {
			return nil
		}
		if _, err := os.Lstat(at); err == nil {
			continue
		}
		x.j.Made = append(x.j.Made, at)
		if err := x.h.write(switchOp, x.j); err != nil {
			return err
		}
		if err := os.Mkdir(at, 0o700); err != nil {
			return err
		}
		owner := remora.FileOwner{UID: x.j.RootEntry.UID, GID: x.j.RootEntry.GID}
		if x.j.RootEntry.Mode != 0 && currentOwnership().may(owner) {
			if err := os.Lchown(at, int(owner.UID), int(owner.GID)); err != nil {
				return err
			}
		}
		if err := os.Chmod(at, mode); err != nil {
			return err
		}
	}
	return nil
}

// flip exchanges the two sides of one directory, or moves the one that exists.
func (x *exchange) flip(s *spot) error {
	live, away, closeAll, err := x.parents(s.Path)
	if err != nil {
		return err
	}
	defer closeAll()
	base := filepath.Base(filepath.FromSlash(s.Path))
	switch {
	case s.Existed:
		err = unix.Renameat2(live, base, away, base, unix.RENAME_EXCHANGE)
	case s.side == remora.Replaced:
		err = unix.Renameat2(away, base, live, base, unix.RENAME_NOREPLACE)
	default:
		err = unix.Renameat2(live, base, away, base, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		return fault(switchOp, x.t.live(s.Path), &os.PathError{Op: "exchange", Path: s.Path, Err: err})
	}
	x.moved++
	s.side = s.side.Other()
	return errors.Join(unix.Fsync(live), unix.Fsync(away))
}

// parents opens the folders that hold the two sides of a directory.
func (x *exchange) parents(dir string) (live, away int, closeAll func(), err error) {
	above := filepath.Dir(filepath.FromSlash(dir))
	liveFolder, err := os.OpenInRoot(x.t.root, above)
	if err != nil {
		return 0, 0, nil, err
	}
	awayFolder, err := x.h.work.Open(filepath.Join(x.j.stageName(), above))
	if err != nil {
		_ = liveFolder.Close()
		return 0, 0, nil, err
	}
	return int(liveFolder.Fd()), int(awayFolder.Fd()), func() { _, _ = liveFolder.Close(), awayFolder.Close() }, nil
}

// settle removes, on the way back, the folders that the way there had to make.
func (x *exchange) settle() error {
	if x.j.Live == remora.Restored {
		return nil
	}
	return x.unmake()
}

func (x *exchange) unmake() error {
	for i := len(x.j.Made) - 1; i >= 0; i-- {
		err := os.Remove(x.j.Made[i])
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
	}
	x.j.Made = nil
	return nil
}

// back brings every directory to the side that was live before the turn, as well as it can. What it cannot do, the
// next call finds: the journal says turning, and the directories say where they are.
func (x *exchange) back(spots []spot) error {
	var failed error
	for i := len(spots) - 1; i >= 0; i-- {
		if spots[i].side != x.j.Was {
			failed = errors.Join(failed, x.flip(&spots[i]))
		}
	}
	if failed != nil {
		return fmt.Errorf("and the way back failed: %w", failed)
	}
	if x.j.Was == remora.Replaced {
		failed = x.unmake()
	}
	// Nothing staged was ever live: the stage may be discarded without a backup of it.
	x.j.Switched = x.j.Switched && (!x.virgin || x.moved > 0)
	return errors.Join(failed, x.h.write(switchOp, x.j))
}
