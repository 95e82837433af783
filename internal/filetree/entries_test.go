package filetree

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

func byEntry(c *Config) { c.ByEntry = true }

// seen is look without what is ours, and without the time of the directories themselves, which stay.
func (s *site) seen() string {
	s.t.Helper()
	lines := strings.Split(s.look(), "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, workName) })
	top := regexp.MustCompile(`^("receipts"|"deep/alerts") (\S+ \S+) \S+`)
	for i := range lines {
		lines[i] = top.ReplaceAllString(lines[i], "$1 $2")
	}
	return strings.Join(lines, "\n")
}

func (s *site) noShelves() {
	s.t.Helper()
	s.noWork()
	for _, dir := range s.tree.cfg.Directories {
		require.NoDirExists(s.t, s.path(dir+"/"+workName))
	}
}

func (s *site) inode(rel string) uint64 {
	s.t.Helper()
	id, err := identityAt(s.path(rel))
	require.NoError(s.t, err)
	return id.Inode
}

func TestS7EntriesAreExchangedAndTheDirectoriesStay(t *testing.T) {
	s := filled(t, byEntry, func(c *Config) { c.Exclude = []string{"*.tmp"} })
	good := s.seen()
	part := s.capture()
	s.damage()
	s.write("receipts/stays.tmp", "excluded, at the top")
	s.write("receipts/two.d/deep.tmp", "excluded, in a folder")
	inodes := [2]uint64{s.inode("receipts"), s.inode("receipts/stays.tmp")}
	bad := s.seen()

	_, err := s.tree.Preflight(t.Context(), job1, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	s.ready(job1, part.fs())
	require.Equal(t, bad, s.seen(), "a stage touches nothing that is live")
	for _, dir := range s.tree.cfg.Directories {
		info, err := os.Lstat(s.path(dir + "/" + workName))
		require.NoError(t, err)
		require.EqualValues(t, 0o700, info.Mode().Perm(), "what is put aside is nobody else's")
	}

	require.NoError(t, s.turn(1, remora.Restored))
	require.Equal(t, inodes, [2]uint64{s.inode("receipts"), s.inode("receipts/stays.tmp")})
	require.FileExists(t, s.path("receipts/two.d/deep.tmp"), "S8: what is excluded stays")
	tmp := func(text string) string {
		return regexp.MustCompile(`\n"receipts/(stays.tmp|two.d[^"]*)".*`).ReplaceAllString(text, "")
	}
	require.Equal(t, good, tmp(s.seen()))

	s.write("receipts/uploaded in the window", "kept")
	s.remove("receipts/empty")
	require.NoError(t, os.Rename(s.path("receipts/2024"), s.path("receipts/2025")))
	s.write("receipts/two with space.pdf.new", "written and renamed over the restored one, as editors do")
	require.NoError(t, os.Rename(s.path("receipts/two with space.pdf.new"), s.path("receipts/two with space.pdf")))
	worked := s.seen()
	kept := s.capture()
	require.NoDirExists(t, filepath.Join(kept.dir, "receipts", workName), "S8: our folder is never captured")

	require.NoError(t, s.turn(2, remora.Replaced))
	require.Equal(t, bad, s.seen())
	require.NoError(t, s.turn(2, remora.Replaced), "a repeated turn changes nothing")
	require.Equal(t, bad, s.seen())
	requireProblem(t, s.turn(1, remora.Restored), remora.Fenced, "comes after")
	require.NoError(t, s.turn(3, remora.Restored), "the undo is undone")
	require.Equal(t, worked, s.seen())

	left, err := s.tree.Leftovers(t.Context())
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Equal(t, remora.Restored, left[0].Live)
	requireProblem(t, s.tree.Discard(t.Context(), job1, ""), remora.Invalid, "no backup of it is named")
	away := &dirWriter{dir: t.TempDir()}
	_, err = s.tree.Capture(t.Context(), job1, remora.Subject{PutAway: run1}, away)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(away.dir, "receipts/new"))
	require.NoError(t, err, "S1: the side that goes is in a backup")
	require.Equal(t, "written after the backup", string(text))
	require.NoError(t, s.tree.Discard(t.Context(), job1, "held"))
	require.Equal(t, worked, s.seen())
	s.noShelves()
}

func TestByEntryAnEmptyDirectoryIsASideLikeAnyOther(t *testing.T) {
	s := newSite(t, byEntry)
	empty := s.seen()
	part := s.capture()
	s.ready(job1, part.fs())
	require.NoError(t, s.turn(1, remora.Restored))
	s.write("receipts/uploaded", "in the window")
	require.NoError(t, s.turn(2, remora.Replaced))
	require.Equal(t, empty, s.seen())
	require.NoError(t, s.turn(3, remora.Restored))
	require.FileExists(t, s.path("receipts/uploaded"))
	require.NoError(t, s.tree.Discard(t.Context(), job1, "held"))
	s.noShelves()
}

func TestByEntryAMissingDirectoryIsRefused(t *testing.T) {
	s := filled(t, byEntry)
	part := s.capture()
	s.remove("deep/alerts")
	_, err := s.tree.Preflight(t.Context(), job1, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Invalid, s.path("deep/alerts"), "does not exist")
	_, err = s.tree.Stage(t.Context(), job1, part.fs())
	require.ErrorContains(t, err, s.path("deep/alerts"))
	s.remove("receipts")
	s.write("deep/alerts/there", "again")
	_, err = s.tree.Stage(t.Context(), job1, part.fs())
	requireProblem(t, err, remora.Invalid, s.path("receipts"), "does not exist")
}

func TestByEntryAnotherVolumeInThePlaceIsNotTouched(t *testing.T) {
	s := filled(t, byEntry)
	part := s.capture()
	s.ready(job1, part.fs())
	for _, c := range []struct {
		dir  string
		kind remora.ProblemKind
	}{
		{"receipts", remora.Changed},
		{"deep/alerts", remora.Fenced}, // which has the journal
	} {
		require.NoError(t, os.Rename(s.path(c.dir), s.path("old")))
		s.write(c.dir+"/other", "of another volume")
		requireProblem(t, s.turn(1, remora.Restored), c.kind, s.path(c.dir))
		require.FileExists(t, s.path(c.dir+"/other"))
		s.remove(c.dir)
		require.NoError(t, os.Rename(s.path("old"), s.path(c.dir)))
	}
	require.NoError(t, s.turn(1, remora.Restored))
}

func TestTheWayOfTheExchangeIsNotChangedInsideAWindow(t *testing.T) {
	s := filled(t)
	part := s.capture()
	s.ready(job1, part.fs())
	other := siteIn(t, filepath.Dir(s.root), byEntry)
	_, err := other.tree.Preflight(t.Context(), remora.Job{Run: run2}, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Busy, run1)
	requireProblem(t, other.turn(1, remora.Restored), remora.Fenced, "is files in the configuration what it was")
}

// TestByEntryAnyHalfIsFinished stops between any two entries, lets the application do what it wants, and goes on there
// or back.
func TestByEntryAnyHalfIsFinished(t *testing.T) {
	for seed := range uint64(25) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := siteIn(t, t.TempDir(), byEntry)
		fill := func(side string) {
			for i := range 6 {
				if random.IntN(3) > 0 {
					s.write(fmt.Sprintf("receipts/%d", i), side)
				}
			}
		}
		fill("restored")
		part := s.capture()
		s.remove("receipts")
		fill("replaced")
		require.NoError(t, os.MkdirAll(s.path("receipts"), 0o755))
		s.ready(job1, part.fs())
		live := remora.Replaced
		seq := 0
		for range 3 {
			seq++
			next := live.Other()
			moved := s.half(random, seq, next)
			for range random.IntN(3) { // although it should be in maintenance
				name := fmt.Sprintf("receipts/%d", random.IntN(8))
				if random.IntN(2) == 0 {
					s.remove(name)
				} else if _, err := os.Lstat(s.path(name)); err != nil {
					s.write(name, "new")
				}
			}
			files := s.count()
			if random.IntN(2) == 0 {
				next = live // the compensation
				seq++
			}
			require.NoError(t, s.turn(seq, next), "seed %d, after %d entries", seed, moved)
			require.NoError(t, s.turn(seq, next), "seed %d, again", seed)
			require.Equal(t, files, s.count(), "seed %d: nothing is lost and nothing appears", seed)
			left, err := s.tree.Leftovers(t.Context())
			require.NoError(t, err)
			require.Equal(t, next, left[0].Live)
			s.pure(next, seed)
			live = next
		}
		require.NoError(t, s.tree.Discard(t.Context(), job1, "held"))
		s.noShelves()
	}
}

// half does a turn up to some entry, as a killed process would.
func (s *site) half(random *rand.Rand, seq int, live remora.Side) int {
	s.t.Helper()
	turn := remora.Turn{Run: run1, Seq: seq, Live: live, KeepUntil: keep}
	h, j, err := s.tree.take(s.t.Context(), run1)
	require.NoError(s.t, err)
	defer h.release()
	spots, err := s.tree.admit(j, turn)
	require.NoError(s.t, err)
	x := &exchange{t: s.tree, h: h, j: j, spots: spots, settled: true, before: live.Other(), wasLive: j.Switched}
	require.NoError(s.t, x.intend(turn))
	require.NoError(s.t, x.list())
	n := random.IntN(len(x.spots) + 1)
	for i := range x.spots[:n] {
		require.NoError(s.t, x.flip(&x.spots[i]))
	}
	require.NoError(s.t, x.close())
	return n
}

// count counts the files of both sides.
func (s *site) count() (files int) {
	s.t.Helper()
	require.NoError(s.t, filepath.WalkDir(s.path("receipts"), func(at string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !strings.HasSuffix(at, ".json") && !strings.HasSuffix(at, ".lock") {
			files++
		}
		return err
	}))
	return files
}

// pure sees that no file of the other side is live.
func (s *site) pure(live remora.Side, seed uint64) {
	s.t.Helper()
	files, err := filepath.Glob(s.path("receipts/[0-9]"))
	require.NoError(s.t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(s.t, err)
		require.NotEqual(s.t, string(live.Other()), string(text), "seed %d: %s", seed, f)
	}
}

func TestAKillBetweenTwoEntriesIsFinishedByTheNextCall(t *testing.T) {
	s := filled(t, byEntry)
	for i := range 60 {
		s.write(fmt.Sprintf("receipts/%02d.pdf", i), "restored")
	}
	good := s.seen()
	part := s.withPart()
	s.damage()
	for i := 20; i < 80; i++ {
		s.write(fmt.Sprintf("receipts/%02d.pdf", i), "replaced")
	}
	bad := s.seen()
	s.ready(job1, part.fs())
	mixed, last := 0, 0
	for range 30 {
		cmd := childCommand(t, "turns", s)
		require.NoError(t, cmd.Start())
		require.Eventually(t, func() bool { // however busy the machine is
			j, err := s.tree.find(run1)
			return err == nil && j.Seq > last
		}, 30*time.Second, time.Millisecond)
		time.Sleep(time.Duration(rand.IntN(10_000)) * time.Microsecond)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		j, err := s.tree.find(run1)
		require.NoError(t, err)
		spots, err := s.tree.spots(j)
		require.NoError(t, err)
		if _, ok := level(spots); !ok {
			mixed++
			requireProblem(t, s.tree.Discard(t.Context(), job1, "held"), remora.Fenced, "some directories")
			_, err := s.tree.Capture(t.Context(), job1, remora.Subject{}, &dirWriter{dir: t.TempDir()})
			requireProblem(t, err, remora.Busy, "between two directories")
		}
		seq, live := j.Seq, j.Live
		if rand.IntN(2) == 0 {
			seq, live = seq+1, live.Other() // the compensation of a killed turn
		}
		last = seq
		require.NoError(t, s.turn(seq, live))
		require.Equal(t, map[remora.Side]string{remora.Restored: good, remora.Replaced: bad}[live], s.seen())
	}
	t.Logf("%d of 30 kills fell between two entries", mixed)
	require.NotZero(t, mixed)
	require.NoError(t, s.turn(1_000_000, remora.Replaced))
	require.NoError(t, s.tree.Discard(t.Context(), job1, "held"))
	require.Equal(t, bad, s.seen())
	s.noShelves()
}

func TestS7WhatIsMountedIsExchangedByEntry(t *testing.T) {
	for name, c := range map[string]struct{ script, refused string }{
		"the directory is a mount point":      {script: `mount --bind "$P/public/receipts" "$P/public/receipts"`},
		"it is mounted elsewhere":             {script: `mkdir "$P/view" && mount --bind "$P/public/receipts" "$P/view"`},
		"each has a file system of its own":   {script: `mount -t tmpfs none "$P/public/receipts" && mount -t tmpfs none "$P/public/deep/alerts"`},
		"root is a mount point":               {script: `mount --bind "$P/public" "$P/public"`},
		"a mount in a directory":              {`mount -t tmpfs none "$P/public/receipts/2024"`, "cannot be exchanged"},
		"a folder in it is mounted elsewhere": {`mkdir "$P/view" && mount --bind "$P/public/receipts/2024" "$P/view"`, "would keep the replaced directory"},
	} {
		t.Run(name, func(t *testing.T) {
			s := filled(t, byEntry)
			good := s.seen()
			s.withPart()
			out, err := inOwnMounts(t, s, `P="$`+parentVariable+`"; `+c.script, "restore")
			if c.refused != "" {
				require.Error(t, err)
				require.Contains(t, out, c.refused)
				return
			}
			require.NoError(t, err, out)
			require.Equal(t, good, s.seen())
			s.noShelves()
		})
	}
}

// A container that has the directory itself mounted sees every switch when entries are exchanged. The exchange of
// directories refuses it, see TestS7AContainerThatHasItMountedIsNamed.
func TestS7AContainerKeepsSeeingWhatIsLive(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount something")
	}
	s := filled(t, byEntry)
	part := s.capture()
	s.damage()
	view := t.TempDir()
	script := fmt.Sprintf(`mount --bind %q %q && cd %q && echo ready && while read -r name; do cat "$name" || echo nothing; echo; done`, s.path("receipts"), view, view)
	cmd := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", script)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	asked := func(name string) string {
		t.Helper()
		_, err := io.WriteString(in, name+"\n")
		require.NoError(t, err)
		require.True(t, lines.Scan())
		text := lines.Text()
		if text == "nothing" {
			require.True(t, lines.Scan())
		}
		return text
	}
	require.Equal(t, "overwritten", asked("two with space.pdf"))

	_, err = s.tree.Preflight(t.Context(), job1, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	s.ready(job1, part.fs())
	require.NoError(t, s.turn(1, remora.Restored))
	require.Equal(t, strings.Repeat("two", 1000), asked("two with space.pdf"))
	require.Equal(t, "one", asked("2024/one.pdf"))
	require.Equal(t, "nothing", asked("new"))
	require.NoError(t, s.turn(2, remora.Replaced))
	require.Equal(t, "overwritten", asked("two with space.pdf"))
	require.Equal(t, "written after the backup", asked("new"))
}

func TestByEntryTheSpaceOfEachFileSystemIsAsked(t *testing.T) {
	s := filled(t, byEntry)
	s.write("receipts/big", strings.Repeat("x", 3<<20))
	s.withPart()
	out, err := inOwnMounts(t, s, `P="$`+parentVariable+`"; mount -t tmpfs -o size=1m none "$P/public/receipts"`, "preflight")
	require.Error(t, err)
	require.Contains(t, out, s.path("receipts"))
	require.Contains(t, out, "need 3.2 MB, have")
	out, err = inOwnMounts(t, s, `P="$`+parentVariable+`"; mount -t tmpfs -o size=1m none "$P/public/deep/alerts"`, "preflight")
	require.NoError(t, err, out)
}

func TestByEntryOurFolderIsNotSomebodyElses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a folder away")
	}
	s := filled(t, byEntry)
	part := s.capture()
	require.NoError(t, os.Mkdir(s.path("receipts/"+workName), 0o777))
	require.NoError(t, unix.Lchown(s.path("receipts/"+workName), 33, 33))
	_, err := s.tree.Stage(t.Context(), job1, part.fs())
	requireProblem(t, err, remora.Denied, s.path("receipts/"+workName))
}
