package filetree

import (
	"context"
	"encoding/json"
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

// journalFormat is the version of the journal that this package writes.
const journalFormat = 1

type state string

// The states of a run. A journal always states what is about to happen: truth is where the directories are.
const (
	staging    state = "staging"
	staged     state = "staged"
	compared   state = "compared"
	turning    state = "turning"
	turned     state = "turned"
	discarding state = "discarding"
)

// journal is <run>.json beside the root: what a restore is doing with the directories.
type journal struct {
	Format       int    `json:"format"`
	Installation string `json:"installation"`
	Source       string `json:"source"`
	Run          string `json:"run"`
	Host         string `json:"host"`
	Root         string `json:"root"`
	State        state  `json:"state"`
	// Attempt numbers the stages of this run; the last one is the only one.
	Attempt int `json:"attempt"`
	// Seq and Live are the last turn; Was is the side that was live before it.
	Seq  int         `json:"seq"`
	Live remora.Side `json:"live"`
	Was  remora.Side `json:"was"`
	// Switched tells that a staged directory was, or may have been, live.
	Switched  bool      `json:"switched"`
	KeepUntil time.Time `json:"keep_until,omitzero"`
	Since     time.Time `json:"since"`
	// HeldBy is the backup that holds what is being discarded.
	HeldBy string `json:"held_by,omitempty"`
	// Stay are the patterns of live entries that are carried to the restored side (S8); Carried counts them.
	Stay    []string `json:"stay,omitempty"`
	Carried int64    `json:"carried,omitempty"`
	// RootEntry is how the folders above the directories are made where they are missing; Made names those, to be
	// removed again on the way back.
	RootEntry   owned              `json:"root_entry"`
	Made        []string           `json:"made,omitempty"`
	Directories []journalDirectory `json:"directories"`
}

type journalDirectory struct {
	Path string `json:"path"`
	// Existed tells whether there was a live directory before, and Before which; Staged is the restored one.
	Existed bool     `json:"existed"`
	Before  identity `json:"before"`
	Staged  identity `json:"staged"`
}

// stageName is the folder, within the work folder, where the side lies that is not live.
func (j *journal) stageName() string { return fmt.Sprintf("%s/b%d", j.Run, j.Attempt) }

func (j *journal) overlaps(dirs []string) bool {
	for _, d := range j.Directories {
		for _, dir := range dirs {
			if within(d.Path, dir) || within(dir, d.Path) {
				return true
			}
		}
	}
	return false
}

// write puts the journal in place so that a crash leaves the old or the new one, and returns when it is on disk.
func (h *held) write(op string, j *journal) error {
	text, err := json.MarshalIndent(j, "", "\t")
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	name := j.Run + ".json"
	if err := h.replace(name, text); err != nil {
		return fault(op, filepath.Join(h.work.Name(), name), err)
	}
	return nil
}

func (h *held) replace(name string, text []byte) error {
	f, err := h.work.OpenFile(name+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(h.work.Rename(name+".tmp", name), syncFolder(h.work, "."))
}

// readJournal returns nil when the run has none.
func readJournal(op string, work *os.Root, run string) (*journal, error) {
	name := run + ".json"
	text, err := work.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault(op, filepath.Join(work.Name(), name), err)
	}
	j := &journal{}
	if err := json.Unmarshal(text, j); err != nil || j.Format != journalFormat || j.Run != run {
		return nil, &remora.Problem{
			Op: op, Kind: remora.Fenced, Subject: filepath.Join(work.Name(), name),
			Err:  errors.Join(errors.New("this journal cannot be understood"), err),
			Hint: "do not remove it: it says which directories are live; ask for help with its text",
		}
	}
	return j, nil
}

// ours returns the journal of a run that this installation, source and root may act on (S10, S12).
func (t *Tree) ours(op string, work *os.Root, run string) (*journal, error) {
	j, err := readJournal(op, work, run)
	if j == nil || err != nil {
		return nil, err
	}
	if j.Installation != t.installation || j.Source != t.source || j.Root != t.root {
		return nil, &remora.Problem{
			Op: op, Kind: remora.Fenced, Subject: filepath.Join(t.work, run+".json"),
			Err:  fmt.Errorf("run %s belongs to source %q of installation %s with root %s, not to us", run, j.Source, j.Installation, j.Root),
			Hint: "settle it where it was started",
		}
	}
	return j, nil
}

// journals lists every journal beside the root that is about this root.
func (t *Tree) journals(op string) ([]*journal, error) {
	work, err := t.workFolder(op)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault(op, t.work, err)
	}
	defer func() { _ = work.Close() }()
	entries, err := fs.ReadDir(work.FS(), ".")
	if err != nil {
		return nil, fault(op, t.work, err)
	}
	var found []*journal
	for _, e := range entries {
		run, is := strings.CutSuffix(e.Name(), ".json")
		if !is {
			continue
		}
		j, err := readJournal(op, work, run)
		if err != nil {
			return nil, err
		}
		if j != nil && j.Root == t.root {
			found = append(found, j)
		}
	}
	return found, nil
}

// unsettled refuses to go on while another restore still has one of the directories in hand (S20).
func (t *Tree) unsettled(op, run string, dirs []string) error {
	found, err := t.journals(op)
	if err != nil {
		return err
	}
	for _, j := range found {
		if j.Run == run || !j.overlaps(dirs) {
			continue
		}
		hint := fmt.Sprintf("see remora restores %s, then end it with remora rollback or remora accept", j.Source)
		if j.Installation != t.installation {
			hint = "another installation of remora restores here; end its restore first"
		}
		return &remora.Problem{
			Op: op, Kind: remora.Busy, Subject: t.root, Hint: hint,
			Err: fmt.Errorf("the restore of run %s (source %s, since %s) is not settled", j.Run, j.Source, j.Since.UTC().Format(time.DateTime)),
		}
	}
	return nil
}

// Leftovers lists every run in the journals beside the root, of any installation.
func (t *Tree) Leftovers(ctx context.Context) ([]remora.Leftover, error) {
	const op = "list what restores left behind"
	found, err := t.journals(op)
	if err != nil {
		return nil, err
	}
	left := make([]remora.Leftover, 0, len(found))
	for _, j := range found {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		l := remora.Leftover{
			Kind: remora.Files, Run: j.Run, Source: j.Source, Installation: j.Installation, Seq: j.Seq, Live: j.Live,
			Switched: j.Switched, KeepUntil: j.KeepUntil, Since: j.Since,
		}
		spots, err := t.spots(op, j)
		if err != nil {
			return nil, err
		}
		if side, ok := level(spots); ok {
			l.Live = side
		}
		for _, s := range spots {
			l.What = append(l.What, s.String())
		}
		left = append(left, l)
	}
	return left, nil
}

// spot is where the two sides of one directory are.
type spot struct {
	journalDirectory
	side remora.Side // empty when neither side is live
	away bool        // whether the put-away side exists
	want bool        // whether the put-away side is the one that belongs there
}

func (s spot) String() string {
	switch {
	case s.side == "":
		return "directory " + s.Path + " (what is live is of neither side)"
	case !s.away:
		return "directory " + s.Path + " (nothing is kept)"
	default:
		return fmt.Sprintf("directory %s (%s side is kept)", s.Path, s.side.Other())
	}
}

// spots reads the truth from the directories themselves. Only inodes are compared: they come in pairs on one file
// system, and device numbers may change when a machine starts again.
func (t *Tree) spots(op string, j *journal) ([]spot, error) {
	found := make([]spot, 0, len(j.Directories))
	for _, d := range j.Directories {
		live, err := inodeAt(t.live(d.Path))
		if err != nil {
			return nil, fault(op, t.live(d.Path), err)
		}
		away, err := inodeAt(filepath.Join(t.work, j.stageName(), d.Path))
		if err != nil {
			return nil, fault(op, t.work, err)
		}
		s := spot{journalDirectory: d, away: away != 0}
		switch {
		case live == d.Before.Inode: // both 0 where nothing was live
			s.side, s.want = remora.Replaced, away == d.Staged.Inode
		case live != 0 && live == d.Staged.Inode:
			s.side, s.want = remora.Restored, away == d.Before.Inode
		}
		found = append(found, s)
	}
	return found, nil
}

// level is the side that all directories are on; false when they differ or one is on neither.
func level(spots []spot) (remora.Side, bool) {
	if len(spots) == 0 {
		return remora.Replaced, true
	}
	for _, s := range spots {
		if s.side == "" || s.side != spots[0].side {
			return "", false
		}
	}
	return spots[0].side, true
}

// inodeAt is 0 when nothing is there.
func inodeAt(at string) (uint64, error) {
	info, err := os.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return identityOf(info).Inode, nil
}

func syncFolder(root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
