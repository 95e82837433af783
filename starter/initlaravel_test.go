package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/testenv"
)

// laravelSite is an application with a release behind a link and a storage that is shared.
func (g *ground) laravelSite(env string) string {
	g.t.Helper()
	for _, dir := range []string{
		"app/shared/storage/app/public/receipts/cache", "app/shared/storage/app/public/pre-alerts", "app/shared/storage/framework",
		"app/releases/1",
	} {
		require.NoError(g.t, os.MkdirAll(g.path(dir), 0o755))
	}
	write := func(name, text string) { require.NoError(g.t, os.WriteFile(g.path(name), []byte(text), 0o600)) }
	write("app/shared/storage/app/public/.gitignore", "*")
	write("app/shared/storage/app/public/logo.png", "x")
	write("app/shared/.env", env)
	for from, to := range map[string]string{"releases/1": "app/current", "../../shared/storage": "app/releases/1/storage", "../../shared/.env": "app/releases/1/.env"} {
		require.NoError(g.t, os.Symlink(from, g.path(to)))
	}
	return g.path("app/current")
}

func TestInitReadsALaravelApplication(t *testing.T) {
	server := testenv.MySQL(t)
	schema := server.Schema(t)
	host, port, _ := strings.Cut(server.Address, ":")
	const password = `pa$WORD#"x'`
	_, err := server.DB(t).ExecContext(t.Context(), "CREATE USER laravel_app@'%' IDENTIFIED BY '"+strings.ReplaceAll(password, "'", "''")+"'")
	require.NoError(t, err)
	_, err = server.DB(t).ExecContext(t.Context(), "GRANT ALL ON *.* TO laravel_app@'%' WITH GRANT OPTION")
	require.NoError(t, err)

	g := newGround(t)
	app := g.laravelSite("APP_NAME=Shop\nAPP_TIMEZONE=America/Jamaica\nDB_CONNECTION=mariadb\nDB_HOST=" + host + "\nDB_PORT=" + port + "\nDB_DATABASE=" + schema +
		"\nDB_USERNAME=laravel_app\nDB_PASSWORD=\"pa\\$WORD#\\\"x'\"\nBACKUP_DATABASE_RETENTION_DAYS=30\nBACKUP_NOTIFY_ON_SUCCESS=true\n" +
		"MAIL_MAILER=smtp\nMAIL_HOST=mail.shop.example\nMAIL_PORT=465\nMAIL_USERNAME=\"a: b\"\nMAIL_PASSWORD=SECRETWORD\nBACKUP_NOTIFICATION_EMAIL=ops@shop.example\n" +
		"BACKUP_MAX_FILE_SIZE=2048\nBACKUP_STORAGE_PATH=" + g.path("backups/from-env") + "\n")
	g.args = []string{"init", "--config", g.path("etc/remora/remora.yaml")}
	s := g.init("--laravel", app, "--source", "shop")
	require.Zero(t, s.code, s.out+s.err)
	for _, line := range []string{
		"Taken over:", "  - the database " + schema + " at " + server.Address + ", with the application's user laravel_app and its password",
		"  - the directories in " + app + "/storage/app/public: pre-alerts, receipts", "  - maintenance mode, by storage/framework/down",
		"  - a backup every night at 02:30, by the clock of America/Jamaica", "Not taken over:", "  - 1 files in " + app + "/storage/app/public itself",
		"  - BACKUP_DATABASE_RETENTION_DAYS: set it where the worker runs", "  - BACKUP_NOTIFY_ON_SUCCESS: ", "  - mail by mail.shop.example:465: ", "  - BACKUP_MAX_FILE_SIZE: ",
	} {
		require.Contains(t, s.out, line)
	}
	text, err := os.ReadFile(g.path("etc/remora/remora.yaml"))
	require.NoError(t, err)
	for _, line := range []string{
		"  path: " + g.path("backups/from-env"), "      laravel: " + app, "      root: " + g.path("app/shared/storage/app/public"), "      directories: [pre-alerts, receipts]",
		`      nightly: {kind: full, daily: "02:30", zone: America/Jamaica}`, `#     to: "ops@shop.example"`,
		`#     smtp: {server: "mail.shop.example:465", tls: tls, user: "a: b", password_file: /etc/remora/smtp.password}`,
	} {
		require.Contains(t, string(text), line+"\n")
	}
	require.NotContains(t, string(text)+s.out+s.err, "WORD")
	c, err := config.Load(g.path("etc/remora/remora.yaml"), func(name string) string { return g.env[name] })
	require.NoError(t, err)
	_, errs := c.Check()
	require.Empty(t, errs)
	secret, err := c.Sources["shop"].Database.Password()
	require.NoError(t, err)
	require.Equal(t, password, secret.Reveal())
	require.Equal(t, app, c.Sources["shop"].Maintenance.Laravel, "the link, not the release that it leads to")
}

// A release whose storage is its own is gone after the next deployment.
func TestUploadsOfOneReleaseAreNotProposed(t *testing.T) {
	g := newGround(t)
	app := g.laravelSite("DB_CONNECTION=sqlite\n")
	require.NoError(t, os.Remove(g.path("app/releases/1/storage")))
	require.NoError(t, os.MkdirAll(g.path("app/releases/1/storage/app/public/receipts"), 0o755))
	s := g.init("--laravel", app, "--source", "shop")
	require.Equal(t, 2, s.code)
	require.Contains(t, s.err, "there is nothing to back up; the database: DB_CONNECTION is sqlite")
	l, err := readLaravel(app)
	require.NoError(t, err)
	require.Empty(t, l.files())
	require.Contains(t, strings.Join(l.left, "\n"), "belongs to one release")
}

// Whatever cannot be taken over is said, and never what is secret.
func TestWhatInitCannotTakeOver(t *testing.T) {
	for name, c := range map[string]struct {
		env  string
		args []string
		code int
		says string
	}{
		"sqlite":            {env: "DB_CONNECTION=sqlite\n", says: "DB_CONNECTION is sqlite; only mysql and mariadb"},
		"nothing":           {env: "", says: "DB_CONNECTION is not set"},
		"no user":           {env: "DB_CONNECTION=mysql\nDB_DATABASE=shop\nDB_PASSWORD=hunter2\n", says: "DB_USERNAME or DB_DATABASE is missing"},
		"broken url":        {env: "DB_CONNECTION=mysql\nDB_URL='mysql://u:hunter2@ho st/shop'\n", says: "DB_URL is not a URL"},
		"maintenance cache": {env: "APP_MAINTENANCE_DRIVER=cache\n", says: "APP_MAINTENANCE_DRIVER is cache"},
		"broken .env":       {env: "A=1\nB=hunter2 x\n", code: 2, says: "line 2: B: a value with spaces needs quotes"},
		"not there":         {args: []string{"--laravel", "/nowhere"}, code: 2, says: "no such file or directory: .env"},
		"relative":          {args: []string{"--laravel", "app"}, code: 2, says: "it is not an absolute path"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGround(t)
			app := g.laravelSite(c.env)
			if c.args == nil {
				c.args = []string{"--laravel", app, "--source", "shop"}
			}
			s := g.init(c.args...)
			require.Equal(t, c.code, s.code, s.out+s.err)
			require.Contains(t, s.out+s.err, c.says)
			require.NotContains(t, s.out+s.err, "hunter2")
			if c.code == 0 {
				require.FileExists(t, g.path("etc/remora/remora.yaml"), "the files alone are worth a source")
			}
		})
	}
}

func TestDatabaseOfALaravelApplication(t *testing.T) {
	for env, want := range map[string]dsn{
		"DB_CONNECTION=mysql\nDB_DATABASE=a\nDB_USERNAME=u\n":                                                {user: "u", address: "127.0.0.1:3306", schema: "a"},
		"DB_CONNECTION=mysql\nDB_DATABASE=a\nDB_USERNAME=u\nDB_PASSWORD=null\nDB_HOST=db\nDB_PORT=3307\n":    {user: "u", address: "db:3307", schema: "a"},
		"DB_CONNECTION=mysql\nDB_DATABASE=a\nDB_USERNAME=u\nDB_PASSWORD=p\nDB_HOST=::1\nDB_PORT=3307\n":      {user: "u", password: "p", address: "[::1]:3307", schema: "a"},
		"DB_CONNECTION=mysql\nDB_DATABASE=a\nDB_USERNAME=u\nDB_HOST=db\nDB_SOCKET=/run/mysqld.sock\n":        {user: "u", address: "/run/mysqld.sock", schema: "a"},
		"DB_CONNECTION=mysql\nDB_DATABASE=a\nDB_USERNAME=u\nDB_URL=mysql://v:p%40@db/b\n":                    {user: "v", password: "p@", address: "db:3306", schema: "b"},
		"DB_CONNECTION=mysql\nDB_DATABASE=a\nDB_USERNAME=u\nDB_PASSWORD=p\nDATABASE_URL=\"mysql://db:1/\"\n": {user: "u", password: "p", address: "db:1", schema: "a"},
	} {
		g := newGround(t)
		l, err := readLaravel(g.laravelSite(env))
		require.NoError(t, err)
		got := l.database()
		require.NotNil(t, got, env)
		require.Equal(t, want.password.Reveal(), got.password.Reveal(), env)
		want.password, got.password = "", ""
		require.Equal(t, want, *got, env)
	}
}

// What is given on the command line comes first.
func TestFlagsComeBeforeTheApplication(t *testing.T) {
	g := newGround(t)
	app := g.laravelSite("DB_CONNECTION=mysql\nDB_DATABASE=a\nDB_USERNAME=u\nDB_HOST=127.0.0.1\nDB_PORT=1\n")
	s := g.init("--laravel", app, "--files", g.path("site/receipts"), "--mysql", "root@tcp(127.0.0.1:2)/other", "-o", "json")
	require.Equal(t, 1, s.code)
	require.Contains(t, s.err, "127.0.0.1:2")

	server := testenv.MySQL(t)
	s = g.init("--laravel", app, "--files", g.path("site/receipts"), "--mysql", "root@tcp("+server.Address+")/"+server.Schema(t), "-o", "json")
	require.Zero(t, s.code, s.err)
	var answer initJSON
	require.NoError(t, json.Unmarshal([]byte(s.out), &answer))
	require.Equal(t, []string{"maintenance mode, by storage/framework/down"}, answer.TakenOver)
	text, err := os.ReadFile(g.path("etc/remora/remora.yaml"))
	require.NoError(t, err)
	require.Contains(t, string(text), "directories: [receipts]\n")
	require.Contains(t, string(text), "root: "+filepath.Join(g.dir, "site")+"\n")
}
