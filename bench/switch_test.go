package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// TestSwitch has the built programs restore a schema of many tables, objects and directories, roll it back, and undo that,
// while an application that heeds the maintenance writes and reads: how long was it without its data?
func TestSwitch(t *testing.T) {
	asked(t, "bench-switch")
	tables, triggers, objects, directories := number(t, "TABLES", "200"), number(t, "TRIGGERS", "20"), number(t, "OBJECTS", "0"), number(t, "DIRECTORIES", "5")
	w := newSwitching(t, tables, triggers, objects, directories)
	for round := range number(t, "ROUNDS", "3") {
		w.bare()
		w.run("restore", "restore", "latest", "--force")
		w.run("rollback", "rollback", "shop")
		w.run("rollback of the rollback", "rollback", "shop")
		w.run("rollback", "rollback", "shop")
		w.remora("accept", "shop")
		t.Logf("round %d is over", round+1)
	}
	report(t, fmt.Sprintf("\n%s, %d tables with %d foreign keys and %d triggers, %d objects that differ, %d directories, medians.\n\n", w.version(),
		tables, tables*7/10, triggers, objects, directories)+w.table())
}

// switching is an application, what it runs on, and what was measured of it.
type switching struct {
	*place
	tables, triggers, objects int

	bin, flag string
	storage   string
	measured  map[string][]time.Duration
	names     []string
	refused   int // what the application was refused while it was online
}

func newSwitching(t *testing.T, tables, triggers, objects, directories int) *switching {
	w := &switching{place: newPlace(t, started(t, 512<<20)), tables: tables, triggers: triggers, objects: objects, measured: map[string][]time.Duration{}}
	w.bin, w.flag, w.storage = filepath.Join(w.dir, "bin"), filepath.Join(w.dir, "offline"), filepath.Join(w.dir, "site", "storage")
	for name, pkg := range map[string]string{"remora": "starter", "remora-worker": "worker"} {
		out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(w.bin, name), "github.com/remora-backup/remora/"+pkg).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	w.exec("CREATE SCHEMA shop; CREATE SCHEMA bare_live; CREATE SCHEMA bare_stage; CREATE SCHEMA bare_away")
	for _, schema := range []string{"shop", "bare_live", "bare_stage"} {
		w.makeTables(schema)
	}
	w.makeObjects("then")
	args := []string{"init", "--source", "shop", "--mysql", "root@tcp(" + w.Address + ")/shop", "--repository", filepath.Join(w.dir, "repository")}
	for i := range directories {
		dir := filepath.Join(w.storage, fmt.Sprint("uploads-", i))
		require.NoError(t, os.MkdirAll(dir, 0o755))
		for j := range 200 {
			require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(j)), []byte(strings.Repeat("content ", j)), 0o644))
		}
		args = append(args, "--files", dir)
	}
	temporal := testenv.NewTemporal(t)
	w.remora(args...)
	config := filepath.Join(w.dir, "remora.yaml")
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	const undo = "    # undo_window: 24h"
	require.Contains(t, string(text), undo)
	said := strings.Replace(string(text), undo, "    maintenance: {file: "+w.flag+"}\n"+undo, 1) +
		fmt.Sprintf("\nstate: %s\ntemporal: {address: %s, namespace: %s}\n", filepath.Join(w.dir, "state"), temporal.Address, temporal.Namespace)
	require.NoError(t, os.WriteFile(config, []byte(said), 0o600))
	log, err := os.Create(filepath.Join(w.dir, "worker.log"))
	require.NoError(t, err)
	worker := exec.CommandContext(t.Context(), filepath.Join(w.bin, "remora-worker"), "--config", config)
	worker.Stdout, worker.Stderr = log, log
	require.NoError(t, worker.Start())
	t.Cleanup(func() { _ = worker.Wait() }) // it ends with the context
	w.remora("backup", "shop")
	w.makeObjects("now")
	var work strings.Builder // in each table, so that numbers are handed out
	for i := range tables {
		fmt.Fprintf(&work, "INSERT INTO shop.t%03d (name) VALUES ('since');", i)
	}
	w.exec(work.String() + "DELETE FROM shop.t000 WHERE id > 20; ALTER TABLE shop.t001 ADD COLUMN added INT")
	return w
}

func (w *switching) exec(statements string) {
	w.Helper()
	db := w.DB(w)
	defer func() { _ = db.Close() }()
	_, err := db.ExecContext(w.Context(), statements)
	require.NoError(w, err)
}

// makeTables makes tables of which seven of ten have a foreign key.
func (w *switching) makeTables(schema string) {
	var all strings.Builder
	fmt.Fprintf(&all, "USE %s;", schema)
	for i := range w.tables {
		key := ""
		if i%10 > 2 {
			key = fmt.Sprintf(", CONSTRAINT f%03d FOREIGN KEY (parent) REFERENCES t%03d (id)", i, i-1)
		}
		fmt.Fprintf(&all, `CREATE TABLE t%03d (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, parent BIGINT UNSIGNED, name VARCHAR(60), amount DECIMAL(12,2) NOT NULL DEFAULT 0,
			created TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3), KEY parent (parent), KEY name (name)%s);`, i, key)
		fmt.Fprintf(&all, "INSERT INTO t%03d (name) VALUES ('a')%s;", i, strings.Repeat(", ('b')", 49))
	}
	w.exec(all.String())
}

// makeObjects makes some that never differ, or are there, and as many as were asked for that do.
func (w *switching) makeObjects(say string) {
	var all strings.Builder
	all.WriteString("USE shop;")
	for i := range w.triggers {
		fmt.Fprintf(&all, "DROP TRIGGER IF EXISTS same%[1]d; CREATE TRIGGER same%[1]d BEFORE INSERT ON t%03[1]d FOR EACH ROW SET NEW.name = UPPER(NEW.name);", i)
	}
	for i := range 5 {
		fmt.Fprintf(&all, "CREATE OR REPLACE VIEW same%d AS SELECT id, name FROM t%03[1]d WHERE amount > 0;", i)
	}
	for i := range w.objects {
		kind, body := [...]string{"VIEW", "PROCEDURE", "TRIGGER", "EVENT"}[i%4], ""
		switch kind {
		case "VIEW":
			body = fmt.Sprintf("AS SELECT id, name, '%s' AS said FROM t%03d", say, i%w.tables)
		case "PROCEDURE":
			body = fmt.Sprintf("() SELECT '%s' FROM t%03d", say, i%w.tables)
		case "TRIGGER":
			body = fmt.Sprintf("BEFORE UPDATE ON t%03d FOR EACH ROW SET @said = '%s'", i%w.tables, say)
		case "EVENT":
			body = fmt.Sprintf("ON SCHEDULE EVERY 1 YEAR STARTS '2036-01-01 00:00:00' DO SET @said = '%s'", say)
		}
		fmt.Fprintf(&all, "DROP %[1]s IF EXISTS differs%[2]d; CREATE %[1]s differs%[2]d %[3]s;", kind, i, body)
	}
	w.exec(all.String())
}

func (w *switching) remora(args ...string) string {
	w.Helper()
	cmd := exec.CommandContext(w.Context(), filepath.Join(w.bin, "remora"), append(args, "--config", filepath.Join(w.dir, "remora.yaml"))...)
	cmd.Env = append(os.Environ(), "REMORA_MYSQL_PASSWORD=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(w.dir, "worker.log"))
		require.NoError(w, err, "%s\n%s", out, log)
	}
	return string(out)
}

func (w *switching) add(name string, took time.Duration) {
	if w.measured[name] == nil {
		w.names = append(w.names, name)
	}
	w.measured[name] = append(w.measured[name], took)
	w.Logf("%s: %s", name, took.Round(time.Millisecond))
}

// bare measures one RENAME of all tables, there and back.
func (w *switching) bare() {
	w.settle()
	db := w.DB(w)
	defer func() { _ = db.Close() }()
	var out, in, home, back []string
	for i := range w.tables {
		move := func(from, to string) string { return fmt.Sprintf("%s.t%03d TO %s.t%03[2]d", from, i, to) }
		out, in = append(out, move("bare_live", "bare_away")), append(in, move("bare_stage", "bare_live"))
		home, back = append(home, move("bare_live", "bare_stage")), append(back, move("bare_away", "bare_live"))
	}
	for _, moves := range [][]string{append(out, in...), append(home, back...)} {
		began := time.Now()
		_, err := db.ExecContext(w.Context(), "RENAME TABLE "+strings.Join(moves, ", "))
		require.NoError(w, err)
		w.add("the bare RENAME", time.Since(began))
	}
}

// run measures a command: what it did, and how long the application was without its data meanwhile.
func (w *switching) run(name string, args ...string) {
	w.settle()
	ctx, stop := context.WithCancel(w.Context())
	var offline, waited time.Duration
	var application sync.WaitGroup
	application.Go(func() { offline, waited = w.application(ctx) })
	w.remora(args...)
	stop()
	application.Wait()
	if name == "restore" {
		for _, phase := range w.phases() {
			w.add(name+": "+phase.Name, phase.Took)
		}
	}
	w.add(name+": maintenance", offline)
	w.add(name+": the application is without its data", waited)
}

// phases are those of the last restore, that take the application its data.
func (w *switching) phases() (all []remora.Phase) {
	var last remora.Restore
	require.NoError(w, json.NewDecoder(strings.NewReader(w.remora("restores", "shop", "-o", "json"))).Decode(&last))
	i := slices.IndexFunc(last.Phases, func(p remora.Phase) bool { return p.Name == "maintenance on" })
	require.GreaterOrEqual(w, i, 0)
	return slices.DeleteFunc(last.Phases[i:], func(p remora.Phase) bool { return strings.HasPrefix(p.Name, "make the") })
}

// application writes and reads rows and files, unless it is offline, until ctx ends. It tells how long it was offline, and
// the longest time between two answers.
func (w *switching) application(ctx context.Context) (offline, waited time.Duration) {
	db := w.DB(w)
	defer func() { _ = db.Close() }()
	var since, last time.Time
	for n := 0; ctx.Err() == nil; n++ {
		if _, err := os.Stat(w.flag); err == nil {
			since = cmp.Or(since, time.Now())
			time.Sleep(time.Millisecond)
			continue
		}
		if !since.IsZero() {
			offline, since = offline+time.Since(since), time.Time{}
		}
		name := fmt.Sprintf("t%03d", n%w.tables)
		_, err := db.ExecContext(w.Context(), "INSERT INTO shop."+name+" (name) VALUES ('written')")
		_, err1 := db.ExecContext(w.Context(), "UPDATE shop."+name+" SET amount = amount + 1 WHERE id = 1")
		var count int
		err2 := db.QueryRowContext(w.Context(), "SELECT COUNT(*) FROM shop."+name+" JOIN shop.same0 USING (id)").Scan(&count)
		err3 := os.WriteFile(filepath.Join(w.storage, "uploads-0", "written"), []byte(name), 0o644)
		_, err4 := os.ReadFile(filepath.Join(w.storage, "uploads-1", "1"))
		if err := errors.Join(err, err1, err2, err3, err4); err != nil {
			w.refused++
			w.Logf("the application was refused: %v", err)
			continue
		}
		if !last.IsZero() {
			waited = max(waited, time.Since(last))
		}
		last = time.Now()
		time.Sleep(5 * time.Millisecond)
	}
	return offline, waited
}

func (w *switching) version() (v string) {
	db := w.DB(w)
	defer func() { _ = db.Close() }()
	require.NoError(w, db.QueryRowContext(w.Context(), "SELECT VERSION()").Scan(&v))
	return v
}

func (w *switching) table() string {
	median := func(name string) time.Duration {
		all := slices.Sorted(slices.Values(w.measured[name]))
		return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
	}
	text := "| | runs | s | of the bare RENAME |\n|---|---|---|---|\n"
	bare := median(w.names[0]).Seconds()
	for _, name := range w.names {
		text += fmt.Sprintf("| %s | %d | %.2f | %.2f |\n", name, len(w.measured[name]), median(name).Seconds(), median(name).Seconds()/bare)
	}
	return text + fmt.Sprintf("\nThe application was refused %d times while it was online.\n", w.refused)
}
