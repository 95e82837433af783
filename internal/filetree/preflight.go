package filetree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

// Preflight tells whether the directories can be captured, or replaced by the part of a backup. It changes nothing.
func (t *Tree) Preflight(ctx context.Context, job remora.Job, intent remora.Intent) (est remora.Estimate, err error) {
	op := "check the files before a backup"
	if intent.Restore() {
		op = "check the files before a restore"
	}
	defer tell(op, t.cfg.Root, &err)
	found, err := t.places()
	if err != nil {
		return est, err
	}
	est = remora.Estimate{Identity: t.where(), Fingerprint: fingerprint(found), Empty: !slices.ContainsFunc(found, place.exists)}
	var p part
	if intent.Restore() {
		if p, found, est.Warnings, err = t.prepareRestore(ctx, job, intent.From, found); err == nil {
			est.Space, err = t.space(p)
		}
	} else if !est.Empty && !intent.Partial {
		err = refuseMissing(found)
	}
	if err != nil {
		return remora.Estimate{}, err
	}
	if t.copies() { // nothing is replaced, so what is built is counted
		est.Summary = p.summary()
		return est, nil
	}
	if sum := p.summary(); len(job.Selection.Paths) > 0 {
		est.Restores = &sum
	}
	return est, t.estimate(ctx, job, intent, found, &est)
}

func fingerprint(found []place) string {
	h := sha256.New()
	for _, at := range found {
		_, _ = fmt.Fprintf(h, "%q %d\n", at.dir, at.Inode)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func nothing(string) bool { return false }

func unseen(string, fs.FileInfo) error { return nil }

// estimate counts what is live. For a restore nothing is left out: the whole directory is going to be put away, and
// must be able to become a backup before it is discarded (S1).
func (t *Tree) estimate(ctx context.Context, job remora.Job, intent remora.Intent, found []place, est *remora.Estimate) error {
	skip := t.exclude.match
	if intent.Restore() {
		skip = patterns(nil).match // our own work folder may lie there
	}
	for _, at := range found {
		name := at.dir
		if t.whole(at) {
			name = "directory " + name
		}
		if !at.exists() {
			est.Warnings = append(est.Warnings, name+" does not exist")
			continue
		}
		est.Summary.Objects++
		c, err := look(ctx, job, at.at, skip, unseen)
		if err != nil && (ctx.Err() != nil || !intent.Restore()) {
			return err
		}
		if err != nil {
			// A restore may be the answer to just this. The safety backup is what refuses (S14).
			est.Warnings = append(est.Warnings, fmt.Sprintf("what is live cannot be backed up: %v", err))
			est.Replaces = append(est.Replaces, name+" (cannot be counted)")
			continue
		}
		est.Summary.Entries += c.Files
		est.Summary.Bytes += c.Bytes
		est.Replaces = append(est.Replaces, fmt.Sprintf("%s (%s files, %s)", name, humanize.Comma(c.Files), humanize.Bytes(uint64(c.Bytes))))
	}
	return nil
}

// prepareRestore refuses a restore that could not be done, or not be undone. It returns what is going to be replaced.
func (t *Tree) prepareRestore(ctx context.Context, job remora.Job, from fs.FS, found []place) (p part, replaced []place, warnings []string, err error) {
	if p, err = t.readPart(ctx, job, from); err != nil {
		return p, nil, nil, err
	}
	if err := t.unsettled(job.Run); err != nil {
		return p, nil, nil, err
	}
	if t.cfg.ByEntry {
		if err := refuseMissing(found); err != nil {
			return p, nil, nil, err
		}
	}
	for _, at := range found {
		d, ok := p.directory(at.dir)
		switch info, err := os.Lstat(at.at); {
		case t.copies():
			replaced = append(replaced, at)
		case !ok && len(job.Selection.Paths) == 0:
			warnings = append(warnings, "directory "+at.dir+" is not in the backup and stays as it is")
		case ok && len(d.Chosen) > 0:
			for _, name := range d.Chosen {
				one := place{dir: path.Join(d.Path, name), at: t.live(path.Join(d.Path, name))}
				if one.identity, err = identityIn(t.cfg.Root, one.dir); err != nil {
					return p, nil, nil, err
				}
				replaced = append(replaced, one)
			}
		case ok:
			if replaced = append(replaced, at); t.cfg.ByEntry && err == nil && ownedBy(info) != d.owned {
				warnings = append(warnings, "directory "+at.dir+" itself keeps the owner and the mode that it has now; those in the backup differ")
			}
		}
	}
	for _, at := range replaced {
		if err := t.writable(at); err != nil {
			return p, nil, nil, err
		}
	}
	hidden, err := t.checkMounts(replaced)
	if err != nil {
		return p, nil, nil, err
	}
	if hidden && !t.cfg.ByEntry && !t.copies() {
		warnings = append(warnings, "the worker may not see what other users' processes have mounted: a container that has one of the directories itself mounted would keep seeing the replaced one")
	}
	if p.Host != t.where() && !t.copies() {
		warnings = append(warnings, "the backup was taken of "+p.Host)
	}
	return p, replaced, append(warnings, foreignOwners(p)...), nil
}

// foreignOwners names the owners in a part that this process cannot give back.
func foreignOwners(p part) []string {
	can := currentOwnership()
	var list []string
	for _, o := range p.Owners {
		if !can.may(o) {
			list = append(list, fmt.Sprintf("%d:%d", o.UID, o.GID))
		}
	}
	if len(list) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("the worker is not root: what belonged to %s (uid:gid) will belong to uid %d", strings.Join(list, ", "), can.uid)}
}

// writable asks for the rights that an exchange needs: on both parents, and on the directory itself, whose parent
// changes. Where a directory is missing, on the two lowest folders that lead to it.
func (t *Tree) writable(at place) error {
	var folders []string
	switch {
	case t.copies():
		folders = []string{t.cfg.Root}
	case t.cfg.ByEntry && t.whole(at): // it is the entries of the directory that get another parent
		entries, err := os.ReadDir(at.at)
		if err != nil {
			return err
		}
		folders = append(folders, at.at)
		for _, e := range entries {
			if e.IsDir() && !reserved(e.Name()) {
				folders = append(folders, filepath.Join(at.at, e.Name()))
			}
		}
	default:
		there := []string{filepath.Dir(t.shelf(t.cfg.ByEntry, at.dir))}
		for _, p := range ancestors(t.cfg.Root, at.dir) {
			if info, err := os.Lstat(p); err == nil && info.IsDir() {
				there = append(there, p)
			}
		}
		folders = append(there[max(0, len(there)-2):], there[0])
	}
	for _, p := range folders {
		if err := unix.Faccessat(unix.AT_FDCWD, p, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
			return &fs.PathError{Op: "access", Path: p, Err: err}
		}
	}
	return nil
}

// blockSize is what an entry takes on disk beyond its bytes, at most and about.
const blockSize = 4096

// space compares what the stages need with what their file systems have (S27).
func (t *Tree) space(p part) (all []remora.Space, err error) {
	needs, places := map[uint64]count{}, map[uint64]string{}
	for _, d := range p.Directories {
		at := filepath.Dir(t.shelf(t.cfg.ByEntry, d.Path))
		info, err := os.Stat(at)
		if err != nil {
			return nil, err
		}
		device := identityOf(info).Device
		c := needs[device]
		c.plus(d.count)
		needs[device], places[device] = c, at
	}
	for device, c := range needs {
		need, free, err := room(places[device], c)
		if err == nil && !t.copies() {
			err = tryExchange(places[device])
		}
		if err != nil {
			return nil, err
		}
		all = append(all, remora.Space{At: places[device], For: "the stage", Need: need, Free: &free})
	}
	slices.SortFunc(all, func(a, b remora.Space) int { return strings.Compare(a.At, b.At) })
	return all, nil
}

// tryExchange does what a switch does to two empty directories of its own: there are file systems that cannot, such as
// NFS, and that is better known before the application is offline (S7).
func tryExchange(at string) (err error) {
	var two [2]string
	for i := range two {
		if two[i], err = os.MkdirTemp(at, workName+"-try-*"); err != nil {
			return err
		}
		defer func() { _ = os.Remove(two[i]) }()
	}
	if err := unix.Renameat2(unix.AT_FDCWD, two[0], unix.AT_FDCWD, two[1], unix.RENAME_EXCHANGE); err != nil {
		return refuse(remora.Unsupported, at, "restore into a directory of its own with --to, and move it by hand", "its file system cannot exchange two directories: %w", err)
	}
	return nil
}

func room(parent string, c count) (need, have int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(parent, &st); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: parent, Err: err}
	}
	const hint = "the restored files lie beside the live ones until the restore is accepted: make room for both"
	need, have = c.Bytes+c.entries()*blockSize, int64(st.Bavail)*st.Bsize
	if need > have {
		return need, have, refuse(remora.Full, parent, hint, "need %s, have %s", humanize.Bytes(uint64(need)), humanize.Bytes(uint64(have)))
	}
	if st.Files > 0 && c.entries() > int64(st.Ffree) {
		return need, have, refuse(remora.Full, parent, hint, "need %s inodes, have %s", humanize.Comma(c.entries()), humanize.Comma(int64(st.Ffree)))
	}
	return need, have, nil
}

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
