package filetree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// oddNames are names that have broken a backup tool somewhere.
var oddNames = []string{
	"a", "with space", " leading", "trailing ", "quote'", `double"quote`, "new\nline", "tab\t", "-rf", "*", "?", "[x]", "back\\slash",
	"emoji 🐟", "e\u0301 combined", "\u00e9 single", "..hidden", "...", "~", "$HOME", "`id`", ";ls", "CON", "a:b", "\u202egnp.exe",
	"\x01control", strings.Repeat("l", 255), strings.Repeat("🐟", 63), ".kopiaignore", "part.json", "x.kopia-entry",
}

// drawTree fills a directory with whatever file systems can hold.
func drawTree(t *rapid.T, at string, depth int) {
	names := rapid.SliceOfNDistinct(rapid.SampledFrom(oddNames), 0, 5, rapid.ID).Draw(t, "names")
	for _, name := range names {
		p := filepath.Join(at, name)
		kind := rapid.SampledFrom([]string{"file", "file", "dir", "link", "hard"}).Draw(t, "kind")
		switch {
		case kind == "dir" && depth > 0:
			must(t, os.Mkdir(p, 0o755))
			drawTree(t, p, depth-1)
		case kind == "link":
			target := rapid.SampledFrom([]string{"..", "/etc/passwd", "../../../../etc", "a", "nowhere", "new\nline", strings.Repeat("t", 4000)}).Draw(t, "target")
			must(t, os.Symlink(target, p))
			dress(t, p, true)
			continue
		case kind == "hard" && len(names) > 1:
			if err := os.Link(filepath.Join(at, names[0]), p); err == nil || !os.IsNotExist(err) && !os.IsPermission(err) {
				continue
			}
			fallthrough
		default:
			size := rapid.SampledFrom([]int{0, 1, 1000, 256 << 10, 256<<10 + 1}).Draw(t, "size")
			must(t, os.WriteFile(p, bytes.Repeat([]byte(name[:1]), size), 0o644))
		}
		dress(t, p, false)
	}
}

// dress gives an entry a drawn mode, time, owner and extended attribute.
func dress(t *rapid.T, p string, link bool) {
	if os.Geteuid() == 0 {
		must(t, os.Lchown(p, rapid.IntRange(0, 3).Draw(t, "uid"), rapid.IntRange(0, 3).Draw(t, "gid")))
	}
	if !link {
		if rapid.IntRange(0, 4).Draw(t, "attr") == 0 {
			err := unix.Setxattr(p, "user.remora.test", []byte{0, 255, byte(len(p))}, 0)
			if !errors.Is(err, unix.ENOTSUP) {
				must(t, err)
			}
		}
		must(t, os.Chmod(p, fs.FileMode(rapid.SampledFrom([]uint32{0o644, 0o600, 0o755, 0o777, 0o701, 0o750}).Draw(t, "mode"))))
	}
	parent, err := os.Open(filepath.Dir(p))
	must(t, err)
	defer func() { _ = parent.Close() }()
	when := time.Unix(rapid.Int64Range(-1<<31, 1<<33).Draw(t, "sec"), rapid.Int64Range(0, 999_999_999).Draw(t, "nsec"))
	must(t, touch(parent, filepath.Base(p), when))
}

func must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnyTreeComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newSite(t)
		defer func() { _ = os.RemoveAll(filepath.Dir(s.root)) }()
		drawTree(rt, s.path("receipts"), 3)
		drawTree(rt, s.path("deep/alerts"), 1)
		dress(rt, s.path("receipts"), false)
		before := s.look()
		part := s.capture()
		defer func() { _ = os.RemoveAll(part.dir) }()
		require.NoError(t, os.RemoveAll(s.path("receipts")))
		require.NoError(t, os.Mkdir(s.path("receipts"), 0o700))
		drawTree(rt, s.path("receipts"), 2)
		after := s.look()
		s.ready(job1, part.fs())
		require.Equal(t, after, s.look())
		require.NoError(t, s.turn(1, remora.Restored))
		require.Equal(t, before, s.look())
		require.NoError(t, s.turn(2, remora.Replaced))
		require.Equal(t, after, s.look())
		require.NoError(t, s.tree.Discard(t.Context(), job1, "held"))
		s.noWork()
	})
}

func TestATreeAsDeepAsPathsGoComesBack(t *testing.T) {
	s := newSite(t)
	deep := strings.Repeat("d/", 100) + strings.TrimSuffix(strings.Repeat(strings.Repeat("l", 99)+"/", (maxPath-len(s.root)-300)/100), "/")
	s.write("receipts/"+deep+"/x", "x")
	before := s.look()
	part := s.capture()
	s.remove("receipts/d")
	s.ready(job1, part.fs())
	require.NoError(t, s.turn(1, remora.Restored))
	require.Equal(t, before, s.look())
}

func TestEachStageStartsAfresh(t *testing.T) {
	s := filled(t)
	part := s.capture()
	s.ready(job1, part.fs())
	first := filepath.Join(s.tree.work, run1, "b1")
	require.DirExists(t, first)
	s.ready(job1, part.fs())
	require.NoDirExists(t, first)
	require.DirExists(t, filepath.Join(s.tree.work, run1, "b2"))
	info, err := os.Stat(filepath.Join(s.tree.work, run1))
	require.NoError(t, err)
	require.EqualValues(t, 0o700, info.Mode().Perm())

	require.NoError(t, s.turn(1, remora.Restored))
	_, err = s.tree.Stage(t.Context(), job1, part.fs())
	requireProblem(t, err, remora.Fenced, "already been switched")
}

func TestPrivilegedBitsDoNotComeBack(t *testing.T) {
	s := filled(t)
	require.NoError(t, os.Chmod(s.path("receipts/empty"), fileMode(0o6755)))
	require.NoError(t, os.Chmod(s.path("receipts/2024"), fileMode(0o3775)))
	part := s.capture()
	sum, err := s.tree.Stage(t.Context(), job1, part.fs())
	require.NoError(t, err)
	require.Len(t, sum.Warnings, 1)
	require.Contains(t, sum.Warnings[0], "1 entries had setuid")
	s.ready(job1, part.fs())
	require.NoError(t, s.turn(1, remora.Restored))
	file, err := os.Stat(s.path("receipts/empty"))
	require.NoError(t, err)
	require.Equal(t, uint32(0o755), unixMode(file.Mode()))
	folder, err := os.Stat(s.path("receipts/2024"))
	require.NoError(t, err)
	require.Equal(t, uint32(0o3775), unixMode(folder.Mode()), "a folder's group is no danger, and applications rely on it")
}

// hostile is a part that lists what it likes in receipts.
type hostile struct {
	fs.FS
	at      string
	entries []fs.DirEntry
}

func (h hostile) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == h.at {
		return h.entries, nil
	}
	return fs.ReadDir(h.FS, name)
}

func (h hostile) ReadLink(name string) (string, error) { return fs.ReadLink(h.FS, name) }
func (h hostile) Lstat(name string) (fs.FileInfo, error) {
	return fs.Lstat(h.FS, name)
}

type fakeEntry struct {
	name, other string
	mode        fs.FileMode
}

func (e fakeEntry) Name() string               { return e.name }
func (e fakeEntry) IsDir() bool                { return e.mode.IsDir() }
func (e fakeEntry) Type() fs.FileMode          { return e.mode.Type() }
func (e fakeEntry) Info() (fs.FileInfo, error) { return fakeInfo{e}, nil }

type fakeInfo struct{ fakeEntry }

func (i fakeInfo) Name() string {
	if i.other != "" {
		return i.other
	}
	return i.name
}
func (i fakeInfo) Size() int64        { return 1 }
func (i fakeInfo) Mode() fs.FileMode  { return i.mode }
func (i fakeInfo) ModTime() time.Time { return time.Time{} }
func (i fakeInfo) Sys() any           { return nil }

// mapPart is a part made by hand.
func mapPart(t *testing.T, dirs []partDirectory, files fstest.MapFS) fstest.MapFS {
	t.Helper()
	text, err := json.Marshal(part{Format: partFormat, Directories: dirs})
	require.NoError(t, err)
	files[remora.PartFile] = &fstest.MapFile{Data: text}
	return files
}

func TestAHostilePartNeverLeavesTheStage(t *testing.T) {
	receipts := []partDirectory{{Path: "receipts", owned: owned{Mode: 0o755}, count: count{Files: 1, Directories: 1, Bytes: 1}}}
	for name, entries := range map[string][]fs.DirEntry{
		"a path":          {fakeEntry{name: "../../evil"}},
		"upward":          {fakeEntry{name: "..", mode: fs.ModeDir}},
		"itself":          {fakeEntry{name: ".", mode: fs.ModeDir}},
		"absolute":        {fakeEntry{name: "/etc/evil"}},
		"nothing":         {fakeEntry{name: ""}},
		"NUL":             {fakeEntry{name: "a\x00b"}},
		"not UTF-8":       {fakeEntry{name: "a\xff"}},
		"overlong":        {fakeEntry{name: strings.Repeat("x", 256)}},
		"twice":           {fakeEntry{name: "a"}, fakeEntry{name: "a", mode: fs.ModeSymlink}},
		"two-faced":       {fakeEntry{name: "a", other: "../evil"}},
		"a device":        {fakeEntry{name: "a", mode: fs.ModeDevice | 0o666}},
		"a char device":   {fakeEntry{name: "a", mode: fs.ModeDevice | fs.ModeCharDevice}},
		"a pipe":          {fakeEntry{name: "a", mode: fs.ModeNamedPipe}},
		"a socket":        {fakeEntry{name: "a", mode: fs.ModeSocket}},
		"something else":  {fakeEntry{name: "a", mode: fs.ModeIrregular}},
		"an empty target": {fakeEntry{name: "link", mode: fs.ModeSymlink}},
	} {
		t.Run(name, func(t *testing.T) {
			s := filled(t)
			before := describe(t, filepath.Dir(s.root))
			files := mapPart(t, receipts, fstest.MapFS{"receipts/link": {Mode: fs.ModeSymlink}})
			_, err := s.tree.Stage(t.Context(), job1, hostile{FS: files, at: "receipts", entries: entries})
			require.Error(t, err)
			require.Equal(t, remora.Corrupt, remora.KindOf(err), "%v", err)
			require.NoError(t, s.tree.Discard(t.Context(), job1, ""))
			require.Equal(t, before, describe(t, filepath.Dir(s.root)))
		})
	}
}

func TestAFileThatIsNotAsLongAsListedIsRefused(t *testing.T) {
	receipts := []partDirectory{{Path: "receipts", owned: owned{Mode: 0o755}, count: count{Files: 1, Directories: 1, Bytes: 1}}}
	for name, data := range map[string]string{"longer": "abc", "shorter": ""} {
		t.Run(name, func(t *testing.T) {
			s := filled(t)
			files := mapPart(t, receipts, fstest.MapFS{"receipts/a": {Data: []byte(data)}})
			_, err := s.tree.Stage(t.Context(), job1, hostile{FS: files, at: "receipts", entries: []fs.DirEntry{fakeEntry{name: "a", mode: 0o644}}})
			requireProblem(t, err, remora.Corrupt, "receipts/a", "1 bytes")
		})
	}
}

func TestASymlinkIsNeverWrittenThrough(t *testing.T) {
	s := filled(t)
	outside := t.TempDir()
	// The listing says that "a" is a symlink, and then that it is a directory with a file in it.
	files := fstest.MapFS{
		"receipts/a":      {Data: []byte(outside), Mode: fs.ModeSymlink | 0o777},
		"receipts/a/evil": {Data: []byte("x"), Mode: 0o644},
	}
	h := hostile{FS: mapPart(t, []partDirectory{{Path: "receipts"}}, files), at: "receipts", entries: []fs.DirEntry{
		fakeEntry{name: "a", mode: fs.ModeSymlink}, fakeEntry{name: "a", mode: fs.ModeDir},
	}}
	_, err := s.tree.Stage(t.Context(), job1, h)
	require.Error(t, err)
	entries, err := os.ReadDir(outside)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestAPartThatLiesAboutItselfIsRefused(t *testing.T) {
	top := owned{Mode: 0o755}
	file := fstest.MapFS{"receipts/a": {Data: []byte("abc"), Mode: 0o644}}
	for name, c := range map[string]struct {
		dirs []partDirectory
		kind remora.ProblemKind
		says string
	}{
		"fewer files":           {[]partDirectory{{Path: "receipts", owned: top, count: count{Files: 0, Directories: 1}}}, remora.Corrupt, "part.json counts"},
		"more bytes":            {[]partDirectory{{Path: "receipts", owned: top, count: count{Files: 1, Directories: 1, Bytes: 4}}}, remora.Corrupt, "part.json counts"},
		"a path that leads out": {[]partDirectory{{Path: "../receipts", owned: top}}, remora.Corrupt, "relative to root"},
		"an absolute path":      {[]partDirectory{{Path: "/etc", owned: top}}, remora.Corrupt, "relative to root"},
		"the same twice":        {[]partDirectory{{Path: "receipts"}, {Path: "receipts"}}, remora.Corrupt, "twice"},
		"not configured":        {[]partDirectory{{Path: "secrets"}}, remora.Invalid, "files.directories"},
		"a forbidden attribute": {[]partDirectory{{Path: "receipts", owned: top, count: count{Files: 1, Directories: 1, Bytes: 3}, Attributes: map[string]map[string][]byte{"a": {"security.capability": {1}}}}}, remora.Internal, "security.capability"},
	} {
		t.Run(name, func(t *testing.T) {
			s := filled(t)
			before := s.look()
			_, err := s.tree.Stage(t.Context(), job1, mapPart(t, c.dirs, file))
			requireProblem(t, err, c.kind, c.says)
			require.Equal(t, before, s.look())
		})
	}
	s := filled(t)
	for name, text := range map[string]string{"not json": "hello", "newer": `{"format": 2}`, "nothing": ""} {
		_, err := s.tree.Preflight(t.Context(), job1, remora.Intent{From: fstest.MapFS{remora.PartFile: {Data: []byte(text)}}})
		require.Error(t, err, name)
		require.Contains(t, []remora.ProblemKind{remora.Corrupt, remora.Unsupported}, remora.KindOf(err), name)
	}
}

func TestCompareNamesEveryDifference(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(stage string) error
		says string
	}{
		"a changed byte": {func(d string) error {
			return keepTime(d+"/receipts/2024/one.pdf", func(p string) error { return os.WriteFile(p, []byte("onE"), 0o644) })
		}, "receipts/2024/one.pdf has other bytes"},
		"a longer file": {func(d string) error {
			return keepTime(d+"/receipts/2024/one.pdf", func(p string) error { return os.WriteFile(p, []byte("one+"), 0o644) })
		}, "another length"},
		"a shorter file": {func(d string) error {
			return keepTime(d+"/receipts/2024/one.pdf", func(p string) error { return os.Truncate(p, 1) })
		}, "another length"},
		"a missing file":   {func(d string) error { return os.Remove(d + "/receipts/empty") }, "receipts/empty is missing"},
		"a missing folder": {func(d string) error { return os.RemoveAll(d + "/receipts/2024") }, "receipts/2024 is missing"},
		"a missing top":    {func(d string) error { return os.RemoveAll(d + "/deep/alerts") }, "directory deep/alerts is missing"},
		"one too many":     {func(d string) error { return os.WriteFile(d+"/deep/alerts/extra", nil, 0o644) }, "deep/alerts/extra is not in the backup"},
		"another mode":     {func(d string) error { return os.Chmod(d+"/receipts/empty", 0o600) }, "should have the mode 0644, but has 0600"},
		"another time":     {func(d string) error { return os.Chtimes(d+"/receipts/empty", time.Time{}, time.Unix(1, 0)) }, "receipts/empty should be of"},
		"another target":   {func(d string) error { return keepTime(d+"/receipts/dangling", relink) }, "should point to"},
		"a link for a file": {func(d string) error {
			return errorsOf(os.Remove(d+"/receipts/empty"), os.Symlink("/dev/null", d+"/receipts/empty"))
		}, "should be of type"},
		"another attribute": {func(d string) error { return unix.Setxattr(d+"/receipts/empty", "user.x", []byte("y"), 0) }, "extended attributes"},
		"another owner":     {func(d string) error { return os.Chown(d+"/receipts/empty", 7, 8) }, "should belong to"},
	} {
		t.Run(name, func(t *testing.T) {
			s := filled(t)
			part := s.capture()
			s.ready(job1, part.fs())
			if err := c.harm(filepath.Join(s.tree.work, run1, "b1")); errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENOTSUP) {
				t.Skipf("this user or file system cannot do it: %v", err)
			} else {
				require.NoError(t, err)
			}
			diff, err := s.tree.Compare(t.Context(), job1, part.fs())
			require.NoError(t, err)
			require.Contains(t, strings.Join(diff.Differences, "\n"), c.says)
			requireProblem(t, s.turn(1, remora.Restored), remora.Fenced, "not been compared")
		})
	}
}

func keepTime(at string, change func(string) error) error {
	info, err := os.Lstat(at)
	if err != nil {
		return err
	}
	if err := change(at); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(at))
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }()
	return touch(parent, filepath.Base(at), info.ModTime())
}

func relink(at string) error { return errorsOf(os.Remove(at), os.Symlink("/somewhere/else", at)) }

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestDifferencesAreFew(t *testing.T) {
	s := newSite(t)
	for i := range 100 {
		s.write(fmt.Sprintf("receipts/%d", i), "x")
	}
	part := s.capture()
	s.ready(job1, part.fs())
	for i := range 100 {
		require.NoError(t, os.Remove(filepath.Join(s.tree.work, run1, "b1/receipts", fmt.Sprint(i))))
	}
	diff, err := s.tree.Compare(t.Context(), job1, part.fs())
	require.NoError(t, err)
	require.Len(t, diff.Differences, remora.MaxDifferences)
}

// F16: a disk that fills up while a run is under way stops neither the way back nor what makes room again.
func TestAFullDiskHoldsUpNoWayBack(t *testing.T) {
	s := filled(t)
	s.write("receipts/big", strings.Repeat("x", 1<<20))
	good, part := s.look(), s.capture()
	s.damage()
	bad := s.look()
	disk := testenv.NewDisk(t, filepath.Dir(s.root), 8)

	disk.Fill(t, 0) // no room for the journal either: there is nothing to discard, and nothing is left
	_, err := s.tree.Stage(t.Context(), job1, part.fs())
	requireProblem(t, err, remora.Full, "free some space")
	require.NoError(t, s.tree.Discard(t.Context(), job1, ""))
	s.noWork()
	disk.Empty(t)

	filling := remora.Job{Run: run1, Report: func(remora.Progress) { disk.Fill(t, 0) }}
	_, err = s.tree.Stage(t.Context(), filling, part.fs())
	requireProblem(t, err, remora.Full, "free some space")
	require.NoError(t, s.tree.Discard(t.Context(), job1, ""))
	require.Equal(t, bad, s.look())
	disk.Empty(t)
	s.noWork()

	s.ready(job1, part.fs())
	disk.Fill(t, 0)
	require.NoError(t, s.turn(1, remora.Restored))
	require.Equal(t, good, s.look())
	require.NoError(t, s.turn(2, remora.Replaced))
	require.Equal(t, bad, s.look())
	require.NoError(t, s.tree.Discard(t.Context(), job1, "held"))
	disk.Empty(t)
	s.noWork()
}
