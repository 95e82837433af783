// Command remora is what people type: it reads the configuration, asks internal/control for what is wanted, and prints
// the answer for a person or, with -o json, for a program. One file per command.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, fromProcess(), os.Args[1:])
	stop()
	os.Exit(code)
}

// fromProcess wires an app to the terminal, pipe or service that started this process.
func fromProcess() *app {
	terminal := term.IsTerminal(int(os.Stdout.Fd()))
	return &app{
		In:          os.Stdin,
		Out:         os.Stdout,
		Err:         os.Stderr,
		Getenv:      os.Getenv,
		Now:         time.Now,
		Interactive: terminal && term.IsTerminal(int(os.Stdin.Fd())),
		Live:        terminal && os.Getenv("TERM") != "dumb",
		Width: func() int {
			if w, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil && w > 0 {
				return w
			}
			return 80
		},
	}
}
