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
	return a.group("config", a.command("config check", nil, func(*cobra.Command, []string) error { return a.checkConfig() }))
}

// checkJSON is the answer of config check.
type checkJSON struct {
	OK       bool             `json:"ok"`
	File     string           `json:"file,omitempty"`
	Mistakes []config.Mistake `json:"mistakes,omitempty"`
	Problems []errorJSON      `json:"problems,omitempty"`
	Warnings []string         `json:"warnings,omitempty"`
	// Sources says in a line each what is backed up: "shop: database shop on 127.0.0.1:3306 as remora".
	Sources []string `json:"sources,omitempty"`
}

func (a *app) checkConfig() error {
	cfg, err := config.Load(a.ConfigPath, a.Getenv)
	if err != nil {
		if mistakes, ok := errors.AsType[config.Mistakes](err); ok && a.json() {
			err = errors.Join(a.printJSON(checkJSON{Mistakes: mistakes}), err)
		}
		return err
	}
	warnings, errs := cfg.Check()
	answer := checkJSON{OK: len(errs) == 0, File: cfg.File, Warnings: append(cfg.Warnings, warnings...), Sources: configured(cfg)}
	answer.Problems = each(errs, func(err error) errorJSON { return errorOf(remora.ProblemOf("check the configuration", err)) })
	if err := a.answer(answer, a.text("configuration", answer)); err != nil || answer.OK {
		return err
	}
	// Everything was said; this only counts it.
	return invalid("check the configuration", answer.File, count(int64(len(errs)), "mistake", "mistakes"), "")
}

func configured(cfg *config.Config) []string {
	var lines []string
	for _, name := range cfg.Names() {
		var has []string
		if d := cfg.Sources[name].Database; d != nil {
			has = append(has, fmt.Sprintf("database %s on %s as %s", strings.Join(d.Schemas, ", "), d.Address, d.User))
		}
		if f := cfg.Sources[name].Files; f != nil {
			has = append(has, "files "+strings.Join(f.Directories, ", ")+" in "+f.Root)
		}
		lines = append(lines, name+": "+strings.Join(has, "; "))
	}
	return lines
}
