package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// The outages here begin, and last for as long as other tests run: they cost next to no time of their own. So these tests
// stand in the first file.

// minutely is a small site with a slot each minute, and a Temporal and a MySQL of its own: what it leaves on the server while
// it waits must not look like what other tests left. A slot may begin up to a minute late.
func minutely(t *testing.T) shape {
	at := small
	at.mysql, at.temporal, at.schedules = testenv.NewMySQL(t), testenv.NewTemporal(t), "minutely: {kind: full, every: 1m}"
	return at
}

// TestTemporalIsAway for longer than a slot may be late, and then killed while a slot is at work (F31, F32).
func TestTemporalIsAway(t *testing.T) {
	s := newSite(t, minutely(t))
	s.quietMoment()
	s.must("backup", s.source(), "--name", "before")
	s.temporal.Kill(t)
	from := nextMinute()
	t.Parallel()

	out, code := s.remora("backup", s.source())
	require.Equal(t, 7, code, out)
	require.Contains(t, out, s.temporal.Address)
	out, code = s.remora("status")
	require.Equal(t, 7, code, out)
	require.Contains(t, out, "newest good backup")
	require.Contains(t, out, "Temporal does not answer")
	require.NotContains(t, out, "failed")
	require.Contains(t, s.must("history"), "before")

	until(from.Add(2*time.Minute), 5, 30)
	last, back := nextMinute().Add(-time.Minute), time.Now()
	s.temporal.Restart(t)
	testenv.Wait(t, time.Minute, "the slot that is caught up with", func() error {
		if s.slots("minutely")[last] != remora.Completed {
			return fmt.Errorf("%s: %v", last, s.slots("minutely"))
		}
		return nil
	})
	require.True(t, nextMinute().Equal(last.Add(time.Minute)), "the next slot is not due yet")
	var begun []string
	runs, err := s.temporal.Client(t).ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: s.temporal.Namespace, Query: fmt.Sprintf("WorkflowType = '%s' AND StartTime > '%s'", remora.SlotWorkflow, back.Format(time.RFC3339)),
	})
	require.NoError(t, err)
	for _, r := range runs.GetExecutions() {
		begun = append(begun, r.GetExecution().GetWorkflowId())
	}
	require.Len(t, begun, 1, "one slot is caught up with, and no burst: %v", begun)

	// Killed while the next slot is at work, and back a moment later.
	release := s.lockTable(t, "users")
	s.waitForDump()
	s.temporal.Kill(t)
	out, code = s.remora("status")
	require.Equal(t, 7, code, out)
	require.NotContains(t, out, "failed since")
	release()
	s.temporal.Restart(t)

	got := s.accounted("minutely", from, last.Add(time.Minute))
	for due, status := range got {
		want := remora.Missed
		if !due.Before(last) {
			want = remora.Completed
		}
		require.Equal(t, want, status, "the slot of %s of %v", due, got)
	}
	require.GreaterOrEqual(t, len(got), 4)
	require.Contains(t, s.must("history", s.source(), "--status", "missed"), "nobody was there to begin it")
	t.Logf("due while Temporal was away, and after: %v", got)
}

// TestNoWorkerIsThere for longer than a slot may be late (F33).
func TestNoWorkerIsThere(t *testing.T) {
	s := newSite(t, minutely(t))
	s.quietMoment()
	s.killWorker()
	from := nextMinute()
	t.Parallel()

	until(from.Add(2*time.Minute), 40, 55)
	require.Contains(t, s.must("status"), "No worker is running")
	last := nextMinute().Add(-time.Minute)
	s.startWorker()
	testenv.Wait(t, 2*time.Minute, "the worker to take work", func() error {
		if out := s.must("status"); strings.Contains(out, "No worker is running") {
			return errors.New(out)
		}
		return nil
	})
	there := nextMinute() // what is due while the worker starts comes out in either way
	if time.Until(there) < 10*time.Second {
		there = there.Add(time.Minute)
	}
	got := s.accounted("minutely", from, there)
	for due, status := range got {
		want := remora.Missed
		if !due.Before(there) {
			want = remora.Completed
		}
		if !due.After(last) || !due.Before(there) {
			require.Equal(t, want, status, "the slot of %s of %v", due, got)
		}
	}
	require.Contains(t, s.must("history", s.source(), "--status", "missed"), "nobody was there to begin it")
	t.Logf("due while no worker was there, and after: %v", got)
}

// TestTemporalIsLost with all that it knew: its schedules, their pauses and an open undo window (F44). All of it comes
// back from the repository and the configuration.
func TestTemporalIsLost(t *testing.T) {
	s := newSite(t, minutely(t))
	s.must("schedule", "create", s.source(), "release", "--kind", "database", "--every", "1h")
	s.must("schedule", "pause", s.source()+"/release", "--why", "the disks are exchanged")
	testenv.Wait(t, time.Minute, "the worker to make its own schedules", func() error {
		if out, code := s.remora("schedule", "pause", "verify", "--why", "it is too slow"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	good := s.read()
	s.quietMoment()
	s.must("backup", s.source(), "--name", "good")
	s.damage()
	damaged := s.read()
	s.must("restore", "good", "--force")
	s.quietMoment()
	s.killWorker()
	s.temporal.Kill(t)
	from := nextMinute()
	for _, file := range []string{"state.db", "state.db-wal", "state.db-shm"} {
		if err := os.Remove(filepath.Join(s.temporal.State(), file)); file == "state.db" {
			require.NoError(t, err)
		}
	}
	t.Parallel()

	until(from.Add(time.Minute), 40, 55)
	last := nextMinute().Add(-time.Minute)
	s.temporal.Restart(t)
	s.startWorker()
	type listed struct {
		Name   string
		Paused bool
		Note   string
	}
	known := map[string]listed{}
	testenv.Wait(t, time.Minute, "the schedules", func() error {
		out, code := s.remora("schedule", "list")
		if code != 0 {
			return errors.New(out)
		}
		for _, one := range list[listed](s, "schedule", "list") {
			known[one.Name] = one
		}
		if len(known) < 5 {
			return errors.New(out)
		}
		return nil
	})
	require.Contains(t, known, s.source()+"/minutely")
	require.False(t, known[s.source()+"/minutely"].Paused)
	require.True(t, known[s.source()+"/release"].Paused)
	require.Contains(t, known[s.source()+"/release"].Note, "the disks are exchanged")
	require.True(t, known["verify"].Paused)

	testenv.Wait(t, time.Minute, "the monitor to take the restore over", func() error {
		_, _ = s.remora("schedule", "trigger", "monitor")
		if r := list[remora.Restore](s, "restores", s.source())[0]; r.Hint != "Its workflow was lost; monitor has taken it over." || r.Outcome != remora.OutcomeApplied {
			return fmt.Errorf("%s: %s", r.Outcome, r.Hint)
		}
		return nil
	})
	s.requireEqual(good, s.read(), "after it was taken over")
	s.must("rollback", s.source())
	s.requireEqual(damaged, s.read(), "after the rollback")
	s.must("accept", s.source())
	s.requireNothingLeft()

	got := s.accounted("minutely", from, last)
	for due, status := range got {
		require.Equal(t, remora.Missed, status, "the slot of %s of %v", due, got)
	}
	t.Logf("due while Temporal was lost: %v", got)
}

// TestTemporalHasNoRoom fills the disk of Temporal's database while a slot is at work and others become due, and makes room
// again (F19).
func TestTemporalHasNoRoom(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	t.Parallel()
	at := minutely(t)
	state := at.temporal.State()
	at.temporal.Kill(t)
	kept := filepath.Join(t.TempDir(), "state")
	run1(t, "cp", "-a", state, kept)
	if err := syscall.Mount("tmpfs", state, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(state, syscall.MNT_DETACH) })
	run1(t, "cp", "-a", kept+"/.", state)
	said := filepath.Join(kept, "log") // what Temporal prints must not fall victim to the full disk
	require.NoError(t, os.Remove(filepath.Join(state, "log")))
	require.NoError(t, os.Symlink(said, filepath.Join(state, "log")))
	at.temporal.Restart(t)
	s := newSite(t, at)

	release := s.lockTable(t, "users")
	from := nextMinute()
	s.waitForDump()
	filler := filepath.Join(state, "filler")
	fill(t, filler)
	release()
	until(from.Add(time.Minute), 5, 59)
	out, code := s.remora("backup", s.source(), "--detach")
	t.Logf("while there is no room: %d %s", code, out)
	require.NotZero(t, code, out)
	testenv.Wait(t, 5*time.Minute, "the fault to strike", func() error { // there may be room inside the files
		log, err := os.ReadFile(said)
		if err == nil && !strings.Contains(string(log), "database or disk is full") {
			err = errors.New("Temporal has not missed the room yet")
		}
		return err
	})
	last := nextMinute().Add(-time.Minute)
	require.NoError(t, os.Remove(filler))
	if out, code := s.remora("status"); code != 0 {
		t.Logf("it did not survive that: %s", out)
		s.temporal.Restart(t)
	}
	got := s.accounted("minutely", from, last.Add(time.Minute))
	t.Logf("due while there was no room, and before and after: %v", got)
	require.Equal(t, remora.Completed, got[from], "what was at work went on")
	require.Equal(t, remora.Completed, got[last.Add(time.Minute)], "the next one is good")
}

// fill writes a file until there is no room left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	for size := 1 << 20; size > 0; {
		if _, err = f.Write(make([]byte, size)); err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
			size /= 4
		}
	}
}

// nextMinute is when the next slot is due.
func nextMinute() time.Time { return time.Now().UTC().Truncate(time.Minute).Add(time.Minute) }

// until waits for a moment, and then for certain seconds of a minute.
func until(at time.Time, from, to int) {
	time.Sleep(time.Until(at))
	if s := time.Now().Second(); s < from || s > to {
		time.Sleep(time.Duration((from-s+60)%60) * time.Second)
	}
}

// quietMoment waits until no slot is at work, and none is due soon.
func (s *site) quietMoment() {
	s.t.Helper()
	until(time.Now(), 5, 45)
	s.waitForSchedules()
}

// waitForSchedules waits until all are there, and none is at work.
func (s *site) waitForSchedules() {
	s.t.Helper()
	testenv.Wait(s.t, time.Minute, "the slots to be over", func() error {
		if out, code := s.remora("schedule", "list"); code != 0 {
			return errors.New(out)
		}
		known := list[struct{ Running int }](s, "schedule", "list")
		running := 0
		for _, one := range known {
			running += one.Running
		}
		if running > 0 || len(known) < 4 { // a starting worker makes them
			return fmt.Errorf("%d of %d are at work", running, len(known))
		}
		return nil
	})
}

// waitForDump waits until a backup is stopped by a lock.
func (s *site) waitForDump() {
	s.t.Helper()
	testenv.Wait(s.t, 80*time.Second, "a backup that waits for a lock", func() error {
		var n int
		err := s.db().QueryRow("SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE 'Waiting for%' AND info LIKE CONCAT('%', ?, '%')", s.schema).Scan(&n)
		if err == nil && n == 0 {
			err = errors.New("none does")
		}
		return err
	})
}

// slots tells how the slots of a schedule have come out.
func (s *site) slots(name string) map[time.Time]remora.Status {
	s.t.Helper()
	got := map[time.Time]remora.Status{}
	for _, b := range list[remora.Backup](s, "history", s.source(), "--limit", "0") {
		if due := b.Slot.Due.UTC(); b.Slot.Schedule == name {
			require.NotContains(s.t, got, due, "a slot has come out twice")
			got[due] = b.Status
		}
	}
	return got
}

// accounted has the monitor look until each slot has come out that was due from one minute to another, and tells how.
func (s *site) accounted(name string, from, to time.Time) map[time.Time]remora.Status {
	s.t.Helper()
	got := map[time.Time]remora.Status{}
	testenv.Wait(s.t, 5*time.Minute, "the slots to be accounted for", func() error {
		pause(s.t.Context(), 2*time.Second) // it may take minutes, and others are at work
		if time.Since(to) > 2*time.Minute { // before that the monitor leaves it alone
			_, _ = s.remora("schedule", "trigger", "monitor")
		}
		clear(got)
		all := s.slots(name)
		for due := from; !due.After(to); due = due.Add(time.Minute) {
			if status, known := all[due]; known && status != remora.Pending {
				got[due] = status
			} else {
				return fmt.Errorf("the slot of %s has not come out: %v", due, all)
			}
		}
		return nil
	})
	return got
}
