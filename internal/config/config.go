package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// The defaults of what may be left out.
const (
	DefaultTemporalAddress = "127.0.0.1:7233"
	DefaultNamespace       = "remora"
	DefaultVerifyDays      = 30
)

// FileVariable is the environment variable that names the configuration file.
const FileVariable = "REMORA_CONFIG"

// Config is a configuration that has passed every check that needs no server. All paths are absolute.
type Config struct {
	// File is where it was read from.
	File string
	// State is the directory for what the programs keep on this machine: the single-machine Temporal server's file,
	// logs, connection files. Nothing in it is irreplaceable.
	State      string
	Repository Repository
	// VerifyDays is within how many days all bytes of every backup are read again.
	VerifyDays int
	// Copies are further repositories, by name, that hold copies of the backups.
	Copies   map[string]*Copy
	Temporal Temporal
	// Sources by name. Names lists them in order.
	Sources map[string]*Source
	// Stall is how long a copy may go without moving a byte before it is given up and tried again.
	Stall time.Duration
	// MaxBackup is how large a backup may be, in bytes before deduplication and compression; 0 means any size.
	MaxBackup int64
	// Compression is none, fastest, default or better; empty means that nobody chose.
	Compression string
	// Keep is which backups of a source stay where the source does not say.
	Keep remora.KeepPolicy
	// Notify is who is told what.
	Notify Notify
	// Monitor is how others watch over this installation.
	Monitor Monitor
	// Warnings are what a person should know although nothing is wrong, one line each.
	Warnings []string

	secrets []secret
}

// Repository says where backups live: in a directory or in a bucket. Both are missing where none is configured (a
// machine that only asks).
type Repository struct {
	// Path is the repository's directory.
	Path string
	// Bucket is nil when the repository is not in one.
	Bucket   *remora.Bucket
	Password remora.SecretFunc
	// PasswordFile is where Password is read from; empty when that is not a file.
	PasswordFile string
}

// Next reads the password that PasswordFile is about to hold, while that is changed (S13): beside the file itself, where that
// is a link to another's. It is nil where there is no file.
func (r Repository) Next() remora.SecretFunc {
	if r.PasswordFile == "" {
		return nil
	}
	return func() (remora.Secret, error) {
		file, err := filepath.EvalSymlinks(r.PasswordFile)
		if err != nil {
			return "", secretProblem(r.PasswordFile, err)
		}
		return ReadSecretFile(remora.NextFile(file))
	}
}

// Where names the directory or the bucket; it is empty where none is configured.
func (r Repository) Where() string { return cmp.Or(r.Path, r.Bucket.String()) }

// Copy is a further repository that backups are copied to.
type Copy struct {
	Repository
	// AfterBackup copies each backup as soon as it is completed.
	AfterBackup bool
	// Daily is the time of day, "03:30" in Zone, at which everything that is missing is copied; empty means never.
	Daily, Zone string
	// Keep says which backups stay in the copy; its zero value keeps all.
	Keep remora.KeepPolicy
}

// CopyNames lists the copies in alphabetical order, which is also the order in which they are looked into.
func (c *Config) CopyNames() []string { return slices.Sorted(maps.Keys(c.Copies)) }

// Temporal says where the control plane answers.
type Temporal struct {
	Address   string
	Namespace string
}

// Notify is who is told what. Nobody is, where neither mail nor webhook is set.
type Notify struct {
	// Email is nil where no mail is sent.
	Email *remora.Email
	// Webhook is nil where none is called.
	Webhook *remora.Webhook
	// OnSuccess tells of backups that completed, OnFailure of those that did not. Restores and alerts are always told.
	OnSuccess, OnFailure bool
}

// Monitor is how others watch over this installation.
type Monitor struct {
	// Listen is the host:port of a worker's /healthz, /readyz and /metrics; empty means none.
	Listen string
	// Ping is a URL that is asked while all is well, and whose owner raises the alarm when that ends; empty means none.
	Ping string
}

// Source is one application to protect. It has a database, files, or both.
type Source struct {
	Name string
	// Database is nil when the source has none.
	Database *Database
	// Files is nil when the source has none.
	Files       *Files
	Maintenance Maintenance
	// Checks are asked after a restore has switched.
	Checks []remora.Check
	// After are programs with their arguments, run after each switch: they reset caches and queues.
	After [][]string
	// UndoWindow is how long a restore can be undone.
	UndoWindow time.Duration
	// Schedules are in the order of their names.
	Schedules []remora.Schedule
	// Keep says which backups stay.
	Keep remora.KeepPolicy
	// RecoveryPoint is how old the newest good backup may be, RecoveryTime how long a drill may take, and Drill how old the
	// newest proof may be; 0 means that nobody chose.
	RecoveryPoint, RecoveryTime, Drill time.Duration
}

// Kinds lists the components that the source has, database first.
func (s *Source) Kinds() []remora.Kind { return remora.Kinds(s.Database != nil, s.Files != nil) }

// Database says how to reach a source's database.
type Database struct {
	// Address is host:port, or the absolute path of a socket.
	Address  string
	User     string
	Password remora.SecretFunc
	// RestoreUser and RestorePassword are the user with writing rights, where it is apart from the reading one;
	// otherwise they equal User and Password.
	RestoreUser     string
	RestorePassword remora.SecretFunc
	// Schemas are one or more; they are backed up as of one moment and restored together.
	Schemas []string
	// Sessions is how many connections read or write at the same time, RestoreSessions how many do in a restore; 0 means
	// that nobody chose.
	Sessions, RestoreSessions int
	// Limits are what copies may ask of the server.
	Limits remora.Limits
	// SkipBinaryLog keeps what a restore stages out of the server's binary log.
	SkipBinaryLog bool
	// SingleTransaction reads in transactions of one moment; false keeps everybody from writing while it is read.
	SingleTransaction bool
	// Empty names the tables that a restore brings back without rows.
	Empty []string
	// Routines and Triggers tell whether these are part of a backup.
	Routines, Triggers bool
}

// Files says which directories belong to a source.
type Files struct {
	// Root is the directory that holds the directories.
	Root string
	// Directories are slash-separated and relative to Root; none lies inside another.
	Directories []string
	// Exclude are patterns, as doublestar understands them, of what is left out.
	Exclude []string
	// ByEntry exchanges what lies in the directories, which may be mounted, instead of the directories.
	ByEntry bool
}

// Maintenance says how the application is taken offline while a restore switches: at most one way is set.
type Maintenance struct {
	// Laravel is the directory of a Laravel application.
	Laravel string
	// Command runs programs.
	Command *MaintenanceCommand
	// HTTP asks the application, or something in front of it.
	HTTP *MaintenanceHTTP
	// File is created to take the application offline and removed to bring it back.
	File string
}

// MaintenanceCommand are programs with their arguments. Status may be empty.
type MaintenanceCommand struct{ Enter, Leave, Status []string }

// MaintenanceHTTP are URLs. Status may be empty, and Token nil.
type MaintenanceHTTP struct {
	Enter, Leave, Status string
	Token                remora.SecretFunc
}

// Names lists the sources in alphabetical order.
func (c *Config) Names() []string { return slices.Sorted(maps.Keys(c.Sources)) }

// Expected is what is expected of each source, in the order of their names.
func (c *Config) Expected() (all []remora.Expected) {
	for _, name := range c.Names() {
		s := c.Sources[name]
		all = append(all, remora.Expected{
			Source: name, Kinds: s.Kinds(), RecoveryPoint: s.RecoveryPoint, RecoveryTime: s.RecoveryTime, Drill: s.Drill, Schedules: s.Schedules,
		})
	}
	return all
}

// Source finds a source by name; an unknown name is a Problem with a suggestion.
func (c *Config) Source(name string) (*Source, error) {
	if s, ok := c.Sources[name]; ok {
		return s, nil
	}
	hint := "The configuration has no sources yet."
	if near := nearest(name, c.Names()); near != "" {
		hint = fmt.Sprintf("Did you mean %s?", near)
	} else if len(c.Sources) > 0 {
		hint = fmt.Sprintf("Configured in %s: %s.", c.File, joined(c.Names(), "and"))
	}
	return nil, remora.Fail(remora.NotFound, "find the source", name, hint, "no source has this name")
}

// Places lists where a configuration is looked for when neither --config nor REMORA_CONFIG names one.
func Places() []string { return []string{"remora.yaml", "/etc/remora/remora.yaml"} }

// Load reads the configuration from path; where path is empty from the file that REMORA_CONFIG names; otherwise from
// the first of Places that exists. Every error is a Problem of kind Invalid; when the content is wrong it wraps
// Mistakes, all of them. Load opens no password file: see Check.
func Load(path string, getenv func(string) string) (*Config, error) {
	file, err := find(path, getenv)
	if err != nil {
		return nil, err
	}
	text, err := read(file)
	if err != nil {
		return nil, err
	}
	return Parse(file, text, getenv)
}

// Parse reads a configuration that stands in file, or is about to. Its errors are those of Load.
func Parse(file string, text []byte, getenv func(string) string) (*Config, error) {
	c, mistakes := parse(file, text, getenv)
	if len(mistakes) == 0 {
		return c, nil
	}
	return nil, &remora.Problem{Op: "read the configuration", Kind: remora.Invalid, Err: mistakes}
}

func find(path string, getenv func(string) string) (string, error) {
	named := cmp.Or(path, getenv(FileVariable))
	if named == "" {
		for _, place := range Places() {
			if _, err := os.Stat(place); err == nil {
				return filepath.Abs(place)
			}
		}
		return "", remora.Fail(remora.Invalid, "find the configuration", "",
			"Write one with: remora init --mysql DSN --files DIR   or name it with --config FILE or "+FileVariable+".", "there is neither ./%s nor %s", Places()[0], Places()[1])
	}
	abs, err := filepath.Abs(named)
	if err != nil {
		return "", unreadable(named, err)
	}
	return abs, nil
}

// maxFile bounds the file, in bytes: a configuration is a page or two, and the parser is slow with brackets in brackets.
const maxFile = 64 << 10

func read(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, unreadable(file, err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, unreadable(file, err)
	}
	if len(text) > maxFile {
		return nil, unreadable(file, fmt.Errorf("it is larger than %d KiB and cannot be a configuration", maxFile>>10))
	}
	return text, nil
}

func unreadable(file string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint = "Check the path, or write a configuration with: remora init"
	case errors.Is(err, fs.ErrPermission):
		hint = "Run the command as the user that owns the file, or let this user read it."
	}
	return remora.Fail(remora.Invalid, "read the configuration", file, hint, "%w", remora.Cause(err))
}
