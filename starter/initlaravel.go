package main

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
)

// laravelApp is what can be learned of a Laravel application without executing any of it.
type laravelApp struct {
	dir string
	env map[string]string
	// taken and left say, for people, what was found, and what of it was not taken over and why.
	taken, left []string
}

// propose fills in what was not named on the command line, and gives the application's database.
func (b *beginning) propose(f *initFlags) (found *dsn, err error) {
	l, err := readLaravel(f.laravel)
	if err != nil {
		return nil, err
	}
	if f.mysql == "" {
		found = l.database()
	}
	if len(f.files) == 0 {
		f.files = l.files()
	}
	b.draft.Laravel, b.draft.Zone = l.maintenance(), l.zone()
	b.draft.Mail = l.mail()
	l.others()
	b.laravel = *l
	return found, nil
}

// readLaravel reads the application in dir. Errors never repeat a value of its .env.
func readLaravel(dir string) (*laravelApp, error) {
	dir = filepath.Clean(dir)
	flag := "--laravel " + dir
	if !filepath.IsAbs(dir) {
		return nil, initProblem(flag, "it is not an absolute path", "Write the whole path, from / on.")
	}
	file := filepath.Join(dir, ".env")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, initProblem(flag, remora.Cause(err).Error()+": .env", "Name the directory of the application, with its .env, as a user that may read it.")
	}
	l := &laravelApp{dir: dir}
	if l.env, err = parseEnv(string(text)); err != nil {
		return nil, initProblem(file, err.Error(), "Laravel would not read it as it was meant either; correct that line.")
	}
	return l, nil
}

func (l *laravelApp) take(format string, args ...any) {
	l.taken = append(l.taken, fmt.Sprintf(format, args...))
}

func (l *laravelApp) leave(format string, args ...any) {
	l.left = append(l.left, fmt.Sprintf(format, args...))
}

// value is a variable as Laravel's env() gives it.
func (l *laravelApp) value(name string) string {
	switch v := l.env[name]; strings.ToLower(v) {
	case "null", "(null)", "empty", "(empty)":
		return ""
	default:
		return v
	}
}

// database is the application's own connection; nil where it is none that Remora knows.
func (l *laravelApp) database() *dsn {
	kind := l.value("DB_CONNECTION")
	if kind != "mysql" && kind != "mariadb" {
		l.leave("the database: DB_CONNECTION is %s; only mysql and mariadb can be backed up", cmp.Or(kind, "not set"))
		return nil
	}
	d := dsn{
		user: l.value("DB_USERNAME"), password: remora.Secret(l.value("DB_PASSWORD")), schema: l.value("DB_DATABASE"),
		address: withPort(cmp.Or(l.value("DB_HOST"), "127.0.0.1")),
	}
	if port := l.value("DB_PORT"); port != "" {
		d.address = strings.TrimSuffix(d.address, ":3306") + ":" + port
	}
	if text := cmp.Or(l.value("DB_URL"), l.value("DATABASE_URL")); text != "" {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			l.leave("the database: DB_URL is not a URL; name the database with --mysql")
			return nil
		}
		d.address, d.schema = withPort(u.Host), cmp.Or(strings.TrimPrefix(u.Path, "/"), d.schema)
		if u.User != nil {
			password, _ := u.User.Password()
			d.user, d.password = cmp.Or(u.User.Username(), d.user), remora.Secret(cmp.Or(password, d.password.Reveal()))
		}
	}
	if socket := l.value("DB_SOCKET"); socket != "" {
		d.address = socket
	}
	if d.user == "" || d.schema == "" {
		l.leave("the database: DB_USERNAME or DB_DATABASE is missing; name the database with --mysql")
		return nil
	}
	l.take("the database %s at %s, with the application's user %s and its password", d.schema, d.address, d.user)
	return &d
}

// files are the directories in storage/app/public.
func (l *laravelApp) files() (dirs []string) {
	public := filepath.Join(l.dir, "storage", "app", "public")
	entries, err := os.ReadDir(public)
	if err != nil {
		l.leave("uploads: %s: %s", public, remora.Cause(err))
	}
	var names []string
	loose := 0
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(public, e.Name()))
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case err == nil && info.IsDir():
			names = append(names, e.Name())
			dirs = append(dirs, filepath.Join(public, e.Name()))
		default:
			loose++
		}
	}
	release, _ := filepath.EvalSymlinks(l.dir)
	if real, err := filepath.EvalSymlinks(public); err == nil && release != l.dir && strings.HasPrefix(real, release+"/") {
		l.leave("uploads: %s belongs to one release, and the next has another: share storage between releases", real)
		names, dirs = nil, nil
	}
	if len(dirs) > 0 {
		l.take("the directories in %s: %s", public, strings.Join(names, ", "))
		l.leave("directories that are made there later: add them to files.directories")
	}
	if loose > 0 {
		l.leave("%d files in %s itself: only directories can be backed up", loose, public)
	}
	return dirs
}

// maintenance is the directory for Laravel's own maintenance mode.
func (l *laravelApp) maintenance() string {
	if driver := l.value("APP_MAINTENANCE_DRIVER"); driver != "" && driver != "file" {
		l.leave("maintenance: APP_MAINTENANCE_DRIVER is %s, which looks at no file; write maintenance: {command: …}", driver)
		return ""
	}
	if info, err := os.Stat(filepath.Join(l.dir, "storage", "framework")); err != nil || !info.IsDir() {
		l.leave("maintenance: there is no storage/framework")
		return ""
	}
	l.take("maintenance mode, by storage/framework/down")
	return l.dir
}

// zone is that of the application's clock, where it has one that is known.
func (l *laravelApp) zone() string {
	zone := l.value("APP_TIMEZONE")
	switch _, err := time.LoadLocation(zone); {
	case zone == "" || zone == "UTC":
		return ""
	case err != nil || zone == "Local":
		l.leave("APP_TIMEZONE: there is no such time zone; the nightly backup is at 02:30 UTC")
		return ""
	}
	l.take("a backup every night at 02:30, by the clock of %s", zone)
	return zone
}

// mail is how the application sends mail.
func (l *laravelApp) mail() (m config.DraftMail) {
	m.To, m.From = l.value("BACKUP_NOTIFICATION_EMAIL"), l.value("MAIL_FROM_ADDRESS")
	host, port := l.value("MAIL_HOST"), cmp.Or(l.value("MAIL_PORT"), "587")
	if host == "" || cmp.Or(l.value("MAIL_MAILER"), "smtp") != "smtp" {
		return m
	}
	m.Server, m.User = net.JoinHostPort(host, port), l.value("MAIL_USERNAME")
	if port == "465" || l.value("MAIL_ENCRYPTION") == "ssl" || l.value("MAIL_SCHEME") == "smtps" {
		m.TLS = "tls"
	}
	l.leave("mail by %s: it stands in remora.yaml as a comment; write its password into a file, and remove the #", m.Server)
	return m
}

// others names the variables that have an effect elsewhere.
func (l *laravelApp) others() {
	for _, name := range []string{
		"BACKUP_DATABASE_RETENTION_DAYS", "BACKUP_FILES_RETENTION_DAYS", "BACKUP_MAX_FILE_SIZE", "BACKUP_COMPRESSION_LEVEL",
		"BACKUP_NOTIFICATION_EMAIL", "BACKUP_NOTIFY_ON_SUCCESS", "BACKUP_NOTIFY_ON_FAILURE",
		"DB_BACKUP_TIMEOUT", "DB_BACKUP_SINGLE_TRANSACTION", "DB_BACKUP_ROUTINES", "DB_BACKUP_TRIGGERS",
	} {
		if l.value(name) != "" {
			l.leave("%s: set it where the worker runs; the application's .env is not read there", name)
		}
	}
}
