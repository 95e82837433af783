package mysql

import (
	"fmt"
	"os"
	"strings"
	"testing"

	sqldriver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// S27: the plan says what the stage takes, by file system, and refuses what cannot fit. Of a server elsewhere it does not
// know what is free, and refuses nothing.
func TestS27ThePlanKnowsItsSpace(t *testing.T) {
	testenv.EachMaker(t, testS27ThePlanKnowsItsSpace)
}

func testS27ThePlanKnowsItsSpace(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	part := w.capture()
	plan := func() (remora.Estimate, error) {
		return w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	}
	est, err := plan()
	require.NoError(t, err)
	require.NotEmpty(t, est.Space)
	require.DirExists(t, est.Space[0].At)
	require.Contains(t, est.Space[0].For, "the stage")
	require.Equal(t, w.ask("SELECT @@log_bin") == "1", strings.Contains(fmt.Sprint(est.Space), "the binary log"), "a log takes space, too")
	require.GreaterOrEqual(t, est.Space[0].Need, int64(6*40), "six rows")
	require.NotNil(t, est.Space[0].Free)
	require.Positive(t, *est.Space[0].Free)

	free := est.Space[0].Need / 4
	w.d.free = func(string) *int64 { return &free }
	_, err = plan()
	requireProblem(t, err, remora.Full, est.Space[0].At, "the stage", "about", "make room")
	require.Empty(t, w.leftovers())
	free = est.Space[0].Need * 3 / 4
	_, err = plan()
	require.NoError(t, err, "a guess refuses nothing that may fit")

	w.d.free = func(string) *int64 { return nil }
	est, err = plan()
	require.NoError(t, err)
	require.Nil(t, est.Space[0].Free)
}

func TestAServerElsewhereIsNotTakenForOneHere(t *testing.T) {
	name, err := os.Hostname()
	require.NoError(t, err)
	for address, here := range map[string]bool{"127.0.0.1:3306": true, "localhost:3306": true, "[::1]:3306": true, "192.0.2.7:3306": false, "db:3306": false} {
		d := Database{cfg: Config{Address: address}}
		require.Equal(t, here, d.here(name), address)
		require.False(t, d.here("another-host"), address)
	}
}

// A stage for which there is no room says so, however the server puts it, and is not tried again: somebody has to make room (F17).
func TestF17AFullDiskIsToldAsOne(t *testing.T) {
	server := testenv.NewMariaDB(t, "11.8") // it may end itself; MySQL's is e2e's TestWreckedDisks
	server.Kill(t)
	disk := testenv.NewDisk(t, server.Datadir(), 400)
	server.Restart(t)
	w := newWorld(t, server)
	w.exec(shop)
	part := w.capture()
	live := w.dumps(w.schema)
	w.staged("q", part)
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "q"}, ""))
	disk.Fill(t, 100<<10)
	_, err := w.d.Stage(t.Context(), remora.Job{Run: "r"}, part.fs())
	requireProblem(t, err, remora.Full, "Can't create table", "free space on the server's data directory")
	disk.Empty(t)
	server.Restart(t)
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, ""))
	require.Equal(t, live, w.dumps(w.schema))

	err = w.d.problem(t.Context(), "load", "table more", &sqldriver.MySQLError{Number: 3675, Message: "Create table/tablespace 'more' failed, as disk is full"})
	requireProblem(t, err, remora.Full, "as disk is full", "free space on the server's data directory")
}
