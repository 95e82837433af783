package e2e

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// disks are those that a site stands on, each a small one of its own.
type disks struct{ rows, uploads, stored *testenv.Disk }

// unlogged has a server write no binary log: where that has no room, it waits for some in steps of a minute, or ends itself.
const unlogged = "--disable-log-bin"

// newCramped makes a site on small disks, whose server has more options, and the faults of those disks.
func newCramped(t *testing.T, server *testenv.MySQLServer, options ...string) (*torture, disks, []fault) {
	t.Helper()
	at := small
	at.mysql, at.orders, at.files = server, 20_000, 60
	server.Kill(t)
	on := disks{rows: testenv.NewDisk(t, server.Datadir(), 400)}
	server.Restart(t, options...)
	k := newTorture(t, at)
	k.stopWorker()
	k.app.still(func() {
		on.uploads = testenv.NewDisk(t, filepath.Dir(k.storage), 24)
		on.stored = testenv.NewDisk(t, filepath.Join(k.dir, "repository"), 200)
	})
	k.startWorker()
	return k, on, diskFaults(on)
}

// diskFaults are those of disks that are full, or that fail.
func diskFaults(on disks) []fault {
	fills := func(disk *testenv.Disk) func(*torture, step) (func(), error) {
		return func(k *torture, at step) (func(), error) {
			disk.Fill(k.t, 0)
			k.felt(at)
			return func() { disk.Empty(k.t) }, k.unharmed(at)
		}
	}
	noRoom := func(leave int64) func(*torture, step) (func(), error) {
		return func(k *torture, at step) (func(), error) {
			on.rows.Fill(k.t, leave)
			if k.makeRoom(on.rows, func() bool { return k.noticed(at) == nil }) {
				return nil, nil
			}
			k.felt(at)
			return nil, k.unharmed(at)
		}
	}
	of := func(kind remora.Kind, verbs ...string) func(phase) bool {
		return func(p phase) bool {
			return slices.ContainsFunc(verbs, func(verb string) bool { return p.activity == kind.Activity(verb) })
		}
	}
	filled := of(remora.Files, remora.StageVerb, remora.SwitchVerb)
	grown := of(remora.Database, remora.StageVerb, remora.PrepareVerb, remora.SwitchVerb, remora.DiscardVerb)
	return []fault{
		{id: "F16", name: "the repository's disk is full", at: written, strike: fills(on.stored)},
		{id: "F16", name: "the uploads' disk is full", at: filled, strike: fills(on.uploads)},
		{id: "F17", name: "MySQL's disk has no room for a table", at: grown, strike: noRoom(1 << 20)},
		{id: "F17", name: "MySQL's disk has no room at all", at: grown, strike: noRoom(0)},
		{id: "F20", name: "EIO of fsync or syncfs", at: func(p phase) bool { return written(p) || filled(p) }, cannot: func(*torture) error { return noTracer() }, strike: func(k *torture, at step) (func(), error) {
			sync := k.breakSync()
			for sync.fired() == 0 && k.noticed(at) != nil {
				time.Sleep(2 * time.Millisecond)
			}
			if sync.fired() == 0 {
				return sync.mend, errors.New("nothing was made durable")
			}
			return sync.mend, nil
		}},
	}
}

// makeRoom waits as somebody does who is called when MySQL's disk is full: until over says that it is no matter any more,
// until MySQL has ended, or for ten seconds. Then it makes room, and starts MySQL again where it has to. It tells whether
// MySQL had ended, or still had no room.
func (k *torture) makeRoom(rows *testenv.Disk, over func() bool) (met bool) {
	met = true
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && k.db().PingContext(k.t.Context()) == nil; {
		if over() {
			met = false
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	rows.Empty(k.t)
	if k.db().PingContext(k.t.Context()) != nil {
		k.restartMySQL()
		met = true
	}
	return met
}

// TestWreckedDisks restores while the disks of the files, of the repository and of MySQL fill up (F16, F17).
func TestWreckedDisks(t *testing.T) {
	s, on, _ := newCramped(t, testenv.NewMySQL(t), unlogged)
	wire := s.throughWire()
	fills := func(name, phase, says string, disk *testenv.Disk, leave int64, code int, words ...string) {
		filled := 0
		s.suffers(harm{
			name: name, phase: phase, code: code, says: words,
			begin: func() {
				wire.Begin(testenv.Break{When: says, Times: 1, Do: func() { disk.Fill(t, leave); filled++ }})
			},
			fired: func() int { return filled },
			heal:  func() { wire.Mend(); disk.Empty(t) },
		})
	}
	filled, over, mended := 0, make(chan struct{}), make(chan struct{})
	s.suffers(harm{
		name: "F17 MySQL has no room for a table", phase: "R3", code: 5, says: []string{"is full (error 1114)", "free space on the server's data directory"},
		begin: func() {
			wire.Begin(testenv.Break{When: saysLoad, Times: 1, Do: func() {
				on.rows.Fill(t, 1<<20)
				filled++
				go func() {
					defer close(mended)
					s.makeRoom(on.rows, func() bool {
						select {
						case <-over:
							return true
						default:
							return false
						}
					})
				}()
			}})
		},
		fired: func() int { return filled },
		heal:  func() { close(over); <-mended; wire.Mend() },
	})
	fills("F16 the repository's disk is full", "R1", saysSafety, on.stored, 0, 1, "free space on the repository's disk", "Nothing was touched")
	fills("F16 the repository's disk is full", "R3-R4", saysLoad, on.stored, 0, 0)
	fills("F16 the uploads' disk is full before the files are staged", "R3", saysLoad, on.uploads, 700<<10, 5, "make room for both", "need ", "have ")
	fills("F16 the uploads' disk is full", "R4", s.saysSwitch(), on.uploads, 0, 0)
	s.must("backup", s.source())
}

// brokenSync is a worker whose next call fails that makes something durable.
type brokenSync struct {
	t      *testing.T
	log    string
	tracer *exec.Cmd
	mended chan struct{} // to be closed once; over is, when the tracer has gone
	over   chan struct{}
}

// noTracer says why calls cannot be made to fail on this machine.
func noTracer() error {
	_, err := exec.LookPath("strace")
	if err != nil {
		err = errors.New("strace makes the calls fail: apt-get install strace")
	}
	return err
}

// breakSync breaks the next such call of the worker with EIO.
func (k *torture) breakSync() *brokenSync {
	b := &brokenSync{t: k.t, log: filepath.Join(k.dir, "strace"), mended: make(chan struct{}), over: make(chan struct{})}
	b.tracer = exec.Command("strace", "-f", "-p", strconv.Itoa(k.worker.Process.Pid), "-o", b.log,
		"-e", "trace=fsync,syncfs,fdatasync", "-e", "inject=fsync,syncfs,fdatasync:error=EIO:when=1")
	said, err := b.tracer.StderrPipe()
	if err == nil {
		err = b.tracer.Start()
	}
	if err != nil {
		b.t.Error(err)
		close(b.over)
		return b
	}
	_, _ = bufio.NewReader(said).ReadString('\n') // attached
	go func() { _, _ = io.Copy(io.Discard, said) }()
	go func() { // what fails is the first call of each thread, so it goes when one has failed
		defer close(b.over)
		for b.fired() == 0 {
			select {
			case <-b.mended:
			case <-time.After(2 * time.Millisecond):
				continue
			}
			break
		}
		_ = b.tracer.Process.Signal(os.Interrupt)
		_ = b.tracer.Wait()
	}()
	return b
}

func (b *brokenSync) fired() int {
	text, _ := os.ReadFile(b.log)
	return strings.Count(string(text), "(INJECTED)")
}

// mend lets all calls be.
func (b *brokenSync) mend() {
	close(b.mended)
	<-b.over
	require.NoError(b.t, os.Remove(b.log))
}

// TestWreckedSyncs has a call fail with EIO that makes something durable, in each phase (F20): nothing is taken for durable
// because a second call succeeds, as it does on a broken disk; what the call was for is written anew.
func TestWreckedSyncs(t *testing.T) {
	if err := noTracer(); err != nil {
		t.Skip(err)
	}
	s := newTorture(t, small)
	wire := s.throughWire()
	fails := func(phase, says string, code int, words ...string) {
		var sync *brokenSync
		s.suffers(harm{
			name: "F20 EIO of fsync or syncfs", phase: phase, code: code, says: words,
			begin: func() { wire.Begin(testenv.Break{When: says, Times: 1, Do: func() { sync = s.breakSync() }}) },
			fired: func() int { return sync.fired() },
			heal:  func() { wire.Mend(); sync.mend() },
		})
	}
	fails("R1", saysSafety, 0)
	fails("R3", saysLoad, 0)
	fails("R4", s.saysSwitch(), 0)
}
