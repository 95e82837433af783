package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
)

func newConfigCommand(a *app) *cobra.Command {
	group := &cobra.Command{
		Use:   "config",
		Short: "Work with the configuration",
		Args:  exactly(0, "one of its subcommands"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	group.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "Tell whether the configuration makes sense",
		Long: `Reads the configuration, the password files and the environment, and names everything that is wrong, each with its line
and what to write instead. No server is asked: remora backup and the worker test rights and reachability.`,
		Example: "  remora config check --config /etc/remora/remora.yaml",
		Args:    exactly(0, "no arguments"),
		RunE:    func(*cobra.Command, []string) error { return a.checkConfig() },
	})
	return group
}

// checkJSON is the answer of config check.
type checkJSON struct {
	OK       bool              `json:"ok"`
	File     string            `json:"file,omitempty"`
	Mistakes []config.Mistake  `json:"mistakes,omitempty"`
	Problems []errorJSON       `json:"problems,omitempty"`
	Warnings []string          `json:"warnings,omitempty"`
	Sources  []sourceCheckJSON `json:"sources,omitempty"`
}

// sourceCheckJSON is what is configured for a source.
type sourceCheckJSON struct {
	Name        string        `json:"name"`
	Components  []remora.Kind `json:"components"`
	Database    string        `json:"database,omitempty"`
	Root        string        `json:"root,omitempty"`
	Directories []string      `json:"directories,omitempty"`
}

func (a *app) checkConfig() error {
	cfg, err := config.Load(a.ConfigPath, a.Getenv)
	if err != nil {
		var mistakes config.Mistakes
		if a.json() && errors.As(err, &mistakes) {
			err = errors.Join(a.printJSON(checkJSON{Mistakes: mistakes}), err)
		}
		return err
	}
	warnings, errs := cfg.Check()
	answer := checkJSON{OK: len(errs) == 0, File: cfg.File, Warnings: append(cfg.Warnings, warnings...), Sources: configured(cfg)}
	for _, err := range errs {
		p := remora.ProblemOf("check the configuration", err)
		answer.Problems = append(answer.Problems, errorJSON{Op: p.Op, Kind: p.Kind, Subject: p.Subject, Hint: p.Hint, Message: p.Error()})
	}
	return a.printCheck(answer)
}

func configured(cfg *config.Config) []sourceCheckJSON {
	all := make([]sourceCheckJSON, 0, len(cfg.Sources))
	for _, name := range cfg.Names() {
		s := cfg.Sources[name]
		c := sourceCheckJSON{Name: name, Components: s.Kinds()}
		if d := s.Database; d != nil {
			c.Database = fmt.Sprintf("%s on %s as %s", d.Schemas[0], d.Address, d.User)
		}
		if f := s.Files; f != nil {
			c.Root, c.Directories = f.Root, f.Directories
		}
		all = append(all, c)
	}
	return all
}

// printCheck prints everything that was found; the error that it returns only counts it.
func (a *app) printCheck(answer checkJSON) error {
	if a.json() {
		if err := a.printJSON(answer); err != nil {
			return err
		}
	} else {
		a.sayCheck(answer)
	}
	if answer.OK {
		return nil
	}
	return &remora.Problem{
		Op: "check the configuration", Kind: remora.Invalid, Subject: answer.File,
		Err: errors.New(count(int64(len(answer.Problems)), "mistake", "mistakes")),
	}
}

func (a *app) sayCheck(answer checkJSON) {
	for _, p := range answer.Problems {
		a.say("%s", p.Message)
		if p.Hint != "" {
			a.say("  what to do: %s", p.Hint)
		}
	}
	for _, s := range answer.Sources {
		line := s.Name + ":"
		if s.Database != "" {
			line += " database " + s.Database
		}
		if len(s.Directories) > 0 {
			if s.Database != "" {
				line += ";"
			}
			line += " files " + strings.Join(s.Directories, ", ") + " in " + s.Root
		}
		a.say("%s", remora.OneLine(line))
	}
	for _, w := range answer.Warnings {
		a.say("note: %s", remora.OneLine(w))
	}
	if answer.OK {
		a.say("ok: %s", answer.File)
	}
}
