package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// TestABackupComesBackWithoutRemora follows the guide that lies in every backup, command by command, with the stock kopia
// and the stock mysql: from a directory, and from a bucket after the worker was killed in the middle of the backup.
func TestABackupComesBackWithoutRemora(t *testing.T) {
	t.Run("from a directory", func(t *testing.T) {
		s := newSite(t, small)
		s.must("backup", s.source())
		s.comesBackByHand("connect filesystem --path=/path/to/the/repository", "connect filesystem --path="+filepath.Join(s.dir, "repository"))
	})
	t.Run("from a bucket", func(t *testing.T) {
		at := small
		at.orders, at.bucket = 60000, testenv.MinIO(t).Bucket()
		at.bucket.Prefix = "shop/"
		s := newSite(t, at)
		random, hit := seed(t), false
		for tries := 0; !hit; tries++ {
			require.Less(t, tries, 10, "the backup was always over before the worker was killed")
			hit = s.killDuring(random, 1500*time.Millisecond, "backup", s.source())
		}
		s.comesBackByHand("connect s3 --endpoint=HOST:PORT --bucket=BUCKET --prefix=PREFIX/",
			"connect s3 --disable-tls --endpoint="+at.bucket.Endpoint+" --bucket="+at.bucket.Name+" --prefix="+at.bucket.Prefix)
	})
}

// comesBackByHand destroys the site and rebuilds it. The guide's line that opens the repository is filled in as a person
// would; so are the addresses, and the passwords that a person would type.
func (s *site) comesBackByHand(connect, filledIn string) {
	s.t.Helper()
	before := s.read()
	backup := list[remora.Backup](s, "history", s.source())[0]
	require.Equal(s.t, remora.Completed, backup.Status)
	s.stopWorker()
	s.exec("DROP DATABASE `" + s.schema + "`")
	s.removeUploads()

	password, err := os.ReadFile(filepath.Join(s.dir, "repository.password"))
	require.NoError(s.t, err)
	home := s.t.TempDir()
	bash := func(script string) string {
		s.t.Helper()
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
		cmd.Dir = home
		cmd.Env = []string{
			"HOME=" + home, "PATH=" + filepath.Join(home, "bin") + ":" + s.mysql.Bin() + ":" + os.Getenv("PATH"),
			"KOPIA_PASSWORD=" + strings.TrimSpace(string(password)), "KOPIA_CHECK_FOR_UPDATES=false",
			"AWS_ACCESS_KEY_ID=" + testenv.S3AccessKey, "AWS_SECRET_ACCESS_KEY=" + testenv.S3SecretKey,
		}
		out, err := cmd.CombinedOutput()
		require.NoError(s.t, err, "%s\n%s", script, out)
		return string(out)
	}
	require.NoError(s.t, os.Mkdir(filepath.Join(home, "bin"), 0o755))
	require.NoError(s.t, os.Symlink(testenv.Tool(s.t, "kopia"), filepath.Join(home, "bin", "kopia")))
	bash("kopia repository " + filledIn + " --readonly")
	root := regexp.MustCompile(`\bk[0-9a-f]{32,}\b`).FindString(bash("kopia snapshot list --all --tags=backup:" + backup.ID))
	require.NotEmpty(s.t, root)
	text := bash("kopia show " + root + "/RESTORE.md")
	require.Contains(s.t, text, connect)

	// What the guide says from here on is done as it is written.
	host, port, _ := strings.Cut(s.mysql.Address, ":")
	fill := strings.NewReplacer(
		"kopia repository "+connect, "kopia repository "+filledIn, "ROOT", root,
		"--host=127.0.0.1 --user=root --password", "--no-defaults --host="+host+" --port="+port+" --user=root",
		"cp -a ./"+backup.ID+"/files/DIRECTORY /where/it/was/", "cp -a "+home+"/"+backup.ID+"/files/*/ "+s.storage+"/",
	)
	var script []string
	for _, line := range strings.Split(text, "\n") {
		command, indented := strings.CutPrefix(line, "    ")
		other := strings.Contains(command, "repository connect") && !strings.Contains(command, connect)
		if indented && !other && !strings.HasPrefix(command, "remora ") && !strings.HasPrefix(command, "read ") {
			script = append(script, fill.Replace(command))
		}
	}
	require.GreaterOrEqual(s.t, len(script), 7, text)
	bash(strings.Join(script, "\n"))
	s.requireEqual(before, s.read(), "rebuilt by hand")
}
