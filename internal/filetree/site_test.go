package filetree

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

const (
	installation = "0123456789abcdef"
	run1         = "11111111-aaaa-4bbb-8ccc-000000000001"
	run2         = "22222222-aaaa-4bbb-8ccc-000000000002"
)

var (
	keep = time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC)
	job1 = remora.Job{Run: run1}
)

// site is an application's folder with two directories of uploads.
type site struct {
	t    testing.TB
	root string
	tree *Tree
}

func newSite(t testing.TB, change ...func(*Config)) *site {
	t.Helper()
	parent, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	return siteIn(t, parent, change...)
}

func siteIn(t testing.TB, parent string, change ...func(*Config)) *site {
	t.Helper()
	cfg := Config{Source: "shop", Installation: installation, Root: filepath.Join(parent, "public"), Directories: []string{"receipts", "deep/alerts"}}
	for _, c := range change {
		c(&cfg)
	}
	tree, err := New(cfg)
	require.NoError(t, err)
	s := &site{t: t, root: cfg.Root, tree: tree}
	for _, d := range cfg.Directories {
		require.NoError(t, os.MkdirAll(filepath.Join(s.root, d), 0o755))
	}
	return s
}

// filled has a few files in each directory.
func filled(t testing.TB, change ...func(*Config)) *site {
	t.Helper()
	s := newSite(t, change...)
	s.write("receipts/2024/one.pdf", "one")
	s.write("receipts/two with space.pdf", strings.Repeat("two", 1000))
	s.write("receipts/empty", "")
	s.write("deep/alerts/a.json", `{"a": 1}`)
	require.NoError(t, os.Symlink("../two with space.pdf", filepath.Join(s.root, "receipts/2024/link")))
	require.NoError(t, os.Symlink("/nowhere/at/all", filepath.Join(s.root, "receipts/dangling")))
	return s
}

func (s *site) path(rel string) string { return filepath.Join(s.root, rel) }

func (s *site) write(rel, text string) {
	s.t.Helper()
	require.NoError(s.t, os.MkdirAll(filepath.Dir(s.path(rel)), 0o755))
	require.NoError(s.t, os.WriteFile(s.path(rel), []byte(text), 0o644))
}

func (s *site) remove(rel string) {
	s.t.Helper()
	require.NoError(s.t, os.RemoveAll(s.path(rel)))
}

// damage is what a bad day does.
func (s *site) damage() {
	s.remove("receipts/2024")
	s.write("receipts/two with space.pdf", "overwritten")
	s.write("receipts/new", "written after the backup")
	s.remove("deep/alerts/a.json")
}

func (s *site) capture() *dirWriter {
	s.t.Helper()
	w := &dirWriter{dir: s.t.TempDir()}
	_, err := s.tree.Capture(s.t.Context(), remora.Job{Run: "capture"}, remora.Subject{}, w)
	require.NoError(s.t, err)
	return w
}

// ready stages and compares.
func (s *site) ready(job remora.Job, from fs.FS) {
	s.t.Helper()
	_, err := s.tree.Stage(s.t.Context(), job, from)
	require.NoError(s.t, err)
	diff, err := s.tree.Compare(s.t.Context(), job, from)
	require.NoError(s.t, err)
	require.Empty(s.t, diff.Differences)
}

func (s *site) turn(seq int, live remora.Side) error {
	return s.tree.Switch(s.t.Context(), remora.Turn{Run: run1, Seq: seq, Live: live, KeepUntil: keep})
}

// look describes everything below the root by name, type, mode, owner, time and content.
func (s *site) look() string { return describe(s.t, s.root) }

func describe(t testing.TB, base string) string {
	t.Helper()
	var lines []string
	require.NoError(t, filepath.WalkDir(base, func(at string, _ fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := os.Lstat(at)
		require.NoError(t, err)
		st := info.Sys().(*syscall.Stat_t)
		rel, err := filepath.Rel(base, at)
		require.NoError(t, err)
		content := ""
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(at)
			require.NoError(t, err)
			content = fmt.Sprintf("%d bytes %x", len(data), sha256.Sum256(data))
		case info.Mode()&fs.ModeSymlink != 0:
			content, err = os.Readlink(at)
			require.NoError(t, err)
		}
		when := info.ModTime().UTC().Format(time.RFC3339Nano)
		if slices.Contains([]string{".", "deep", "public", "public/deep"}, rel) {
			when = "" // an exchange touches what holds the directories
		}
		attrs, err := attributes(at)
		require.NoError(t, err)
		lines = append(lines, fmt.Sprintf("%q %v %d:%d %s %q %q", rel, info.Mode(), st.Uid, st.Gid, when, content, attrs))
		return nil
	}))
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// noWork says that nothing of ours is left beside the root.
func (s *site) noWork() {
	s.t.Helper()
	require.NoDirExists(s.t, s.tree.work)
}

// requireProblem checks kind and words of what a person would read.
func requireProblem(t testing.TB, err error, kind remora.ProblemKind, words ...string) {
	t.Helper()
	var p *remora.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, kind, p.Kind, "%v", err)
	for _, w := range words {
		require.Contains(t, p.Error()+" / "+p.Hint, w)
	}
	require.NotEmpty(t, p.Op)
}
