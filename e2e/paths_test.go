package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// having are the lines of a reading of files that are, or are not, of what lies at the paths.
func having(files string, are bool, paths ...string) string {
	lines := slices.DeleteFunc(strings.Split(files, "\n"), func(line string) bool {
		return are != slices.ContainsFunc(paths, func(p string) bool { return strings.HasPrefix(line, p+" ") || strings.HasPrefix(line, p+"/") })
	})
	return strings.Join(lines, "\n")
}

// TestSomeFilesOfABackup looks at what a restore would change, brings some paths back and undoes that, brings some back
// together with a table, and builds the files beside the live ones; the rest of the live files is as it was throughout.
func TestSomeFilesOfABackup(t *testing.T) {
	s := newSite(t, small)
	before := s.read()
	s.must("backup", s.source())
	s.damage()
	require.NoError(t, os.Remove(filepath.Join(s.storage, "pre-alerts", "000002.pdf")))
	damaged := s.read()

	out := s.must("restore", "latest", "--source", s.source(), "--preview", "--files")
	require.Regexp(t, `\npre-alerts +6 +6 +1 +1 +0\n`, out)
	require.Contains(t, out, "\n    - pre-alerts/virus.exe\n")
	require.Contains(t, out, "\n    + pre-alerts/000002.pdf\n")
	require.Contains(t, out, "\n    + receipts/2026/000001.pdf\n")
	s.requireEqual(damaged, s.read(), "after a preview")

	paths := []string{"receipts/2026", "pre-alerts/000002.pdf"}
	out = s.must("restore", "latest", "--source", s.source(), "--path", paths[0]+"/", "--path", paths[1], "--force")
	require.Regexp(t, `only paths: +receipts/2026, pre-alerts/000002.pdf\n`, out)
	require.Contains(t, out, "brings back: 2 directories, 8 files")
	now := s.read()
	require.Equal(t, damaged.database, now.database, "nothing but files was asked for")
	require.Equal(t, having(before.files, true, paths...), having(now.files, true, paths...))
	require.Equal(t, having(damaged.files, false, paths...), having(now.files, false, paths...), "all else is as it was")
	s.must("rollback", s.source())
	s.requireEqual(damaged, s.read(), "after the rollback")
	s.must("rollback", s.source())
	s.requireEqual(now, s.read(), "after the rollback of the rollback")
	s.must("rollback", s.source())
	s.must("accept", s.source())

	// A table and a file share one fate.
	s.must("restore", "latest", "--source", s.source(), "--table", "users,orders", "--path", paths[1], "--force")
	last := list[remora.Restore](s, "restores", s.source())[0]
	require.Equal(t, []remora.Kind{remora.Database, remora.Files}, last.Kinds)
	now = s.read()
	require.Equal(t, having(before.files, true, paths[1]), having(now.files, true, paths[1]))
	require.Equal(t, having(damaged.files, false, paths[1]), having(now.files, false, paths[1]))
	require.NotEqual(t, damaged.database, now.database)
	s.must("rollback", s.source())
	s.requireEqual(damaged, s.read(), "both are back")
	s.must("accept", s.source())
	s.requireNothingLeft()

	// Beside what is live.
	to := filepath.Join(s.dir, "look")
	backups := list[remora.Backup](s, "history", s.source())
	good := backups[slices.IndexFunc(backups, func(b remora.Backup) bool { return b.Purpose == remora.Regular })].ID
	out, code := s.remora("restore", good, "--to", to)
	require.Equal(t, 2, code, out)
	require.Contains(t, out, "Add --files")
	out = s.must("restore", good, "--files", "--to", to)
	require.Contains(t, out, "is built in directory "+to)
	require.Equal(t, before.files, filesIn(t, to))
	out, code = s.remora("restore", good, "--files", "--to", to)
	require.Equal(t, 2, code, out)
	require.Contains(t, out, "not empty")
	s.must("restore", good, "--path", paths[1], "--to", to+"2")
	require.Equal(t, having(before.files, true, paths[1]), having(filesIn(t, to+"2"), true, paths[1]))
	require.NoDirExists(t, to+"2/receipts")
	require.Equal(t, remora.OutcomeCopied, list[remora.Restore](s, "restores", s.source())[0].Outcome)
	s.requireEqual(damaged, s.read(), "what is live, after all")
	s.requireNothingLeft()
	require.NoDirExists(t, filepath.Join(s.dir, ".remora"))

	out, code = s.remora("restore", good, "--path", "receipts/2026/000001.pfd", "--force")
	require.Equal(t, 4, code, out)
	require.Contains(t, out, `in receipts/2026 it has ["000001.pdf" `)
}
