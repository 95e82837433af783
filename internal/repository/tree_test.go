package repository

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/stretchr/testify/require"
)

func TestPutTreeSkipsWhatCannotBeStoredAndSaysSo(t *testing.T) {
	r := created(t)
	dir := t.TempDir()
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	listener, err := net.Listen("unix", filepath.Join(dir, "socket"))
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600))
	p := begin(t, r, draft("shop", "run-1"), remora.Files)
	sum, err := p.PutTree(t.Context(), "data", dir, nil)
	require.NoError(t, err)
	require.Equal(t, remora.TreeSummary{Files: 1, Directories: 1, Bytes: 1, Skipped: []string{"pipe (pipe)", "socket (socket)"}}, sum)
}

func TestACommittedTreeIsAProperFileSystem(t *testing.T) {
	everywhere(t, testACommittedTreeIsAProperFileSystem)
}

func testACommittedTreeIsAProperFileSystem(t *testing.T, r *Repository) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o750))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "hollow"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a/b/c/large"), noise(1, 5<<20+7), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a/empty"), nil, 0o600))
	require.NoError(t, os.Symlink("b/c/large", filepath.Join(dir, "a/file")))
	require.NoError(t, os.Symlink("../a/b", filepath.Join(dir, "hollow/dir")))
	m := draft("shop", "run-1")
	p := begin(t, r, m, remora.Files)
	_, err := p.PutTree(t.Context(), "data", dir, nil)
	require.NoError(t, err)
	finish(t, p, &m)
	_, err = r.Commit(t.Context(), m)
	require.NoError(t, err)
	part, err := r.Part(t.Context(), m.ID, remora.Files)
	require.NoError(t, err)
	require.NoError(t, fstest.TestFS(part, "data/a/b/c/large", "data/a/empty", "data/a/file", "data/hollow/dir"))
	got, err := fs.ReadFile(part, "data/hollow/dir/c/large")
	require.NoError(t, err)
	require.True(t, bytes.Equal(noise(1, 5<<20+7), got))
	f, err := part.Open("data/a/file")
	require.NoError(t, err)
	_, err = f.(io.Seeker).Seek(4<<20+1, io.SeekStart)
	require.NoError(t, err)
	rest, err := io.ReadAll(f)
	require.NoError(t, err)
	require.True(t, bytes.Equal(got[4<<20+1:], rest))
	require.NoError(t, f.Close())
}

func TestPutTreeRefusesByName(t *testing.T) {
	r := created(t)
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sub", "caf\xe9.txt"), []byte("x"), 0o600))
	p := begin(t, r, draft("shop", "run-1"), remora.Files)
	_, err := p.PutTree(t.Context(), "data", dir, nil)
	requireProblem(t, err, remora.Unsupported, `caf\xe9.txt`, "UTF-8")
	sum, err := p.PutTree(t.Context(), "data", dir, func(rel string) bool { return strings.HasSuffix(rel, ".txt") })
	require.NoError(t, err, "what is excluded does not matter, and a failed tree can be put again")
	require.Equal(t, int64(2), sum.Directories)
	_, err = p.PutTree(t.Context(), "data", dir, nil)
	requireProblem(t, err, remora.Internal, "twice")
	_, err = p.PutTree(t.Context(), "gone", filepath.Join(dir, "nothing here"), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Contains(t, err.Error(), "nothing here")
}

func TestFilesThatChangeWhileTheyAreReadAreNoted(t *testing.T) {
	r := created(t)
	dir := t.TempDir()
	name := filepath.Join(dir, "log")
	require.NoError(t, os.WriteFile(name, noise(1, 30<<20), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "quiet"), []byte("x"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "vanishing"), []byte("x"), 0o600))
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		for ctx.Err() == nil {
			if f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0); err == nil {
				_, _ = f.WriteString("one more line\n")
				_ = f.Close()
			}
			time.Sleep(time.Millisecond)
		}
	})
	p := begin(t, r, draft("shop", "run-1"), remora.Files)
	sum, err := p.PutTree(t.Context(), "data", dir, func(rel string) bool {
		if rel == "vanishing" {
			require.NoError(t, os.Remove(filepath.Join(dir, rel)))
		}
		return false
	})
	stop()
	writer.Wait()
	require.NoError(t, err)
	require.Equal(t, []string{"log", "vanishing (vanished)"}, sum.Changed)
	require.Equal(t, int64(2), sum.Files)
}

func TestPutTreeNeverLeavesItsDirectory(t *testing.T) {
	r := created(t)
	top := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(top, "secret"), []byte("secret"), 0o600))
	dir := filepath.Join(top, "data")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sub", "secret"), []byte("harmless"), 0o600))
	p := begin(t, r, draft("shop", "run-1"), remora.Files)
	_, err := p.PutTree(t.Context(), "data", dir, func(rel string) bool {
		if rel == "sub/secret" { // between the listing and the reading
			require.NoError(t, os.Rename(filepath.Join(dir, "sub"), filepath.Join(dir, "moved")))
			require.NoError(t, os.Symlink("..", filepath.Join(dir, "sub")))
		}
		return false
	})
	require.Error(t, err)
	require.NotErrorIs(t, err, fs.ErrNotExist)
}

func TestPutTreeEndsWithItsContext(t *testing.T) { everywhere(t, testPutTreeEndsWithItsContext) }

func testPutTreeEndsWithItsContext(t *testing.T, r *Repository) {
	dir := t.TempDir()
	for i := range 50 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), noise(uint64(i), 1<<20), 0o600))
	}
	p := begin(t, r, draft("shop", "run-1"), remora.Files)
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	_, err := p.PutTree(ctx, "data", dir, func(string) bool {
		if seen++; seen == 10 {
			cancel()
		}
		return false
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, seen, 15)
	err = p.Put(ctx, "late", func(w io.Writer) error {
		_, err := w.Write([]byte("x"))
		return err
	})
	require.ErrorIs(t, err, context.Canceled)
}

func TestABackupKnownToBeDamagedIsNotReused(t *testing.T) {
	r := created(t)
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(name, noise(1, 3<<20), 0o600))
	backup := func(run string, minute int) remora.Manifest {
		m := at("shop", run, minute)
		p := begin(t, r, m, remora.Files)
		_, err := p.PutTree(t.Context(), "data", dir, nil)
		require.NoError(t, err)
		finish(t, p, &m)
		_, err = r.Commit(t.Context(), m)
		require.NoError(t, err)
		return m
	}
	first := backup("run-1", 1)
	pack := largestPack(t, r)
	good, err := os.ReadFile(pack)
	require.NoError(t, err)
	require.NoError(t, os.Remove(pack))
	_, err = r.Verify(t.Context(), first.ID, nil)
	requireProblem(t, err, remora.Corrupt)
	// Other bytes under the same size and time: only a file that is read again shows them.
	info, err := os.Stat(name)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, noise(2, 3<<20), 0o600))
	require.NoError(t, os.Chtimes(name, info.ModTime(), info.ModTime()))
	second := backup("run-2", 2)
	require.NoError(t, os.WriteFile(pack, good, 0o600))
	part, err := r.Part(t.Context(), second.ID, remora.Files)
	require.NoError(t, err)
	got, err := fs.ReadFile(part, "data/file")
	require.NoError(t, err)
	require.True(t, bytes.Equal(noise(2, 3<<20), got))
}

// nobody runs what a user without rights would, and prints the problem's kind and text.
func nobody(path string) {
	ctx := context.Background()
	say := func(step string, err error) { fmt.Printf("%s: %s: %v\n", step, remora.KindOf(err), err) }
	cfg := Config{Path: filepath.Join(path, "repository"), State: filepath.Join(path, "state"), Password: secret(password)}
	r, err := Open(ctx, cfg)
	say("open", err)
	if err != nil {
		return
	}
	_, err = r.List(ctx, Filter{})
	say("list", err)
	p, err := r.Begin(ctx, Spec{Source: "shop", Run: "nobody", Backup: "x", Kind: remora.Files})
	say("begin", err)
	_, err = p.PutTree(ctx, "data", filepath.Join(path, "data"), nil)
	say("tree", err)
	_, err = p.PutTree(ctx, "data", filepath.Join(path, "data"), func(rel string) bool { return rel == "private" })
	say("tree", err)
	_, _, err = p.Finish(ctx)
	say("finish", err)
	say("create", Create(ctx, Config{Path: filepath.Join(path, "repository", "other"), State: cfg.State, Password: cfg.Password}))
}

func TestMissingRightsAreSaidAtOnceAndByName(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becoming somebody else needs root")
	}
	top, err := os.MkdirTemp("", "remora-rights-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	cfg := Config{Path: filepath.Join(top, "repository"), State: filepath.Join(top, "state"), Password: secret(password)}
	require.NoError(t, Create(t.Context(), cfg))
	require.NoError(t, os.MkdirAll(filepath.Join(top, "data"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(top, "data", "private"), []byte("x"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(top, "data", "public"), noise(1, 1<<20), 0o644))
	program := filepath.Join(top, "test")
	text, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(program, text, 0o755))
	require.NoError(t, os.Chmod(top, 0o755))
	require.NoError(t, os.Chown(cfg.State, 65534, 65534))
	run := func() string {
		child := exec.CommandContext(t.Context(), program)
		child.Env = []string{"REMORA_TEST_NOBODY=" + top, "HOME=" + top}
		child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		child.Dir = top
		began := time.Now()
		out, err := child.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Less(t, time.Since(began), 8*time.Second, string(out))
		return string(out)
	}
	require.NoError(t, filepath.Walk(cfg.State, func(name string, _ fs.FileInfo, err error) error { return os.Chown(name, 65534, 65534) }))
	out := run()
	require.Contains(t, out, "open: Denied: open the repository ("+cfg.Path+")")
	require.NotContains(t, out, "list:")

	require.NoError(t, exec.CommandContext(t.Context(), "chmod", "-R", "a+rX", cfg.Path).Run())
	out = run()
	require.Contains(t, out, "open: : <nil>")
	require.Contains(t, out, "list: : <nil>")
	require.Contains(t, out, "tree: Denied: read the files ("+filepath.Join(top, "data", "private")+")")
	require.Contains(t, out, "finish: Denied: write to the repository ("+cfg.Path+")")
	require.Contains(t, out, "create: Denied")
}
