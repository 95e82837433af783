package config

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

func TestPasswordFilesThatAreNotSecretAreRefused(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chmod(path, mode))
		return path
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	for _, tc := range []struct{ name, path, says, hint string }{
		{"everybody reads", file("world", "hunter2", 0o644), "its mode is 0644: others than its owner can read or change it", "Run: chmod 600 " + filepath.Join(dir, "world")},
		{"group writes", file("group writes", "hunter2", 0o660), "its mode is 0660", "Run: chmod 600 '" + filepath.Join(dir, "group writes") + "'"},
		{"missing", filepath.Join(dir, "none"), "the file is missing", "mode 0600"},
		{"empty", file("empty", "\n", 0o600), "it is empty", ""},
		{"a folder", filepath.Join(dir, "folder"), "it is not a regular file", ""},
		{"two lines", file("lines", "hunter2\nhunter2\n", 0o600), "it has more than one line", ""},
		{"huge", file("huge", strings.Repeat("hunter2", 20000), 0o600), "larger than 64 KiB", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ReadSecretFile(tc.path)
			var p *remora.Problem
			require.ErrorAs(t, err, &p)
			require.Equal(t, remora.Denied, p.Kind)
			require.Equal(t, tc.path, p.Subject)
			require.Contains(t, p.Error(), tc.says)
			require.Contains(t, p.Hint, tc.hint)
			require.NotContains(t, p.Error(), "hunter2")
		})
	}
}

// Secrets of a container come with the mode 0444, and from a mount that the container cannot write to.
func TestSecretsThatAnEngineMountsAreRead(t *testing.T) {
	const helper = "REMORA_CONFIG_SECRET"
	if file := os.Getenv(helper); file != "" {
		value, err := ReadSecretFile(file)
		if err != nil {
			fmt.Println(err)
		} else {
			fmt.Println("read", len(value.Reveal()))
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount something")
	}
	const secret = "mount -t tmpfs none /run && mkdir /run/secrets && mount -t tmpfs none /run/secrets && echo hunter2 > /run/secrets/p && chmod 444 /run/secrets/p"
	const sealed = " && mount -o remount,ro /run/secrets"
	for name, c := range map[string]struct{ script, file, says string }{
		"a secret of this container": {secret + sealed, "/run/secrets/p", "read 7"},
		"through a symlink":          {secret + " && ln -s /run/secrets/p /run/p" + sealed, "/run/p", "read 7"},
		"the mount can be written":   {secret, "/run/secrets/p", "its mode is 0444"},
		"a link that leads out":      {secret + " && cp -p /run/secrets/p /run/p && ln -s /run/p /run/secrets/q" + sealed, "/run/secrets/q", "its mode is 0444"},
		"another read-only mount":    {"mount -t tmpfs none /run && echo hunter2 > /run/p && chmod 444 /run/p && mount -o remount,ro /run", "/run/p", "its mode is 0444"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", c.script+` && exec "$0" "$@"`, os.Args[0], "-test.run=^TestSecretsThatAnEngineMountsAreRead$")
			cmd.Env = append(os.Environ(), helper+"="+c.file)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Contains(t, string(out), c.says)
		})
	}
}

// S21: a password that was rotated is met by the next connection.
func TestS21PasswordsAreReadWhenTheyAreNeeded(t *testing.T) {
	vars := map[string]string{}
	file := write(t, "repository: {path: /b, password_file: p}\nsources: {s: {database: {address: h, user: u, password_env: P, schemas: [s]}}}\n")
	c, err := Load(file, func(name string) string { return vars[name] + env()(name) })
	require.NoError(t, err, "the places of passwords need not be filled to read the configuration")

	_, err = c.Repository.Password()
	require.ErrorContains(t, err, "the file is missing")
	_, err = c.Sources["s"].Database.Password()
	require.ErrorContains(t, err, "environment variable P): it is not set")
	_, errs := c.Check()
	require.Len(t, errs, 2)

	for _, want := range []string{"first", "second with spaces "} {
		vars["P"] = want
		require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(file), "p"), []byte(want+"\r\n"), 0o600))
		for _, read := range []remora.SecretFunc{c.Repository.Password, c.Sources["s"].Database.Password, c.Sources["s"].Database.RestorePassword} {
			got, err := read()
			require.NoError(t, err)
			require.Equal(t, want, got.Reveal())
		}
	}
	require.NoError(t, os.Chmod(filepath.Join(filepath.Dir(file), "p"), 0o640))
	warnings, errs := c.Check()
	require.Empty(t, errs)
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0], "the group can read")

	require.NotContains(t, fmt.Sprintf("%+v %#v", c, c.Repository), "second")
	text, err := json.Marshal(c.Warnings)
	require.NoError(t, err)
	require.NotContains(t, string(text), "second")
}

func TestMissingDirectoriesAreWarnedOf(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "there"), 0o755))
	c, err := Load(write(t, "repository: {path: /b, password_env: P}\nsources: {s: {files: {root: "+dir+", directories: [there, gone]}}}\n"), env("P", "x"))
	require.NoError(t, err)
	warnings, errs := c.Check()
	require.Empty(t, errs)
	require.Equal(t, []string{"sources.s.files: there is no directory " + filepath.Join(dir, "gone") + " on this machine"}, warnings)
}

// S13: a copy may take its password from the repository's by a link, and opens while that is changed, too.
func TestS13TheNextPasswordLiesBesideTheFileThatALinkLeadsTo(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "password"), filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.WriteFile(file, []byte("old\n"), 0o600))
	require.NoError(t, os.WriteFile(remora.NextFile(file), []byte("new\n"), 0o600))
	require.NoError(t, os.Symlink(file, link))
	for _, at := range []string{file, link} {
		next, err := Repository{PasswordFile: at}.Next()()
		require.NoError(t, err)
		require.Equal(t, "new", next.Reveal())
	}
}
