package filetree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

const discardOp = "discard what a restore left"

// Discard removes the side of a run that is not live, and then its journal. It only ever removes below the run's own
// folder beside the root.
func (t *Tree) Discard(ctx context.Context, job remora.Job, heldBy string) error {
	if err := checkRun(discardOp, job.Run); err != nil {
		return err
	}
	h, j, err := t.take(ctx, discardOp, job.Run)
	if err != nil {
		return err
	}
	defer h.release()
	if j == nil {
		return nil
	}
	if err := t.mayDiscard(j, heldBy); err != nil {
		return err
	}
	j.State, j.HeldBy = discarding, heldBy
	if err := h.write(discardOp, j); err != nil {
		return err
	}
	if err := h.work.RemoveAll(j.Run + ".json.tmp"); err != nil {
		return fault(discardOp, t.work, err)
	}
	if err := removeTree(h.work, j.Run); err != nil {
		return fault(discardOp, filepath.Join(t.work, j.Run), err)
	}
	if err := h.work.Remove(j.Run + ".json"); err != nil {
		return fault(discardOp, t.work, err)
	}
	return t.tidy(h)
}

// mayDiscard refuses while a directory is on neither side, or the directories on different ones, and wants to know
// which backup holds a side that was once live (S1).
func (t *Tree) mayDiscard(j *journal, heldBy string) error {
	if at, err := mountedIn(filepath.Join(t.work, j.Run)); err != nil || at != "" {
		return &remora.Problem{
			Op: discardOp, Kind: remora.Unsupported, Subject: filepath.Join(t.work, j.Run), Hint: "unmount it first",
			Err: errors.Join(fmt.Errorf("a file system is mounted at %q", at), err),
		}
	}
	if j.State == discarding || !j.Switched {
		return nil
	}
	spots, err := t.settledSpots(discardOp, j)
	if err != nil || heldBy != "" {
		return err
	}
	for _, s := range spots {
		if s.away {
			return &remora.Problem{
				Op: discardOp, Kind: remora.Invalid, Subject: "run " + j.Run,
				Err:  fmt.Errorf("the %s side of directory %s was once live, and no backup of it is named", s.side.Other(), s.Path),
				Hint: "back the put-away side up first (remora accept does)",
			}
		}
	}
	return nil
}

func mountedIn(at string) (string, error) {
	mounts, err := readMounts("/proc/self/mountinfo")
	return mountBelow(mounts, at), err
}

// settledSpots are the directories of a run that stands wholly on one side.
func (t *Tree) settledSpots(op string, j *journal) ([]spot, error) {
	spots, err := t.spots(op, j)
	if err != nil {
		return nil, err
	}
	for _, s := range spots {
		if s.side == "" {
			return nil, t.unknown(op, s)
		}
	}
	if _, ok := level(spots); !ok {
		return nil, &remora.Problem{
			Op: op, Kind: remora.Fenced, Subject: "run " + j.Run, Err: errors.New("some directories are on the restored side and some on the replaced one"),
			Hint: "finish it first: remora rollback",
		}
	}
	return spots, nil
}

// tidy removes the lock file, and the work folder, when no run of this source needs them.
func (t *Tree) tidy(h *held) error {
	if err := syncFolder(h.work, "."); err != nil {
		return fault(discardOp, t.work, err)
	}
	left, err := t.journals(discardOp)
	if err != nil || slices.ContainsFunc(left, func(j *journal) bool { return j.Source == t.source }) {
		return err
	}
	// Whoever waits for this lock notices that its file is gone, and makes another.
	if err := h.work.Remove(t.lockName()); err != nil {
		return fault(discardOp, t.work, err)
	}
	if err := os.Remove(t.work); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, fs.ErrNotExist) {
		return fault(discardOp, t.work, err)
	}
	return nil
}
