package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// TestSoak leaves two sources alone with a slot each minute, while the worker and Temporal are killed at random, rows and
// files are written, old backups are removed, and now and then one is restored, and kept or rolled back. It ends with
// both sources rebuilt by hand from the repository alone. REMORA_SOAK says for how many minutes; without it, it is left
// out: `make soak`.
func TestSoak(t *testing.T) {
	text := os.Getenv("REMORA_SOAK")
	if text == "" {
		t.Skip("REMORA_SOAK=MINUTES runs it, or: make soak")
	}
	minutes, err := strconv.Atoi(text)
	require.NoError(t, err)

	k := &soak{
		t: t, random: seed(t), temporal: testenv.NewTemporal(t), marks: map[string]mark{},
		outcomes: map[string]map[time.Time]map[string]remora.Status{},
	}
	at := small
	at.temporal = k.temporal
	shop := newSite(t, at)
	k.sites = []*site{shop, k.neighbour(shop)}
	began := time.Now()

	ctx, stop := context.WithCancel(t.Context())
	var background sync.WaitGroup
	for _, s := range k.sites {
		background.Go(func() { k.write(ctx, s) })
	}
	killer := rand.New(rand.NewPCG(k.random.Uint64(), 0))
	background.Go(func() { k.kill(ctx, killer) })
	t.Cleanup(func() { stop(); background.Wait() })

	k.mark(k.sites[0])
	k.mark(k.sites[1])
	for time.Since(began) < time.Duration(minutes)*time.Minute {
		s := k.sites[k.random.IntN(len(k.sites))]
		k.mark(s)
		k.restore(s)
		if k.random.IntN(2) == 0 {
			k.cleanup()
		}
		k.collect()
	}
	stop()
	background.Wait()
	k.settle()
	k.report(time.Since(began))
	for _, s := range k.sites {
		k.patiently("backup", s.source(), "--name", "last")
	}
	for _, s := range k.sites {
		s.comesBackByHand("connect filesystem --path=/path/to/the/repository", "connect filesystem --path="+filepath.Join(shop.dir, "repository"))
		t.Logf("%s was rebuilt by hand from the repository alone, and is equal", s.source())
	}
}

// soak is what happens in a soak, and what of it must hold at the end.
type soak struct {
	t        *testing.T
	random   *rand.Rand
	temporal *testenv.TemporalServer
	sites    []*site // they share the first one's worker
	// still is held by whoever reads or changes the sites as a whole; the writers write in between.
	still sync.RWMutex
	marks map[string]mark // by backup
	// outcomes by source, slot and backup or failed run, as the history told them.
	outcomes map[string]map[time.Time]map[string]remora.Status

	workerKills, temporalKills, restores, kept, back, rolledBack, deleted int
}

// mark is a backup of which it is known what it must hold.
type mark struct {
	site *site
	at   reading
}

const everyMinute = `
    schedules: {minutely: {kind: full, every: 1m, deadline: 1m}}
    retention: {keep_last: 8, database_days: 0, files_days: 0}
    objectives: {recovery_point: 10m}
`

// neighbour is a second source beside the first, under the same worker.
func (k *soak) neighbour(first *site) *site {
	s := &site{t: k.t, dir: first.dir, mysql: first.mysql, config: first.config}
	s.schema = s.mysql.Schema(k.t)
	s.storage = filepath.Join(s.dir, "neighbour", "storage")
	s.fill(shape{users: 50, orders: 200, files: 10})
	first.stopWorker()
	found, err := os.ReadFile(s.config)
	require.NoError(k.t, err)
	head, rest, found1 := strings.Cut(string(found), "\n  "+first.source()+":\n")
	require.True(k.t, found1, string(found))
	lines := strings.Split(rest, "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, "    schedules:") || strings.HasPrefix(l, "      nightly:")
	})
	host, port, _ := strings.Cut(s.mysql.Address, ":")
	second := fmt.Sprintf("\n  %s:\n    database: {address: \"%s:%s\", user: root, schemas: [%s]}\n    files: {root: %s, directories: [receipts, pre-alerts]}%s",
		s.source(), host, port, s.schema, s.storage, everyMinute)
	text := head + second + "\n  " + first.source() + ":" + strings.TrimRight(everyMinute, "\n") + "\n" + strings.Join(lines, "\n")
	require.NoError(k.t, os.WriteFile(s.config, []byte(text), 0o600))
	first.startWorker()
	return s
}

// write is the application: it adds and changes rows, and files.
func (k *soak) write(ctx context.Context, s *site) {
	for i := 0; ctx.Err() == nil; i++ {
		k.still.RLock()
		s.exec(fmt.Sprintf("INSERT INTO orders (user_id, weight, note) VALUES (%d, %d, 'while it runs')", 1+i%50, i),
			fmt.Sprintf("UPDATE orders SET note = CONCAT('seen ', %d) WHERE id %% 97 = %d", i, i%97))
		name := filepath.Join(s.storage, "receipts", fmt.Sprintf("new-%d.pdf", i%200))
		err := os.WriteFile(name, fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", i%5000)), 0o640)
		k.still.RUnlock()
		if err != nil {
			k.t.Error(err)
			return
		}
		pause(ctx, 200*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// kill kills the worker and Temporal at random, and starts them again a moment later.
func (k *soak) kill(ctx context.Context, random *rand.Rand) {
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	for {
		pause(ctx, 10*time.Second+upTo(40*time.Second))
		if ctx.Err() != nil {
			return
		}
		if random.IntN(3) > 0 {
			k.sites[0].killWorker()
			k.workerKills++
			pause(ctx, upTo(10*time.Second))
			k.sites[0].startWorker()
			continue
		}
		k.temporal.Kill(k.t)
		k.temporalKills++
		pause(ctx, upTo(25*time.Second))
		k.temporal.Restart(k.t)
	}
}

// patiently runs a command that must succeed in the end: Temporal may be away, and the source busy.
func (k *soak) patiently(args ...string) string {
	k.t.Helper()
	out, _ := k.until(func(code int) bool { return code == 0 }, args...)
	return out
}

func (k *soak) until(good func(code int) bool, args ...string) (out string, code int) {
	k.t.Helper()
	testenv.Wait(k.t, 10*time.Minute, "remora "+strings.Join(args, " "), func() error {
		out, code = k.sites[0].remora(args...)
		switch {
		case good(code):
			return nil
		case code == 3 || code == 7: // busy, or Temporal is away
			return fmt.Errorf("exit code %d: %s", code, out)
		}
		require.Fail(k.t, "it went wrong", "remora %s: exit code %d\n%s", strings.Join(args, " "), code, out)
		return nil
	})
	return out, code
}

// mark waits, with the application standing still, for the next backup that a schedule takes, and remembers what it holds.
func (k *soak) mark(s *site) {
	k.t.Helper()
	k.still.Lock()
	defer k.still.Unlock()
	now, since := s.read(), time.Now()
	testenv.Wait(k.t, 10*time.Minute, "the next backup of "+s.source(), func() error {
		for _, b := range list[remora.Backup](s, "history", s.source(), "--status", "completed", "--limit", "3") {
			if b.Slot.Schedule != "" && b.Started.After(since) {
				k.marks[b.ID] = mark{s, now}
				return nil
			}
		}
		k.collect()
		return fmt.Errorf("none since %s", since)
	})
}

// restore brings one of the known backups back, and then keeps it or goes back.
func (k *soak) restore(s *site) {
	k.t.Helper()
	k.still.Lock()
	defer k.still.Unlock()
	var ids []string
	for _, b := range list[remora.Backup](s, "history", s.source(), "--status", "completed", "--limit", "0") {
		if _, known := k.marks[b.ID]; known {
			ids = append(ids, b.ID)
		}
	}
	if len(ids) == 0 {
		return
	}
	id := ids[k.random.IntN(len(ids))]
	before := s.read()
	_, code := k.until(func(code int) bool { return code == 0 || code == 5 }, "restore", id, "--force")
	k.restores++
	if code == 5 {
		k.rolledBack++
		s.requireEqual(before, s.read(), "after a restore that was rolled back")
		return
	}
	s.requireEqual(k.marks[id].at.uncounted(), s.read().uncounted(), "after the restore of "+id)
	if k.random.IntN(2) == 0 {
		k.patiently("rollback", s.source())
		k.back++
		s.requireEqual(before, s.read(), "after the rollback")
	} else {
		k.kept++
	}
	k.patiently("accept", s.source())
	s.requireNothingLeft()
}

var nextID = regexp.MustCompile(` AUTO_INCREMENT=\d+`)

// uncounted leaves out the next number of each table: a restore keeps the higher one, so that no number is given twice
// (S24).
func (r reading) uncounted() reading {
	return reading{database: nextID.ReplaceAllString(r.database, ""), files: r.files}
}

// cleanup removes old backups, and never the newest good one.
func (k *soak) cleanup() {
	k.t.Helper()
	k.collect()
	newest := map[string]time.Time{}
	count := func() (n int) {
		for _, b := range list[remora.Backup](k.sites[0], "history", "--status", "completed", "--limit", "0") {
			if n++; b.Purpose == remora.Regular && b.Started.After(newest[b.Source]) {
				newest[b.Source] = b.Started
			}
		}
		return n
	}
	before := count()
	then := map[string]time.Time{}
	for source, at := range newest {
		then[source] = at
	}
	clear(newest)
	_, code := k.until(func(code int) bool { return code == 0 || code == 1 }, "cleanup") // 1: refused, it is too much at once
	after := count()
	if code == 0 {
		k.deleted += max(0, before-after)
	}
	for source, at := range then {
		require.False(k.t, newest[source].Before(at), "the newest good backup of %s is gone", source)
	}
}

// collect notes what the history says of the slots: a record may be removed later.
func (k *soak) collect() {
	k.t.Helper()
	for _, b := range list[remora.Backup](k.sites[0], "history", "--limit", "0") {
		if b.Slot.Schedule == "" {
			continue
		}
		slots := k.outcomes[b.Source]
		if slots == nil {
			slots = map[time.Time]map[string]remora.Status{}
			k.outcomes[b.Source] = slots
		}
		due := b.Slot.Due.UTC()
		if slots[due] == nil {
			slots[due] = map[string]remora.Status{}
		}
		slots[due][b.ID] = b.Status
	}
}

// settle stops the schedules and waits until every slot has come out in exactly one way.
func (k *soak) settle() {
	k.t.Helper()
	until := time.Now().UTC().Truncate(time.Minute)
	testenv.Wait(k.t, 15*time.Minute, "every slot to be accounted for", func() error {
		k.collect()
		for _, s := range k.sites {
			slots := k.outcomes[s.source()]
			for due := first(slots); !due.After(until); due = due.Add(time.Minute) {
				if n := len(slots[due]); n != 1 {
					return fmt.Errorf("%s: the slot of %s has %d outcomes: %v", s.source(), due, n, slots[due])
				}
				for _, status := range slots[due] {
					if status == remora.Pending {
						return fmt.Errorf("%s: the slot of %s is not over", s.source(), due)
					}
				}
			}
		}
		return nil
	})
	for _, s := range k.sites {
		k.patiently("schedule", "pause", s.source()+"/minutely", "--why", "the soak is over")
	}
}

func first(slots map[time.Time]map[string]remora.Status) time.Time {
	var at time.Time
	for due := range slots {
		if at.IsZero() || due.Before(at) {
			at = due
		}
	}
	return at
}

func (k *soak) report(took time.Duration) {
	k.t.Logf("%s; killed: worker %d times, Temporal %d times", took.Round(time.Second), k.workerKills, k.temporalKills)
	k.t.Logf("restores: %d (%d kept, %d rolled back by hand, %d rolled back by themselves), each equal by independent reading", k.restores, k.kept, k.back, k.rolledBack)
	k.t.Logf("backups with a known content: %d; removed by retention: %d", len(k.marks), k.deleted)
	for _, s := range k.sites {
		by := map[remora.Status]int{}
		for _, slot := range k.outcomes[s.source()] {
			for _, status := range slot {
				by[status]++
			}
		}
		k.t.Logf("slots of %s: %v", s.source(), by)
	}
}
