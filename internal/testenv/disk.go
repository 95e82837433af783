package testenv

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Disk is a small file system of its own, in memory.
type Disk struct {
	// Path is where it is mounted.
	Path string

	size int64
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
	d := &Disk{Path: at, size: int64(mib) << 20}
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "mode=0700,size="+strconv.FormatInt(d.size, 10)); errors.Is(err, unix.EPERM) {
		t.Skip("a small disk cannot be mounted here, although we are root: ", err)
	} else if err != nil {
		t.Fatal("mount a small disk: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	copyAll(t, kept, at)
	return d
}

func copyAll(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "--sparse=always", from+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v\n%s", from, err, out)
	}
}

// Fill leaves so many bytes of room, at once.
func (d *Disk) Fill(t testing.TB, leave int64) {
	t.Helper()
	err := poll(10*time.Second, func() error { // somebody may take some at the same moment
		var s unix.Statfs_t
		if err := unix.Statfs(d.Path, &s); err != nil {
			return err
		}
		return d.resize((int64(s.Blocks)-int64(s.Bfree))*s.Bsize + leave)
	})
	if err != nil {
		t.Fatal("fill a disk: ", err)
	}
}

func (d *Disk) resize(size int64) error {
	return unix.Mount("tmpfs", d.Path, "tmpfs", unix.MS_REMOUNT, "mode=0700,size="+strconv.FormatInt(size, 10))
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
	if err := d.resize(d.size); err != nil {
		t.Fatal("make room on a disk: ", err)
	}
}
