package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// TestCancelledRestoreLeavesTheSourceAsItWas cancels a restore while it works beside the live data.
func TestCancelledRestoreLeavesTheSourceAsItWas(t *testing.T) {
	s := newSite(t, big)
	s.must("backup", s.source(), "--name", "good")
	s.damage()
	damaged := s.read()
	s.must("restore", "good", "--force", "--detach")
	require.Eventually(t, func() bool { return s.hasStage() }, time.Minute, 20*time.Millisecond, "the restore never staged")
	s.must("cancel", s.source())
	s.waitIdle()
	s.requireEqual(damaged, s.read(), "after the cancel")
	s.requireNothingLeft()
	require.Equal(t, remora.OutcomeRolledBack, list[remora.Restore](s, "restores", s.source())[0].Outcome)
}

// hasStage tells whether a stage lies on the server.
func (s *site) hasStage() bool {
	var n int
	require.NoError(s.t, s.db().QueryRow(`SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE '\_remora\_%\_b%'`).Scan(&n))
	return n > 0
}
