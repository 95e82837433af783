package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("REMORA_TEST_VICTIM"); path != "" {
		if err := victim(path); err != nil {
			fmt.Println("failed:", err)
		}
		os.Exit(1)
	}
	if path := os.Getenv("REMORA_TEST_COPIER"); path != "" {
		if err := copyVictim(path); err != nil {
			fmt.Println("failed:", err)
		}
		os.Exit(1)
	}
	if os.Getenv("REMORA_TEST_PASSWORD") != "" {
		if err := passwordVictim(); err != nil {
			fmt.Println("failed:", err)
		}
		os.Exit(1)
	}
	if path := os.Getenv("REMORA_TEST_NOBODY"); path != "" {
		nobody(path)
		os.Exit(0)
	}
	os.Exit(testenv.Run(m))
}

const victimBytes = 60 << 20

// victim writes a part, tells how far it is, and waits to be killed.
func victim(path string) error {
	ctx := context.Background()
	cfg := Config{Path: filepath.Join(path, "repository"), State: filepath.Join(path, "state"), Password: secret(password)}
	if server, name, ok := strings.Cut(os.Getenv("REMORA_TEST_BUCKET"), "/"); ok {
		cfg.Path, cfg.Bucket = "", (&testenv.S3Server{Address: server}).Bucket()
		cfg.Bucket.Name, cfg.Bucket.Prefix = name, "shop/backups/"
	}
	r, err := Open(ctx, cfg)
	if err != nil {
		return err
	}
	r.pace.flush, r.pace.checkpoint = 50*time.Millisecond, 120*time.Millisecond
	p, err := r.Begin(ctx, Spec{Source: "shop", Run: "victim", Backup: "shop-1", Kind: remora.Database})
	if err != nil {
		return err
	}
	return p.Put(ctx, "big", func(w io.Writer) error {
		data := noise(99, victimBytes)
		for at := 0; at < len(data); at += 1 << 20 {
			if _, err := w.Write(data[at : at+1<<20]); err != nil {
				return err
			}
			fmt.Println("wrote", at>>20)
		}
		time.Sleep(time.Minute)
		return nil
	})
}

func TestAKilledWriterHarmsNothingAndARetryGoesOn(t *testing.T) {
	t.Run("directory", func(t *testing.T) {
		testAKilledWriter(t, config(t), "wrote 1\n", "wrote 25\n", "wrote 59\n")
	})
	t.Run("minio", func(t *testing.T) { testAKilledWriter(t, inBucket(t, testenv.MinIO(t)), "wrote 35\n", "wrote 59\n") })
}

func testAKilledWriter(t *testing.T, cfg Config, kills ...string) {
	t.Helper()
	require.NoError(t, Create(t.Context(), cfg))
	r := reopened(t, cfg)
	before := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"a": noise(1, 3<<20)})
	verified(t, r, before.ID)

	for _, until := range kills {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "REMORA_TEST_VICTIM="+filepath.Dir(cfg.State))
		if cfg.Bucket != nil {
			child.Env = append(child.Env, "REMORA_TEST_BUCKET="+cfg.Bucket.Endpoint+"/"+cfg.Bucket.Name)
		}
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		var seen bytes.Buffer
		for one := make([]byte, 1); !strings.Contains(seen.String(), until); {
			_, err := out.Read(one)
			require.NoError(t, err, seen.String())
			seen.Write(one)
		}
		time.Sleep(200 * time.Millisecond) // long enough for a flush
		require.NoError(t, child.Process.Signal(syscall.SIGKILL))
		_ = child.Wait()

		fresh := reopened(t, cfg)
		verified(t, fresh, before.ID)
		all, err := fresh.List(t.Context(), Filter{})
		require.NoError(t, err)
		require.Len(t, all, 1, "what was killed is not listed")
	}
	m := at("shop", "victim", 5)
	p := begin(t, r, m, remora.Database)
	put(t, p, "big", noise(99, victimBytes))
	ref := finish(t, p, &m)
	require.Less(t, ref.Added, int64(victimBytes/2), "the retry finds what the killed attempts had flushed")
	_, err := r.Commit(t.Context(), m)
	require.NoError(t, err)
	v := verified(t, r, m.ID)
	require.Greater(t, v.Bytes+int64(0), int64(0))
	checkpoints, err := r.rep.FindManifests(t.Context(), map[string]string{manifest.TypeLabelKey: snapshot.ManifestType, tagRun: "victim"})
	require.NoError(t, err)
	require.Len(t, checkpoints, 1, "the commit removed the checkpoints of killed attempts, too")
}

func TestCheckpointsReferToUnfinishedWork(t *testing.T) {
	everywhere(t, testCheckpointsReferToUnfinishedWork)
}

func testCheckpointsReferToUnfinishedWork(t *testing.T, r *Repository) {
	r.pace.flush, r.pace.checkpoint = 20*time.Millisecond, 60*time.Millisecond
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a/b/c"), noise(5, 1<<20), 0o600))
	m := at("shop", "run-1", 1)
	p := begin(t, r, m, remora.Database)
	put(t, p, "shop/done", noise(6, 1<<20))
	_, err := p.PutTree(t.Context(), "tree", dir, func(rel string) bool {
		if rel == "a/b/c" {
			time.Sleep(10 * time.Millisecond)
		}
		return false
	})
	require.NoError(t, err)
	require.NoError(t, p.Put(t.Context(), "shop/going", func(w io.Writer) error {
		if _, err := w.Write(noise(7, 5<<20)); err != nil {
			return err
		}
		require.Eventually(t, func() bool {
			if r.Refresh(t.Context()) != nil {
				return false
			}
			found, err := records[snapshot.Manifest](t.Context(), r.rep, map[string]string{tagRun: m.Run})
			if err != nil || len(found) != 1 {
				return false // one replaces the other
			}
			tree := &backupFS{ctx: t.Context(), r: r, root: found[0].Value.RootEntry, loaded: map[object.ID]map[string]*snapshot.DirEntry{}}
			going, err := fs.ReadFile(tree, "shop/going")
			done, err2 := fs.ReadFile(tree, "tree/a/b/c")
			return err == nil && err2 == nil && len(going) == 4<<20 && bytes.Equal(done, noise(5, 1<<20))
		}, 20*time.Second, 50*time.Millisecond)
		return nil
	}))
	finish(t, p, &m)
	_, err = r.Commit(t.Context(), m)
	require.NoError(t, err)
	verified(t, r, m.ID)
}

func TestTroubleInTheBackgroundReachesTheNextWrite(t *testing.T) {
	r := created(t)
	r.pace.flush = 10 * time.Millisecond
	broken := errors.New("disk on fire")
	var calls atomic.Int32
	r.settle = func() error {
		calls.Add(1)
		return broken
	}
	p := begin(t, r, at("shop", "run-1", 1), remora.Database)
	require.Eventually(t, func() bool { return calls.Load() > 0 }, 10*time.Second, 5*time.Millisecond)
	<-p.stopped
	require.ErrorIs(t, p.Put(t.Context(), "a", func(io.Writer) error { t.Error("called"); return nil }), broken)
	_, _, err := p.Finish(t.Context())
	require.ErrorIs(t, err, broken)
}

// largestPack is the pack that holds the most data.
func largestPack(t testing.TB, r *Repository) string {
	t.Helper()
	var name string
	var size int64
	require.NoError(t, filepath.WalkDir(filepath.Join(r.cfg.Path, "p"), func(path string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		if info, err := e.Info(); err == nil && e.Type().IsRegular() && info.Size() > size {
			name, size = path, info.Size()
		}
		return nil
	}))
	require.NotEmpty(t, name)
	return name
}

func TestVerifyFindsEveryKindOfDamage(t *testing.T) {
	cfg := config(t)
	require.NoError(t, Create(t.Context(), cfg))
	r := reopened(t, cfg)
	old := backedUp(t, r, draft("shop", "run-0"), map[string][]byte{"rows.tsv": noise(1, 6<<20)})
	verified(t, r, old.ID)
	// The second backup shares its blocks with the first, and adds a little.
	shared := draft("shop", "run-1")
	shared.Started = shared.Started.Add(time.Hour) // as if it ran later: the shared blocks are not its own
	shared.ID = remora.BackupID("shop", "run-1", "", shared.Started)
	shared = backedUp(t, r, shared, map[string][]byte{"rows.tsv": noise(1, 6<<20), "more.tsv": noise(2, 1000)})
	v, err := r.Verify(t.Context(), shared.ID, nil)
	require.NoError(t, err)
	require.Positive(t, v.Present, "shared blocks are not read again")

	pack := largestPack(t, r)
	good, err := os.ReadFile(pack)
	require.NoError(t, err)
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for name, c := range map[string]struct {
		text    []byte // nil: the file is missing
		backups []remora.Manifest
	}{
		"a flipped bit":   {flipped, []remora.Manifest{old}},
		"a missing pack":  {nil, []remora.Manifest{old, shared}},
		"a truncated one": {good[:len(good)/2], []remora.Manifest{old, shared}},
		"an empty one":    {[]byte{}, []remora.Manifest{old, shared}},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.Remove(pack))
			if c.text != nil {
				require.NoError(t, os.WriteFile(pack, c.text, 0o600))
			}
			for _, m := range c.backups {
				began := time.Now()
				v, err := r.Verify(t.Context(), m.ID, nil)
				requireProblem(t, err, remora.Corrupt, m.ID, "database/rows.tsv", "remora backup shop")
				require.NotEmpty(t, v.Problem)
				require.Less(t, time.Since(began), 5*time.Second)
				b, err := r.Find(t.Context(), m.ID, "")
				require.NoError(t, err)
				require.Equal(t, remora.Corrupted, b.Status)
			}
			require.NoError(t, os.WriteFile(pack, good, 0o600))
			for _, m := range c.backups {
				verified(t, r, m.ID)
				b, err := r.Find(t.Context(), m.ID, "")
				require.NoError(t, err)
				require.Equal(t, remora.Completed, b.Status, "the newest verification counts")
			}
		})
	}
	t.Run("reading a damaged file says so", func(t *testing.T) {
		require.NoError(t, os.WriteFile(pack, flipped, 0o600))
		part, err := r.Part(t.Context(), old.ID, remora.Database)
		require.NoError(t, err)
		_, err = fs.ReadFile(part, "rows.tsv")
		requireProblem(t, err, remora.Corrupt, "rows.tsv")
		require.NoError(t, os.WriteFile(pack, good, 0o600))
	})
	t.Run("damaged directories and records", func(t *testing.T) {
		require.NoError(t, filepath.WalkDir(filepath.Join(cfg.Path, "q"), func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				err = os.Remove(path)
			}
			return err
		}))
		_, err := r.Verify(t.Context(), old.ID, nil)
		requireProblem(t, err, remora.Corrupt)
		fresh := reopened(t, cfg)
		_, err = fresh.List(t.Context(), Filter{})
		requireProblem(t, err, remora.Corrupt)
	})
}

func TestVerifyReadsWhatAFailedRunLeft(t *testing.T) {
	r := created(t)
	lost := at("shop", "run-1", 1)
	lost.Started, lost.Ended = time.Now().Add(-time.Hour), time.Now()
	p := begin(t, r, lost, remora.Database)
	put(t, p, "rows.tsv", noise(1, 4<<20))
	finish(t, p, &lost)
	require.NoError(t, r.RecordFailure(t.Context(), failed(lost, "killed")))
	checkpoints, err := r.rep.FindManifests(t.Context(), map[string]string{tagRun: lost.Run})
	require.NoError(t, err)
	require.Empty(t, checkpoints, "a failed run lets go of what it stored")

	next := draft("shop", "run-2")
	next.Started = time.Now().Add(time.Hour) // as if it ran later: the blocks are not its own
	next.ID = remora.BackupID("shop", "run-2", "", next.Started)
	next = backedUp(t, r, next, map[string][]byte{"rows.tsv": noise(1, 4<<20)})
	v := verified(t, r, next.ID)
	require.Greater(t, v.Bytes, int64(4<<20), "nobody had read them back yet")
	pack := largestPack(t, r)
	good, err := os.ReadFile(pack)
	require.NoError(t, err)
	require.NoError(t, r.RecordFailure(t.Context(), failed(lost, "killed")))
	good[len(good)/2] ^= 1
	require.NoError(t, os.WriteFile(pack, good, 0o600))
	_, err = r.Verify(t.Context(), next.ID, nil)
	requireProblem(t, err, remora.Corrupt, "rows.tsv")
}

func TestVerifyCanBeCancelledAndTellsItsProgress(t *testing.T) {
	everywhere(t, testVerifyCanBeCancelledAndTellsItsProgress)
}

func testVerifyCanBeCancelledAndTellsItsProgress(t *testing.T, r *Repository) {
	m := backedUp(t, r, draft("shop", "run-1"), map[string][]byte{"rows.tsv": noise(1, 20<<20)})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := r.Verify(ctx, m.ID, func(p remora.Progress) {
		require.Equal(t, "verify", p.Phase)
		if p.Done > 0 {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	b, err := r.Find(t.Context(), m.ID, "")
	require.NoError(t, err)
	require.Equal(t, remora.Pending, b.Status, "a verification that was cancelled says nothing")
	var last remora.Progress
	_, err = r.Verify(t.Context(), m.ID, func(p remora.Progress) { last = p })
	require.NoError(t, err)
	require.Equal(t, last.Total, last.Done)
	require.Greater(t, last.Total, int64(20<<20))
}

func TestAFullDiskIsSaidAtOnceAndNothingHalfIsListed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	disk := t.TempDir()
	require.NoError(t, unix.Mount("none", disk, "tmpfs", 0, "size=120m"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(disk, unix.MNT_DETACH)) })
	cfg := Config{Path: filepath.Join(disk, "repository"), State: t.TempDir(), Password: secret(password)}
	require.NoError(t, Create(t.Context(), cfg))
	r, err := Open(t.Context(), cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close(context.Background())) }()
	small := backedUp(t, r, draft("shop", "run-1"), map[string][]byte{"a": noise(1, 1<<20)})

	m := draft("shop", "run-2")
	p := begin(t, r, m, remora.Database)
	began := time.Now()
	err = p.Put(t.Context(), "big", func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(noise(2, 160<<20)))
		return err
	})
	requireProblem(t, err, remora.Full, cfg.Path, "free space")
	require.Less(t, time.Since(began), 8*time.Second)
	require.NoError(t, p.Abort(t.Context()))

	for i := range 20 { // so many that they want to be tidied by the next reader
		require.NoError(t, r.write(t.Context(), "test", func(ctx context.Context, w repo.RepositoryWriter) error {
			_, err := w.PutManifest(ctx, map[string]string{manifest.TypeLabelKey: "test"}, i)
			return err
		}))
	}
	fillUp(t, disk)
	all, err := reopened(t, Config{Path: cfg.Path, State: t.TempDir(), Password: cfg.Password}).List(t.Context(), Filter{})
	require.NoError(t, err, "reading works on a full disk")
	require.Len(t, all, 1)
	part, err := r.Part(t.Context(), small.ID, remora.Database)
	require.NoError(t, err)
	got, err := fs.ReadFile(part, "a")
	require.NoError(t, err)
	require.True(t, bytes.Equal(noise(1, 1<<20), got))
	_, err = r.Commit(t.Context(), draft("shop", "run-3"))
	requireProblem(t, err, remora.Full)
	requireProblem(t, r.RecordFailure(t.Context(), failed(m, "full")), remora.Full)
	_, err = r.Verify(t.Context(), small.ID, nil)
	requireProblem(t, err, remora.Full)
	requireProblem(t, Create(t.Context(), Config{Path: filepath.Join(disk, "other"), State: t.TempDir(), Password: secret(password)}), remora.Full)
	left, err := os.ReadDir(filepath.Join(disk, "other"))
	require.NoError(t, err)
	require.Empty(t, left, "a failed Create can be repeated")

	require.NoError(t, os.Remove(filepath.Join(disk, "filler")))
	verified(t, r, small.ID)
	again := backedUp(t, r, draft("shop", "run-4"), map[string][]byte{"a": noise(1, 1<<20), "b": noise(4, 1<<20)})
	verified(t, r, again.ID)
}

func fillUp(t testing.TB, disk string) {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "filler"))
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
	}
}

func TestLeftoversOfKilledWritersAreSweptAfterAWeek(t *testing.T) {
	r := created(t)
	require.NoError(t, os.MkdirAll(filepath.Join(r.cfg.Path, "p", "abc"), 0o700))
	old, young := filepath.Join(r.cfg.Path, "p", "abc", "x.f.tmp.0123456789abcdef"), filepath.Join(r.cfg.Path, "q.f.tmp.0123456789abcdef")
	foreign := filepath.Join(r.cfg.Path, "notes.tmp.txt")
	for _, name := range []string{old, young, foreign} {
		require.NoError(t, os.WriteFile(name, []byte("x"), 0o600))
	}
	past := time.Now().Add(-8 * 24 * time.Hour)
	require.NoError(t, os.Chtimes(old, past, past))
	require.NoError(t, os.Chtimes(foreign, past, past))
	backedUp(t, r, draft("shop", "run-1"), map[string][]byte{"a": noise(1, 100)})
	require.NoFileExists(t, old)
	require.FileExists(t, young)
	require.FileExists(t, foreign)
}
