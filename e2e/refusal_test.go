package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// refusal is what a bad input must get: an exit code, and one line that names the thing and the cause.
type refusal struct {
	args  []string
	code  int
	names []string // what the text must contain
}

func (s *site) refuses(t *testing.T, r refusal) {
	t.Helper()
	out, code := s.remora(r.args...)
	require.Equal(t, r.code, code, "remora %s\n%s", strings.Join(r.args, " "), out)
	for _, word := range r.names {
		require.Contains(t, out, word)
	}
	for line := range strings.Lines(out) {
		require.NotContains(t, line, "goroutine ", "a panic")
		require.NotContains(t, line, "\x1b")
	}
}

// TestBadNames gives names of things that do not exist, or that try to be more than names.
func TestBadNames(t *testing.T) {
	s := newSite(t, small)
	s.must("backup", s.source(), "--name", "first")
	for name, r := range map[string]refusal{
		"unknown source":           {[]string{"backup", "nowhere"}, 4, []string{"nowhere", s.source()}},
		"source with a path":       {[]string{"backup", "../etc"}, 4, []string{"../etc"}},
		"unknown backup":           {[]string{"restore", "shop-2020", "--force"}, 4, []string{"shop-2020"}},
		"backup with a path":       {[]string{"show", "../../etc/passwd"}, 4, []string{"../../etc/passwd"}},
		"backup with spaces":       {[]string{"show", "no such thing"}, 4, []string{"no such thing"}},
		"backup with quotes":       {[]string{"show", `a'b"c`}, 4, []string{`a'b`}},
		"backup with a newline":    {[]string{"show", "a\nb"}, 4, []string{`a\nb`}},
		"empty backup":             {[]string{"show", ""}, 2, nil},
		"path that leaves":         {[]string{"ls", "first", "../.."}, 4, []string{"../.."}},
		"unknown restore":          {[]string{"rollback", "nothing"}, 4, []string{"nothing"}},
		"backup name with newline": {[]string{"backup", s.source(), "--name", "a\nb"}, 2, []string{"name"}},
		"unknown flag":             {[]string{"backup", "--hurry"}, 2, []string{"--hurry"}},
		"unknown command":          {[]string{"bakcup"}, 2, []string{"bakcup"}},
		"unknown kind":             {[]string{"history", "--kind", "everything"}, 2, []string{"everything"}},
	} {
		t.Run(name, func(t *testing.T) { s.refuses(t, r) })
	}
	s.must("backup", s.source(), "--name", "second")
	t.Run("ambiguous backup", func(t *testing.T) {
		s.refuses(t, refusal{[]string{"show", s.source()}, 2, []string{"could be", s.source() + "-20"}})
	})
}

// TestOneAtATime starts a second backup and a restore while one runs (exit code 3), and restores a failed run.
func TestOneAtATime(t *testing.T) {
	s := newSite(t, small)
	s.must("backup", s.source(), "--name", "good")

	release := s.lockTable(t, "users") // the dump waits for this lock, so that there is something to meet
	s.must("backup", s.source(), "--detach")
	s.refuses(t, refusal{[]string{"backup", s.source()}, 3, []string{s.source(), "backup"}})
	s.must("cancel", s.source())
	release()
	s.waitIdle()

	s.must("restore", "good", "--force")
	s.refuses(t, refusal{[]string{"restore", "good", "--force"}, 3, []string{"rollback", "accept"}})
	// Whoever only looks is not refused.
	s.exec("UPDATE users SET email = CONCAT('x', email) WHERE id < 4", "DELETE FROM users WHERE id = 5", "CREATE VIEW mails AS SELECT email FROM users")
	out := s.must("restore", "good", "--preview")
	require.Regexp(t, s.schema+`\.users +[0-9,]+ +[0-9,]+ +1 +0 +3 +1 of 1\n`, out)
	require.Contains(t, out, "takes away view "+s.schema+".mails\n")
	require.Contains(t, out, "a restore would be refused now: ")
	require.Contains(t, out, "Nothing was changed.")
	s.must("accept", s.source())

	s.exec("CREATE TABLE merged (id INT) ENGINE = MERGE UNION = ()")
	s.refuses(t, refusal{[]string{"backup", s.source()}, 1, []string{s.schema, "table merged", "MRG_MYISAM"}})
	s.exec("DROP TABLE merged")
	failed := ""
	for _, b := range list[remora.Backup](s, "history", s.source(), "--status", "failed") {
		failed = b.ID
		require.NotEmpty(t, b.Problem)
	}
	require.NotEmpty(t, failed, "a failed run is in the history")
	s.refuses(t, refusal{[]string{"restore", failed, "--force"}, 2, []string{failed, "failed"}})
}

// TestDatabaseTrouble meets a wrong password, a server that is away and a right that is missing.
func TestDatabaseTrouble(t *testing.T) {
	s := newSite(t, small)
	user := "e2e_" + s.schema[len(s.schema)-6:]
	s.exec("CREATE USER '"+user+"'@'127.0.0.1' IDENTIFIED BY 'right'", "GRANT SELECT ON `"+s.schema+"`.* TO '"+user+"'@'127.0.0.1'")
	t.Cleanup(func() { s.exec("DROP USER '" + user + "'@'127.0.0.1'") })
	password := filepath.Join(s.dir, "password")
	original, err := os.ReadFile(s.config)
	require.NoError(t, err)

	as := func(password string) {
		text := strings.Replace(string(original), "user: root", "user: "+user+"\n      password_file: "+password, 1)
		require.NotEqual(t, string(original), text)
		require.NoError(t, os.WriteFile(s.config, []byte(text), 0o600))
		s.stopWorker()
		s.startWorker()
	}
	require.NoError(t, os.WriteFile(password, []byte("wrong\n"), 0o600))
	as(password)
	s.refuses(t, refusal{[]string{"backup", s.source()}, 1, []string{user, "password"}})

	require.NoError(t, os.WriteFile(password, []byte("right\n"), 0o600)) // read again: no restart is needed (S21)
	s.refuses(t, refusal{[]string{"backup", s.source()}, 1, []string{"GRANT", "TRIGGER", user}})

	require.NoError(t, os.WriteFile(s.config, []byte(strings.ReplaceAll(string(original), s.mysql.Address, "127.0.0.1:1")), 0o600))
	s.stopWorker()
	s.startWorker()
	s.refuses(t, refusal{[]string{"backup", s.source()}, 1, []string{"127.0.0.1:1", "refused"}})
}

// TestRepositoryTrouble meets a wrong password, a damaged repository and a full disk.
func TestRepositoryTrouble(t *testing.T) {
	s := newSite(t, small)
	s.must("backup", s.source(), "--name", "good")
	password := s.onlyFile("*.password")
	right, err := os.ReadFile(password)
	require.NoError(t, err)

	require.NoError(t, os.WriteFile(password, []byte("wrong\n"), 0o600))
	s.refuses(t, refusal{[]string{"history"}, 1, []string{"password"}})
	require.NoError(t, os.WriteFile(password, right, 0o600))
	s.must("history")

	// Damage: one byte of every pack is flipped; a verification or a restore must say so, and the live data stays.
	before := s.read()
	packs := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(s.dir, "repository"), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasPrefix(rest(s.dir, path), "repository/p") {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		content[len(content)/2] ^= 1
		packs++
		return os.WriteFile(path, content, 0o600)
	}))
	require.NotZero(t, packs)
	out, code := s.remora("restore", "good", "--force")
	require.NotZero(t, code, out)
	s.requireEqual(before, s.read(), "after a restore from a damaged repository")
	s.requireNothingLeft()
}

// TestFullDisk backs up into a file system that is too small, then restores what was there before.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	s := newSite(t, small)
	s.must("backup", s.source(), "--name", "good")
	repository := filepath.Join(s.dir, "repository")
	size := tail(run1(t, "du", "-sk", repository), 1000)
	kib := strings.Fields(size)[0]
	tmpfs := filepath.Join(s.dir, "tmpfs")
	require.NoError(t, os.Mkdir(tmpfs, 0o700))
	if err := syscall.Mount("tmpfs", tmpfs, "tmpfs", 0, "size="+kib+"k"); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(tmpfs, syscall.MNT_DETACH) })
	s.stopWorker()
	run1(t, "cp", "-a", repository, filepath.Join(tmpfs, "repository"))
	text, err := os.ReadFile(s.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(s.config, []byte(strings.ReplaceAll(string(text), "path: "+repository, "path: "+filepath.Join(tmpfs, "repository"))), 0o600))
	s.startWorker()
	s.exec("UPDATE orders SET note = REPEAT(UUID(), 40)", "INSERT INTO users (email, name) SELECT CONCAT(email, '2'), HEX(RANDOM_BYTES(40)) FROM users")
	s.refuses(t, refusal{[]string{"backup", s.source()}, 1, []string{"need about", "free", tmpfs, "remora cleanup"}})
	require.Equal(t, "good", list[remora.Backup](s, "history", s.source(), "--status", "completed")[0].Name)
	s.must("restore", "good", "--force", "--without-safety-backup", "the disk is full")
	s.must("rollback", s.source())
}

func rest(base, path string) string {
	rel, _ := filepath.Rel(base, path)
	return filepath.ToSlash(rel)
}

func run1(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

// onlyFile is the one file beside the configuration that matches.
func (s *site) onlyFile(pattern string) string {
	files, err := filepath.Glob(filepath.Join(s.dir, pattern))
	require.NoError(s.t, err)
	require.Len(s.t, files, 1)
	return files[0]
}

// waitIdle waits until nothing runs on the source.
func (s *site) waitIdle() {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		out, code := s.remora("cancel", s.source())
		return code == 0 && strings.Contains(out, "othing")
	}, time.Minute, 200*time.Millisecond)
}
