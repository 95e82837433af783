package e2e

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// TestPowerCut kills the database, Temporal and the worker at once, in the middle of a backup or a restore, and starts them
// again in every order (F48). Nobody does anything else about it.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	at := shape{users: 5000, orders: 20_000, files: 50, undo: time.Hour, mysql: testenv.NewMySQL(t), temporal: testenv.NewTemporal(t)}
	s := newSite(t, at)
	s.waitForSchedules()
	random := seed(t)

	for _, order := range []string{"database, Temporal, worker", "Temporal, worker, database", "worker, database, Temporal"} {
		before := s.triggered()
		release := s.lockTable(t, "orders")
		s.trigger()
		s.waitForDump()
		s.killAll()
		s.startAll(order)
		release()
		s.waitForSlot(before, remora.Completed, "after a power cut and "+order)
	}
	good := s.read()
	id := list[remora.Backup](s, "history", s.source())[0].ID
	require.Len(t, s.triggered(), 3)

	s.damage()
	damaged := s.read()
	took := s.took("restore", id, "--force")
	s.must("rollback", s.source())
	s.must("accept", s.source())
	for _, order := range []string{"database, worker, Temporal", "Temporal, database, worker", "worker, Temporal, database"} {
		for hit := false; !hit; {
			hit = s.cutDuringRestore(random, took, id, order, good, damaged)
		}
	}
	before := s.triggered()
	s.trigger()
	s.waitForSlot(before, remora.Completed, "the next slot")
}

// killAll kills everything at once.
func (s *site) killAll() {
	var killing sync.WaitGroup
	killing.Go(s.killWorker)
	killing.Go(func() { s.mysql.Kill(s.t) })
	killing.Go(func() { s.temporal.Kill(s.t) })
	killing.Wait()
}

// startAll starts it again in an order.
func (s *site) startAll(order string) {
	s.t.Helper()
	for what := range strings.SplitSeq(order, ", ") {
		switch what {
		case "database":
			s.mysql.Restart(s.t)
		case "Temporal":
			s.temporal.Restart(s.t)
		default:
			s.startWorker()
		}
	}
}

// cutDuringRestore has a power cut at a random moment of a restore, and goes back. hit is false when the restore was
// faster than the moment.
func (s *site) cutDuringRestore(random *rand.Rand, took time.Duration, id, order string, good, damaged reading) (hit bool) {
	s.t.Helper()
	known := len(list[remora.Restore](s, "restores", s.source()))
	newest := func() (r remora.Restore) {
		if all := list[remora.Restore](s, "restores", s.source()); len(all) > known {
			r = all[0]
		}
		return r
	}
	moment := time.Duration(random.Int64N(int64(took / 2))) // the rest is the command's
	s.must("restore", id, "--force", "--detach")
	time.Sleep(moment)
	s.killAll()
	cut := newest() // the repository is all that is left
	hit = cut.Outcome == "" || cut.Outcome == remora.OutcomeRunning
	s.startAll(order)
	what := fmt.Sprintf("a power cut after %s, then %s", moment.Round(time.Millisecond), order)
	testenv.Wait(s.t, 3*time.Minute, "the restore to end after "+what, func() error {
		if r := newest(); r.Outcome == "" || r.Outcome == remora.OutcomeRunning {
			return fmt.Errorf("it is %q", r.Outcome)
		}
		return nil
	})
	r := newest()
	s.t.Logf("%s: %s, in the middle: %t", what, r.Outcome, hit)
	if r.Outcome == remora.OutcomeApplied {
		s.requireEqual(good, s.read(), what)
		s.must("rollback", s.source())
		s.must("accept", s.source())
	} else {
		require.Equal(s.t, remora.OutcomeRolledBack, r.Outcome, r.Problem)
	}
	s.requireEqual(damaged, s.read(), what+", before again")
	s.requireNothingLeft()
	return hit
}

// trigger begins a slot between the minutes: it is not put off then.
func (s *site) trigger() {
	s.t.Helper()
	until(time.Now(), 1, 57)
	s.must("schedule", "trigger", s.source()+"/nightly")
}

// triggered are the slots that have come out.
func (s *site) triggered() (all []remora.Backup) {
	s.t.Helper()
	for _, b := range list[remora.Backup](s, "history", s.source(), "--limit", "0") {
		if b.Slot.Schedule != "" && b.Status != remora.Pending {
			all = append(all, b)
		}
	}
	return all
}

// waitForSlot waits for one more slot than before. Older ones may have been deleted meanwhile.
func (s *site) waitForSlot(before []remora.Backup, want remora.Status, what string) remora.Backup {
	s.t.Helper()
	var got []remora.Backup
	testenv.Wait(s.t, 3*time.Minute, "a slot, "+what, func() error {
		got = slices.DeleteFunc(s.triggered(), func(b remora.Backup) bool {
			return slices.ContainsFunc(before, func(o remora.Backup) bool { return o.ID == b.ID })
		})
		if len(got) == 0 {
			return errors.New("it has not come out")
		}
		return nil
	})
	require.Len(s.t, got, 1, what)
	require.Equal(s.t, want, got[0].Status, "%s: %s", what, got[0].Problem)
	return got[0]
}

// TestEverythingAtOnce has a slot, a backup by hand, a cleanup and a verification meet on one source (F36).
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	at := small
	at.temporal = testenv.NewTemporal(t)
	at.schedules = "nightly: {kind: full, daily: \"02:30\"}\n    retention: {keep_last: 3, database_days: 0, files_days: 0}"
	s := newSite(t, at)
	s.waitForSchedules()
	ids := func() (ids []string) {
		for _, b := range list[remora.Backup](s, "history", s.source(), "--status", "completed", "--limit", "0") {
			ids = append(ids, b.ID)
		}
		return ids
	}
	for range 4 {
		s.must("backup", s.source())
	}
	old := ids()

	// The slot is first: the backup by hand is refused, and says for whom. The others go on beside it.
	before := s.triggered()
	release := s.lockTable(t, "users")
	s.trigger()
	s.waitForDump()
	out := s.atOnce([]int{3, 0, 0}, []string{"backup", s.source()}, []string{"cleanup"}, []string{"verify", old[0], "--data"})
	require.Contains(t, out[0], "schedule nightly")
	require.Contains(t, out[1], "1 backup was deleted, 3 kept")
	release()
	s.waitForSlot(before, remora.Completed, "that was first")

	// The backup by hand is first: the slot waits for it, and is taken then.
	before = s.triggered()
	release = s.lockTable(t, "users")
	s.must("backup", s.source(), "--detach", "--name", "by hand")
	s.waitForDump()
	s.trigger()
	s.must("cleanup")
	require.Len(t, s.triggered(), len(before), "it waits")
	release()
	s.waitForSlot(before, remora.Completed, "that came second")
	require.Equal(t, remora.Completed, list[remora.Backup](s, "history", "--status", "completed", "--limit", "2")[1].Status)

	// Nobody is first. The newest good backup stays whatever happens.
	before = s.triggered()
	by := ids()
	until(time.Now(), 1, 55)
	s.atOnce([]int{0, -3, 0, -4}, []string{"schedule", "trigger", s.source() + "/nightly"}, []string{"backup", s.source()}, []string{"cleanup"}, []string{"verify", by[len(by)-1], "--data"})
	s.waitForSlot(before, remora.Completed, "with everybody else")
	require.Contains(t, ids(), by[0])
	for _, id := range ids() {
		s.must("verify", id, "--data")
	}
	for _, b := range list[remora.Backup](s, "history", s.source(), "--limit", "0") {
		require.Equal(t, remora.Completed, b.Status, b.Problem)
	}
	good := s.read()
	s.damage()
	s.must("restore", "latest", "--force")
	s.requireEqual(good, s.read(), "after the restore")
	s.must("accept", s.source())
}

// atOnce runs commands beside each other and gives what they said. Each must end with its code.
func (s *site) atOnce(codes []int, commands ...[]string) []string {
	s.t.Helper()
	said, got := make([]string, len(commands)), make([]int, len(commands))
	var running sync.WaitGroup
	for i, args := range commands {
		running.Go(func() { said[i], got[i] = s.remora(args...) })
	}
	running.Wait()
	for i, code := range codes {
		if code < 0 && got[i] != 0 { // this one, or well
			code = -code
		}
		require.Equal(s.t, max(code, 0), got[i], "remora %s\n%s", strings.Join(commands[i], " "), said[i])
	}
	return said
}

// TestMailServerIsAway while a slot fails: that takes no longer, and the mail arrives once it is back (F45).
func TestMailServerIsAway(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.2:0") // an address that nobody else takes ports of
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	at := small
	at.temporal = testenv.NewTemporal(t)
	at.more = fmt.Sprintf("notify: {email: {to: ops@example.com, from: backup@example.com, smtp: {server: %q, tls: none}}}\n", address)
	s := newSite(t, at)

	s.waitForSchedules()
	s.exec("CREATE TABLE merged (id INT) ENGINE = MERGE UNION = ()") // which cannot be backed up
	before, began := s.triggered(), time.Now()
	s.trigger()
	failed := s.waitForSlot(before, remora.Failed, "that cannot be well")
	t.Logf("the slot failed within %s, with nobody to tell: %s", time.Since(began).Round(100*time.Millisecond), failed.Problem)
	require.Less(t, time.Since(began), 30*time.Second)
	out, code := s.remora("notify", "test")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "Not delivered to ops@example.com: ")
	require.Contains(t, out, "refused")

	server := &mailbox{}
	server.serve(t, address)
	testenv.Wait(t, 2*time.Minute, "the mail about the slot", func() error {
		if len(server.mails(s.source()+": backup failed")) == 0 {
			return fmt.Errorf("it has: %v", server.mails(""))
		}
		return nil
	})
	s.exec("DROP TABLE merged")
	before = s.triggered()
	s.trigger()
	s.waitForSlot(before, remora.Completed, "the next one")

	require.Len(t, server.mails(s.source()+": backup failed"), 1, "it is told once")

	require.Contains(t, s.must("notify", "test"), "Delivered to ops@example.com.")
	require.Len(t, server.mails("test"), 1)
	server.refuse(&smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"})
	out, code = s.remora("notify", "test")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "Not delivered to ops@example.com: ")
	require.Contains(t, out, "no such mailbox")
}

// mailbox is a mail server that keeps what it gets.
type mailbox struct {
	mu  sync.Mutex
	got []string
	no  error // what it answers to an address
}

func (m *mailbox) serve(t *testing.T, address string) {
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return delivery{m}, nil }))
	server.Domain = "mail.test"
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() { _ = server.Close(); _ = l.Close(); serving.Wait() })
}

func (m *mailbox) refuse(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.no = err
}

// mails are those with a certain subject.
func (m *mailbox) mails(about string) (found []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mail := range m.got {
		if strings.Contains(mail, "\r\nSubject: [remora] "+about) {
			found = append(found, mail)
		}
	}
	return found
}

type delivery struct{ m *mailbox }

func (d delivery) Mail(string, *smtp.MailOptions) error { return nil }
func (d delivery) Reset()                               {}
func (d delivery) Logout() error                        { return nil }

func (d delivery) Rcpt(string, *smtp.RcptOptions) error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	return d.m.no
}

func (d delivery) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.got = append(d.m.got, string(raw))
	return err
}
