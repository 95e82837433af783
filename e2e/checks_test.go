package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// TestLiveChecks restores a Laravel application whose checks fail, and one whose checks hold: the first is as it was
// before, and both are online again. What an operator took offline stays so.
func TestLiveChecks(t *testing.T) {
	s := newSite(t, small)
	app := filepath.Join(s.dir, "app")
	down := filepath.Join(app, "storage", "framework", "down")
	require.NoError(t, os.MkdirAll(filepath.Dir(down), 0o755))
	strangers := 0
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, offline := os.Stat(down)
		if _, err := r.Cookie("laravel_maintenance"); err != nil {
			strangers++
			if offline == nil {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}
	}))
	defer application.Close()
	s.must("backup", s.source())
	s.damage()
	damaged := s.read()

	s.stopWorker()
	const undo = "    # undo_window: 24h"
	wrong := "{sql: \"SELECT COUNT(*) > 100000 FROM users\"}"
	s.replaceConfig(undo, "    maintenance: {laravel: "+app+"}\n    checks: [{sql: \"SELECT COUNT(*) > 150 FROM users\"}, {http: \""+application.URL+"\"}, "+wrong+"]\n"+undo)
	s.startWorker()
	out, code := s.remora("restore", "latest", "--force")
	require.Equal(t, 5, code, out)
	require.Contains(t, out, "checks[2]: its first column is not true")
	s.requireEqual(damaged, s.read(), "after a restore whose check failed")
	require.NoFileExists(t, down)
	require.Zero(t, strangers, "the check went in with the pass")
	s.requireNothingLeft()

	s.stopWorker()
	s.replaceConfig(", "+wrong, "")
	s.startWorker()
	theirs := `{"except": [], "secret": null, "status": 503}`
	require.NoError(t, os.WriteFile(down, []byte(theirs), 0o644))
	out = s.must("restore", "latest", "--force")
	require.Contains(t, out, "the application was offline already, and stays so")
	require.Contains(t, out, "1 checks need the application online, and were not made")
	text, err := os.ReadFile(down)
	require.NoError(t, err)
	require.Equal(t, theirs, string(text))
	require.NoError(t, os.Remove(down))

	out = s.must("rollback", s.source())
	require.Contains(t, out, "a live check failed", "the damage is no judge of what to do")
	s.requireEqual(damaged, s.read(), "after the rollback")
	require.NoFileExists(t, down)
	restores := list[remora.Restore](s, "restores", s.source())
	require.Len(t, restores[0].Warnings, 1)
	require.True(t, strings.HasPrefix(restores[0].Warnings[0], "a live check failed: sources."))
}
