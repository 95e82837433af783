package repository

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// table is n bytes of rows such as a shop has: they compress about four times.
func table(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d\t%d\tcustomer-%06d@example.com\t%d.%02d\tpaid\t2026-0%d-%02d 10:%02d:%02d\t%x\n",
			i, r.IntN(1e9), r.IntN(1e6), r.IntN(1000), r.IntN(100), 1+r.IntN(9), 1+r.IntN(28), r.IntN(60), r.IntN(60), r.Uint64())
	}
	return b.Bytes()[:n]
}

// BenchmarkTable writes 512 MB of rows in four streams, and again unchanged; then it verifies and reads them back.
func BenchmarkTable(b *testing.B) {
	const streams, each = 4, 128 << 20
	data := make([][]byte, streams)
	for i := range data {
		data[i] = table(uint64(i), each)
	}
	rate := func(name string, since time.Time) {
		b.ReportMetric(streams*each/1e6/time.Since(since).Seconds(), name+"-MB/s")
	}
	for range b.N {
		r := created(b)
		var last remora.Manifest
		for _, round := range []string{"first", "unchanged"} {
			m := draft("shop", round)
			p := begin(b, r, m, remora.Database)
			began := time.Now()
			var all errgroup.Group
			for i := range data {
				all.Go(func() error {
					return p.Put(context.Background(), fmt.Sprintf("shop/t.%d.tsv", i), func(w io.Writer) error {
						_, err := io.Copy(w, struct{ io.Reader }{bytes.NewReader(data[i])})
						return err
					})
				})
			}
			require.NoError(b, all.Wait())
			ref := finish(b, p, &m)
			rate(round, began)
			b.ReportMetric(float64(ref.Added)/1e6, round+"-MB-added")
			done, err := r.Commit(b.Context(), m)
			require.NoError(b, err)
			last = done
		}
		began := time.Now()
		verified(b, r, last.ID)
		rate("verify", began)
		part, err := r.Part(b.Context(), last.ID, remora.Database)
		require.NoError(b, err)
		began = time.Now()
		for i := range data {
			f, err := part.Open(fmt.Sprintf("shop/t.%d.tsv", i))
			require.NoError(b, err)
			_, err = io.Copy(io.Discard, f)
			require.NoError(b, err)
			require.NoError(b, f.Close())
		}
		rate("read", began)
	}
}

// BenchmarkTree stores 5,000 files of 100 kB, and again unchanged.
func BenchmarkTree(b *testing.B) {
	const files, each = 5000, 100_000
	dir := b.TempDir()
	for i := range files {
		sub := filepath.Join(dir, fmt.Sprint(i%50))
		require.NoError(b, os.MkdirAll(sub, 0o750))
		require.NoError(b, os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), noise(uint64(i), each), 0o600))
	}
	for range b.N {
		r := created(b)
		for _, round := range []string{"first", "unchanged"} {
			m := draft("shop", round)
			p := begin(b, r, m, remora.Files)
			began := time.Now()
			_, err := p.PutTree(b.Context(), "data", dir, nil)
			require.NoError(b, err)
			finish(b, p, &m)
			b.ReportMetric(files*each/1e6/time.Since(began).Seconds(), round+"-MB/s")
			_, err = r.Commit(b.Context(), m)
			require.NoError(b, err)
		}
	}
}
