package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
)

// laravelApp is what can be learned of a Laravel application without executing any of it.
type laravelApp struct {
	dir string
	env map[string]string
	// backup is config/backup.php without its comments; empty where there is none.
	backup string
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
	b.draft.Laravel = l.maintenance()
	if b.draft.LaterSource, b.draft.LaterRoot, err = l.later(); err != nil {
		return nil, err
	}
	l.others()
	b.laravel = *l
	return found, nil
}

// sayFound prints what the application said, and what became of it.
func (a *app) sayFound(l laravelApp) {
	for _, part := range []struct {
		title string
		lines []string
	}{{"Taken over:", l.taken}, {"Not taken over:", l.left}} {
		if len(part.lines) > 0 {
			a.say("%s", part.title)
		}
		for _, line := range part.lines {
			a.say("  - %s", remora.OneLine(line))
		}
	}
	if l.dir != "" {
		a.say("")
	}
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
	php, err := os.ReadFile(filepath.Join(dir, "config", "backup.php"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.leave("config/backup.php: %s", remora.Cause(err))
	}
	l.backup = phpNoise.ReplaceAllStringFunc(string(php), func(found string) string {
		if found[0] == '\'' || found[0] == '"' {
			return found
		}
		return ""
	})
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
	for _, path := range l.paths("include") {
		if path != public {
			l.leave("config/backup.php: include %s: add directories of it to files by hand", path)
		}
	}
	for _, path := range l.paths("exclude") {
		if strings.HasPrefix(path, public+"/") {
			l.leave("config/backup.php: exclude %s: write a pattern for it in files.exclude", path)
		}
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

// later gives what Remora does not know yet, as lines of YAML that stand in the file as comments.
func (l *laravelApp) later() (source, root []string, err error) {
	days := func(variable string) string { return cmp.Or(l.value(variable), l.setting("keep_all_backups_for_days")) }
	var kept []string
	for _, k := range [][2]string{
		{"database_days", days("BACKUP_DATABASE_RETENTION_DAYS")},
		{"files_days", days("BACKUP_FILES_RETENTION_DAYS")},
		{"daily", l.setting("keep_daily_backups_for_days")},
		{"weekly", l.setting("keep_weekly_backups_for_weeks")},
		{"monthly", l.setting("keep_monthly_backups_for_months")},
		{"yearly", l.setting("keep_yearly_backups_for_years")},
	} {
		if _, err := strconv.Atoi(k[1]); err == nil {
			kept = append(kept, k[0]+": "+k[1])
		}
	}
	if len(kept) > 0 {
		source = append(source, "retention: {"+strings.Join(kept, ", ")+"}")
	}
	zone, err := config.Value(cmp.Or(l.value("APP_TIMEZONE"), "UTC"))
	if err != nil {
		return nil, nil, err
	}
	source = append(source, `schedules: {nightly: {kind: full, daily: "02:30", zone: `+zone+`}}`)
	to, on := cmp.Or(l.value("BACKUP_NOTIFICATION_EMAIL"), l.setting("to")), func(variable, otherwise string) string {
		set := strings.Trim(strings.ToLower(cmp.Or(l.value(variable), otherwise)), "()")
		return strconv.FormatBool(set == "true" || set == "1")
	}
	if to, err = config.Value(to); err == nil && to != `""` {
		root = append(root, fmt.Sprintf("notify: {email: {to: %s}, on_success: %s, on_failure: %s}",
			to, on("BACKUP_NOTIFY_ON_SUCCESS", "false"), on("BACKUP_NOTIFY_ON_FAILURE", "true")))
	}
	for _, line := range append(append([]string{}, source...), root...) {
		name, _, _ := strings.Cut(line, ":")
		l.leave("%s: not supported yet; it stands in the file as a comment", name)
	}
	return source, root, err
}

// others names what else was found and belongs elsewhere.
func (l *laravelApp) others() {
	for _, name := range []string{"BACKUP_MAX_FILE_SIZE", "BACKUP_COMPRESSION_LEVEL", "DB_BACKUP_TIMEOUT", "DB_BACKUP_SINGLE_TRANSACTION", "DB_BACKUP_ROUTINES", "DB_BACKUP_TRIGGERS"} {
		if v := l.value(name); v != "" {
			l.leave("%s: set it where the worker runs; the application's .env is not read there", name)
		}
	}
	for _, name := range l.strings("databases") {
		if name != l.value("DB_CONNECTION") {
			l.leave("config/backup.php: database connection %s: make a source for it", name)
		}
	}
	if disks := l.strings("disks"); len(disks) > 0 {
		l.leave("config/backup.php: the disks %s: backups go to the repository", strings.Join(disks, ", "))
	}
}

var (
	phpNoise  = regexp.MustCompile(`(?s)'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|/\*.*?\*/|(?://|#)[^\n]*`)
	phpPath   = regexp.MustCompile(`\b(base|storage|public|app|resource|database)_path\(\s*(?:'([^'\\]*)')?\s*\)|'(/[^'\\]*)'`)
	phpString = regexp.MustCompile(`'([^'\\]*)'`)
	phpScalar = regexp.MustCompile(`^\s*(?:\(\w+\)\s*)?(?:env\(\s*'(\w+)'\s*(?:,\s*'?([^'()\[\],]*)'?\s*)?\)|'([^'\\]*)'|(\d+|true|false|null))\s*[,\]]`)
)

// after gives what follows a key of config/backup.php; "" where there is no such key.
func (l *laravelApp) after(key string) string {
	at := regexp.MustCompile(`'` + key + `'\s*=>`).FindStringIndex(l.backup)
	if at == nil {
		return ""
	}
	return l.backup[at[1]:]
}

// setting reads one plain value, or env('NAME', value).
func (l *laravelApp) setting(key string) string {
	m := phpScalar.FindStringSubmatch(l.after(key))
	if m == nil {
		return ""
	}
	return cmp.Or(l.value(m[1]), m[2], m[3], m[4])
}

// list is the text of a list.
func (l *laravelApp) list(key string) string {
	text := strings.TrimSpace(l.after(key))
	if !strings.HasPrefix(text, "[") {
		return ""
	}
	text, _, _ = strings.Cut(text, "]")
	return text
}

func (l *laravelApp) strings(key string) (all []string) {
	for _, m := range phpString.FindAllStringSubmatch(l.list(key), -1) {
		all = append(all, m[1])
	}
	return all
}

// paths are the directories in a list, as far as they are written out.
func (l *laravelApp) paths(key string) (all []string) {
	for _, m := range phpPath.FindAllStringSubmatch(l.list(key), -1) {
		all = append(all, cmp.Or(m[3], filepath.Join(l.dir, strings.TrimPrefix(m[1], "base"), m[2])))
	}
	return all
}
