package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/testenv"
)

// ground is a machine on which nothing is initialised yet.
type ground struct {
	t    *testing.T
	dir  string
	env  map[string]string
	args []string
	in   string
}

func newGround(t *testing.T) *ground {
	t.Helper()
	g := &ground{t: t, dir: t.TempDir(), env: map[string]string{"HOME": "/home/ops"}}
	for _, dir := range []string{"receipts", "pre-alerts"} {
		require.NoError(t, os.MkdirAll(filepath.Join(g.dir, "site", dir), 0o755))
	}
	g.args = []string{"init", "--config", g.path("etc/remora/remora.yaml"), "--repository", g.path("backups/repository")}
	return g
}

func (g *ground) path(name string) string { return filepath.Join(g.dir, name) }

func (g *ground) init(args ...string) said {
	g.t.Helper()
	var out, errs bytes.Buffer
	a := &app{
		In: strings.NewReader(g.in), Out: &out, Err: &errs, Now: now, Width: func() int { return 80 },
		Getenv: func(name string) string { return g.env[name] }, Interactive: g.in != "",
	}
	code := run(context.Background(), a, append(append([]string{}, g.args...), args...))
	return said{code, out.String(), errs.String()}
}

// left lists everything that lies on the ground.
func (g *ground) left() []string {
	g.t.Helper()
	var names []string
	require.NoError(g.t, filepath.WalkDir(g.dir, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	}))
	return names
}

func TestInitPrintsTheMissingGrantsAndWorksOnceTheyAreGiven(t *testing.T) {
	testenv.EachServer(t, initPrintsTheMissingGrants)
}

func initPrintsTheMissingGrants(t *testing.T, server *testenv.MySQLServer) {
	schema, db := server.Schema(t), server.DB(t)
	const password = "pa@ss/w:ord) 'x"
	_, err := db.ExecContext(t.Context(), "CREATE USER 'init me'@'127.0.0.1' IDENTIFIED BY '"+strings.ReplaceAll(password, "'", "''")+"'")
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := server.DB(t).ExecContext(context.Background(), "DROP USER 'init me'@'127.0.0.1'; SET GLOBAL log_bin_trust_function_creators = OFF")
		require.NoError(t, err)
	})
	_, err = db.ExecContext(t.Context(), "CREATE TABLE "+schema+".users (id INT PRIMARY KEY)")
	require.NoError(t, err)

	g := newGround(t)
	g.env[passwordVariable] = password
	args := []string{"--mysql", "init me@tcp(" + server.Address + ")/" + schema, "--source", "shop", "--files", g.path("site/receipts"), "--files", g.path("site/pre-alerts")}
	before := g.left()
	s := g.init(args...)
	require.Equal(t, 2, s.code, s.err)
	require.Contains(t, s.err, "rights are missing; nothing was written")
	require.Contains(t, s.out, "These rights are missing:")
	require.Equal(t, before, g.left())
	statements := regexp.MustCompile(`(?:GRANT|SET PERSIST|SET GLOBAL) [^;]*;`).FindAllString(s.out, -1)
	require.NotEmpty(t, statements)

	js := g.init(append(args, "-o", "json")...)
	require.Equal(t, 2, js.code)
	var answer initJSON
	require.NoError(t, json.Unmarshal([]byte(js.out), &answer))
	require.Len(t, answer.Missing, len(statements))

	for _, statement := range statements {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	s = g.init(args...)
	require.Zero(t, s.code, s.out+s.err)
	require.NotRegexp(t, "GRANT|SET ", s.out)
	require.Contains(t, s.out, "Keep a copy of "+g.path("etc/remora/repository.password"))
	require.Contains(t, s.out, "remora backup shop --config "+g.path("etc/remora/remora.yaml"))
	require.NotContains(t, s.out+s.err, password)
	g.works(t, password)

	t.Run("nothing is overwritten", func(t *testing.T) {
		there := g.left()
		s := g.init(args...)
		require.Equal(t, 2, s.code)
		require.Contains(t, s.err, "it exists, and is not overwritten")
		s = g.init(append(args, "--config", g.path("etc/remora/other.yaml"))...)
		require.Equal(t, 2, s.code)
		require.Contains(t, s.err, "repository.password): file exists")
		require.Equal(t, there, g.left())
	})
}

// works sees that what was written can be used, and that its secrets are secret.
func (g *ground) works(t *testing.T, password string) {
	t.Helper()
	c, err := config.Load(g.path("etc/remora/remora.yaml"), func(name string) string { return g.env[name] })
	require.NoError(t, err)
	warnings, errs := c.Check()
	require.Empty(t, errs)
	require.Empty(t, warnings)
	require.Empty(t, c.Warnings)
	shop := c.Sources["shop"]
	require.Equal(t, &config.Files{Root: g.path("site"), Directories: []string{"pre-alerts", "receipts"}}, shop.Files)
	given, err := shop.Database.Password()
	require.NoError(t, err)
	require.Equal(t, password, given.Reveal())
	for _, name := range []string{"remora.yaml", "repository.password", "shop.password"} {
		info, err := os.Stat(g.path("etc/remora/" + name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}
	secret, err := c.Repository.Password()
	require.NoError(t, err)
	require.Regexp(t, `^([a-z2-7]{4}-){9}[a-z2-7]{4}$`, secret.Reveal())
	r, err := repository.Open(t.Context(), repository.Config{Path: c.Repository.Path, Password: c.Repository.Password, State: t.TempDir()})
	require.NoError(t, err)
	require.NotEmpty(t, r.Installation())
	require.NoError(t, r.Close(t.Context()))
}

func TestInitWithoutADatabase(t *testing.T) {
	g := newGround(t)
	s := g.init("--files", g.path("site/receipts"), "-o", "json")
	require.Zero(t, s.code, s.err)
	var answer initJSON
	require.NoError(t, json.Unmarshal([]byte(s.out), &answer))
	require.Empty(t, cmp.Diff(initJSON{
		Config: g.path("etc/remora/remora.yaml"), Source: "receipts", Repository: g.path("backups/repository"),
		RepositoryPassword: g.path("etc/remora/repository.password"),
		Warnings:           []string{"sources.receipts: only files are backed up; add database: where the application has one"},
	}, answer))
}

func TestInitMakesARepositoryInABucket(t *testing.T) {
	at := testenv.MinIO(t).Bucket()
	g := newGround(t)
	before := g.left()
	where := "s3:http://" + at.Endpoint + "/" + at.Name + "/shop"
	args := []string{"--files", g.path("site/receipts"), "--repository", where}
	s := g.init(args...)
	require.Equal(t, 2, s.code)
	require.Contains(t, s.err, "AWS_SECRET_ACCESS_KEY")
	g.env["AWS_ACCESS_KEY_ID"], g.env["AWS_SECRET_ACCESS_KEY"] = testenv.S3AccessKey, "wrong"
	s = g.init(args...)
	require.Equal(t, 1, s.code)
	require.Contains(t, s.err, where)
	require.Contains(t, s.err, "check the keys")
	require.Equal(t, before, g.left())

	g.env["AWS_SECRET_ACCESS_KEY"] = testenv.S3SecretKey
	s = g.init(args...)
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, where)
	require.NotContains(t, s.out+s.err, testenv.S3SecretKey)
	c, err := config.Load(g.path("etc/remora/remora.yaml"), func(string) string { return "" })
	require.NoError(t, err)
	_, errs := c.Check()
	require.Empty(t, errs)
	r, err := repository.Open(t.Context(), repository.Config{Bucket: c.Repository.Bucket, Password: c.Repository.Password, State: t.TempDir()})
	require.NoError(t, err)
	require.Equal(t, where, r.Where())
	require.NoError(t, r.Close(t.Context()))

	s = g.init(append(args, "--config", g.path("etc/other/remora.yaml"))...)
	require.Equal(t, 2, s.code)
	require.Contains(t, s.err, "there already is a repository")
	require.NoDirExists(t, g.path("etc/other"))

	text, err := os.ReadFile(g.path("etc/remora/remora.yaml"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(g.path("etc/remora/remora.yaml"), bytes.Replace(text, []byte("prefix: shop"), []byte("prefix: other"), 1), 0o600))
	g.args = []string{"init", "--config", g.path("etc/remora/remora.yaml")}
	s = g.init()
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, at.Name+"/other")
	s = g.init()
	require.Equal(t, 2, s.code)
	require.Contains(t, s.err, "there already is a repository")

	g.env["AWS_SESSION_TOKEN"] = "expires"
	s = newGroundWith(g).init("--files", g.path("site/receipts"), "--repository", "s3:"+at.Endpoint)
	require.Equal(t, 2, s.code)
	require.Contains(t, s.err, "it names no bucket")
}

func newGroundWith(g *ground) *ground {
	fresh := newGround(g.t)
	fresh.env = g.env
	return fresh
}

func TestInitAsksForThePassword(t *testing.T) {
	server := testenv.MySQL(t)
	g := newGround(t)
	g.in = "wrong\n"
	s := g.init("--mysql", "root@tcp("+server.Address+")/"+server.Schema(t))
	require.Equal(t, 1, s.code)
	require.Contains(t, s.err, "Password of root on "+server.Address+" (empty for none): ")
	require.Contains(t, s.err, "Access denied")

	g.in = "\n"
	s = g.init("--mysql", "mysql://root@"+server.Address+"/"+server.Schema(t))
	require.Zero(t, s.code, s.err)
	require.NoFileExists(t, g.path("etc/remora/shop.password"), "there is no password to write down")
}

func TestInitThatFailsLeavesNothing(t *testing.T) {
	server := testenv.MySQL(t)
	good := "root@tcp(" + server.Address + ")/" + server.Schema(t)
	for name, c := range map[string]struct {
		prepare func(g *ground)
		args    func(g *ground) []string
		code    int
		says    string
	}{
		"nothing to back up": {code: 2, says: "there is nothing to back up"},
		"wrong password": {
			args: func(*ground) []string {
				return []string{"--mysql", "root:hunter2@tcp(" + server.Address + ")/shop"}
			}, code: 1, says: "Access denied",
		},
		"nobody answers":    {args: func(*ground) []string { return []string{"--mysql", "root@tcp(127.0.0.1:1)/shop"} }, code: 1, says: "connection refused"},
		"not a DSN":         {args: func(*ground) []string { return []string{"--mysql", "root:hunter2@shop"} }, code: 2, says: "this is not a DSN"},
		"the server's own":  {args: func(*ground) []string { return []string{"--mysql", "root@tcp(127.0.0.1:1)/mysql"} }, code: 2, says: "mysql belongs to the server"},
		"bad source name":   {args: func(*ground) []string { return []string{"--mysql", good, "--source", "../shop"} }, code: 2, says: "not a source name"},
		"missing directory": {args: func(g *ground) []string { return []string{"--files", g.path("none")} }, code: 2, says: "no such file or directory"},
		"relative":          {args: func(*ground) []string { return []string{"--files", "receipts"} }, code: 2, says: "it is not an absolute path"},
		"a file":            {args: func(*ground) []string { return []string{"--files", "/etc/passwd"} }, code: 2, says: "it is not a directory"},
		"everything":        {args: func(*ground) []string { return []string{"--files", "/"} }, code: 2, says: "the whole machine"},
		"nothing in common": {args: func(*ground) []string { return []string{"--files", "/etc", "--files", "/usr"} }, code: 2, says: "only / in common"},
		"nested": {
			args: func(g *ground) []string {
				return []string{"--files", g.path("site"), "--files", g.path("site/receipts")}
			}, code: 2, says: "it overlaps with",
		},
		"repository inside": {
			args: func(g *ground) []string {
				return []string{"--files", g.path("site"), "--repository", g.path("site/backups")}
			}, code: 2, says: "it overlaps with the repository",
		},
		"repository is not empty": {
			prepare: func(g *ground) {
				require.NoError(g.t, os.MkdirAll(g.path("backups/repository/photos"), 0o755))
			},
			args: func(g *ground) []string { return []string{"--files", g.path("site")} }, code: 2, says: "the directory is not empty",
		},
		"the folder is a file": {
			prepare: func(g *ground) { require.NoError(g.t, os.WriteFile(g.path("etc"), nil, 0o600)) },
			args:    func(g *ground) []string { return []string{"--files", g.path("site")} }, code: 2, says: "not a directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGround(t)
			if c.prepare != nil {
				c.prepare(g)
			}
			before := g.left()
			var args []string
			if c.args != nil {
				args = c.args(g)
			}
			s := g.init(args...)
			require.Equal(t, c.code, s.code, s.err)
			require.Contains(t, s.err, c.says)
			require.Contains(t, s.err, "what to do: ")
			require.NotContains(t, s.out+s.err, "hunter2")
			require.Equal(t, before, g.left())
		})
	}
}

// A failure takes away what was made, and nothing that was there before.
func TestTracesAreRemovedNewestFirst(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "old")
	require.NoError(t, os.Mkdir(old, 0o700))
	var made traces
	require.NoError(t, made.folder(filepath.Join(dir, "a", "b")))
	require.NoError(t, made.folder(old))
	require.NoError(t, made.file(filepath.Join(dir, "a", "b", "password"), "x"))
	at := config.Repository{Path: filepath.Join(dir, "a", "r", "repository"), Password: func() (remora.Secret, error) { return "", nil }}
	require.Error(t, made.repository(t.Context(), at), "no password")
	require.Error(t, made.file(filepath.Join(dir, "a", "b", "password"), "y"))
	made.remove()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "only what was there before is there")
}

func TestDSNs(t *testing.T) {
	for text, want := range map[string]dsn{
		"remora@tcp(127.0.0.1:3306)/shop":            {user: "remora", address: "127.0.0.1:3306", schema: "shop"},
		"remora:p:a@s/s)@tcp(db)/shop":               {user: "remora", password: "p:a@s/s)", address: "db:3306", schema: "shop"},
		"remora:@tcp([::1]:3307)/shop":               {user: "remora", address: "[::1]:3307", schema: "shop"},
		"remora@unix(/run/mysqld/mysqld.sock)/shop":  {user: "remora", address: "/run/mysqld/mysqld.sock", schema: "shop"},
		"mysql://remora@db/shop":                     {user: "remora", address: "db:3306", schema: "shop"},
		"mysql://re%20mora:p%40ss@[::1]:3307/sh%20p": {user: "re mora", password: "p@ss", address: "[::1]:3307", schema: "sh p"},
	} {
		got, err := parseDSN(text)
		require.NoError(t, err, text)
		require.Equal(t, want.password.Reveal(), got.password.Reveal(), text)
		want.password, got.password = "", ""
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{
		"", "shop", "hunter2", "remora:hunter2@db/shop", "remora:hunter2@tcp(db)", "remora:hunter2@tcp(db)/", "remora:hunter2@tcp(db)/a/b",
		"remora:hunter2@tcp(db)/a?tls=x", "mysql://remora:hunter2@db", "mysql://remora:hunter2@db/", "mysql://:hunter2@db/shop",
		"mysql://remora:hunter2@db/a/b", "mysql://remora:hunter2@/shop", "postgres://remora:hunter2@db/shop", "mysql://remora:hunter2@db:x/shop",
		"mysql://remora:hunter2@db/a?x=y", "@tcp(db)/shop",
	} {
		_, err := parseDSN(text)
		require.Equal(t, remora.Invalid, remora.KindOf(err), text)
		require.NotContains(t, err.Error(), "hunter2")
	}
}
