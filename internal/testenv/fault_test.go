package testenv_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/testenv"
)

func TestWireCutsHoldsUpAndLosesAnswers(t *testing.T) {
	server := testenv.MySQL(t)
	schema := server.Schema(t)
	wire := testenv.NewWire(t, server.Address)
	config, err := mysql.ParseDSN(server.DSN(schema))
	require.NoError(t, err)
	config.Addr = wire.Address
	connector, err := mysql.NewConnector(config)
	require.NoError(t, err)
	db := func(query string) error { // on a connection of its own
		opened := sql.OpenDB(connector)
		defer func() { _ = opened.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := opened.ExecContext(ctx, query)
		return err
	}
	tables := func() (n int) {
		require.NoError(t, server.DB(t).QueryRowContext(t.Context(), "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = ?", schema).Scan(&n))
		return n
	}
	require.NoError(t, db("CREATE TABLE a (id INT)"))

	wire.Begin(testenv.Break{When: "TABLE b", Times: 1})
	require.NoError(t, db("CREATE TABLE c (id INT)"), "what does not say it passes")
	require.Error(t, db("CREATE TABLE b (id INT)"))
	require.Equal(t, 2, tables(), "it never came to the server")
	require.Equal(t, 1, wire.Fired())
	require.NoError(t, db("CREATE TABLE b (id INT)"), "once was enough")

	wire.Begin(testenv.Break{When: "TABLE d", Lose: true, Times: 1})
	require.Error(t, db("CREATE TABLE d (id INT)"))
	require.Equal(t, 4, tables(), "it was done, and the answer got lost")

	wire.Begin(testenv.Break{When: "TABLE e", Stall: true, Times: 1})
	require.ErrorIs(t, db("CREATE TABLE e (id INT)"), context.DeadlineExceeded)
	require.Equal(t, 4, tables())
	require.Equal(t, 1, wire.Fired())

	called := 0
	wire.Begin(testenv.Break{When: "TABLE e", Do: func() { called = tables() }, Times: 1})
	require.NoError(t, db("CREATE TABLE e (id INT)"))
	require.Equal(t, 4, called, "before it came to the server")
	require.Equal(t, 5, tables())

	wire.Begin(testenv.Break{After: 50})
	require.Error(t, db("CREATE TABLE f (id INT)"))
	require.Error(t, db("CREATE TABLE f (id INT)"))
	require.Equal(t, 2, wire.Fired())
	wire.Mend()
	require.NoError(t, db("CREATE TABLE f (id INT)"))

	wire.Down()
	require.ErrorIs(t, db("DROP TABLE f"), syscall.ECONNREFUSED)
	wire.Up(t)
	require.NoError(t, db("DROP TABLE f"))
}

func TestDiskKeepsWhatWasThereAndGetsFull(t *testing.T) {
	at := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(at, "kept"), []byte("x"), 0o600))
	disk := testenv.NewDisk(t, at, 2)
	text, err := os.ReadFile(filepath.Join(at, "kept"))
	require.NoError(t, err)
	require.Equal(t, "x", string(text))
	require.Greater(t, disk.Room(t), int64(1<<20))
	disk.Fill(t, 100<<10)
	require.InDelta(t, 100<<10, disk.Room(t), 8<<10)
	disk.Fill(t, 0)
	require.ErrorIs(t, os.WriteFile(filepath.Join(at, "more"), make([]byte, 10000), 0o600), syscall.ENOSPC)
	disk.Empty(t)
	require.NoError(t, os.WriteFile(filepath.Join(at, "more"), make([]byte, 10000), 0o600))
}
