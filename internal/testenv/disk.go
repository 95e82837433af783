package testenv

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Disk is a small file system of its own, in memory.
type Disk struct {
	// Path is where it is mounted.
	Path string
}

// NewDisk mounts a disk of so many MiB at a directory, which keeps what it holds; empty: at a new one. It is gone when the
// test ends. A test that may not mount anything is skipped.
func NewDisk(t testing.TB, at string, mib int) *Disk {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a small disk can only be mounted by root")
	}
	if at == "" {
		at = t.TempDir()
	}
	kept := t.TempDir()
	copyAll(t, at, kept)
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "mode=0700,size="+strconv.Itoa(mib)+"m"); errors.Is(err, unix.EPERM) {
		t.Skip("a small disk cannot be mounted here, although we are root: ", err)
	} else if err != nil {
		t.Fatal("mount a small disk: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	copyAll(t, kept, at)
	return &Disk{at}
}

func copyAll(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "--sparse=always", from+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v\n%s", from, err, out)
	}
}

func (d *Disk) filler() string { return filepath.Join(d.Path, "filler") }

// Fill leaves so many bytes of room, and no more than a page where that is 0.
func (d *Disk) Fill(t testing.TB, leave int64) {
	t.Helper()
	f, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for size := 1 << 20; size > 0; {
		if d.Room(t) <= leave {
			return
		}
		if _, err = f.Write(make([]byte, min(int64(size), max(1, d.Room(t)-leave)))); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal("fill a disk: ", err)
			}
			size /= 4
		}
	}
}

// Room is how much room is left, in bytes.
func (d *Disk) Room(t testing.TB) int64 {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(d.Path, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}

// Empty makes the room again that Fill took.
func (d *Disk) Empty(t testing.TB) {
	t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		t.Fatal(err)
	}
}
