package filetree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

// workFolder opens a folder that holds what is not live. The error is fs.ErrNotExist when there is none.
func workFolder(at string) (*os.Root, error) {
	parent, err := os.OpenRoot(filepath.Dir(at))
	if err != nil {
		return nil, err
	}
	defer func() { _ = parent.Close() }()
	info, err := parent.Lstat(workName)
	if err != nil {
		return nil, err
	}
	// Somebody else's folder, or a link that leads elsewhere, could take or change what we put there.
	if owner, _ := ownerOf(info); !info.IsDir() || int(owner.UID) != os.Geteuid() {
		return nil, refuse(remora.Denied, at, "find out who made it; remora keeps the side that is not live there", "it is not a directory of the worker's own user")
	}
	return parent.OpenRoot(workName)
}

// makeWorkFolder makes it where it is missing, and private where it is not.
func makeWorkFolder(at string) (*os.Root, error) {
	if err := os.Mkdir(at, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	work, err := workFolder(at)
	if err != nil {
		return nil, err
	}
	// A list that the parent passes on would otherwise appear on everything that is staged.
	if err := errors.Join(work.Chmod(".", 0o700), dropInherited(at)); err != nil {
		return nil, errors.Join(err, work.Close())
	}
	return work, nil
}

// held is the lock of a source's directories (S3, S11).
type held struct {
	work *os.Root // with the lock and the journals
	file *os.File
	// shelves are the work folders within the directories, by directory; empty where work holds all.
	shelves map[string]*os.Root
}

// shelf is the work folder that holds the other side of a directory.
func (h *held) shelf(dir string) *os.Root {
	if own, ok := h.shelves[dir]; ok {
		return own
	}
	return h.work
}

// clear removes everything that a run has put aside, but for its journal.
func (h *held) clear(run string) error {
	err := errors.Join(h.work.RemoveAll(run+".json.tmp"), h.work.RemoveAll(run+".spare"), removeTree(h.work, run))
	for _, shelf := range h.shelves {
		err = errors.Join(err, removeTree(shelf, run))
	}
	return err
}

// lockWait is how long a step waits for another process of the same source.
const lockWait = 5 * time.Second

// lock makes this process the only one that stages, compares, switches or discards. A frozen process keeps the lock;
// its successor is told which process that is.
func (t *Tree) lock(ctx context.Context, run string) (*held, error) {
	if err := checkRun(run); err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockWait); ; {
		h, err := t.tryLock(run)
		if remora.KindOf(err) != remora.Busy || time.Now().After(end) {
			return h, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// tryLock fails with remora.Busy while another try may succeed.
func (t *Tree) tryLock(run string) (h *held, err error) {
	if _, err := os.Stat(filepath.Dir(t.work)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			h.release()
		}
		// Whoever ends the last run removes the folder and the lock, also between two of our calls.
		if errors.Is(err, fs.ErrNotExist) {
			err = t.busy("one that is just ending")
		}
	}()
	h = &held{shelves: map[string]*os.Root{}}
	if h.work, err = makeWorkFolder(t.work); err != nil {
		return h, err
	}
	if h.file, err = h.work.OpenFile(t.lockName(), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return h, err
	}
	err = unix.Flock(int(h.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		text := make([]byte, 256)
		n, _ := h.file.ReadAt(text, 0)
		return h, t.busy("held by " + strings.TrimSpace(string(text[:n])))
	}
	if err != nil {
		return h, err
	}
	// The holder before us may have removed the file that we have just locked: then the lock is another file.
	ours, err := h.file.Stat()
	if err != nil {
		return h, err
	}
	if there, err := h.work.Lstat(t.lockName()); err != nil || !os.SameFile(ours, there) {
		return h, fs.ErrNotExist
	}
	_ = h.file.Truncate(0)
	_, _ = h.file.WriteAt([]byte(fmt.Sprintf("process %d, run %s\n", os.Getpid(), run)), 0)
	return h, t.openShelves(h)
}

func (t *Tree) openShelves(h *held) error {
	if !t.cfg.ByEntry {
		return nil
	}
	for _, dir := range t.cfg.Directories {
		shelf, err := makeWorkFolder(t.shelf(true, dir))
		if errors.Is(err, fs.ErrNotExist) {
			err = refuseMissing([]place{{dir: dir, at: t.live(dir)}})
		}
		if err != nil {
			return err
		}
		h.shelves[dir] = shelf
	}
	return nil
}

func (t *Tree) busy(holder string) error {
	return refuse(remora.Busy, t.work, "wait for it; if it is frozen, end that process", "another process works on these directories: %s", holder)
}

// take locks, and reads the journal of a run. A run that left nothing behind, errNoJournal, leaves nothing behind
// now.
func (t *Tree) take(ctx context.Context, run string) (*held, *journal, error) {
	if _, err := t.find(run); err != nil {
		return nil, nil, err
	}
	h, err := t.lock(ctx, run)
	if err != nil {
		return nil, nil, err
	}
	j, err := t.ours(h.work, run)
	if err != nil {
		_ = t.tidy(h) // somebody has just discarded it: the lock file alone is left, if anything
		h.release()
		return nil, nil, err
	}
	return h, j, nil
}

func (t *Tree) lockName() string { return t.cfg.Source + ".lock" }

func (h *held) release() {
	if h.file != nil {
		_ = h.file.Close()
	}
	if h.work != nil {
		_ = h.work.Close()
	}
	for _, shelf := range h.shelves {
		_ = shelf.Close()
	}
}
