package repository

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/content"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/stretchr/testify/require"
)

// readable reads all bytes of a backup, and tells whether they are well.
func readable(t testing.TB, r *Repository, id string) error {
	t.Helper()
	v, err := r.VerifyBytes(t.Context(), id, "", nil)
	require.Equal(t, err == nil, v.Problem == "")
	if err != nil {
		requireProblem(t, err, remora.Corrupt, id)
		return err
	}
	require.Zero(t, v.Present, "nothing is taken on trust")
	require.Equal(t, v.At, v.FullAt)
	return nil
}

// spoil changes a byte of every 4 KiB of a file.
func spoil(t testing.TB, name string, from, to int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	b := make([]byte, 1)
	for at := from; at < to; at += 4 << 10 {
		_, err := f.ReadAt(b, at)
		require.NoError(t, err)
		b[0] ^= 0x55
		_, err = f.WriteAt(b, at)
		require.NoError(t, err)
	}
}

func TestWhatIsLostIsStoredAgainByTheNextBackup(t *testing.T) {
	for how, damage := range map[string]func(t *testing.T, r *Repository, pack string, first remora.Manifest){
		"flipped": func(t *testing.T, _ *Repository, pack string, _ remora.Manifest) {
			info, err := os.Stat(pack)
			require.NoError(t, err)
			spoil(t, pack, 0, info.Size())
		},
		"cut": func(t *testing.T, _ *Repository, pack string, _ remora.Manifest) {
			require.NoError(t, os.Truncate(pack, 1<<20))
		},
		"deleted": func(t *testing.T, _ *Repository, pack string, _ remora.Manifest) { require.NoError(t, os.Remove(pack)) },
		"a directory": func(t *testing.T, r *Repository, _ string, first remora.Manifest) {
			part, err := r.partOf(t.Context(), first.ID, remora.Files)
			require.NoError(t, err)
			inside, err := r.children(t.Context(), part)
			require.NoError(t, err)
			inside, err = r.children(t.Context(), inside["receipts"])
			require.NoError(t, err)
			spoiled(t, r, inside["2024"].ObjectID.String())
		},
		"a list of blocks": func(t *testing.T, r *Repository, _ string, first remora.Manifest) {
			part, err := r.partOf(t.Context(), first.ID, remora.Database)
			require.NoError(t, err)
			inside, err := r.children(t.Context(), part)
			require.NoError(t, err)
			list, indirect := inside["rows.tsv"].ObjectID.IndexObjectID()
			require.True(t, indirect)
			spoiled(t, r, list.String())
		},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel() // with the others
			r := created(t)
			dir := t.TempDir()
			require.NoError(t, os.Mkdir(filepath.Join(dir, "2024"), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "2024/large.pdf"), noise(1, 7<<20), 0o600))
			for i := range 20 {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "2024", fmt.Sprint(i)), noise(uint64(10+i), 9000), 0o600))
			}
			rows := map[string][]byte{"rows.tsv": noise(2, 5<<20)}
			blog := backedUp(t, r, at("blog", "blog-1", 1), map[string][]byte{"rows.tsv": noise(3, 3<<20)})
			verified(t, r, blog.ID)
			first := site(t, r, at("shop", "run-1", 1), dir, rows)
			second := site(t, r, at("shop", "run-2", 2), dir, rows)
			require.Positive(t, verified(t, r, second.ID).Present, "they share what did not change")

			damage(t, r, largestPack(t, r), first)
			require.ErrorContains(t, readable(t, r, first.ID), "damaged: \"")
			require.NoError(t, readable(t, r, blog.ID), "others are as good as before")

			third := site(t, r, at("shop", "run-3", 3), dir, rows) // nothing has changed; this verifies it, too
			require.NoError(t, readable(t, r, third.ID))
			require.NoError(t, readable(t, r, first.ID), "what it had lost is there again")
			require.NoError(t, readable(t, r, second.ID))
			require.NoError(t, readable(t, r, blog.ID))
			for _, m := range []remora.Manifest{first, third} {
				tree, err := r.Tree(t.Context(), m.ID)
				require.NoError(t, err)
				text, err := fs.ReadFile(tree, "database/rows.tsv")
				require.NoError(t, err)
				require.True(t, bytes.Equal(rows["rows.tsv"], text))
			}
			require.NoError(t, r.Reclaim(t.Context()))
			if how == "flipped" && !testing.Short() {
				k := stockKopia(t, r.cfg, "--readonly")
				require.Contains(t, k.run(t, "snapshot", "list", "--all", "--tags=backup:"+third.ID), "remora@")
				k.run(t, "snapshot", "verify", "--verify-files-percent=100")
			}
		})
	}
}

// spoiled damages the one block of an object.
func spoiled(t *testing.T, r *Repository, id string) {
	t.Helper()
	block, err := content.ParseID(id)
	require.NoError(t, err)
	info, err := r.rep.ContentInfo(t.Context(), block)
	require.NoError(t, err)
	names, err := filepath.Glob(filepath.Join(r.cfg.Path, "*", "*", string(info.PackBlobID)[4:]+".f"))
	require.NoError(t, err)
	require.Len(t, names, 1)
	spoil(t, names[0], int64(info.PackOffset+info.PackedLength/2), int64(info.PackOffset+info.PackedLength/2+1))
}

// What is gone from the source as well stays lost: the backup that had it is corrupt, and the others go on.
func TestSpaceComesBackBesideACorruptBackup(t *testing.T) {
	r := created(t)
	lost := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"rows.tsv": noise(1, 6<<20)})
	verified(t, r, lost.ID)
	pack := largestPack(t, r)
	whole, err := os.ReadFile(pack)
	require.NoError(t, err)
	kept := backedUp(t, r, at("shop", "run-2", 2), map[string][]byte{"rows.tsv": noise(2, 6<<20)})
	verified(t, r, kept.ID)
	require.NoError(t, os.Remove(pack))
	require.Error(t, readable(t, r, lost.ID))
	fresh := reopened(t, r.cfg)
	require.NoError(t, fresh.Reclaim(t.Context()))
	require.Error(t, readable(t, fresh, lost.ID))
	require.NoError(t, readable(t, fresh, kept.ID))

	require.NoError(t, os.WriteFile(pack, whole, 0o600)) // from a copy of the disk
	require.NoError(t, fresh.Reclaim(t.Context()))
	require.NoError(t, readable(t, fresh, lost.ID))
	part, err := fresh.partOf(t.Context(), lost.ID, remora.Database)
	require.NoError(t, err)
	require.True(t, fresh.intact(t.Context(), part.ObjectID))
	inside, err := fresh.children(t.Context(), part)
	require.NoError(t, err)
	require.True(t, fresh.intact(t.Context(), inside["rows.tsv"].ObjectID), "the collector takes the mark away")
}

func TestAQuickVerificationKeepsWhenAllBytesWereRead(t *testing.T) {
	r := created(t)
	m := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"rows.tsv": noise(1, 3<<20)})
	require.Zero(t, verified(t, r, m.ID).FullAt)
	next := backedUp(t, r, at("shop", "run-2", 2), map[string][]byte{"rows.tsv": noise(1, 3<<20)})
	full, err := r.VerifyBytes(t.Context(), next.ID, "", nil)
	require.NoError(t, err)
	quick := verified(t, r, next.ID)
	require.Positive(t, quick.Present)
	require.Equal(t, full.FullAt, quick.FullAt)
	require.True(t, quick.At.After(quick.FullAt))

	one, err := r.VerifyBytes(t.Context(), m.ID, "a run", nil)
	require.NoError(t, err)
	two, err := r.VerifyBytes(t.Context(), next.ID, "a run", nil)
	require.NoError(t, err)
	require.Greater(t, one.Bytes, int64(3<<20))
	require.Less(t, two.Bytes, int64(100<<10), "one run reads once what its backups share")
	again, err := r.VerifyBytes(t.Context(), next.ID, "another run", nil)
	require.NoError(t, err)
	require.Greater(t, again.Bytes, int64(3<<20))
}

func TestABackupThatIsDeletedWhileItIsReadIsNotDamaged(t *testing.T) {
	r := created(t)
	m := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"rows.tsv": noise(1, 6<<20)})
	verified(t, r, m.ID)
	once := false
	_, err := r.VerifyBytes(t.Context(), m.ID, "", func(remora.Progress) {
		if !once {
			once = true
			require.NoError(t, r.Delete(t.Context(), m.ID))
			require.NoError(t, os.Remove(largestPack(t, r)))
		}
	})
	requireProblem(t, err, remora.NotFound, "deleted meanwhile")
	_, err = r.Find(t.Context(), m.ID, "")
	requireProblem(t, err, remora.NotFound)
}

func TestARepositoryThatGoesAwayIsNotDamaged(t *testing.T) {
	r := created(t)
	m := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"rows.tsv": noise(1, 6<<20)})
	verified(t, r, m.ID)
	away := r.cfg.Path + ".unmounted"
	_, err := r.VerifyBytes(t.Context(), m.ID, "", func(remora.Progress) { _ = os.Rename(r.cfg.Path, away) })
	requireProblem(t, err, remora.Unavailable, r.cfg.Path)
	require.NoError(t, os.Rename(away, r.cfg.Path))
	began := time.Now()
	require.NoError(t, readable(t, r, m.ID))
	require.Less(t, time.Since(began), time.Minute)
}

// F28: once something was found lost, what was well before is read again: by the next backup that shares it.
func TestWhatWasWellBeforeADamageIsReadAgain(t *testing.T) {
	r := created(t)
	a := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"rows.tsv": noise(1, 3<<20)})
	verified(t, r, a.ID)
	b := backedUp(t, r, at("shop", "run-2", 2), map[string][]byte{"rows.tsv": noise(2, 3<<20)})
	verified(t, r, b.ID)
	require.NoError(t, filepath.WalkDir(filepath.Join(r.cfg.Path, "p"), func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			info, err := e.Info()
			require.NoError(t, err)
			spoil(t, name, 0, info.Size())
		}
		return err
	}))
	require.Error(t, readable(t, r, a.ID))

	c := backedUp(t, r, at("shop", "run-3", 3), map[string][]byte{"rows.tsv": noise(2, 3<<20)})
	_, err := r.Verify(t.Context(), c.ID, nil)
	requireProblem(t, err, remora.Corrupt, "it stores what is lost again")
	d := backedUp(t, r, at("shop", "run-4", 4), map[string][]byte{"rows.tsv": noise(2, 3<<20)})
	require.Zero(t, verified(t, r, d.ID).Present)
	require.NoError(t, readable(t, r, d.ID))
	require.NoError(t, readable(t, r, b.ID), "what it had lost is there again")
	e := backedUp(t, r, at("shop", "run-5", 5), map[string][]byte{"rows.tsv": noise(2, 3<<20)})
	require.Positive(t, verified(t, r, e.ID).Present, "and can be trusted")
}
