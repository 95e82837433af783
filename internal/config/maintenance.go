package config

import (
	"maps"
	"net/url"

	"github.com/goccy/go-yaml/ast"
)

func (r *reader) maintenance(c *Config, to *Maintenance) setter {
	return func(key string, n ast.Node) {
		ways := fields{
			"laravel": r.path(&to.Laravel),
			"command": func(key string, n ast.Node) { to.Command = r.maintenanceCommand(key, n) },
			"http":    func(key string, n ast.Node) { to.HTTP = r.maintenanceHTTP(c, key, n) },
			"file":    r.path(&to.File),
		}
		r.mapping(key, n, ways)
		maps.DeleteFunc(ways, func(way string, _ setter) bool { return !r.has(key, way) })
		if len(ways) > 1 {
			r.wrongKey(key, "there is one way to take an application offline; keep one of laravel, command, http and file")
		}
	}
}

func (r *reader) maintenanceCommand(key string, n ast.Node) *MaintenanceCommand {
	m := &MaintenanceCommand{}
	r.mapping(key, n, fields{"enter": r.texts(&m.Enter), "leave": r.texts(&m.Leave), "status": r.texts(&m.Status)})
	r.need(key, "enter", "[PROGRAM, ARGUMENT, …]; no shell is involved")
	r.need(key, "leave", "[PROGRAM, ARGUMENT, …]; no shell is involved")
	r.filled(below(key, "enter"), len(m.Enter), "write [PROGRAM, ARGUMENT, …]")
	r.filled(below(key, "leave"), len(m.Leave), "write [PROGRAM, ARGUMENT, …]")
	r.filled(below(key, "status"), len(m.Status), "write [PROGRAM, ARGUMENT, …]")
	return m
}

// commands reads a list of programs with their arguments.
func (r *reader) commands(to *[][]string) setter {
	return r.list("[[PROGRAM, ARGUMENT, …], …]", func(key string, n ast.Node) {
		if _, ok := n.(*ast.SequenceNode); !ok {
			r.wrong(key, n, "%s, but each command is a list; write [PROGRAM, ARGUMENT, …]; no shell is involved", kindOf(n))
			return
		}
		var argv []string
		r.texts(&argv)(key, n)
		r.filled(key, len(argv), "write [PROGRAM, ARGUMENT, …]")
		*to = append(*to, argv)
	})
}

func (r *reader) maintenanceHTTP(c *Config, key string, n ast.Node) *MaintenanceHTTP {
	m := &MaintenanceHTTP{}
	token := secret{key: key, name: "token"}
	r.mapping(key, n, r.places(fields{
		"enter": r.url(&m.Enter), "leave": r.url(&m.Leave), "status": r.url(&m.Status),
	}, &token))
	r.need(key, "enter", "URL")
	r.need(key, "leave", "URL")
	if token.file != "" || token.env != "" {
		m.Token = r.secret(c, token, "")
		if openly(m.Enter) || openly(m.Leave) {
			r.wrongKey(key, "a token is not sent without encryption; write https://")
		}
	}
	return m
}

// url reads the URL of a web server. A message never repeats it: it may hold a password.
func (r *reader) url(to *string) setter {
	return r.lined(func(text string) string {
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
			return "this is not the URL of a web server; write https://HOST/PATH"
		case u.User != nil:
			return "a password does not stand in a URL; write token_file: FILE or token_env: VARIABLE"
		case u.Fragment != "":
			return "a URL for a server has no #; remove it"
		}
		*to = text
		return ""
	})
}

// openly tells whether a URL leads to another machine without encryption.
func openly(to string) bool {
	u, err := url.Parse(to)
	return err == nil && u.Scheme == "http" && !loopback(u.Hostname())
}

// String names the way for people; it is empty where nothing is done.
func (m Maintenance) String() string {
	switch {
	case m.Laravel != "":
		return "Laravel in " + m.Laravel
	case m.Command != nil:
		return "command " + m.Command.Enter[0]
	case m.HTTP != nil:
		u, _ := url.Parse(m.HTTP.Enter) // it was read as one
		return "hook at " + u.Host
	default:
		return m.File
	}
}
