package filetree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

// Preflight tells whether the directories can be captured, or replaced by the part of a backup. It changes nothing.
func (t *Tree) Preflight(ctx context.Context, job remora.Job, intent remora.Intent) (remora.Estimate, error) {
	op := "check the files before a backup"
	if intent.Restore() {
		op = "check the files before a restore"
	}
	found, err := t.places(op)
	if err != nil {
		return remora.Estimate{}, err
	}
	est := remora.Estimate{Identity: t.where(), Fingerprint: fingerprint(found), Empty: true}
	for _, at := range found {
		est.Empty = est.Empty && !at.exists
	}
	if intent.Restore() {
		err = t.prepareRestore(op, job, intent.From, found, &est)
	} else if !est.Empty && !intent.Partial {
		err = refuseMissing(op, t, found)
	}
	if err != nil {
		return remora.Estimate{}, err
	}
	return est, t.estimate(ctx, op, job, intent, found, &est)
}

// estimate counts what is live. For a restore nothing is left out: the whole directory is going to be put away, and
// must be able to become a backup before it is discarded (S1).
func (t *Tree) estimate(ctx context.Context, op string, job remora.Job, intent remora.Intent, found []place, est *remora.Estimate) error {
	skip := t.exclude.match
	if intent.Restore() {
		skip = nothing
	}
	for _, at := range found {
		if !at.exists {
			est.Warnings = append(est.Warnings, "directory "+at.dir+" does not exist")
			continue
		}
		c, err := look(ctx, op, job, t.live(at.dir), skip, nil)
		if err != nil && ctx.Err() == nil && intent.Restore() {
			// A restore may be the answer to just this. The safety backup is what refuses (S14).
			est.Warnings = append(est.Warnings, fmt.Sprintf("what is live cannot be backed up: %v", err))
			est.Summary.Objects++
			est.Replaces = append(est.Replaces, "directory "+at.dir+" (cannot be counted)")
			continue
		}
		if err != nil {
			return err
		}
		if c.foreign != "" {
			est.Warnings = append(est.Warnings, fmt.Sprintf("%s/%s is on another file system: it can be captured, but not replaced by a restore", at.dir, c.foreign))
		}
		est.Summary.Objects++
		est.Summary.Entries += c.Files
		est.Summary.Bytes += c.Bytes
		est.Replaces = append(est.Replaces, fmt.Sprintf("directory %s (%s files, %s)", at.dir, humanize.Comma(c.Files), size(c.Bytes)))
	}
	return nil
}

func nothing(string) bool { return false }

func size(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) }

func refuseMissing(op string, t *Tree, found []place) error {
	for _, at := range found {
		if !at.exists {
			return &remora.Problem{
				Op: op, Kind: remora.Invalid, Subject: t.live(at.dir), Err: errNoDirectory,
				Hint: "check that its disk is mounted; else make it, or take it out of files.directories",
			}
		}
	}
	return nil
}

// prepareRestore refuses a restore that could not be done, or not be undone.
func (t *Tree) prepareRestore(op string, job remora.Job, from fs.FS, found []place, est *remora.Estimate) error {
	p, err := t.readPart(op, from)
	if err != nil {
		return err
	}
	dirs := make([]string, 0, len(p.Directories))
	for _, d := range p.Directories {
		dirs = append(dirs, d.Path)
	}
	if err := t.unsettled(op, job.Run, dirs); err != nil {
		return err
	}
	hidden, err := t.checkMounts(op, dirs)
	if err != nil {
		return err
	}
	if hidden {
		est.Warnings = append(est.Warnings, "the worker may not see what other users' processes have mounted: a container that has one of the directories itself mounted would keep seeing the replaced one")
	}
	for _, at := range found {
		if _, ok := p.directory(at.dir); !ok {
			est.Warnings = append(est.Warnings, "directory "+at.dir+" is not in the backup and stays as it is")
			continue
		}
		if err := t.writable(op, at); err != nil {
			return err
		}
	}
	if p.Host != t.where() {
		est.Warnings = append(est.Warnings, "the backup was taken of "+p.Host)
	}
	est.Warnings = append(est.Warnings, foreignOwners(p)...)
	return t.space(op, p.total())
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
// changes.
func (t *Tree) writable(op string, at place) error {
	need := []string{filepath.Dir(t.root)}
	for p := range ancestors(t.root, at.dir) {
		if p != t.live(at.dir) || at.exists {
			need = append(need, p)
		}
	}
	// Root alone needs no right: folders between it and the directory are only passed through.
	for i, p := range need {
		if i != 0 && i < len(need)-2 {
			continue
		}
		err := unix.Faccessat(unix.AT_FDCWD, p, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault(op, p, err)
		}
	}
	return nil
}

// blockSize is what an entry takes on disk beyond its bytes, at most and about.
const blockSize = 4096

// space compares what a stage needs with what the file system has.
func (t *Tree) space(op string, c count) error {
	var st unix.Statfs_t
	parent := filepath.Dir(t.root)
	if err := unix.Statfs(parent, &st); err != nil {
		return fault(op, parent, &os.PathError{Op: "statfs", Path: parent, Err: err})
	}
	entries := c.Files + c.Directories + c.Symlinks
	need, have := c.Bytes+entries*blockSize, int64(st.Bavail)*st.Bsize
	full := func(why string) error {
		return &remora.Problem{
			Op: op, Kind: remora.Full, Subject: parent, Err: errors.New(why),
			Hint: "the restored files lie beside the live ones until the restore is accepted: make room for both",
		}
	}
	if need > have {
		return full(fmt.Sprintf("need %s, have %s", size(need), size(have)))
	}
	if st.Files > 0 && entries > int64(st.Ffree) {
		return full(fmt.Sprintf("need %s inodes, have %s", humanize.Comma(entries), humanize.Comma(int64(st.Ffree))))
	}
	return nil
}
