package filetree

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/remora-backup/remora/internal/remora"
)

// mount is one line of a mountinfo file.
type mount struct {
	device string // major:minor
	root   string // the path within the file system that is mounted
	point  string // where
	seenBy string
}

const ownMounts = "/proc/self/mountinfo"

// checkMounts refuses directories that something has mounted (S7): a mount point cannot be exchanged, a file system
// below a directory would move with it, and a container that has the directory itself mounted would keep seeing, and
// filling, the side that was put away. Mounts at or above the folder that holds root are fine. Where entries are
// exchanged, the same is asked of what lies in a directory: it may be mounted itself. hidden tells that there are
// processes whose mounts this user may not see.
func (t *Tree) checkMounts(places []place) (hidden bool, err error) {
	own, err := readMounts(ownMounts, "this machine")
	if err != nil {
		return false, err
	}
	all, hidden := otherMounts()
	all = append(all, own...)
	hint := fmt.Sprintf("mount %s, or a folder above it, instead of what lies below; or set files.exchange: entries", filepath.Dir(t.cfg.Root))
	switch {
	case t.copies():
		hint = "choose a directory in it, or elsewhere, that does not exist yet"
	case t.cfg.ByEntry:
		hint = "unmount it first; a directory itself may be mounted, what lies in it may not"
	}
	home := containing(own, filepath.Dir(t.work)) // of entries, it is not asked for
	for _, p := range places {
		live, stays := t.live(p.dir), t.cfg.ByEntry && t.whole(p)
		mine := own
		if stays {
			mine = slices.DeleteFunc(slices.Clone(own), func(m mount) bool { return m.point == live })
		}
		if m := mountBelow(mine, live); m != "" {
			return hidden, refuse(remora.Unsupported, live, hint, "a file system is mounted at %s, so the directory cannot be exchanged", m)
		}
		on := containing(own, live)
		if on != home && !t.cfg.ByEntry {
			return hidden, refuse(remora.Unsupported, live, hint, "%s is mounted on its own, so nothing beside root can be exchanged with it", on.point)
		}
		within := path.Join(on.root, strings.TrimPrefix(live, on.point))
		for _, m := range all {
			if m.device == on.device && below(m.root, within) && (!stays || m.root != within) {
				return hidden, refuse(remora.Unsupported, live, hint, "%s has it mounted at %s and would keep the replaced directory", m.seenBy, m.point)
			}
		}
	}
	return hidden, nil
}

// mountBelow is the mount point at or below a path; empty when there is none.
func mountBelow(mounts []mount, at string) string {
	for _, m := range mounts {
		if below(m.point, at) {
			return m.point
		}
	}
	return ""
}

// below tells whether the absolute path p is dir or lies below it.
func below(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// containing is the mount that a path lies on: the longest, and of those the latest, which hides the earlier ones.
func containing(mounts []mount, at string) mount {
	var best mount
	for _, m := range mounts {
		if below(at, m.point) && len(m.point) >= len(best.point) {
			best = m
		}
	}
	return best
}

// otherMounts reads the mounts of one process of every view that differs from ours: of containers above all.
func otherMounts() (mounts []mount, hidden bool) {
	own, _ := os.Readlink("/proc/self/ns/mnt")
	seen := map[string]bool{own: true}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		view, err := os.Readlink(p + "/ns/mnt")
		if err == nil && seen[view] {
			continue
		}
		name, _ := os.ReadFile(p + "/comm")
		more, unread := readMounts(p+"/mountinfo", fmt.Sprintf("process %s (%s)", filepath.Base(p), bytes.TrimSpace(name)))
		if err := errors.Join(err, unread); err != nil {
			hidden = hidden || !errors.Is(err, os.ErrNotExist) // else it has just ended
			continue
		}
		seen[view] = true
		mounts = append(mounts, more...)
	}
	return mounts, hidden
}

func readMounts(file, seenBy string) ([]mount, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	// The kernel escapes what would break its lines.
	plain := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\043`, "#", `\134`, `\`)
	var mounts []mount
	for line := range strings.Lines(string(text)) {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime ...
		if fields := strings.Split(line, " "); len(fields) >= 5 {
			mounts = append(mounts, mount{device: fields[2], root: plain.Replace(fields[3]), point: plain.Replace(fields[4]), seenBy: seenBy})
		}
	}
	return mounts, nil
}
