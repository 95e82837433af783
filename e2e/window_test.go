package e2e

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// TestAnUndoWindowOutlivesEverything blocks a restore and a rollback by a long transaction: each gives up with nothing
// changed, says who it was, and brings the application back. In the window it then kills the database, the worker and
// Temporal, before each way back and forth.
func TestAnUndoWindowOutlivesEverything(t *testing.T) {
	t.Parallel() // it mostly waits
	at := small
	at.mysql, at.temporal = testenv.NewMySQL(t), testenv.NewTemporal(t)
	s := newSite(t, at)
	flag := filepath.Join(s.dir, "offline")
	s.stopWorker()
	const undo = "    # undo_window: 24h"
	s.replaceConfig(undo, "    maintenance: {file: "+flag+"}\n"+undo)
	s.startWorker()
	s.must("backup", s.source(), "--name", "good")
	good := s.read()
	s.damage()
	damaged := s.read()

	s.blocked(flag, 5, "the source is as it was before", "restore", "good", "--force")
	s.requireEqual(damaged, s.read(), "after a restore that was blocked")
	s.requireNothingLeft()
	switched := s.took("restore", "good", "--force")
	s.blocked(flag, 3, "nothing was changed", "rollback", s.source())
	s.requireEqual(good, s.read(), "after a rollback that was blocked")

	for i, want := range []reading{damaged, good, damaged} {
		s.temporal.Kill(t)
		s.killWorker()
		s.mysql.Restart(t)
		s.temporal.Restart(t)
		s.startWorker()
		began := time.Now()
		s.must("rollback", s.source())
		t.Logf("rollback %d, with everything just started again: %s; the restore took %s", i+1, time.Since(began).Round(10*time.Millisecond), switched.Round(10*time.Millisecond))
		s.requireEqual(want, s.read(), fmt.Sprintf("after rollback %d", i+1))
		require.NoFileExists(t, flag)
	}
	for _, phase := range list[remora.Restore](s, "restores", s.source())[0].Phases {
		t.Logf("%s: %s", phase.Name, phase.Took)
	}
	s.must("accept", s.source())
	s.requireNothingLeft()
}

// blocked runs a command while somebody reads a table in a transaction that does not end.
func (s *site) blocked(flag string, code int, says string, args ...string) {
	s.t.Helper()
	tx, err := s.db().BeginTx(s.t.Context(), &sql.TxOptions{ReadOnly: true})
	require.NoError(s.t, err)
	defer func() { _ = tx.Rollback() }()
	var id string
	require.NoError(s.t, tx.QueryRowContext(s.t.Context(), "SELECT CONNECTION_ID() FROM `"+s.schema+"`.users LIMIT 1").Scan(&id))
	var offline atomic.Int64
	done := make(chan struct{})
	go func() { // as an application that looks whether it may work
		for ; ; pause(s.t.Context(), 50*time.Millisecond) {
			select {
			case <-done:
				return
			default:
			}
			if _, err := os.Stat(flag); err == nil {
				offline.Add(50)
			}
		}
	}()
	out, got := s.remora(args...)
	close(done)
	require.Equal(s.t, code, got, out)
	require.Contains(s.t, out, "connection "+id+" of root@")
	require.Contains(s.t, out, says)
	require.NotContains(s.t, out, "SELECT")
	require.NoFileExists(s.t, flag)
	was := time.Duration(offline.Load()) * time.Millisecond
	require.NotZero(s.t, was)
	require.Less(s.t, was, 40*time.Second, "it was offline for too long")
	s.t.Logf("%v, offline for %s:\n%s", args, was, out)
}
