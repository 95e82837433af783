package repository

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// twin is an empty repository for copies of r, with a password of its own.
func twin(t testing.TB, r *Repository) *Repository {
	t.Helper()
	cfg := config(t)
	cfg.Password, cfg.CopyOf = secret("another password"), r
	require.NoError(t, Create(t.Context(), cfg))
	return reopened(t, cfg)
}

// copyOf copies a backup and verifies it there.
func copyOf(t testing.TB, r, to *Repository, id string) (remora.Manifest, remora.Verification) {
	t.Helper()
	m, err := r.Copy(t.Context(), to, id, nil)
	require.NoError(t, err)
	return m, verified(t, to, id)
}

// listing describes everything in a backup: names, modes, owners, times, sizes, link targets and content.
func listing(t testing.TB, r *Repository, id string) map[string]string {
	t.Helper()
	tree, err := r.Tree(t.Context(), id)
	require.NoError(t, err)
	all := map[string]string{}
	require.NoError(t, fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		if name == "." || name == manifestFile || name == guideFile {
			return nil
		}
		info, err := e.Info()
		require.NoError(t, err)
		line := fmt.Sprint(info.Mode(), info.Size(), info.Sys())
		if strings.Contains(name, "/") && (!e.IsDir() || !strings.HasPrefix(name, "database")) { // a part, and what a path implies, is of our own making
			line += info.ModTime().String()
		}
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := fs.ReadLink(tree, name)
			require.NoError(t, err)
			line += target
		case info.Mode().IsRegular():
			text, err := fs.ReadFile(tree, name)
			require.NoError(t, err)
			line += fmt.Sprintf(" %x", text)
		}
		all[name] = line
		return nil
	}))
	return all
}

// site commits a backup of a directory and a few database files.
func site(t testing.TB, r *Repository, m remora.Manifest, dir string, rows map[string][]byte) remora.Manifest {
	t.Helper()
	p := begin(t, r, m, remora.Database)
	for name, data := range rows {
		put(t, p, name, data)
	}
	finish(t, p, &m)
	p = begin(t, r, m, remora.Files)
	_, err := p.PutTree(t.Context(), "receipts", dir, nil)
	require.NoError(t, err)
	put(t, p, "part.json", []byte(`{"xattrs": {"a": "b"}}`))
	finish(t, p, &m)
	done, err := r.Commit(t.Context(), m)
	require.NoError(t, err)
	verified(t, r, m.ID)
	return done
}

func TestACopyIsTheSameBackup(t *testing.T) {
	r := created(t)
	to := twin(t, r)
	require.Equal(t, r.Installation(), to.Installation(), "both belong to one installation")
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "2024/deep"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "2024/deep/a"), noise(1, 5<<20), 0o640))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o604))
	require.NoError(t, os.Symlink("/nowhere", filepath.Join(dir, "link")))
	if os.Geteuid() == 0 {
		require.NoError(t, os.Lchown(filepath.Join(dir, "2024/deep"), 12, 34))
	}
	past := time.Unix(1700000000, 123456789)
	require.NoError(t, os.Chtimes(filepath.Join(dir, "2024"), past, past))

	m := site(t, r, at("shop", "run-1", 1), dir, map[string][]byte{"shop/orders.tsv": noise(2, 5<<20), "shop/empty.tsv": nil})
	var last remora.Progress
	_, err := r.Copy(t.Context(), to, m.ID, func(p remora.Progress) { last = p })
	require.NoError(t, err)
	require.Equal(t, last.Total, last.Done)
	there, err := to.Find(t.Context(), m.ID, "")
	require.NoError(t, err)
	require.Equal(t, remora.Pending, there.Status, "a copy counts once it was read back")
	v := verified(t, to, m.ID)
	require.Greater(t, v.Bytes, int64(10<<20), "all of it is read back")
	require.Zero(t, v.Present)
	require.Equal(t, listing(t, r, m.ID), listing(t, to, m.ID))
	there, err = to.Find(t.Context(), m.ID, "")
	require.NoError(t, err)
	require.Equal(t, remora.Completed, there.Status)
	same := there.Manifest
	same.Parts = append([]remora.PartRef{}, there.Parts...)
	for i := range same.Parts {
		same.Parts[i].Root, same.Parts[i].Added = m.Parts[i].Root, m.Parts[i].Added
	}
	require.Empty(t, cmp.Diff(m, same), "but for the references")

	// Again, and by two at once: nothing changes.
	before := listing(t, to, m.ID)
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { _, err := r.Copy(context.Background(), to, m.ID, nil); require.NoError(t, err) })
	}
	both.Wait()
	require.Equal(t, before, listing(t, to, m.ID))

	// A second backup brings only what is new, and reads only that.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "new"), noise(3, 1<<20), 0o600))
	next := site(t, r, at("shop", "run-2", 2), dir, map[string][]byte{"shop/orders.tsv": noise(2, 5<<20), "shop/empty.tsv": nil})
	again, v := copyOf(t, r, to, next.ID)
	require.Less(t, again.Added(), int64(2<<20))
	require.Less(t, v.Bytes, int64(2<<20))
	require.Positive(t, v.Present)
	require.Equal(t, listing(t, r, next.ID), listing(t, to, next.ID))
}

func TestTwoCopiesAtOnceMakeOne(t *testing.T) {
	r := created(t)
	to := twin(t, r)
	m := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"a": noise(1, 8<<20), "b": noise(2, 8<<20)})
	verified(t, r, m.ID)
	other := reopened(t, Config{Path: to.cfg.Path, State: t.TempDir(), Password: to.cfg.Password})
	var both sync.WaitGroup
	for _, to := range []*Repository{to, other} {
		both.Go(func() { _, err := r.Copy(context.Background(), to, m.ID, nil); require.NoError(t, err) })
	}
	both.Wait()
	verified(t, to, m.ID)
	all, err := to.List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, listing(t, r, m.ID), listing(t, other, m.ID))
}

func TestACopyNeverSpreadsDamage(t *testing.T) {
	r := created(t)
	to := twin(t, r)
	good := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"a": noise(1, 4<<20)})
	pending, err := r.Copy(t.Context(), to, good.ID, nil)
	requireProblem(t, err, remora.Invalid, "pending")
	require.Empty(t, pending.ID)
	verified(t, r, good.ID)
	copyOf(t, r, to, good.ID)

	bad := backedUp(t, r, at("shop", "run-2", 2), map[string][]byte{"a": noise(1, 4<<20), "rows.tsv": noise(2, 30<<20)})
	verified(t, r, bad.ID)
	pack := largestPack(t, r)
	text, err := os.ReadFile(pack)
	require.NoError(t, err)
	text[len(text)/2] ^= 1
	require.NoError(t, os.WriteFile(pack, text, 0o600))
	_, err = r.Copy(t.Context(), to, bad.ID, nil)
	requireProblem(t, err, remora.Corrupt, bad.ID, "rows.tsv", "new backup")
	_, err = to.Find(t.Context(), bad.ID, "")
	requireProblem(t, err, remora.NotFound)
	verified(t, to, good.ID)
	b, err := r.Find(t.Context(), bad.ID, "")
	require.NoError(t, err)
	require.Equal(t, remora.Corrupted, b.Status, "the damage is known from now on")
	_, err = r.Copy(t.Context(), to, bad.ID, nil)
	requireProblem(t, err, remora.Corrupt, "corrupt")

	// A repository that goes away in the middle is not taken for a damaged backup.
	fine := backedUp(t, r, at("shop", "run-3", 3), map[string][]byte{"c": noise(3, 4<<20)})
	verified(t, r, fine.ID)
	require.NoError(t, os.Rename(r.cfg.Path, r.cfg.Path+".away"))
	_, err = r.Copy(t.Context(), to, fine.ID, nil)
	require.Error(t, err)
	require.NoError(t, os.Rename(r.cfg.Path+".away", r.cfg.Path))
	b, err = r.Find(t.Context(), fine.ID, "")
	require.NoError(t, err)
	require.Equal(t, remora.Completed, b.Status)
	copyOf(t, r, to, fine.ID)
}

// copyVictim copies a backup slowly, tells how far it is, and waits to be killed.
func copyVictim(path string) error {
	ctx := context.Background()
	from, err := Open(ctx, Config{Path: filepath.Join(path, "repository"), State: filepath.Join(path, "victim"), Password: secret(password)})
	if err != nil {
		return err
	}
	to, err := Open(ctx, Config{Path: filepath.Join(path, "copy"), State: filepath.Join(path, "victim-copy"), Password: secret(password)})
	if err != nil {
		return err
	}
	to.pace.flush, to.pace.checkpoint = 50*time.Millisecond, 120*time.Millisecond
	all, err := from.List(ctx, Filter{})
	if err != nil {
		return err
	}
	_, err = from.Copy(ctx, to, all[0].ID, func(p remora.Progress) {
		if p.Done > victimBytes/2 {
			fmt.Println("half")
			time.Sleep(time.Minute)
		}
	})
	return err
}

func TestAKilledCopyGoesOn(t *testing.T) {
	cfg := config(t)
	require.NoError(t, Create(t.Context(), cfg))
	r := reopened(t, cfg)
	m := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"big": noise(99, victimBytes)})
	verified(t, r, m.ID)
	there := Config{Path: filepath.Join(filepath.Dir(cfg.Path), "copy"), State: t.TempDir(), Password: cfg.Password, CopyOf: r}
	require.NoError(t, Create(t.Context(), there))

	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "REMORA_TEST_COPIER="+filepath.Dir(cfg.Path))
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	var seen bytes.Buffer
	for one := make([]byte, 1); !strings.Contains(seen.String(), "half\n"); {
		_, err := out.Read(one)
		require.NoError(t, err, seen.String())
		seen.Write(one)
	}
	time.Sleep(200 * time.Millisecond) // long enough for a flush
	require.NoError(t, child.Process.Signal(syscall.SIGKILL))
	_ = child.Wait()

	to := reopened(t, there)
	all, err := to.List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Empty(t, all, "what was killed is not listed")
	done, v := copyOf(t, r, to, m.ID)
	require.Less(t, done.Added(), int64(victimBytes*3/4), "the next copy finds what the killed one had flushed")
	require.Greater(t, v.Bytes, int64(victimBytes), "and reads back that, too")
	require.Equal(t, listing(t, r, m.ID), listing(t, to, m.ID))
	checkpoints, err := to.rep.FindManifests(t.Context(), map[string]string{manifest.TypeLabelKey: snapshot.ManifestType, tagRun: m.Run})
	require.NoError(t, err)
	require.Len(t, checkpoints, 1, "no checkpoint is left")
}

func TestADamagedCopyIsFoundByAnotherCopy(t *testing.T) {
	r := created(t)
	to := twin(t, r)
	m := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"a": noise(1, 4<<20)})
	verified(t, r, m.ID)
	copyOf(t, r, to, m.ID)
	pack := largestPack(t, to)
	good, err := os.ReadFile(pack)
	require.NoError(t, err)
	bad := bytes.Clone(good)
	bad[len(bad)/2] ^= 1
	require.NoError(t, os.WriteFile(pack, bad, 0o600))
	_, err = r.Copy(t.Context(), to, m.ID, nil)
	require.NoError(t, err)
	_, err = to.Verify(t.Context(), m.ID, nil)
	requireProblem(t, err, remora.Corrupt, m.ID)
	b, err := r.Find(t.Context(), m.ID, "")
	require.NoError(t, err)
	require.Equal(t, remora.Completed, b.Status, "the original is as good as before")
	require.NoError(t, os.WriteFile(pack, good, 0o600))
	copyOf(t, r, to, m.ID)
}

func TestAFullCopyLeavesWhatItHad(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	disk := t.TempDir()
	require.NoError(t, unix.Mount("none", disk, "tmpfs", 0, "size=100m"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(disk, unix.MNT_DETACH)) })
	r := created(t)
	cfg := Config{Path: filepath.Join(disk, "copy"), State: t.TempDir(), Password: secret(password), CopyOf: r}
	require.NoError(t, Create(t.Context(), cfg))
	to, err := Open(t.Context(), cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, to.Close(context.Background())) }()
	small := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"a": noise(1, 1<<20)})
	verified(t, r, small.ID)
	copyOf(t, r, to, small.ID)
	big := backedUp(t, r, at("shop", "run-2", 2), map[string][]byte{"a": noise(1, 1<<20), "b": noise(2, 120<<20)})
	verified(t, r, big.ID)
	_, err = r.Copy(t.Context(), to, big.ID, nil)
	requireProblem(t, err, remora.Full, cfg.Path, "free space")
	require.Equal(t, listing(t, r, small.ID), listing(t, to, small.ID))
	b, err := r.Find(t.Context(), big.ID, "")
	require.NoError(t, err)
	require.Equal(t, remora.Completed, b.Status, "the backup is as good as before")
}

func TestLocationsFindABackupWhereverItIs(t *testing.T) {
	cfg := config(t)
	require.NoError(t, Create(t.Context(), cfg))
	r := reopened(t, cfg)
	to := twin(t, r)
	m := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"a": noise(1, 1<<20)})
	verified(t, r, m.ID)
	copyOf(t, r, to, m.ID)
	require.NoError(t, r.RecordCopies(t.Context(), "offsite", to))
	there := to.cfg
	there.State = t.TempDir()
	open := func(main Config) *Locations {
		main.State = t.TempDir()
		l := NewLocations(main, map[string]Config{"offsite": there, "gone": {Path: "/nowhere/at/all", State: t.TempDir(), Password: there.Password}})
		t.Cleanup(func() { require.NoError(t, l.Close(context.Background())) })
		return l
	}
	l := open(cfg)
	b, err := l.Find(t.Context(), "latest", "shop", "")
	require.NoError(t, err)
	require.Equal(t, []string{"offsite"}, b.Copies)
	require.Empty(t, b.Location)
	b, err = l.Find(t.Context(), m.ID, "", "offsite")
	require.NoError(t, err)
	require.Equal(t, "offsite", b.Location)
	_, err = l.Find(t.Context(), m.ID, "", "other")
	requireProblem(t, err, remora.NotFound, "other")
	_, err = l.At(t.Context(), "gone")
	requireProblem(t, err, remora.NotFound, "gone", "mounted", "remora repository create gone")
	_, err = l.Find(t.Context(), "nothing", "", "")
	requireProblem(t, err, remora.NotFound, "nothing")

	// It disappears from the repository.
	require.NoError(t, r.Delete(t.Context(), m.ID))
	require.NoError(t, r.Delete(t.Context(), m.ID), "a deleted one is deleted already")
	b, err = l.Find(t.Context(), "latest", "shop", "")
	require.NoError(t, err)
	require.Equal(t, "offsite", b.Location)
	require.Contains(t, b.Because, "does not hold it")

	sealed := there
	sealed.Password = secret("wrong")
	other := NewLocations(cfg, map[string]Config{"offsite": sealed})
	_, err = other.At(t.Context(), "offsite")
	requireProblem(t, err, remora.Denied, "offsite", "the password is wrong")
	_, err = other.At(t.Context(), "")
	require.NoError(t, err, "the repository is not held up by its copies")
	require.NoError(t, other.Close(t.Context()))

	// The password is wrong, or the directory is gone, before it is opened or after.
	wrong := cfg
	wrong.Password = secret("wrong")
	b, err = open(wrong).Find(t.Context(), m.ID, "", "")
	require.NoError(t, err)
	require.Contains(t, b.Because, "the password is wrong")
	require.NoError(t, os.Rename(cfg.Path, cfg.Path+".away"))
	for _, l := range []*Locations{l, open(cfg)} {
		b, err = l.Find(t.Context(), m.ID, "", "")
		require.NoError(t, err)
		require.Equal(t, "offsite", b.Location)
		require.Contains(t, b.Because, "cannot be opened")
		home, name, away := l.Home(t.Context())
		require.Error(t, away)
		require.Equal(t, "offsite", name)
		require.Equal(t, r.Installation(), home.Installation())
	}
	require.NoDirExists(t, cfg.Path, "nothing makes it anew")
	require.NoError(t, os.Rename(cfg.Path+".away", cfg.Path))
	_, name, err := l.Home(t.Context())
	require.NoError(t, err, "it is used again once it is back")
	require.Empty(t, name)

	// A repository of others is no copy.
	stranger := created(t)
	other = NewLocations(cfg, map[string]Config{"offsite": {Path: stranger.cfg.Path, State: t.TempDir(), Password: stranger.cfg.Password}})
	defer func() { require.NoError(t, other.Close(context.Background())) }()
	_, err = other.At(t.Context(), "offsite")
	requireProblem(t, err, remora.Invalid, "another installation")
}

func TestReclaimIsTheOwnersAlone(t *testing.T) {
	r := created(t)
	m := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"a": noise(1, 1<<20)})
	kept := backedUp(t, r, at("shop", "run-2", 2), map[string][]byte{"b": noise(2, 1<<20)})
	require.NoError(t, r.Delete(t.Context(), m.ID))
	_, err := r.Find(t.Context(), m.ID, "")
	requireProblem(t, err, remora.NotFound)
	require.NoError(t, r.Reclaim(t.Context()))
	verified(t, r, kept.ID)
	require.FileExists(t, largestPack(t, r), "what is young stays, whoever deleted it")
}

// A bucket is as good a place as a directory, on either side; and one that does not answer is no end.
func TestCopiesGoToBucketsAndComeFromThem(t *testing.T) {
	server := testenv.NewMinIO(t)
	main := inCreatedBucket(t, server)
	m := backedUp(t, main, at("shop", "run-1", 1), map[string][]byte{"a": noise(1, 3<<20)})
	verified(t, main, m.ID)
	near := twin(t, main)
	copyOf(t, main, near, m.ID)
	require.Equal(t, listing(t, main, m.ID), listing(t, near, m.ID))
	cfg := inBucket(t, server)
	cfg.patience, cfg.CopyOf = impatient(), near // which can take the place of the first
	require.NoError(t, Create(t.Context(), cfg))
	far := reopened(t, cfg)
	require.Equal(t, main.Installation(), far.Installation())
	copyOf(t, near, far, m.ID)
	require.Equal(t, listing(t, main, m.ID), listing(t, far, m.ID))
	require.NoError(t, far.Reclaim(t.Context()))

	there := near.cfg
	there.State = t.TempDir()
	l := NewLocations(main.cfg, map[string]Config{"near": there})
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	b, err := l.Find(t.Context(), m.ID, "", "")
	require.NoError(t, err)
	require.Empty(t, b.Location)
	server.Kill(t)
	for _, l := range []*Locations{l, NewLocations(main.cfg, map[string]Config{"near": there})} {
		began := time.Now()
		b, err = l.Find(t.Context(), m.ID, "", "")
		require.NoError(t, err)
		require.Equal(t, "near", b.Location)
		require.Contains(t, b.Because, main.Where()+" cannot be opened")
		require.Less(t, time.Since(began), openTime+10*time.Second)
	}
	server.Restart(t)
}
