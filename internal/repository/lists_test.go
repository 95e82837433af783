package repository

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/kopia/kopia/repo/blob"
	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/remora-backup/remora/internal/testenv"
)

// F26: a storage whose lists are old hides backups, and loses none: what is deleted was read, and what a list lacks is not
// taken for gone.
func TestOldListsLoseNothing(t *testing.T) {
	t.Parallel()
	server := testenv.MinIO(t)
	weather := testenv.NewStorm(t, server.Address)
	calm := inBucket(t, server)
	require.NoError(t, Create(t.Context(), calm))
	r := reopened(t, calm)
	old := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"rows.tsv": noise(1, 3<<20), "same": noise(9, 1<<20)})
	second := backedUp(t, r, at("shop", "run-2", 2), map[string][]byte{"rows.tsv": noise(2, 3<<20), "same": noise(9, 1<<20)})

	through := *calm.Bucket
	through.Endpoint = weather.Address
	stale := Config{Bucket: &through, State: t.TempDir(), Password: calm.Password, patience: impatient()}
	m := &memory{answers: map[string]*httptest.ResponseRecorder{}}
	weather.Begin(m.recall)
	all, err := reopened(t, stale).List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Len(t, all, 2)

	hidden := backedUp(t, r, at("shop", "run-3", 3), map[string][]byte{"rows.tsv": noise(3, 3<<20), "same": noise(9, 1<<20)})
	stale.State = t.TempDir() // it knows nothing but what the lists say
	behind := reopened(t, stale)
	all, err = behind.List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Len(t, all, 2, "the newest is not in the lists")
	require.NoError(t, behind.Delete(t.Context(), old.ID))
	require.NoError(t, behind.Reclaim(t.Context()))
	require.Positive(t, m.repeated, "no old list was given")

	weather.Begin(nil)
	again := reopened(t, calm)
	all, err = again.List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Len(t, all, 2, "one was deleted, and none lost")
	for _, id := range []string{hidden.ID, second.ID} {
		verified(t, again, id)
	}
}

// memory gives the lists that a storage gave before.
type memory struct {
	mu       sync.Mutex
	answers  map[string]*httptest.ResponseRecorder
	repeated int
}

func (m *memory) recall(_ int64, r *http.Request) testenv.Fault {
	if r.Method != http.MethodGet || !r.URL.Query().Has("list-type") {
		return nil
	}
	return func(s *testenv.Storm, w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		said, known := m.answers[r.URL.RawQuery]
		if known {
			m.repeated++
		} else {
			said = httptest.NewRecorder()
			s.Pass.ServeHTTP(said, r)
			m.answers[r.URL.RawQuery] = said
		}
		for name, values := range said.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(said.Code)
		_, _ = w.Write(said.Body.Bytes())
	}
}

// F26: lists of more than a page are read to their end, and what is marked as deleted is not in them.
func TestLongListsAreReadToTheirEnd(t *testing.T) {
	t.Parallel()
	server := testenv.MinIO(t)
	cfg := inBucket(t, server)
	require.NoError(t, Create(t.Context(), cfg))
	client := server.Client(t)
	require.NoError(t, client.EnableVersioning(t.Context(), cfg.Bucket.Name))
	r := reopened(t, cfg)
	m := backedUp(t, r, draft("shop", "run-1"), map[string][]byte{"a": noise(1, 3<<20)})
	const blobs, marked = 1100, 30
	var putting errgroup.Group
	putting.SetLimit(16)
	for i := range blobs {
		name := cfg.Bucket.Prefix + fmt.Sprintf("a%031d", i)
		putting.Go(func() error {
			_, err := client.PutObject(t.Context(), cfg.Bucket.Name, name, strings.NewReader("x"), 1, minio.PutObjectOptions{})
			if err == nil && i < marked {
				err = client.RemoveObject(t.Context(), cfg.Bucket.Name, name, minio.RemoveObjectOptions{})
			}
			return err
		})
	}
	require.NoError(t, putting.Wait())
	found := 0
	st, err := r.at.open(t.Context(), false)
	require.NoError(t, err)
	require.NoError(t, st.ListBlobs(t.Context(), "a0", func(blob.Metadata) error { found++; return nil }))
	require.Equal(t, blobs-marked, found)
	verified(t, reopened(t, cfg), m.ID)
}
