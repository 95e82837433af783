package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// TestTheWalk backs up, damages everything, restores, goes back to the damage and forth again, and accepts; each state
// is equal to its independent reading.
func TestTheWalk(t *testing.T) {
	s := newSite(t, small)
	before := s.read()
	s.must("backup", s.source(), "--name", "good one")

	backups := list[remora.Backup](s, "history", s.source())
	require.Len(t, backups, 1)
	require.Equal(t, remora.Completed, backups[0].Status)
	require.Equal(t, remora.FullBackup, backups[0].Kind)

	s.damage()
	damaged := s.read()
	s.must("restore", "good one", "--force")
	s.requireEqual(before, s.read(), "after the restore")

	restores := list[remora.Restore](s, "restores", s.source())
	require.Len(t, restores, 1)
	require.Equal(t, remora.OutcomeApplied, restores[0].Outcome)

	s.must("rollback", restores[0].ID)
	s.requireEqual(damaged, s.read(), "after the rollback")
	s.must("rollback", restores[0].ID)
	s.requireEqual(before, s.read(), "after the rollback of the rollback")

	s.must("accept", restores[0].ID)
	s.requireEqual(before, s.read(), "after accept")
	s.requireNothingLeft()

	// S1: what was put away is held by a backup, and comes back from there.
	held := list[remora.Restore](s, "restores", s.source())[0].PutAwayBackup
	require.NotEmpty(t, held)
	s.must("restore", held, "--force")
	s.requireEqual(damaged, s.read(), "after a restore of what was put away")
	s.must("accept", s.source())
	s.requireNothingLeft()
}

// TestRestoreOfOneHalf leaves the other half alone.
func TestRestoreOfOneHalf(t *testing.T) {
	s := newSite(t, small)
	before := s.read()
	s.must("backup", s.source())
	s.damage()
	damaged := s.read()

	s.must("restore", "latest", "--files", "--force")
	s.requireEqual(reading{database: damaged.database, files: before.files}, s.read(), "after --files")
	s.must("rollback", s.source())
	s.requireEqual(damaged, s.read(), "after the rollback")
	s.must("accept", s.source())

	s.must("restore", "latest", "--database", "--force")
	s.requireEqual(reading{database: before.database, files: damaged.files}, s.read(), "after --database")
	s.must("accept", s.source())
	s.requireNothingLeft()
}

// TestS14RestoreIntoEmptyServer brings back a schema that was dropped and directories that were deleted (S14).
func TestS14RestoreIntoEmptyServer(t *testing.T) {
	s := newSite(t, small)
	before := s.read()
	s.must("backup", s.source())
	s.exec("DROP DATABASE `" + s.schema + "`")
	s.removeUploads()

	out := s.must("restore", "latest", "--force")
	s.requireEqual(before, s.read(), "after the restore")
	require.Contains(t, strings.ToLower(out), "nothing", "the lack of anything to save is said")
	s.must("rollback", s.source())
	require.False(t, s.schemaExists(), "the schema that was not there is not there again")
	s.must("rollback", s.source())
	s.requireEqual(before, s.read(), "after the rollback of the rollback")
	s.must("accept", s.source())
	s.requireNothingLeft()
}

// TestRowsWrittenIntoTheWindowAreKept writes after the switch, rolls back and accepts: the rows are in the backup of
// what was put away (S1).
func TestRowsWrittenIntoTheWindowAreKept(t *testing.T) {
	s := newSite(t, small)
	s.must("backup", s.source())
	s.must("restore", "latest", "--force")
	s.exec("INSERT INTO users (email, name) VALUES ('late@example.test', 'late')")
	withRow := s.read()
	s.must("rollback", s.source())
	s.must("accept", s.source())
	held := list[remora.Restore](s, "restores", s.source())[0].PutAwayBackup
	s.must("restore", held, "--force")
	s.requireEqual(withRow, s.read(), "the put-away side, restored")
	s.must("accept", s.source())
	s.requireNothingLeft()
}
