// Package bench measures the database component on real servers beside its peers and beside what the machine can do at
// best. It is no test: `make bench` and `make bench-memory` run it, and print a table; docs/explanation/performance.md
// explains the lines.
//
// Everything that is measured is a process of its own, so that CPU and memory are of that work alone: the peers are, and
// for our side the test binary starts itself again (child_test.go).
package bench

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/testenv"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		if err := runChild(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(testenv.Run(m))
}

// What `make bench` hands over.
func setting(name, otherwise string) string {
	return cmp.Or(os.Getenv("REMORA_BENCH_"+name), otherwise)
}

func number(t testing.TB, name, otherwise string) int {
	t.Helper()
	n, err := strconv.Atoi(setting(name, otherwise))
	require.NoError(t, err)
	return n
}

// size reads 1.5G or 200M: bytes of tab-separated text.
func size(t testing.TB, name, otherwise string) int64 {
	t.Helper()
	text := setting(name, otherwise)
	unit := map[string]float64{"K": 1e3, "M": 1e6, "G": 1e9}[text[len(text)-1:]]
	n, err := strconv.ParseFloat(strings.TrimRight(text, "KMG"), 64)
	require.NoError(t, err)
	return int64(n * cmp.Or(unit, 1))
}

// asked skips what nobody asked for: a measurement takes many minutes, and is worth nothing beside other tests.
func asked(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("REMORA_BENCH") != what {
		t.Skip("run by: make " + what)
	}
}

// started is a server as it is shipped: durable at every commit, MySQL with its binary log. Only its buffer pool holds
// all of the data, as that of a server that is used does.
func started(t testing.TB, pool int64) *testenv.MySQLServer {
	t.Helper()
	var s *testenv.MySQLServer
	switch name := setting("SERVER", "mysql"); name {
	case "mysql":
		s = testenv.NewMySQL(t)
	default: // mariadb, or mariadb-10.11
		s = testenv.NewMariaDB(t, cmp.Or(strings.TrimPrefix(strings.TrimPrefix(name, "mariadb"), "-"), "11.8"))
	}
	options := []string{
		"--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1", "--table-open-cache=4000", "--innodb-log-buffer-size=64M",
		fmt.Sprintf("--innodb-buffer-pool-size=%d", pool),
	}
	if s.MariaDB() {
		options = append(options, "--innodb-log-buffer-size=16M", "--innodb-log-file-size=96M")
	} else {
		options = append(options, "--innodb-redo-log-capacity=100M")
	}
	s.Restart(t, options...)
	return s
}
