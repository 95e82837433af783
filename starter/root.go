package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// asUsage turns an error of the command line itself into a Problem. -o has not been looked at when a flag is wrong, so
// it is read from the words as they came.
func asUsage(err error, args []string, a *app) error {
	joined := " " + strings.Join(args, " ") + " "
	for _, asked := range []string{" -o json ", " -ojson ", " -o=json ", " --output json ", " --output=json "} {
		if strings.Contains(joined, asked) {
			a.Output = jsonOutput
		}
	}
	if errors.As(err, new(*remora.Problem)) {
		return err
	}
	return badUsage("", err.Error(), "remora help")
}

// newRootCommand builds the whole tree.
func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "remora",
		Short: "Backs up live MySQL and MariaDB databases and files, and brings them back safely",
		Long: `Remora backs up live MySQL and MariaDB databases and the files that belong to them, and brings them back
safely: a restore is prepared beside the live data, compared byte for byte with the backup, switched in at once,
and can be undone for a day.`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		DisableAutoGenTag: true,
		Args:              cobra.NoArgs,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.Output != textOutput && a.Output != jsonOutput {
				return badUsage("-o "+a.Output, "there is no such output format", "use -o text or -o json")
			}
			a.parsed = true
			return nil
		},
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetHelpTemplate(root.HelpTemplate() + exitStatusHelp())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return badUsage("", err.Error(), cmd.CommandPath()+" --help")
	})
	root.PersistentFlags().StringVar(&a.ConfigPath, "config", "", "configuration `file` (default: $REMORA_CONFIG, ./remora.yaml, /etc/remora/remora.yaml)")
	root.PersistentFlags().StringVarP(&a.Output, "output", "o", textOutput, "output `format`: text, or json for programs")
	root.AddCommand(
		newBackupCommand(a), newHistoryCommand(a), newShowCommand(a), newLsCommand(a),
		newStatusCommand(a), newWatchCommand(a), newCancelCommand(a),
		newRestoreCommand(a), newRollbackCommand(a), newAcceptCommand(a), newRestoresCommand(a), newResolveCommand(a),
		newVerifyCommand(a), newCleanupCommand(a), newHoldCommand(a), newReleaseCommand(a),
		newCopyCommand(a), newRepositoryCommand(a), newScheduleCommand(a),
		newInitCommand(a), newUpCommand(a), newCheckCommand(a), newNotifyCommand(a), newConfigCommand(a), newVersionCommand(a),
	)
	return root
}

// atMostOne refuses a second argument, in words that name what was expected.
func atMostOne(usage string) cobra.PositionalArgs { return between(0, 1, "at most "+usage) }

// exactly wants n arguments.
func exactly(n int, usage string) cobra.PositionalArgs {
	return between(n, n, usage)
}

func between(least, most int, usage string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		return badUsage("", fmt.Sprintf("%s takes %s, not %d arguments", cmd.CommandPath(), usage, len(args)), cmd.CommandPath()+" --help")
	}
}
