package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// actor is the variable that makes this test binary play a program of its own.
const actor = "REMORA_STANDALONE_TEST_ACTOR"

func TestMain(m *testing.M) {
	switch os.Getenv(actor) {
	case "worker":
		os.Exit(playWorker())
	case "up":
		os.Exit(playUp())
	}
	os.Exit(testenv.Run(m))
}

// playWorker takes work from the queues of remora-worker, and does none. The real one needs a repository and a database,
// which say nothing about supervision.
func playWorker() int {
	if os.Getenv("FAKE_WORKER_REFUSES") != "" {
		fmt.Fprintln(os.Stderr, "remora-worker: read the configuration: it makes no sense")
		return exitUsage
	}
	c, err := client.Dial(client.Options{HostPort: os.Getenv("FAKE_WORKER_ADDRESS"), Namespace: "remora"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer c.Close()
	for _, queue := range []string{remora.Queue, remora.DataQueue} {
		w := worker.New(c, queue, worker.Options{DisableRegistrationAliasing: true})
		w.RegisterActivity(playActivity)
		w.RegisterWorkflow(playWorkflow)
		if err := w.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer w.Stop()
	}
	ask := make(chan os.Signal, 1)
	signal.Notify(ask, syscall.SIGTERM)
	<-ask
	if os.Getenv("FAKE_WORKER_HANGS") != "" {
		<-make(chan struct{})
	}
	// The last words must be heard: Temporal has to be there still.
	_, err = c.WorkflowService().DescribeNamespace(context.Background(), &workflowservice.DescribeNamespaceRequest{Namespace: "remora"})
	fmt.Fprintln(os.Stderr, "handed over, Temporal says:", err)
	return 0
}

// playUp is `remora up` as a process that a test may kill.
func playUp() int {
	err := Run(context.Background(), Config{
		Address: os.Getenv("FAKE_WORKER_ADDRESS"), Namespace: "remora", State: os.Getenv("FAKE_UP_STATE"), ConfigFile: "/etc/remora/remora.yaml",
		Getenv: os.Getenv, Report: func(e Event) {
			if e.What == Up {
				fmt.Fprintln(os.Stdout, "up")
			}
		},
	})
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// site is a machine for one test.
type site struct {
	t      *testing.T
	cfg    Config
	events chan Event
	cancel context.CancelFunc
	hurry  chan struct{}
	ended  chan error
}

func newSite(t *testing.T) *site {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	port := freePort(t)
	address := "127.0.0.1:" + strconv.Itoa(port)
	t.Setenv(actor, "worker")
	t.Setenv("FAKE_WORKER_ADDRESS", address)
	t.Setenv(TemporalVariable, temporalBinary(t))
	t.Setenv(WorkerVariable, self)
	s := &site{t: t, events: make(chan Event, 100), hurry: make(chan struct{})}
	s.cfg = Config{
		Address: address, Namespace: "remora", State: filepath.Join(t.TempDir(), "state"), ConfigFile: "/etc/remora/remora.yaml",
		Getenv: os.Getenv, Report: func(e Event) { s.events <- e }, Hurry: s.hurry,
	}
	return s
}

// temporalBinary is the server that the tests of this clone use.
func temporalBinary(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(testenv.Root(t), "tools", "build-tool"), "temporal").Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// freePort finds a port whose neighbour 1000 higher is free too.
func freePort(t *testing.T) int {
	t.Helper()
	for port := 13000 + os.Getpid()%5000; port < 30000; port += 7 {
		if (&house{host: "127.0.0.1", port: port, uiPort: port + 1000}).free(t.Context()) == nil {
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func (s *site) up() Running {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s.cancel, s.ended = cancel, ended
	go func() { ended <- Run(ctx, s.cfg) }()
	s.t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			ended <- err
		case <-time.After(time.Minute):
			s.t.Error("it did not stop")
		}
	})
	return *s.wait(Up, "").Running
}

// down stops everything and returns what Run returned.
func (s *site) down() error {
	s.t.Helper()
	s.cancel()
	s.wait(Stopped, "")
	err := <-s.ended
	s.ended <- err // for the clean-up
	return err
}

func (s *site) wait(what Happening, program string) Event {
	s.t.Helper()
	for limit := time.After(90 * time.Second); ; {
		select {
		case e := <-s.events:
			if e.What == what && e.Program == program {
				return e
			}
		case err := <-s.ended:
			s.ended <- err
			s.t.Fatalf("it ended while the test waited for %s: %v", what, err)
		case <-limit:
			s.t.Fatalf("waited in vain for %s %s", what, program)
		}
	}
}

func (s *site) log(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.cfg.State, "log", name+".log"))
	require.NoError(s.t, err)
	return string(text)
}

// children finds the processes that were started with this state or by this test, by their parent.
func children(t *testing.T, parent int) map[string]int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ps", "-eo", "pid=,ppid=,args=").Output()
	require.NoError(t, err)
	found := map[string]int{}
	for line := range strings.SplitSeq(string(out), "\n") {
		f := strings.Fields(line)
		if len(f) < 3 || f[1] != strconv.Itoa(parent) {
			continue
		}
		pid, err := strconv.Atoi(f[0])
		require.NoError(t, err)
		switch {
		case strings.Contains(line, "start-dev") && strings.Contains(line, "state/temporal"):
			found[temporalName] = pid
		case strings.Contains(line, "--config /etc/remora/remora.yaml"):
			found[workerName] = pid
		}
	}
	return found
}

func (s *site) ask(question func(context.Context, client.Client) error) error {
	return (&house{cfg: s.cfg}).ask(context.Background(), question)
}

func TestUpStartsSupervisesAndStopsInOrder(t *testing.T) {
	s := newSite(t)
	if s.cfg.Log == nil {
		s.cfg.Log = quiet()
	}
	running := s.up()
	require.True(t, running.WorkerReady)
	require.Regexp(t, `^[0-9]+\.[0-9]+`, running.ServerVersion)
	require.Equal(t, fmt.Sprintf("http://%s/namespaces/remora/workflows", uiAddress(t, s.cfg.Address)), running.UI)

	// The namespace keeps its histories for 90 days.
	require.NoError(t, s.ask(func(ctx context.Context, c client.Client) error {
		found, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: "remora"})
		require.Equal(t, retention, found.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration())
		return err
	}))
	// A workflow that waits survives the death of the server.
	require.NoError(t, s.ask(func(ctx context.Context, c client.Client) error {
		_, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "op/shop", TaskQueue: "nobody"}, "waits")
		return err
	}))

	for _, program := range []string{temporalName, workerName} {
		before := children(t, os.Getpid())[program]
		require.NotZero(t, before)
		require.NoError(t, syscall.Kill(before, syscall.SIGKILL))
		ended := s.wait(Ended, program)
		require.Equal(t, "it ended with signal: killed", ended.Why)
		require.Equal(t, time.Second, ended.Next)
		s.wait(Back, program)
		after := children(t, os.Getpid())[program]
		require.NotZero(t, after)
		require.NotEqual(t, before, after)
	}
	require.NoError(t, s.ask(func(ctx context.Context, c client.Client) error {
		_, err := c.DescribeWorkflowExecution(ctx, "op/shop", "")
		return err
	}))

	require.NoError(t, s.down())
	require.Empty(t, children(t, os.Getpid()))
	require.Contains(t, s.log(workerName), "handed over, Temporal says: <nil>")
	for _, name := range []string{temporalName, workerName} {
		info, err := os.Stat(filepath.Join(running.Logs, name+".log"))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}

	// And up again over the same state.
	s.up()
	require.NoError(t, s.ask(func(ctx context.Context, c client.Client) error {
		_, err := c.DescribeWorkflowExecution(ctx, "op/shop", "")
		return err
	}))
	t.Run("a second one is refused", func(t *testing.T) {
		err := Run(t.Context(), s.cfg)
		require.Equal(t, remora.Busy, remora.KindOf(err))
		require.ErrorContains(t, err, "another `remora up` (process "+strconv.Itoa(os.Getpid())+") uses it")
	})
	t.Run("one with a state of its own on the same port too", func(t *testing.T) {
		cfg := s.cfg
		cfg.State = t.TempDir()
		err := Run(t.Context(), cfg)
		require.ErrorContains(t, err, "("+cfg.Address+"): another program listens on this port")
	})
}

// S31: a state file belongs to the server version that wrote it.
func TestS31AnotherServerVersionIsRefused(t *testing.T) {
	s := newSite(t)
	dir := filepath.Join(s.cfg.State, "temporal")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, stateFile), nil, 0o600))
	for wrote, says := range map[string]string{"1.2.3\n": "was written by server 1.2.3", "": "was written by server of an unknown version"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, versionFile), []byte(wrote), 0o600))
		err := Run(t.Context(), s.cfg)
		var p *remora.Problem
		require.ErrorAs(t, err, &p)
		require.Equal(t, remora.Invalid, p.Kind)
		require.Contains(t, p.Error(), says)
		require.Contains(t, p.Hint, "move "+dir+" away")
	}
}

// S31: whatever ends us, also SIGKILL, ends the children.
func TestS31ChildrenEndWithUs(t *testing.T) {
	s := newSite(t)
	self, err := os.Executable()
	require.NoError(t, err)
	up := exec.Command(self)
	// The worker that it starts must not play `up` itself.
	script := filepath.Join(t.TempDir(), "remora-worker")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\n"+actor+"=worker exec "+self+" \"$@\"\n"), 0o700))
	up.Env = append(os.Environ(), actor+"=up", WorkerVariable+"="+script, "FAKE_UP_STATE="+s.cfg.State)
	out, err := up.StdoutPipe()
	require.NoError(t, err)
	up.Stderr = os.Stderr
	require.NoError(t, up.Start())
	told := make([]byte, 2)
	_, err = out.Read(told)
	require.NoError(t, err)
	require.Equal(t, "up", string(told))
	born := children(t, up.Process.Pid)
	require.Len(t, born, 2)
	require.NoError(t, up.Process.Kill())
	require.Error(t, up.Wait())
	for name, pid := range born {
		testenv.Wait(t, 10*time.Second, name+" to end", func() error {
			if err := syscall.Kill(pid, 0); err == nil && !zombie(pid) {
				return errors.New("it lives")
			}
			return nil
		})
	}
}

func zombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(text), ") Z ")
}

func TestHurryEndsAWorkerThatHangs(t *testing.T) {
	s := newSite(t)
	t.Setenv("FAKE_WORKER_HANGS", "1")
	s.up()
	s.cancel()
	s.wait(Stopping, "")
	started := time.Now()
	close(s.hurry)
	s.wait(Stopped, "")
	require.Less(t, time.Since(started), drain/2)
	require.Empty(t, children(t, os.Getpid()))
}

func TestProgramsThatDoNotStartAreNamedWithTheirLastWords(t *testing.T) {
	t.Run("worker", func(t *testing.T) {
		s := newSite(t)
		t.Setenv("FAKE_WORKER_REFUSES", "1")
		err := Run(t.Context(), s.cfg)
		var p *remora.Problem
		require.ErrorAs(t, err, &p)
		require.Equal(t, remora.Invalid, p.Kind)
		require.Contains(t, p.Error(), "it ended with exit status 2: remora-worker: read the configuration: it makes no sense")
		require.Contains(t, p.Hint, filepath.Join(s.cfg.State, "log", "worker.log"))
		require.Empty(t, children(t, os.Getpid()), "nothing is left running")
	})
	t.Run("temporal", func(t *testing.T) {
		s := newSite(t)
		fake := filepath.Join(t.TempDir(), "temporal")
		require.NoError(t, os.WriteFile(fake, []byte("#!/bin/sh\n[ \"$1\" = --version ] && echo 'temporal version 9 (Server 9.9, UI 2)' && exit\necho no disk >&2\nexit 1\n"), 0o700))
		t.Setenv(TemporalVariable, fake)
		err := Run(t.Context(), s.cfg)
		require.ErrorContains(t, err, "start temporal ("+fake+"): it ended with exit status 1: no disk")
	})
	t.Run("not temporal", func(t *testing.T) {
		s := newSite(t)
		t.Setenv(TemporalVariable, "/bin/echo")
		require.ErrorContains(t, Run(t.Context(), s.cfg), "ask for the version of Temporal (/bin/echo): its --version names no server")
	})
}

func TestProgramsAreFoundWhereTheErrorSaysItLooked(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, nil, mode))
		return path
	}
	vars := map[string]string{"PATH": filepath.Join(dir, "path") + ":relative:"}
	cfg := Config{Beside: filepath.Join(dir, "beside"), Getenv: func(name string) string { return vars[name] }}

	_, err := find("temporal", TemporalVariable, cfg, temporalHint)
	require.Equal(t, remora.Invalid, remora.KindOf(err))
	require.ErrorContains(t, err, fmt.Sprintf("looked at $REMORA_TEMPORAL (not set), %[1]s/beside/temporal, %[1]s/path/temporal", dir))

	inPath := put("path/temporal", 0o755)
	put("beside/temporal", 0o644) // not executable: passed over
	found, err := find("temporal", TemporalVariable, cfg, temporalHint)
	require.NoError(t, err)
	require.Equal(t, inPath, found)

	beside := put("beside/remora-worker", 0o755)
	put("path/remora-worker", 0o755)
	found, err = find("remora-worker", WorkerVariable, cfg, workerHint)
	require.NoError(t, err)
	require.Equal(t, beside, found)

	for named, says := range map[string]string{
		filepath.Join(dir, "none"):            "no such file or directory",
		dir:                                   "it is a directory",
		filepath.Join(dir, "beside/temporal"): "it is not executable",
	} {
		vars[TemporalVariable] = named
		_, err = find("temporal", TemporalVariable, cfg, temporalHint)
		require.ErrorContains(t, err, "REMORA_TEMPORAL names "+named+": "+says)
	}
}

func TestOnlyLoopbackIsListenedOn(t *testing.T) {
	for address, says := range map[string]string{
		"0.0.0.0:7233":       "listens on this machine alone",
		"10.0.0.5:7233":      "listens on this machine alone",
		"temporal:7233":      "listens on this machine alone",
		"127.0.0.1":          "it is not host:port",
		"127.0.0.1:x":        "it is not host:port",
		"127.0.0.1:65000":    "1000 higher",
		"[::ffff:1.2.3.4]:1": "listens on this machine alone",
	} {
		err := Run(t.Context(), Config{Address: address, Getenv: os.Getenv})
		require.Equal(t, remora.Invalid, remora.KindOf(err), address)
		require.ErrorContains(t, err, says, address)
	}
}

func TestLogsAreBoundedAndNeverStopAChild(t *testing.T) {
	path := filepath.Join(t.TempDir(), "worker.log")
	l := openLog(path, 1000)
	line := strings.Repeat("x", 99) + "\n"
	for range 100 {
		n, err := l.Write([]byte(line))
		require.NoError(t, err)
		require.Equal(t, 100, n)
	}
	for _, name := range []string{path, path + ".1"} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(1000))
	}
	_, err := l.Write([]byte("a\n\nb \nc\n"))
	require.NoError(t, err)
	require.Equal(t, []string{"b", "c"}, l.last(2))
	l.close()

	lost := openLog(filepath.Join(t.TempDir(), "no", "such", "folder"), 1000)
	n, err := lost.Write([]byte("heard all the same\n"))
	require.NoError(t, err)
	require.Equal(t, 19, n)
	require.Equal(t, []string{"heard all the same"}, lost.last(3))
}

func uiAddress(t *testing.T, address string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	return net.JoinHostPort(host, strconv.Itoa(number+1000))
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func playWorkflow(workflow.Context) error { return nil }

func playActivity(context.Context) error { return nil }
