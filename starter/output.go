package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
)

// printJSON writes v as one line. Every document of -o json goes through here.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.Out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// say prints a line for a person.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintf(a.Out, format+"\n", args...) // a broken pipe has nobody left to tell
}

// answer prints v for a program, or has it put into words for a person.
func (a *app) answer(v any, say func()) error {
	if a.json() {
		return a.printJSON(v)
	}
	say()
	return nil
}

// list prints one object a line for a program; for a person a table, or none where there is nothing to list.
func list[T any](a *app, all []T, none string, head []string, row func(T) []string) error {
	var rows [][]string
	for _, one := range all {
		if !a.json() {
			rows = append(rows, row(one))
		} else if err := a.printJSON(one); err != nil {
			return err
		}
	}
	switch {
	case a.json():
		return nil
	case len(all) == 0 && none != "":
		a.say("%s", none)
		return nil
	default:
		return a.table(head, rows)
	}
}

// table prints rows under a head, in columns.
func (a *app) table(head []string, rows [][]string) error {
	var b strings.Builder
	columns := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		_, _ = fmt.Fprintln(columns, strings.Join(each(row, remora.OneLine), "\t")) // memory takes everything
	}
	_ = columns.Flush()
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(a.Out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// command is what is to be typed, in the middle of a text.
var command = regexp.MustCompile(`remora [a-z]+( [^ ,;]+)*`)

// wrapped breaks a text into lines between its words, but not within a command. indent is where it begins, and where the
// further lines do.
func wrapped(text string, indent, columns int) string {
	const glue = "\u00a0"
	text = command.ReplaceAllStringFunc(text, func(c string) string { return strings.ReplaceAll(c, " ", glue) })
	var b strings.Builder
	at := indent
	for i, word := range strings.Split(text, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case columns > 0 && at+1+n > columns:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		default:
			b.WriteString(" ")
			at++
		}
		b.WriteString(word)
		at += n
	}
	return strings.ReplaceAll(b.String(), glue, " ")
}

// each puts every one of all into another form.
func each[T, R any](all []T, form func(T) R) []R { return remora.Each(all, form) }

// clock is a moment in the local zone, without its age.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// moment is a point in time for people: the local time and how long ago or ahead that is.
func (a *app) moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return clock(t) + " (" + a.age(t) + ")"
}

// until is the end of an undo window, which somebody ends where it has no time.
func (a *app) until(t time.Time) string {
	if t.IsZero() {
		return "until somebody ends it"
	}
	return "until " + a.moment(t)
}

// age is how long ago, or ahead, t is.
func (a *app) age(t time.Time) string {
	d := a.Now().Sub(t)
	switch {
	case d < 0:
		return "in " + control.Span(-d)
	case d < 10*time.Second:
		return "just now"
	}
	return control.Span(d) + " ago"
}

func size(n int64) string { return humanize.Bytes(uint64(max(0, n))) }

func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(n) + " " + many
}

// counts says a summary in the words of its component.
func counts(k remora.Kind, s remora.Summary) string {
	if k == remora.Database {
		return fmt.Sprintf("%s, %s, %s", count(s.Objects, "table", "tables"), count(s.Entries, "row", "rows"), size(s.Bytes))
	}
	return fmt.Sprintf("%s, %s, %s", count(s.Objects, "directory", "directories"), count(s.Entries, "file", "files"), size(s.Bytes))
}

// handled says what a phase handled, if anything.
func handled(kind remora.Kind, s *remora.Summary) []string {
	switch {
	case s != nil && kind != "":
		return []string{counts(kind, *s)}
	case s != nil && s.Bytes > 0:
		return []string{size(s.Bytes)}
	}
	return nil
}

// did says what a phase of a restore came to, and how fast.
func did(r remora.Restore, p remora.Phase) string {
	said := handled(r.Kind(p), p.Summary)
	if len(said) > 0 && p.Summary.Bytes > 0 && p.Took >= time.Second {
		said = append(said, size(int64(float64(p.Summary.Bytes)/p.Took.Seconds()))+"/s")
	}
	if p.Failed {
		said = append(said, "failed")
	}
	name := p.Name
	if p.RequestedBy != "" {
		name += ", by " + p.RequestedBy
	}
	if len(said) == 0 {
		return name
	}
	return name + ": " + strings.Join(said, ", ")
}
