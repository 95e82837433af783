package mysql

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

func (f folder) part(t testing.TB) (p part) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(f.dir, remora.PartFile))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &p))
	return p
}

// Money moves between two tables all the time; in an image of one moment none is made or lost.
func TestACaptureUnderWritersIsOfOneMoment(t *testing.T) {
	for _, rights := range []string{"many sessions", "one session"} {
		t.Run(rights, func(t *testing.T) {
			testenv.EachServer(t, func(t *testing.T, on *testenv.MySQLServer) {
				w := newWorld(t, on)
				w.exec(`CREATE TABLE a (id INT PRIMARY KEY, balance INT); CREATE TABLE b LIKE a;` + w.deep() + `
				INSERT INTO a WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i, 100 FROM n;
				INSERT INTO b SELECT * FROM a;`)
				want := "4000000"
				if rights == "one session" {
					w.exec("CREATE USER poor@'%'")
					for _, need := range w.d.backupNeeds(w.serverFound()) {
						if need.required {
							w.exec("GRANT " + strings.Join(need.privileges, ", ") + " ON " + grants{}.target(need.scope) + " TO poor@'%'")
						}
					}
					defer w.exec("DROP USER poor@'%'")
					w.d = w.database(withUser("poor"))
				}
				ctx, stop := context.WithCancel(t.Context())
				var writers sync.WaitGroup
				for n := range 2 {
					writers.Go(func() {
						for i := n; ctx.Err() == nil; i += 2 {
							_, _ = w.root.ExecContext(ctx, fmt.Sprintf(`START TRANSACTION; UPDATE %[1]s.a SET balance = balance - 7 WHERE id = %[2]d; UPDATE %[1]s.b SET balance = balance + 7 WHERE id = %[2]d; COMMIT`, w.schema, i*37%20000+1))
						}
					})
				}
				time.Sleep(100 * time.Millisecond)
				part, summary := w.captureOf(remora.Subject{})
				stop()
				writers.Wait()
				if rights == "one session" {
					require.Equal(t, "one session, one moment", summary.Facts["consistency"])
					require.Contains(t, strings.Join(summary.Warnings, "\n"), "GRANT "+strings.Join(w.serverFound().sealing(), ", ")+" ON *.* TO 'poor'@'%';")
					w.d = w.database()
				} else {
					require.Equal(t, "2 sessions, one moment", summary.Facts["consistency"])
				}
				w.staged("bank", part)
				stage := stageSchema("bank", 1, 1)
				require.Equal(t, want, w.ask("SELECT (SELECT SUM(balance) FROM "+stage+".a) + (SELECT SUM(balance) FROM "+stage+".b)"))
				require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "bank"}, ""))
			})
		})
	}
}

// A large table is cut, read by all sessions, and cut at the same places the next time.
func TestALargeTableIsCutIntoStableRanges(t *testing.T) {
	testenv.EachServer(t, testALargeTableIsCutIntoStableRanges)
}

func testALargeTableIsCutIntoStableRanges(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.d.rangeBytes = 2 << 20
	w.exec(`CREATE TABLE large (id BIGINT PRIMARY KEY AUTO_INCREMENT, filler VARBINARY(2000));` + w.deep() + `
		INSERT INTO large WITH RECURSIVE n AS (SELECT -9 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i, REPEAT('ab', 1000) FROM n WHERE i <> 0;
		ANALYZE TABLE large`)
	first := w.capture().part(t).Schemas[0].Tables[0]
	require.Greater(t, len(first.Ranges), 2)
	require.Equal(t, int64(5009), first.Rows)
	w.exec("INSERT INTO large SELECT id + 5000, filler FROM large WHERE id BETWEEN 1 AND 300; UPDATE large SET filler = 'x' WHERE id = 5")
	part := w.capture()
	second := part.part(t).Schemas[0].Tables[0]
	same := map[string]bool{}
	for _, r := range first.Ranges {
		same[r.SHA256] = true
	}
	kept := 0
	for _, r := range second.Ranges {
		if same[r.SHA256] {
			kept++
		}
	}
	require.Equal(t, len(first.Ranges)-2, kept, "only the first and the last range have changed:\n%v\n%v", first.Ranges, second.Ranges)
	w.staged("large", part)
}

// A read lock that would queue everybody behind a long statement is not taken (S16), whatever its text holds.
func TestS16ALongStatementIsNotMadeAQueue(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for half a minute")
	}
	w := newWorld(t, testenv.NewMySQL(t))
	w.exec(shop)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var busy sync.WaitGroup
	busy.Go(func() { _, _ = w.root.ExecContext(ctx, "SELECT SLEEP(60), '\xff\xfe' FROM "+w.schema+".users LIMIT 1") })
	time.Sleep(3 * time.Second)
	_, summary := w.captureOf(remora.Subject{})
	require.Equal(t, "one session, one moment", summary.Facts["consistency"])
	require.Contains(t, strings.Join(summary.Warnings, " "), "connection")
	cancel()
	busy.Wait()
}

// A migration during a capture waits where the rights allow, and is told where they do not.
func TestAMigrationCannotMixIntoACapture(t *testing.T) {
	testenv.EachServer(t, testAMigrationCannotMixIntoACapture)
}

func testAMigrationCannotMixIntoACapture(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	snap, err := w.d.openSnapshot(t.Context(), w.d.read, w.d.live())
	require.NoError(t, err)
	_, err = w.root.ExecContext(t.Context(), "SET SESSION lock_wait_timeout = 1; ALTER TABLE "+w.schema+".users ADD COLUMN x INT")
	require.Equal(t, uint16(codeLockWait), codeOf(err))
	snap.close()
	require.Eventually(t, func() bool {
		_, err = w.root.ExecContext(t.Context(), "ALTER TABLE "+w.schema+".users ADD COLUMN x INT")
		return err == nil
	}, 5*time.Second, 50*time.Millisecond)
}

func TestStoppedCapturesLeaveNothingBehindOnTheServer(t *testing.T) {
	w := newWorld(t, testenv.NewMySQL(t))
	w.exec(shop)
	ctx, cancel := context.WithCancel(t.Context())
	part := folder{t.TempDir()}
	_, err := w.d.Capture(ctx, remora.Job{Run: "x", Report: func(remora.Progress) { cancel() }}, remora.Subject{}, part)
	require.ErrorIs(t, err, context.Canceled)
	require.NoFileExists(t, filepath.Join(part.dir, remora.PartFile))
	require.Eventually(t, func() bool {
		return w.ask("SELECT COUNT(*) FROM information_schema.processlist WHERE command <> 'Daemon' AND id <> CONNECTION_ID() AND info IS NOT NULL") == "0"
	}, 5*time.Second, 50*time.Millisecond)
	w.exec("ALTER TABLE users ADD COLUMN x INT") // no lock is left
}

// A storage that stalls for as long as is allowed does not cut the dump: the server waits for us for a minute longer (S22).
func TestS22ReadersOutwaitAStallingStorage(t *testing.T) {
	testenv.EachMaker(t, testS22ReadersOutwaitAStallingStorage)
}

func testS22ReadersOutwaitAStallingStorage(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	d := w.database(func(c *Config) { c.Stall = 7 * time.Minute })
	require.NoError(t, d.with(t.Context(), d.read, "test", "", func(s *session) error {
		readers, err := d.openReaders(t.Context(), d.read, 2, s)
		if err != nil {
			return err
		}
		defer closeReaders(readers)
		for _, r := range readers {
			limit, err := r.value(t.Context(), "SELECT @@SESSION.net_write_timeout", 0)
			require.NoError(t, err)
			require.Equal(t, "480", limit)
		}
		return nil
	}))
}
