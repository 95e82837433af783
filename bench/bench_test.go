package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// live is the schema of the shop.
const live = "bench"

// reading are the settings of a session that reads a snapshot.
var reading = []string{
	"SET SESSION time_zone = '+00:00', sql_mode = ''", "SET NAMES utf8mb4", "SET SESSION character_set_results = NULL",
	"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
}

// TestBench measures in turn, A B A B.
func TestBench(t *testing.T) {
	asked(t, "bench")
	bytes := size(t, "SIZE", "1.5G")
	b := newBench(t, bytes)
	rounds := number(t, "ROUNDS", "3")
	for round := range rounds {
		b.dumps()
		b.loads(round == 0) // `mysql < dump` takes several times as long as everything else, and is measured once
		b.t.Logf("round %d of %d is over", round+1, rounds)
	}
	text := b.head() + b.results.table("dump", "dump: ") + b.sum() + b.results.table("load", "load: ") + b.results.table("compare", "compare: ") + b.results.table("preview", "preview: ")
	if setting("MORE", "1") == "1" {
		text += b.second() + b.growth()
	}
	report(t, text)
}

type bench struct {
	*place
	t        *testing.T
	bytes    int64
	results  results
	notes    []string
	peer     *mydumper
	first    sample   // the backup that is loaded
	selects  []string // of a backup
	building stageStatements
	exported string // the rows of the backup as files
	squeezed sample
}

// stageStatements are what a stage sends, with the rows from files.
type stageStatements struct {
	schema               string
	create, rows, alters []string
	foreign              []string
}

func newBench(t *testing.T, bytes int64) *bench {
	b := &bench{place: newPlace(t, started(t, 2*bytes*2+512<<20)), t: t, bytes: bytes}
	began := time.Now()
	fill(t, b.MySQLServer, live, bytes)
	t.Logf("a shop of about %d MB was made in %s", bytes/1e6, time.Since(began).Round(time.Second))
	b.peer, b.notes = b.findMydumper(live)
	b.prepare()
	return b
}

// prepare takes a backup, loads it and compares it, and keeps what was sent to the server for that.
func (b *bench) prepare() {
	repository := filepath.Join(b.dir, "kept")
	b.do(order{Do: "create", Repository: repository})
	sent := b.statements(func() { b.first = b.do(order{Do: "backup", Schema: live, Repository: repository, Run: "first"}) })
	b.selects = of(sent, "SELECT ", " FROM `"+live+"`.", "-COUNT(", "-MIN(", "-MAX(", "-LIMIT ", "-SELECT 1")
	require.NotEmpty(b.t, b.selects)
	b.exported = filepath.Join(b.dir, "rows")
	o := order{Schema: live, Repository: repository, Run: "first", Backup: b.first.said.Backup, Files: b.exported}
	step := func(do string) sample { o.Do = do; return b.do(o) }
	step("export")
	var staged sample
	sent = b.statements(func() { staged = step("stage") })
	b.building = stageStatements{
		schema: staged.said.Stage, create: of(sent, "CREATE TABLE ", "-fence", "-`_remora`"),
		alters: of(sent, "ALTER TABLE ", "-FOREIGN KEY"), foreign: of(sent, "ALTER TABLE ", "FOREIGN KEY"),
	}
	b.building.rows = b.fromFiles(of(sent, "LOAD DATA "))
	step("discard")
	b.squeezed = step("squeeze")
}

var (
	handler  = regexp.MustCompile(`'Reader::[^']*'`)
	ofTable  = regexp.MustCompile("INTO TABLE `[^`]*`\\.`([^`]*)`")
	byTheWay = regexp.MustCompile("`_remora_[^`]*`")
)

// filed is a table in part.json.
type filed struct {
	Name   string
	Bytes  int64
	Ranges []struct{ File string }
}

// fromFiles gives each LOAD DATA of a stage one of the files of its table, the largest tables first.
func (b *bench) fromFiles(loads []string) (all []string) {
	var part struct {
		Schemas []struct {
			Tables []filed
		}
	}
	text, err := os.ReadFile(filepath.Join(b.exported, remora.PartFile))
	require.NoError(b.t, err)
	require.NoError(b.t, json.Unmarshal(text, &part))
	tables := part.Schemas[0].Tables
	slices.SortStableFunc(tables, func(x, y filed) int { return int(y.Bytes - x.Bytes) })
	for _, table := range tables {
		i := slices.IndexFunc(loads, func(s string) bool { m := ofTable.FindStringSubmatch(s); return m != nil && m[1] == table.Name })
		require.GreaterOrEqual(b.t, i, 0, table.Name)
		for _, r := range table.Ranges {
			all = append(all, handler.ReplaceAllLiteralString(loads[i], "'"+filepath.Join(b.exported, r.File)+"'"))
		}
	}
	return all
}

// into has statements speak of another schema.
func into(schema string, statements []string) []string {
	var all []string
	for _, s := range statements {
		all = append(all, byTheWay.ReplaceAllLiteralString(s, "`"+schema+"`"))
	}
	return all
}

func (b *bench) dumps() {
	ours := order{Do: "backup", Schema: live, Repository: filepath.Join(b.dir, "repository"), Run: "dump"}
	b.do(order{Do: "create", Repository: ours.Repository})
	b.settle()
	s := b.do(ours)
	s.stored = b.storedIn(ours.Repository)
	b.results.add(b.t, "dump: Remora", s)
	b.results.add(b.t, "dump: reading it back after that (verify)", b.do(order{Do: "verify", Repository: ours.Repository, Backup: s.said.Backup}))
	b.clear(ours.Repository, ours.Repository+".state")

	if b.peer != nil {
		to := filepath.Join(b.dir, "peer")
		s = b.measure(b.dumpWith(b.peer, live, to))
		s.stored = b.storedIn(to)
		b.results.add(b.t, "dump: "+b.peer.name(), s)
		b.clear(to)
	}
	if _, err := exec.LookPath("zstd"); err == nil {
		to := filepath.Join(b.dir, "dump.zst")
		s = b.measure(b.stockDump(live, to, true)...)
		s.stored = b.storedIn(to)
		b.results.add(b.t, "dump: mysqldump, zstd -1", s)
		b.clear(to)
	}
	b.results.add(b.t, "dump: the same SELECTs, thrown away", b.do(order{Do: "read", Before: reading, Statements: b.selects}))
	b.results.add(b.t, "preview: Remora", b.do(order{Do: "preview", Schema: live, Repository: filepath.Join(b.dir, "kept"), Run: "look", Backup: b.first.said.Backup}))
	b.results.add(b.t, "preview: the same SELECTs, thrown away", b.do(order{Do: "read", Before: reading, Statements: b.selects}))
}

func (m *mydumper) name() string {
	return fmt.Sprintf("mydumper %s, %s", m.version, map[bool]string{true: "gzip", false: "zstd"}[m.old])
}

func (b *bench) loads(all bool) {
	b.settle()
	ours := order{Do: "stage", Schema: live, Repository: filepath.Join(b.dir, "kept"), Run: fmt.Sprint("load", b.runs), Backup: b.first.said.Backup}
	b.runs++
	s := b.do(ours)
	b.results.add(b.t, "load: Remora", s)
	b.settle()
	ours.Do = "compare"
	b.results.add(b.t, "compare: Remora", b.do(ours))
	b.results.add(b.t, "compare: the same SELECTs, thrown away", b.do(order{Do: "read", Before: reading, Statements: b.elsewhere(s.said.Stage)}))
	ours.Do = "discard"
	b.do(ours)

	if b.peer != nil {
		dump := filepath.Join(b.dir, "peer")
		b.measure(b.dumpWith(b.peer, live, dump))
		b.settle()
		b.results.add(b.t, "load: myloader of "+b.peer.name(), b.measure(b.loadWith(b.peer, dump, "bench_copy")))
		b.drop("bench_copy")
		b.clear(dump)
	}
	b.bare()
	if all {
		file := filepath.Join(b.dir, "dump.sql")
		b.measure(b.stockDump(live, file, false)...)
		b.create("bench_copy")
		b.settle()
		client := b.Client(b.t, "bench_copy")
		in, err := os.Open(file)
		require.NoError(b.t, err)
		client.Stdin = in
		b.results.add(b.t, "load: mysql < dump", b.measure(client))
		b.drop("bench_copy")
		b.clear(file)
	}
}

// bare measures the statements of a stage alone.
func (b *bench) bare() {
	b.create("bench_copy")
	b.settle()
	to := func(statements []string) []string { return into("bench_copy", statements) }
	b.results.add(b.t, "load: bare LOAD DATA LOCAL, keys afterwards", b.do(order{
		Do: "load", Before: append([]string{"USE bench_copy"}, to(b.building.create)...), Statements: append(to(b.building.rows), to(b.building.alters)...), After: to(b.building.foreign),
	}))
	b.drop("bench_copy")
}

// elsewhere has the SELECTs of a backup read another schema.
func (b *bench) elsewhere(schema string) (all []string) {
	for _, s := range b.selects {
		all = append(all, strings.ReplaceAll(s, "`"+live+"`.", "`"+schema+"`."))
	}
	return all
}

func (b *bench) sql(statement string) {
	db := b.DB(b.t)
	defer func() { _ = db.Close() }()
	_, err := db.ExecContext(b.t.Context(), statement)
	require.NoError(b.t, err, statement)
}

func (b *bench) create(schema string) { b.sql("CREATE SCHEMA " + schema) }

func (b *bench) drop(schema string) { b.sql("SET foreign_key_checks = 0; DROP SCHEMA " + schema) }

func (b *bench) clear(paths ...string) {
	for _, path := range paths {
		require.NoError(b.t, os.RemoveAll(path))
	}
}

func (b *bench) head() string {
	var version string
	require.NoError(b.t, b.DB(b.t).QueryRow("SELECT VERSION()").Scan(&version))
	text := fmt.Sprintf("\n%s, %d cores for server and client together, %d sessions, %d MB of text in %d rows, %s, medians of %d rounds.\n",
		version, runtime.NumCPU(), b.sessions, b.first.said.Bytes/1e6, b.first.said.Rows, time.Now().UTC().Format(time.DateOnly), len(b.results.samples["dump: Remora"]))
	for _, n := range b.notes {
		text += "\n- " + n
	}
	return text + "\n"
}

// sum is what reading, compressing and encrypting must cost at least.
func (b *bench) sum() string {
	readCPU := b.results.median("dump: the same SELECTs, thrown away", serverCPU)
	squeeze := b.squeezed.said.CPU.Seconds()
	least := (readCPU + squeeze) / float64(runtime.NumCPU())
	ours := b.results.median("dump: Remora", wall)
	return fmt.Sprintf("\nThe physical sum: %.2f s of server CPU for the bare read + %.2f s for bare zstd-fastest and AES-256-GCM, on %d cores: %.2f s. Remora takes %.2f times as long.\n",
		readCPU, squeeze, runtime.NumCPU(), least, ours/least)
}

// second tells what later backups add.
func (b *bench) second() string {
	var text strings.Builder
	text.WriteString("\n| second backup | wall s | added MB | of the first |\n|---|---|---|---|\n")
	repository := filepath.Join(b.dir, "kept")
	for _, step := range []struct{ name, change string }{
		{"nothing changed", "DO 1"},
		{"the newest 1 % of every table changed", changeNewest()},
		{"1 % deleted among the oldest", "DELETE FROM order_items WHERE id BETWEEN (SELECT n / 10 FROM newest) AND (SELECT n / 10 + n / 100 FROM newest)"},
	} {
		b.sql("USE " + live + "; CREATE TABLE IF NOT EXISTS newest (n BIGINT PRIMARY KEY); INSERT IGNORE INTO newest SELECT MAX(id) FROM order_items; " + step.change)
		b.runs++
		s := b.do(order{Do: "backup", Schema: live, Repository: repository, Run: fmt.Sprint("second", b.runs)})
		fmt.Fprintf(&text, "| %s | %.2f | %.1f | %.2f %% |\n", step.name, s.wall.Seconds(), float64(s.said.Added)/1e6, 100*float64(s.said.Added)/float64(b.first.said.Added))
	}
	return text.String()
}

func changeNewest() string {
	var all []string
	for _, table := range shop {
		column := map[string]string{
			"users": "name", "orders": "address", "order_items": "sku", "audit_log": "action", "articles": "title", "attachments": "name",
		}[table.name]
		all = append(all, fmt.Sprintf("SELECT MAX(id) INTO @n FROM %[1]s; UPDATE %[1]s SET %[2]s = CONCAT('x', %[2]s) WHERE id > @n - @n / 100", table.name, column))
	}
	return strings.Join(all, "; ")
}

// growth measures shops of an eighth, a fourth, a half and the whole size.
func (b *bench) growth() string {
	var text strings.Builder
	text.WriteString("\n| growth | MB | dump s | s/GB | load s | s/GB | compare s | s/GB |\n|---|---|---|---|---|---|---|---|\n")
	for _, part := range []int64{8, 4, 2, 1} {
		schema := fmt.Sprintf("bench_%d", part)
		fill(b.t, b.MySQLServer, schema, b.bytes/part)
		b.settle()
		o := order{Schema: schema, Repository: filepath.Join(b.dir, schema), Run: schema}
		step := func(do string) sample { o.Do = do; return b.do(o) }
		step("create")
		dump := step("backup")
		o.Backup = dump.said.Backup
		loaded := step("stage")
		b.settle()
		compared := step("compare")
		step("discard")
		b.drop(schema)
		b.clear(o.Repository, o.Repository+".state")
		gb := float64(dump.said.Bytes) / 1e9
		fmt.Fprintf(&text, "| %dx | %.0f | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f |\n", 8/part, 1000*gb,
			wall(dump), wall(dump)/gb, wall(loaded), wall(loaded)/gb, wall(compared), wall(compared)/gb)
	}
	return text.String()
}
