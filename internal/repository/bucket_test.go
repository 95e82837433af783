package repository

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
	"github.com/stretchr/testify/require"
)

// inCreatedBucket is an open repository in a bucket, with little patience.
func inCreatedBucket(t *testing.T, server *testenv.S3Server) *Repository {
	t.Helper()
	cfg := inBucket(t, server)
	cfg.patience = impatient()
	require.NoError(t, Create(t.Context(), cfg))
	return reopened(t, cfg)
}

func TestCreateInABucketSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	server := testenv.MinIO(t)
	r := inCreatedBucket(t, server)
	again := r.cfg
	again.State = t.TempDir()
	requireProblem(t, Create(t.Context(), again), remora.Invalid, "there already is a repository", r.Where())

	client := server.Client(t)
	above := *r.cfg.Bucket
	above.Prefix = ""
	again.Bucket = &above
	requireProblem(t, Create(t.Context(), again), remora.Invalid, "something already", "shop/", "prefix")
	_, err := Open(t.Context(), again)
	requireProblem(t, err, remora.Corrupt, "kopia.repository is missing")

	for name, c := range map[string]struct {
		change func(b *remora.Bucket)
		kind   remora.ProblemKind
		says   string
	}{
		"a wrong key":       {func(b *remora.Bucket) { b.SecretKey = secret("wrong") }, remora.Denied, "check the keys"},
		"an unknown key":    {func(b *remora.Bucket) { b.AccessKey = secret("nobody") }, remora.Denied, "check the keys"},
		"an unreadable key": {func(b *remora.Bucket) { b.SecretKey = unreadable }, remora.Denied, "the file is missing"},
		"TLS to a storage without": {
			func(b *remora.Bucket) { b.Plain = false }, remora.Invalid, "http://",
		},
		"a lock for a bucket without one": {func(b *remora.Bucket) { b.Lock = remora.ObjectLock{Mode: remora.Compliance, Days: 2} }, remora.Invalid, "remove object_lock"},
		"an authority that is none":       {func(b *remora.Bucket) { b.CAFile = "/etc/hostname" }, remora.Invalid, "PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			b := *r.cfg.Bucket
			b.Prefix = "other/"
			c.change(&b)
			cfg := again
			cfg.Bucket = &b
			requireProblem(t, Create(t.Context(), cfg), c.kind, c.says)
			for o := range client.ListObjects(t.Context(), r.cfg.Bucket.Name, minio.ListObjectsOptions{Prefix: "other/", Recursive: true}) {
				t.Errorf("%s is left", o.Key)
			}
		})
	}
}

func unreadable() (remora.Secret, error) {
	return "", &remora.Problem{Op: "read a password", Kind: remora.Denied, Err: errors.New("the file is missing")}
}

func TestTheConnectionFileHoldsNoKey(t *testing.T) {
	t.Parallel()
	r := inCreatedBucket(t, testenv.MinIO(t))
	backedUp(t, r, draft("shop", "run-1"), map[string][]byte{"a": noise(1, 100)})
	require.NoError(t, filepath.WalkDir(r.cfg.State, func(path string, e os.DirEntry, err error) error {
		require.NoError(t, err)
		if e.Type().IsRegular() {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NotContains(t, string(text), testenv.S3SecretKey, path)
			require.NotContains(t, string(text), testenv.S3AccessKey, path)
		}
		return nil
	}))
}

// restricted are keys that the storage itself made, for a while and for less than everything.
func restricted(t *testing.T, server *testenv.S3Server, actions string) *remora.Bucket {
	t.Helper()
	sts, err := credentials.NewSTSAssumeRole("http://"+server.Address, credentials.STSAssumeRoleOptions{
		AccessKey: testenv.S3AccessKey, SecretKey: testenv.S3SecretKey,
		Policy: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":[` + actions + `],"Resource":["arn:aws:s3:::*"]}]}`,
	})
	require.NoError(t, err)
	keys, err := sts.GetWithContext(nil)
	require.NoError(t, err)
	b := server.Bucket()
	b.AccessKey, b.SecretKey, b.SessionToken = secret(keys.AccessKeyID), secret(keys.SecretAccessKey), secret(keys.SessionToken)
	return b
}

func TestKeysThatMayOnlyReadReadAndAreToldSo(t *testing.T) {
	t.Parallel()
	server := testenv.MinIO(t)
	r := inCreatedBucket(t, server)
	m := backedUp(t, r, draft("shop", "run-1"), map[string][]byte{"a": noise(1, 3000)})
	b := restricted(t, server, `"s3:GetObject","s3:ListBucket","s3:GetBucketLocation"`)
	b.Name, b.Prefix = r.cfg.Bucket.Name, r.cfg.Bucket.Prefix
	reader := reopened(t, Config{Bucket: b, State: t.TempDir(), Password: r.cfg.Password, patience: impatient()})
	found, err := reader.Find(t.Context(), m.ID, "")
	require.NoError(t, err)
	require.Equal(t, m.ID, found.ID)
	_, err = reader.Check(t.Context())
	requireProblem(t, err, remora.Denied, "check the keys", r.Where())
	requireProblem(t, reader.RecordFailure(t.Context(), failed(m, "x")), remora.Denied, "check the keys", b.Name)

	nobody := restricted(t, server, `"s3:GetObject"`)
	requireProblem(t, Create(t.Context(), Config{Bucket: nobody, State: t.TempDir(), Password: secret(password), patience: impatient()}), remora.Denied, nobody.Name)
}

func TestRotatedKeysAreReadAgain(t *testing.T) {
	t.Parallel()
	server := testenv.MinIO(t)
	r := inCreatedBucket(t, server)
	all := `"s3:*"`
	first, second := restricted(t, server, all), restricted(t, server, all)
	now, refused := first, atomic.Bool{}
	b := *r.cfg.Bucket
	b.AccessKey = func() (remora.Secret, error) { return now.AccessKey() }
	b.SecretKey = func() (remora.Secret, error) {
		if refused.Load() {
			return "gone", nil
		}
		return now.SecretKey()
	}
	b.SessionToken = func() (remora.Secret, error) { return now.SessionToken() }
	rotating := reopened(t, Config{Bucket: &b, State: t.TempDir(), Password: r.cfg.Password, patience: impatient()})
	backedUp(t, rotating, draft("shop", "run-1"), map[string][]byte{"a": noise(1, 3000)})
	refused.Store(true)
	requireProblem(t, rotating.Refresh(t.Context()), remora.Denied)
	refused.Store(false)
	now = second
	m := backedUp(t, rotating, draft("shop", "run-2"), map[string][]byte{"a": noise(2, 3000)})
	verified(t, rotating, m.ID)
}

func TestABucketThatVanishesAndComesBack(t *testing.T) {
	t.Parallel()
	server := testenv.VersityGW(t)
	r := inCreatedBucket(t, server)
	m := backedUp(t, r, draft("shop", "run-1"), map[string][]byte{"a": noise(1, 3<<20)})
	there := filepath.Join(server.Data, r.cfg.Bucket.Name)
	away := filepath.Join(t.TempDir(), "away")
	require.NoError(t, os.Rename(there, away))
	began := time.Now()
	p, err := r.Begin(t.Context(), Spec{Source: "shop", Run: "run-2", Backup: "b", Kind: remora.Database})
	if err == nil {
		err = p.Put(t.Context(), "a", func(w io.Writer) error { _, err := w.Write(noise(2, 3<<20)); return err })
		if err == nil {
			_, _, err = p.Finish(t.Context())
		}
		_ = p.Abort(context.Background())
	}
	requireProblem(t, err, remora.NotFound, "removed the bucket", r.Where())
	_, err = r.Verify(t.Context(), m.ID, nil)
	requireProblem(t, err, remora.NotFound, "removed the bucket")
	require.Less(t, time.Since(began), 5*time.Second)
	require.NoError(t, os.Rename(away, there))
	verified(t, r, m.ID)
	b, err := r.Find(t.Context(), m.ID, "")
	require.NoError(t, err)
	require.Equal(t, remora.Completed, b.Status, "what could not be asked was not called damaged")
}

func TestTLSTrustsTheAuthorityThatIsNamed(t *testing.T) {
	t.Parallel()
	storm := testenv.NewStorm(t, testenv.MinIO(t).Address)
	server := httptest.NewTLSServer(storm.Pass)
	t.Cleanup(server.Close)
	b := testenv.MinIO(t).Bucket()
	b.Plain, b.Endpoint = false, strings.TrimPrefix(server.URL, "https://")
	cfg := Config{Bucket: b, State: t.TempDir(), Password: secret(password), patience: impatient()}
	requireProblem(t, Create(t.Context(), cfg), remora.Invalid, "ca_file", "unknown authority")
	b.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(b.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	require.NoError(t, Create(t.Context(), cfg))
	backedUp(t, reopened(t, cfg), draft("shop", "run-1"), map[string][]byte{"a": noise(1, 3000)})
}

func TestObjectLockKeepsBackupsFromBeingDeleted(t *testing.T) {
	t.Parallel()
	server := testenv.MinIO(t)
	cfg := inBucket(t, server)
	cfg.Bucket.Lock = remora.ObjectLock{Mode: remora.Compliance, Days: 3}
	require.NoError(t, Create(t.Context(), cfg))
	r := reopened(t, cfg)
	m := backedUp(t, r, draft("shop", "run-1"), map[string][]byte{"a": noise(1, 3<<20)})
	client := server.Client(t)
	locked := 0
	for o := range client.ListObjects(t.Context(), cfg.Bucket.Name, minio.ListObjectsOptions{Prefix: cfg.Bucket.Prefix, WithVersions: true}) {
		require.NoError(t, o.Err)
		if !strings.ContainsAny(strings.TrimPrefix(o.Key, cfg.Bucket.Prefix)[:1], "pqxk") {
			continue
		}
		mode, until, err := client.GetObjectRetention(t.Context(), cfg.Bucket.Name, o.Key, o.VersionID)
		require.NoError(t, err, o.Key)
		require.Equal(t, minio.Compliance, *mode)
		require.WithinDuration(t, time.Now().Add(72*time.Hour), *until, time.Minute)
		err = client.RemoveObject(t.Context(), cfg.Bucket.Name, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID, GovernanceBypass: true})
		require.ErrorContains(t, err, "WORM", "nobody deletes a version")
		locked++
	}
	require.Greater(t, locked, 3)
	verified(t, r, m.ID)
	st, err := r.at.open(t.Context(), false)
	require.NoError(t, err)
	require.NoError(t, st.ExtendBlobRetention(t.Context(), formatBlob, blob.ExtendOptions{RetentionMode: blob.Compliance, RetentionPeriod: 96 * time.Hour}))
	_, until, err := client.GetObjectRetention(t.Context(), cfg.Bucket.Name, cfg.Bucket.Prefix+formatBlob, "")
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(96*time.Hour), *until, time.Minute)
}

func TestAStorageThatIsKilledAndComesBackIsRiddenOut(t *testing.T) {
	t.Parallel()
	server := testenv.NewMinIO(t)
	cfg := inBucket(t, server)
	require.NoError(t, Create(t.Context(), cfg))
	r := reopened(t, cfg)
	m := draft("shop", "run-1")
	p := begin(t, r, m, remora.Database)
	put(t, p, "a", noise(1, 3<<20))
	server.Kill(t)
	back := make(chan struct{})
	go func() {
		defer close(back)
		server.Restart(t)
	}()
	put(t, p, "b", noise(2, 30<<20)) // a pack goes out
	finish(t, p, &m)
	<-back
	m, err := r.Commit(t.Context(), m)
	require.NoError(t, err)
	verified(t, r, m.ID)
}
