package repository

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

func TestTheMonitorRemembersOneState(t *testing.T) {
	r := created(t)
	none, err := r.MonitorState(t.Context())
	require.NoError(t, err)
	require.Zero(t, none)
	other := reopened(t, r.cfg)
	for _, key := range []string{"overdue/shop", "missed/shop"} {
		want := remora.MonitorState{At: time.Now().UTC(), Alerts: []remora.Alert{{Key: key, Level: remora.Failing}}}
		require.NoError(t, r.RecordMonitorState(t.Context(), want))
		got, err := other.MonitorState(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, got, "what another process wrote is seen at once")
	}
	all, err := r.rep.FindManifests(t.Context(), map[string]string{"type": monitored.kind})
	require.NoError(t, err)
	require.Len(t, all, 1, "records do not pile up")
}
