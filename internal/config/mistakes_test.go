package config

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/remora-backup/remora/internal/remora"
)

func TestEveryMistakeIsToldWithItsPlaceAndWhatToWrite(t *testing.T) {
	const golden = "testdata/mistakes.txtar"
	archive, err := txtar.ParseFile(golden)
	require.NoError(t, err)
	fresh := &txtar.Archive{Comment: archive.Comment}
	want := map[string]string{}
	for _, f := range archive.Files {
		want[f.Name] = string(f.Data)
	}
	for _, f := range archive.Files {
		name, isInput := strings.CutSuffix(f.Name, ".yaml")
		if !isInput {
			continue
		}
		t.Run(name, func(t *testing.T) {
			_, err := Load(write(t, string(f.Data)), env())
			require.Error(t, err)
			require.Equal(t, remora.Invalid, remora.KindOf(err))
			require.NotContains(t, err.Error(), "hunter2", "a password must not be repeated")
			require.NotContains(t, err.Error(), "\n")
			got := lines(err) + "\n"
			fresh.Files = append(fresh.Files, f, txtar.File{Name: name + ".want", Data: []byte(got)})
			if os.Getenv("UPDATE_GOLDEN") == "" {
				require.Empty(t, cmp.Diff(want[name+".want"], got))
			}
		})
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(golden, txtar.Format(fresh), 0o644))
	}
}

func TestEnvironmentIsCheckedToo(t *testing.T) {
	file := write(t, "repository: {password_env: P}\nsources: {a: {files: {root: /f, directories: [a]}}}\n")
	_, err := Load(file, env("BACKUP_STORAGE_PATH", "backups", "DB_BACKUP_TIMEOUT", "5m"))
	require.Equal(t, "BACKUP_STORAGE_PATH: the environment variable must be an absolute path\n"+
		"DB_BACKUP_TIMEOUT: the environment variable must be a whole number of seconds from 1 to 86400", lines(err))

	c, err := Load(file, env("BACKUP_STORAGE_PATH", "/mnt/backups/", "DB_BACKUP_TIMEOUT", "30"))
	require.NoError(t, err)
	require.Equal(t, "/mnt/backups", c.Repository.Path)
	require.Equal(t, 30*time.Second, c.Stall)

	file = write(t, "repository: {path: /written, password_env: P}\n")
	c, err = Load(file, env("BACKUP_STORAGE_PATH", "/mnt/backups"))
	require.NoError(t, err)
	require.Equal(t, "/written", c.Repository.Path, "the file wins")
}

func TestConfigurationIsFoundWhereItIsDocumented(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	_, err := Load("", env())
	require.Equal(t, remora.Invalid, remora.KindOf(err))
	require.ErrorContains(t, err, "there is neither ./remora.yaml nor /etc/remora/remora.yaml")

	put := func(name string) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte("repository: {path: /b, password_env: P}\n"), 0o600))
		return file
	}
	here, named, flag := put("remora.yaml"), put("named.yaml"), put("flag.yaml")
	for want, load := range map[string]func() (*Config, error){
		here:  func() (*Config, error) { return Load("", env()) },
		named: func() (*Config, error) { return Load("", env(FileVariable, named)) },
		flag:  func() (*Config, error) { return Load("flag.yaml", env(FileVariable, named)) },
	} {
		c, err := load()
		require.NoError(t, err)
		require.Equal(t, want, c.File)
	}
	_, err = Load("", env(FileVariable, "/no/such/file"))
	require.ErrorContains(t, err, "/no/such/file")
	_, err = Load(dir, env())
	require.Equal(t, remora.Invalid, remora.KindOf(err))
	require.ErrorContains(t, err, "is a directory")
	require.NoError(t, os.WriteFile(here, make([]byte, maxFile+1), 0o600))
	_, err = Load("", env())
	require.ErrorContains(t, err, "larger than 64 KiB")
}

// The names that operators of Laravel applications have already: all twelve are read or refused, none is ignored.
func TestEnvironmentOfLaravelOperators(t *testing.T) {
	file := write(t, `
repository: {password_env: P}
sources:
  a: {database: {address: h, user: u, password_env: P, schemas: [a]}}
  b: {database: {address: h, user: u, password_env: P, schemas: [b]}}
`)
	unset, err := Load(file, env("BACKUP_STORAGE_PATH", "/b"))
	require.NoError(t, err)
	require.Zero(t, unset.MaxBackup)
	require.Empty(t, unset.Compression)
	require.Equal(t, remora.KeepPolicy{Last: 7, DatabaseDays: 30, FilesDays: 14}, unset.Keep)
	require.Equal(t, Notify{OnFailure: true}, unset.Notify)
	d := unset.Sources["a"].Database
	require.True(t, d.SingleTransaction && d.Routines && d.Triggers)

	given := []string{
		"BACKUP_STORAGE_PATH", "/b", "DB_BACKUP_TIMEOUT", "60", "BACKUP_MAX_FILE_SIZE", "2048", "BACKUP_COMPRESSION_LEVEL", "6",
		"BACKUP_DATABASE_RETENTION_DAYS", "7", "BACKUP_FILES_RETENTION_DAYS", "8", "BACKUP_NOTIFICATION_EMAIL", "ops@example.com",
		"BACKUP_NOTIFY_ON_SUCCESS", "true", "BACKUP_NOTIFY_ON_FAILURE", "(false)",
		"DB_BACKUP_SINGLE_TRANSACTION", "false", "DB_BACKUP_ROUTINES", "0", "DB_BACKUP_TRIGGERS", "Off",
	}
	c, err := Load(file, env(given...))
	require.NoError(t, err)
	require.EqualValues(t, 2048<<20, c.MaxBackup)
	require.Equal(t, "default", c.Compression)
	require.Equal(t, remora.KeepPolicy{Last: 7, DatabaseDays: 7, FilesDays: 8}, c.Keep)
	require.Equal(t, Notify{OnSuccess: true}, c.Notify)
	for _, name := range c.Names() {
		d := c.Sources[name].Database
		require.False(t, d.SingleTransaction || d.Routines || d.Triggers)
	}
	said := strings.Join(c.Warnings, "\n")
	require.NotContains(t, said, "without effect")
	require.Contains(t, said, "BACKUP_NOTIFICATION_EMAIL: no mail is sent, since no server is configured")
	for _, name := range []string{"DB_BACKUP_SINGLE_TRANSACTION", "DB_BACKUP_ROUTINES", "DB_BACKUP_TRIGGERS"} {
		require.Equal(t, 2, strings.Count(said, name+" is false: "), name)
	}
	for level, want := range []string{"none", "fastest", "fastest", "fastest", "default", "default", "default", "better", "better", "better"} {
		c, err := Load(file, env("BACKUP_STORAGE_PATH", "/b", "BACKUP_COMPRESSION_LEVEL", fmt.Sprint(level)))
		require.NoError(t, err)
		require.Equal(t, want, c.Compression)
	}

	for i := 0; i < len(given); i += 2 { // no value of any of them is taken for another
		nonsense := env("BACKUP_STORAGE_PATH", "/b", given[i], "hunter2")
		_, err := Load(file, nonsense)
		require.ErrorContains(t, err, given[i]+": the environment variable must be", given[i])
		require.Equal(t, 1, strings.Count(err.Error(), given[i]))
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestSymbolicLinksDoNotHideAnOverlap(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "real", "receipts"), 0o755))
	require.NoError(t, os.Symlink("real", filepath.Join(dir, "link")))
	_, err := Load(write(t, fmt.Sprintf(`
repository: {path: /b, password_env: P}
sources:
  a: {files: {root: %[1]s/real, directories: [receipts]}}
  b: {files: {root: %[1]s/link, directories: [receipts/new]}}
`, dir)), env())
	require.ErrorContains(t, err, "sources.b.files.directories[0]: it overlaps with directory receipts of source a")
}

// The parser is somebody else's: whatever it is given, people get a message, soon, and never a crash.
func TestArbitraryBytesNeverPanic(t *testing.T) {
	check := func(text []byte) {
		_, err := parse("/etc/remora.yaml", text, env())
		_ = err.Error()
	}
	words := []string{"repository", "sources", "shop", ": ", "- ", "\n", "  ", "{", "}", "[", "]", "&a ", "*a", "<<", "|", ">", "\"", "'", "#", "?", "!", "%", "---", "\t", "0x", "~", "\x00", "é", "\xff"}
	rapid.Check(t, func(t *rapid.T) {
		check(rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "bytes"))
		check([]byte(strings.Join(rapid.SliceOfN(rapid.SampledFrom(words), 0, 60).Draw(t, "words"), "")))
	})
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 { // a real file with a few bytes changed
		text := []byte(whole)
		for range 1 + random.IntN(4) {
			text[random.IntN(len(text))] = words[random.IntN(len(words))][0]
		}
		check(text)
	}
	for _, deep := range []string{"[", "{", "- ", "{a: ", "? ", "a: &a ", "((", "\n "} {
		started := time.Now()
		check([]byte(strings.Repeat(deep, maxFile/4/len(deep))))
		require.Less(t, time.Since(started), 20*time.Second, "%q", deep)
	}
}

func TestUnknownSourceIsAnsweredWithASuggestion(t *testing.T) {
	c, err := Load(write(t, whole), env())
	require.NoError(t, err)
	for name, hint := range map[string]string{
		"shp":     "Did you mean shop?",
		"payroll": "Configured in " + c.File + ": blog, cafe, kiosk and shop.",
	} {
		_, err := c.Source(name)
		var p *remora.Problem
		require.ErrorAs(t, err, &p)
		require.Equal(t, remora.NotFound, p.Kind)
		require.Equal(t, hint, p.Hint)
	}
}
