package testenv

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
)

// server is a running server.
type server interface {
	// kill ends it as a crash would, and returns when it is gone; an ended one stays as it is.
	kill()
	// alive returns an error that ends all waiting when the server has ended.
	alive() error
}

// process is a server that cannot outlive this one.
type process struct {
	cmd  *exec.Cmd
	log  string // path of what it printed
	done chan struct{}
}

// serve starts a server that has dir to itself: in a container, or, where image is empty, as a process.
func (e *environment) serve(image, dir string, environ []string, program string, args ...string) (server, error) {
	if image != "" {
		return e.contain(image, dir, environ, program, args...)
	}
	return e.start(environ, filepath.Join(dir, "log"), program, args...)
}

// start runs a program, with more variables in its environment, whose output goes to the end of the file log.
//
// The kernel kills the child when the thread that started it ends. So the goroutine that starts it keeps its thread
// and stays in it until the child is gone.
func (e *environment) start(environ []string, log, program string, args ...string) (server, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(program, args...), log: log, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), environ...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer func() { _ = out.Close() }()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // how it ended is in the log
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running = append(e.running, p)
	return p, nil
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) alive() error {
	select {
	case <-p.done:
		return givenUp{fmt.Errorf("%s ended: %s\n%s", p.cmd.Path, p.cmd.ProcessState, tail(p.log, 4096))}
	default:
		return nil
	}
}

// tail returns the last bytes of a file.
func tail(path string, size int) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error())
	}
	return bytes.ToValidUTF8(text[max(0, len(text)-size):], nil)
}

// freePort finds a loopback port that nobody listens on. It lies below those that the kernel hands out to clients, so
// that it is still free when a killed server comes back to it.
func freePort() (int, error) {
	var err error
	for range 50 {
		port := 12000 + rand.IntN(20000)
		var listener net.Listener
		if listener, err = net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}
