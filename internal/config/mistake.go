package config

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/agnivade/levenshtein"

	"github.com/remora-backup/remora/internal/remora"
)

// Mistake is one thing that is wrong in a configuration. Its text never repeats a value that could be a password.
type Mistake struct {
	// File, Line and Column say where it stands; File is empty for what comes from the environment.
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	// Key is the path of the key: "sources.shop.database.address", or the name of an environment variable.
	Key string `json:"key,omitempty"`
	// Text says what is wrong and what to write.
	Text string `json:"text"`
}

// String is "file:line:column: key: what is wrong, what to write".
func (m Mistake) String() string {
	var b strings.Builder
	if m.File != "" {
		fmt.Fprintf(&b, "%s:%d:%d: ", m.File, m.Line, m.Column)
	}
	if m.Key != "" {
		fmt.Fprintf(&b, "%s: ", m.Key)
	}
	b.WriteString(m.Text)
	return remora.OneLine(b.String())
}

// Mistakes are all things that are wrong in a configuration, in the order of the file.
type Mistakes []Mistake

// Error joins the mistakes into one line; a command that has more room prints them one by one.
func (m Mistakes) Error() string {
	return strings.Join(remora.Each(m, Mistake.String), "; ")
}

// plainKey are keys that may be repeated in a message: a password put in the wrong place rarely looks like one.
var plainKey = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,40}$`)

func shown(key string) string {
	if plainKey.MatchString(key) {
		return key
	}
	return "(a key that is not a word)"
}

// nearest is the word that was probably meant; "" when none is near.
func nearest(word string, words []string) string {
	best, least := "", 2+len(word)/3
	for _, w := range words {
		if d := levenshtein.ComputeDistance(strings.ToLower(word), w); d < least && d < len(w) {
			best, least = w, d
		}
	}
	return best
}

// joined writes "a, b and c".
func joined(words []string, last string) string {
	switch len(words) {
	case 0:
		return "nothing"
	case 1:
		return words[0]
	default:
		n := len(words) - 1
		return strings.Join(words[:n], ", ") + " " + last + " " + words[n]
	}
}
