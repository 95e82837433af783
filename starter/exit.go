package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
)

// exit is an exit code, the kinds of problems that end with it, and what it means.
type exit struct {
	code    int
	kinds   []remora.ProblemKind
	meaning string
}

// exits is the one table of exit codes. Scripts rely on it: codes are added, never changed.
func exits() []exit {
	return []exit{
		{0, nil, "done"},
		{1, nil, "failed"},
		{2, []remora.ProblemKind{remora.Invalid}, "the command line or the configuration makes no sense"},
		{3, []remora.ProblemKind{remora.Busy}, "something else is running on this source"},
		{4, []remora.ProblemKind{remora.NotFound}, "no such source, backup or restore"},
		{5, []remora.ProblemKind{remora.RolledBack}, "the restore failed and everything is as it was before"},
		{6, []remora.ProblemKind{remora.Corrupt}, "verification failed: what is stored is not what it should be"},
		{7, []remora.ProblemKind{remora.Unreachable}, "Temporal cannot be reached"},
		{exitInterrupted, nil, "interrupted; a run that was being followed goes on"},
	}
}

const (
	exitFailed      = 1
	exitInterrupted = 130
)

// errDetached says that the person stopped following a run, which goes on. Everything has been said by then.
var errDetached = errors.New("interrupted")

// exitCode is the exit code that says err to a script.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if errors.Is(err, errDetached) || errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	for _, e := range exits() {
		if slices.Contains(e.kinds, remora.KindOf(err)) {
			return e.code
		}
	}
	return exitFailed
}

// exitStatusHelp is the table at the end of every help text.
func exitStatusHelp() string {
	var b strings.Builder
	b.WriteString("\nEXIT STATUS\n")
	for _, e := range exits() {
		fmt.Fprintf(&b, "  %3d  %s\n", e.code, e.meaning)
	}
	return b.String()
}

// errorJSON is how -o json says an error, on standard error.
type errorJSON struct {
	Op      string             `json:"op,omitempty"`
	Kind    remora.ProblemKind `json:"kind"`
	Subject string             `json:"subject,omitempty"`
	Hint    string             `json:"hint,omitempty"`
	Message string             `json:"message"`
}

func errorOf(err error) errorJSON {
	said := errorJSON{Kind: remora.KindOf(err), Message: remora.OneLine(err.Error())}
	if p, ok := errors.AsType[*remora.Problem](err); ok {
		said.Op, said.Subject, said.Hint = p.Op, p.Subject, p.Hint
	}
	return said
}

// invalid is a Problem with what was asked for.
func invalid(op, subject, why, hint string) error {
	return remora.Fail(remora.Invalid, op, subject, hint, "%s", why)
}

// badUsage is a Problem with the command line itself.
func badUsage(subject, why, hint string) error {
	return invalid("read the command line", subject, why, hint)
}

func badFlag(flag, hint string) error { return badUsage(flag, "there is no such value", hint) }

// printError says what is wrong and what to do: two lines for a person, one object for a program.
func (a *app) printError(err error) {
	if err == nil || errors.Is(err, errDetached) {
		return
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(a.Err, "\nremora: interrupted; nothing was started")
		return
	}
	said := errorOf(err)
	if a.json() {
		enc := json.NewEncoder(a.Err)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(map[string]errorJSON{"error": said}) // a broken pipe has nobody left to tell
		return
	}
	mistakes, _ := errors.AsType[config.Mistakes](err)
	if len(mistakes) > 1 {
		said.Message = fmt.Sprintf("%s: %d mistakes", said.Op, len(mistakes))
	}
	fmt.Fprintf(a.Err, "remora: %s\n", said.Message)
	if len(mistakes) > 1 {
		for _, m := range mistakes {
			fmt.Fprintf(a.Err, "  %s\n", m)
		}
	}
	for _, line := range strings.Split(said.Hint, "\n") {
		if line != "" {
			fmt.Fprintf(a.Err, "  what to do: %s\n", remora.OneLine(line))
		}
	}
}
