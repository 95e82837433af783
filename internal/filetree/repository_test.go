package filetree_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/filetree"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

func TestARealRepositoryGivesItBack(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "public")
	sh := func(script string) string {
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", script)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	require.NoError(t, os.MkdirAll(filepath.Join(root, "receipts"), 0o755))
	sh(`cd receipts; mkdir -p 2024/deep empty; head -c 3000000 /dev/urandom > 2024/big; echo x > "2024/deep/a b"; : > zero
		ln -s ../nowhere dangling; ln 2024/big hard; chmod 750 2024; chmod 600 zero; touch -d @1.123456789 zero 2024; touch -h -d @5 dangling
		chmod 2775 empty; mkfifo pipe`)
	listing := `find . -mindepth 2 -printf '%p %y %m %U:%G %T@ %l ' \( -type f -exec sha256sum {} \; -o -printf '\n' \) | sort`
	before := sh(listing)

	password := func() (remora.Secret, error) { return "correct horse battery staple", nil }
	cfg := repository.Config{Path: filepath.Join(dir, "repository"), Password: password, State: filepath.Join(dir, "state")}
	require.NoError(t, repository.Create(t.Context(), cfg))
	r, err := repository.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close(t.Context()) })
	tree, err := filetree.New(filetree.Config{Source: "shop", Installation: r.Installation(), Root: root, Directories: []string{"receipts"}})
	require.NoError(t, err)

	m := remora.Manifest{
		Format: remora.ManifestFormat, ID: "shop-20260101T000000Z-0000", Run: "run-1", Source: "shop", Kind: remora.FilesBackup,
		Purpose: remora.Regular, Started: time.Now(), Ended: time.Now(),
	}
	w, err := r.Begin(t.Context(), repository.Spec{Source: "shop", Run: "run-1", Backup: m.ID, Kind: remora.Files})
	require.NoError(t, err)
	sum, err := tree.Capture(t.Context(), remora.Job{Run: "run-1"}, remora.Subject{}, w)
	require.NoError(t, err)
	require.Len(t, sum.Warnings, 1)
	require.Contains(t, sum.Warnings[0], "pipe")
	object, _, err := w.Finish(t.Context())
	require.NoError(t, err)
	m.Parts = []remora.PartRef{{Kind: remora.Files, Root: object, Summary: sum, Started: m.Started, Ended: m.Ended}}
	_, err = r.Commit(t.Context(), m)
	require.NoError(t, err)

	sh(`rm -rf receipts/2024; echo new > receipts/new`)
	from, err := r.Part(t.Context(), m.ID, remora.Files)
	require.NoError(t, err)
	job := remora.Job{Run: "run-2"}
	_, err = tree.Preflight(t.Context(), job, remora.Intent{From: from})
	require.NoError(t, err)
	_, err = tree.Stage(t.Context(), job, from)
	require.NoError(t, err)
	diff, err := tree.Compare(t.Context(), job, from)
	require.NoError(t, err)
	require.Empty(t, diff.Differences)
	require.NoError(t, tree.Switch(t.Context(), remora.Turn{Run: "run-2", Seq: 1, Live: remora.Restored}))
	// The pipe is in no backup: it stays (S8). All else, to the nanosecond, is as an independent eye saw it.
	require.Equal(t, before, sh(listing))
}
