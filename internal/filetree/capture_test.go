package filetree

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

func (s *site) tryCapture(w *dirWriter, of remora.Subject) (remora.Summary, error) {
	if w.dir == "" {
		w.dir = s.t.TempDir()
	}
	return s.tree.Capture(s.t.Context(), job1, of, w)
}

func TestTheCensusSaysWhatIsThere(t *testing.T) {
	s := filled(t)
	l := &listener{}
	w := &dirWriter{dir: t.TempDir()}
	sum, err := s.tree.Capture(t.Context(), remora.Job{Run: run1, Report: l.report}, remora.Subject{}, w)
	require.NoError(t, err)
	require.EqualValues(t, 2, sum.Objects)
	require.EqualValues(t, 4, sum.Entries)
	require.EqualValues(t, 3+3000+8, sum.Bytes)
	require.Empty(t, sum.Warnings)
	require.NotEmpty(t, l.got)
	require.Equal(t, "archive receipts", l.got[0].Phase)

	text, err := os.ReadFile(filepath.Join(w.dir, remora.PartFile))
	require.NoError(t, err)
	var p part
	require.NoError(t, json.Unmarshal(text, &p))
	require.Equal(t, count{Files: 3, Directories: 2, Symlinks: 2, Bytes: 3003}, p.Directories[0].count)
	require.Equal(t, count{Files: 1, Directories: 1, Bytes: 8}, p.Directories[1].count)
}

func TestACensusThatDisagreesIsNoBackup(t *testing.T) {
	for name, lie := range map[string]func(*remora.TreeSummary){
		"a file too few":      func(s *remora.TreeSummary) { s.Files-- },
		"a directory too few": func(s *remora.TreeSummary) { s.Directories-- },
		"a symlink too few":   func(s *remora.TreeSummary) { s.Symlinks-- },
		"a byte too few":      func(s *remora.TreeSummary) { s.Bytes-- },
		"a file too many":     func(s *remora.TreeSummary) { s.Files++ },
	} {
		t.Run(name, func(t *testing.T) {
			s := filled(t)
			w := &dirWriter{lie: lie}
			_, err := s.tryCapture(w, remora.Subject{})
			requireProblem(t, err, remora.Corrupt, "were stored", s.path("receipts"))
			require.NoFileExists(t, filepath.Join(w.dir, remora.PartFile), "a part without census is no part")
		})
	}
}

func TestS15FilesThatVanishAreNamed(t *testing.T) {
	s := filled(t)
	sum, err := s.tryCapture(&dirWriter{mutate: func() { _ = os.Remove(s.path("receipts/2024/one.pdf")) }}, remora.Subject{})
	require.NoError(t, err)
	require.Len(t, sum.Warnings, 1)
	require.Contains(t, sum.Warnings[0], "2024/one.pdf")
	require.Contains(t, sum.Warnings[0], "vanished")
}

func TestAWriterThatDropsFilesInAMovingTreeIsCaught(t *testing.T) {
	s := filled(t, func(c *Config) { c.Directories = []string{"receipts"} })
	w := &dirWriter{mutate: func() { s.write("receipts/fresh", "x") }, lie: func(sum *remora.TreeSummary) { sum.Files -= 2 }}
	_, err := s.tryCapture(w, remora.Subject{})
	requireProblem(t, err, remora.Corrupt, "were stored")
}

func TestADirectoryThatIsReplacedMeanwhileIsNoBackup(t *testing.T) {
	s := filled(t)
	_, err := s.tryCapture(&dirWriter{mutate: func() {
		_ = os.Rename(s.path("receipts"), s.path("old"))
		_ = os.Mkdir(s.path("receipts"), 0o755)
	}}, remora.Subject{})
	requireProblem(t, err, remora.Changed, "replaced by another one")
}

func TestSocketsAndPipesAreReportedAndStay(t *testing.T) {
	s := filled(t)
	l, err := net.Listen("unix", s.path("receipts/app.sock"))
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	require.NoError(t, unix.Mkfifo(s.path("receipts/pipe"), 0o600))
	w := &dirWriter{}
	sum, err := s.tryCapture(w, remora.Subject{})
	require.NoError(t, err)
	require.Len(t, sum.Warnings, 1)
	require.Contains(t, sum.Warnings[0], "2 in receipts cannot be stored and were skipped")
	require.Contains(t, sum.Warnings[0], "app.sock")

	s.ready(job1, w.fs())
	require.NoError(t, s.turn(1, remora.Restored))
	conn, err := net.Dial("unix", s.path("receipts/app.sock"))
	require.NoError(t, err, "S8: what was skipped stays, and works")
	_ = conn.Close()
	require.FileExists(t, s.path("receipts/pipe"))
}

func TestWhatCannotBeGivenBackIsRefusedByName(t *testing.T) {
	long := strings.Repeat(strings.Repeat("x", 250)+"/", 15) + strings.Repeat("y", 100)
	for name, c := range map[string]struct {
		make func(*site) error
		says []string
	}{
		"a name that is not UTF-8": {func(s *site) error { return os.WriteFile(s.path("receipts/bad\xff"), nil, 0o600) }, []string{"not valid UTF-8", `bad\xff`, "rename"}},
		"a path that is too long":  {func(s *site) error { return os.MkdirAll(s.path("receipts/"+long), 0o755) }, []string{"cannot be restored"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := filled(t)
			require.NoError(t, c.make(s))
			_, err := s.tree.Preflight(t.Context(), job1, remora.Intent{})
			requireProblem(t, err, remora.Unsupported, c.says...)
			_, err = s.tryCapture(&dirWriter{}, remora.Subject{})
			requireProblem(t, err, remora.Unsupported, c.says...)
			require.NoError(t, os.RemoveAll(s.path("receipts")))
		})
	}
}

func TestAMissingDirectoryIsRefusedOrRecorded(t *testing.T) {
	s := filled(t)
	s.remove("receipts")
	_, err := s.tree.Preflight(t.Context(), job1, remora.Intent{})
	requireProblem(t, err, remora.Invalid, s.path("receipts"), "does not exist", "mounted")
	_, err = s.tryCapture(&dirWriter{}, remora.Subject{})
	requireProblem(t, err, remora.Invalid, s.path("receipts"))

	_, err = s.tree.Preflight(t.Context(), job1, remora.Intent{Partial: true})
	require.NoError(t, err)
	sum, err := s.tryCapture(&dirWriter{}, remora.Subject{Partial: true})
	require.NoError(t, err)
	require.EqualValues(t, 1, sum.Objects)
	require.Contains(t, sum.Warnings[0], "directory receipts does not exist")
}

func TestS14NothingLiveIsSaid(t *testing.T) {
	s := filled(t)
	part := s.capture()
	require.NoError(t, os.RemoveAll(s.root))
	for _, intent := range []remora.Intent{{}, {From: part.fs()}} {
		est, err := s.tree.Preflight(t.Context(), job1, intent)
		require.NoError(t, err)
		require.True(t, est.Empty)
		require.Empty(t, est.Replaces)
	}
	_, err := s.tryCapture(&dirWriter{}, remora.Subject{})
	requireProblem(t, err, remora.Invalid)

	require.NoError(t, os.RemoveAll(filepath.Dir(s.root)))
	_, err = s.tree.Preflight(t.Context(), job1, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Invalid, "folder that holds root", "mounted")
}

func TestExcludedEntriesAreNotInTheBackup(t *testing.T) {
	s := filled(t, func(c *Config) { c.Exclude = []string{"*.tmp", "cache/**"} })
	s.write("receipts/x.tmp", "x")
	s.write("receipts/cache/big", "x")
	s.write("receipts/.remora-probe/y", "x")
	w := s.capture()
	for _, gone := range []string{"x.tmp", "cache", ".remora-probe"} {
		_, err := os.Lstat(filepath.Join(w.dir, "receipts", gone))
		require.ErrorIs(t, err, os.ErrNotExist)
	}
}

func TestSymlinksOnTheWayAreRefused(t *testing.T) {
	s := filled(t)
	require.NoError(t, os.Rename(s.path("receipts"), s.path("elsewhere")))
	require.NoError(t, os.Symlink("elsewhere", s.path("receipts")))
	_, err := s.tree.Preflight(t.Context(), job1, remora.Intent{})
	requireProblem(t, err, remora.Unsupported, s.path("receipts"), "symlink")

	s = filled(t)
	require.NoError(t, os.Rename(s.path("deep"), s.path("elsewhere")))
	require.NoError(t, os.Symlink("elsewhere", s.path("deep")))
	_, err = s.tryCapture(&dirWriter{}, remora.Subject{})
	requireProblem(t, err, remora.Unsupported, s.path("deep"), "symlink")

	s = filled(t)
	link := filepath.Join(t.TempDir(), "current")
	require.NoError(t, os.Symlink(filepath.Dir(s.root), link))
	tree, err := New(Config{Source: "shop", Installation: installation, Root: filepath.Join(link, "public"), Directories: []string{"receipts"}})
	require.NoError(t, err)
	_, err = tree.Preflight(t.Context(), job1, remora.Intent{})
	requireProblem(t, err, remora.Unsupported, "symlink", "set files.root to "+s.root)
}

func TestTheFingerprintIsAboutShape(t *testing.T) {
	s := filled(t)
	print := func() string {
		est, err := s.tree.Preflight(t.Context(), job1, remora.Intent{Partial: true})
		require.NoError(t, err)
		return est.Fingerprint
	}
	before := print()
	s.write("receipts/new", "x")
	require.Equal(t, before, print())
	s.remove("deep/alerts")
	require.NotEqual(t, before, print())
}
