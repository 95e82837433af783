package e2e

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// site is a small shop with its database, its uploads, a configuration and a worker.
type site struct {
	t       *testing.T
	dir     string // holds everything of the site
	storage string // holds the uploads
	config  string
	schema  string
	mysql   *testenv.MySQLServer
	worker  *exec.Cmd
	// temporal is the server of the site.
	temporal *testenv.TemporalServer
	log      *os.File
	// environ is what workers have in their environment beside ours.
	environ []string
	// started is told of each worker that has just started, where it is set.
	started func(worker *exec.Cmd)
	input   string // that commands read

	connect   sync.Once
	connected *sql.DB // see db
}

// shape says how much a site holds.
type shape struct {
	users, orders, files int
	undo                 time.Duration
	bucket               *remora.Bucket          // where the repository is; nil: in a directory
	temporal             *testenv.TemporalServer // nil: the one that all tests share
	mysql                *testenv.MySQLServer    // nil: the one that all tests share
	schedules            string                  // in place of what init writes; YAML
	more                 string                  // at the end of the configuration
	user                 string                  // whose rights are what init asks for; "": root, who has all
}

var small = shape{users: 200, orders: 1000, files: 20, undo: time.Hour}

// newSite makes a shop, initialises Remora for it with `remora init` and starts a worker.
func newSite(t *testing.T, s shape) *site {
	t.Helper()
	require.NoError(t, lookAtSources())
	st := &site{t: t, dir: t.TempDir(), mysql: s.mysql, temporal: s.temporal}
	if st.mysql == nil {
		st.mysql = testenv.MySQL(t)
	}
	if st.temporal == nil {
		st.temporal = testenv.Temporal(t)
	}
	st.schema = st.mysql.Schema(t)
	st.storage = filepath.Join(st.dir, "site", "storage")
	st.fill(s)
	st.config = filepath.Join(st.dir, "remora.yaml")
	source := strings.ToLower(strings.ReplaceAll(st.schema, "_", "-"))
	repository := filepath.Join(st.dir, "repository")
	if s.bucket != nil {
		repository = s.bucket.String()
	}
	user := cmp.Or(s.user, "root")
	begin := []string{
		"init", "--source", source, "--mysql", user + "@tcp(" + st.mysql.Address + ")/" + st.schema,
		"--files", filepath.Join(st.storage, "receipts"), "--files", filepath.Join(st.storage, "pre-alerts"), "--repository", repository,
	}
	if s.user != "" {
		st.exec("CREATE USER " + user)
		t.Cleanup(func() { st.exec("DROP USER " + user) })
		out, _ := st.remora(begin...)
		st.grant(out)
	}
	st.must(begin...)
	st.addConfig(fmt.Sprintf("\nstate: %s\ntemporal:\n  address: %s\n  namespace: %s\n%s", filepath.Join(st.dir, "state"), st.temporal.Address, st.temporal.Namespace, s.more))
	if s.schedules != "" {
		st.replaceConfig(`nightly: {kind: full, daily: "02:30"}`, s.schedules)
	}
	var err error
	st.log, err = os.Create(filepath.Join(st.dir, "worker.log"))
	require.NoError(t, err)
	t.Cleanup(func() {
		st.stopWorker()
		if t.Failed() {
			text, _ := os.ReadFile(st.log.Name())
			t.Logf("worker's log:\n%s", tail(string(text), 6000))
		}
	})
	st.startWorker()
	return st
}

func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}

func (s *site) source() string { return strings.ToLower(strings.ReplaceAll(s.schema, "_", "-")) }

func (s *site) addConfig(text string) {
	f, err := os.OpenFile(s.config, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(s.t, err)
	_, err = f.WriteString(text)
	require.NoError(s.t, err)
	require.NoError(s.t, f.Close())
}

// grant gives the rights that a refusal names, and makes the settings.
func (s *site) grant(refusal string) {
	s.t.Helper()
	statements := regexp.MustCompile(`(?:GRANT|SET PERSIST) [^;]*;`).FindAllString(refusal, -1)
	require.NotEmpty(s.t, statements, refusal)
	s.exec(statements...)
}

// replaceConfig changes a line of the configuration, for a worker that starts afterwards.
func (s *site) replaceConfig(old, text string) {
	s.t.Helper()
	found, err := os.ReadFile(s.config)
	require.NoError(s.t, err)
	require.Contains(s.t, string(found), old)
	require.NoError(s.t, os.WriteFile(s.config, []byte(strings.Replace(string(found), old, text, 1)), 0o600))
}

func (s *site) db() *sql.DB {
	s.connect.Do(func() { s.connected = s.mysql.DB(s.t) })
	return s.connected
}

func (s *site) exec(statements ...string) {
	s.t.Helper()
	conn, err := s.db().Conn(context.Background())
	require.NoError(s.t, err)
	defer func() { _ = conn.Close() }()
	depth := "cte_max_recursion_depth"
	if s.mysql.MariaDB() {
		depth = "max_recursive_iterations"
	}
	for _, q := range append([]string{"USE `" + s.schema + "`", "SET SESSION " + depth + " = 10000000"}, statements...) {
		_, err := conn.ExecContext(context.Background(), q)
		require.NoError(s.t, err, q)
	}
}

func (s *site) fill(sh shape) {
	s.exec(
		`CREATE TABLE users (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, email VARCHAR(190) NOT NULL, name VARCHAR(100),
			settings JSON, credit DECIMAL(12,2), created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3), UNIQUE KEY email (email))`,
		fmt.Sprintf(`INSERT INTO users (email, name, settings, credit) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d)
			SELECT CONCAT('u', i, '@example.test'), CONCAT('Zoë\t', i, '\n\\'), JSON_OBJECT('n', i, 'x', REPEAT('y', i %% 50)), i/7 FROM n`, sh.users),
		`CREATE TABLE orders (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, user_id BIGINT UNSIGNED NOT NULL, weight FLOAT, note TEXT, proof BINARY(16), document VARCHAR(200),
			KEY user (user_id), CONSTRAINT order_user FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE)`,
		fmt.Sprintf(`INSERT INTO orders (user_id, weight, note, proof, document) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d)
			SELECT 1 + i %% %d, i/13, IF(i %% 3, REPEAT(LEFT(SHA2(i, 256), 32), 4), NULL), UNHEX(LEFT(SHA2(i, 256), 32)), CONCAT('receipts/', i, '.pdf') FROM n`, sh.orders, sh.users),
		"CREATE FUNCTION loud (s VARCHAR(100)) RETURNS VARCHAR(110) DETERMINISTIC RETURN CONCAT(UPPER(s), '!')",
		"CREATE VIEW heavy AS SELECT orders.id, loud(users.name) AS name FROM orders JOIN users ON users.id = orders.user_id WHERE weight > 1",
		"CREATE TRIGGER no_weight BEFORE INSERT ON orders FOR EACH ROW SET NEW.weight = COALESCE(NEW.weight, 0)",
		"CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM orders WHERE weight < 0",
	)
	seed := rand.New(rand.NewPCG(1, 2))
	for i := range sh.files {
		dir := filepath.Join(s.storage, []string{"receipts", "receipts/2026", "pre-alerts"}[i%3])
		require.NoError(s.t, os.MkdirAll(dir, 0o755))
		content := make([]byte, 1000+seed.IntN(20000))
		for j := range content {
			content[j] = byte(seed.Uint32())
		}
		require.NoError(s.t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%06d.pdf", i)), content, 0o640))
	}
	require.NoError(s.t, os.Symlink("2026", filepath.Join(s.storage, "receipts", "latest")))
}

// damage makes a bad migration and loses files.
func (s *site) damage() {
	s.exec("ALTER TABLE orders DROP COLUMN note", "DELETE FROM users WHERE id % 2 = 0", "CREATE TABLE orders_new (id INT PRIMARY KEY)", "DROP VIEW heavy", "DROP TRIGGER no_weight", "ALTER EVENT nightly DISABLE",
		"INSERT INTO orders_new VALUES (1), (2)")
	require.NoError(s.t, os.RemoveAll(filepath.Join(s.storage, "receipts", "2026")))
	require.NoError(s.t, os.WriteFile(filepath.Join(s.storage, "pre-alerts", "virus.exe"), []byte("MZ"), 0o755))
}

func (s *site) removeUploads() {
	for _, dir := range []string{"receipts", "pre-alerts"} {
		require.NoError(s.t, os.RemoveAll(filepath.Join(s.storage, dir)))
	}
}

func (s *site) schemaExists() bool {
	var n int
	require.NoError(s.t, s.db().QueryRow("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = ?", s.schema).Scan(&n))
	return n == 1
}

// reading is an independent reading of the site: mysqldump's text and the hash, mode and time of every entry.
type reading struct{ database, files string }

func (s *site) read() reading {
	s.t.Helper()
	return reading{database: s.mysql.Dump(s.t, s.schema), files: filesIn(s.t, s.storage)}
}

func filesIn(t *testing.T, root string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		line := fmt.Sprintf("%s %v", rel, info.Mode())
		switch {
		case info.Mode().IsRegular():
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			h := sha256.New()
			if _, err := io.Copy(h, f); err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %d %x", info.Size(), info.ModTime().UnixNano(), h.Sum(nil))
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		lines = append(lines, line)
		return nil
	})
	require.NoError(t, err)
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// requireEqual compares two readings.
func (s *site) requireEqual(want, got reading, what string) {
	s.t.Helper()
	require.Equal(s.t, want.files, got.files, what+": files")
	if want.database != got.database { // a diff of dumps is too long to be of use
		require.Failf(s.t, what+": database differs", "first difference: %s", firstDifference(want.database, got.database))
	}
}

func firstDifference(a, b string) string {
	al, bl := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range al {
		if i >= len(bl) || al[i] != bl[i] {
			other := "(end)"
			if i < len(bl) {
				other = bl[i]
			}
			return fmt.Sprintf("line %d\n  %.300s\n  %.300s", i+1, al[i], other)
		}
	}
	return fmt.Sprintf("%d more lines", len(bl)-len(al))
}

// remora runs the command and returns all that it printed with its exit code.
func (s *site) remora(args ...string) (string, int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return s.remoraContext(ctx, args...)
}

func (s *site) remoraContext(ctx context.Context, args ...string) (string, int) {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "remora"), append(args, "--config", s.config)...)
	cmd.Env = append(os.Environ(), "REMORA_MYSQL_PASSWORD=", "AWS_ACCESS_KEY_ID="+testenv.S3AccessKey, "AWS_SECRET_ACCESS_KEY="+testenv.S3SecretKey)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(s.input), &out, &out
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		return err.Error(), -1
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// must runs the command and expects it to succeed.
func (s *site) must(args ...string) string {
	s.t.Helper()
	out, code := s.remora(args...)
	require.Zero(s.t, code, "remora %s\n%s", strings.Join(args, " "), out)
	return out
}

// list decodes the objects, one a line, that a command prints with -o json.
func list[T any](s *site, args ...string) []T {
	s.t.Helper()
	var all []T
	dec := json.NewDecoder(strings.NewReader(s.must(append(args, "-o", "json")...)))
	for dec.More() {
		var one T
		require.NoError(s.t, dec.Decode(&one))
		all = append(all, one)
	}
	return all
}

func (s *site) startWorker() {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(bin, "remora-worker"), "--config", s.config)
	cmd.Env = append(os.Environ(), s.environ...)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(s.t, cmd.Start())
	s.worker = cmd
	if s.started != nil {
		s.started(cmd)
	}
}

// killWorker ends the worker as a power cut would.
func (s *site) killWorker() {
	_ = s.worker.Process.Kill()
	_ = s.worker.Wait()
}

func (s *site) stopWorker() { s.stop(s.worker) }

// stop ends a worker as its service manager would.
func (s *site) stop(worker *exec.Cmd) {
	if worker == nil || worker.ProcessState != nil {
		return
	}
	_ = worker.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = worker.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(40 * time.Second):
		s.t.Error("the worker did not stop within 40 s of SIGTERM")
		_ = worker.Process.Kill()
		<-done
	}
}

// requireNothingLeft says that no trace of a restore remains beside the data.
func (s *site) requireNothingLeft() {
	s.t.Helper()
	schemas, err := s.leftSchemas()
	require.NoError(s.t, err)
	require.Empty(s.t, schemas)
	left, err := filepath.Glob(filepath.Join(filepath.Dir(s.storage), ".remora*", "*"))
	require.NoError(s.t, err)
	require.Empty(s.t, left)
}

// leftSchemas are those of ours on the server.
func (s *site) leftSchemas() (schemas []string, err error) {
	rows, err := s.db().Query(`SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE '\_remora%'`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		schemas = append(schemas, name)
	}
	return schemas, rows.Err()
}

// lockTable holds a write lock on a table until the returned func is called.
func (s *site) lockTable(t *testing.T, table string) (release func()) {
	t.Helper()
	conn, err := s.db().Conn(context.Background())
	require.NoError(t, err)
	_, err = conn.ExecContext(context.Background(), "LOCK TABLES `"+s.schema+"`.`"+table+"` WRITE")
	require.NoError(t, err)
	return func() {
		_, _ = conn.ExecContext(context.Background(), "UNLOCK TABLES")
		_ = conn.Close()
	}
}
