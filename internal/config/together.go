package config

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// together checks what makes sense only when all keys are known.
func (r *reader) together(c *Config) {
	if len(c.Sources) > 0 && c.Repository.Path == "" && !r.has("repository", "path", "s3") {
		r.wrongKey("repository", "sources need a repository; write repository: {path: DIR, password_file: FILE}, or s3: in place of path:")
	}
	if len(c.Sources) == 0 && !r.mistaken("sources") {
		c.Warnings = append(c.Warnings, "sources: there are none yet; nothing is backed up")
	}
	if elsewhere(c.Temporal.Address) {
		c.Warnings = append(c.Warnings, "temporal.address: "+c.Temporal.Address+" is reached without encryption; keep it inside a private network")
	}
	all := map[string]Repository{"repository": c.Repository}
	for _, name := range c.CopyNames() {
		key := "copies." + name
		for other, at := range all {
			if at.Bucket != nil && at.Where() == c.Copies[name].Where() {
				r.wrongKey(below(key, "s3"), "it is the same place as that of %s; a copy beside the original is none", other)
			}
		}
		all[key] = c.Copies[name].Repository
	}
	for key, at := range all {
		if b := at.Bucket; b != nil && b.Plain && elsewhere(b.Endpoint) {
			c.Warnings = append(c.Warnings, key+".s3.endpoint: "+b.Endpoint+" is reached without TLS; backups are encrypted all the same, but anybody between can hold them up")
		}
	}
	r.overlappingSchemas(c)
	r.overlappingDirectories(c)
}

// overlappingSchemas refuses two sources that would restore the same schema (S11).
func (r *reader) overlappingSchemas(c *Config) {
	owner := map[string]string{}
	for _, name := range c.Names() {
		d := c.Sources[name].Database
		if d == nil || d.Address == "" {
			continue
		}
		for _, schema := range d.Schemas {
			place := server(d.Address) + "/" + schema
			if other, taken := owner[place]; taken {
				r.wrongKey("sources."+name+".database.schemas", "schema %s on this server already belongs to source %s; a schema has one source", schema, other)
				continue
			}
			owner[place] = name
		}
	}
}

// server makes the addresses of one server equal, as far as that can be told offline.
func server(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if loopback(host) {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// elsewhere tells whether an address is beyond this machine.
func elsewhere(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && !loopback(host)
}

// place is a directory that belongs to somebody.
type place struct {
	key, what string // the key that names it, and its owner in words
	path      string // with symbolic links resolved
	source    bool
	backups   bool
}

// overlappingDirectories refuses directories that lie within one another: a restore of one would exchange the other
// under its feet (S11), a repository inside a source would back itself up, and a copy beside the original is none.
func (r *reader) overlappingDirectories(c *Config) {
	places := []place{
		{key: "state", what: "the state directory", path: c.State},
		{key: "repository.path", what: "the repository", path: c.Repository.Path, backups: true},
	}
	for _, name := range c.CopyNames() {
		places = append(places, place{key: "copies." + name + ".path", what: "the copy " + name, path: c.Copies[name].Path, backups: true})
	}
	places = slices.DeleteFunc(places, func(own place) bool { return own.path == "" })
	for _, name := range c.Names() {
		files := c.Sources[name].Files
		if files == nil || files.Root == "" {
			continue
		}
		for i, dir := range files.Directories {
			key := fmt.Sprintf("sources.%s.files.directories[%d]", name, i)
			if r.mistaken(key) {
				continue
			}
			places = append(places, place{
				key:    key,
				what:   fmt.Sprintf("directory %s of source %s", dir, name),
				path:   filepath.Join(files.Root, filepath.FromSlash(dir)),
				source: true,
			})
		}
	}
	for i := range places {
		places[i].path = resolved(places[i].path)
		a := places[i]
		for _, b := range places[:i] {
			if (a.source || a.backups && b.backups) && (inside(a.path, b.path) || inside(b.path, a.path)) {
				r.wrongKey(a.key, "it overlaps with %s: %s and %s; keep them apart", b.what, a.path, b.path)
			}
		}
	}
}

// inside tells whether a is b or lies within it.
func inside(a, b string) bool {
	rel, err := filepath.Rel(b, a)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// resolved follows the symbolic links of as much of the path as exists.
func resolved(path string) string {
	rest := ""
	for at := path; ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		if at == filepath.Dir(at) {
			return path
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}

// Check looks at what the configuration names on this machine, without asking any server: password files and
// variables, and the directories of the sources. It gives further warnings and every error that it finds.
func (c *Config) Check() (warnings []string, errs []error) {
	for _, s := range c.secrets {
		if _, err := s.read(); err != nil {
			errs = append(errs, err)
			continue
		}
		if info, err := os.Stat(s.file); s.file != "" && !strings.HasPrefix(s.file, secretMounts) && err == nil && info.Mode().Perm()&0o040 != 0 {
			warnings = append(warnings, fmt.Sprintf("%s: the group can read %s; chmod 600 keeps it to its owner", below(s.key, s.name+"_file"), s.file))
		}
	}
	for _, name := range c.Names() {
		warnings = append(warnings, c.Sources[name].missing()...)
	}
	return warnings, errs
}

// missing warns of directories that are not there (or not visible from this machine).
func (s *Source) missing() (warnings []string) {
	if s.Files == nil {
		return nil
	}
	for _, dir := range s.Files.Directories {
		path := filepath.Join(s.Files.Root, filepath.FromSlash(dir))
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			warnings = append(warnings, fmt.Sprintf("sources.%s.files: there is no directory %s on this machine", s.Name, path))
		}
	}
	return warnings
}
