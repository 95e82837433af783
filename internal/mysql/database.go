package mysql

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// Config says which schema of which server a source's database is.
type Config struct {
	// Source is the name of the source, Installation the id of the repository that it is backed up to.
	Source, Installation string
	// Address is host:port, or the absolute path of a socket.
	Address string
	// User and Password read, and write too when RestoreUser is empty. Passwords are read again for each connection.
	User     string
	Password remora.SecretFunc
	// RestoreUser and RestorePassword, where given, are used by everything that writes or reads a stage.
	RestoreUser     string
	RestorePassword remora.SecretFunc
	// Schemas are the schemas of the source, one or more. They are backed up as of one moment and switched as one.
	Schemas []string
	// Empty names tables that a restore brings back without rows: "jobs", or "shop.jobs".
	Empty []string
	// WithoutRoutines and WithoutTriggers leave these out of backups; a restore of such a backup keeps the live ones.
	WithoutRoutines, WithoutTriggers bool
	// Reserved are schemas of other sources: nothing is built in them.
	Reserved []string
	// Sessions is how many connections copy rows at the same time, RestoreSessions how many do in a restore; 0 means as
	// many as this machine and the server have use for, and as Sessions.
	Sessions, RestoreSessions int
	// LockAll keeps everybody from writing to the server while it is read.
	LockAll bool
	// Limits are what copies may ask of the server.
	Limits remora.Limits
	// SkipBinaryLog keeps what a restore stages, but not its switch, out of the server's binary log.
	SkipBinaryLog bool
	// Stall is how long a copy may stand still before its caller gives it up: the server waits longer than that for its
	// reader (S22). 0 means 300 seconds.
	Stall time.Duration
	// StaysOnline says that nothing takes the application offline while a restore switches.
	StaysOnline bool
	// Log takes what is worth knowing but no error; nil means nowhere.
	Log *slog.Logger
}

const maxSessions = 64

// Database is the database component of a source. It holds no connection between calls.
type Database struct {
	cfg   Config
	log   *slog.Logger
	read  account
	write account
	// chosen is what of a part is built elsewhere: see Into.
	chosen remora.Selection
	// staged is where checks find the schemas of a drill: see Staged.
	staged map[string]string
	// rangeBytes and maxWaiting are those of the package; tests have smaller ones.
	rangeBytes int64
	maxWaiting int
	// pauseLimit is how long a copy pauses at a time.
	pauseLimit time.Duration
	// switchPatience is for how long a switch tries to get past others.
	switchPatience time.Duration
	// free is how much is free in a directory; tests say it.
	free func(dir string) *int64
}

var (
	_ remora.Component = (*Database)(nil)
	_ remora.Previewer = (*Database)(nil)
	_ remora.Preparer  = (*Database)(nil)
)

// New checks the configuration. It does not connect.
func New(cfg Config) (*Database, error) {
	invalid := func(subject, why, hint string) (*Database, error) {
		return nil, &remora.Problem{Op: "configure the database", Kind: remora.Invalid, Subject: subject, Hint: hint, Err: errors.New(why)}
	}
	switch {
	case cfg.Source == "" || cfg.Installation == "":
		return invalid("source "+cfg.Source, "a source and an installation are needed", "")
	case cfg.Address == "":
		return invalid("source "+cfg.Source, "the server's address is missing", "set address to host:port, such as 127.0.0.1:3306")
	case cfg.User == "" || cfg.Password == nil:
		return invalid("source "+cfg.Source, "the user or its password is missing", "set user and password_file")
	case len(cfg.Schemas) == 0:
		return invalid("source "+cfg.Source, "no schema is configured", "set schemas to the application's schemas")
	case max(cfg.Sessions, cfg.RestoreSessions) > maxSessions || min(cfg.Sessions, cfg.RestoreSessions) < 0:
		return invalid("source "+cfg.Source, fmt.Sprintf("sessions must be between 1 and %d", maxSessions), "")
	}
	for i, schema := range cfg.Schemas {
		switch {
		case !plausibleSchema(schema):
			return invalid("schema "+schema, "this is not the schema of an application", "name the application's own schemas")
		case slices.Contains(cfg.Schemas[:i], schema):
			return invalid("schema "+schema, "it is named twice", "name each schema once")
		}
	}
	cfg.RestoreSessions, cfg.Stall = cmp.Or(cfg.RestoreSessions, cfg.Sessions), cmp.Or(cfg.Stall, remora.DefaultStall)
	d := &Database{cfg: cfg, log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)), read: account{cfg.User, cfg.Password}, rangeBytes: rangeBytes, maxWaiting: maxWaiting, pauseLimit: defaultPause, switchPatience: switchPatience, free: freeOn}
	d.write = d.read
	if cfg.RestoreUser != "" {
		d.write = account{cfg.RestoreUser, cfg.RestorePassword}
	}
	if d.write.password == nil {
		return invalid("source "+cfg.Source, "the restore user has no password", "set restore.password_file")
	}
	return d, nil
}

func plausibleSchema(name string) bool {
	switch strings.ToLower(name) {
	case "", "mysql", "sys", "information_schema", "performance_schema":
		return false
	}
	const outside = 0xffff // no server has these in names; MySQL makes question marks of them
	return !ours(name) && len([]rune(name)) <= 64 && !strings.HasSuffix(name, " ") && !strings.ContainsFunc(name, func(r rune) bool { return r == 0 || r > outside })
}

// prefix begins every name that we give to something on a server.
const prefix = "_remora"

// ours tells whether a schema's name is one that we gave.
func ours(schema string) bool { return strings.HasPrefix(strings.ToLower(schema), prefix) }

// short is the run's part of a schema's name: 12 hex digits. It is a digest because the ids of workflows may begin
// with a clock, so that two of one moment would begin alike.
func short(run string) string {
	sum := sha256.Sum256([]byte(run))
	return hex.EncodeToString(sum[:6])
}

// putAwaySchema is side a of a restore: where the replaced tables of the source's nth schema lie while the restored
// ones are live.
func putAwaySchema(run string, n int) string { return fmt.Sprintf("%s_%s_%d_a", prefix, short(run), n) }

// stageSchema is side b: where an attempt stages, and where the restored tables lie while the replaced ones are live.
func stageSchema(run string, n, attempt int) string {
	return fmt.Sprintf("%s_%s_%d_b%d", prefix, short(run), n, attempt)
}

// name names the source's schemas for people: "shop", or "shop, crm".
func (d *Database) name() string { return strings.Join(d.cfg.Schemas, ", ") }

// subject is the source's schemas as the subject of a problem.
func (d *Database) subject() string {
	if len(d.cfg.Schemas) == 1 {
		return "schema " + d.name()
	}
	return "schemas " + d.name()
}

// tableName names a table for people, by the schema that it belongs to when it is live.
func tableName(schema, table string) string { return "table " + schema + "." + table }

// within runs work with a context of its own that ends after limit: for statements whose outcome must be known even
// when the caller has lost interest.
func within(ctx context.Context, limit time.Duration, work func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	return work(ctx)
}
