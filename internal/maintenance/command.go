package maintenance

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// Command runs programs. They get no input, no shell, and of the environment only PATH, HOME, LANG and what they are
// about: REMORA_SOURCE and REMORA_RUN. They are run again after a crash, and must not mind.
type Command struct {
	Source string
	// Enter and Leave are programs with their arguments.
	Enter, Leave []string
	// Status, where given, ends with 0 when the application is offline and with 1 when it is online.
	Status []string
	// Within bounds each run; 0 means a minute.
	Within time.Duration
}

// Commands takes an application offline and back by programs.
func Commands(c Command) Mode { return command{c} }

type command struct{ c Command }

func (m command) String() string { return "command " + m.c.Enter[0] }

func (m command) Enter(ctx context.Context, run string) error {
	return m.c.Run(ctx, "take the application offline", run, m.c.Enter)
}

func (m command) Leave(ctx context.Context, run string) error {
	return m.c.Run(ctx, "bring the application back", run, m.c.Leave)
}

func (m command) Offline(ctx context.Context, run string) (bool, error) {
	if len(m.c.Status) == 0 {
		return false, nil
	}
	code, err := m.c.run(ctx, "ask whether the application is offline", run, m.c.Status)
	if code == 1 {
		return false, nil
	}
	return err == nil, err
}

// Run runs any program in the same way. One that does not end in time is a problem of kind Stalled.
func (c Command) Run(ctx context.Context, op, run string, argv []string) error {
	_, err := c.run(ctx, op, run, argv)
	return err
}

// run gives the exit code: -1 when there is none.
func (c Command) run(ctx context.Context, op, run string, argv []string) (int, error) {
	c.Within = cmp.Or(c.Within, time.Minute)
	ctx, cancel := context.WithTimeout(ctx, c.Within)
	defer cancel()
	var said last
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stderr = &said
	cmd.Env = []string{"REMORA_SOURCE=" + c.Source, "REMORA_RUN=" + run}
	for _, name := range []string{"PATH", "HOME", "LANG"} {
		cmd.Env = append(cmd.Env, name+"="+os.Getenv(name))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it starts ends with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // a service that it started may keep its output open
	err := cmd.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		return 0, nil
	}
	p := &remora.Problem{Op: op, Kind: remora.Unavailable, Subject: argv[0], Hint: "Run it by hand as the worker's user."}
	code := -1
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		p.Kind, p.Err = remora.Stalled, fmt.Errorf("it did not end within %s and was killed", c.Within)
	case ctx.Err() != nil:
		return code, ctx.Err()
	case ended:
		code = exit.ExitCode()
		p.Err = fmt.Errorf("it ended with %s%s", exit.ProcessState, said.line())
	default:
		p.Err = remora.Cause(err)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			p.Kind, p.Hint = remora.Invalid, "Name a program that the worker's user may run, with its whole path."
		}
	}
	return code, p
}

// last keeps the end of what a program says: it may say any amount.
type last struct{ text []byte }

func (l *last) Write(b []byte) (int, error) {
	const enough = 1 << 10
	l.text = append(l.text, b...)
	if len(l.text) > enough {
		l.text = bytes.Clone(l.text[len(l.text)-enough:])
	}
	return len(b), nil
}

// line is the last line that was said, short: it is all that leaves this machine.
func (l *last) line() string {
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(string(l.text), "?")), "\n")
	if text := lines[len(lines)-1]; text != "" {
		return ": " + remora.Cut(remora.OneLine(text), 200)
	}
	return ""
}
