package config

import (
	"time"

	"github.com/goccy/go-yaml/ast"
)

// objectives reads what is promised of a source's backups.
func (r *reader) objectives(s *Source) setter {
	return func(key string, n ast.Node) {
		r.mapping(key, n, fields{"recovery_point": r.duration(&s.RecoveryPoint, time.Minute, 8784*time.Hour)}, "recovery_time", "drill")
	}
}
