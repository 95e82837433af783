package filetree

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/remora-backup/remora/internal/remora"
)

// mount is one line of a mountinfo file.
type mount struct {
	device string // major:minor
	root   string // the path within the file system that is mounted
	point  string // where
}

// mountTable is what one process, and all that share its view, see mounted.
type mountTable struct {
	who    string
	mounts []mount
}

// checkMounts refuses directories that something has mounted (S7): a mount point cannot be exchanged, a file system
// below a directory would move with it, and a container that has the directory itself mounted would keep seeing, and
// filling, the side that was put away. Mounts at or above the folder that holds root are fine. hidden tells that
// there are processes whose mounts this user may not see.
func (t *Tree) checkMounts(op string, dirs []string) (hidden bool, err error) {
	own, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return false, fault(op, "/proc/self/mountinfo", err)
	}
	refuse := func(dir, why string) error {
		return &remora.Problem{
			Op: op, Kind: remora.Unsupported, Subject: dir, Err: errors.New(why),
			Hint: fmt.Sprintf("mount %s, or a folder above it, instead of what lies below", filepath.Dir(t.root)),
		}
	}
	home := containing(own, filepath.Dir(t.root))
	tables, hidden := otherTables()
	tables = append(tables, mountTable{who: "this machine", mounts: own})
	for _, dir := range dirs {
		live := t.live(dir)
		if m := mountBelow(own, live); m != "" {
			return hidden, refuse(live, "a file system is mounted at "+m+", so the directory cannot be exchanged")
		}
		at := containing(own, live)
		if at != home {
			return hidden, refuse(live, fmt.Sprintf("%s is mounted on its own, so nothing beside root can be exchanged with it", at.point))
		}
		within := path.Join(at.root, strings.TrimPrefix(live, at.point))
		for _, table := range tables {
			for _, m := range table.mounts {
				if m.device == at.device && below(m.root, within) {
					return hidden, refuse(live, fmt.Sprintf("%s has it mounted at %s and would keep the replaced directory", table.who, m.point))
				}
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

// otherTables reads the mounts of every process that sees others than we do, containers above all.
func otherTables() (tables []mountTable, hidden bool) {
	own, _ := os.Readlink("/proc/self/ns/mnt")
	seen := map[string]bool{own: true}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		view, err := os.Readlink(p + "/ns/mnt")
		if err != nil {
			hidden = hidden || !errors.Is(err, os.ErrNotExist)
			continue
		}
		if seen[view] {
			continue
		}
		mounts, err := readMounts(p + "/mountinfo")
		if err != nil {
			hidden = hidden || !errors.Is(err, os.ErrNotExist)
			continue
		}
		seen[view] = true
		name, _ := os.ReadFile(p + "/comm")
		tables = append(tables, mountTable{who: fmt.Sprintf("process %s (%s)", filepath.Base(p), bytes.TrimSpace(name)), mounts: mounts})
	}
	return tables, hidden
}

func readMounts(file string) ([]mount, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var mounts []mount
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime ...
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		mounts = append(mounts, mount{device: fields[2], root: unescape(fields[3]), point: unescape(fields[4])})
	}
	return mounts, lines.Err()
}

// unescape turns the kernel's \040 into a space.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
