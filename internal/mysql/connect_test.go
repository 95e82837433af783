package mysql

import (
	"context"
	"database/sql"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/testenv"
)

// A census of thousands of tables takes longer than the time between two looks at the session that takes it.
func TestASessionIsLookedAfterWhileItReads(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	s, err := w.d.connect(t.Context(), w.d.read)
	require.NoError(t, err)
	defer s.close()
	var looks sync.WaitGroup
	defer looks.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	looks.Go(func() {
		for ctx.Err() == nil {
			_ = s.exec(context.WithoutCancel(ctx), "DO 1")
		}
	})
	for range 50 {
		rows := 0
		err := s.each(t.Context(), func(r *sql.Rows) error {
			rows++
			return r.Scan(new(int), new(string))
		}, "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i, REPEAT('x', 1000) FROM n")
		require.NoError(t, err)
		require.Equal(t, 900, rows)
	}
}
