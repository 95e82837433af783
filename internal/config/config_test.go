package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// env is an environment for tests: the given variables and a home.
func env(pairs ...string) func(string) string {
	vars := map[string]string{"HOME": "/home/ops"}
	for i := 0; i < len(pairs); i += 2 {
		vars[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return vars[name] }
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "remora.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

const whole = `# everything that is known
state: /var/lib/remora-test
repository:
  path: /var/backups/remora
  password_file: repository.password
temporal: {address: localhost, namespace: backups}
monitor: {listen: "0.0.0.0", ping: "http://hc.example/0a1b"}
copies:
  offsite: {path: /mnt/offsite, password_file: offsite.password, after_backup: true, daily: "03:30", zone: Europe/Berlin, keep: {last: 7, days: 30}}
  cloud: {s3: {endpoint: s3.example, bucket: remora, access_key_env: K, secret_key_env: S}, password_env: CLOUD}
sources:
  shop:
    database:
      {address: 127.0.0.1, user: remora, password_file: /etc/remora/shop.password, schemas: [shop], sessions: 8, limits: {bytes_per_second: 50MB, threads_running: 40, replication_lag: 30s}}
    restore: {user: remora_restore, password_env: SHOP_RESTORE, sessions: 2, skip_binary_log: true, after: [[php, /srv/shop/artisan, "cache:clear"], [systemctl, restart, shop-queue]]}
    files: {root: /srv/shop/storage/app/public, directories: [pre-alerts, receipts/], exclude: ["*.tmp"], exchange: entries}
    maintenance: {file: /srv/shop/storage/framework/down}
    checks: [{sql: SELECT COUNT(*) > 0 FROM users}, {http: "http://127.0.0.1/up"}]
    undo_window: 36h
    objectives: {recovery_point: 26h}
  blog:
    files:
      root: uploads
      directories:
        - images
    maintenance: {http: {enter: "https://h/down?x=1", leave: "http://127.0.0.1/up", status: "http://127.0.0.1/", token_env: HOOK}}
  cafe:
    files: {root: cafe, directories: [menus]}
    restore: {after: [[flush-cache]]}
    maintenance: {command: {enter: [php, artisan, down], leave: [php, artisan, up], status: [test, -f, /x]}}
  kiosk:
    files: {root: kiosk, directories: [menus]}
    maintenance: {laravel: current}
`

func TestLoadReadsEveryKey(t *testing.T) {
	file := write(t, whole)
	c, err := Load(file, env("SHOP_RESTORE", "s3cret", "DB_BACKUP_TIMEOUT", "60"))
	require.NoError(t, err)

	restore, err := c.Sources["shop"].Database.RestorePassword()
	require.NoError(t, err)
	require.Equal(t, "s3cret", restore.Reveal())
	require.Equal(t, []string{"blog", "cafe", "kiosk", "shop"}, c.Names())
	require.Equal(t, []remora.Kind{remora.Database, remora.Files}, c.Sources["shop"].Kinds())

	folder := filepath.Dir(file)
	want := map[string]*Source{
		"shop": {
			Name: "shop",
			Database: &Database{
				Address: "127.0.0.1:3306", User: "remora", RestoreUser: "remora_restore", Schemas: []string{"shop"}, SingleTransaction: true, Routines: true, Triggers: true,
				Sessions: 8, RestoreSessions: 2, Limits: remora.Limits{BytesPerSecond: 50e6, ThreadsRunning: 40, ReplicationLag: 30 * time.Second}, SkipBinaryLog: true,
			},
			Files:       &Files{Root: "/srv/shop/storage/app/public", Directories: []string{"pre-alerts", "receipts"}, Exclude: []string{"*.tmp"}, ByEntry: true},
			Maintenance: Maintenance{File: "/srv/shop/storage/framework/down"},
			After:       [][]string{{"php", "/srv/shop/artisan", "cache:clear"}, {"systemctl", "restart", "shop-queue"}},
			Checks:      []remora.Check{{SQL: "SELECT COUNT(*) > 0 FROM users"}, {HTTP: "http://127.0.0.1/up"}},
			UndoWindow:  36 * time.Hour, RecoveryPoint: 26 * time.Hour,
		},
		"blog": {
			Name: "blog", Files: &Files{Root: filepath.Join(folder, "uploads"), Directories: []string{"images"}}, UndoWindow: remora.DefaultUndo,
			Maintenance: Maintenance{HTTP: &MaintenanceHTTP{Enter: "https://h/down?x=1", Leave: "http://127.0.0.1/up", Status: "http://127.0.0.1/"}},
		},
		"cafe": {
			Name: "cafe", Files: &Files{Root: filepath.Join(folder, "cafe"), Directories: []string{"menus"}}, UndoWindow: remora.DefaultUndo,
			After: [][]string{{"flush-cache"}},
			Maintenance: Maintenance{Command: &MaintenanceCommand{
				Enter: []string{"php", "artisan", "down"}, Leave: []string{"php", "artisan", "up"}, Status: []string{"test", "-f", "/x"},
			}},
		},
		"kiosk": {
			Name: "kiosk", Files: &Files{Root: filepath.Join(folder, "kiosk"), Directories: []string{"menus"}}, UndoWindow: remora.DefaultUndo,
			Maintenance: Maintenance{Laravel: filepath.Join(folder, "current")},
		},
	}
	for _, s := range want {
		s.Keep = remora.KeepPolicy{Last: 7, DatabaseDays: 30, FilesDays: 14}
	}
	functions := cmp.FilterValues(func(_, _ remora.SecretFunc) bool { return true }, cmp.Ignore())
	require.Empty(t, cmp.Diff(want, c.Sources, functions))
	require.Equal(t, "/var/lib/remora-test", c.State)
	require.Equal(t, "/var/backups/remora", c.Repository.Path)
	require.Equal(t, []string{"cloud", "offsite"}, c.CopyNames())
	require.Empty(t, cmp.Diff(&Copy{
		Repository:  Repository{Path: "/mnt/offsite", PasswordFile: filepath.Join(folder, "offsite.password")},
		AfterBackup: true, Daily: "03:30", Zone: "Europe/Berlin", Keep: remora.KeepPolicy{Last: 7, DatabaseDays: 30, FilesDays: 30},
	}, c.Copies["offsite"], functions))
	require.Equal(t, "s3:https://s3.example/remora", c.Copies["cloud"].Where())
	require.Equal(t, Temporal{Address: "localhost:7233", Namespace: "backups"}, c.Temporal)
	require.Equal(t, time.Minute, c.Stall)
	require.Equal(t, Monitor{Listen: "0.0.0.0:9464", Ping: "http://hc.example/0a1b"}, c.Monitor)
	require.Equal(t, []string{
		"monitor.listen: whoever reaches 0.0.0.0:9464 can read the names of the sources and how their backups went; keep it inside a private network",
		"sources.blog: only files are backed up; add database: where the application has one",
		"sources.cafe: only files are backed up; add database: where the application has one",
		"sources.kiosk: only files are backed up; add database: where the application has one",
	}, c.Warnings)
	var said []string
	for _, name := range c.Names() {
		said = append(said, c.Sources[name].Maintenance.String())
	}
	require.Equal(t, []string{"hook at h", "command php", "Laravel in " + filepath.Join(folder, "current"), "/srv/shop/storage/framework/down"}, said)
}

func TestLoadReadsABucket(t *testing.T) {
	file := write(t, `
repository:
  password_env: P
  s3:
    endpoint: http://storage:9000/
    bucket: backups
    prefix: shop
    region: eu-west-1
    path_style: true
    ca_file: ca.pem
    access_key_file: access
    secret_key_env: SECRET
    session_token_env: TOKEN
    object_lock: {mode: compliance, days: 30}
sources: {a: {files: {root: /f, directories: [a]}}}
`)
	folder := filepath.Dir(file)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "access"), []byte("one\n"), 0o600))
	c, err := Load(file, env("SECRET", "two", "TOKEN", "three"))
	require.NoError(t, err)
	b := c.Repository.Bucket
	functions := cmp.FilterValues(func(_, _ remora.SecretFunc) bool { return true }, cmp.Ignore())
	require.Empty(t, cmp.Diff(&remora.Bucket{
		Endpoint: "storage:9000", Plain: true, Name: "backups", Prefix: "shop/", Region: "eu-west-1", PathStyle: true,
		CAFile: filepath.Join(folder, "ca.pem"), Lock: remora.ObjectLock{Mode: remora.Compliance, Days: 30},
	}, b, functions))
	require.Equal(t, "s3:http://storage:9000/backups/shop", c.Repository.Where())
	for want, read := range map[string]remora.SecretFunc{"one": b.AccessKey, "two": b.SecretKey, "three": b.SessionToken} {
		got, err := read()
		require.NoError(t, err)
		require.Equal(t, want, got.Reveal())
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "access"), []byte("rotated\n"), 0o600))
	got, err := b.AccessKey()
	require.NoError(t, err)
	require.Equal(t, "rotated", got.Reveal(), "keys are read when they are needed")
	require.Contains(t, strings.Join(c.Warnings, "\n"), "storage:9000 is reached without TLS")

	c, err = Load(write(t, "repository: {password_env: P, s3: {endpoint: s3.example.com, bucket: abc, access_key_env: A, secret_key_env: B}}\n"), env("BACKUP_STORAGE_PATH", "/b"))
	require.NoError(t, err)
	require.Empty(t, c.Repository.Path, "the environment's directory does not compete with a bucket")
	require.Equal(t, "s3:https://s3.example.com/abc", c.Repository.Where())
	_, errs := c.Check()
	require.Len(t, errs, 3, "the password and both keys are missing: %v", errs)
}

func lines(err error) string {
	var m Mistakes
	if !errors.As(err, &m) {
		return err.Error()
	}
	out := make([]string, len(m))
	for i := range m {
		m[i].File = filepath.Base(m[i].File)
		if m[i].File == "." {
			m[i].File = ""
		}
		out[i] = m[i].String()
	}
	return strings.Join(out, "\n")
}

// What a source does not say is that of the environment, and 0 days are said.
func TestWhatSourcesAndCopiesKeep(t *testing.T) {
	file := write(t, `
repository: {path: /b, password_env: P}
copies:
  offsite: {path: /o, password_env: P, daily: "03:30", keep: {last: 3, days: 9, files_days: 4, yearly: 2}}
  cloud: {path: /c, password_env: P}
sources:
  shop:
    files: {root: /f, directories: [a]}
    retention: {keep_last: 2, database_days: 0, daily: 7, weekly: 5, monthly: 12, yearly: 3}
  blog: {files: {root: /f, directories: [b]}}
`)
	c, err := Load(file, env("BACKUP_DATABASE_RETENTION_DAYS", "60", "BACKUP_FILES_RETENTION_DAYS", "8"))
	require.NoError(t, err)
	for where, want := range map[[2]string]remora.KeepPolicy{
		{"", "shop"}:        {Last: 2, FilesDays: 8, Daily: 7, Weekly: 5, Monthly: 12, Yearly: 3},
		{"", "blog"}:        {Last: 7, DatabaseDays: 60, FilesDays: 8},
		{"", "gone"}:        {},
		{"offsite", "shop"}: {Last: 3, DatabaseDays: 9, FilesDays: 4, Yearly: 2},
		{"offsite", "gone"}: {Last: 3, DatabaseDays: 9, FilesDays: 4, Yearly: 2},
		{"cloud", "shop"}:   {},
		{"gone", "shop"}:    {},
	} {
		require.Equal(t, want, c.KeepOf(where[0], where[1]), "%v", where)
	}
}
