package e2e

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// TestCleanupDeletesWhatNeedNotBeKept: a policy is tightened too far, which is shown, refused and forced by its hash; what
// is held stays, and what stays can be restored.
func TestCleanupDeletesWhatNeedNotBeKept(t *testing.T) {
	s := newSite(t, small)
	s.stopWorker()
	s.replaceConfig("    # retention: {keep_last: 7, database_days: 30, files_days: 14,", "    retention: {keep_last: 1, database_days: 0, files_days: 0,")
	s.startWorker()
	before := s.read()
	for range 4 {
		s.must("backup", s.source())
	}
	backups := list[remora.Backup](s, "history", s.source())
	require.Contains(t, s.must("hold", backups[3].ID, "--why", "before the audit", "--until", "30d"), "is held by")
	require.Contains(t, s.must("show", backups[3].ID), "before the audit")
	require.Contains(t, s.must("history"), "(held by ")
	out, code := s.remora("hold", backups[3].ID, "--until", "2020-01-01")
	require.Equal(t, 2, code, out)

	plan := s.must("cleanup", s.source(), "--dry-run")
	require.Regexp(t, backups[0].ID+` .* keep +newest good \(database\)`, plan)
	require.Regexp(t, backups[1].ID+` .* delete +no rule keeps it: last 1`, plan)
	require.Regexp(t, backups[3].ID+` .* keep +held by .*: before the audit`, plan)
	s.must("release", backups[3].ID)
	require.Contains(t, s.must("release", backups[3].ID), "was not held")
	plan = s.must("cleanup", "--dry-run")
	require.Contains(t, plan, "refused: 3 of the 4 good backups")
	out, code = s.remora("cleanup")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "remora cleanup --dry-run")
	hash := regexp.MustCompile(`--force ([0-9a-f]{16})`).FindStringSubmatch(out)
	require.NotEmpty(t, hash, out)
	require.Contains(t, plan, hash[1])
	require.Len(t, list[remora.Backup](s, "history", s.source()), 4)

	s.must("hold", backups[3].ID)
	out, code = s.remora("cleanup", "--force", hash[1])
	require.Equal(t, 1, code, "it is another plan: "+out)
	require.Contains(t, s.must("cleanup"), "2 backups were deleted, 2 kept")
	left := list[remora.Backup](s, "history", s.source())
	require.Len(t, left, 2)
	require.Equal(t, []string{backups[0].ID, backups[3].ID}, []string{left[0].ID, left[1].ID})
	out, code = s.remora("restore", backups[1].ID, "--force")
	require.Equal(t, 4, code, out)
	s.damage()
	s.must("restore", backups[3].ID, "--force")
	s.requireEqual(before, s.read(), "after the restore of what was held")
	require.Contains(t, s.must("cleanup", "--dry-run"), "safety backup of a restore whose window is open until")
}
