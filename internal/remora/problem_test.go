package remora_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// Temporal refuses a failure whose message is not UTF-8, so the step that failed would never be told to have failed.
func TestALongErrorStaysText(t *testing.T) {
	for _, character := range []string{"a", "é", "李", "🐟"} {
		for shift := range 4 {
			text := remora.OneLine(strings.Repeat("x", shift) + strings.Repeat(character, remora.MaxErrorText))
			require.True(t, utf8.ValidString(text), character)
			require.LessOrEqual(t, len(text), remora.MaxErrorText)
			require.Greater(t, len(text), remora.MaxErrorText-8)
		}
	}
	require.Equal(t, "short", remora.Cut("short", 5))
	require.Equal(t, "...", remora.Cut("longer", 3))
}
