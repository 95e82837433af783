package e2e

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// TestDrill proves a backup of a shop that is damaged by now: what is live stays as it is, the worker may be killed and the
// workflow terminated in the middle, and nothing is left of it, nor of one whose check fails.
func TestDrill(t *testing.T) {
	s := newSite(t, shape{users: 4000, orders: 30_000, files: 40, undo: time.Hour})
	s.stopWorker()
	const undo, check = "    # undo_window: 24h", "{sql: \"SELECT COUNT(*) = 30000 AND MAX(name) LIKE '%!' FROM orders LEFT JOIN heavy USING (id)\"}"
	s.replaceConfig(undo, "    objectives: {recovery_time: 1h, drill: 720h}\n    checks: ["+check+", {http: \"http://127.0.0.1:1/\"}]\n"+undo)
	s.startWorker()
	s.must("backup", s.source())
	s.damage()
	damaged := s.read()
	nothing := func(when string) {
		t.Helper()
		s.requireEqual(damaged, s.read(), when)
		s.requireNothingLeft()
	}

	out := s.must("drill", s.source())
	require.Contains(t, out, "compare staged database of "+s.source()+": 2 tables, 34,000 rows")
	require.Contains(t, out, "is proven: back in ")
	require.Contains(t, out, "1 check passed")
	nothing("what is live, after the drill")
	b := list[remora.Backup](s, "history", s.source())[0]
	require.Equal(t, remora.Proven, b.Proof.Outcome)
	require.EqualValues(t, 34_000, b.Proof.Rows)
	require.EqualValues(t, 40, b.Proof.Files)
	require.Contains(t, s.must("history"), "(proven ")
	require.Contains(t, s.must("show", "latest"), "1 check passed")
	require.Contains(t, s.must("status"), "back in "+remora.Timed(b.Proof.Took))

	inTheMiddle := func(do func()) (out string, code int) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			defer close(done)
			out, code = s.remora("drill", s.source())
		}()
		testenv.Wait(t, time.Minute, "the drill to load", func() error {
			var n int
			err := s.db().QueryRow(`SELECT COUNT(*) FROM information_schema.tables WHERE table_schema LIKE '\_remora\_%\_b1'`).Scan(&n)
			if err == nil && n < 2 {
				err = errors.New("nothing is staged yet")
			}
			return err
		})
		do()
		<-done
		return out, code
	}
	out, code := inTheMiddle(func() {
		s.killWorker()
		s.startWorker()
	})
	require.Zero(t, code, out)
	nothing("after a drill whose worker was killed")

	out, code = inTheMiddle(func() {
		require.NoError(t, s.temporal.Client(t).TerminateWorkflow(t.Context(), remora.Lane(s.source()), "", "the test does"))
	})
	require.NotZero(t, code, out)
	testenv.Wait(t, time.Minute, "the monitor to remove it", func() error { // it may be at work already
		_, code := s.remora("schedule", "trigger", remora.MonitorSchedule)
		left, err := s.leftSchemas()
		if err == nil && (len(left) > 0 || code > 1) {
			err = errors.New("it is still there")
		}
		return err
	})
	nothing("after a drill that was terminated")

	s.stopWorker()
	s.replaceConfig(check, "{sql: \"SELECT COUNT(*) > 30000 FROM orders\"}")
	s.startWorker()
	out, code = s.remora("drill", s.source(), "--backup", b.ID)
	require.Equal(t, 6, code, out)
	require.Contains(t, out, "checks[0]: its first column is not true")
	nothing("after a drill whose check failed")
	require.Contains(t, s.must("history"), "(its drill failed)")
	out, code = s.remora("drill", s.source(), "--backup", "nowhere")
	require.Equal(t, 4, code, out)
	require.Contains(t, out, "it could not be made: find the backup")
	require.Equal(t, remora.DrillFailing, list[remora.Backup](s, "history", s.source())[0].Proof.Outcome, "which says nothing about it")

	s.stopWorker() // an undo window is no reason against a drill, nor a drill against a rollback
	s.replaceConfig("{sql: \"SELECT COUNT(*) > 30000 FROM orders\"}", check)
	s.startWorker()
	s.must("restore", b.ID, "--force")
	restored := s.read()
	require.Contains(t, s.must("drill", s.source(), "--backup", b.ID), "is proven: back in ")
	s.requireEqual(restored, s.read(), "after a drill in an undo window")
	s.must("rollback", s.source())
	s.requireEqual(damaged, s.read(), "after a rollback with a drill before it")
	require.Contains(t, s.must("drill", s.source(), "--backup", b.ID), "is proven: back in ")
	s.must("accept", s.source())
	s.requireEqual(damaged, s.read(), "after the end of the window")
	s.requireNothingLeft()
}
