package filetree

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
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

// journal is <run>.json beside the data: what a restore is doing with the directories.
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
	// ByEntry tells that the directories stay, and that their entries are exchanged.
	ByEntry bool `json:"by_entry,omitempty"`
	// Copy tells that it is built in a place of its own: the one directory holds those of the part.
	Copy bool `json:"copy,omitempty"`
	// Seq and Live are the last turn.
	Seq  int         `json:"seq"`
	Live remora.Side `json:"live"`
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
	// Before is the directory that was live, empty where there was none; Staged is the restored one.
	Before identity `json:"before"`
	Staged identity `json:"staged"`
	// Chosen are the paths in it that alone are exchanged, each as an entry of its own at whatever depth.
	Chosen []string `json:"chosen,omitempty"`
	// Entries are, in an exchange by entry, the entries of both sides, noted before the first of them moves. The
	// directory itself then stays where Before is, and its other side where Staged is.
	Entries []journalEntry `json:"entries,omitzero"`
}

// journalEntry is an entry of a directory by its inode on each side, 0 where that side has none of this name.
type journalEntry struct {
	Name   string `json:"name"`
	Before uint64 `json:"before,omitempty"`
	Staged uint64 `json:"staged,omitempty"`
}

// stageName is the folder, within the work folder, where the side lies that is not live.
func (j *journal) stageName() string { return fmt.Sprintf("%s/b%d", j.Run, j.Attempt) }

// byEntry tells whether a directory stays, and what lies in it is exchanged one by one.
func (j *journal) byEntry(d journalDirectory) bool { return j.ByEntry || d.Chosen != nil }

// places are what is exchanged: directories, or what was chosen in them.
func (j *journal) places() (all []place) {
	for _, d := range j.Directories {
		for _, name := range d.names() {
			all = append(all, place{dir: path.Join(d.Path, name)})
		}
	}
	return all
}

// names are what was chosen in a directory, or else itself.
func (d journalDirectory) names() []string {
	if d.Chosen == nil {
		return []string{"."}
	}
	return d.Chosen
}

// stageOf is the folder that the directories of a part are staged in.
func (j *journal) stageOf() string {
	if j.Copy {
		return path.Join(j.stageName(), j.Directories[0].Path)
	}
	return j.stageName()
}

// unproven tells that the stage was not compared with the backup: it never went live, and must not.
func (j *journal) unproven() bool { return j.State == staging || j.State == staged }

// spareRoom is what a run keeps for its journal on the file system of the files, in bytes.
const spareRoom = 64 << 10

// keepRoom puts room by for the journal. A disk that is full by then, perhaps of what was staged, must not keep the way
// back waiting, nor the removal that makes room again.
func (h *held) keepRoom(run string) error {
	filler := make([]byte, spareRoom)
	_, _ = rand.Read(filler) // never fails; zeros might take no room
	return h.work.WriteFile(run+".spare", filler, 0o600)
}

// write puts the journal in place so that a crash leaves the old or the new one, and returns when it is on disk.
func (h *held) write(j *journal) error {
	text, err := json.MarshalIndent(j, "", "\t")
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if err = h.put(j.Run+".json", text); errors.Is(err, unix.ENOSPC) && h.work.Remove(j.Run+".spare") == nil {
		err = h.put(j.Run+".json", text)
	}
	return err
}

func (h *held) put(name string, text []byte) error {
	f, err := h.work.OpenFile(name+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, h.work.Remove(name+".tmp")) // where it was to be the first journal, nobody would look for it
	}
	return errors.Join(h.work.Rename(name+".tmp", name), h.sync())
}

// sync returns when the names in the work folder are on disk.
func (h *held) sync() error { return opened(h.work, ".", (*os.File).Sync) }

func readJournal(work *os.Root, run string) (*journal, error) {
	name := run + ".json"
	text, err := work.ReadFile(name)
	if err != nil {
		return nil, err
	}
	j := &journal{}
	if err := json.Unmarshal(text, j); err != nil || j.Format != journalFormat || j.Run != run {
		return nil, refuse(remora.Fenced, filepath.Join(work.Name(), name), "do not remove it: it says which directories are live; ask for help with its text",
			"%w", errors.Join(errors.New("this journal cannot be understood"), err))
	}
	return j, nil
}

var errNoJournal = errors.New("there is no journal of this run beside the files")

// ours returns the journal of a run, when this installation, source and root may act on it (S10, S12). The error is
// errNoJournal when there is none.
func (t *Tree) ours(work *os.Root, run string) (*journal, error) {
	j, err := readJournal(work, run)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, t.noJournal(run)
	case err != nil:
		return nil, err
	case j.Installation != t.cfg.Installation || j.Source != t.cfg.Source || j.Root != t.cfg.Root:
		return nil, refuse(remora.Fenced, filepath.Join(t.work, run+".json"), "settle it where it was started",
			"run %s belongs to source %q of installation %s with root %s, not to us", run, j.Source, j.Installation, j.Root)
	}
	return j, nil
}

func (t *Tree) noJournal(run string) error {
	return refuse(remora.Fenced, filepath.Join(t.work, run+".json"),
		"is this the machine, and the disk, that the restore was staged on, and is files in the configuration what it was then?", "%w", errNoJournal)
}

// find reads the journal of a run without the lock.
func (t *Tree) find(run string) (*journal, error) {
	if err := checkRun(run); err != nil {
		return nil, err
	}
	work, err := workFolder(t.work)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, t.noJournal(run)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = work.Close() }()
	return t.ours(work, run)
}

// journals lists every journal that is about this root, also of restores that exchanged in the other way.
func (t *Tree) journals() ([]*journal, error) {
	beside, err := t.journalsIn(t.home(false))
	if err != nil || t.copies() {
		return beside, err
	}
	inside, err := t.journalsIn(t.home(true))
	return append(beside, inside...), err
}

func (t *Tree) journalsIn(at string) ([]*journal, error) {
	work, err := workFolder(at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = work.Close() }()
	entries, err := fs.ReadDir(work.FS(), ".")
	if err != nil {
		return nil, err
	}
	var found []*journal
	for _, e := range entries {
		run, is := strings.CutSuffix(e.Name(), ".json")
		if !is {
			continue
		}
		j, err := readJournal(work, run)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil && j.Root == t.cfg.Root {
			found = append(found, j)
		}
	}
	return found, nil
}

// unsettled refuses to go on while another restore still has one of the directories in hand (S20). A drill of ours has none, and needs none.
func (t *Tree) unsettled(run string) error {
	found, err := t.journals()
	if err != nil {
		return err
	}
	for _, j := range found {
		overlaps := slices.ContainsFunc(j.Directories, func(d journalDirectory) bool {
			return slices.ContainsFunc(t.cfg.Directories, func(dir string) bool { return within(d.Path, dir) || within(dir, d.Path) })
		})
		if j.Run == run || !overlaps || j.Installation == t.cfg.Installation && (remora.IsDrill(j.Run) || remora.IsDrill(run)) {
			continue
		}
		hint := fmt.Sprintf("see remora restores %s, then end it with remora rollback or remora accept", j.Source)
		if j.Installation != t.cfg.Installation {
			hint = "another installation of remora restores here; end its restore first"
		}
		return refuse(remora.Busy, t.cfg.Root, hint, "the restore of run %s (source %s, since %s) is not settled", j.Run, j.Source, j.Since.UTC().Format(time.DateTime))
	}
	return nil
}

// Leftovers lists every run in the journals beside the root, of any installation.
func (t *Tree) Leftovers(context.Context) (left []remora.Leftover, err error) {
	defer tell("list what restores left behind", t.work, &err)
	found, err := t.journals()
	if err != nil {
		return nil, err
	}
	for _, j := range found {
		l := remora.Leftover{
			Kind: remora.Files, Run: j.Run, Source: j.Source, Installation: j.Installation, Seq: j.Seq, Live: j.Live,
			Switched: j.Switched, KeepUntil: j.KeepUntil, Since: j.Since, Foreign: j.Installation != t.cfg.Installation,
		}
		if j.Copy {
			l.To = t.live(j.Directories[0].Path)
		}
		spots, err := t.spots(j)
		if err != nil {
			return nil, err
		}
		if side, ok := level(spots); ok && len(spots) > 0 {
			l.Live = side
			l.Nothing = side == remora.Restored && !slices.ContainsFunc(j.Directories, func(d journalDirectory) bool { return d.Before.exists() })
		}
		if !j.ByEntry {
			for _, s := range spots {
				l.What = append(l.What, s.String())
			}
		} else {
			for _, d := range j.Directories {
				l.What = append(l.What, fmt.Sprintf("directory %s (%d entries, exchanged one by one)", d.Path, len(d.Entries)))
			}
		}
		left = append(left, l)
	}
	return left, nil
}

// spot is where the two sides of one directory, or of one entry of it, are.
type spot struct {
	journalDirectory
	dir  string      // the directory: Path, or what holds it
	side remora.Side // empty when neither side is live
	away identity    // of the put-away side, if any
	want bool        // whether the put-away side is the one that belongs there
}

func (s spot) String() string {
	name := s.Path
	if name == s.dir {
		name = "directory " + name
	}
	switch {
	case s.side == "":
		return name + " (what is live is of neither side)"
	case !s.away.exists():
		return name + " (nothing is kept)"
	default:
		return fmt.Sprintf("%s (%s side is kept)", name, s.side.Other())
	}
}

// putAway is where the side of a directory lies that is not live.
func (t *Tree) putAway(j *journal, dir string) string {
	return filepath.Join(t.shelf(j.ByEntry, dir), j.stageName(), filepath.FromSlash(dir))
}

// spots reads the truth from the directories themselves. Only inodes are compared: they come in pairs on one file
// system, and device numbers may change when a machine starts again.
func (t *Tree) spots(j *journal) ([]spot, error) {
	found := make([]spot, 0, len(j.Directories))
	for _, d := range j.Directories {
		live, err := identityAt(t.live(d.Path))
		if err != nil {
			return nil, err
		}
		away, err := identityAt(t.putAway(j, d.Path))
		if err != nil {
			return nil, err
		}
		s := spot{journalDirectory: d, dir: d.Path, away: away}
		if d.Entries != nil && (live.Inode == d.Before.Inode || d.Chosen != nil) {
			if found, err = t.entrySpots(found, j, s); err != nil {
				return nil, err
			}
			continue
		}
		switch {
		case j.Copy: // whatever else is there by now is none of ours
			s.side, s.want = remora.Replaced, away.Inode == d.Staged.Inode
			if d.Staged.exists() && live.Inode == d.Staged.Inode {
				s.side, s.want = remora.Restored, true
			}
		case live.Inode == d.Before.Inode: // both 0 where nothing was live
			s.side, s.want = remora.Replaced, away.Inode == d.Staged.Inode
		case live.Inode != 0 && live.Inode == d.Staged.Inode:
			s.side, s.want = remora.Restored, away.Inode == d.Before.Inode
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

// settledSpots are the directories of a run that stands wholly on one side.
func (t *Tree) settledSpots(j *journal) ([]spot, error) {
	spots, err := t.spots(j)
	if err != nil {
		return nil, err
	}
	for _, s := range spots {
		if s.side == "" {
			return nil, t.unknown(s)
		}
	}
	if _, ok := level(spots); !ok {
		return nil, refuse(remora.Fenced, "run "+j.Run, "finish it first: remora rollback", "some directories are on the restored side and some on the replaced one")
	}
	return spots, nil
}

// unknown stops where a directory is neither the one that was replaced nor the restored one: somebody has moved it.
func (t *Tree) unknown(s spot) error {
	return refuse(remora.Changed, t.live(s.Path), "move the known directory back, or start a new restore; remora touches neither until then",
		"what is live, or what is kept in %s, is not the directory (inode %d, restored %d) that the journal knows: it was made or moved by somebody else",
		workName, s.Before.Inode, s.Staged.Inode)
}
