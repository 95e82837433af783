package main

import (
	"cmp"
	_ "embed"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

//go:embed help.yaml
var helpTexts []byte

// helps is what help.yaml says of the commands.
type helps struct {
	Shared   map[string]string
	Commands map[string]struct {
		Use, Short, Long, Example string
		Takes                     struct {
			Least, Most int
			What        string
		}
		Flags map[string]string
	}
}

func readHelps() (h helps) {
	if err := yaml.Unmarshal(helpTexts, &h); err != nil {
		panic(err) // it is part of the program, and the tests read it
	}
	return h
}

// runner is what cobra calls for a command line.
type runner = func(cmd *cobra.Command, args []string) error

// flags are where the values of a command's flags go, by name. What is there already is the default.
type flags map[string]any

// command makes the command that help.yaml describes under that path.
func (a *app) command(path string, to flags, run runner) *cobra.Command {
	says := a.helps.Commands[path]
	cmd := &cobra.Command{
		Use: says.Use, Short: says.Short, RunE: run,
		Long:    os.Expand(says.Long, func(name string) string { return a.helps.Shared[name] }),
		Example: strings.TrimSuffix("  "+strings.ReplaceAll(says.Example, "\n", "\n  "), "  "),
	}
	says.Takes.What = cmp.Or(says.Takes.What, "no arguments")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) >= says.Takes.Least && len(args) <= says.Takes.Most {
			return nil
		}
		return badUsage("", fmt.Sprintf("%s takes %s, not %d arguments", cmd.CommandPath(), says.Takes.What, len(args)), cmd.CommandPath()+" --help")
	}
	for name, place := range to {
		switch usage := says.Flags[name]; to := place.(type) {
		case *bool:
			cmd.Flags().BoolVar(to, name, *to, usage)
		case *int:
			cmd.Flags().IntVar(to, name, *to, usage)
		case *time.Duration:
			cmd.Flags().DurationVar(to, name, *to, usage)
		case *string:
			cmd.Flags().StringVar(to, name, *to, usage)
		case *[]string:
			cmd.Flags().StringArrayVar(to, name, *to, usage)
		}
	}
	return cmd
}

// group makes a command that only holds others.
func (a *app) group(path string, all ...*cobra.Command) *cobra.Command {
	cmd := a.command(path, nil, func(cmd *cobra.Command, _ []string) error { return cmd.Help() })
	cmd.Args = cobra.NoArgs
	cmd.AddCommand(all...)
	return cmd
}
