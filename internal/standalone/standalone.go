package standalone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// Config says what to run and where.
type Config struct {
	// Address is where Temporal listens, host:port on the loopback interface; its Web UI listens 1000 ports higher.
	Address string
	// Namespace is the namespace of this installation.
	Namespace string
	// State is the directory for Temporal's state file and the logs; it is made when it is missing.
	State string
	// ConfigFile is handed to the worker.
	ConfigFile string
	// Getenv reads the environment: PATH, REMORA_TEMPORAL and REMORA_WORKER say where the programs are.
	Getenv func(string) string
	// Beside is a directory to look for the programs in first; empty means none.
	Beside string
	// Report is told what happens, one call at a time.
	Report func(Event)
	// Hurry, when it is closed, ends the children at once instead of waiting for them at the end. It may be nil.
	Hurry <-chan struct{}
	// Log takes what the Temporal client has to say; nil means nobody listens.
	Log *slog.Logger
}

// Happening is what an Event tells.
type Happening string

// The happenings.
const (
	// Up: everything runs; the event has Running.
	Up Happening = "up"
	// Ended: a child ended by itself; Next says when it is started again.
	Ended Happening = "ended"
	// Back: the child that ended runs again.
	Back Happening = "back"
	// Stopping and Stopped: the children are being stopped, and are.
	Stopping Happening = "stopping"
	Stopped  Happening = "stopped"
)

// Event is something that a person should see.
type Event struct {
	Time time.Time `json:"time"`
	What Happening `json:"what"`
	// Program is "temporal" or "worker".
	Program string `json:"program,omitempty"`
	// Why is how the program ended.
	Why string `json:"why,omitempty"`
	// Next is the pause before it is started again, in nanoseconds.
	Next    time.Duration `json:"next,omitempty"`
	Running *Running      `json:"running,omitempty"`
}

// Running is where everything is.
type Running struct {
	// UI is the address of Temporal's Web UI, at the runs of this installation.
	UI        string `json:"ui"`
	Address   string `json:"address"`
	Namespace string `json:"namespace"`
	// TemporalBinary and WorkerBinary are the programs that were found, ServerVersion is the Temporal server's version.
	TemporalBinary string `json:"temporal_binary"`
	ServerVersion  string `json:"server_version"`
	WorkerBinary   string `json:"worker_binary"`
	ConfigFile     string `json:"config_file"`
	State          string `json:"state"`
	Logs           string `json:"logs"`
	// WorkerReady is false when the worker runs but does not take work yet; its log says what it waits for.
	WorkerReady bool `json:"worker_ready"`
	PID         int  `json:"pid"`
}

const (
	temporalName = "temporal"
	workerName   = "worker"

	// drain is how long a worker may take to hand over what it does.
	drain = 30 * time.Second
	// settle is how long Temporal may take to write down what it knows.
	settle = 10 * time.Second
	// startTime bounds the first start of Temporal; workerTime how long its worker is waited for.
	startTime  = 60 * time.Second
	workerTime = 60 * time.Second
)

// Run starts Temporal and a worker and keeps them running until ctx ends; then it stops the worker, and after it
// Temporal, and returns nil. An error before everything is up leaves nothing running.
func Run(ctx context.Context, cfg Config) error {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	h, err := prepare(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = h.lock.Close() }() // the kernel frees the lock in any case
	if err := h.start(ctx); err != nil {
		h.stop()
		return err
	}
	h.tell(Event{What: Up, Running: &h.running})
	<-ctx.Done()
	h.tell(Event{What: Stopping})
	h.stop()
	h.tell(Event{What: Stopped})
	return nil
}

// house is everything that runs.
type house struct {
	cfg      Config
	running  Running
	uiPort   int
	port     int
	host     string
	lock     io.Closer
	telling  sync.Mutex
	temporal *child
	worker   *child
}

// prepare finds the programs and takes the state directory, and starts nothing yet.
func prepare(ctx context.Context, cfg Config) (*house, error) {
	h := &house{cfg: cfg}
	if err := h.ports(); err != nil {
		return nil, err
	}
	temporal, err := find("temporal", TemporalVariable, cfg, temporalHint)
	if err != nil {
		return nil, err
	}
	worker, err := find("remora-worker", WorkerVariable, cfg, workerHint)
	if err != nil {
		return nil, err
	}
	if h.lock, err = takeState(cfg.State); err != nil {
		return nil, err
	}
	version, err := pin(ctx, temporal, filepath.Join(cfg.State, "temporal"))
	if err == nil {
		err = h.free(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, h.lock.Close())
	}
	h.running = Running{
		UI:      fmt.Sprintf("http://%s/namespaces/%s/workflows", net.JoinHostPort(h.host, strconv.Itoa(h.uiPort)), cfg.Namespace),
		Address: cfg.Address, Namespace: cfg.Namespace,
		TemporalBinary: temporal, ServerVersion: version, WorkerBinary: worker,
		ConfigFile: cfg.ConfigFile, State: cfg.State, Logs: filepath.Join(cfg.State, "log"), PID: os.Getpid(),
	}
	h.temporal = newChild(childConfig{
		Name: temporalName, Path: temporal, Args: h.temporalArgs(), Env: temporalEnv(cfg.Getenv), Log: h.logFile(temporalName),
		Grace: settle, Hurry: cfg.Hurry, Report: h.tell, Ready: h.temporalReady,
	})
	h.worker = newChild(childConfig{
		Name: workerName, Path: worker, Args: []string{"--config", cfg.ConfigFile}, Env: os.Environ(), Log: h.logFile(workerName),
		Grace: drain, Hurry: cfg.Hurry, Report: h.tell, Ready: h.workerReady,
	})
	return h, nil
}

func (h *house) logFile(name string) string { return filepath.Join(h.running.Logs, name+".log") }

// tell hands events on, one at a time.
func (h *house) tell(e Event) {
	h.telling.Lock()
	defer h.telling.Unlock()
	e.Time = time.Now()
	h.cfg.Report(e)
}

// start brings up Temporal, then the worker, and leaves both supervised.
func (h *house) start(ctx context.Context) error {
	if err := h.temporal.start(ctx, startTime); err != nil {
		return err
	}
	err := h.worker.start(ctx, workerTime)
	h.running.WorkerReady = err == nil
	if err != nil && !errors.Is(err, errNotReady) {
		return err
	}
	h.temporal.supervise(ctx)
	h.worker.supervise(ctx)
	return nil
}

// stop ends the worker, and after it Temporal, so that the last words of the worker are heard.
func (h *house) stop() {
	h.worker.stop()
	h.temporal.stop()
}

// ports reads the address, which must be on this machine: the server has neither passwords nor encryption.
func (h *house) ports() error {
	host, port, err := net.SplitHostPort(h.cfg.Address)
	number, numberErr := strconv.Atoi(port)
	invalid := func(why, hint string) error {
		return remora.Fail(remora.Invalid, "start Temporal", h.cfg.Address, hint, "%s", why)
	}
	const usual = "Correct temporal.address in the configuration; 127.0.0.1:7233 is usual."
	ip := net.ParseIP(host)
	switch {
	case errors.Join(err, numberErr) != nil:
		return invalid("it is not host:port", usual)
	case host != "localhost" && (ip == nil || !ip.IsLoopback()):
		return invalid("a server that `remora up` starts has no password and listens on this machine alone",
			"Set temporal.address to 127.0.0.1:7233; or, where that is a Temporal of your own, start remora-worker instead of `remora up`.")
	case number > 64535:
		return invalid("the Web UI needs the port that is 1000 higher", usual)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	h.host, h.port, h.uiPort = host, number, number+1000
	return nil
}

// free sees that nobody listens on the ports yet.
func (h *house) free(ctx context.Context) error {
	for _, port := range []int{h.port, h.uiPort} {
		address := net.JoinHostPort(h.host, strconv.Itoa(port))
		var listen net.ListenConfig
		listener, err := listen.Listen(ctx, "tcp", address)
		if err == nil {
			_ = listener.Close()
			continue
		}
		problem := &remora.Problem{Op: "start Temporal", Kind: remora.Unavailable, Subject: address, Err: err}
		if errors.Is(err, syscall.EADDRINUSE) {
			problem.Err = errors.New("another program listens on this port")
			problem.Hint = "Stop that program, or choose another port in temporal.address (the Web UI uses the port that is 1000 higher). " +
				"If it is a Temporal of your own, start remora-worker instead of `remora up`."
		}
		return problem
	}
	return nil
}
