package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// app is the application of a site, alive while something is done to its data: again and again it writes a file, then
// a row that names it with its checksum, and reads both back. It obeys the maintenance flag and survives errors. What it
// acknowledged it keeps in a journal of its own, away from the source.
type app struct {
	t       *testing.T
	site    *site
	db      *sql.DB
	offline string // the flag of maintenance

	// mu is held during each operation: whoever holds it has the application stand still.
	mu sync.Mutex
	n  int // of the next operation
	// live are the operations that were acknowledged and belong to the side that is live, oldest first; behind those of the
	// other side, where there is one. base are those that the backup holds, which are the first ones of both.
	live, behind, base []int
	// marked is how much of live was there at the last mark.
	marked int
	// doubt are those that were begun and never acknowledged: they may be there or not.
	doubt map[int]bool
	// tidied are the first that may still have left a file.
	tidied int
	// worked is when the last one succeeded, and longest the longest time from one to the next since the last mark.
	worked  time.Time
	longest time.Duration
}

// pace is how long the application rests between two operations.
const pace = 10 * time.Millisecond

// newApp starts the application of a site, until the test ends. Its rows and files are left out of readings by without.
func newApp(t *testing.T, s *site, offline string) *app {
	t.Helper()
	a := &app{t: t, site: s, db: s.mysql.DB(t), offline: offline, doubt: map[int]bool{}, n: 1, worked: time.Now()}
	a.db.SetConnMaxIdleTime(time.Minute)
	s.exec("CREATE TABLE visits (id INT PRIMARY KEY, file VARCHAR(100) NOT NULL, sum BINARY(32) NOT NULL, note VARBINARY(100) NOT NULL)")
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	working.Go(func() {
		for ctx.Err() == nil {
			a.mu.Lock()
			a.visit(ctx)
			a.mu.Unlock()
			pause(ctx, pace)
		}
	})
	t.Cleanup(func() { stop(); working.Wait() })
	return a
}

// content is what the file of an operation holds; the row has its checksum and its beginning.
func content(n int) []byte {
	random := rand.New(rand.NewPCG(uint64(n), 3))
	text := make([]byte, 100+random.IntN(2000))
	for i := range text {
		text[i] = byte(random.Uint32())
	}
	return text
}

const visitFiles = "pre-alerts/app-"

func (a *app) file(n int) string {
	return filepath.Join(a.site.storage, fmt.Sprintf("%s%d.bin", visitFiles, n))
}

func (a *app) closed() bool {
	_, err := os.Lstat(a.offline)
	return err == nil
}

// visit is one operation. It counts once all of it was read back and nobody took the application offline meanwhile.
func (a *app) visit(ctx context.Context) {
	if a.closed() {
		return
	}
	n := a.n
	a.n++
	if err := a.write(ctx, n); err != nil || a.read(ctx, n) != nil || a.closed() {
		a.doubt[n] = true
		return
	}
	a.live = append(a.live, n)
	now := time.Now()
	a.longest = max(a.longest, now.Sub(a.worked))
	a.worked = now
}

func (a *app) write(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	text := content(n)
	if err := os.WriteFile(a.file(n), text, 0o640); err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	_, err := a.db.ExecContext(ctx, "INSERT INTO `"+a.site.schema+"`.visits VALUES (?, ?, ?, ?)", n, filepath.Base(a.file(n)), sum[:], text[:100])
	return err
}

// read compares what is there with what was written.
func (a *app) read(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var r visitRow
	row := a.db.QueryRowContext(ctx, "SELECT id, file, sum, note FROM `"+a.site.schema+"`.visits WHERE id = ?", n)
	if err := row.Scan(&r.id, &r.file, &r.sum, &r.note); err != nil {
		return err
	}
	return a.whole(r)
}

type visitRow struct {
	id        int
	file      string
	sum, note []byte
}

// whole tells what is wrong with a row, or with the file that it names.
func (a *app) whole(r visitRow) error {
	want := content(r.id)
	sum := sha256.Sum256(want)
	if r.file != filepath.Base(a.file(r.id)) || !bytes.Equal(r.sum, sum[:]) || !bytes.Equal(r.note, want[:100]) {
		return fmt.Errorf("row %d is not what was written: %q", r.id, r.file)
	}
	text, err := os.ReadFile(a.file(r.id))
	if err == nil && !bytes.Equal(text, want) {
		err = fmt.Errorf("file %s is not what was written", r.file)
	}
	return err
}

// mark begins to measure, and remembers what was acknowledged so far.
func (a *app) mark() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.marked, a.worked, a.longest = len(a.live), time.Now(), 0
}

// interruption is the longest time since the mark without an operation that succeeded.
func (a *app) interruption() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return max(a.longest, time.Since(a.worked))
}

// backedUp says that a backup was just taken, while the application stood still.
func (a *app) backedUp() { a.base = slices.Clone(a.live) }

// still has the application stand still while something is done.
func (a *app) still(do func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	do()
}

// requireStayed says that the side which was live at the mark is live, with all that was ever acknowledged there.
func (a *app) requireStayed(what string) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	require.Empty(a.t, a.compare(a.live, nil), "%s: what the application sees", what)
}

// requireTurned says that the other side is live since the mark: with what it held, and with all that was acknowledged
// after the switch. What was acknowledged before it is on the side that was put away.
func (a *app) requireTurned(what string) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	other := a.behind
	if other == nil {
		other = a.base
	}
	since := a.live[a.marked:]
	there := a.there()
	after := len(since) // where the switch lies
	for after > 0 && there[since[after-1]] != nil {
		after--
	}
	require.Empty(a.t, a.compare(slices.Concat(other, since[after:]), nil), "%s: what the application sees", what)
	a.behind = slices.Clone(a.live[:a.marked+after])
	a.live = slices.Concat(other, since[after:])
	a.marked = len(a.live)
}

// there are the rows of the live side.
func (a *app) there() map[int]*visitRow {
	a.t.Helper()
	rows, err := a.db.QueryContext(a.t.Context(), "SELECT id, file, sum, note FROM `"+a.site.schema+"`.visits")
	require.NoError(a.t, err)
	defer func() { _ = rows.Close() }()
	all := map[int]*visitRow{}
	for rows.Next() {
		var r visitRow
		require.NoError(a.t, rows.Scan(&r.id, &r.file, &r.sum, &r.note))
		all[r.id] = &r
	}
	require.NoError(a.t, rows.Err())
	return all
}

// compare tells what of that which must be there is missing or spoilt, and what is there beyond it and beyond doubt.
func (a *app) compare(must []int, wrong []string) []string {
	a.t.Helper()
	there := a.there()
	for _, n := range must {
		r := there[n]
		if r == nil {
			wrong = append(wrong, fmt.Sprintf("row %d was acknowledged and is missing", n))
			continue
		}
		if err := a.whole(*r); err != nil {
			wrong = append(wrong, fmt.Sprintf("row %d: %v", n, err))
		}
		delete(there, n)
	}
	for n := range there {
		if !a.doubt[n] {
			wrong = append(wrong, fmt.Sprintf("row %d is of the other side", n))
		}
	}
	if len(wrong) > 10 {
		wrong = append(wrong[:10], fmt.Sprintf("and %d more", len(wrong)-10))
	}
	return wrong
}

// tidyUp has the application forget what it wrote since the backup, so that it stays small; nothing may be put away.
func (a *app) tidyUp() {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	last := 0
	if len(a.base) > 0 {
		last = a.base[len(a.base)-1]
	}
	a.site.exec(fmt.Sprintf("DELETE FROM visits WHERE id > %d", last))
	for n := max(last+1, a.tidied); n < a.n; n++ {
		if err := os.Remove(a.file(n)); err != nil {
			require.ErrorIs(a.t, err, os.ErrNotExist)
		}
	}
	a.live, a.behind, a.marked, a.tidied = slices.Clone(a.base), nil, len(a.base), a.n
	a.doubt = map[int]bool{}
}

// without leaves out what the application writes, which it judges itself.
func (r reading) without() reading {
	keep := func(text, prefix string) string {
		lines := slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool { return strings.HasPrefix(l, prefix) })
		return strings.Join(lines, "\n")
	}
	return reading{database: keep(r.database, "INSERT INTO `visits`"), files: keep(r.files, visitFiles)}
}
