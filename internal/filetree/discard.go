package filetree

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

// Discard removes the side of a run that is not live, and then its journal. It only ever removes below the run's own
// folders.
func (t *Tree) Discard(ctx context.Context, job remora.Job, heldBy string) (err error) {
	defer tell("discard what a restore left", t.work, &err)
	h, j, err := t.take(ctx, job.Run)
	if errors.Is(err, errNoJournal) {
		return nil
	}
	if err != nil {
		return err
	}
	defer h.release()
	if err := errors.Join(job.Stale("discard", j.Seq), t.mayDiscard(j, heldBy)); err != nil {
		return err
	}
	j.State, j.HeldBy = discarding, heldBy
	if err := h.write(j); err != nil {
		return err
	}
	if err := h.clear(j.Run); err != nil {
		return err
	}
	if err := h.work.Remove(j.Run + ".json"); err != nil {
		return err
	}
	return t.tidy(h)
}

// mayDiscard refuses while a directory is on neither side, or the directories on different ones, and wants to know
// which backup holds a side that was once live (S1).
func (t *Tree) mayDiscard(j *journal, heldBy string) error {
	mounts, err := readMounts(ownMounts, "")
	if err != nil {
		return err
	}
	for _, d := range j.Directories {
		folder := filepath.Join(t.shelf(j.ByEntry, d.Path), j.Run)
		if at := mountBelow(mounts, folder); at != "" {
			return refuse(remora.Unsupported, folder, "unmount it first", "a file system is mounted at %q", at)
		}
	}
	if j.State == discarding || !j.Switched || j.Copy { // of a copy, a backup is what it was built from
		return nil
	}
	spots, err := t.settledSpots(j)
	if err != nil || heldBy != "" {
		return err
	}
	for _, s := range spots {
		if s.away.exists() {
			return refuse(remora.Invalid, "run "+j.Run, "back the put-away side up first (remora accept does)",
				"the %s side of directory %s was once live, and no backup of it is named", s.side.Other(), s.Path)
		}
	}
	return nil
}

// removeTree removes a folder of ours with everything in it, never following a symlink. Directories that their owner
// may not write to are opened up first.
func removeTree(root *os.Root, name string) error {
	err := root.RemoveAll(name)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	walk := fs.WalkDir(root.FS(), name, func(at string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && err == nil {
			return root.Chmod(at, 0o700)
		}
		return nil
	})
	return errors.Join(walk, root.RemoveAll(name))
}

// tidy removes the lock file, and the work folders, when no run of this source needs them.
func (t *Tree) tidy(h *held) error {
	if err := h.sync(); err != nil {
		return err
	}
	left, err := t.journals()
	if err != nil || slices.ContainsFunc(left, func(j *journal) bool { return j.Source == t.cfg.Source }) {
		return err
	}
	// Whoever waits for this lock notices that its file is gone, and makes another.
	if err := h.work.Remove(t.lockName()); err != nil {
		return err
	}
	for _, dir := range t.cfg.Directories {
		if err := os.Remove(t.shelf(t.cfg.ByEntry, dir)); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
