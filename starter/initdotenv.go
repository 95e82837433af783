package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

var (
	envName = regexp.MustCompile(`^(?:export[ \t]+)?["']?([A-Za-z0-9_.]+)["']?[ \t]*=[ \t]*`)
	// A value is bare, or in quotes; behind it there is at most a comment.
	envBare   = regexp.MustCompile(`^([^# \t\n]*)`)
	envSingle = regexp.MustCompile(`^'([^'\n]*)'`)
	envDouble = regexp.MustCompile(`(?s)^"((?:[^"\\]|\\.)*)"`)
	envRest   = regexp.MustCompile(`^[ \t]*(?:#[^\n]*)?(?:\n|$)`)

	envReference = regexp.MustCompile(`\$\{[A-Za-z0-9_.]+\}`)
	envSpecial   = regexp.MustCompile(`(?s)\\.|` + envReference.String())
	envEscapes   = map[byte]string{'"': `"`, '\\': `\`, '$': "$", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v"}
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
	how, special := envBare, envReference
	switch {
	case strings.HasPrefix(text, `"`):
		how, special = envDouble, envSpecial
	case strings.HasPrefix(text, `'`):
		how = envSingle
	}
	m := how.FindStringSubmatch(text)
	if m == nil {
		return "", "", errors.New("the closing quote is missing")
	}
	rest = text[len(m[0]):]
	end := envRest.FindString(rest)
	if end == "" && rest != "" {
		return "", "", errors.New("a value with spaces needs quotes")
	}
	if how == envSingle {
		return m[1], rest[len(end):], nil
	}
	value = special.ReplaceAllStringFunc(m[1], func(found string) string {
		known, ok := envEscapes[found[1]]
		if found[0] == '$' {
			if known, ok = vars[found[2:len(found)-1]]; !ok {
				return found
			}
		}
		if !ok {
			err = errors.New("an escape is not known; write \\\\ for a backslash")
		}
		return known
	})
	return value, rest[len(end):], err
}
