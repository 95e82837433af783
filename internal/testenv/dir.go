package testenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const dirPrefix = "remora-test-"

// newDir makes the directory of this test binary, and removes those of earlier ones that were killed before they could
// clean up: a directory whose lock nobody holds has no owner any more. The path stays short, since sockets lie in it.
//
// The file is the lock: it stays open as long as the directory is in use.
func newDir() (string, *os.File, error) {
	old, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	if err != nil {
		return "", nil, err
	}
	for _, dir := range old {
		if err := removeAbandoned(dir); err != nil {
			return "", nil, fmt.Errorf("remove what an earlier test left: %w", err)
		}
	}
	// Locked before it has the name that the loop above looks for, so that it never looks abandoned.
	unlocked, err := os.MkdirTemp("", "."+dirPrefix)
	if err != nil {
		return "", nil, err
	}
	lock, err := os.Open(unlocked)
	if err != nil {
		return "", nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return "", nil, errors.Join(err, lock.Close())
	}
	dir := filepath.Join(filepath.Dir(unlocked), filepath.Base(unlocked)[1:])
	if err := os.Rename(unlocked, dir); err != nil {
		return "", nil, errors.Join(err, lock.Close())
	}
	return dir, lock, nil
}

func removeAbandoned(dir string) error {
	lock, err := os.Open(dir)
	if err != nil {
		return nil // gone already, or somebody else's
	}
	defer func() { _ = lock.Close() }()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // in use
	}
	removeContainers(dir)
	mounts, _ := os.ReadFile("/proc/self/mounts") // a disk of a killed test (see NewDisk)
	for line := range strings.SplitSeq(string(mounts), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			_ = unix.Unmount(fields[1], unix.MNT_DETACH) // whoever may not unmount has mounted nothing
		}
	}
	return os.RemoveAll(dir)
}
