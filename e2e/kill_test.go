package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// kills is how many random moments a kill test tries.
const kills = 10

func seed(t *testing.T) *rand.Rand {
	n := seedOf(t)
	return rand.New(rand.NewPCG(n, n))
}

// seedOf is random, printed, and can be given again in REMORA_SEED.
func seedOf(t *testing.T) uint64 {
	n := uint64(time.Now().UnixNano())
	if text := os.Getenv("REMORA_SEED"); text != "" {
		var err error
		n, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("REMORA_SEED=%d", n)
	return n
}

var big = shape{users: 20_000, orders: 150_000, files: 200, undo: time.Hour}

// TestKillWorkerDuringBackup kills the worker with SIGKILL at random moments of a backup: each backup completes, and
// the last one restores to what was there.
func TestKillWorkerDuringBackup(t *testing.T) {
	s := newSite(t, big)
	undisturbed := s.took("backup", s.source())
	random := seed(t)
	backups := 1
	for killed := 0; killed < kills; backups++ {
		s.exec("UPDATE orders SET note = CONCAT(COALESCE(note, ''), 'x') WHERE id % 2 = 0") // something new to store
		if s.killDuring(random, undisturbed, "backup", s.source()) {
			killed++
		}
	}
	now := s.read()
	all := list[remora.Backup](s, "history", s.source())
	require.Len(t, all, backups)
	for _, b := range all {
		require.Equal(t, remora.Completed, b.Status, b.ID)
	}
	s.damage()
	s.must("restore", "latest", "--force")
	s.requireEqual(now, s.read(), "the backup that was killed last, restored")
	s.must("accept", s.source())
	s.requireNothingLeft()
}

// took runs the command undisturbed and says how long it took.
func (s *site) took(args ...string) time.Duration {
	start := time.Now()
	s.must(args...)
	return time.Since(start)
}

// killDuring runs a command that must succeed, kills the worker at a random moment of it and starts another. hit is false
// when the command was faster than the moment: such a moment does not count.
func (s *site) killDuring(random *rand.Rand, usual time.Duration, args ...string) (hit bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var out string
	var code int
	done := make(chan struct{})
	go func() {
		defer close(done)
		out, code = s.remoraContext(ctx, args...)
	}()
	moment := time.Duration(random.Int64N(int64(usual)))
	select {
	case <-done:
	case <-time.After(moment):
		hit = true
		s.killWorker()
		s.startWorker()
		<-done
		s.t.Logf("%s, worker killed after %v of about %v", args[0], moment.Round(time.Millisecond), usual.Round(time.Millisecond))
	}
	require.Zero(s.t, code, out)
	return hit
}
