package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
// was, or what the backup holds, and the record and the exit code say which.
func (s *site) suffers(h harm) {
	whole := s.t
	defer func() { s.t = whole }()
	healthy := whole.Run(h.phase+" "+h.name, func(t *testing.T) {
		s.t = t
		s.exec("UPDATE orders SET note = CONCAT(COALESCE(note, ''), 'x') WHERE id % 2 = 0")
		s.must("backup", s.source())
		good := s.read().uncounted()
		s.damage()
		before := s.read()

		began := time.Now()
		h.begin()
		out, code := s.remora("restore", "latest", "--force")
		took := time.Since(began)
		fired := h.fired()
		h.heal()
		require.Positive(t, fired, "the fault never happened:\n%s", out)
		require.Equal(t, h.code, code, out)
		record := s.recorded(map[int]remora.Outcome{0: remora.OutcomeApplied, 1: remora.OutcomeRefused, 5: remora.OutcomeRolledBack}[code])
		if code == 0 {
			s.requireEqual(good, s.read().uncounted(), "after the restore")
			t.Logf("| %s | %s | applied, %.1f s, %d times | |", h.name, h.phase, took.Seconds(), fired)
		} else {
			s.requireEqual(before, s.read(), "after the restore failed")
			s.requireNothingLeft()
			for _, words := range h.says {
				require.Contains(t, out, words)
				require.Contains(t, record.Problem+"\n"+record.Hint, words)
			}
			t.Logf("| %s | %s | %s, %.1f s, %d times | %s; %s |", h.name, h.phase, record.Outcome, took.Seconds(), fired, record.Problem, record.Hint)
			s.must("restore", "latest", "--force")
			s.requireEqual(good, s.read().uncounted(), "after the next restore")
		}
		s.must("accept", s.source())
		s.requireEqual(good, s.read().uncounted(), "after accept")
		s.requireNothingLeft()
	})
	require.True(whole, healthy, "what follows begins with a healthy source")
}

// What a worker says to MySQL when a restore reaches a phase.
const (
	saysSafety = "WITH CONSISTENT SNAPSHOT" // R1
	saysStage  = "_remora_fence_"           // R2: what it stages, it begins to fetch
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

// TestWreckedNetworks restores while the storage refuses, breaks off, loses its answers and goes away, and while the way to
// MySQL is cut and loses an answer (F18, F22, F23, F24, F25).
func TestWreckedNetworks(t *testing.T) {
	storm := testenv.NewStorm(t, testenv.MinIO(t).Address)
	at := small
	at.bucket = testenv.MinIO(t).Bucket()
	at.bucket.Endpoint = storm.Address
	s := newSite(t, at)
	wire := s.throughWire()

	// when begins a weather when the worker says something to MySQL.
	when := func(says string, now testenv.Weather) (begin func(), fired func() int, heal func()) {
		begin = func() {
			wire.Begin(testenv.Break{When: says, Times: 1, Do: func() { storm.Begin(now) }})
		}
		return begin, func() int { return int(storm.Fired()) }, func() { wire.Mend(); storm.Begin(nil) }
	}
	storage := func(name, phase, says string, now testenv.Weather, code int, words ...string) {
		h := harm{name: name, phase: phase, code: code, says: words}
		h.begin, h.fired, h.heal = when(says, now)
		s.suffers(h)
	}
	// for a while, and then no more
	forA := func(while time.Duration, f testenv.Fault) testenv.Weather {
		var since time.Time
		return func(n int64, r *http.Request) testenv.Fault {
			if n == 1 {
				since = time.Now()
			}
			if time.Since(since) < while {
				return f
			}
			return nil
		}
	}
	full := testenv.Answer(http.StatusInsufficientStorage, "XMinioStorageFull")
	slow := testenv.Answer(http.StatusServiceUnavailable, "SlowDown")
	broken := testenv.Answer(http.StatusInternalServerError, "InternalError")
	third := func(n int64, _ *http.Request) testenv.Fault {
		return []testenv.Fault{slow, nil, nil, broken, nil, nil, slow, nil, nil, nil}[n%10]
	}
	storage("F18 storage full (507)", "R1", saysSafety, testenv.Always(full, "PUT"), 1, "XMinioStorageFull, 507", "make room in the storage", "Nothing was touched")
	storage("F22 storage down for 5 s", "R1", saysSafety, forA(5*time.Second, testenv.Reset), 0)
	storage("F22 storage down for 5 s", "R2", saysStage, forA(5*time.Second, testenv.Reset), 0)
	storage("F23 503 and 500 on 30 % of the calls", "R1-R3", saysSafety, third, 0)
	storage("F24 every third answer is cut", "R2", saysStage, testenv.Every(3, testenv.Cut, "GET"), 0)
	storage("F25 every second answer is lost", "R1-R3", saysSafety, testenv.Every(2, testenv.Lose, "PUT", "DELETE"), 0)
	storage("F18 storage full (507)", "R3-R4", saysLoad, testenv.Always(full, "PUT"), 0)

	mysql := func(name, phase string, b testenv.Break, code int, words ...string) {
		s.suffers(harm{name: name, phase: phase, code: code, says: words,
			begin: func() { wire.Begin(b) }, fired: wire.Fired, heal: wire.Mend})
	}
	mysql("F24 the connection is cut after 20 kB", "R1", testenv.Break{When: saysSafety, After: 20_000, Times: 1}, 0)
	mysql("F24 the connection is cut after 20 kB", "R3", testenv.Break{When: saysLoad, After: 20_000, Times: 1}, 0)
	mysql("F24 the connection is cut", "R4", testenv.Break{When: s.saysSwitch(), Times: 1}, 0)
	mysql("F25 the answer is lost", "R4", testenv.Break{When: s.saysSwitch(), Lose: true, Times: 1}, 0)
}

// TestWreckedDisks restores while the disks of the files, of the repository and of MySQL fill up (F16, F17).
func TestWreckedDisks(t *testing.T) {
	at := small
	at.mysql, at.files = testenv.NewMySQL(t), 60
	at.mysql.Kill(t)
	rows := testenv.NewDisk(t, at.mysql.Datadir(), 400)
	at.mysql.Restart(t)
	s := newSite(t, at)
	wire := s.throughWire()
	s.stopWorker()
	uploads := testenv.NewDisk(t, filepath.Dir(s.storage), 24)
	stored := testenv.NewDisk(t, filepath.Join(s.dir, "repository"), 100)
	s.startWorker()
	fills := func(name, phase, says string, disk *testenv.Disk, leave int64, code int, words ...string) {
		filled := 0
		s.suffers(harm{name: name, phase: phase, code: code, says: words,
			begin: func() {
				wire.Begin(testenv.Break{When: says, Times: 1, Do: func() { disk.Fill(t, leave); filled++ }})
			},
			fired: func() int { return filled },
			heal:  func() { wire.Mend(); disk.Empty(t) },
		})
	}
	fills("F16 the repository's disk is full", "R1", saysSafety, stored, 0, 1, "free space on the repository's disk", "Nothing was touched")
	fills("F16 the repository's disk is full", "R3-R4", saysLoad, stored, 0, 0)
	fills("F16 the uploads' disk is full before the files are staged", "R3", saysLoad, uploads, 100<<10, 5, "make room for both", "need ", "have ")
	fills("F16 the uploads' disk is full", "R4", s.saysSwitch(), uploads, 0, 0)
	fills("F17 MySQL's disk is full", "R3", saysLoad, rows, 0, 5, "free space on the server's data directory")
	fills("F17 MySQL's disk is full", "R4", s.saysSwitch(), rows, 0, 5)
	s.must("backup", s.source())
}

// TestWreckedBackups restores a backup of which something stored is flipped, cut, exchanged or gone, and one whose password
// is wrong or lost: nothing live is touched, the backup is corrupt, and the next one is whole (F28, F30).
func TestWreckedBackups(t *testing.T) {
	at := small
	at.orders = 20_000
	s := newSite(t, at)
	var last []byte
	for name, how := range map[string]func(text []byte) []byte{
		"F28 flipped": func(text []byte) []byte { text[len(text)/2] ^= 1; return text },
		"F28 cut":     func(text []byte) []byte { return text[:len(text)/2] },
		"F28 deleted": func([]byte) []byte { return nil },
		"F28 exchanged": func(text []byte) []byte {
			last, text = text, last
			return append([]byte{}, text...)
		},
	} {
		t.Run(name, func(t *testing.T) {
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
			// The next backup of the same data is whole.
			s.must("backup", s.source())
			now := s.read()
			s.exec("DELETE FROM users WHERE id < 50")
			s.must("restore", "latest", "--force")
			s.requireEqual(now.uncounted(), s.read().uncounted(), "after the next restore")
			s.must("accept", s.source())
			s.requireNothingLeft()
			s.repair()
		})
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
		if out := s.must("status"); !strings.Contains(out, "refused") {
			return errors.New(out)
		}
		return nil
	})
	t.Logf("| F38 MySQL is killed | R6 | %s", s.must("status"))
	safety := list[remora.Backup](s, "history", s.source(), "--limit", "0")
	require.Len(t, safety, 2)
	out, _ := s.remora("cleanup", "--dry-run")
	require.NotContains(t, out, "delete "+safety[0].ID)
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

// TestWreckedSyncs has a call fail with EIO that makes something durable, in each phase (F20): nothing is taken for durable
// because a second call succeeds, as it does on a broken disk; what the call was for is written anew.
func TestWreckedSyncs(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace makes the calls fail: apt-get install strace")
	}
	s := newSite(t, small)
	wire := s.throughWire()
	log := filepath.Join(s.dir, "strace")
	injected := func() int {
		text, _ := os.ReadFile(log)
		return strings.Count(string(text), "(INJECTED)")
	}
	fails := func(phase, says string, code int, words ...string) {
		var tracer *exec.Cmd
		s.suffers(harm{name: "F20 EIO of fsync or syncfs", phase: phase, code: code, says: words,
			begin: func() {
				wire.Begin(testenv.Break{When: says, Times: 1, Do: func() {
					tracer = exec.Command("strace", "-f", "-p", strconv.Itoa(s.worker.Process.Pid), "-o", log,
						"-e", "trace=fsync,syncfs,fdatasync", "-e", "inject=fsync,syncfs,fdatasync:error=EIO:when=1")
					said, err := tracer.StderrPipe()
					if err == nil {
						err = tracer.Start()
					}
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = bufio.NewReader(said).ReadString('\n') // attached
					go func() { _, _ = io.Copy(io.Discard, said) }()
				}})
			},
			fired: injected,
			heal: func() {
				wire.Mend()
				_ = tracer.Process.Signal(os.Interrupt)
				_ = tracer.Wait()
				require.NoError(t, os.Remove(log))
			},
		})
	}
	fails("R1", saysSafety, 0)
	fails("R3", saysLoad, 0)
	fails("R4", s.saysSwitch(), 0)
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
			hit := make(chan error)
			wire.Begin(testenv.Break{When: saysLoad, Times: 1, Do: func() { hit <- spoil(); <-hit }})
			s.must("restore", "latest", "--force", "--detach")
			require.NoError(t, <-hit)
			s.killWorker() // one that has the repository open goes on with it
			close(hit)
			s.startWorker()
			out, code := s.remora("restore", "latest", "--force")
			require.NotZero(t, code)
			require.Contains(t, out, "password")
			s.waitForEnd(remora.RestoreLane(s.source()))
			s.requireEqual(before, s.read(), "with a password that is "+name)
			s.requireNothingLeft()
			require.NoError(t, os.WriteFile(password, right, 0o600))
			record := list[remora.Restore](s, "restores", s.source())[0]
			t.Logf("| F30 the password is %s | R3 | %s | %s; %s |\n%s", name, record.Outcome, record.Problem, record.Hint, out)
		})
	}
	s.stopWorker()
	s.startWorker()
	s.must("restore", "latest", "--force")
	s.requireEqual(good.uncounted(), s.read().uncounted(), "after the next restore")
	s.must("accept", s.source())
	s.must("backup", s.source())
	s.requireNothingLeft()
}

// waitForEnd waits until no workflow with that id is open.
func (s *site) waitForEnd(id string) {
	s.t.Helper()
	c := s.temporal.Client(s.t)
	testenv.Wait(s.t, 10*time.Minute, id+" to end", func() error {
		d, err := c.DescribeWorkflowExecution(s.t.Context(), id, "")
		if err == nil && d.GetWorkflowExecutionInfo().GetCloseTime() == nil {
			err = fmt.Errorf("%s: %v", d.GetWorkflowExecutionInfo().GetStatus(), d.GetPendingActivities())
		}
		return err
	})
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
