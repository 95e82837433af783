package notify

import (
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"slices"
	"strings"
	"text/template"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/remora-backup/remora/internal/remora"
)

//go:embed *.tmpl
var files embed.FS

// message is a notice in the words of people. Every string in it is one line.
type message struct {
	Subject string
	// Title is the subject without the mark that mail filters look for.
	Title string
	// Tone is good, warn or bad.
	Tone string
	// Said is what happened, Means what that means, Problem the problem as it was met.
	Said, Means []string
	Problem     string
	// What can be done now, with the commands.
	Todo     []advice
	Facts    [][2]string
	Warnings []string
	Host, ID string
}

// advice is a sentence, or a command to type.
type advice struct{ Text, Command string }

// The longest that a message may say, in bytes.
const (
	maxName    = 120
	maxLine    = 2000
	maxSubject = 160
	maxList    = 12
)

// clean makes a notice safe for one line of a header or a page each, whatever a source, a file or a server is called.
func clean(n remora.Notice) remora.Notice {
	for _, name := range []*string{&n.Source, &n.Subject, &n.Backup, &n.By, &n.Phase, &n.ID, &n.To} {
		*name = remora.Cut(remora.OneLine(*name), maxName)
	}
	n.Problem = remora.Cut(remora.OneLine(n.Problem), maxLine)
	n.Hint = strings.Join(lines(n.Hint), "\n")
	n.Warnings = slices.Clone(n.Warnings[:min(len(n.Warnings), maxList)])
	for i, w := range n.Warnings {
		n.Warnings[i] = remora.Cut(remora.OneLine(w), maxLine/4)
	}
	return n
}

// lines are those of a hint, which may have several: a GRANT and a command.
func lines(text string) (all []string) {
	for line := range strings.Lines(remora.Cut(text, 2*maxLine)) {
		if line = strings.TrimSpace(line); line != "" && len(all) < maxList {
			all = append(all, remora.Cut(remora.OneLine(line), maxLine))
		}
	}
	return all
}

// write puts a notice into words: those of texts.tmpl, in which a line begins with what it is for. What a notice brings
// is one line each, and so cannot begin another.
func (s *Sender) write(n remora.Notice) (m message, err error) {
	n = clean(n)
	texts, err := template.New("").Funcs(template.FuncMap{
		"when": s.when, "word": remora.ShellWord, "short": func(text string) string { return remora.Cut(text, 100) },
		"took":  func(from, to time.Time) string { return to.Sub(from).Round(time.Second).String() },
		"bytes": func(n int64) string { return humanize.Bytes(uint64(max(0, n))) },
	}).ParseFS(files, "texts.tmpl")
	if err != nil {
		return m, err
	}
	name := string(n.Event)
	if texts.Lookup(name+"/"+string(n.Outcome)) != nil {
		name += "/" + string(n.Outcome)
	}
	var b strings.Builder
	if err := errors.Join(texts.ExecuteTemplate(&b, name, n), texts.ExecuteTemplate(&b, "facts", n)); err != nil {
		return m, err
	}
	m = message{Problem: n.Problem, Warnings: n.Warnings, Host: remora.Cut(remora.OneLine(s.cfg.Host), maxName), ID: n.ID}
	for _, hint := range lines(n.Hint) {
		if first, size := utf8.DecodeRuneInString(hint); !strings.HasPrefix(hint, "remora ") {
			hint = string(unicode.ToUpper(first)) + hint[size:] // some hints go on where an error ends
		}
		m.Todo = append(m.Todo, advice{Text: hint})
	}
	for line := range strings.Lines(b.String()) {
		what, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch what {
		case "":
		case "subject":
			m.Title = remora.Cut(text, maxSubject)
			m.Subject = "[remora] " + m.Title
		case "tone":
			m.Tone = text
		case "said":
			m.Said = append(m.Said, text)
		case "means":
			m.Means = append(m.Means, text)
		case "do":
			m.Todo = append(m.Todo, advice{Text: text})
		case "run":
			m.Todo = append(m.Todo, advice{Command: text})
		case "fact":
			if name, value, known := strings.Cut(text, ": "); known {
				m.Facts = append(m.Facts, [2]string{name, value})
			}
		default:
			return m, fmt.Errorf("texts.tmpl, %s: a line is for %q", name, what)
		}
	}
	return m, nil
}

// when is a time in UTC, and in the zone of this machine where that is another.
func (s *Sender) when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	const day, clock = "Mon 2 Jan 2006, ", "15:04 MST"
	utc, local := t.UTC(), t.In(s.cfg.Zone)
	switch _, offset := local.Zone(); {
	case offset == 0:
		return utc.Format(day + clock)
	case utc.Day() != local.Day():
		return local.Format(day+clock) + utc.Format(" ("+day+clock+")")
	default:
		return local.Format(day+clock) + utc.Format(" ("+clock+")")
	}
}

// text is the message without any markup.
func (m message) text() string {
	var b strings.Builder
	err := template.Must(template.ParseFS(files, "mail.txt.tmpl")).Execute(&b, m)
	if err != nil { // a strings.Builder takes everything, and the tests render every message
		return m.Title
	}
	return strings.ReplaceAll(strings.TrimSpace(b.String()), "\n\n\n", "\n\n") + "\n"
}

// html is the message as a page that needs nothing from elsewhere.
func (m message) html() (string, error) {
	t, err := htmltemplate.ParseFS(files, "mail.html.tmpl")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, m)
	return b.String(), err
}
