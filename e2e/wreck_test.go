package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// harm is a fault of what a source or its repository stands on: disks, networks, storages, what is stored. It hits a
// phase of a restore.
type harm struct {
	name, phase string
	begin       func()
	fired       func() int
	heal        func()
	// code is how the restore ends: 0 applied, in spite of it; 1 refused, 5 rolled back.
	code int
	says []string // what people read then
}

// suffers restores while something is harmed, and then, when it is healed, without any work by hand: the source is what it
// was, or what the backup holds, the record and the exit code say which, and the application misses nothing.
func (k *torture) suffers(h harm) {
	whole := k.t
	defer func() { k.t, k.app.t = whole, whole }()
	healthy := whole.Run(h.phase+" "+h.name, func(t *testing.T) {
		k.t, k.app.t = t, t
		k.app.tidyUp()
		damaged := k.read().without()
		k.app.mark()

		began := time.Now()
		h.begin()
		out, code := k.remora("restore", "good", "--force")
		took := time.Since(began)
		fired := h.fired()
		h.heal()
		require.Positive(t, fired, "the fault never happened:\n%s", out)
		require.Equal(t, h.code, code, out)
		record := k.recorded(map[int]remora.Outcome{0: remora.OutcomeApplied, 1: remora.OutcomeRefused, 5: remora.OutcomeRolledBack}[code])
		t.Logf("| %s | %s | %s, %.1f s, %d times | %s; %s |", h.name, h.phase, record.Outcome, took.Seconds(), fired, record.Problem, record.Hint)
		require.NoFileExists(t, k.offline)
		if code != 0 {
			k.requireEqual(damaged.uncounted(), k.read().without().uncounted(), "after the restore failed") // a server that crashes forgets numbers it never gave
			k.app.requireStayed("after the restore failed")
			k.requireNothingLeft()
			for _, words := range h.says {
				require.Contains(t, out, words)
				require.Contains(t, record.Problem+"\n"+record.Hint, words)
			}
			k.app.mark()
			k.must("restore", "good", "--force")
		}
		k.requireEqual(k.good.uncounted(), k.read().without().uncounted(), "after the restore that succeeded")
		k.app.requireTurned("after the restore that succeeded")
		k.app.mark()
		k.must("rollback", k.source())
		k.requireEqual(damaged.uncounted(), k.read().without().uncounted(), "after the rollback")
		k.app.requireTurned("after the rollback")
		k.must("accept", k.source())
		k.requireNothingLeft()
		k.must("backup", k.source())
	})
	require.True(whole, healthy, "what follows begins with a healthy source")
}

// What a worker says to MySQL when a restore reaches a phase.
const (
	saysSafety = "WITH CONSISTENT SNAPSHOT" // R1
	saysLoad   = "LOAD DATA LOCAL INFILE"   // R3
)

// saysSwitch is what it says in R4, and again in R6.
func (s *site) saysSwitch() string { return "`" + s.schema + "`.`users` TO `_remora" }

// throughWire has the worker reach its database through a wire.
func (s *site) throughWire() *testenv.Wire {
	wire := testenv.NewWire(s.t, s.mysql.Address)
	s.stopWorker()
	s.replaceConfig(s.mysql.Address, wire.Address)
	s.startWorker()
	return wire
}

// TestWreckedNetworks is TestTorture with a storage that refuses, breaks off, loses its answers and goes away, and a way to
// MySQL that is cut, goes silent and loses an answer (F18, F22 to F25).
func TestWreckedNetworks(t *testing.T) {
	t.Parallel()
	k, faults := newStormy(t, testenv.NewMySQL(t))
	k.choose(faults,
		choice{"R1 safety", 0, "storage is full (507)"},
		choice{"R1 safety", 1, "every second answer of the storage is lost"},
		choice{"R1 safety", 2, "storage is away"},
		choice{"R2+3 stage", 0, "storage is away"},
		choice{"R2+3 stage", 0, "connections to MySQL are cut after 20 kB"},
		choice{"R2+3 stage", 0, "connections to MySQL go silent"},
		choice{"R2+3 stage", 1, "503 and 500 on 30 % of the calls"},
		choice{"R2+3 stage", 1, "every third answer of the storage is cut"},
		choice{"R4 switch", 1, "MySQL's answer to the RENAME is lost"},
		choice{"R6 way back", 1, "connections to MySQL are cut after 20 kB"},
	)
}

// newStormy makes a site whose repository is behind a storm and whose database is behind a wire, and the faults of both.
func newStormy(t *testing.T, server *testenv.MySQLServer) (*torture, []fault) {
	t.Helper()
	storage := testenv.NewMinIO(t)
	storm := testenv.NewStorm(t, storage.Address)
	at := tortured
	at.mysql, at.bucket = server, storage.Bucket()
	at.bucket.Endpoint = storm.Address
	k := newTorture(t, at)
	k.environ = []string{"DB_BACKUP_TIMEOUT=10"} // what is silent for so many seconds is given up
	return k, networkFaults(storm, k.throughWire())
}

// stored tells whether something is read from the storage in a phase, or written there.
func stored(p phase) bool {
	return strings.HasSuffix(p.activity, remora.CaptureVerb) || strings.HasSuffix(p.activity, remora.StageVerb) ||
		strings.HasPrefix(p.activity, "repository.")
}

// written tells whether something is written there.
func written(p phase) bool { return stored(p) && !strings.HasSuffix(p.activity, remora.StageVerb) }

// networkFaults are those of the ways to the storage and to MySQL. Each lasts until the step was tried again or is over.
func networkFaults(storm *testenv.Storm, wire *testenv.Wire) []fault {
	// felt waits until it has happened.
	felt := func(at step, fired func() int, heal func()) (func(), error) {
		for fired() == 0 {
			select {
			case <-at.command:
				heal()
				return nil, errors.New("it never happened")
			case <-time.After(2 * time.Millisecond):
			}
		}
		return heal, nil
	}
	weather := func(now func() testenv.Weather) func(*torture, step) (func(), error) {
		return func(_ *torture, at step) (func(), error) {
			storm.Begin(now())
			return felt(at, func() int { return int(storm.Fired()) }, func() { storm.Begin(nil) })
		}
	}
	breaks := func(b func(k *torture) testenv.Break) func(*torture, step) (func(), error) {
		return func(k *torture, at step) (func(), error) {
			wire.Begin(b(k))
			return felt(at, wire.Fired, wire.Mend)
		}
	}
	full := testenv.Answer(http.StatusInsufficientStorage, "XMinioStorageFull")
	slow := testenv.Answer(http.StatusServiceUnavailable, "SlowDown")
	broken := testenv.Answer(http.StatusInternalServerError, "InternalError")
	third := func(n int64, _ *http.Request) testenv.Fault {
		return []testenv.Fault{slow, nil, nil, broken, nil, nil, slow, nil, nil, nil}[n%10]
	}
	inMySQL := func(p phase) bool { return strings.HasPrefix(p.activity, string(remora.Database)) }
	return []fault{
		{id: "F18", name: "storage is full (507)", at: written, strike: weather(func() testenv.Weather { return testenv.Always(full, "PUT") })},
		{id: "F22", name: "storage is away", at: stored, strike: weather(func() testenv.Weather { return testenv.Always(testenv.Reset) })},
		{id: "F23", name: "503 and 500 on 30 % of the calls", harmless: true, at: stored, strike: weather(func() testenv.Weather { return third })},
		{id: "F24", name: "every third answer of the storage is cut", harmless: true, at: stored, strike: weather(func() testenv.Weather { return testenv.Every(3, testenv.Cut, "GET") })},
		{id: "F25", name: "every second answer of the storage is lost", harmless: true, at: written, strike: weather(func() testenv.Weather { return testenv.Every(2, testenv.Lose, "PUT", "DELETE") })},
		{id: "F24", name: "connections to MySQL are cut after 20 kB", at: inMySQL, strike: breaks(func(*torture) testenv.Break { return testenv.Break{After: 20_000, Times: 2} })},
		{id: "F24", name: "connections to MySQL go silent", at: inMySQL, strike: breaks(func(*torture) testenv.Break { return testenv.Break{Stall: true, Times: 2} })},
		{id: "F24", name: "the storage goes silent for a call", harmless: true, at: stored, strike: weather(func() testenv.Weather { return testenv.First(1, testenv.Stall) })},
		{
			id: "F25", name: "MySQL's answer to the RENAME is lost", harmless: true, at: func(p phase) bool { return p.activity == remora.Database.Activity(remora.SwitchVerb) },
			strike: breaks(func(k *torture) testenv.Break { return testenv.Break{When: k.saysSwitch(), Lose: true, Times: 1} }),
		},
	}
}

// TestWreckedBackups restores a backup of which something stored is flipped, cut, exchanged or gone, and one whose password
// is wrong or lost: nothing live is touched, the backup is corrupt, and the next one is whole (F28, F30).
func TestWreckedBackups(t *testing.T) {
	s := newSite(t, small)
	var last []byte
	for name, how := range map[string]func(text []byte) []byte{ // cut and deleted: internal/repository
		"F28 flipped":   func(text []byte) []byte { text[len(text)/2] ^= 1; return text },
		"F28 exchanged": func(text []byte) []byte { last, text = text, last; return slices.Clip(append([]byte{}, text...)) },
	} {
		healthy := t.Run(name, func(t *testing.T) {
			s.must("backup", s.source())
			id := list[remora.Backup](s, "history", s.source())[0].ID
			s.damage()
			before := s.read()
			require.Positive(t, s.spoil(how))
			out, code := s.remora("restore", id, "--force")
			require.Contains(t, []int{1, 5, 6}, code, out)
			t.Logf("| %s | R2 | %d | %s", name, code, out)
			s.requireEqual(before, s.read(), "after the restore failed")
			s.requireNothingLeft()
			testenv.Wait(t, time.Minute, "the backup to be known as corrupt", func() error {
				if out := s.must("show", id); !strings.Contains(out, "corrupt") {
					return errors.New(out)
				}
				return nil
			})
			// What else is lost is found by the next backup that shares it, and stored by the one after that.
			whole := func(args ...string) {
				if out, code := s.remora(args...); code != 0 {
					require.Equal(t, 6, code, out)
					require.Contains(t, out, "it stores what is lost again")
					s.must(args...)
				}
			}
			whole("backup", s.source())
			now := s.read()
			s.exec("DELETE FROM users WHERE id < 50")
			whole("restore", "latest", "--force")
			s.requireEqual(now.uncounted(), s.read().uncounted(), "after the next restore")
			s.must("accept", s.source())
			s.requireNothingLeft()
			s.repair()
		})
		require.True(t, healthy)
	}
}

// repair undoes damage, so that it can be done again.
func (s *site) repair() {
	s.exec("ALTER TABLE orders ADD COLUMN note TEXT AFTER weight", "DROP TABLE orders_new",
		"CREATE VIEW heavy AS SELECT orders.id, loud(users.name) AS name FROM orders JOIN users ON users.id = orders.user_id WHERE weight > 1",
		"CREATE TRIGGER no_weight BEFORE INSERT ON orders FOR EACH ROW SET NEW.weight = COALESCE(NEW.weight, 0)")
	require.NoError(s.t, os.MkdirAll(filepath.Join(s.storage, "receipts", "2026"), 0o755))
}

// TestWreckedWayBack fails the live check after the switch, and kills MySQL while the switch is undone: it is tried again
// until MySQL is back, people see that it is, and the source is as it was (F38, F39).
func TestWreckedWayBack(t *testing.T) {
	at := small
	at.mysql = testenv.NewMySQL(t)
	s := newSite(t, at)
	wire := s.throughWire()
	good := s.read()
	s.must("backup", s.source())
	s.damage()
	before := s.read()
	s.stopWorker()
	const undo, check = "    # undo_window: 24h", "    checks: [{sql: \"SELECT COUNT(*) > 100000 FROM users\"}]\n"
	s.replaceConfig(undo, check+undo)
	s.startWorker()
	turns, killed := 0, make(chan struct{})
	wire.Begin(testenv.Break{When: s.saysSwitch(), Do: func() {
		if turns++; turns == 2 {
			at.mysql.Kill(t)
			close(killed)
		}
	}})
	s.must("restore", "latest", "--force", "--detach")
	<-killed
	testenv.Wait(t, time.Minute, "people to see that the way back fails", func() error {
		if out := s.must("status"); !strings.Contains(out, "attempt ") {
			return errors.New(out)
		}
		return nil
	})
	t.Logf("| F38 MySQL is killed | R6 | %s", s.must("status"))
	safety := list[remora.Backup](s, "history", s.source(), "--limit", "0")
	require.Len(t, safety, 2)
	require.Regexp(t, safety[0].ID+` .* keep `, s.must("cleanup", "--dry-run"), "the safety backup stays")
	at.mysql.Restart(t)
	var record remora.Restore
	testenv.Wait(t, 2*time.Minute, "the way back to end", func() error {
		record = list[remora.Restore](s, "restores", s.source())[0]
		if record.Outcome != remora.OutcomeRolledBack {
			return errors.New(string(record.Outcome))
		}
		return nil
	})
	require.Contains(t, record.Problem, "its first column is not true")
	require.NotEmpty(t, record.SafetyBackup)
	s.requireEqual(before, s.read(), "after the way back")
	s.requireNothingLeft()
	t.Logf("| F39 the check after the switch fails | R5 | %s | %s; %s |", record.Outcome, record.Problem, record.Hint)

	wire.Mend()
	s.stopWorker()
	s.replaceConfig(check, "")
	s.startWorker()
	s.must("restore", "latest", "--force")
	s.requireEqual(good.uncounted(), s.read().uncounted(), "after the next restore")
	s.must("accept", s.source())
	s.must("backup", s.source())
	s.requireNothingLeft()
}

// TestWreckedKeys restores where the password of the repository is wrong, and where it is lost (F30).
func TestWreckedKeys(t *testing.T) {
	s := newSite(t, small)
	good := s.read()
	s.must("backup", s.source())
	s.damage()
	before := s.read()
	password := s.onlyFile("*.password")
	wire := s.throughWire()
	right, err := os.ReadFile(password)
	require.NoError(t, err)
	for name, spoil := range map[string]func() error{
		"wrong": func() error { return os.WriteFile(password, []byte("wrong\n"), 0o600) },
		"lost":  func() error { return os.Remove(password) },
	} {
		t.Run(name, func(t *testing.T) {
			hit, killed := make(chan error), make(chan struct{})
			wire.Begin(testenv.Break{When: saysLoad, Times: 1, Do: func() { hit <- spoil(); <-killed }})
			s.must("restore", "latest", "--force", "--detach")
			require.NoError(t, <-hit)
			s.killWorker() // one that has the repository open goes on with it
			close(killed)
			s.startWorker()
			require.Error(t, s.worker.Wait(), "a worker that cannot open the repository does not begin")
			out, code := s.remora("restore", "latest", "--force")
			require.NotZero(t, code)
			require.Contains(t, out, "password")
			said, err := os.ReadFile(s.log.Name())
			require.NoError(t, err)
			require.Contains(t, string(said), "remora-worker: ")
			_, said, _ = bytes.Cut(said, []byte("remora-worker: "))
			t.Logf("| F30 the password is %s | R3 | the restore waits | %s and: %s |", name, out, said)
			s.requireEqual(before, s.read(), "with a password that is "+name)

			require.NoError(t, os.WriteFile(password, right, 0o600))
			require.NoError(t, s.log.Truncate(0))
			s.startWorker()
			s.recorded(remora.OutcomeApplied)
			s.requireEqual(good.uncounted(), s.read().uncounted(), "the restore went on")
			s.must("rollback", s.source())
			s.must("accept", s.source())
			s.requireEqual(before, s.read(), "after the rollback")
			s.requireNothingLeft()
		})
	}
	s.must("restore", "latest", "--force")
	s.requireEqual(good.uncounted(), s.read().uncounted(), "after the next restore")
	s.must("accept", s.source())
	s.must("backup", s.source())
	s.requireNothingLeft()
}

// TestWreckedPutAway damages what the repository holds of the side that is put away: it is not discarded before it is
// stored again (F28, S1).
func TestWreckedPutAway(t *testing.T) {
	s := newSite(t, small)
	s.must("backup", s.source(), "--name", "old")
	s.exec("UPDATE users SET name = HEX(RANDOM_BYTES(40))")
	s.must("backup", s.source())
	before := s.read()
	s.must("restore", "old", "--force")
	require.Positive(t, s.spoil(func(text []byte) []byte { text[len(text)/2] ^= 1; return text }))

	out, code := s.remora("accept", s.source())
	require.Equal(t, 6, code, out)
	require.Contains(t, out, "nothing was discarded")
	t.Logf("| F28 flipped | accept | %d | %s", code, out)
	s.must("accept", s.source())
	s.requireNothingLeft()
	s.must("restore", list[remora.Restore](s, "restores", s.source())[0].PutAwayBackup, "--force")
	s.requireEqual(before.uncounted(), s.read().uncounted(), "what was put away")
	s.must("accept", s.source())
	s.requireNothingLeft()
}

// spoil changes every pack of the repository, or removes it where nothing is left, and counts them.
func (s *site) spoil(how func(text []byte) []byte) (n int) {
	s.t.Helper()
	require.NoError(s.t, filepath.WalkDir(filepath.Join(s.dir, "repository", "p"), func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		n++
		text, err := os.ReadFile(name)
		if text = how(text); err != nil || text == nil {
			return errors.Join(err, os.Remove(name))
		}
		return os.WriteFile(name, text, 0o600)
	}))
	return n
}

// recorded waits until the last restore is on record with an outcome: it may owe that to a repository that was away.
func (s *site) recorded(want remora.Outcome) (record remora.Restore) {
	s.t.Helper()
	testenv.Wait(s.t, time.Minute, "the record of the restore", func() error {
		if record = list[remora.Restore](s, "restores", s.source())[0]; record.Outcome != want {
			return fmt.Errorf("%s, and not %s: %s", record.Outcome, want, record.Problem)
		}
		return nil
	})
	return record
}
