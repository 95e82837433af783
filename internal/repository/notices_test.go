package repository

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

func TestUndelivered(t *testing.T) {
	cfg := config(t)
	require.NoError(t, Create(t.Context(), cfg))
	r := reopened(t, cfg)
	record := func(id, to string) {
		require.NoError(t, r.RecordUndelivered(t.Context(), remora.Undelivered{Notice: remora.Notice{ID: id, Event: remora.BackupFailed}, To: to, Problem: "away"}))
	}
	ids := func() (all []string) {
		found, err := r.Undelivered(t.Context())
		require.NoError(t, err)
		for _, u := range found {
			all = append(all, u.Notice.ID+" "+u.To)
		}
		return all
	}
	require.Empty(t, ids())
	record("a", "ops@example.com")
	record("a", "ops@example.com") // a step that is repeated
	record("a", remora.WebhookChannel)
	require.Equal(t, []string{"a webhook", "a ops@example.com"}, ids(), "newest first")

	require.NoError(t, r.RecordDelivered(t.Context(), "ops@example.com"))
	require.Equal(t, []string{"a webhook"}, ids(), "the other channel is still away")
	require.NoError(t, r.RecordDelivered(t.Context(), "nobody@example.com"))

	for i := range maxUndelivered {
		record(fmt.Sprint(i), "ops@example.com")
	}
	all := ids()
	require.Len(t, all, maxUndelivered)
	require.Equal(t, "19 ops@example.com", all[0])
	require.NotContains(t, all, "a webhook", "the oldest went")
}
