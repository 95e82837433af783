package repository

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/stretchr/testify/require"
)

const password = "correct horse battery staple"

func secret(s string) remora.SecretFunc {
	return func() (remora.Secret, error) { return remora.Secret(s), nil }
}

func config(t testing.TB) Config {
	t.Helper()
	dir := t.TempDir()
	return Config{Path: filepath.Join(dir, "repository"), State: filepath.Join(dir, "state"), Password: secret(password)}
}

// created is an open, new repository.
func created(t testing.TB) *Repository {
	t.Helper()
	cfg := config(t)
	require.NoError(t, Create(t.Context(), cfg))
	return reopened(t, cfg)
}

func reopened(t testing.TB, cfg Config) *Repository {
	t.Helper()
	r, err := Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close(context.Background())) })
	return r
}

// noise is data that does not compress and differs for every seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b)
	return b
}

func put(t testing.TB, p *PartWriter, name string, data []byte) {
	t.Helper()
	require.NoError(t, p.Put(t.Context(), name, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}))
}

// draft is the manifest of a run that began now.
func draft(source, run string) remora.Manifest {
	started := time.Now().UTC().Truncate(time.Second)
	return remora.Manifest{
		ID: remora.BackupID(source, run, "", started), Run: run, Source: source, Purpose: remora.Regular,
		RequestedBy: "test", Tool: "remora test", Started: started,
	}
}

func begin(t testing.TB, r *Repository, m remora.Manifest, kind remora.Kind) *PartWriter {
	t.Helper()
	p, err := r.Begin(t.Context(), Spec{Source: m.Source, Run: m.Run, Backup: m.ID, Kind: kind})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Abort(context.Background())) })
	return p
}

func finish(t testing.TB, p *PartWriter, m *remora.Manifest) remora.PartRef {
	t.Helper()
	root, added, err := p.Finish(t.Context())
	require.NoError(t, err)
	ref := remora.PartRef{Kind: p.spec.Kind, Root: root, Added: added, Started: m.Started, Ended: time.Now().UTC()}
	m.Parts = append(m.Parts, ref)
	var kinds []remora.Kind
	for _, part := range m.Parts {
		kinds = append(kinds, part.Kind)
	}
	m.Kind = remora.BackupKindOf(kinds)
	return ref
}

// backedUp commits a backup whose database part holds the given files.
func backedUp(t testing.TB, r *Repository, m remora.Manifest, files map[string][]byte) remora.Manifest {
	t.Helper()
	p := begin(t, r, m, remora.Database)
	for name, data := range files {
		put(t, p, name, data)
	}
	finish(t, p, &m)
	done, err := r.Commit(t.Context(), m)
	require.NoError(t, err)
	return done
}

func verified(t testing.TB, r *Repository, id string) remora.Verification {
	t.Helper()
	v, err := r.Verify(t.Context(), id, nil)
	require.NoError(t, err)
	return v
}

func requireProblem(t testing.TB, err error, kind remora.ProblemKind, words ...string) {
	t.Helper()
	var p *remora.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, kind, p.Kind, "%v", err)
	require.NotContains(t, p.Error(), "\n")
	for _, w := range words {
		require.Contains(t, p.Error()+" "+p.Hint, w)
	}
}

func TestABackupComesBackAsItWasPut(t *testing.T) { everywhere(t, testABackupComesBackAsItWasPut) }

func testABackupComesBackAsItWasPut(t *testing.T, r *Repository) {
	m := draft("shop", "run-1")
	m.Name = "before the migration"
	files := map[string][]byte{
		"part.json": []byte(`{"tables":2}`), "shop/orders.00001.tsv": noise(1, 5<<20), "shop/orders.00002.tsv": noise(2, 100), "shop/empty.tsv": {},
	}
	done := backedUp(t, r, m, files)
	require.Equal(t, m.ID, done.ID)
	require.Equal(t, remora.DatabaseBackup, done.Kind)
	require.Greater(t, done.Added(), int64(5<<20), "the noise was stored")

	part, err := r.Part(t.Context(), m.ID, remora.Database)
	require.NoError(t, err)
	for name, want := range files {
		got, err := fs.ReadFile(part, name)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), name)
	}
	whole, err := r.Tree(t.Context(), m.ID)
	require.NoError(t, err)
	require.NoError(t, fstest.TestFS(whole, "backup.json", "RESTORE.md", "database/shop/orders.00001.tsv"))
	text, err := fs.ReadFile(whole, "backup.json")
	require.NoError(t, err)
	var inside remora.Manifest
	require.NoError(t, json.Unmarshal(text, &inside))
	require.Empty(t, cmp.Diff(done, inside), "backup.json is the manifest")

	all, err := r.List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, remora.Pending, all[0].Status)

	v := verified(t, r, m.ID)
	require.GreaterOrEqual(t, v.Contents, int64(5))
	require.Greater(t, v.Bytes, int64(5<<20))
	b, err := r.Find(t.Context(), "latest", "")
	require.NoError(t, err)
	require.Equal(t, remora.Completed, b.Status)
	require.Equal(t, "before the migration", b.Name)
	require.Equal(t, v, *b.Verification)
}

func TestATreeComesBackAsItWas(t *testing.T) { everywhere(t, testATreeComesBackAsItWas) }

func testATreeComesBackAsItWas(t *testing.T, r *Repository) {
	dir := t.TempDir()
	write := func(name string, data []byte, mode fs.FileMode) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o750))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		require.NoError(t, os.Chmod(filepath.Join(dir, name), mode))
	}
	write("2024/a b.pdf", noise(3, 3<<20), 0o640)
	write("2024/deep/er/x.txt", []byte("x"), 0o600)
	write("empty", nil, 0o604)
	write("skipped/y", []byte("y"), 0o600)
	write(".kopiaignore", []byte("*"), 0o600)
	write("evil.kopia-entry", []byte(`{"name":"x","type":"f","obj":"00"}`), 0o600)
	write("ünï", []byte("u"), 0o600)
	require.NoError(t, os.Symlink("2024/a b.pdf", filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "2024", "out")))
	when := time.Unix(1700000000, 123456789)
	require.NoError(t, os.Chtimes(filepath.Join(dir, "2024/a b.pdf"), when, when))
	require.NoError(t, os.Chtimes(filepath.Join(dir, "2024/deep"), when, when))

	m := draft("shop", "run-1")
	p := begin(t, r, m, remora.Files)
	sum, err := p.PutTree(t.Context(), "receipts", dir, func(rel string) bool { return rel == "skipped" })
	require.NoError(t, err)
	put(t, p, "part.json", []byte("{}"))
	require.Equal(t, remora.TreeSummary{Files: 6, Directories: 4, Symlinks: 2, Bytes: 3<<20 + 1 + 1 + 1 + 34}, sum)
	finish(t, p, &m)
	_, err = r.Commit(t.Context(), m)
	require.NoError(t, err)
	verified(t, r, m.ID)

	part, err := r.Part(t.Context(), m.ID, remora.Files)
	require.NoError(t, err)
	got, err := fs.ReadFile(part, "receipts/link")
	require.NoError(t, err)
	require.True(t, bytes.Equal(noise(3, 3<<20), got))
	target, err := fs.ReadLink(part, "receipts/2024/out")
	require.NoError(t, err)
	require.Equal(t, "/etc/passwd", target)
	_, err = fs.ReadFile(part, "receipts/2024/out")
	require.ErrorIs(t, err, errEscapes)
	for _, name := range []string{"2024/a b.pdf", "2024/deep", "2024/deep/er/x.txt", "empty", "link", ".kopiaignore", "evil.kopia-entry", "ünï"} {
		want, err := os.Lstat(filepath.Join(dir, name))
		require.NoError(t, err)
		have, err := fs.Lstat(part, "receipts/"+name)
		require.NoError(t, err, name)
		require.Equal(t, want.Mode(), have.Mode(), name)
		require.True(t, want.ModTime().Equal(have.ModTime()), name)
		require.Equal(t, remora.FileOwner{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}, have.Sys(), name)
		if want.Mode().IsRegular() {
			require.Equal(t, want.Size(), have.Size(), name)
		}
	}
	_, err = fs.Stat(part, "receipts/skipped")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestUnchangedFilesAreNotReadAgain(t *testing.T) {
	everywhere(t, testUnchangedFilesAreNotReadAgain)
}

func testUnchangedFilesAreNotReadAgain(t *testing.T, r *Repository) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o750))
	for i := range 3 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "sub", fmt.Sprint(i)), noise(uint64(i), 1<<20), 0o600))
	}
	backup := func(run string) (remora.Manifest, remora.PartRef) {
		m := draft("shop", run)
		p := begin(t, r, m, remora.Files)
		_, err := p.PutTree(t.Context(), "data/receipts", dir, nil)
		require.NoError(t, err)
		ref := finish(t, p, &m)
		_, err = r.Commit(t.Context(), m)
		require.NoError(t, err)
		return m, ref
	}
	_, first := backup("run-1")
	require.Greater(t, first.Added, int64(3<<20))
	// Other bytes under the same size and time show which files are read: such a change is the one thing not seen.
	changed := filepath.Join(dir, "sub", "0")
	info, err := os.Stat(changed)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(changed, noise(77, 1<<20), 0o600))
	require.NoError(t, os.Chtimes(changed, info.ModTime(), info.ModTime()))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sub", "1"), noise(78, 1<<20), 0o600))
	m, second := backup("run-2")
	require.Less(t, second.Added, int64(2<<20))
	part, err := r.Part(t.Context(), m.ID, remora.Files)
	require.NoError(t, err)
	for name, want := range map[string][]byte{"0": noise(0, 1<<20), "1": noise(78, 1<<20), "2": noise(2, 1<<20)} {
		got, err := fs.ReadFile(part, "data/receipts/sub/"+name)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), name)
	}
	v := verified(t, r, m.ID)
	require.Positive(t, v.Contents+v.Present)
}

func TestCreateAndOpenSayWhatIsWrong(t *testing.T) {
	t.Run("twice", func(t *testing.T) {
		r := created(t)
		requireProblem(t, Create(t.Context(), r.cfg), remora.Invalid, r.cfg.Path, "already is a repository")
	})
	t.Run("in a directory that is used", func(t *testing.T) {
		cfg := config(t)
		require.NoError(t, os.MkdirAll(cfg.Path, 0o750))
		require.NoError(t, os.WriteFile(filepath.Join(cfg.Path, "letter.txt"), nil, 0o600))
		requireProblem(t, Create(t.Context(), cfg), remora.Invalid, "letter.txt")
	})
	t.Run("with a relative path", func(t *testing.T) {
		cfg := config(t)
		cfg.Path = "somewhere"
		requireProblem(t, Create(t.Context(), cfg), remora.Invalid, "absolute")
	})
	t.Run("without a password", func(t *testing.T) {
		cfg := config(t)
		cfg.Password = secret("")
		requireProblem(t, Create(t.Context(), cfg), remora.Invalid, "password")
	})
	t.Run("where there is none", func(t *testing.T) {
		_, err := Open(t.Context(), config(t))
		requireProblem(t, err, remora.NotFound, "remora init")
	})
	t.Run("with the wrong password", func(t *testing.T) {
		r := created(t)
		cfg := r.cfg
		cfg.Password = secret("guess")
		_, err := Open(t.Context(), cfg)
		requireProblem(t, err, remora.Denied, "password is wrong")
		require.NotContains(t, err.Error(), "guess")
	})
	t.Run("with the format file gone", func(t *testing.T) {
		r := created(t)
		require.NoError(t, os.Remove(filepath.Join(r.cfg.Path, fileOf(formatBlob))))
		_, err := Open(t.Context(), r.cfg)
		requireProblem(t, err, remora.Corrupt, fileOf(formatBlob))
	})
	t.Run("with any part of the format file flipped", func(t *testing.T) {
		r := created(t)
		name := filepath.Join(r.cfg.Path, fileOf(formatBlob))
		good, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, where := range []string{`"uniqueID": "`, `"keyAlgo": "`, `"encryption": "`, `"encryptedBlockFormat": "`, `{`} {
			at := bytes.Index(good, []byte(where)) + len(where) + 2
			bad := bytes.Clone(good)
			bad[at] ^= 2
			require.NoError(t, os.WriteFile(name, bad, 0o600))
			_, err = Open(t.Context(), r.cfg)
			requireProblem(t, err, remora.Corrupt)
		}
		require.NoError(t, os.WriteFile(name, good, 0o600))
		reopened(t, r.cfg)
	})
}

func TestRepositoryFilesArePrivate(t *testing.T) {
	r := created(t)
	backedUp(t, r, draft("shop", "run-1"), map[string][]byte{"a": noise(1, 1000)})
	for _, dir := range []string{r.cfg.Path, r.cfg.State} {
		require.NoError(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
			require.NoError(t, err)
			info, err := e.Info()
			require.NoError(t, err)
			require.Zero(t, info.Mode().Perm()&0o077, name)
			if !e.IsDir() {
				text, err := os.ReadFile(name)
				require.NoError(t, err)
				require.NotContains(t, string(text), password)
			}
			return nil
		}))
	}
	require.Regexp(t, `^[0-9a-f]{16}$`, r.Installation())
	host, err := os.Hostname()
	require.NoError(t, err)
	require.NotContains(t, r.rep.ClientOptions().UsernameAtHost(), host)
	other := reopened(t, Config{Path: r.cfg.Path, State: t.TempDir(), Password: secret(password)})
	require.Equal(t, r.Installation(), other.Installation(), "the id does not depend on who opens it")
}

func TestPutKeepsOnlyWhatSucceeded(t *testing.T) { everywhere(t, testPutKeepsOnlyWhatSucceeded) }

func testPutKeepsOnlyWhatSucceeded(t *testing.T, r *Repository) {
	m := draft("shop", "run-1")
	p := begin(t, r, m, remora.Database)
	err := p.Put(t.Context(), "a", func(w io.Writer) error {
		_, _ = w.Write([]byte("half"))
		return io.ErrUnexpectedEOF
	})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	put(t, p, "a", []byte("whole"))
	for _, name := range []string{"a", "a/b", "", ".", "../x", "/x", "x//y", "x\x00"} {
		err := p.Put(t.Context(), name, func(io.Writer) error { t.Error("called"); return nil })
		requireProblem(t, err, remora.Internal)
	}
	put(t, p, "d/e", []byte("e"))
	requireProblem(t, p.Put(t.Context(), "d", func(io.Writer) error { return nil }), remora.Internal)
	finish(t, p, &m)
	requireProblem(t, p.Put(t.Context(), "late", func(io.Writer) error { return nil }), remora.Internal)
	_, err = r.Commit(t.Context(), m)
	require.NoError(t, err)
	part, err := r.Part(t.Context(), m.ID, remora.Database)
	require.NoError(t, err)
	require.NoError(t, fstest.TestFS(part, "a", "d/e"))
	got, err := fs.ReadFile(part, "a")
	require.NoError(t, err)
	require.Equal(t, "whole", string(got))
}

func TestNothingIsListedBeforeCommit(t *testing.T) { everywhere(t, testNothingIsListedBeforeCommit) }

func testNothingIsListedBeforeCommit(t *testing.T, r *Repository) {
	m := draft("shop", "run-1")
	p := begin(t, r, m, remora.Database)
	put(t, p, "a", noise(1, 1000))
	finish(t, p, &m)
	all, err := r.List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Empty(t, all)
	_, err = r.Part(t.Context(), m.ID, remora.Database)
	requireProblem(t, err, remora.NotFound)
}

func TestCommitIsIdempotent(t *testing.T) { everywhere(t, testCommitIsIdempotent) }

func testCommitIsIdempotent(t *testing.T, r *Repository) {
	m := draft("shop", "run-1")
	first := backedUp(t, r, m, map[string][]byte{"a": noise(1, 1000)})
	other := reopened(t, r.cfg)
	again, err := other.Commit(t.Context(), first)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(first, again))
	all, err := r.List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Len(t, all, 1)

	stolen := first
	stolen.Run = "run-2"
	_, err = r.Commit(t.Context(), stolen)
	requireProblem(t, err, remora.Invalid, "run-1")
}

func TestSeveralCommitsAtOnceMakeOneBackup(t *testing.T) {
	everywhere(t, testSeveralCommitsAtOnceMakeOneBackup)
}

func testSeveralCommitsAtOnceMakeOneBackup(t *testing.T, r *Repository) {
	others := []*Repository{r, reopened(t, r.cfg), reopened(t, r.cfg), reopened(t, r.cfg)}
	for round := range 3 {
		m := draft("shop", fmt.Sprint("run-", round))
		p := begin(t, r, m, remora.Database)
		put(t, p, "a", noise(uint64(round), 1000))
		finish(t, p, &m)
		results := make(chan error, len(others))
		for _, o := range others {
			go func() {
				_, err := o.Commit(context.Background(), m)
				results <- err
			}()
		}
		for range others {
			require.NoError(t, <-results)
		}
		require.NoError(t, r.Refresh(t.Context()))
		all, err := r.commits(t.Context(), map[string]string{labelBackup: m.ID})
		require.NoError(t, err)
		require.Len(t, all, 1)
		verified(t, others[round+1], m.ID)
	}
}

func TestCommitRefusesAPartThatIsNotThere(t *testing.T) {
	everywhere(t, testCommitRefusesAPartThatIsNotThere)
}

func testCommitRefusesAPartThatIsNotThere(t *testing.T, r *Repository) {
	m := draft("shop", "run-1")
	m.Parts = []remora.PartRef{{Kind: remora.Database, Root: "k" + strings.Repeat("ab", 32)}}
	_, err := r.Commit(t.Context(), m)
	requireProblem(t, err, remora.Corrupt)
	m.Parts[0].Root = "../../etc"
	_, err = r.Commit(t.Context(), m)
	requireProblem(t, err, remora.Internal)
	all, err := r.List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Empty(t, all)
}

// The compression may change between two backups: both stay readable, and what is the same is stored once.
func TestCompressionMayChange(t *testing.T) {
	cfg := config(t)
	require.NoError(t, Create(t.Context(), cfg))
	text := []byte{}
	for i := range 60_000 {
		text = fmt.Appendf(text, "%d\tuser %d\t%x\n", i, i%97, noise(uint64(i%500), 6))
	}
	sizes := map[string]int64{}
	for i, level := range []string{"none", "fastest", "default", "better"} {
		cfg.Compression = level
		r := reopened(t, cfg)
		own := append([]byte{byte(i)}, text...) // nothing of it was stored before
		m := backedUp(t, r, draft("shop", "own "+level), map[string][]byte{"a": own})
		sizes[level] = m.Added()
		require.Empty(t, verified(t, r, m.ID).Problem)
		if i > 0 {
			again := backedUp(t, r, draft("shop", "again "+level), map[string][]byte{"a": append([]byte{0}, text...)})
			require.Less(t, again.Added(), int64(len(text)/50), "%s: what was stored without compression is found again", level)
		}
	}
	t.Logf("%d bytes of text: %v", len(text), sizes)
	require.Greater(t, sizes["none"], int64(len(text)))
	for _, level := range []string{"fastest", "default", "better"} {
		require.Less(t, sizes[level], sizes["none"]/4)
	}
	require.Less(t, sizes["better"], sizes["default"])
}
