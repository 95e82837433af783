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

// workFolder opens the folder beside the root. The error is fs.ErrNotExist when there is none.
func (t *Tree) workFolder(op string) (*os.Root, error) {
	parent, err := os.OpenRoot(filepath.Dir(t.root))
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
		return nil, &remora.Problem{
			Op: op, Kind: remora.Denied, Subject: t.work, Err: errors.New("it is not a directory of the worker's own user"),
			Hint: "find out who made it; remora keeps the side that is not live there",
		}
	}
	return parent.OpenRoot(workName)
}

// makeWorkFolder opens the folder, made where needed, so that nobody else can look into it.
func (t *Tree) makeWorkFolder(op string) (*os.Root, error) {
	if err := os.Mkdir(t.work, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	work, err := t.workFolder(op)
	if err != nil {
		return nil, err
	}
	// A list that the parent passes on would otherwise appear on everything that is staged.
	if err := errors.Join(work.Chmod(".", 0o700), dropInherited(t.work)); err != nil {
		_ = work.Close()
		return nil, err
	}
	return work, nil
}

// held is the lock of a source's directories (S3, S11).
type held struct {
	work *os.Root
	file *os.File
}

// lockWait is how long a step waits for another process of the same source.
const lockWait = 5 * time.Second

// lock makes this process the only one that stages, compares, switches or discards. A frozen process keeps the lock;
// its successor is told which process that is.
func (t *Tree) lock(ctx context.Context, op, run string) (*held, error) {
	for end := time.Now().Add(lockWait); ; {
		h, holder, err := t.tryLock(op, run)
		if h != nil || err != nil {
			return h, err
		}
		if time.Now().After(end) {
			return nil, &remora.Problem{
				Op: op, Kind: remora.Busy, Subject: t.work, Err: fmt.Errorf("another process works on these directories: %s", holder),
				Hint: "wait for it; if it is frozen, end that process",
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// tryLock returns nil and the holder when somebody has the lock, or nil and no error when it is worth another try.
func (t *Tree) tryLock(op, run string) (_ *held, holder string, err error) {
	work, err := t.makeWorkFolder(op)
	if errors.Is(err, fs.ErrNotExist) {
		if _, gone := os.Stat(filepath.Dir(t.root)); gone == nil {
			return nil, "one that is just ending", nil // its folder was removed between two calls
		}
	}
	if err != nil {
		return nil, "", fault(op, t.work, err)
	}
	h := &held{work: work}
	defer func() {
		if err != nil || holder != "" {
			h.release()
		}
	}()
	h.file, err = work.OpenFile(t.lockName(), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "one that is just ending", nil
	}
	if err != nil {
		return nil, "", fault(op, t.work, err)
	}
	if err := unix.Flock(int(h.file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, "", fault(op, t.work, err)
		}
		text := make([]byte, 256)
		n, _ := h.file.ReadAt(text, 0)
		return nil, "held by " + strings.TrimSpace(string(text[:n])), nil
	}
	// The holder before us may have removed the file that we have just locked: then the lock is another file.
	ours, err := h.file.Stat()
	if err != nil {
		return nil, "", fault(op, t.work, err)
	}
	if there, err := work.Lstat(t.lockName()); err != nil || !os.SameFile(ours, there) {
		return nil, "one that is just ending", nil
	}
	_ = h.file.Truncate(0)
	_, _ = h.file.WriteAt([]byte(fmt.Sprintf("process %d, run %s\n", os.Getpid(), run)), 0)
	return h, "", nil
}

// take locks, where the run has a journal, and reads that. A run that left nothing behind gets neither, and leaves
// nothing behind now; release may be called all the same.
func (t *Tree) take(ctx context.Context, op, run string) (*held, *journal, error) {
	work, err := t.workFolder(op)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fault(op, t.work, err)
	}
	j, err := t.ours(op, work, run)
	if err := errors.Join(err, work.Close()); j == nil || err != nil {
		return nil, nil, err
	}
	h, err := t.lock(ctx, op, run)
	if err != nil {
		return nil, nil, err
	}
	if j, err = t.ours(op, h.work, run); err != nil {
		h.release()
		return nil, nil, err
	}
	return h, j, nil
}

func (t *Tree) lockName() string { return t.source + ".lock" }

func (h *held) release() {
	if h == nil {
		return
	}
	if h.file != nil {
		_ = h.file.Close()
	}
	_ = h.work.Close()
}
