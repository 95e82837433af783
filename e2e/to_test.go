package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// TestACopyBesideTheLiveSchema builds a damaged shop's backup in schemas of its own: what is live stays as it is, nothing
// waits for anybody, and the next restore finds nothing in its way.
func TestACopyBesideTheLiveSchema(t *testing.T) {
	s := newSite(t, small)
	to := s.schema + "_copy"
	t.Cleanup(func() {
		s.exec("DROP DATABASE IF EXISTS `"+to+"`", "DROP DATABASE IF EXISTS `"+to+"2`")
	})
	s.exec("ALTER EVENT nightly DISABLE") // as it is in a copy
	before := s.mysql.Dump(t, s.schema)
	s.exec("ALTER EVENT nightly ENABLE")
	s.must("backup", s.source())
	s.damage()
	damaged := s.read()

	out := s.must("restore", "latest", "--source", s.source(), "--to", to)
	require.Contains(t, out, "events come disabled, because a copy does nothing by itself: nightly")
	require.Contains(t, out, "is built in schema "+to)
	s.requireEqual(damaged, s.read(), "what is live, after the copy")
	require.Equal(t, before, strings.ReplaceAll(s.mysql.Dump(t, to), to, s.schema))
	s.requireNothingLeft()
	last := list[remora.Restore](s, "restores", s.source())[0]
	require.Equal(t, remora.OutcomeCopied, last.Outcome)
	require.Equal(t, to, last.To)
	require.Empty(t, last.SafetyBackup)
	require.Len(t, list[remora.Backup](s, "history", s.source()), 1, "nothing had to be saved")

	out, code := s.remora("restore", "latest", "--source", s.source(), "--to", to)
	require.NotZero(t, code)
	require.Contains(t, out, "not empty")
	out = s.must("restore", "latest", "--source", s.source(), "--table", "orders", "--to", to+"2")
	require.Contains(t, out, "foreign keys are left out, because what they lead to is not built with them: orders to users")
	var rows int
	require.NoError(t, s.db().QueryRow("SELECT COUNT(*) FROM `"+to+"2`.orders").Scan(&rows))
	require.Equal(t, small.orders, rows)
	s.requireEqual(damaged, s.read(), "what is live, after all")
	s.requireNothingLeft()
}
