package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// reader walks a YAML document and collects every mistake instead of stopping at the first.
type reader struct {
	file   string
	getenv func(string) string
	found  Mistakes
	where  map[string]*token.Position // of every key that was read
}

// A setter reads the value at a key path into its place.
type setter func(key string, n ast.Node)

type fields map[string]setter

// parseYAML turns text into the root node: nil, and mistakes, when that cannot be done.
func (r *reader) parseYAML(text []byte) (root ast.Node) {
	if !utf8.Valid(text) {
		r.add(Mistake{File: r.file, Line: 1, Column: 1, Text: "it is not UTF-8 text"})
		return nil
	}
	defer func() {
		if recover() != nil { // the YAML parser has met something that it was not made for
			r.add(Mistake{File: r.file, Line: 1, Column: 1, Text: "it is not YAML"})
			root = nil
		}
	}()
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err)
		return nil
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			bodies = append(bodies, doc.Body)
		}
	}
	switch len(bodies) {
	case 0:
		r.add(Mistake{File: r.file, Line: 1, Column: 1, Text: "it is empty; write one with: remora init"})
		return nil
	case 1:
		return bodies[0]
	default:
		r.wrong("", bodies[1], "a configuration is one YAML document; remove the line --- and what follows it")
		return nil
	}
}

// syntax keeps the place and the message of a parse error, and leaves out the piece of source that it quotes.
func (r *reader) syntax(err error) {
	m := Mistake{File: r.file, Line: 1, Column: 1, Text: "it is not YAML"}
	if e, ok := errors.AsType[yaml.Error](err); ok {
		m.Text += ": " + e.GetMessage()
		if strings.Contains(e.GetMessage(), "'\t'") {
			m.Text = "a tab stands where spaces are wanted; indent with spaces"
		}
		if t := e.GetToken(); t != nil && t.Position != nil {
			m.Line, m.Column = t.Position.Line, t.Position.Column
		}
	}
	r.add(m)
}

func (r *reader) add(m Mistake) { r.found = append(r.found, m) }

// wrong notes a mistake at a node.
func (r *reader) wrong(key string, n ast.Node, format string, args ...any) {
	r.wrongAt(key, positionOf(n), format, args...)
}

// wrongKey notes a mistake at a key that was read before; where it was not (a default), at its nearest ancestor.
func (r *reader) wrongKey(key string, format string, args ...any) {
	for at := key; ; {
		if p, ok := r.where[at]; ok {
			r.wrongAt(key, p, format, args...)
			return
		}
		dot := strings.LastIndexByte(at, '.')
		if dot < 0 {
			r.wrongAt(key, nil, format, args...)
			return
		}
		at = at[:dot]
	}
}

func (r *reader) wrongAt(key string, p *token.Position, format string, args ...any) {
	m := Mistake{File: r.file, Line: 1, Column: 1, Key: key, Text: fmt.Sprintf(format, args...)}
	if p != nil {
		m.Line, m.Column = p.Line, p.Column
	}
	r.add(m)
}

func positionOf(n ast.Node) *token.Position {
	switch m := n.(type) { // a mapping that is not in braces has the place of its first colon
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 {
			n = m.Values[0].Key
		}
	case *ast.MappingValueNode:
		n = m.Key
	}
	if n == nil || n.GetToken() == nil {
		return nil
	}
	return n.GetToken().Position
}

// below is the path of a key inside another.
func below(parent, key string) string {
	if parent == "" {
		return key
	}
	return parent + "." + key
}

// each visits the pairs of a mapping and notes everything that is not an ordinary, single key.
func (r *reader) each(key string, n ast.Node, visit func(name string, at, value ast.Node)) {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		r.wrong(key, n, "%s; write keys and values below it, such as \"key: value\"", kindOf(n))
		return
	}
	seen := map[string]int{}
	for _, pair := range pairs {
		if pair.Key.IsMergeKey() {
			r.wrong(key, pair.Key, "merge keys (<<) are not allowed; write the values out")
			continue
		}
		scalar, ok := pair.Key.(ast.ScalarNode)
		if !ok || pair.Key.GetToken() == nil {
			r.wrong(key, pair.Key, "a key must be a plain word")
			continue
		}
		name := pair.Key.GetToken().Value
		if first, twice := seen[name]; twice {
			r.wrong(below(key, shown(name)), scalar, "this key is given twice, first in line %d; remove one", first)
			continue
		}
		seen[name] = 1
		if p := positionOf(scalar); p != nil {
			seen[name] = p.Line
		}
		visit(name, scalar, pair.Value)
	}
}

// mapping reads a mapping with known keys. Keys in later are known, and refused because they are not supported yet.
func (r *reader) mapping(key string, n ast.Node, known fields, later ...string) {
	r.each(key, n, func(name string, at, value ast.Node) {
		set, ok := known[name]
		path := below(key, shown(name))
		switch {
		case ok:
			r.where[path] = positionOf(at)
			set(path, value)
		case slices.Contains(later, name):
			r.wrong(path, at, "this is not supported yet; remove it")
		default:
			r.unknown(path, name, at, known)
		}
	})
}

// meant are the keys for words that people try first.
var meant = map[string]string{
	"host": "address", "hostname": "address", "username": "user", "schema": "schemas",
	"dirs": "directories", "paths": "directories", "dir": "path", "directory": "path",
}

func (r *reader) unknown(path, name string, at ast.Node, known fields) {
	words := slices.Sorted(maps.Keys(known))
	_, takesPassword := known["password_file"]
	near := nearest(name, words)
	if _, ok := known[meant[name]]; ok {
		near = meant[name]
	}
	switch {
	case name == "password" && takesPassword:
		r.wrong(path, at, "passwords do not stand in this file; write password_file: FILE or password_env: VARIABLE")
	case near != "":
		r.wrong(path, at, "unknown key; did you mean %s?", near)
	default:
		r.wrong(path, at, "unknown key; known here: %s", joined(words, "and"))
	}
}

// lined reads one line of text. take puts it into its place, or says what is wrong with it.
func (r *reader) lined(take func(value string) (wrong string)) setter {
	return func(key string, n ast.Node) {
		if value, ok := r.line(key, n); ok {
			if wrong := take(value); wrong != "" {
				r.wrong(key, n, "%s", wrong)
			}
		}
	}
}

// text reads one line of text.
func (r *reader) text(to *string) setter {
	return r.lined(func(value string) string {
		*to = value
		return ""
	})
}

func (r *reader) line(key string, n ast.Node) (string, bool) {
	var value string
	switch n := n.(type) {
	case *ast.StringNode:
		value = n.Value
	case *ast.LiteralNode:
		value = strings.TrimSuffix(n.Value.Value, "\n")
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		r.wrong(key, n, "%s, but text is wanted; write it in quotes", kindOf(n))
		return "", false
	default:
		r.wrong(key, n, "%s, but text is wanted", kindOf(n))
		return "", false
	}
	switch {
	case strings.TrimSpace(value) == "":
		r.wrong(key, n, "it is empty; fill it in or remove the key")
		return "", false
	case strings.ContainsFunc(value, func(c rune) bool { return c < 0x20 || c == 0x7f }):
		r.wrong(key, n, "it holds a line break or a control character; write it in one line")
		return "", false
	}
	return value, true
}

// texts reads a list of lines.
func (r *reader) texts(to *[]string) setter {
	return r.list("[one, two]", func(key string, n ast.Node) {
		if value, ok := r.line(key, n); ok {
			*to = append(*to, value)
		}
	})
}

// list reads what is wanted one by one.
func (r *reader) list(wanted string, each setter) setter {
	return func(key string, n ast.Node) {
		list, ok := n.(*ast.SequenceNode)
		if !ok {
			r.wrong(key, n, "%s, but a list is wanted; write %s", kindOf(n), wanted)
			return
		}
		for i, item := range list.Values {
			at := fmt.Sprintf("%s[%d]", key, i)
			r.where[at] = positionOf(item)
			each(at, item)
		}
	}
}

// flag reads true or false.
func (r *reader) flag(to *bool) setter {
	return func(key string, n ast.Node) {
		value, ok := n.(*ast.BoolNode)
		if !ok {
			r.wrong(key, n, "write true or false")
			return
		}
		*to = value.Value
	}
}

// number reads a whole number between least and most.
func (r *reader) number(to *int, least, most int) setter {
	return func(key string, n ast.Node) {
		if whole, ok := n.(*ast.IntegerNode); !ok || !between(to, least, most, strconv.Atoi, whole.GetToken().Value) {
			r.wrong(key, n, "write a whole number from %d to %d", least, most)
		}
	}
}

// duration reads a length of time between least and most.
func (r *reader) duration(to *time.Duration, least, most time.Duration) setter {
	return func(key string, n ast.Node) {
		if text, ok := n.(*ast.StringNode); !ok || !between(to, least, most, time.ParseDuration, text.Value) {
			r.wrong(key, n, "%s", lengthWanted(least, most))
		}
	}
}

func lengthWanted(least, most time.Duration) string {
	return fmt.Sprintf("write a length of time from %s to %s, such as 90m or 24h", span(least), span(most))
}

// between takes what text says into its place; it is false where that is nothing between least and most.
func between[T cmp.Ordered](to *T, least, most T, parse func(string) (T, error), text string) bool {
	value, err := parse(text)
	ok := err == nil && value >= least && value <= most
	if ok {
		*to = value
	}
	return ok
}

func span(d time.Duration) string {
	if d >= time.Hour {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// path reads a path; a relative one starts at the folder of the configuration file.
func (r *reader) path(to *string) setter {
	return r.lined(func(value string) string {
		if strings.HasPrefix(value, "~") {
			return "~ is not understood here; write the whole path"
		}
		if !filepath.IsAbs(value) {
			value = filepath.Join(filepath.Dir(r.file), value)
		}
		*to = filepath.Clean(value)
		return ""
	})
}

// need sees that a key is given below another.
func (r *reader) need(key, name, value string) {
	if !r.has(key, name) {
		r.wrongKey(key, "it needs %s: %s", name, value)
	}
}

func isMapping(n ast.Node) bool {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return true
	default:
		return false
	}
}

// kindOf names what a node is, as the beginning of a sentence.
func kindOf(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "it has no value"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "it has keys below it"
	case *ast.SequenceNode:
		return "it is a list"
	case *ast.AnchorNode, *ast.AliasNode:
		return "anchors (&) and aliases (*) are not allowed"
	case *ast.TagNode:
		return "tags (!) are not allowed"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "it is a number"
	case *ast.BoolNode:
		return "it is true or false"
	case *ast.StringNode, *ast.LiteralNode:
		return "it is text"
	default:
		return "it is not what is wanted here"
	}
}
