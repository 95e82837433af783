package filetree

import (
	"maps"
	"math/rand/v2"
	"os"
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

// only is job1, of some paths.
func only(paths ...string) remora.Job {
	return remora.Job{Run: run1, Selection: remora.Selection{Paths: paths}}
}

// parts is seen by path, without the times of directories: an exchange touches what holds the entries.
func (s *site) parts() map[string]string {
	s.t.Helper()
	all := map[string]string{}
	times := regexp.MustCompile(`^(d\S+ \S+) \S+`)
	for _, line := range strings.Split(s.seen(), "\n") {
		rel, rest, _ := strings.Cut(line[1:], `" `)
		all[rel] = times.ReplaceAllString(rest, "$1")
	}
	return all
}

// mixed is what a site is when the paths are as in one of its states, and all else as in the other.
func mixed(chosen, rest map[string]string, paths ...string) map[string]string {
	all := map[string]string{}
	in := func(rel string) bool {
		return slices.ContainsFunc(paths, func(p string) bool { return within(rel, p) })
	}
	for rel, is := range rest {
		if !in(rel) {
			all[rel] = is
		}
	}
	for rel, is := range chosen {
		if in(rel) {
			all[rel] = is
		}
	}
	return all
}

var exchanges = map[string]func(*Config){"directories": func(*Config) {}, "entries": byEntry}

func TestChosenPathsAloneBecomeAsInTheBackup(t *testing.T) {
	for name, how := range exchanges {
		t.Run(name, func(t *testing.T) {
			s := filled(t, how, func(c *Config) { c.Exclude = []string{"*.tmp"} })
			s.write("receipts/2024/deep/two.pdf", "two")
			s.write("receipts/never touched", "x")
			good := s.parts()
			part := s.capture()
			s.damage()
			s.write("receipts/2024/deep/unknown.pdf", "made since")
			s.write("receipts/2024/stays.tmp", "excluded")
			bad := s.parts()
			paths := []string{"receipts/2024", "receipts/2024/deep/two.pdf", "deep/alerts/a.json", "receipts/two with space.pdf"}
			job := only(paths...)

			est, err := s.tree.Preflight(t.Context(), job, remora.Intent{From: part.fs()})
			require.NoError(t, err)
			require.EqualValues(t, 3, est.Summary.Entries, "of what is live, only what is replaced counts: %v", est.Replaces)
			require.Contains(t, est.Warnings, "deep/alerts/a.json does not exist")
			require.EqualValues(t, 4, est.Restores.Entries)
			s.ready(job, part.fs())
			require.Equal(t, bad, s.parts(), "a stage touches nothing that is live")
			inode := s.inode("receipts")

			require.NoError(t, s.turn(1, remora.Restored))
			require.NoError(t, s.turn(1, remora.Restored), "a repeated turn changes nothing")
			require.Equal(t, inode, s.inode("receipts"), "what holds the entries stays")
			want := mixed(good, bad, paths...)
			want["receipts/2024/stays.tmp"] = bad["receipts/2024/stays.tmp"] // S8
			require.Equal(t, want, s.parts())

			// In the window the application goes on, also with what was restored.
			s.write("receipts/uploaded", "in the window")
			s.write("receipts/2024/uploaded", "in the window")
			s.write("receipts/two.new", "written and renamed over the restored one, as editors do")
			require.NoError(t, os.Rename(s.path("receipts/two.new"), s.path("receipts/two with space.pdf")))
			s.remove("deep/alerts/a.json")
			worked := s.parts()

			require.NoError(t, s.turn(2, remora.Replaced))
			back := mixed(bad, worked, paths...)
			require.Equal(t, back, s.parts())
			require.FileExists(t, s.path("receipts/uploaded"), "what was not chosen goes on")
			require.NoError(t, s.turn(3, remora.Restored), "the undo is undone")
			require.Equal(t, worked, s.parts())

			left, err := s.tree.Leftovers(t.Context())
			require.NoError(t, err)
			require.Equal(t, remora.Restored, left[0].Live)
			requireProblem(t, s.tree.Discard(t.Context(), job1, ""), remora.Invalid, "no backup of it is named")
			away := &dirWriter{dir: t.TempDir()}
			_, err = s.tree.Capture(t.Context(), job1, remora.Subject{PutAway: run1}, away)
			require.NoError(t, err)
			require.NoError(t, s.tree.Discard(t.Context(), job1, "held"))
			require.Equal(t, worked, s.parts())
			s.noShelves()

			// S1: what was put away is in a backup that brings back just that, and takes away what was not there.
			s.write("deep/alerts/a.json", "there again")
			est, err = s.tree.Preflight(t.Context(), job1, remora.Intent{From: away.fs()})
			require.NoError(t, err)
			require.Len(t, est.Replaces, 3, "%v", est.Replaces)
			s.ready(job1, away.fs())
			require.NoError(t, s.turn(1, remora.Restored))
			require.Equal(t, back, s.parts())
			requireProblem(t, s.tree.Discard(t.Context(), job1, ""), remora.Invalid, "no backup of it is named")
			require.NoError(t, s.tree.Discard(t.Context(), job1, "held"))
			_, err = s.tree.Preflight(t.Context(), only("receipts/empty"), remora.Intent{From: away.fs()})
			requireProblem(t, err, remora.NotFound, "receipts/empty", "these alone")
		})
	}
}

// A path that is a directory, or holds some, chooses them whole.
func TestAChosenDirectoryIsExchangedAsAWhole(t *testing.T) {
	s := filled(t)
	good := s.parts()
	part := s.capture()
	s.damage()
	bad := s.parts()
	job := only("deep", "receipts/empty")
	s.ready(job, part.fs())
	require.NoError(t, s.turn(1, remora.Restored))
	require.Equal(t, mixed(good, bad, "deep", "receipts/empty"), s.parts())
	s.write("deep/alerts/uploaded", "in the window")
	require.NoError(t, s.turn(2, remora.Replaced))
	require.Equal(t, bad, s.parts())
	require.NoError(t, s.tree.Discard(t.Context(), job1, "held"))
	s.noWork()
}

func TestMissingParentsAreMadeAndRemovedAgain(t *testing.T) {
	for name, how := range exchanges {
		t.Run(name, func(t *testing.T) {
			s := filled(t, how)
			s.write("receipts/2026/nov/7.pdf", "seven")
			s.write("receipts/2026/nov/8.pdf", "eight")
			require.NoError(t, os.Chmod(s.path("receipts/2026"), 0o750))
			good := s.parts()
			part := s.capture()
			s.remove("receipts/2026")
			if name == "directories" {
				s.remove("receipts")
			}
			bad := s.parts()
			s.ready(only("receipts/2026/nov/7.pdf"), part.fs())
			require.NoError(t, s.turn(1, remora.Restored))
			want := mixed(good, bad, "receipts/2026")
			delete(want, "receipts/2026/nov/8.pdf")
			want["receipts"] = good["receipts"]
			require.Equal(t, want, s.parts(), "as they were, and nothing else in them")
			require.NoError(t, s.turn(2, remora.Replaced))
			require.Equal(t, bad, s.parts())
			require.NoError(t, s.turn(3, remora.Restored))
			require.Equal(t, want, s.parts())
			require.NoError(t, s.tree.Discard(t.Context(), job1, "held"))
			s.noShelves()
		})
	}
}

func TestPathsThatCannotBeChosen(t *testing.T) {
	s := filled(t)
	s.write("receipts/2026/7.pdf", "seven")
	s.write("receipts/2026/8.pdf", "eight")
	s.write("receipts/a\nb", "a name of two lines")
	part := s.capture()
	s.write("receipts/2026/9.pdf", "live, and in no backup")
	for path, says := range map[string]string{
		"":                          "not a clean path",
		".":                         "not a clean path",
		"/etc/passwd":               "not a clean path",
		s.path("receipts/empty"):    "not a clean path",
		"receipts/../../etc/passwd": "not a clean path",
		"receipts/2026/":            "not a clean path",
		"receipts//2026":            "not a clean path",
		"receipts/\xff":             "not a clean path",
		"receipts/\x00":             "not a clean path",
		"invoices/1.pdf":            "name something in receipts, deep/alerts",
		"receipts/2026/9.pdf":       `in receipts/2026 it has ["7.pdf" "8.pdf"]`,
		"receipts/2026/7.pdf/x":     `in receipts/2026 it has ["7.pdf" "8.pdf"]`,
		"receipts/2024/link/x":      `in receipts/2024 it has ["link" "one.pdf"]`,
		"receipts/2027/1.pdf":       `in receipts it has ["2024" "2026"`,
	} {
		_, err := s.tree.Preflight(t.Context(), only("receipts/empty", path), remora.Intent{From: part.fs()})
		kind := remora.NotFound
		if strings.Contains(says, "clean") {
			kind = remora.Invalid
		}
		requireProblem(t, err, kind, says)
		_, err = s.tree.Stage(t.Context(), only(path), part.fs())
		requireProblem(t, err, kind, says)
	}
	s.noWork()
	before := s.parts()
	s.write("receipts/a\nb", "other")
	s.ready(only("receipts/a\nb"), part.fs())
	require.NoError(t, s.turn(1, remora.Restored))
	before["receipts/2026/9.pdf"] = s.parts()["receipts/2026/9.pdf"]
	require.Equal(t, slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(s.parts())))
	text, err := os.ReadFile(s.path("receipts/a\nb"))
	require.NoError(t, err)
	require.Equal(t, "a name of two lines", string(text))
}

// A symlink on the way to a path leads elsewhere: neither a plan nor a switch follows it.
func TestASymlinkOnTheWayIsRefused(t *testing.T) {
	s := filled(t)
	s.write("receipts/2026/7.pdf", "seven")
	part := s.capture()
	other := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(other, "7.pdf"), []byte("somebody else's"), 0o600))
	job := only("receipts/2026/7.pdf")
	for name, put := range map[string]func() error{
		"a link":      func() error { return os.Symlink(other, s.path("receipts/2026")) },
		"a link here": func() error { return os.Symlink("2024", s.path("receipts/2026")) },
		"a file":      func() error { return os.WriteFile(s.path("receipts/2026"), nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			s.ready(job, part.fs())
			s.remove("receipts/2026")
			require.NoError(t, put())
			before := s.look()
			requireProblem(t, s.turn(1, remora.Restored), remora.Unsupported, s.path("receipts/2026"), "symlink, or no directory")
			require.NoError(t, s.turn(2, remora.Replaced))
			require.NoError(t, s.tree.Discard(t.Context(), job1, ""))
			_, err := s.tree.Preflight(t.Context(), job, remora.Intent{From: part.fs()})
			requireProblem(t, err, remora.Unsupported, s.path("receipts/2026"), "symlink, or no directory")
			require.Equal(t, before, s.look())
			s.noWork()
		})
	}
	text, err := os.ReadFile(filepath.Join(other, "7.pdf"))
	require.NoError(t, err)
	require.Equal(t, "somebody else's", string(text))
}

func TestAHostilePartCannotChooseWhatLiesElsewhere(t *testing.T) {
	s := filled(t)
	part := s.capture()
	text, err := os.ReadFile(filepath.Join(part.dir, remora.PartFile))
	require.NoError(t, err)
	for _, name := range []string{"../deep/alerts", ".", "/etc", "a//b"} {
		forged := strings.Replace(string(text), `"path":"receipts"`, `"path":"receipts","chosen":["`+name+`"]`, 1)
		require.NotEqual(t, string(text), forged)
		require.NoError(t, os.WriteFile(filepath.Join(part.dir, remora.PartFile), []byte(forged), 0o600))
		_, err = s.tree.Stage(t.Context(), job1, part.fs())
		requireProblem(t, err, remora.Corrupt, "no clean path")
	}
}

// TestACopyOfSomePaths has them in their places, and nothing else.
func TestACopyOfSomePaths(t *testing.T) {
	s := filled(t)
	part := s.capture()
	to := filepath.Join(filepath.Dir(s.root), "look")
	into, ok := s.tree.Into(remora.Selection{To: to, Paths: []string{"receipts/2024", "deep"}}).(*Tree)
	require.True(t, ok)
	s.built(into, part.fs())
	require.NoError(t, into.Discard(t.Context(), job1, ""))
	require.FileExists(t, to+"/receipts/2024/one.pdf")
	require.FileExists(t, to+"/deep/alerts/a.json")
	require.NoFileExists(t, to+"/receipts/empty")
}

// TestAKillBetweenChosenPathsIsFinishedByTheNextCall is the restore of whole directories under fire, for some paths.
func TestAKillBetweenChosenPathsIsFinishedByTheNextCall(t *testing.T) {
	for name, how := range exchanges {
		t.Run(name, func(t *testing.T) {
			s := filled(t, how)
			var paths []string
			for i := range 30 {
				paths = append(paths, "receipts/"+string(rune('a'+i%3))+"/"+strings.Repeat("x", i+1))
				s.write(paths[i], "good")
			}
			good := s.parts()
			part := s.withPart()
			for i, p := range paths {
				if i%5 > 0 { // what is gone is moved, else exchanged
					s.write(p, "bad")
				} else {
					s.remove(p)
				}
			}
			s.write("receipts/untouched", "x")
			bad := s.parts()
			good["receipts/untouched"] = bad["receipts/untouched"]
			s.ready(only(paths...), part.fs())
			between, seq := 0, 0
			for range 15 {
				cmd := childCommand(t, "turns", s)
				require.NoError(t, cmd.Start())
				require.Eventually(t, func() bool {
					j, err := s.tree.find(run1)
					return err == nil && j.Seq > seq
				}, 30*time.Second, time.Millisecond)
				time.Sleep(time.Duration(rand.IntN(10_000)) * time.Microsecond)
				require.NoError(t, cmd.Process.Kill())
				_ = cmd.Wait()
				j, err := s.tree.find(run1)
				require.NoError(t, err)
				spots, err := s.tree.spots(j)
				require.NoError(t, err)
				if _, ok := level(spots); !ok {
					between++
					requireProblem(t, s.tree.Discard(t.Context(), job1, "held"), remora.Fenced, "some directories")
				}
				seq = j.Seq
				require.NoError(t, s.turn(j.Seq, j.Live), "the same turn is finished")
				require.Equal(t, map[remora.Side]map[string]string{remora.Restored: good, remora.Replaced: bad}[j.Live], s.parts())
			}
			t.Logf("%d of 15 kills fell between two paths", between)
			require.NoError(t, s.turn(1_000_000, remora.Replaced))
			require.Equal(t, bad, s.parts())

			// By hand what a kill only sometimes does: one path is on the other side.
			j, err := s.tree.find(run1)
			require.NoError(t, err)
			require.NoError(t, unix.Renameat2(unix.AT_FDCWD, s.tree.putAway(j, paths[1]), unix.AT_FDCWD, s.path(paths[1]), unix.RENAME_EXCHANGE))
			require.NoError(t, s.turn(1_000_001, remora.Restored))
			require.Equal(t, good, s.parts())
			require.NoError(t, s.turn(1_000_002, remora.Replaced))
			require.NoError(t, s.tree.Discard(t.Context(), job1, "held"))
			require.Equal(t, bad, s.parts())
			s.noShelves()
		})
	}
}
