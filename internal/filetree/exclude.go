package filetree

import (
	"fmt"
	"path"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// patterns say what is neither captured nor replaced.
type patterns []string

func (p patterns) check() error {
	for _, pattern := range p {
		switch {
		case pattern == "" || strings.HasPrefix(pattern, "/") || strings.HasPrefix(pattern, "!"):
			return fmt.Errorf("exclude %q: patterns are relative to each directory, such as *.tmp or cache/**, and cannot be negated", pattern)
		case !doublestar.ValidatePattern(pattern):
			return fmt.Errorf("exclude %q is not a valid pattern", pattern)
		}
	}
	return nil
}

// match tells whether an entry, by its slash-separated path within a directory, is left alone. A directory that
// matches is left alone with everything in it.
func (p patterns) match(rel string) bool {
	base := path.Base(rel)
	if rel == base && reserved(rel) {
		return true
	}
	for _, pattern := range p {
		pattern = strings.TrimSuffix(pattern, "/")
		if doublestar.MatchUnvalidated(pattern, rel) || !strings.Contains(pattern, "/") && doublestar.MatchUnvalidated(pattern, base) {
			return true
		}
	}
	return false
}
