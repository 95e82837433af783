package config

import (
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/remora-backup/remora/internal/remora"
)

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
