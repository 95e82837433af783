package control

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// One cleanup at a time in each place; a second one is told who is at it.
func TestASecondCleanupIsToldOfTheFirst(t *testing.T) {
	s := newSite(t, testenv.NewTemporal(t))
	first, err := s.control.Retention(t.Context(), remora.RetentionRequest{Source: "shop"})
	require.NoError(t, err)
	_, err = s.control.Retention(t.Context(), remora.RetentionRequest{})
	requireProblem(t, err, remora.Busy, "a cleanup by alice@desk runs since")
	other, err := s.control.Retention(t.Context(), remora.RetentionRequest{Copy: "offsite"})
	require.NoError(t, err)
	require.NotEqual(t, first.ID, other.ID)
}
