package maintenance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

func flagIn(t *testing.T) (Mode, string) {
	path := filepath.Join(t.TempDir(), "down")
	return FlagFile(path), path
}

func TestTheFlagAppearsAndGoes(t *testing.T) {
	mode, path := flagIn(t)
	require.NoError(t, mode.Enter(t.Context(), "run-1"))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o644, info.Mode().Perm(), "the application runs as another user")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var said flag
	require.NoError(t, json.Unmarshal(text, &said))
	require.Equal(t, "run-1", said.Run)
	require.WithinDuration(t, time.Now(), said.Since, time.Minute)

	require.NoError(t, mode.Leave(t.Context(), "run-1"))
	require.NoFileExists(t, path)
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Empty(t, entries, "something was left beside the flag")
}

func TestBothCallsMayBeRepeated(t *testing.T) {
	mode, path := flagIn(t)
	require.NoError(t, mode.Leave(t.Context(), "run-1"))
	require.NoError(t, mode.Enter(t.Context(), "run-1"))
	first, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, mode.Enter(t.Context(), "run-1"))
	second, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.NoError(t, mode.Leave(t.Context(), "run-1"))
	require.NoError(t, mode.Leave(t.Context(), "run-1"))
	require.NoFileExists(t, path)
}

func TestWhatWasOnBeforeStaysOn(t *testing.T) {
	for name, text := range map[string]string{
		"an operator's empty file": "", "another tool's json": `{"secret": "x"}`, "another run's": `{"run": "run-2"}`, "a list": `[1]`,
	} {
		t.Run(name, func(t *testing.T) {
			mode, path := flagIn(t)
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			require.NoError(t, mode.Enter(t.Context(), "run-1"))
			require.NoError(t, mode.Leave(t.Context(), "run-1"))
			require.NoError(t, mode.Leave(t.Context(), ""))
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, text, string(after))
		})
	}
}

func TestAMissingFolderIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gone", "down")
	err := FlagFile(path).Enter(t.Context(), "run-1")
	var p *remora.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, remora.Invalid, p.Kind)
	require.Equal(t, path, p.Subject)
	require.Contains(t, p.Hint, filepath.Dir(path))
	require.NoError(t, FlagFile(path).Leave(t.Context(), "run-1"), "nothing to undo")
}

func TestNoneDoesNothing(t *testing.T) {
	require.NoError(t, None().Enter(t.Context(), "run-1"))
	require.NoError(t, None().Leave(t.Context(), "run-1"))
}
