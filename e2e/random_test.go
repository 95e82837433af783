package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/testenv"
)

// A ground is a kind of site, and what may strike it.
type ground struct {
	name string
	make func(t *testing.T, on *testenv.MySQLServer) (*torture, []fault)
}

// grounds are all that a torture goes through.
func grounds() []ground {
	return []ground{
		{"processes", func(t *testing.T, on *testenv.MySQLServer) (*torture, []fault) {
			at := tortured
			at.mysql = on
			return newTorture(t, at), processFaults()
		}},
		{"networks", newStormy},
		{"disks", func(t *testing.T, on *testenv.MySQLServer) (*torture, []fault) {
			k, _, faults := newCramped(t, on, "--max-binlog-size=8M", "--binlog-expire-logs-seconds=60") // else that fills the disk
			return k, faults
		}},
	}
}

// newServer starts a server for a test alone: "mysql", "mariadb", which is the newest one, or "mariadb-10.11".
func newServer(t *testing.T, name string) *testenv.MySQLServer {
	t.Helper()
	switch version, mariadb := strings.CutPrefix(name, "mariadb"); {
	case !mariadb:
		return testenv.NewMySQL(t)
	case version == "":
		return testenv.NewMariaDB(t, "11.8")
	default:
		return testenv.NewMariaDB(t, version[1:])
	}
}

// TestTortureAtRandom draws phase, fault and moment from REMORA_SEED, for as many minutes as REMORA_TORTURE says: make
// torture. It goes from site to site, each of a kind of REMORA_TORTURE_OF on a server of REMORA_TORTURE_DB, and leaves
// nothing of one behind, so that it can go on for days. A wrong outcome ends a site, and the next one goes on.
func TestTortureAtRandom(t *testing.T) {
	text := os.Getenv("REMORA_TORTURE")
	if text == "" {
		t.Skip("REMORA_TORTURE=MINUTES runs it, or: make torture")
	}
	minutes, err := strconv.ParseFloat(text, 64)
	require.NoError(t, err)
	first := seedOf(t)
	type place struct {
		ground
		server string
	}
	var places []place
	for _, server := range words("REMORA_TORTURE_DB", "mysql mariadb") {
		for _, name := range words("REMORA_TORTURE_OF", "processes networks disks") {
			i := slices.IndexFunc(grounds(), func(g ground) bool { return g.name == name })
			require.GreaterOrEqual(t, i, 0, "REMORA_TORTURE_OF: there is no %q: processes, networks and disks are", name)
			places = append(places, place{grounds()[i], server})
		}
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	all := tally{began: time.Now()}
	defer func() { _, _ = fmt.Fprint(t.Output(), &all) }()
	whole := time.Duration(minutes * float64(time.Minute))
	turn := max(2*time.Minute, min(10*time.Minute, whole/time.Duration(len(places))))
	for n := uint64(0); ctx.Err() == nil && time.Since(all.began) < whole; n++ {
		at, seed := places[(first+n)%uint64(len(places))], first+n
		again := fmt.Sprintf("make torture OF=%s DB=%s REMORA_SEED=%d", at.name, at.server, seed)
		t.Run(at.name+" on "+at.server, func(t *testing.T) {
			_, _ = fmt.Fprintf(t.Output(), "%s: %s\n", time.Now().UTC().Format(time.TimeOnly), again)
			until := time.Now().Add(turn)
			if end := all.began.Add(whole); end.Before(until) {
				until = end
			}
			var k *torture
			began := time.Now()
			t.Cleanup(func() { all.leave(t, at.name+" on "+at.server, again, k, began, ctx.Err() != nil) })
			k, faults := at.make(t, newServer(t, at.server))
			k.atRandom(ctx, seed, until, faults)
		})
	}
	require.NotZero(t, len(all.results), "no fault ever struck")
}

func words(variable, otherwise string) []string {
	if text := strings.Fields(os.Getenv(variable)); len(text) > 0 {
		return text
	}
	return strings.Fields(otherwise)
}

// atRandom draws phases and faults until a time. What the nth run draws depends on the seed alone.
func (k *torture) atRandom(ctx context.Context, seed uint64, until time.Time, faults []fault) {
	k.t.Helper()
	faults = slices.DeleteFunc(faults, func(f fault) bool {
		if f.cannot == nil {
			return false
		}
		why := f.cannot(k)
		if why != nil {
			k.t.Logf("left out: %s %s: %v", f.id, f.name, why)
		}
		return why != nil
	})
	for n := uint64(0); ctx.Err() == nil && time.Now().Before(until); n++ {
		k.random = rand.New(rand.NewPCG(seed, n))
		var p phase
		var f fault
		for drawn := false; !drawn; drawn = f.at == nil || f.at(p) {
			p, f = phases()[k.random.IntN(len(phases()))], faults[k.random.IntN(len(faults))]
		}
		k.run(p, f)
	}
}
