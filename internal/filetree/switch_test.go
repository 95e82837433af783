package filetree

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

// restored is a damaged site that has been restored; it returns what was before and what was damaged.
func restored(t *testing.T, change ...func(*Config)) (s *site, good, bad string) {
	t.Helper()
	s = filled(t, change...)
	good = s.look()
	part := s.capture()
	s.damage()
	bad = s.look()
	s.ready(job1, part.fs())
	require.NoError(t, s.turn(1, remora.Restored))
	return s, good, bad
}

func TestAStaleTurnIsRefused(t *testing.T) {
	s, good, bad := restored(t)
	require.NoError(t, s.turn(2, remora.Replaced))
	err := s.turn(1, remora.Restored)
	require.ErrorIs(t, err, remora.ErrStaleTurn)
	requireProblem(t, err, remora.Fenced, "turn 1")
	require.ErrorIs(t, s.turn(2, remora.Restored), remora.ErrStaleTurn, "the same turn to another side")
	require.Equal(t, bad, s.look())
	require.NoError(t, s.turn(5, remora.Restored))
	require.Equal(t, good, s.look())
	requireProblem(t, s.turn(6, "sideways"), remora.Invalid)
	requireProblem(t, s.turn(0, remora.Replaced), remora.Invalid)
}

func TestS2OnlyAComparedStageGoesLive(t *testing.T) {
	s := filled(t)
	before := s.look()
	part := s.capture()
	requireProblem(t, s.turn(1, remora.Restored), remora.Fenced, "no journal")
	_, err := s.tree.Compare(t.Context(), job1, part.fs())
	requireProblem(t, err, remora.Fenced, "no journal")
	s.noWork()
	_, err = s.tree.Stage(t.Context(), job1, part.fs())
	require.NoError(t, err)
	requireProblem(t, s.turn(1, remora.Restored), remora.Fenced, "not been compared")
	s.ready(job1, part.fs())
	// A late attempt stages again after the comparison.
	_, err = s.tree.Stage(t.Context(), job1, part.fs())
	require.NoError(t, err)
	requireProblem(t, s.turn(1, remora.Restored), remora.Fenced, "not been compared")
	require.Equal(t, before, s.look())
	require.NoError(t, s.turn(2, remora.Replaced), "the way back has nothing to do")
	require.NoError(t, s.tree.Discard(t.Context(), job1, ""))
	s.noWork()
}

func TestTheWayBackNeedsNoStage(t *testing.T) {
	s := filled(t)
	part := s.capture()
	_, err := s.tree.Stage(t.Context(), job1, part.fs())
	require.NoError(t, err)
	require.NoError(t, s.turn(2, remora.Replaced))
	left, err := s.tree.Leftovers(t.Context())
	require.NoError(t, err)
	require.False(t, left[0].Switched)
	require.ErrorIs(t, s.turn(1, remora.Restored), remora.ErrStaleTurn, "a late first turn cannot act any more")
	requireProblem(t, s.turn(3, remora.Restored), remora.Fenced, "not been compared")
}

func TestADirectoryOfSomebodyElseIsNotTouched(t *testing.T) {
	s, _, _ := restored(t)
	require.NoError(t, os.Rename(s.path("receipts"), s.path("moved-away")))
	require.NoError(t, os.Mkdir(s.path("receipts"), 0o755))
	s.write("receipts/precious", "x")
	before := s.look()
	err := s.turn(2, remora.Replaced)
	requireProblem(t, err, remora.Changed, s.path("receipts"), "neither until then")
	require.Equal(t, before, s.look(), "nothing has changed, in any directory")
	requireProblem(t, s.tree.Discard(t.Context(), job1, "held"), remora.Changed)
	_, err = s.tree.Capture(t.Context(), job1, remora.Subject{PutAway: run1}, &dirWriter{dir: t.TempDir()})
	requireProblem(t, err, remora.Changed)
	left, err := s.tree.Leftovers(t.Context())
	require.NoError(t, err)
	require.Contains(t, left[0].What[0], "of neither side")

	require.NoError(t, os.RemoveAll(s.path("receipts")))
	require.NoError(t, os.Rename(s.path("moved-away"), s.path("receipts")))
	require.NoError(t, s.turn(2, remora.Replaced), "moved back, it goes on")
}

func TestAPutAwaySideOfSomebodyElseDoesNotGoLive(t *testing.T) {
	s, good, _ := restored(t)
	away := filepath.Join(s.tree.work, run1, "b1/receipts")
	require.NoError(t, os.Rename(away, away+"-moved"))
	require.NoError(t, os.Mkdir(away, 0o755))
	requireProblem(t, s.turn(2, remora.Replaced), remora.Changed, s.path("receipts"))
	require.Equal(t, good, s.look())
}

func TestADirectoryThatAppearedAfterTheStageStopsTheSwitch(t *testing.T) {
	s := filled(t)
	part := s.capture()
	s.remove("receipts")
	s.ready(job1, part.fs())
	s.write("receipts/fresh upload", "x")
	before := s.look()
	requireProblem(t, s.turn(1, remora.Restored), remora.Changed, s.path("receipts"))
	require.Equal(t, before, s.look())
}

func TestWhatWasNotThereComesAndGoes(t *testing.T) {
	for name, destroy := range map[string]func(*site){
		"one directory": func(s *site) { s.remove("receipts") },
		"both":          func(s *site) { s.remove("receipts"); s.remove("deep/alerts") },
		"a folder":      func(s *site) { s.remove("deep") },
		"the root":      func(s *site) { require.NoError(s.t, os.RemoveAll(s.root)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := filled(t)
			good := s.look()
			part := s.capture()
			destroy(s)
			bad := describe(t, filepath.Dir(s.root))
			s.ready(job1, part.fs())
			require.NoError(t, s.turn(1, remora.Restored))
			require.Equal(t, good, s.look())
			require.NoError(t, s.turn(2, remora.Replaced))
			require.NoError(t, s.turn(3, remora.Restored))
			require.Equal(t, good, s.look())
			require.NoError(t, s.turn(4, remora.Replaced))
			require.NoError(t, s.tree.Discard(t.Context(), job1, "held"))
			require.Equal(t, bad, describe(t, filepath.Dir(s.root)), "BEFORE, to the last folder")
		})
	}
}

func TestAnAcceptedRestoreIntoNothingNeedsNoBackupOfNothing(t *testing.T) {
	s := filled(t)
	good := s.look()
	part := s.capture()
	require.NoError(t, os.RemoveAll(s.root))
	s.ready(job1, part.fs())
	require.NoError(t, s.turn(1, remora.Restored))
	sum, err := s.tree.Capture(t.Context(), job1, remora.Subject{PutAway: run1}, &dirWriter{dir: t.TempDir()})
	require.NoError(t, err)
	require.Zero(t, sum.Objects)
	require.NoError(t, s.tree.Discard(t.Context(), job1, ""))
	require.Equal(t, good, s.look())
	s.noWork()
}

// immutable makes the kernel refuse every rename in a folder.
func immutable(t *testing.T, at string, on bool) {
	t.Helper()
	f, err := os.Open(at)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	flags := 0
	if on {
		flags = 0x10 // FS_IMMUTABLE_FL
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags); err != nil {
		t.Skipf("needs root and a file system with the immutable flag, to make an exchange fail: %v", err)
	}
}

func TestAFailedSwitchPutsBackWhatItHadExchanged(t *testing.T) {
	s := filled(t)
	part := s.capture()
	s.damage()
	bad := s.look()
	s.ready(job1, part.fs())
	immutable(t, s.path("deep"), true)
	t.Cleanup(func() { immutable(t, s.path("deep"), false) })
	requireProblem(t, s.turn(1, remora.Restored), remora.Denied, s.path("deep/alerts"))
	immutable(t, s.path("deep"), false)
	require.Equal(t, bad, s.look())
	left, err := s.tree.Leftovers(t.Context())
	require.NoError(t, err)
	require.Equal(t, remora.Replaced, left[0].Live)
	require.True(t, left[0].Switched, "one restored directory was live for a moment")

	require.NoError(t, s.turn(1, remora.Restored), "the same turn, tried again")
	immutable(t, s.path("deep"), true)
	good := s.look()
	requireProblem(t, s.turn(2, remora.Replaced), remora.Denied)
	immutable(t, s.path("deep"), false)
	require.Equal(t, good, s.look())
	require.NoError(t, s.turn(2, remora.Replaced))
	require.Equal(t, bad, s.look())
}

func TestASwitchThatMovedNothingLeavesAStageThatMayGo(t *testing.T) {
	s := filled(t, func(c *Config) { c.Directories = []string{"deep/alerts"} })
	part := s.capture()
	s.ready(job1, part.fs())
	immutable(t, s.path("deep"), true)
	t.Cleanup(func() { immutable(t, s.path("deep"), false) })
	requireProblem(t, s.turn(1, remora.Restored), remora.Denied)
	require.NoError(t, s.turn(2, remora.Replaced))
	require.NoError(t, s.tree.Discard(t.Context(), job1, ""))
	s.noWork()
}

func TestS8WhatIsExcludedStays(t *testing.T) {
	s := filled(t)
	s.write("receipts/2024/in-backup.tmp", "from the backup")
	part := s.capture() // nothing was excluded then
	s.remove("receipts/2024/in-backup.tmp")

	tree, err := New(Config{Source: "shop", Installation: installation, Root: s.root, Directories: s.tree.cfg.Directories, Exclude: []string{"*.tmp", "cache/**"}})
	require.NoError(t, err)
	s.tree = tree
	s.write("receipts/2024/in-backup.tmp", "live")
	s.write("receipts/2024/other.tmp", "live")
	s.write("receipts/new-folder/deep/a.tmp", "live")
	s.write("receipts/cache/x/y", "live")
	require.NoError(t, os.Symlink("y", s.path("receipts/cache/x/link")))
	require.NoError(t, os.Chmod(s.path("receipts/cache"), fileMode(0o2770)))
	s.write("receipts/gone after the restore", "live")
	live := s.look()
	s.ready(job1, part.fs())
	folder, err := os.Stat(filepath.Join(part.dir, "receipts/2024"))
	require.NoError(t, err)
	require.NoError(t, s.turn(1, remora.Restored))
	require.NoError(t, s.turn(1, remora.Restored))

	read := func(rel string) string {
		text, err := os.ReadFile(s.path(rel))
		require.NoError(t, err)
		return string(text)
	}
	require.Equal(t, "from the backup", read("receipts/2024/in-backup.tmp"), "what the backup has, wins")
	require.Equal(t, "live", read("receipts/2024/other.tmp"))
	require.Equal(t, "live", read("receipts/new-folder/deep/a.tmp"))
	require.Equal(t, "live", read("receipts/cache/x/link"))
	require.NoFileExists(t, s.path("receipts/gone after the restore"))
	now, err := os.Stat(s.path("receipts/2024"))
	require.NoError(t, err)
	require.True(t, folder.ModTime().Equal(now.ModTime()))
	cache, err := os.Stat(s.path("receipts/cache"))
	require.NoError(t, err)
	require.Equal(t, uint32(0o2770), unixMode(cache.Mode()))

	require.NoError(t, s.turn(2, remora.Replaced))
	require.Equal(t, live, s.look())
}

func TestTheWorkFolderIsNobodyElses(t *testing.T) {
	s := filled(t)
	part := s.capture()
	require.NoError(t, os.Symlink(t.TempDir(), s.tree.work))
	_, err := s.tree.Stage(t.Context(), job1, part.fs())
	requireProblem(t, err, remora.Denied, s.tree.work)
	require.NoError(t, os.Remove(s.tree.work))
	require.NoError(t, os.Mkdir(s.tree.work, 0o777))
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(s.tree.work, 65534, 65534))
		_, err := s.tree.Stage(t.Context(), job1, part.fs())
		requireProblem(t, err, remora.Denied, s.tree.work)
		require.NoError(t, os.Chown(s.tree.work, 0, 0))
	}
	s.ready(job1, part.fs())
	info, err := os.Stat(s.tree.work)
	require.NoError(t, err)
	require.EqualValues(t, 0o700, info.Mode().Perm())
	for _, run := range []string{"", "../x", "a/b", ".hidden", "a\x00"} {
		_, err := s.tree.Stage(t.Context(), remora.Job{Run: run}, part.fs())
		requireProblem(t, err, remora.Invalid, "not the name of a run")
	}
}
