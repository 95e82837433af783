package testenv

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// kind is a kind of database server, by the name that tools/fetch-server knows it by.
type kind string

// kinds are those that the component is tried on, MySQL first.
var kinds = [...]kind{"mysql", "mariadb-11.8", "mariadb-10.11"}

func (k kind) mariadb() bool { return strings.HasPrefix(string(k), "mariadb") }

// MySQLServer is a running MySQL or MariaDB with its stock settings, but small buffers. Its user root has no password.
// Safe for concurrent use, but for Kill and Restart.
type MySQLServer struct {
	// Address is the host and port that it listens on, the same after a restart.
	Address string

	kind    kind
	env     *environment
	tree    string // of the unpacked packages
	dir     string
	port    int
	process server
	options []string

	mu      sync.Mutex
	schemas int // handed out and not dropped yet
}

// MySQL returns the MySQL that the tests of this binary share.
func MySQL(t testing.TB) *MySQLServer {
	t.Helper()
	return shared(t, kinds[0])
}

// MariaDB returns the MariaDB of that version, 11.8 or 10.11, that the tests of this binary share.
func MariaDB(t testing.TB, version string) *MySQLServer {
	t.Helper()
	return shared(t, kind("mariadb-"+version))
}

// NewMySQL returns an empty MySQL for this test alone. It is gone when the test ends.
func NewMySQL(t testing.TB) *MySQLServer {
	t.Helper()
	return private(t, kinds[0])
}

// NewMariaDB is NewMySQL with a MariaDB of that version.
func NewMariaDB(t testing.TB, version string) *MySQLServer {
	t.Helper()
	return private(t, kind("mariadb-"+version))
}

// EachServer runs a test on every kind of server, as subtests with their names: on those that the tests of this binary
// share, each started when it is first needed.
func EachServer(t *testing.T, test func(*testing.T, *MySQLServer)) {
	t.Helper()
	on(t, kinds[:], shared, test)
}

// EachMaker is EachServer with MySQL and one MariaDB, for what takes long and is the same on every MariaDB.
func EachMaker(t *testing.T, test func(*testing.T, *MySQLServer)) {
	t.Helper()
	on(t, kinds[:2], shared, test)
}

// EachNewServer is EachServer with empty servers for this test alone.
func EachNewServer(t *testing.T, test func(*testing.T, *MySQLServer)) {
	t.Helper()
	on(t, kinds[:], private, test)
}

func on(t *testing.T, kinds []kind, start func(testing.TB, kind) *MySQLServer, test func(*testing.T, *MySQLServer)) {
	t.Helper()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) { test(t, start(t, k)) })
	}
}

func shared(t testing.TB, k kind) *MySQLServer {
	t.Helper()
	server, err := environmentOf(t).database[k]()
	if err != nil {
		t.Fatalf("start %s: %v", k, err)
	}
	return server
}

func private(t testing.TB, k kind) *MySQLServer {
	t.Helper()
	server, err := environmentOf(t).startDatabase(k)
	if err != nil {
		t.Fatalf("start %s: %v", k, err)
	}
	t.Cleanup(func() {
		server.process.kill()
		_ = os.RemoveAll(server.dir) // once more when the binary ends
	})
	return server
}

func (e *environment) startDatabase(k kind) (*MySQLServer, error) {
	tree, err := e.tool("fetch-server", string(k))
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(e.dir, string(k)+"-")
	if err != nil {
		return nil, err
	}
	s := &MySQLServer{kind: k, env: e, tree: tree, dir: dir}
	out, err := exec.Command("cp", "-r", "--reflink=auto", "--sparse=always",
		filepath.Join(tree, "datadir"), s.Datadir()).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("copy the empty data directory: %w\n%s", err, out)
	}
	for range 3 { // somebody may take the port before the server does
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		s.Address = "127.0.0.1:" + strconv.Itoa(s.port)
		if err = s.start(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func (s *MySQLServer) start() error {
	image, err := image(string(s.kind))
	if err != nil {
		return err
	}
	// What is not named here is as it is shipped: performance schema, sql_mode, time zone, MySQL's binary log.
	args := []string{
		"--no-defaults",
		"--datadir=" + s.Datadir(),
		"--socket=" + filepath.Join(s.dir, "sock"),
		"--pid-file=" + filepath.Join(s.dir, "pid"),
		"--tmpdir=" + s.dir, // a server that starts removes what others have in theirs
		"--bind-address=127.0.0.1",
		"--port=" + strconv.Itoa(s.port),
		"--local-infile=ON",
		"--innodb-buffer-pool-size=64M",
		"--innodb-log-buffer-size=8M",
		"--max-connections=100",
		"--table-open-cache=400",
		// Only the machine could lose what these leave in its memory; a killed server loses nothing.
		"--innodb-flush-log-at-trx-commit=2",
		"--sync-binlog=0",
	}
	program := "mysqld"
	switch {
	case !s.kind.mariadb():
		args = append(args, "--mysqlx=OFF", "--secure-file-priv=NULL", "--innodb-redo-log-capacity=64M")
	default:
		program = "mariadbd"
		args = append(args, "--innodb-log-file-size=64M", "--character-set-server=utf8mb4", // as Debian sets it
			"--event-scheduler=ON") // as it is in MySQL
		if s.kind == "mariadb-11.8" {
			args = append(args, "--log-bin=binlog") // off in both as they are shipped: one of them has it on
		}
	}
	args = append(args, s.options...)
	if image == "" {
		args = append(args, "--basedir="+filepath.Join(s.tree, "root", "usr"))
	}
	if os.Geteuid() == 0 {
		args = append(args, "--user=root")
	}
	s.process, err = s.env.serve(image, s.dir, nil, filepath.Join(s.Bin(), program), args...)
	if err != nil {
		return err
	}
	db, err := sql.Open("mysql", s.DSN(""))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	err = poll(time.Minute, func() error {
		if err := s.process.alive(); err != nil {
			return err
		}
		return db.Ping()
	})
	if err != nil {
		s.process.kill()
	}
	return err
}

// DSN is how root connects, with schema as the default, or with none when that is empty.
func (s *MySQLServer) DSN(schema string) string {
	config := mysql.NewConfig()
	config.User, config.Net, config.Addr, config.DBName = "root", "tcp", s.Address, schema
	config.Logger = &mysql.NopLogger{} // tests kill servers; the errors are returned as well
	return config.FormatDSN()
}

// DB connects as root, without a default schema, and takes several statements at once. It is closed when the test ends.
func (s *MySQLServer) DB(t testing.TB) *sql.DB {
	t.Helper()
	db, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func (s *MySQLServer) open() (*sql.DB, error) {
	config, err := mysql.ParseDSN(s.DSN(""))
	if err != nil {
		return nil, err
	}
	config.MultiStatements = true
	config.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// Schema creates an empty schema with a name of its own and drops it when the test ends. With the last one on the
// server go all schemas that restores left there: their names begin with _remora.
func (s *MySQLServer) Schema(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("shop_%x", time.Now().UnixNano())
	db, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := db.ExecContext(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatalf("create schema %s: %v", name, err)
	}
	s.schemas++
	t.Cleanup(func() { s.drop(t, name) })
	return name
}

func (s *MySQLServer) drop(t testing.TB, schema string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schemas--
	if s.process.alive() != nil {
		return // killed by the test, and not started again
	}
	db, err := s.open()
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	names := []string{schema}
	if s.schemas == 0 {
		left, err := leftovers(ctx, db)
		if err != nil {
			t.Errorf("list the schemas that a restore left: %v", err)
		}
		names = append(names, left...)
	}
	for _, name := range names {
		_, err := db.ExecContext(ctx, "SET foreign_key_checks=0, lock_wait_timeout=10; DROP SCHEMA IF EXISTS `"+name+"`")
		if err != nil {
			t.Errorf("drop schema %s, does somebody still use it? %v", name, err)
		}
	}
}

func leftovers(ctx context.Context, db *sql.DB) ([]string, error) {
	rows, err := db.QueryContext(ctx, `SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE '\_remora%'`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// Kill ends the server with SIGKILL, as a crash would.
func (s *MySQLServer) Kill(t testing.TB) {
	t.Helper()
	s.process.kill()
}

// Restart starts a server again that was killed, and kills it before if it was not. Address and data stay; options, where
// given, are options of the server from then on.
func (s *MySQLServer) Restart(t testing.TB, options ...string) {
	t.Helper()
	s.options = append(s.options, options...)
	s.process.kill()
	if err := s.start(); err != nil {
		t.Fatalf("start %s again: %v", s.kind, err)
	}
}

// Dump returns a schema's definitions and rows as the stock client writes them, rows in the order of their keys: an
// independent reading of what is there.
func (s *MySQLServer) Dump(t testing.TB, schema string) string {
	t.Helper()
	program, args := "mysqldump", []string{"--set-gtid-purged=OFF", "--no-tablespaces"}
	if s.MariaDB() {
		program, args = "mariadb-dump", nil
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(s.Bin(), program), append(s.login(),
		append(args, "--single-transaction", "--skip-comments", "--routines", "--triggers", "--events", "--hex-blob",
			"--order-by-primary", "--skip-extended-insert", schema)...)...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, schema, err, log.String())
	}
	return out.String()
}

// Client is the stock client, logged in as root.
func (s *MySQLServer) Client(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	program := "mysql"
	if s.MariaDB() {
		program = "mariadb"
	}
	return exec.CommandContext(t.Context(), filepath.Join(s.Bin(), program), append(s.login(), args...)...)
}

func (s *MySQLServer) login() []string {
	host, port, _ := strings.Cut(s.Address, ":")
	return []string{"--no-defaults", "--host=" + host, "--port=" + port, "--user=root"}
}

// MariaDB tells whether it is one.
func (s *MySQLServer) MariaDB() bool { return s.kind.mariadb() }

// Bin is the directory of the stock programs, under the names that their makers give them.
func (s *MySQLServer) Bin() string { return filepath.Join(s.tree, "bin") }

// Datadir is the server's data directory.
func (s *MySQLServer) Datadir() string { return filepath.Join(s.dir, "data") }
