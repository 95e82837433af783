package filetree

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// elsewhere is the place of a copy beside the site.
func (s *site) elsewhere(name string) (*Tree, string) {
	s.t.Helper()
	to := filepath.Join(filepath.Dir(s.root), name)
	into, ok := s.tree.Into(remora.Selection{To: to}).(*Tree)
	require.True(s.t, ok)
	return into, to
}

// built stages, compares and switches a copy.
func (s *site) built(into *Tree, from fs.FS) {
	s.t.Helper()
	est, err := into.Preflight(s.t.Context(), job1, remora.Intent{From: from})
	require.NoError(s.t, err)
	require.Positive(s.t, est.Summary.Entries)
	copied := &site{t: s.t, tree: into}
	copied.ready(job1, from)
	require.NoError(s.t, copied.turn(1, remora.Restored))
}

// tree is what describe says of a root, without its own name and times.
func treeOf(t testing.TB, root string) string {
	t.Helper()
	lines := strings.Split(describe(t, root), "\n")
	return strings.Join(lines[1:], "\n") // the root itself comes first
}

func TestACopyIsBuiltElsewhere(t *testing.T) {
	s := filled(t)
	require.NoError(t, os.Chmod(s.root, 0o750))
	require.NoError(t, os.Chmod(s.path("deep"), 0o750)) // as it will be in the copy
	good := treeOf(t, s.root)
	part := s.capture()
	s.damage()
	bad := s.look()
	for name, there := range map[string]bool{"look": false, "look again": true} {
		into, to := s.elsewhere(name)
		if there {
			require.NoError(t, os.Mkdir(to, 0o700))
		}
		s.built(into, part.fs())
		require.Equal(t, good, treeOf(t, to))
		left, err := into.Leftovers(t.Context())
		require.NoError(t, err)
		require.Equal(t, to, left[0].To)
		require.Equal(t, remora.Restored, left[0].Live)
		require.NoError(t, into.Discard(t.Context(), job1, ""), "no backup needs to hold what replaced nothing")
		require.Equal(t, good, treeOf(t, to))
		require.NoDirExists(t, into.work)
		require.Equal(t, bad, s.look(), "what is live stays as it is")
	}
}

func TestACopyGoesAwayAgain(t *testing.T) {
	s := filled(t)
	part := s.capture()
	into, to := s.elsewhere("look")
	s.built(into, part.fs())
	require.NoError(t, into.Switch(t.Context(), remora.Turn{Run: run1, Seq: 2, Live: remora.Replaced}))
	require.NoDirExists(t, to)
	require.NoError(t, into.Discard(t.Context(), job1, ""))
	require.NoDirExists(t, into.work)
}

// What somebody puts in the place of a copy before it is there is neither moved nor removed, and what was done with one
// that is there is nobody's business.
func TestACopyLeavesWhatIsNotItsOwn(t *testing.T) {
	s := filled(t)
	part := s.capture()
	for name, put := range map[string]func(to string) error{
		"a file in it": func(to string) error {
			return os.WriteFile(filepath.Join(to, "mine"), nil, 0o600)
		},
		"a file in its place": func(to string) error {
			return os.WriteFile(to, nil, 0o600)
		},
	} {
		into, to := s.elsewhere(name)
		if strings.HasSuffix(name, "in it") {
			require.NoError(t, os.Mkdir(to, 0o755))
		}
		copied := &site{t: t, tree: into}
		copied.ready(job1, part.fs())
		require.NoError(t, put(to))
		before := describe(t, to)
		requireProblem(t, copied.turn(1, remora.Restored), remora.Changed, to, "somebody else")
		require.NoError(t, copied.turn(2, remora.Replaced))
		require.NoError(t, into.Discard(t.Context(), job1, ""))
		require.Equal(t, before, describe(t, to))
		require.NoDirExists(t, into.work)
	}
	into, to := s.elsewhere("moved")
	s.built(into, part.fs())
	require.NoError(t, os.Rename(to, to+" away"))
	require.NoError(t, into.Switch(t.Context(), remora.Turn{Run: run1, Seq: 2, Live: remora.Replaced}))
	require.NoError(t, into.Discard(t.Context(), job1, ""))
	require.DirExists(t, to+" away/receipts")
	require.NoDirExists(t, into.work)
}

func TestWhereACopyCannotBe(t *testing.T) {
	s := filled(t)
	part := s.capture()
	beside := filepath.Dir(s.root)
	require.NoError(t, os.Mkdir(filepath.Join(beside, "full"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(beside, "full", "thing"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(beside, "file"), nil, 0o600))
	require.NoError(t, os.Symlink(s.root, filepath.Join(beside, "link")))
	other := filepath.Join(beside, "other")
	s.tree.cfg.Reserved = []string{filepath.Join(other, "uploads")}
	for to, says := range map[string]string{
		"look":                             "not an absolute, clean path",
		beside + "/look/":                  "not an absolute, clean path",
		beside + "/a/../look":              "not an absolute, clean path",
		beside + "/lo\x00ok":               "not an absolute, clean path",
		beside + "/lo\xffok":               "not an absolute, clean path",
		"/":                                "not an absolute, clean path",
		beside + "/.remora/look":           "keeps such names for itself",
		beside + "/nowhere/look":           "does not exist",
		beside + "/full":                   `it holds "thing"`,
		beside + "/file":                   "is no directory",
		beside + "/link":                   "is no directory",
		beside + "/link/look":              "through a symlink",
		s.path("receipts"):                 "in or around " + s.path("receipts"),
		s.path("receipts/2024/look"):       "in or around " + s.path("receipts"),
		s.root:                             "in or around " + s.path("receipts"),
		other:                              "in or around " + other + "/uploads",
		filepath.Join(other, "uploads/in"): "does not exist",
	} {
		into := s.tree.Into(remora.Selection{To: to})
		_, err := into.Preflight(t.Context(), job1, remora.Intent{From: part.fs()})
		require.Error(t, err, to)
		require.Contains(t, err.Error(), says, to)
		_, err = into.Stage(t.Context(), job1, part.fs())
		require.Error(t, err, to)
	}
	require.NoDirExists(t, filepath.Join(beside, workName))
	into, _ := s.elsewhere("a\nname of two lines")
	s.built(into, part.fs())
	require.NoError(t, into.Discard(t.Context(), job1, ""))
}

func TestACopyIsNotBuiltWhereALiveDirectoryIsMounted(t *testing.T) {
	s := filled(t)
	s.withPart()
	out, err := inOwnMounts(t, s, `P="$`+parentVariable+`"; mkdir "$P/look" && mount --bind "$P/public/receipts" "$P/look"`, "copies")
	require.Error(t, err, out)
	require.Contains(t, out, "in or around "+s.path("receipts"))
}

// TestAKilledCopyIsNothingOrAll kills a process that builds a copy again and again, and settles what is left as the
// journal says.
func TestAKilledCopyIsNothingOrAll(t *testing.T) {
	s := filled(t)
	for i := range 50 {
		s.write("receipts/many/"+strings.Repeat("x", i+1), strings.Repeat("y", i))
	}
	require.NoError(t, os.Chmod(s.path("deep"), 0o755))
	good := treeOf(t, s.root)
	s.withPart()
	into, to := s.elsewhere("look")
	all := 0
	for i := range 25 {
		cmd := childCommand(t, "copies", s)
		require.NoError(t, cmd.Start())
		require.Eventually(t, func() bool {
			left, err := into.Leftovers(t.Context())
			_, there := os.Lstat(to)
			return err == nil && len(left) > 0 && (i%2 == 0 || there == nil)
		}, 30*time.Second, time.Millisecond)
		time.Sleep(time.Duration(rand.IntN(10_000)) * time.Microsecond)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		whole := false
		if _, err := os.Lstat(to); err == nil {
			require.Equal(t, good, treeOf(t, to), "it is there as a whole")
			whole, all = true, all+1
		}
		left, err := into.Leftovers(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, len(left), 1)
		if len(left) == 1 {
			require.Equal(t, map[bool]remora.Side{true: remora.Restored, false: remora.Replaced}[whole], left[0].Live)
			require.NoError(t, into.Discard(t.Context(), job1, ""))
		}
		if whole {
			require.Equal(t, good, treeOf(t, to), "what is discarded is not the copy")
			require.NoError(t, os.RemoveAll(to))
		}
		require.NoDirExists(t, to)
	}
	t.Logf("it was there after %d of 25 kills", all)
	s.built(into, os.DirFS(filepath.Join(filepath.Dir(s.root), "part")))
	require.NoError(t, into.Discard(t.Context(), job1, ""))
	require.NoDirExists(t, into.work)
}
