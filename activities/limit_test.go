package activities

import (
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// sink is a part that takes everything.
type sink struct{ fake }

func (*sink) Put(_ context.Context, _ string, write func(io.Writer) error) error {
	return write(io.Discard)
}

func (*sink) PutTree(context.Context, string, string, func(string) bool) (remora.TreeSummary, error) {
	return remora.TreeSummary{Bytes: 600 << 10}, nil
}

func TestABackupOverTheLimitIsStopped(t *testing.T) {
	write := func(n int) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := w.Write(make([]byte, n))
			return err
		}
	}
	to := limit(&sink{}, 1<<20, remora.Subject{})
	require.NoError(t, to.Put(t.Context(), "a", write(400<<10)))
	_, err := to.PutTree(t.Context(), "t", "/t", nil)
	require.NoError(t, err)
	err = to.Put(t.Context(), "b", write(25<<10))
	require.Equal(t, remora.Unsupported, remora.KindOf(err))
	require.False(t, remora.KindOf(err).Retryable(), "it is as large the next time")
	require.ErrorContains(t, err, "the backup has 1.0 MiB and more, and may have 1.0 MiB")
	_, err = to.PutTree(t.Context(), "u", "/u", nil)
	require.Error(t, err)

	for name, to := range map[string]PartWriter{
		"no limit": limit(&sink{}, 0, remora.Subject{}), "safety": limit(&sink{}, 1, remora.Subject{Partial: true}),
		"put away": limit(&sink{}, 1, remora.Subject{PutAway: "run"}),
	} {
		require.NoError(t, to.Put(t.Context(), "a", write(2<<20)), name)
	}
}

func TestCommitCountsAllParts(t *testing.T) {
	f := &fake{}
	env := newEnv(f, Watch{})
	(&Repository{Store: f, MaxBytes: 100}).Register(env)
	m := remora.Manifest{Purpose: remora.Regular, Parts: []remora.PartRef{{Summary: remora.Summary{Bytes: 60}}, {Summary: remora.Summary{Bytes: 60}}}}
	_, err := env.ExecuteActivity(remora.CommitActivity, remora.CommitInput{Manifest: m})
	text, app := problemIn(t, err)
	require.True(t, app.NonRetryable())
	require.Contains(t, text.Hint, "BACKUP_MAX_FILE_SIZE")
	m.Purpose = remora.Safety
	_, err = env.ExecuteActivity(remora.CommitActivity, remora.CommitInput{Manifest: m})
	require.NoError(t, err, "a restore is not refused for the size of its safety backup")
}

func TestPreflightForetellsTheLimit(t *testing.T) {
	e := remora.Estimate{Summary: remora.Summary{Bytes: 3 << 30}}
	nearly(&e, 2<<30)
	require.Equal(t, []string{"about 3.0 GiB are live, and a backup may have 2.0 GiB (BACKUP_MAX_FILE_SIZE): it will fail"}, e.Summary.Warnings)
	e = remora.Estimate{Summary: remora.Summary{Bytes: 3 << 30}}
	nearly(&e, 0)
	require.Empty(t, e.Summary.Warnings)
}
