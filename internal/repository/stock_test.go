package repository

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
	"github.com/stretchr/testify/require"
)

// stock is the unmodified kopia command, connected to a repository of ours as its guide says.
type stock struct {
	program string
	dir     string
}

func stockKopia(t *testing.T, cfg Config, flags ...string) stock {
	t.Helper()
	k := stock{program: testenv.Tool(t, "kopia"), dir: t.TempDir()}
	at := []string{"filesystem", "--path=" + cfg.Path}
	if b := cfg.Bucket; b != nil {
		at = []string{"s3", "--endpoint=" + b.Endpoint, "--bucket=" + b.Name, "--prefix=" + b.Prefix, "--disable-tls"}
	}
	k.run(t, append(append([]string{"repository", "connect"}, at...), append(flags, "--no-check-for-updates")...)...)
	return k
}

func (k stock) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), k.program, append([]string{"--config-file=" + filepath.Join(k.dir, "config"), "--log-dir=" + filepath.Join(k.dir, "log"), "--no-progress"}, args...)...)
	c.Env = append(os.Environ(), "KOPIA_PASSWORD="+password, "AWS_ACCESS_KEY_ID="+testenv.S3AccessKey, "AWS_SECRET_ACCESS_KEY="+testenv.S3SecretKey, "HOME="+k.dir, "KOPIA_CACHE_DIRECTORY="+filepath.Join(k.dir, "cache"))
	return c
}

func (k stock) run(t *testing.T, args ...string) string {
	t.Helper()
	c := k.command(t, args...)
	var problems strings.Builder
	c.Stderr = &problems
	out, err := c.Output()
	require.NoError(t, err, "kopia %s: %s", strings.Join(args, " "), problems.String())
	return string(out)
}

func TestTheStockCommandListsVerifiesAndRestores(t *testing.T) {
	if testing.Short() {
		t.Skip("the first run builds the stock command")
	}
	everywhere(t, testTheStockCommandListsVerifiesAndRestores)
}

func testTheStockCommandListsVerifiesAndRestores(t *testing.T, r *Repository) {
	m := draft("shop", "run-1")
	m.Name = "before the migration"
	rows := noise(1, 9<<20)
	p := begin(t, r, m, remora.Database)
	put(t, p, "shop/orders.tsv", rows)
	put(t, p, "shop/empty.tsv", nil)
	put(t, p, "load.sql", []byte("SELECT 1;\n"))
	finish(t, p, &m)
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "2024/01"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "2024/01/ünï code.pdf"), noise(2, 5<<20), 0o640))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "2024/empty"), nil, 0o600))
	require.NoError(t, os.Symlink("../2024/empty", filepath.Join(dir, "2024/link")))
	q := begin(t, r, m, remora.Files)
	_, err := q.PutTree(t.Context(), "receipts", dir, nil)
	require.NoError(t, err)
	finish(t, q, &m)
	m, err = r.Commit(t.Context(), m)
	require.NoError(t, err)
	unfinished := begin(t, r, draft("shop", "run-2"), remora.Database)
	put(t, unfinished, "half", noise(3, 100))
	_, _, err = unfinished.Finish(t.Context())
	require.NoError(t, err)

	k := stockKopia(t, r.cfg, "--readonly")
	var listed []struct {
		Description string            `json:"description"`
		Tags        map[string]string `json:"tags"`
		Root        struct {
			Obj string `json:"obj"`
		} `json:"rootEntry"`
	}
	require.NoError(t, json.Unmarshal([]byte(k.run(t, "snapshot", "list", "--all", "--json", "--tags=backup:"+m.ID)), &listed))
	require.Len(t, listed, 1)
	require.Equal(t, m.ID, listed[0].Description)
	require.Equal(t, "before the migration", listed[0].Tags["tag:name"])
	text := k.run(t, "snapshot", "list", "--all")
	require.Contains(t, text, "remora@"+r.Installation()+":/shop")
	require.Contains(t, text, listed[0].Root.Obj)
	require.Equal(t, 1, strings.Count(text, "files:"), "an unfinished part is not listed:\n%s", text)

	root := listed[0].Root.Obj
	require.ElementsMatch(t, []string{"RESTORE.md", "backup.json", "database", "files"}, strings.Fields(k.run(t, "list", root)))
	k.run(t, "snapshot", "verify", "--verify-files-percent=100")

	target := filepath.Join(t.TempDir(), "out")
	k.run(t, "snapshot", "restore", root, target)
	got, err := os.ReadFile(filepath.Join(target, "database/shop/orders.tsv"))
	require.NoError(t, err)
	require.Equal(t, rows, got)
	diff := exec.CommandContext(t.Context(), "diff", "-r", "--no-dereference", dir, filepath.Join(target, "files/receipts"))
	out, err := diff.CombinedOutput()
	require.NoError(t, err, string(out))
	for _, name := range []string{"2024/01/ünï code.pdf", "2024/empty"} {
		want, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		have, err := os.Stat(filepath.Join(target, "files/receipts", name))
		require.NoError(t, err)
		require.Equal(t, want.Mode(), have.Mode(), name)
		require.True(t, want.ModTime().Equal(have.ModTime()), name)
	}
	guide, err := os.ReadFile(filepath.Join(target, "RESTORE.md"))
	require.NoError(t, err)
	for _, step := range []string{"kopia repository connect filesystem", "kopia repository connect s3", r.Where(), "--readonly", "--tags=backup:" + m.ID, "kopia snapshot restore", "load.sql", "cp -a ./" + m.ID + "/files/"} {
		require.Contains(t, string(guide), step)
	}
}

func TestStockHousekeepingLeavesOurBackupsAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("the first run builds the stock command")
	}
	r := created(t)
	m := backedUp(t, r, draft("shop", "run-1"), map[string][]byte{"a": noise(1, 1<<20)})
	k := stockKopia(t, r.cfg)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "mine"), []byte("mine"), 0o600))
	for range 2 { // somebody uses the repository for something else, too
		k.run(t, "snapshot", "create", dir)
		k.run(t, "snapshot", "expire", "--all", "--delete")
	}
	maintenance, err := k.command(t, "maintenance", "run", "--full").CombinedOutput()
	require.Error(t, err, "reclaiming belongs to the installation alone")
	require.Contains(t, string(maintenance), "remora@"+r.Installation())
	verified(t, r, m.ID)
	all, err := r.List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Len(t, all, 1)
}
