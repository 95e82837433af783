package config

import (
	"github.com/goccy/go-yaml/ast"
)

func (r *reader) monitor(c *Config) setter {
	return func(key string, n ast.Node) {
		r.mapping(key, n, fields{"listen": r.address(&c.Monitor.Listen, "9464"), "ping": r.url(&c.Monitor.Ping)})
		if elsewhere(c.Monitor.Listen) {
			c.Warnings = append(c.Warnings, below(key, "listen")+": whoever reaches "+c.Monitor.Listen+" can read the names of the sources and how their backups went; keep it inside a private network")
		}
	}
}
