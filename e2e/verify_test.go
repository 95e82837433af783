package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// TestWhatADiskHasLostIsFoundAndStoredAgain damages all that two backups share (F28): both are found corrupt, the next
// backup of the same data is whole, and restores.
func TestWhatADiskHasLostIsFoundAndStoredAgain(t *testing.T) {
	s := newSite(t, small)
	for range 2 {
		s.must("backup", s.source())
	}
	before := s.read()
	require.Contains(t, s.must("verify", "latest", "--data"), "all its bytes were read back")
	require.Contains(t, s.must("show", "latest"), "which is all bytes")
	require.Contains(t, s.must("verify", "latest"), "is well")
	require.Contains(t, s.must("show", "latest"), "all bytes: ")

	require.NoError(t, filepath.WalkDir(filepath.Join(s.dir, "repository", "p"), func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for i := range text {
			text[i] ^= 0x5a
		}
		return os.WriteFile(name, text, 0o600)
	}))
	all := list[remora.Backup](s, "history", s.source())
	require.Len(t, all, 2)
	for _, b := range all {
		out, code := s.remora("verify", b.ID, "--data")
		require.Equal(t, 6, code, out)
		require.Contains(t, out, "damaged: ")
		require.Contains(t, out, "remora backup "+s.source())
		require.Contains(t, s.must("show", b.ID), "corrupt")
	}
	out, code := s.remora("verify", "latest")
	require.Equal(t, 4, code, out)

	s.must("backup", s.source())
	require.Contains(t, s.must("verify", "latest", "--data"), "all its bytes were read back")
	s.damage()
	s.must("restore", "latest", "--force")
	s.requireEqual(before, s.read(), "after the restore")
}
