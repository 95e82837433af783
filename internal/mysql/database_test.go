package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Run(m)) }

// folder is a PartWriter over a directory. It stands in for the repository, which is a package that this one does not
// know; what matters here is that a part is files, and that it opens as an fs.FS.
type folder struct{ dir string }

func (f folder) Put(_ context.Context, path string, write func(io.Writer) error) error {
	name := filepath.Join(f.dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := write(file); err != nil {
		return errors.Join(err, file.Close(), os.Remove(name))
	}
	return file.Close()
}

func (f folder) PutTree(context.Context, string, string, func(string) bool) (remora.TreeSummary, error) {
	return remora.TreeSummary{}, fs.ErrInvalid
}

func (f folder) fs() fs.FS { return os.DirFS(f.dir) }

// world is a server with a schema, and the component that looks after it.
type world struct {
	*testing.T
	server *testenv.MySQLServer
	schema string
	root   *sql.DB
	d      *Database
}

const installation = "0123456789abcdef"

func newWorld(t *testing.T, server *testenv.MySQLServer, change ...func(*Config)) *world {
	t.Helper()
	w := &world{T: t, server: server, schema: server.Schema(t), root: server.DB(t)}
	w.d = w.database(change...)
	return w
}

func (w *world) database(change ...func(*Config)) *Database {
	w.Helper()
	cfg := Config{
		Source: "shop", Installation: installation, Address: w.server.Address, User: "root",
		Password: func() (remora.Secret, error) { return "", nil }, Schemas: []string{w.schema}, Sessions: 2,
	}
	for _, c := range change {
		c(&cfg)
	}
	d, err := New(cfg)
	require.NoError(w, err)
	d.switchPatience = 2 * time.Second // less than one wait for a lock
	return d
}

func withUser(user string) func(*Config) { return func(c *Config) { c.User = user } }

// exec runs statements with the schema as default.
func (w *world) exec(statements string) {
	w.Helper()
	conn, err := w.root.Conn(w.Context())
	require.NoError(w, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.ExecContext(w.Context(), "USE "+quote(w.schema)+"; "+statements)
	require.NoError(w, err)
}

// ask runs a query of one value.
func (w *world) ask(query string, args ...any) (value string) {
	w.Helper()
	var v sql.NullString
	require.NoError(w, w.root.QueryRowContext(w.Context(), query, args...).Scan(&v))
	return v.String
}

func (w *world) capture() folder {
	w.Helper()
	part, _ := w.captureOf(remora.Subject{})
	return part
}

func (w *world) captureOf(of remora.Subject) (folder, remora.Summary) {
	w.Helper()
	part := folder{w.TempDir()}
	summary, err := w.d.Capture(w.Context(), remora.Job{Run: "backup"}, of, part)
	require.NoError(w, err)
	return part, summary
}

// staged stages and compares a part.
func (w *world) staged(run string, part folder) {
	w.Helper()
	_, err := w.d.Stage(w.Context(), remora.Job{Run: run}, part.fs())
	require.NoError(w, err)
	diff, err := w.d.Compare(w.Context(), remora.Job{Run: run}, part.fs())
	require.NoError(w, err)
	require.Empty(w, diff.Differences)
}

func (w *world) turn(run string, seq int, live remora.Side) error {
	return w.d.Switch(w.Context(), remora.Turn{Run: run, Seq: seq, Live: live, KeepUntil: time.Now().Add(time.Hour)})
}

// column runs a query of one column.
func (w *world) column(query string, args ...any) (all []string) {
	w.Helper()
	rows, err := w.root.QueryContext(w.Context(), query, args...)
	require.NoError(w, err)
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var one string
		require.NoError(w, rows.Scan(&one))
		all = append(all, one)
	}
	require.NoError(w, rows.Err())
	return all
}

// serverFound is what a session of the component takes the server for.
func (w *world) serverFound() server {
	w.Helper()
	s, err := w.d.connect(w.Context(), w.d.read)
	require.NoError(w, err)
	defer s.close()
	return s.server
}

// deep lets a recursive query go as deep as the tests need.
func (w *world) deep() string {
	if w.server.MariaDB() {
		return "SET SESSION max_recursive_iterations = 50000;"
	}
	return "SET SESSION cte_max_recursion_depth = 50000;"
}

// leftovers lists the schemas of ours on the server.
func (w *world) leftovers() []string {
	w.Helper()
	return w.column(`SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE '\_remora%'`)
}

func requireProblem(t testing.TB, err error, kind remora.ProblemKind, words ...string) {
	t.Helper()
	require.Error(t, err)
	var p *remora.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, kind, p.Kind, "%v", err)
	for _, word := range words {
		require.Contains(t, fmt.Sprint(p.Error(), "\n", p.Hint), word)
	}
}
