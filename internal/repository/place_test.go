package repository

import (
	"fmt"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/remora-backup/remora/internal/testenv"
	"github.com/stretchr/testify/require"
)

// everywhere runs a test on a new repository in each kind of place.
func everywhere(t *testing.T, test func(t *testing.T, r *Repository)) {
	for name, at := range map[string]func(t testing.TB) Config{
		"directory": config,
		"minio":     func(t testing.TB) Config { return inBucket(t, testenv.MinIO(t)) },
		"versitygw": func(t testing.TB) Config { return inBucket(t, testenv.VersityGW(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // with the other places
			cfg := at(t)
			require.NoError(t, Create(t.Context(), cfg))
			test(t, reopened(t, cfg))
		})
	}
}

// inBucket is a repository below a prefix, in a bucket that does not exist yet.
func inBucket(t testing.TB, server *testenv.S3Server) Config {
	t.Helper()
	b := server.Bucket()
	b.Prefix = "shop/backups/"
	return Config{Bucket: b, State: t.TempDir(), Password: secret(password)}
}

func TestCheckTellsHowThePlaceIs(t *testing.T) { everywhere(t, testCheckTellsHowThePlaceIs) }

func testCheckTellsHowThePlaceIs(t *testing.T, r *Repository) {
	h, err := r.Check(t.Context())
	require.NoError(t, err)
	require.Equal(t, r.Where(), h.Where)
	require.Less(t, h.Skew.Abs(), 5*time.Second)
	require.Positive(t, h.Took)
	require.Equal(t, r.cfg.Bucket == nil, h.Free != nil, "a bucket does not tell")
	st, err := r.at.open(t.Context(), false)
	require.NoError(t, err)
	require.NoError(t, st.ListBlobs(t.Context(), probeBlob, func(m blob.Metadata) error {
		return fmt.Errorf("%s is left", m.BlobID)
	}))
}
