package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

var (
	envName      = regexp.MustCompile(`^(?:export[ \t]+)?["']?([A-Za-z0-9_.]+)["']?[ \t]*=[ \t]*`)
	envReference = regexp.MustCompile(`^\$\{([A-Za-z0-9_.]+)\}`)
	envRest      = regexp.MustCompile(`^[ \t]*(?:#[^\n]*)?(?:\n|$)`)
)

// parseEnv reads a .env file as Laravel's own reader does: the libraries that there are take "pa$WORD" for a reference
// and "a#b" for a whole value, and a password that is read differently is the wrong one. Errors never repeat a value.
func parseEnv(text string) (map[string]string, error) {
	vars := map[string]string{}
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimPrefix(text, "\ufeff"))
	lines := strings.Count(text, "\n") + 1
	for text != "" {
		text = strings.TrimLeft(text, " \t\n")
		if strings.HasPrefix(text, "#") {
			_, text, _ = strings.Cut(text, "\n")
			continue
		}
		at := lines - strings.Count(text, "\n")
		m := envName.FindStringSubmatch(text)
		if m == nil { // a name without a value is allowed, and says nothing
			line, rest, _ := strings.Cut(text, "\n")
			if strings.Contains(line, "=") {
				return nil, fmt.Errorf("line %d is not NAME=value", at)
			}
			text = rest
			continue
		}
		value, rest, err := envValue(text[len(m[0]):], vars)
		if err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", at, m[1], err)
		}
		vars[m[1]], text = value, rest
	}
	return vars, nil
}

// envValue reads one value and the rest of its line, and gives what follows.
func envValue(text string, vars map[string]string) (value, rest string, err error) {
	quote := byte(0)
	if text != "" && (text[0] == '"' || text[0] == '\'') {
		quote, text = text[0], text[1:]
	}
	var b strings.Builder
	for {
		switch {
		case text == "" && quote != 0, strings.HasPrefix(text, "\n") && quote == '\'':
			return "", "", errors.New("the closing quote is missing")
		case text == "", quote == 0 && strings.ContainsRune("# \t\n", rune(text[0])), quote != 0 && text[0] == quote:
			if quote != 0 {
				text = text[1:]
			}
			end := envRest.FindString(text)
			if end == "" && text != "" {
				return "", "", errors.New("a value with spaces needs quotes")
			}
			return b.String(), text[len(end):], nil
		case text[0] == '\\' && quote == '"':
			char, ok := map[byte]byte{'"': '"', '\\': '\\', '$': '$', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}[(text + "\x00")[1]]
			if !ok {
				return "", "", errors.New("an escape is not known; write \\\\ for a backslash")
			}
			b.WriteByte(char)
			text = text[2:]
		case text[0] == '$' && quote != '\'':
			if m := envReference.FindStringSubmatch(text); m != nil {
				if found, ok := vars[m[1]]; ok {
					b.WriteString(found)
					text = text[len(m[0]):]
					continue
				}
			}
			b.WriteByte('$')
			text = text[1:]
		default:
			b.WriteByte(text[0])
			text = text[1:]
		}
	}
}
