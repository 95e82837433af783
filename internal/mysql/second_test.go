package mysql

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// blocks counts what a repository would store of the rows: it splits a file into blocks of one size, and keeps of equal
// ones the first.
type blocks struct {
	folder
	size int
	mu   *sync.Mutex
	kept map[[sha256.Size]byte]bool
	// rows is the size of all files of rows, added of what was not there before, in bytes.
	rows, added *int
}

func (b blocks) Put(ctx context.Context, path string, write func(io.Writer) error) error {
	var file bytes.Buffer
	if err := write(&file); err != nil {
		return err
	}
	if strings.HasSuffix(path, ".tsv") {
		b.mu.Lock()
		defer b.mu.Unlock()
		for block := range slices.Chunk(file.Bytes(), b.size) {
			*b.rows += len(block)
			if sum := sha256.Sum256(block); !b.kept[sum] {
				b.kept[sum] = true
				*b.added += len(block)
			}
		}
	}
	return b.folder.Put(ctx, path, func(w io.Writer) error {
		_, err := file.WriteTo(w)
		return err
	})
}

// A second backup stores what changed: sixteen times smaller in all sizes than ranges of 32 MiB in blocks of 2 MiB.
func TestASecondBackupStoresWhatChanged(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	const scale, rows = 16, 48_000
	w.d.rangeBytes = rangeBytes / scale
	shapes := map[string][2]string{
		"order_numbers": {"id VARCHAR(20) NOT NULL, PRIMARY KEY (id)", "CONCAT('ORD-', 2022 + i DIV 12000, '-', LPAD(i, 6, '0'))"},
		"tenants":       {"tenant CHAR(36), id BIGINT, PRIMARY KEY (tenant, id)", "'018f7e6c-0000-7000-8000-00000000002a', i"},
	}
	w.exec(w.deep() + fmt.Sprintf("CREATE TABLE n (i INT PRIMARY KEY) WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < %d) SELECT i FROM n", rows))
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.T = t
			w.exec("CREATE TABLE t (" + shape[0] + ", i INT, body VARCHAR(600))")
			defer w.exec("DROP TABLE t")
			insert := func(from, to int) {
				w.exec(fmt.Sprintf("INSERT INTO t SELECT %s, i, REPEAT(SHA2(i, 256), 6 + i %% 3) FROM n WHERE i BETWEEN %d AND %d", shape[1], from, to))
			}
			const most = rows - 200
			insert(1, most)
			w.exec("ANALYZE TABLE t")
			kept, mu := map[[sha256.Size]byte]bool{}, new(sync.Mutex)
			backup := func(what string) (added float64, ranges []partRange) {
				to := blocks{folder: folder{t.TempDir()}, size: (2 << 20) / scale, mu: mu, kept: kept, rows: new(int), added: new(int)}
				_, err := w.d.Capture(t.Context(), remora.Job{Run: "backup"}, remora.Subject{}, to)
				require.NoError(t, err)
				tables := to.part(t).Schemas[0].Tables
				ranges = tables[slices.IndexFunc(tables, func(t partTable) bool { return t.Name == "t" })].Ranges
				t.Logf("%-24s %2d ranges, %5.1f MB of rows, %6.2f MB added, %.2f %%", what, len(ranges), float64(*to.rows)/1e6, float64(*to.added)/1e6, float64(*to.added)/float64(*to.rows)*100)
				return float64(*to.added) / float64(*to.rows), ranges
			}
			_, first := backup("the first")
			require.Greater(t, len(first), 8)
			added, again := backup("nothing changed")
			require.Zero(t, added)
			require.Equal(t, first, again)

			w.exec(fmt.Sprintf("UPDATE t SET body = CONCAT(body, 'changed') WHERE i > %d", most-most/100+200))
			insert(most+1, rows)
			added, newer := backup("the newest 1 % changed")
			require.Less(t, added, 0.025)

			const from, to = 10_000, 16_000
			w.exec(fmt.Sprintf("DELETE FROM t WHERE i BETWEEN %d AND %d AND i %% 5 = 0", from, to))
			_, older := backup("20 % of some deleted")
			for at, i := int64(1), 0; i < len(newer); i++ {
				same := slices.ContainsFunc(older, func(r partRange) bool { return r.SHA256 == newer[i].SHA256 })
				touched := at <= to && at+newer[i].Rows > from
				require.Equal(t, !touched, same, "rows %d to %d", at, at+newer[i].Rows)
				at += newer[i].Rows
			}
		})
	}
}
