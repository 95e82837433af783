package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// TestCheckSaysWhatToDo tries everything on a real site, then breaks one thing after the other.
func TestCheckSaysWhatToDo(t *testing.T) {
	s := newSite(t, small)
	s.must("backup", s.source())
	out := s.must("check")
	for _, line := range []string{
		"configuration", "temporal", "queue remora", "queue remora-data", "worker", "repository", "repository space", "repository clock",
		s.source() + " database", s.source() + " files", s.source() + " restore of database", s.source() + " maintenance",
	} {
		require.Regexp(t, `(?m)^ok +`+line+`  `, out)
	}
	require.Contains(t, out, "0 of ")

	// A right that is missing is named with its GRANT, and a repository that is gone with its folder.
	s.stopWorker()
	s.exec("CREATE USER IF NOT EXISTS poor", "GRANT SELECT ON `"+s.schema+"`.* TO poor")
	t.Cleanup(func() { _, _ = s.db().Exec("DROP USER poor") })
	text, err := os.ReadFile(s.config)
	require.NoError(t, err)
	poor := regexp.MustCompile(`user: "?root"?`).ReplaceAllString(string(text), "user: poor")
	require.NoError(t, os.WriteFile(s.config, []byte(poor), 0o600))
	s.startWorker()
	require.Eventually(t, func() bool { return len(s.failed()) > 0 }, time.Minute, time.Second)
	failed := s.failed()
	require.Equal(t, s.source()+" database", failed[0].Subject)
	require.Contains(t, failed[0].Hint, "GRANT ")
	require.Equal(t, s.source()+" restore of database", failed[1].Subject)
	require.Contains(t, failed[1].Hint, "GRANT ")
	require.Len(t, failed, 2)
	require.NoError(t, os.Rename(filepath.Join(s.dir, "repository"), filepath.Join(s.dir, "away")))
	out, code := s.remora("check")
	require.Equal(t, 1, code, out)
	require.Regexp(t, `(?m)^FAIL +repository  .*`, out)
	require.NoError(t, os.Rename(filepath.Join(s.dir, "away"), filepath.Join(s.dir, "repository")))

	s.stopWorker()
	out, code = s.remora("check")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "ok    temporal", "the rest is still printed")
	require.Contains(t, out, "no worker answered")
}

// failed are the failed findings of a check that must fail.
func (s *site) failed() (failed []remora.Finding) {
	s.t.Helper()
	out, code := s.remora("check", "-o", "json")
	require.Equal(s.t, 1, code, out)
	for line := range strings.Lines(out) {
		var f remora.Finding
		require.NoError(s.t, json.Unmarshal([]byte(line), &f))
		if f.Level == remora.Failing {
			failed = append(failed, f)
		}
	}
	return failed
}
