package mysql

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/testenv"
)

func TestNumbersInJSONThatComeBackAsAnotherTextAreSeen(t *testing.T) {
	for text, differs := range map[string]bool{
		`{"a": 1.5, "b": [0.1, -2.0, 0.30000000000000004, 1e20, 1e-15, -12, 18446744073709551615]}`: false,
		`{"1.50": "1.50 \" 2.50", "b\\": "1.50", "c": "\\\"2.50"}`:                                  false,
		`[true, false, null, "e", {"e": {}}]`:                                                       false,
		`1.50`:                                                                                      true,
		`{"a": 10.00}`:                                                                              true,
		`{"a\\": 1.50}`:                                                                             true,
		`[1, 0.10]`:                                                                                 true,
		`[18446744073709551616]`:                                                                    true,
		`[1234567890123456.50]`:                                                                     true,
		`[0.0000000000000001]`:                                                                      true,
		`[0.1234567890123456789]`:                                                                   true,
		`{"a": "\"", "b": -1.50, "c": "x"}`:                                                         true,
		`{"a": "x", "b": 1234567890.1234560}`:                                                       true,
	} {
		for size := 1; size <= len(text); size++ { // in pieces of every size
			var j jsonText
			for rest := text; rest != ""; {
				n := min(size, len(rest))
				j.feed([]byte(rest[:n]), n == len(rest))
				rest = rest[n:]
			}
			require.Equal(t, differs, j.differs, "%s in pieces of %d", text, size)
		}
	}
}

// What is found in the text is what the server's own printing and parsing finds.
func TestWhatComesBackAsAnotherTextIsWhatTheServerSays(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	for _, number := range []string{
		"1e0 / 3", "0.1e0 + 0.2e0", "1e0 * 123456789012345", "1e0 * 1234567890123456", "1e14 + 0.5e0", "1e-14", "1e-15", "1.5e-5", "1e300", "-0e0", "2e0",
		"1.50", "2.0", "2.00", "0.1", "12345678901234.5", "1234567890123456.5", "1234567890123456.50", "12345678901234567.0", "1e15 + 0.5e0", "0.00000000000001", "0.000000000000001", "0.0000000000000001", "1e-16", "5", "18446744073709551615",
		"123456789012345678901234567890", "0.123456789012345678", "1.1234567890123456", "-1.50", "100000000000000000000.5",
	} {
		var text string
		var differs bool
		require.NoError(t, w.root.QueryRowContext(t.Context(), `SELECT t, t COLLATE utf8mb4_bin <> CONVERT(CAST(t AS JSON) USING utf8mb4) COLLATE utf8mb4_bin
			FROM (SELECT CONVERT(JSON_ARRAY(`+number+`) USING utf8mb4) AS t) AS one`).Scan(&text, &differs))
		var j jsonText
		j.feed([]byte(text), true)
		require.Equal(t, differs, j.differs, "%s: %s", number, text)
	}
}
