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
func (t *Tree) Switch(ctx context.Context, turn remora.Turn) (err error) {
	defer tell(switchOp, t.root, &err)
	h, j, err := t.take(ctx, turn.Run)
	if err != nil {
		return err
	}
	defer h.release()
	spots, err := t.admit(j, turn)
	if err != nil {
		return err
	}
	x := &exchange{t: t, h: h, j: j, spots: spots, wasLive: j.Switched}
	if err := x.intend(turn); err != nil {
		return err
	}
	before, ok := level(spots)
	if !ok {
		before = turn.Live.Other() // a crash fell between two directories
	}
	if err := x.turn(ctx); err != nil {
		tell(switchOp, t.root, &err)
		return errors.Join(err, x.back(before))
	}
	if j.State == turning {
		j.State = turned
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
	case j.unproven() && turn.Live == remora.Restored:
		return nil, refuse(remora.Fenced, run, "start a new restore", "the stage has not been compared with the backup")
	case j.unproven():
		return nil, nil // the compensation of a stage that never became one: nothing has been exchanged
	}
	spots, err := t.spots(j)
	if err != nil {
		return nil, err
	}
	places := make([]place, 0, len(spots))
	for _, s := range spots {
		if s.side == "" || s.side != turn.Live && !s.want {
			return nil, t.unknown(s)
		}
		places = append(places, place{dir: s.Path})
	}
	if turn.Live == remora.Restored {
		_, err = t.checkMounts(places)
	}
	return spots, err
}

// exchange is the work of one Switch.
type exchange struct {
	t     *Tree
	h     *held
	j     *journal
	spots []spot
	// wasLive tells that a staged directory was, or may have been, live.
	wasLive bool
}

// intend writes what is about to happen.
func (x *exchange) intend(turn remora.Turn) error {
	x.j.Seq, x.j.Live, x.j.KeepUntil = turn.Seq, turn.Live, turn.KeepUntil
	if turn.Live == remora.Restored {
		x.j.Switched = true
		for _, s := range x.spots {
			above := ancestors(x.t.root, s.Path)
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
	for i := range x.spots {
		if x.spots[i].side != x.j.Live {
			if err := x.flip(&x.spots[i]); err != nil {
				return err
			}
		}
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
	for _, s := range x.spots {
		if s.side == remora.Restored || !s.Before.exists() || x.j.Seq > 1 {
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

// makeFolders makes the missing folders above the directories, as the root was.
func (x *exchange) makeFolders() error {
	owner := remora.FileOwner{UID: x.j.RootEntry.UID, GID: x.j.RootEntry.GID}
	given := x.j.RootEntry.Mode != 0 && currentOwnership().may(owner)
	mode := safeMode(fs.ModeDir|fileMode(x.j.RootEntry.Mode), given)
	if mode.Perm() == 0 {
		mode = 0o755
	}
	for _, at := range x.j.Made {
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

// flip exchanges the two sides of one directory, or moves the one that exists.
func (x *exchange) flip(s *spot) error {
	above, base := filepath.Split(filepath.FromSlash(s.Path))
	live, err := os.OpenInRoot(x.t.root, filepath.Clean(above))
	if err != nil {
		return err
	}
	defer func() { _ = live.Close() }()
	away, err := x.h.work.Open(filepath.Join(x.j.stageName(), above))
	if err != nil {
		return err
	}
	defer func() { _ = away.Close() }()
	from, to, how := away, live, uint(unix.RENAME_NOREPLACE)
	if s.Before.exists() {
		how = unix.RENAME_EXCHANGE
	} else if s.side == remora.Restored {
		from, to = live, away
	}
	if err := unix.Renameat2(int(from.Fd()), base, int(to.Fd()), base, how); err != nil {
		return &os.PathError{Op: "exchange", Path: x.t.live(s.Path), Err: err}
	}
	x.wasLive = true
	s.side = s.side.Other()
	return errors.Join(live.Sync(), away.Sync())
}

// back brings every directory to the side that was live before the turn, as well as it can. What it cannot do, the
// next call finds: the journal says turning, and the directories say where they are.
func (x *exchange) back(before remora.Side) error {
	var failed error
	for i := len(x.spots) - 1; i >= 0; i-- {
		if x.spots[i].side != before {
			failed = errors.Join(failed, x.flip(&x.spots[i]))
		}
	}
	if failed != nil {
		return fmt.Errorf("and the way back failed: %w", failed)
	}
	if before == remora.Replaced {
		failed = x.unmake()
	}
	// Where nothing staged was ever live, the stage may be discarded without a backup of it.
	x.j.Switched = x.wasLive
	return errors.Join(failed, x.h.write(x.j))
}
