package filetree

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/pkg/xattr"
	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

// ownerOf is the owner of an entry of the disk or of a part; false when it carries none.
func ownerOf(info fs.FileInfo) (remora.FileOwner, bool) {
	switch sys := info.Sys().(type) {
	case *syscall.Stat_t:
		return remora.FileOwner{UID: sys.Uid, GID: sys.Gid}, true
	case remora.FileOwner:
		return sys, true
	default:
		return remora.FileOwner{}, false
	}
}

// ownership is what this process may do about owners.
type ownership struct {
	any    bool // it may give a file to anybody
	uid    uint32
	groups []uint32
}

func currentOwnership() ownership {
	o := ownership{uid: uint32(os.Geteuid()), groups: []uint32{uint32(os.Getegid())}}
	if more, err := os.Getgroups(); err == nil {
		for _, g := range more {
			o.groups = append(o.groups, uint32(g))
		}
	}
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &data[0]); err == nil {
		o.any = data[0].Effective&(1<<unix.CAP_CHOWN) != 0
	}
	return o
}

// may tells whether a file of ours can be given to that owner.
func (o ownership) may(to remora.FileOwner) bool {
	return o.any || to.UID == o.uid && slices.Contains(o.groups, to.GID)
}

// safeMode is the mode that a restored entry gets. Files never come back with setuid, setgid or sticky bits: a backup
// must not be a way to plant a program that runs as somebody else. Directories keep setgid (new files take the
// directory's group) where its group can be given back, and sticky.
func safeMode(mode fs.FileMode, ownGiven bool) fs.FileMode {
	if !mode.IsDir() {
		return mode.Perm()
	}
	keep := fs.ModePerm | fs.ModeSticky
	if ownGiven {
		keep |= fs.ModeSetgid
	}
	return mode & keep
}

// unixMode and fileMode translate between chmod's number and Go's bits.
func unixMode(mode fs.FileMode) uint32 {
	m := uint32(mode.Perm())
	for _, b := range specialBits {
		if mode&b.mode != 0 {
			m |= b.bit
		}
	}
	return m
}

func fileMode(m uint32) fs.FileMode {
	mode := fs.FileMode(m) & fs.ModePerm
	for _, b := range specialBits {
		if m&b.bit != 0 {
			mode |= b.mode
		}
	}
	return mode
}

var specialBits = []struct {
	mode fs.FileMode
	bit  uint32
}{{fs.ModeSetuid, unix.S_ISUID}, {fs.ModeSetgid, unix.S_ISGID}, {fs.ModeSticky, unix.S_ISVTX}}

// mode is the mode of a folder to be made; where none is known, the usual one.
func (o owned) mode() fs.FileMode {
	if o.Mode == 0 {
		return 0o755
	}
	return fileMode(o.Mode)
}

// dropInherited removes what a directory took over from the access control list of its parent.
func dropInherited(at string) error {
	for _, name := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		if err := xattr.LRemove(at, name); err != nil && !none(err) {
			return err
		}
	}
	return nil
}

func ownedBy(info fs.FileInfo) owned {
	owner, _ := ownerOf(info)
	return owned{Mode: unixMode(info.Mode()), UID: owner.UID, GID: owner.GID}
}

// dress gives f, which lies at e.at below root, its owner, mode, extended attributes and time, in the order in which
// none undoes another. It tells which of owner and mode could not be given back.
func (o ownership) dress(root *os.Root, f *os.File, e entry) (disowned, stripped bool, err error) {
	given := e.owned && o.may(e.owner)
	if given {
		if err := f.Chown(int(e.owner.UID), int(e.owner.GID)); err != nil {
			return false, false, err
		}
	}
	mode := safeMode(e.mode, given)
	if err := f.Chmod(mode); err != nil {
		return false, false, err
	}
	for name, value := range e.attrs {
		if !kept(name) {
			return false, false, fmt.Errorf("the extended attribute %q of %s is none that a backup holds", name, e.at)
		}
		if err := unix.Fsetxattr(int(f.Fd()), name, value, 0); err != nil {
			return false, false, fmt.Errorf("set the extended attribute %q of %s: %w", name, e.at, err)
		}
	}
	return e.owned && !given, unixMode(mode) != unixMode(e.mode), root.Chtimes(e.at, time.Time{}, e.mtime)
}
