package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// TestS11AnotherMachineActsOnlyOnceItHasAdoptedTheRepository loses a machine with a restore's undo window open: the
// new one has the repository, its password and the configuration. And the old one comes back.
func TestS11AnotherMachineActsOnlyOnceItHasAdoptedTheRepository(t *testing.T) {
	s := newSite(t, small)
	before := s.read()
	s.must("backup", s.source())
	s.damage()
	damaged := s.read()
	s.must("restore", "latest", "--force")
	s.requireEqual(before, s.read(), "after the restore")
	require.Contains(t, s.must("status"), "The recovery copy of the repository's password was never tried")
	s.stopWorker()

	old, err := os.ReadFile(s.config)
	require.NoError(t, err)
	other := strings.NewReplacer(s.temporal.Namespace, "elsewhere-"+s.schema, filepath.Join(s.dir, "state"), filepath.Join(s.dir, "elsewhere")).Replace(string(old))
	require.NoError(t, os.WriteFile(s.config, []byte(other), 0o600))
	s.startWorker()
	var out string
	testenv.Wait(t, time.Minute, "the new worker", func() error {
		if out, _ = s.remora("rollback", s.source()); !strings.Contains(out, "it belongs to the installation on") {
			return errors.New(out)
		}
		return nil
	})
	for _, args := range [][]string{{"backup", s.source()}, {"restore", "latest", "--force"}, {"cleanup"}} {
		out, code := s.remora(args...)
		require.Equal(t, 1, code, out)
		require.Contains(t, out, "remora repository adopt")
	}
	s.requireEqual(before, s.read(), "after what was refused")
	require.Contains(t, s.must("status"), "the repository belongs to the installation on")

	out, code := s.remora("repository", "adopt", "--force")
	require.Equal(t, 3, code)
	require.Contains(t, out, "is at work: it wrote there")
	out, code = s.remora("repository", "adopt", "--gone", "it burnt down") // and nobody types its name
	require.Equal(t, 2, code, out)
	s.must("repository", "adopt", "--gone", "it burnt down", "--force")
	require.Contains(t, s.must("repository", "adopt"), "is ours already")
	s.must("rollback", s.source())
	s.requireEqual(damaged, s.read(), "after the rollback")
	s.must("accept", s.source())
	s.stopWorker()

	require.NoError(t, os.WriteFile(s.config, old, 0o600))
	s.startWorker()
	out, code = s.remora("backup", s.source())
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "remora repository adopt")
}

// TestS13ThePasswordIsChangedWhileAWorkerIsAtWork changes it with the command, and tries its recovery copy.
func TestS13ThePasswordIsChangedWhileAWorkerIsAtWork(t *testing.T) {
	s := newSite(t, small)
	s.must("backup", s.source())
	file := filepath.Join(s.dir, "repository.password")
	old, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, s.must("repository", "password"), file)
	fresh, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NotEqual(t, old, fresh)
	s.must("backup", s.source())
	require.Len(t, list[remora.Backup](s, "history", s.source()), 2)

	typed := func(text []byte) (string, int) {
		s.input = string(text)
		return s.remora("repository", "recovery")
	}
	out, code := typed(old)
	require.Equal(t, 1, code)
	require.Contains(t, out, "this does not open the repository")
	require.Contains(t, s.must("status"), "was never tried")
	out, code = typed(fresh)
	require.Zero(t, code, out)
	require.NotContains(t, s.must("status"), "was never tried")
}
