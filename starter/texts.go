package main

import (
	_ "embed"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/template"
	"text/template/parse"
	"unicode/utf8"

	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
)

//go:embed texts.tmpl
var texts string

// text puts v into words for a person: those of a block of texts.tmpl.
func (a *app) text(block string, v any) func() {
	return func() { _, _ = io.WriteString(a.Out, a.words(block, v, 0)) } // a broken pipe has nobody left to tell
}

// words are those of a block of texts.tmpl, which tells how its lines are read. Values are broken into lines of at most so
// many columns; 0 means that none is broken.
func (a *app) words(block string, v any, columns int) string {
	all := template.Must(template.New("").Funcs(a.functions()).Parse(texts)) // the tests parse it, too
	for _, one := range all.Templates() {
		inOneLine(one.Root)
	}
	var b, said strings.Builder
	if err := all.ExecuteTemplate(&b, block, v); err != nil {
		return "these words cannot be told: " + remora.OneLine(err.Error()) + "\n"
	}
	lines, width := strings.Split(b.String(), "\n"), 0
	for _, line := range lines {
		if name, value, _ := strings.Cut(line, "\t"); value != "" {
			width = max(width, utf8.RuneCountInString(name))
		}
	}
	for _, line := range lines {
		switch name, value, fact := strings.Cut(line, "\t"); {
		case strings.TrimSpace(line) == "", fact && value == "":
		case fact:
			fmt.Fprintf(&said, "%-*s  %s\n", width, name, wrapped(value, width+2, columns))
		default:
			said.WriteString(strings.TrimPrefix(line, ".") + "\n")
		}
	}
	return said.String()
}

func (a *app) functions() template.FuncMap {
	return template.FuncMap{
		"line":   func(v any) string { return remora.OneLine(fmt.Sprint(v)) },
		"moment": a.moment, "clock": clock, "age": a.age, "until": a.until, "held": a.held,
		"lines": func(s string) []string { return strings.Split(s, "\n") },
		"now":   a.Now, "span": control.Span, "timed": remora.Timed, "size": size, "counts": counts, "did": did, "few": remora.Few, "kinds": remora.Named, "join": strings.Join,
		"count": func(n reflect.Value, one, many string) string { return count(n.Int(), one, many) },
		"plus":  func(n, m reflect.Value) int64 { return n.Int() + m.Int() },
		"less":  func(n, m reflect.Value) int64 { return n.Int() - m.Int() },
	}
}

// inOneLine has every value of a text told in one line and without control characters, wherever it comes from.
func inOneLine(n parse.Node) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n != nil {
			for _, one := range n.Nodes {
				inOneLine(one)
			}
		}
	case *parse.IfNode:
		inOneLine(n.List)
		inOneLine(n.ElseList)
	case *parse.WithNode:
		inOneLine(n.List)
		inOneLine(n.ElseList)
	case *parse.RangeNode:
		inOneLine(n.List)
		inOneLine(n.ElseList)
	case *parse.ActionNode:
		if len(n.Pipe.Decl) == 0 {
			n.Pipe.Cmds = append(n.Pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Args: []parse.Node{parse.NewIdentifier("line")}})
		}
	}
}
