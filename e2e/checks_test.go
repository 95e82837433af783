package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
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

// TestKilledWhileTheCommandRuns kills the worker while a command takes the application offline, and while one brings it
// back: the next worker ends both, and the application is online.
func TestKilledWhileTheCommandRuns(t *testing.T) {
	s := newSite(t, small)
	s.must("backup", s.source())
	before := s.read()
	s.damage()
	off, hold, told := filepath.Join(s.dir, "off"), filepath.Join(s.dir, "hold"), filepath.Join(s.dir, "told")
	script := filepath.Join(s.dir, "mode")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\necho $1 >> "+told+"\ncase $1 in enter) touch "+off+";; leave) rm -f "+off+";; status) test -e "+off+"; exit $?;; esac\n"+
		"while [ -e "+hold+".$1 ]; do sleep 0.1; done\n"), 0o700))
	s.stopWorker()
	const undo = "    # undo_window: 24h"
	s.replaceConfig(undo, "    maintenance: {command: {enter: ["+script+", enter], leave: ["+script+", leave], status: ["+script+", status]}}\n"+undo)
	for _, verb := range []string{"enter", "leave"} {
		require.NoError(t, os.WriteFile(hold+"."+verb, nil, 0o600))
	}
	s.startWorker()
	s.must("restore", "latest", "--force", "--detach")
	for _, verb := range []string{"enter", "leave"} {
		testenv.Wait(t, time.Minute, "the command to run", func() error {
			text, err := os.ReadFile(told)
			if err == nil && !strings.Contains(string(text), verb) {
				err = errors.New(string(text))
			}
			return err
		})
		s.killWorker()
		require.NoError(t, os.Remove(hold+"."+verb))
		s.startWorker()
	}
	testenv.Wait(t, time.Minute, "the restore to be applied", func() error {
		if restores := list[remora.Restore](s, "restores", s.source()); len(restores) != 1 || restores[0].Outcome != remora.OutcomeApplied {
			return fmt.Errorf("%+v", restores)
		}
		return nil
	})
	require.NoFileExists(t, off)
	s.requireEqual(before, s.read(), "after the restore")
	text, err := os.ReadFile(told)
	require.NoError(t, err)
	require.Equal(t, "status\nenter\nenter\nleave\nleave\n", string(text), "asked once, and each is run again after its crash")
}

// S24: caches and queues are reset when the restored side is live and the application still offline, and so after each
// rollback. One that hangs is run again after its worker was killed; one that fails is told, and keeps nobody offline.
func TestS24CachesAreResetAfterASwitch(t *testing.T) {
	s := newSite(t, small)
	s.must("backup", s.source())
	before := s.read()
	s.damage()
	damaged := s.read()
	off, hold, fail, told := filepath.Join(s.dir, "off"), filepath.Join(s.dir, "hold"), filepath.Join(s.dir, "fail"), filepath.Join(s.dir, "told")
	query := s.mysql.Client(t, "-N", "-B", "-e", "SELECT COUNT(*) FROM users", s.schema)
	script := filepath.Join(s.dir, "reset")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\n"+
		"rows=$('"+strings.Join(append([]string{query.Path}, query.Args[1:]...), "' '")+"')\n"+
		"echo $1 of $REMORA_SOURCE: $rows rows, $(ls "+off+" "+filepath.Join(s.storage, "pre-alerts", "virus.exe")+" 2>/dev/null | sed 's|.*/||') >> "+told+"\n"+
		"while [ -e "+hold+" ]; do sleep 0.1; done\n"+
		"if [ -e "+fail+".$1 ]; then echo no such $1 >&2; exit 1; fi\n"), 0o700))
	s.stopWorker()
	const undo = "    # undo_window: 24h"
	s.replaceConfig(undo, "    maintenance: {file: "+off+"}\n    restore: {after: [["+script+", cache], ["+script+", queue]]}\n"+undo)
	s.startWorker()
	wasTold := func(lines ...string) {
		t.Helper()
		text, err := os.ReadFile(told)
		require.NoError(t, err)
		require.NoError(t, os.Remove(told))
		for i, line := range lines {
			lines[i] = strings.Replace(line, ":", " of "+s.source()+":", 1)
		}
		require.Equal(t, lines, strings.Split(strings.TrimSpace(string(text)), "\n"))
		require.NoFileExists(t, off)
	}

	require.NoError(t, os.WriteFile(hold, nil, 0o600))
	s.must("restore", "latest", "--force", "--detach")
	testenv.Wait(t, time.Minute, "the command to run", func() error {
		_, err := os.Stat(told)
		return err
	})
	s.killWorker()
	require.NoError(t, os.Remove(hold))
	s.startWorker()
	s.recorded(remora.OutcomeApplied)
	s.requireEqual(before, s.read(), "after the restore")
	wasTold("cache: 200 rows, off", "cache: 200 rows, off", "queue: 200 rows, off")

	require.NoError(t, os.WriteFile(fail+".cache", nil, 0o600))
	out := s.must("rollback", s.source())
	says := "caches or queues may be stale; run it by hand: run sources." + s.source() + ".restore.after[0] (" + script + "): it ended with exit status 1: no such cache"
	require.Contains(t, strings.Join(strings.Fields(out), " "), says)
	s.requireEqual(damaged, s.read(), "after the rollback")
	wasTold("cache: 100 rows, off virus.exe", "cache: 100 rows, off virus.exe", "cache: 100 rows, off virus.exe", "queue: 100 rows, off virus.exe")
	require.Equal(t, []string{says}, s.recorded(remora.OutcomeUndone).Warnings)

	require.NoError(t, os.Remove(fail+".cache"))
	require.NotContains(t, s.must("rollback", s.source()), "stale")
	wasTold("cache: 200 rows, off", "queue: 200 rows, off")
	require.Empty(t, s.recorded(remora.OutcomeApplied).Warnings)
}
