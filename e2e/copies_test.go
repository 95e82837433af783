package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// withCopy configures a copy, makes its repository and starts the worker again.
func (s *site) withCopy(name, keys string) {
	s.t.Helper()
	s.stopWorker()
	s.addConfig("\ncopies:\n  " + name + ": {path: " + name + ", password_file: " + name + ".password" + keys + "}\n")
	s.must("repository", "create", name)
	s.startWorker()
}

func (s *site) awaitCopy(id, name string) {
	s.t.Helper()
	testenv.Wait(s.t, time.Minute, "the backup "+id+" to be in "+name, func() error {
		all := list[remora.Backup](s, "history", s.source())
		if slices.ContainsFunc(all, func(b remora.Backup) bool { return b.ID == id && slices.Contains(b.Copies, name) }) {
			return nil
		}
		return fmt.Errorf("not in %+v", all)
	})
}

// TestRestoreFromTheCopyWhenTheRepositoryIsGone loses the repository and everything that the machine remembered: the
// copy alone brings the site back, can undo that, and holds what was put away.
func TestRestoreFromTheCopyWhenTheRepositoryIsGone(t *testing.T) {
	s := newSite(t, small)
	s.withCopy("offsite", ", after_backup: true")
	before := s.read()
	require.Contains(t, s.must("backup", s.source()), "It is being copied to offsite")
	id := list[remora.Backup](s, "history", s.source())[0].ID
	s.awaitCopy(id, "offsite")
	require.Contains(t, s.must("history"), "(also in offsite)")

	s.stopWorker()
	s.damage()
	damaged := s.read()
	require.NoError(t, os.RemoveAll(filepath.Join(s.dir, "repository")))
	require.NoError(t, os.Rename(filepath.Join(s.dir, "state"), filepath.Join(s.dir, "state-of-another-machine")))
	s.startWorker()

	out := s.must("restore", "latest", "--force")
	require.Contains(t, out, "the copy offsite; the repository at "+filepath.Join(s.dir, "repository")+" cannot be opened")
	s.requireEqual(before, s.read(), "after the restore from the copy")
	for _, args := range [][]string{{"show", id}, {"ls", id}, {"history"}, {"restores"}, {"status"}} {
		require.Contains(t, s.must(args...), "offsite", args)
	}
	s.must("rollback", s.source())
	s.requireEqual(damaged, s.read(), "after the rollback")
	s.must("rollback", s.source())
	s.must("accept", s.source())
	s.requireEqual(before, s.read(), "after accept")
	s.requireNothingLeft()
	held := list[remora.Restore](s, "restores", s.source())[0].PutAwayBackup
	require.NotEmpty(t, held)
	s.must("restore", held, "--force")
	s.requireEqual(damaged, s.read(), "after a restore of what was put away")

	// A backup does not go elsewhere unnoticed, and nothing makes the repository anew.
	out, code := s.remora("backup", s.source())
	require.NotZero(t, code)
	require.Contains(t, out, "there is no repository")
	require.NoDirExists(t, filepath.Join(s.dir, "repository"))
}

// TestCopyAllCatchesUpAndPrunes copies by hand what is missing, while a copy that cannot be opened changes nothing, and
// keeps there what it is told to keep.
func TestCopyAllCatchesUpAndPrunes(t *testing.T) {
	s := newSite(t, small)
	s.withCopy("offsite", `, after_backup: true, daily: "03:30", zone: Europe/Berlin, keep: {last: 2}`)
	away := filepath.Join(s.dir, "offsite")
	require.NoError(t, os.Rename(away, away+".away"))
	for range 2 {
		s.must("backup", s.source()) // though its copy fails
	}
	require.Contains(t, s.must("status"), "it lacks the newest 2 backups")
	out, code := s.remora("copy", "latest")
	require.NotZero(t, code)
	require.Contains(t, out, "see that its disk is mounted")
	require.NoError(t, os.Rename(away+".away", away))
	testenv.Wait(t, time.Minute, "the copy to be usable again", func() error {
		if out, code = s.remora("copy", "--all"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	require.NotContains(t, s.must("status"), "it lacks")
	s.must("backup", s.source())
	s.must("copy", "latest")
	require.Contains(t, s.must("copy", "--all"), "need not be kept")
	backups := list[remora.Backup](s, "history", s.source())
	require.Len(t, backups, 3)
	require.Empty(t, backups[2].Copies)
	require.Equal(t, []string{"offsite"}, backups[1].Copies)
	require.Equal(t, 2, strings.Count(s.must("history"), "(also in offsite)"))

	// Every block of the repository is damaged: the restore leaves the site alone and names the copy, which is well.
	before := s.read()
	s.damage()
	damaged := s.read()
	require.NoError(t, filepath.WalkDir(filepath.Join(s.dir, "repository", "p"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for i := len(text) / 4; i < len(text)*3/4; i++ {
			text[i] ^= 1
		}
		return errors.Join(err, os.WriteFile(path, text, 0o600))
	}))
	out, code = s.remora("restore", "latest", "--force")
	require.NotZero(t, code)
	require.Contains(t, out, "remora restore "+backups[0].ID+" --from offsite")
	s.requireEqual(damaged, s.read(), "after the restore that failed")
	s.must("restore", backups[0].ID, "--from", "offsite", "--force")
	s.requireEqual(before, s.read(), "after the restore from the copy")
}
