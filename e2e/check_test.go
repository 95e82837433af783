package e2e

import (
	"encoding/json"
	"strings"
	"testing"

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

	s.exec("DROP DATABASE `" + s.schema + "`")
	failed := s.failed()
	require.Len(t, failed, 1)
	require.Equal(t, s.source()+" database", failed[0].Subject)
	require.Contains(t, failed[0].Said, "there is nothing to back up")

	s.stopWorker()
	out, code := s.remora("check")
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
