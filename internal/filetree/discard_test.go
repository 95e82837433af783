package filetree

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/remora-backup/remora/internal/remora"
)

func TestS1ASideThatWasLiveNeedsABackup(t *testing.T) {
	s, good, bad := restored(t)
	requireProblem(t, s.tree.Discard(t.Context(), job1, ""), remora.Invalid, "once live", "receipts")
	require.NoError(t, s.turn(2, remora.Replaced))
	requireProblem(t, s.tree.Discard(t.Context(), job1, ""), remora.Invalid, "restored side")
	require.NoError(t, s.turn(3, remora.Restored))
	require.Equal(t, good, s.look(), "a refused discard has removed nothing")
	require.NoError(t, s.turn(4, remora.Replaced))
	require.NoError(t, s.tree.Discard(t.Context(), job1, "held"))
	require.Equal(t, bad, s.look())
	s.noWork()
}

func TestAnUnknownRunHasNothingToDiscard(t *testing.T) {
	s := filled(t)
	require.NoError(t, s.tree.Discard(t.Context(), job1, ""))
	s.noWork()
	// A folder without a journal is reported by nobody and deleted by nobody.
	require.NoError(t, os.MkdirAll(filepath.Join(s.tree.work, run1, "b1"), 0o700))
	require.NoError(t, s.tree.Discard(t.Context(), job1, "held"))
	require.DirExists(t, filepath.Join(s.tree.work, run1, "b1"))
}

func TestAStageIsDiscardedWithoutABackup(t *testing.T) {
	s := filled(t)
	part := s.capture()
	s.ready(job1, part.fs())
	before := s.look()
	require.NoError(t, s.tree.Discard(t.Context(), job1, ""))
	require.Equal(t, before, s.look())
	s.noWork()
}

func TestDiscardFollowsNoSymlinkAndOpensLockedFolders(t *testing.T) {
	s := filled(t)
	outside := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "precious"), []byte("x"), 0o600))
	require.NoError(t, os.Symlink(outside, s.path("receipts/way out")))
	s.write("receipts/locked/x", "x")
	require.NoError(t, os.Chmod(s.path("receipts/locked"), 0o500))
	s.ready(job1, s.capture().fs())
	require.NoError(t, s.tree.Discard(t.Context(), job1, ""))
	require.FileExists(t, filepath.Join(outside, "precious"))
	s.noWork()
}

func TestADiscardThatWasInterruptedIsFinishedAndNothingElse(t *testing.T) {
	s, good, _ := restored(t)
	h, err := s.tree.lock(t.Context(), run1)
	require.NoError(t, err)
	j, err := s.tree.ours(h.work, run1)
	require.NoError(t, err)
	j.State = discarding
	require.NoError(t, h.write(j))
	require.NoError(t, os.RemoveAll(filepath.Join(s.tree.work, j.stageName(), "receipts")))
	h.release()
	requireProblem(t, s.turn(2, remora.Replaced), remora.Fenced, "discarded")
	require.NoError(t, s.tree.Discard(t.Context(), job1, ""), "the first call named the backup")
	require.Equal(t, good, s.look())
	s.noWork()
}

func TestS11TwoInstallationsCannotActOnOneRoot(t *testing.T) {
	s := filled(t)
	part := s.capture()
	other, err := New(Config{Source: "shop", Installation: "fedcba9876543210", Root: s.root, Directories: []string{"receipts"}})
	require.NoError(t, err)
	s.ready(job1, part.fs())

	requireProblem(t, other.Discard(t.Context(), job1, "held"), remora.Fenced, installation)
	requireProblem(t, other.Switch(t.Context(), remora.Turn{Run: run1, Seq: 1, Live: remora.Restored}), remora.Fenced)
	_, err = other.Stage(t.Context(), job1, os.DirFS(partOf(t, other)))
	requireProblem(t, err, remora.Fenced)
	_, err = other.Capture(t.Context(), job1, remora.Subject{PutAway: run1}, &dirWriter{dir: t.TempDir()})
	requireProblem(t, err, remora.Fenced)

	mine := partOf(t, other)
	_, err = other.Preflight(t.Context(), remora.Job{Run: run2}, remora.Intent{From: os.DirFS(mine)})
	requireProblem(t, err, remora.Busy, run1, "another installation")
	_, err = other.Stage(t.Context(), remora.Job{Run: run2}, os.DirFS(mine))
	requireProblem(t, err, remora.Busy, run1)

	left, err := other.Leftovers(t.Context())
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Equal(t, installation, left[0].Installation)
}

// partOf captures what is live for another configuration.
func partOf(t *testing.T, tree *Tree) string {
	t.Helper()
	w := &dirWriter{dir: t.TempDir()}
	_, err := tree.Capture(t.Context(), job1, remora.Subject{}, w)
	require.NoError(t, err)
	return w.dir
}

func TestS20AnUnsettledRestoreStopsTheNextOne(t *testing.T) {
	s, _, _ := restored(t)
	part := s.capture()
	_, err := s.tree.Preflight(t.Context(), remora.Job{Run: run2}, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Busy, run1, "remora rollback or remora accept")
	_, err = s.tree.Preflight(t.Context(), remora.Job{Run: run2}, remora.Intent{})
	require.NoError(t, err, "backups go on inside an undo window")
	_, err = s.tree.Preflight(t.Context(), job1, remora.Intent{From: part.fs()})
	require.NoError(t, err, "its own journal stops nobody")
	_, err = s.tree.Preflight(t.Context(), remora.Job{Run: remora.DrillRun(run2)}, remora.Intent{From: part.fs()})
	require.NoError(t, err, "a drill puts nothing away")
}

func TestALockThatComesAndGoesHasOneHolder(t *testing.T) {
	s := filled(t)
	var inside, turns atomic.Int64
	var workers errgroup.Group
	end := time.Now().Add(time.Second)
	for range 8 {
		workers.Go(func() error {
			for time.Now().Before(end) {
				h, err := s.tree.tryLock(run1)
				if remora.KindOf(err) == remora.Busy {
					continue
				}
				if err != nil {
					return err
				}
				if n := inside.Add(1); n != 1 {
					return fmt.Errorf("%d holders at once", n)
				}
				turns.Add(1)
				runtime.Gosched()
				inside.Add(-1)
				if err := s.tree.tidy(h); err != nil { // the last run ends: the file and the folder go
					return err
				}
				h.release()
			}
			return nil
		})
	}
	require.NoError(t, workers.Wait())
	require.Greater(t, turns.Load(), int64(1))
	s.noWork()
}

func TestABrokenJournalStopsEverything(t *testing.T) {
	s, good, _ := restored(t)
	file := filepath.Join(s.tree.work, run1+".json")
	for name, text := range map[string]string{"half": `{"format":1,"run"`, "newer": `{"format":99,"run":"` + run1 + `"}`, "another run's": `{"format":1,"run":"x"}`} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			requireProblem(t, s.turn(2, remora.Replaced), remora.Fenced, file)
			requireProblem(t, s.tree.Discard(t.Context(), job1, "held"), remora.Fenced)
			_, err := s.tree.Leftovers(t.Context())
			requireProblem(t, err, remora.Fenced)
			require.Equal(t, good, s.look())
		})
	}
}
