package main

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/remora"
)

// app is everything a command has from the outside world. Tests give it buffers, a fixed clock and an environment of
// their own, and run the real command tree in process.
type app struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
	// Getenv reads the environment.
	Getenv func(string) string
	// Now is the clock that ages are counted from.
	Now func() time.Time
	// ConfigPath is --config; empty means the usual places.
	ConfigPath string
	// Output is -o: "text" or "json".
	Output string
	// Interactive tells whether somebody can be asked: input and output are a terminal.
	Interactive bool
	// Live tells whether Out may be rewritten in place: a terminal that knows carriage returns.
	Live bool
	// Width is the width of the terminal in columns.
	Width func() int

	// helps are the words of the commands and of their flags.
	helps helps
	// parsed is true once flags and arguments made sense; an error before that is one of usage.
	parsed bool
}

// The values of -o.
const (
	textOutput = "text"
	jsonOutput = "json"
)

// json tells whether a program is reading.
func (a *app) json() bool { return a.Output == jsonOutput }

// run executes one command line and returns the exit code.
func run(ctx context.Context, a *app, args []string) int {
	root := newRootCommand(a) //nolint:contextcheck // the commands get ctx from ExecuteContext
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.parsed {
		err = asUsage(err, args, a)
	}
	a.printError(err)
	return exitCode(err)
}

var jsonAsked = regexp.MustCompile(`(^| )(-o[ =]?|--output[ =])json( |$)`)

// asUsage turns an error of the command line itself into a Problem. -o has not been looked at when a flag is wrong, so
// it is read from the words as they came.
func asUsage(err error, args []string, a *app) error {
	if jsonAsked.MatchString(strings.Join(args, " ")) {
		a.Output = jsonOutput
	}
	if errors.As(err, new(*remora.Problem)) {
		return err
	}
	return badUsage("", err.Error(), "remora help")
}

// newRootCommand builds the whole tree.
func newRootCommand(a *app) *cobra.Command {
	a.helps = readHelps()
	root := a.group("remora",
		newBackupCommand(a), newHistoryCommand(a), newShowCommand(a), newLsCommand(a), newExportCommand(a),
		newStatusCommand(a), newWatchCommand(a), newCancelCommand(a),
		newRestoreCommand(a), newRollbackCommand(a), newAcceptCommand(a), newExtendCommand(a), newRestoresCommand(a), newResolveCommand(a), newDrillCommand(a),
		newVerifyCommand(a), newCleanupCommand(a), newHoldCommand(a), newReleaseCommand(a),
		newCopyCommand(a), newRepositoryCommand(a), newScheduleCommand(a),
		newInitCommand(a), newUpCommand(a), newCheckCommand(a), newNotifyCommand(a), newConfigCommand(a), newVersionCommand(a),
	)
	root.SilenceUsage, root.SilenceErrors, root.DisableAutoGenTag = true, true, true
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if a.Output != textOutput && a.Output != jsonOutput {
			return badUsage("-o "+a.Output, "there is no such output format", "use -o text or -o json")
		}
		a.parsed = true
		return nil
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetHelpTemplate(root.HelpTemplate() + exitStatusHelp())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return badUsage("", err.Error(), cmd.CommandPath()+" --help")
	})
	words := a.helps.Commands["remora"].Flags
	root.PersistentFlags().StringVar(&a.ConfigPath, "config", "", words["config"])
	root.PersistentFlags().StringVarP(&a.Output, "output", "o", textOutput, words["output"])
	return root
}
