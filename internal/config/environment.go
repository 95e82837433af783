package config

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// environment applies the variables that have a place in the configuration: those that operators of Laravel applications
// have already.
func (r *reader) environment(c *Config) {
	if path := r.getenv("BACKUP_STORAGE_PATH"); path != "" && c.Repository.Path == "" && !r.has("repository", "path", "s3") {
		if !filepath.IsAbs(path) {
			r.add(Mistake{Key: "BACKUP_STORAGE_PATH", Text: "the environment variable must be an absolute path"})
		}
		c.Repository.Path = filepath.Clean(path)
	}
	if seconds, ok := r.wholeVariable("DB_BACKUP_TIMEOUT", " of seconds", 1, 86400); ok {
		c.Stall = time.Duration(seconds) * time.Second
	}
	if megabytes, ok := r.wholeVariable("BACKUP_MAX_FILE_SIZE", " of megabytes", 1, 1<<32); ok {
		c.MaxBackup = megabytes << 20
	}
	if level, ok := r.wholeVariable("BACKUP_COMPRESSION_LEVEL", "", 0, 9); ok {
		c.Compression = []string{"none", "fastest", "default", "better"}[(level+2)/3]
	}
	single, routines, triggers := true, true, true
	r.switchVariable("DB_BACKUP_SINGLE_TRANSACTION", &single)
	r.switchVariable("DB_BACKUP_ROUTINES", &routines)
	r.switchVariable("DB_BACKUP_TRIGGERS", &triggers)
	for _, s := range c.Sources {
		if s.Database != nil {
			s.Database.SingleTransaction, s.Database.Routines, s.Database.Triggers = single, routines, triggers
		}
	}
	r.keepDefaults(c)
	r.notifyVariables(c)
	if c.State == "" && !r.has("", "state") {
		c.State = defaultState(r.getenv)
		if c.State == "" {
			r.add(Mistake{File: r.file, Line: 1, Column: 1, Key: "state", Text: "there is no home directory to keep state in; write state: DIR"})
		}
	}
	r.costs(c)
}

// costs says what a choice costs that is honoured.
func (r *reader) costs(c *Config) {
	for _, name := range c.Names() {
		if d := c.Sources[name].Database; d != nil {
			for _, choice := range []struct {
				kept          bool
				variable, why string
			}{
				{d.SingleTransaction, "DB_BACKUP_SINGLE_TRANSACTION", "nobody can write to any schema of the server while a backup reads"},
				{d.Routines, "DB_BACKUP_ROUTINES", "routines are left out of backups, and a restore keeps the live ones"},
				{d.Triggers, "DB_BACKUP_TRIGGERS", "triggers are left out of backups, and a restore keeps the live ones"},
			} {
				if !choice.kept {
					c.Warnings = append(c.Warnings, "sources."+name+": "+choice.variable+" is false: "+choice.why)
				}
			}
		}
	}
}

// wholeVariable reads a whole number from the environment; ok is false where there is none.
func (r *reader) wholeVariable(name, unit string, least, most int64) (number int64, ok bool) {
	text := strings.TrimSpace(r.getenv(name))
	if text == "" {
		return 0, false
	}
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || number < least || number > most {
		r.add(Mistake{Key: name, Text: fmt.Sprintf("the environment variable must be a whole number%s from %d to %d", unit, least, most)})
		return 0, false
	}
	return number, true
}

// switchVariable reads true or false from the environment, where it is set.
func (r *reader) switchVariable(name string, to *bool) {
	switch strings.ToLower(strings.Trim(strings.TrimSpace(r.getenv(name)), "()")) {
	case "":
	case "true", "1", "on", "yes":
		*to = true
	case "false", "0", "off", "no":
		*to = false
	default:
		r.add(Mistake{Key: name, Text: "the environment variable must be true or false"})
	}
}
