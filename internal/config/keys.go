package config

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/dustin/go-humanize"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/remora-backup/remora/internal/remora"
)

// parse reads the whole of a configuration: keys first, then what only makes sense together.
func parse(file string, text []byte, getenv func(string) string) (*Config, Mistakes) {
	r := &reader{file: file, getenv: getenv, where: map[string]*token.Position{}}
	c := &Config{
		File:     file,
		Temporal: Temporal{Address: DefaultTemporalAddress, Namespace: DefaultNamespace},
		Copies:   map[string]*Copy{},
		Sources:  map[string]*Source{},
		Stall:    remora.DefaultStall,
		Notify:   Notify{OnFailure: true},

		VerifyDays: DefaultVerifyDays,
	}
	if root := r.parseYAML(text); root != nil {
		r.document(c, root)
		r.environment(c)
		r.together(c)
	}
	slices.SortStableFunc(r.found, func(a, b Mistake) int { return a.Line - b.Line })
	return c, r.found
}

func (r *reader) document(c *Config, root ast.Node) {
	r.mapping("", root, fields{
		"state": r.path(&c.State),
		"repository": func(key string, n ast.Node) {
			r.repository(c, &c.Repository, key, n, fields{"verify_days": r.number(&c.VerifyDays, 1, 365)})
		},
		"copies":   r.copies(c),
		"temporal": r.temporal(c),
		"sources":  r.sources(c),
		"notify":   r.notify(c),
		"monitor":  r.monitor(c),
	}, "retention", "objectives", "checks", "console")
}

// repository reads where one lies; further are the keys that it may have beside those that all have.
func (r *reader) repository(c *Config, to *Repository, key string, n ast.Node, further fields) {
	password := secret{key: key, name: "password"}
	known := fields{"path": r.path(&to.Path), "s3": r.bucket(c, &to.Bucket)}
	maps.Copy(known, further)
	r.mapping(key, n, r.places(known, &password), "password_command", "storage")
	if r.has(key, "path") && r.has(key, "s3") {
		r.wrongKey(below(key, "s3"), "a repository is in a directory or in a bucket; remove path or s3")
	}
	if to.Path == "/" {
		r.wrongKey(below(key, "path"), "the root directory cannot be a repository; write a directory of its own")
	}
	needed := ""
	if isMapping(n) {
		needed = "backups are always encrypted"
	}
	to.Password, to.PasswordFile = r.secret(c, password, needed), password.file
}

// named reads a mapping whose keys are names that somebody gave; taken is no such name.
func (r *reader) named(taken, otherwise string, set func(key, name string, n ast.Node)) setter {
	return func(key string, n ast.Node) {
		r.each(key, n, func(name string, at, value ast.Node) {
			path := below(key, shown(name))
			r.where[path] = positionOf(at)
			if err := remora.CheckSourceName(name); err != nil || name == taken {
				r.wrong(path, at, "%s", otherwise)
				return
			}
			set(path, name, value)
		})
	}
}

func (r *reader) copies(c *Config) setter {
	return r.named(remora.MainLocation, "a copy's name has 1 to 40 of a-z, 0-9, - and _, begins with a letter or digit, and is not "+remora.MainLocation,
		func(key, name string, n ast.Node) { c.Copies[name] = r.copy(c, key, n) })
}

func (r *reader) copy(c *Config, key string, n ast.Node) *Copy {
	to := &Copy{Zone: "UTC"}
	r.repository(c, &to.Repository, key, n, fields{
		"after_backup": r.flag(&to.AfterBackup),
		"daily":        r.matching(&to.Daily, timeOfDay, noTime),
		"zone":         r.text(&to.Zone),
		"keep":         r.keepInCopy(&to.Keep),
	})
	if isMapping(n) && !r.has(key, "path", "s3") {
		r.wrongKey(key, "it needs path: DIR or s3: {…}, where the copies lie")
	}
	if !isZone(to.Zone) {
		r.wrongKey(below(key, "zone"), noZone)
	}
	switch {
	case r.has(key, "zone") && !r.has(key, "daily"):
		r.wrongKey(below(key, "zone"), "it says of which zone the time daily: is; add that, or remove it")
	case r.has(key, "keep") && !r.has(key, "daily"):
		r.wrongKey(below(key, "keep"), "what is not kept is removed by the daily copy; write daily: \"03:30\", too")
	}
	return to
}

func (r *reader) temporal(c *Config) setter {
	return func(key string, n ast.Node) {
		r.mapping(key, n, fields{
			"address":   r.address(&c.Temporal.Address, "7233"),
			"namespace": r.matching(&c.Temporal.Namespace, namespace, "a namespace has 2 to 255 letters, digits, - and _"),
		}, "tls", "api_key_file", "api_key_env")
	}
}

func (r *reader) monitor(c *Config) setter {
	return func(key string, n ast.Node) {
		r.mapping(key, n, fields{"listen": r.address(&c.Monitor.Listen, "9464"), "ping": r.url(&c.Monitor.Ping)})
		if elsewhere(c.Monitor.Listen) {
			c.Warnings = append(c.Warnings, below(key, "listen")+": whoever reaches "+c.Monitor.Listen+" can read the names of the sources and how their backups went; keep it inside a private network")
		}
	}
}

func (r *reader) sources(c *Config) setter {
	return r.named("", "a source's name has 1 to 40 of a-z, 0-9, - and _, and begins with a letter or digit",
		func(key, name string, n ast.Node) { c.Sources[name] = r.source(c, key, name, n) })
}

func (r *reader) source(c *Config, key, name string, n ast.Node) *Source {
	s := &Source{Name: name, UndoWindow: remora.DefaultUndo}
	user, password := "", secret{key: below(key, "restore"), name: "password"} // of restores
	var restores Database                                                      // what it has for restores
	scheduled := map[string]planned{}
	r.mapping(key, n, fields{
		"database": func(key string, n ast.Node) { s.Database = r.database(c, key, n) },
		"restore": func(key string, n ast.Node) {
			r.mapping(key, n, r.places(fields{
				"user": r.text(&user), "empty": r.texts(&restores.Empty),
				"sessions": r.number(&restores.RestoreSessions, 1, 64), "skip_binary_log": r.flag(&restores.SkipBinaryLog),
				"after": r.commands(&s.After),
			}, &password))
			if !r.has(key, "user") && (!r.has(key, "after", "empty", "sessions", "skip_binary_log") || r.has(key, "password_file", "password_env")) {
				r.wrongKey(key, "it needs user: NAME, the database user with writing rights")
			}
		},
		"files":       func(key string, n ast.Node) { s.Files = r.files(key, n) },
		"maintenance": r.maintenance(c, &s.Maintenance),
		"checks":      r.checks(&s.Checks),
		"schedules":   r.schedules(scheduled),
		"undo_window": r.duration(&s.UndoWindow, time.Second, 720*time.Hour),
		"objectives":  r.objectives(s),
		"retention":   func(key string, n ast.Node) { r.mapping(key, n, r.keep(&s.Keep)) },
	}, "notify", "redis", "postgres", "drill")

	if s.Files != nil && s.Files.ByEntry && !r.has(key, "maintenance") {
		r.wrongKey(below(key, "files.exchange"), "entries are exchanged one after another, so the application must be offline meanwhile; add maintenance:")
	}
	r.checkNames(below(key, "checks"), s)
	r.schedule(c, s, scheduled)
	hasDatabase, hasFiles, restore := r.has(key, "database"), r.has(key, "files"), below(key, "restore")
	switch {
	case !hasDatabase && r.has(key, "restore") && (!r.has(restore, "after") || r.has(restore, "user", "password_file", "password_env", "empty", "sessions", "skip_binary_log")):
		r.wrongKey(restore, "this source has no database to restore into; keep only after:, or add database:")
	case s.Database != nil:
		s.Database.RestoreUser, s.Database.RestorePassword = s.Database.User, s.Database.Password
		s.Database.Empty, s.Database.RestoreSessions, s.Database.SkipBinaryLog = restores.Empty, restores.RestoreSessions, restores.SkipBinaryLog
		if user != "" {
			s.Database.RestoreUser, s.Database.RestorePassword = user, r.secret(c, password, "")
		}
	}
	switch {
	case !isMapping(n):
	case !hasDatabase && !hasFiles:
		r.wrongKey(key, "there is nothing to back up; add database: or files:")
	case !hasFiles:
		c.Warnings = append(c.Warnings, key+": only the database is backed up; add files: where the application keeps uploads")
	case !hasDatabase:
		c.Warnings = append(c.Warnings, key+": only files are backed up; add database: where the application has one")
	}
	return s
}

// objectives reads what is promised of a source's backups.
func (r *reader) objectives(s *Source) setter {
	return func(key string, n ast.Node) {
		const year = 8784 * time.Hour
		r.mapping(key, n, fields{
			"recovery_point": r.duration(&s.RecoveryPoint, time.Minute, year),
			"recovery_time":  r.duration(&s.RecoveryTime, time.Second, year),
			"drill":          r.duration(&s.Drill, time.Minute, year),
		})
	}
}

func (r *reader) database(c *Config, key string, n ast.Node) *Database {
	d := &Database{}
	password := secret{key: key, name: "password"}
	r.mapping(key, n, r.places(fields{
		"address":  r.databaseAddress(&d.Address),
		"user":     r.text(&d.User),
		"schemas":  r.texts(&d.Schemas),
		"sessions": r.number(&d.Sessions, 1, 64),
		"limits":   r.limits(&d.Limits),
	}, &password), "tls", "socket", "exclude", "tables", "routines", "triggers", "single_transaction")
	d.Password = r.secret(c, password, "")

	r.need(key, "address", "HOST:PORT")
	r.need(key, "user", "NAME")
	r.need(key, "schemas", "[NAME], the schemas to back up")
	r.schemas(below(key, "schemas"), d.Schemas)
	if !r.has(key, "password_file", "password_env") {
		c.Warnings = append(c.Warnings, key+": neither password_file nor password_env is set; connecting without a password")
	}
	return d
}

// limits reads what copies may ask of a source's database server.
func (r *reader) limits(to *remora.Limits) setter {
	return func(key string, n ast.Node) {
		r.mapping(key, n, fields{
			"bytes_per_second": r.bytesPerSecond(&to.BytesPerSecond),
			"threads_running":  r.number(&to.ThreadsRunning, 1, 100000),
			"replication_lag":  r.duration(&to.ReplicationLag, time.Second, 24*time.Hour),
		})
	}
}

// bytesPerSecond reads a number of bytes with its unit. The least is what the sessions of a copy move without looking as
// if they stood still.
func (r *reader) bytesPerSecond(to *int64) setter {
	return func(key string, n ast.Node) {
		var size uint64
		text, ok := n.(*ast.StringNode)
		if !ok || !between(&size, 100*humanize.KByte, 100*humanize.GByte, humanize.ParseBytes, text.Value) {
			r.wrong(key, n, "write a number of bytes from 100KB to 100GB, such as 50MB; MB are millions, MiB are 1024 × 1024")
		}
		*to = int64(size)
	}
}

func (r *reader) schemas(key string, names []string) {
	r.filled(key, len(names), "write the name of the schema to back up")
	for i, name := range names {
		at := fmt.Sprintf("%s[%d]", key, i)
		lower := strings.ToLower(name)
		switch {
		case len([]rune(name)) > 64 || strings.HasSuffix(name, " "):
			r.wrongKey(at, "a schema's name has at most 64 characters and does not end with a space")
		case slices.Contains([]string{"mysql", "sys", "information_schema", "performance_schema"}, lower):
			r.wrongKey(at, "%s belongs to the server; write the application's schema", lower)
		case slices.Contains(names[:i], name):
			r.wrongKey(at, "it stands in the list twice; remove one")
		case strings.HasPrefix(lower, "_remora"):
			r.wrongKey(at, "names beginning with _remora are Remora's own; write the application's schema")
		}
	}
}

func (r *reader) files(key string, n ast.Node) *Files {
	f, exchange := &Files{}, "directories"
	r.mapping(key, n, fields{
		"root":        r.path(&f.Root),
		"directories": r.texts(&f.Directories),
		"exclude":     r.texts(&f.Exclude),
		"exchange":    r.matching(&exchange, exchanges, "write directories, or entries where a directory is a mount point or is mounted in a container"),
	}, "host", "owner", "include")
	f.ByEntry = exchange == "entries"
	r.need(key, "root", "DIR, the directory that holds the directories to back up")
	if f.Root == "/" {
		r.wrongKey(below(key, "root"), "the root directory cannot be files.root, since a restore is prepared beside it; write a directory below it")
	}
	directories := below(key, "directories")
	r.need(key, "directories", "[NAME], the directories inside root to back up")
	r.filled(directories, len(f.Directories), "write the names of directories inside root")
	for i, name := range f.Directories {
		f.Directories[i] = r.directory(fmt.Sprintf("%s[%d]", directories, i), name)
	}
	for i, pattern := range f.Exclude {
		if !doublestar.ValidatePattern(pattern) {
			r.wrongKey(fmt.Sprintf("%s.exclude[%d]", key, i), "this is not a pattern; write one such as *.tmp or cache/**")
		}
	}
	return f
}

// directory cleans the name of a directory inside root, and refuses what leaves it or is ours.
func (r *reader) directory(key, name string) string {
	clean := filepath.ToSlash(filepath.Clean(name))
	switch {
	case filepath.IsAbs(name):
		r.wrongKey(key, "it is an absolute path; write a name relative to root")
	case clean == "." || clean == ".." || strings.HasPrefix(clean, "../"):
		r.wrongKey(key, "it is not a directory inside root; write the name of one, or a root further up")
	}
	for part := range strings.SplitSeq(clean, "/") {
		if strings.HasPrefix(part, "_remora") || strings.HasPrefix(part, ".remora") {
			r.wrongKey(key, "names beginning with _remora or .remora are Remora's own and are never backed up")
		}
	}
	return clean
}

// filled refuses an empty list at a key that is given.
func (r *reader) filled(key string, length int, what string) {
	if r.has("", key) && length == 0 && !r.mistaken(key) {
		r.wrongKey(key, "the list is empty; %s", what)
	}
}

// has tells whether one of the keys is given below key, well or badly.
func (r *reader) has(key string, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { _, ok := r.where[below(key, name)]; return ok })
}

// mistaken tells whether a mistake was noted at or below key.
func (r *reader) mistaken(key string) bool {
	return slices.ContainsFunc(r.found, func(m Mistake) bool { return strings.HasPrefix(m.Key, key) })
}

// places adds to the known keys the two that say where a secret is: in a file, or in a variable.
func (r *reader) places(known fields, to *secret) fields {
	known[to.name+"_file"], known[to.name+"_env"] = r.path(&to.file), r.variable(&to.env)
	return known
}

// secret keeps the place of a secret for Check and gives its reader. needed says why there has to be one, where that is so.
func (r *reader) secret(c *Config, s secret, needed string) remora.SecretFunc {
	switch file, env := r.has(s.key, s.name+"_file"), r.has(s.key, s.name+"_env"); {
	case file && env:
		r.wrongKey(s.key, "%s_file and %[1]s_env are both given; remove one", s.name)
	case !file && !env && needed != "":
		r.wrongKey(s.key, "%s; write %s_file: FILE or %[2]s_env: VARIABLE", needed, s.name)
	}
	s.read = s.reader(r.getenv)
	if s.file != "" || s.env != "" {
		c.secrets = append(c.secrets, s)
	}
	return s.read
}

var (
	namespace    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{1,254}$`)
	exchanges    = regexp.MustCompile(`^(directories|entries)$`)
	variableName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)
	timeOfDay    = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)
	hostName     = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})$`)
)

// variable reads the name of an environment variable. A message never repeats it: it may be a password in the wrong place.
func (r *reader) variable(to *string) setter {
	return r.matching(to, variableName, "write the name of an environment variable in capitals, such as REMORA_PASSWORD; the password itself does not stand here")
}

func (r *reader) matching(to *string, pattern *regexp.Regexp, otherwise string) setter {
	return r.lined(func(value string) string {
		if !pattern.MatchString(value) {
			return otherwise
		}
		*to = value
		return ""
	})
}

// databaseAddress reads HOST:PORT, HOST, or the absolute path of a socket.
func (r *reader) databaseAddress(to *string) setter {
	network := r.address(to, "3306")
	return func(key string, n ast.Node) {
		if text, ok := n.(*ast.StringNode); ok && strings.HasPrefix(text.Value, "/") {
			r.path(to)(key, n)
			return
		}
		network(key, n)
	}
}

// address reads HOST:PORT, or HOST with the usual port. A message never repeats it: it may hold a password.
func (r *reader) address(to *string, port string) setter {
	return r.lined(func(value string) string {
		host, p, err := net.SplitHostPort(value)
		if err != nil {
			host, p = strings.Trim(value, "[]"), port
		}
		number, err := strconv.Atoi(p)
		switch {
		case strings.ContainsAny(value, "@/"):
			return "write HOST:" + port + " alone, without user, password or schema"
		case net.ParseIP(host) == nil && !hostName.MatchString(host):
			return "this is not an address; write HOST:" + port
		case err != nil || number < 1 || number > 65535:
			return "the port must be a number from 1 to 65535; write HOST:" + port
		}
		*to = net.JoinHostPort(host, p)
		return ""
	})
}

func defaultState(getenv func(string) string) string {
	if os.Geteuid() == 0 {
		return "/var/lib/remora"
	}
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "remora")
	}
	if dir := getenv("HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, ".local", "state", "remora")
	}
	return ""
}
