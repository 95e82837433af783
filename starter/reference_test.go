package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

//go:generate env UPDATE_GOLDEN=1 go test -run TestReferenceIsCurrent .

// TestReferenceIsCurrent holds docs/reference/command.md to the command tree; `go generate ./starter` writes it anew.
func TestReferenceIsCurrent(t *testing.T) {
	var b strings.Builder
	root := newRootCommand(&app{})
	b.WriteString("# The command\n\n<!-- Written by `go generate ./starter` from the command itself. Do not edit. -->\n\n")
	b.WriteString(root.Long + "\n\n")
	for _, c := range root.Commands() {
		if !c.Hidden && c.Name() != "help" {
			fmt.Fprintf(&b, "- [`%s`](#%s): %s\n", c.UseLine()[len("remora "):len(c.UseLine())-len(flagsWord(c))], anchor(c), c.Short)
		}
	}
	b.WriteString("\n## Everywhere\n\n" + flagTable(root.PersistentFlags()))
	b.WriteString(contract)
	b.WriteString("\n## Exit status\n\n| Code | Meaning |\n|---|---|\n")
	for _, e := range exits() {
		fmt.Fprintf(&b, "| %d | %s |\n", e.code, e.meaning)
	}
	every(root, func(c *cobra.Command) {
		if c.Runnable() && c != root {
			describe(&b, c)
		}
	})
	golden(t, "../docs/reference/command.md", b.String())
}

// contract is what programs may rely on beside the commands themselves.
const contract = `
With ` + "`-o json`" + ` standard output carries one JSON object a line and nothing else, and standard error one object for an error:
` + "`{\"error\":{\"op\",\"kind\",\"subject\",\"hint\",\"message\"}}`" + `. Times are RFC 3339, sizes are bytes, lengths of time are nanoseconds.
Fields are added, never renamed or removed.

| Command | Objects |
|---|---|
| history | one backup or failed run a line |
| restores | one restore a line |
| show | the backup or the restore |
| ls | one entry a line: path, kind, size, mode, modified, target |
| export (with --to) | backup, to, objects (tables), entries (rows), bytes |
| status | one object: summary, away, worker, monitored, recovery_tried, alerts, sources (newest, last, failed_since, objective, overdue, late, stored, next, alerts, behind, running, person, window) |
| copy | for each copy one update a line, as of a backup; the last line is the result: copied (to, backups, bytes, added, removed) |
| repository create | repository, and repository_password_file where a password was made |
| repository password | password_file, changed (the places that take theirs from it), resumed (only an interrupted change was ended) |
| repository recovery | repository |
| repository adopt | repository, before and owner (id, namespace, host, since, by, gone) |
| backup, restore, watch, rollback, accept | one update a line (event: phase_started, phase_ended, progress, retry, notice); restore begins with its plan; the last line is the result |
| backup, restore and copy with --detach | the started run: source, workflow, id, run |
| cancel | source, cancelled, message, running |
| resolve | source, message |
| schedule list, show | one schedule a line: id, name, schedule, timing, paused, paused_by, note, last, outcome, next, recent, slots, missed, skipped, created |
| schedule create | the schedule |
| schedule pause, resume, trigger, delete | schedule, done |
| schedule apply | one difference a line: id, what (missing, extra, or what differs), is, want |
| check | one finding a line: level (ok, warning, failed), subject, said, hint |
`

func describe(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n", c.CommandPath())
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	fmt.Fprintf(b, "%s\n\n```\n%s\n```\n", text, c.UseLine())
	if c.Example != "" {
		fmt.Fprintf(b, "\nExamples:\n```\n%s\n```\n", c.Example)
	}
	if c.NonInheritedFlags().HasFlags() {
		b.WriteString("\n" + flagTable(c.NonInheritedFlags()))
	}
}

func flagTable(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Hidden {
			return
		}
		if b.Len() == 0 {
			b.WriteString("| Flag | Meaning |\n|---|---|\n")
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if value != "" {
			name += " " + value
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0s" {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, strings.ReplaceAll(usage, "|", `\|`))
	})
	return b.String()
}

func flagsWord(c *cobra.Command) string {
	if strings.HasSuffix(c.UseLine(), " [flags]") {
		return " [flags]"
	}
	return ""
}

func anchor(c *cobra.Command) string {
	for c.HasSubCommands() { // only what runs has a section
		c = c.Commands()[0]
	}
	return strings.ReplaceAll(c.CommandPath(), " ", "-")
}
