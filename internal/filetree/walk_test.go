package filetree

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

func TestAWalkThereAndBackAndThereAgain(t *testing.T) {
	s := filled(t)
	before := s.look()
	part := s.capture()
	s.damage()
	damaged := s.look()

	est, err := s.tree.Preflight(t.Context(), job1, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.False(t, est.Empty)
	require.Len(t, est.Replaces, 2)
	s.noWork()

	s.ready(job1, part.fs())
	require.Equal(t, damaged, s.look(), "staging touched the live side")

	require.NoError(t, s.turn(1, remora.Restored))
	require.Equal(t, before, s.look())
	require.NoError(t, s.turn(1, remora.Restored), "a level, not an edge")
	require.Equal(t, before, s.look())

	require.NoError(t, s.turn(2, remora.Replaced))
	require.Equal(t, damaged, s.look())
	require.NoError(t, s.turn(3, remora.Restored))
	require.Equal(t, before, s.look())

	left, err := s.tree.Leftovers(t.Context())
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Equal(t, remora.Restored, left[0].Live)
	require.True(t, left[0].Switched)
	require.Equal(t, 3, left[0].Seq)
	require.True(t, keep.Equal(left[0].KeepUntil))

	longer := remora.Turn{Run: run1, Seq: 4, Live: remora.Restored, KeepUntil: keep.Add(time.Hour), Stay: true}
	require.NoError(t, s.tree.Switch(t.Context(), longer), "S10: the journal knows how long, and nothing moves")
	require.Equal(t, before, s.look())
	left, err = s.tree.Leftovers(t.Context())
	require.NoError(t, err)
	require.True(t, longer.KeepUntil.Equal(left[0].KeepUntil))
	require.Equal(t, 4, left[0].Seq)
	longer.Seq, longer.Live = 5, remora.Replaced
	require.Equal(t, remora.Fenced, remora.KindOf(s.tree.Switch(t.Context(), longer)), "what is not live cannot stay so")
	require.Equal(t, before, s.look())
	require.ErrorIs(t, s.turn(3, remora.Restored), remora.ErrStaleTurn)

	away := &dirWriter{dir: t.TempDir()}
	sum, err := s.tree.Capture(t.Context(), job1, remora.Subject{PutAway: run1}, away)
	require.NoError(t, err)
	require.EqualValues(t, 2, sum.Objects)
	data, err := os.ReadFile(away.dir + "/receipts/new")
	require.NoError(t, err)
	require.Equal(t, "written after the backup", string(data))

	require.NoError(t, s.tree.Discard(t.Context(), job1, "shop-put-away"))
	require.NoError(t, s.tree.Discard(t.Context(), job1, "shop-put-away"))
	require.Equal(t, before, s.look())
	s.noWork()
}
