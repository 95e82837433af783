package standalone

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// childConfig says what a child is.
type childConfig struct {
	Name, Path string
	Args, Env  []string
	Log        string
	// Grace is how long it may take to end after SIGTERM.
	Grace time.Duration
	Hurry <-chan struct{}
	// Ready returns nil once the child that was started at that time does its work.
	Ready  func(ctx context.Context, started time.Time) error
	Report func(Event)
}

// child is a process that is started again when it ends by itself.
type child struct {
	cfg     childConfig
	log     *logFile
	leave   chan struct{} // closed by stop
	leaving sync.Once
	watched sync.WaitGroup
	process *process // the last one that was started; of whoever supervises, until stop
}

func newChild(cfg childConfig) *child {
	return &child{cfg: cfg, leave: make(chan struct{})}
}

// process is one life of a child.
type process struct {
	cmd   *exec.Cmd
	began time.Time
	done  chan struct{} // closed when it is gone; err says how
	err   error
}

// launch starts the child once. The kernel kills it when the thread that started it ends, so the goroutine that starts
// it keeps its thread and stays in it until the child is gone (S31). It is the leader of a process group of its own:
// Ctrl-C on the terminal reaches only us, and we decide who stops first.
func (c *child) launch() (*process, error) {
	if c.log == nil {
		c.log = openLog(c.cfg.Log, mostLog)
	}
	c.log.forget()
	p := &process{cmd: exec.Command(c.cfg.Path, c.cfg.Args...), began: time.Now(), done: make(chan struct{})} //nolint:noctx // it outlives every context but ours
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = c.cfg.Env, c.log, c.log
	p.cmd.WaitDelay = 2 * time.Second // for children of the child that keep the pipe
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	c.process = p
	return p, nil
}

// errNotReady says that a child runs, and has not begun its work within the time given.
var errNotReady = errors.New("it does not answer yet")

// start brings the child up for the first time and waits until it is ready. When it ends instead, the Problem tells
// its last words; when it runs without becoming ready within limit, the Problem wraps errNotReady.
func (c *child) start(ctx context.Context, limit time.Duration) error {
	problem := &remora.Problem{Op: "start " + c.cfg.Name, Kind: remora.Unavailable, Subject: c.cfg.Path, Hint: "Its log is " + c.cfg.Log}
	p, err := c.launch()
	if err != nil {
		problem.Err = err
		return problem
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	switch err := c.await(ctx, p); {
	case err == nil:
		return nil
	case errors.Is(err, errEnded):
		problem.Err = errors.New(c.lastWords(p, 3))
		if code := p.cmd.ProcessState.ExitCode(); code == exitUsage {
			problem.Kind = remora.Invalid
		}
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		problem.Err = fmt.Errorf("%w after %s: %w", errNotReady, limit, err)
	default:
		problem.Kind, problem.Err, problem.Hint = remora.Cancelled, errors.New("interrupted"), ""
	}
	return problem
}

// exitUsage is how our programs end when their configuration makes no sense.
const exitUsage = 2

// errEnded says that the child is gone.
var errEnded = errors.New("it ended")

// await returns when the child is ready, has ended, or ctx is over.
func (c *child) await(ctx context.Context, p *process) error {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := c.cfg.Ready(ctx, p.began)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return errEnded
		case <-c.leave:
			return err
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// lastWords is how a child ended, with the last lines of its log where it ended by itself.
func (c *child) lastWords(p *process, lines int) string {
	if p.err == nil {
		return "it ended"
	}
	how := "it ended with " + p.err.Error()
	if last := c.log.last(lines); p.cmd.ProcessState.Exited() && len(last) > 0 {
		how += ": " + strings.Join(last, " | ")
	}
	return remora.OneLine(how)
}

// longLife is how long a child must have lived for its next end to be met with a short pause again.
const longLife = time.Minute

// supervise starts the child again whenever it ends, after a pause that grows from one to thirty seconds, until
// stop; when ctx ends, it no longer waits for a new one to be ready.
func (c *child) supervise(ctx context.Context) {
	c.watched.Go(func() {
		pause, why := time.Second, ""
		for {
			if p := c.process; why == "" {
				select {
				case <-p.done:
				case <-c.leave:
					return
				}
				why = c.lastWords(p, 1)
				if time.Since(p.began) > longLife {
					pause = time.Second
				}
			}
			c.cfg.Report(Event{What: Ended, Program: c.cfg.Name, Why: why, Next: pause})
			select {
			case <-time.After(pause):
			case <-c.leave:
				return
			}
			pause = min(2*pause, 30*time.Second)
			why = ""
			p, err := c.launch()
			if err != nil {
				why = "it cannot be started: " + remora.OneLine(err.Error())
				continue
			}
			waiting, cancel := context.WithTimeout(ctx, startTime)
			if c.await(waiting, p) == nil {
				c.cfg.Report(Event{What: Back, Program: c.cfg.Name})
			}
			cancel()
		}
	})
}

// stop asks the child to end, waits for its grace, kills it then, and returns when it is gone. Hurry kills at once.
func (c *child) stop() {
	c.leaving.Do(func() { close(c.leave) })
	c.watched.Wait() // nobody starts it again from here on
	p := c.process
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case <-p.done:
	case <-time.After(c.cfg.Grace):
	case <-c.cfg.Hurry:
	}
	_ = p.cmd.Process.Signal(os.Kill)
	<-p.done
	c.log.close()
}
