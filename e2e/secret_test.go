package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/testenv"
)

// TestNoSecretLeaves runs a backup, a restore, a rollback and failures, then looks for passwords and rows in all that
// was printed, logged, stored by Temporal or written unencrypted (I12).
func TestNoSecretLeaves(t *testing.T) {
	s := newSite(t, small)
	const row, word = "CANARY-ROW-8231", "CANARY-PASSWORD-4417"
	user := "canary_" + s.schema[len(s.schema)-6:]
	s.exec("UPDATE users SET name = '"+row+"' WHERE id <= 100",
		"CREATE USER '"+user+"'@'127.0.0.1' IDENTIFIED BY '"+word+"'", "GRANT ALL ON *.* TO '"+user+"'@'127.0.0.1'")
	t.Cleanup(func() { s.exec("DROP USER '" + user + "'@'127.0.0.1'") })
	passwordFile := filepath.Join(s.dir, "database.password")
	require.NoError(t, os.WriteFile(passwordFile, []byte(word+"\n"), 0o600))
	text, err := os.ReadFile(s.config)
	require.NoError(t, err)
	text = []byte(strings.Replace(string(text), "user: root", "user: "+user+"\n      password_file: "+passwordFile, 1))
	require.NoError(t, os.WriteFile(s.config, text, 0o600))
	s.stopWorker()
	s.startWorker()

	repositoryWord, err := os.ReadFile(s.onlyFile("repository.password"))
	require.NoError(t, err)
	canaries := map[string]string{"a row": row, "the database password": word, "the repository password": strings.TrimSpace(string(repositoryWord))}

	var printed strings.Builder
	run := func(args ...string) {
		out, _ := s.remora(args...)
		printed.WriteString(out)
	}
	run("backup", s.source(), "--name", "good")
	run("show", "good")
	s.exec("ALTER TABLE users MODIFY name VARCHAR(20)")
	run("restore", "good", "--force")
	run("rollback", s.source())
	run("accept", s.source())
	s.exec("CREATE VIEW v AS SELECT '" + row + "' AS word")
	run("backup", s.source())
	s.exec("DROP VIEW v")
	require.NoError(t, os.WriteFile(passwordFile, []byte(word+"-wrong\n"), 0o600))
	run("backup", s.source())
	run("history", "-o", "json")
	run("restores", "-o", "json")
	run("config", "check")
	s.stopWorker()

	places := map[string]string{"what the command printed": printed.String()}
	for _, dir := range []string{filepath.Join(s.dir, "state"), filepath.Join(s.dir, "repository"), testenv.Temporal(t).State()} {
		require.NoError(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			content, err := os.ReadFile(path)
			places[path] = string(content)
			return err
		}))
	}
	log, err := os.ReadFile(s.log.Name())
	require.NoError(t, err)
	places["the worker's log"] = string(log)
	require.True(t, anyHolds(places, s.source()), "the places hold what is no secret, or this test looks at nothing")
	for what, canary := range canaries {
		for where, content := range places {
			if bytes.Contains([]byte(content), []byte(canary)) {
				at := strings.Index(content, canary)
				t.Errorf("%s is in %s: %q", what, where, content[max(0, at-80):min(len(content), at+80)])
			}
		}
	}
}

// anyHolds tells whether Temporal's file, among the places, holds the text.
func anyHolds(places map[string]string, text string) bool {
	for where, content := range places {
		if strings.Contains(where, "temporal") && strings.Contains(content, text) {
			return true
		}
	}
	return false
}
