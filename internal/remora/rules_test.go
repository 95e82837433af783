package remora

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each rule that docs/explanation/safety.md explains is in its table, and has tests of its number where the table says.
func TestEachSafetyRuleIsTestedWhereItSays(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "explanation", "safety.md"))
	require.NoError(t, err)
	explained := regexp.MustCompile(`(?m)^- \*\*(S\d+) `).FindAllStringSubmatch(string(text), -1)
	rows := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (S\d+) \| [^|]+ \| ([^|]+) \|$`).FindAllStringSubmatch(string(text), -1) {
		rows[row[1]] = row[2]
	}
	require.Greater(t, len(explained), 25)
	require.Len(t, rows, len(explained))
	for _, e := range explained {
		rule := e[1]
		require.Contains(t, rows, rule)
		named := regexp.MustCompile(`func (Test|play)` + rule + `[A-Z]|"(Test)?` + rule + `: `)
		for dir := range strings.SplitSeq(rows[rule], ", ") {
			files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(dir), "*_test.go"))
			require.NoError(t, err)
			found := false
			for _, file := range files {
				text, err := os.ReadFile(file)
				require.NoError(t, err)
				found = found || named.Match(text)
			}
			require.True(t, found, "%s has no test of %s in its name", dir, rule)
		}
	}
}
