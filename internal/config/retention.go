package config

import (
	"github.com/goccy/go-yaml/ast"

	"github.com/remora-backup/remora/internal/remora"
)

// DefaultLast is how many of the newest good backups of a source stay where nobody chose.
const DefaultLast = 7

// keep reads which backups stay.
func (r *reader) keep(to *remora.KeepPolicy) fields {
	return fields{
		"keep_last":     r.number(&to.Last, 1, 100000),
		"database_days": r.number(&to.DatabaseDays, 0, 36500),
		"files_days":    r.number(&to.FilesDays, 0, 36500),
		"daily":         r.number(&to.Daily, 0, 36500),
		"weekly":        r.number(&to.Weekly, 0, 5000),
		"monthly":       r.number(&to.Monthly, 0, 1200),
		"yearly":        r.number(&to.Yearly, 0, 100),
	}
}

// keepInCopy reads the same for a copy, with the two keys that copies have had before.
func (r *reader) keepInCopy(to *remora.KeepPolicy) setter {
	return func(key string, n ast.Node) {
		days := 0
		known := r.keep(to)
		known["last"], known["days"] = known["keep_last"], r.number(&days, 1, 36500)
		r.mapping(key, n, known)
		for name, own := range map[string]*int{"database_days": &to.DatabaseDays, "files_days": &to.FilesDays} {
			if !r.has(key, name) {
				*own = days
			}
		}
	}
}

// keepDefaults fills in, from the environment, what a source does not say.
func (r *reader) keepDefaults(c *Config) {
	c.Keep = remora.KeepPolicy{Last: DefaultLast, DatabaseDays: 30, FilesDays: 14}
	for name, to := range map[string]*int{
		"BACKUP_DATABASE_RETENTION_DAYS": &c.Keep.DatabaseDays, "BACKUP_FILES_RETENTION_DAYS": &c.Keep.FilesDays,
	} {
		if days, ok := r.wholeVariable(name, " of days", 1, 36500); ok {
			*to = int(days)
		}
	}
	for name, s := range c.Sources {
		for key, own := range map[string]struct{ to, from *int }{
			"keep_last": {&s.Keep.Last, &c.Keep.Last}, "database_days": {&s.Keep.DatabaseDays, &c.Keep.DatabaseDays}, "files_days": {&s.Keep.FilesDays, &c.Keep.FilesDays},
		} {
			if !r.has("sources."+name+".retention", key) {
				*own.to = *own.from
			}
		}
	}
}

// KeepOf says which backups of a source stay in a copy, or in the repository where no copy is named. Its zero value
// keeps all: of a source that is not configured, and in a copy that says nothing.
func (c *Config) KeepOf(copied, source string) remora.KeepPolicy {
	if copied != "" {
		if to := c.Copies[copied]; to != nil {
			return to.Keep
		}
	} else if s := c.Sources[source]; s != nil {
		return s.Keep
	}
	return remora.KeepPolicy{}
}
