package filetree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
