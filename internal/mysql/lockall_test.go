package mysql

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// watched calls look while a table is written into a part.
type watched struct {
	folder
	look func()
}

func (w watched) Put(ctx context.Context, path string, write func(io.Writer) error) error {
	if strings.Contains(path, "money") {
		w.look()
	}
	return w.folder.Put(ctx, path, write)
}

func lockAll(c *Config) { c.LockAll = true }

func TestLockAllKeepsWritersOut(t *testing.T) { testenv.EachMaker(t, keepsWritersOut) }

func keepsWritersOut(t *testing.T, server *testenv.MySQLServer) {
	w := newWorld(t, server)
	w.exec("CREATE TABLE money (id INT PRIMARY KEY, balance INT); INSERT INTO money VALUES (1, 100)")
	writer, err := w.root.Conn(t.Context())
	require.NoError(t, err)
	defer func() { _ = writer.Close() }()
	_, err = writer.ExecContext(t.Context(), "SET SESSION lock_wait_timeout = 1")
	require.NoError(t, err)
	looked := 0
	write := func() error {
		_, err := writer.ExecContext(t.Context(), "UPDATE "+w.schema+".money SET balance = balance + 1")
		return err
	}
	to := watched{folder{t.TempDir()}, func() {
		looked++
		require.Equal(t, uint16(codeLockWait), codeOf(write()), "somebody wrote")
	}}
	sum, err := w.database(lockAll).Capture(t.Context(), remora.Job{Run: "run"}, remora.Subject{}, to)
	require.NoError(t, err)
	require.Positive(t, looked)
	require.Contains(t, strings.Join(sum.Warnings, "\n"), "nobody could write to the server for ")
	require.Contains(t, sum.Facts["consistency"], "sessions, one moment")
	require.NoError(t, write(), "the lock is gone with the capture")

	w.exec("CREATE USER poor@'%'; GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON " + w.schema + ".* TO poor@'%'")
	defer w.exec("DROP USER poor@'%'")
	_, err = w.database(lockAll, withUser("poor")).Capture(t.Context(), remora.Job{Run: "run"}, remora.Subject{}, folder{t.TempDir()})
	requireProblem(t, err, remora.Denied, "read lock")
}
