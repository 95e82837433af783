package main

import (
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
)

// dsn is a database as it was named on the command line.
type dsn struct {
	user, address, schema string
	password              remora.Secret
}

// driverDSN is USER:PASSWORD@tcp(HOST:PORT)/SCHEMA; the password may hold everything but a line break.
var driverDSN = regexp.MustCompile(`^([^:@/]+)(?::(.*))?@(tcp|unix)\(([^()]+)\)/([^/?]+)$`)

// parseDSN understands both usual forms. Its errors never repeat the text: it may hold a password.
func parseDSN(text string) (dsn, error) {
	if m := driverDSN.FindStringSubmatch(text); m != nil {
		d := dsn{user: m[1], password: remora.Secret(m[2]), address: m[4], schema: m[5]}
		if m[3] == "tcp" {
			d.address = withPort(d.address)
		}
		return d, nil
	}
	wrong := initProblem("--mysql", "this is not a DSN", "Write USER@tcp(HOST:PORT)/SCHEMA or mysql://USER@HOST:PORT/SCHEMA, in quotes, with nothing after the schema.")
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "mysql" || u.User == nil || u.User.Username() == "" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return dsn{}, wrong
	}
	schema := strings.TrimPrefix(u.Path, "/")
	if schema == "" || strings.Contains(schema, "/") {
		return dsn{}, wrong
	}
	password, _ := u.User.Password()
	return dsn{user: u.User.Username(), password: remora.Secret(password), address: withPort(u.Host), schema: schema}, nil
}

func withPort(address string) string {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return net.JoinHostPort(strings.Trim(address, "[]"), "3306")
	}
	return address
}

// draftFiles finds the root that the directories have in common. Symbolic links are followed now: a restore exchanges
// the directories themselves.
func draftFiles(dirs []string) (*config.DraftFiles, error) {
	if len(dirs) == 0 {
		return nil, nil
	}
	var real []string
	root := ""
	for _, dir := range dirs {
		path, err := realDirectory(dir)
		if err != nil {
			return nil, err
		}
		for _, other := range real {
			if within := common(path, other); within == path || within == other {
				return nil, initProblem("--files "+dir, "it overlaps with "+other, "Name each directory once, and none inside another.")
			}
		}
		real = append(real, path)
		root = common(root, filepath.Dir(path))
	}
	if root == "/" {
		return nil, initProblem("--files", "the directories have only / in common, and a restore is prepared beside what they have in common",
			"Name directories below one other directory; make a source of its own for the rest.")
	}
	f := &config.DraftFiles{Root: root}
	for _, path := range real {
		f.Directories = append(f.Directories, filepath.ToSlash(strings.TrimPrefix(path, root+"/")))
	}
	slices.Sort(f.Directories)
	return f, nil
}

func realDirectory(dir string) (string, error) {
	var info fs.FileInfo
	path, err := filepath.EvalSymlinks(dir)
	if err == nil {
		info, err = os.Stat(path)
	}
	var why, hint string
	switch {
	case !filepath.IsAbs(dir):
		why, hint = "it is not an absolute path", "Write the whole path, from / on."
	case err != nil:
		why, hint = reason(err), "Name a directory that exists on this machine."
	case !info.IsDir():
		why, hint = "it is not a directory", "Name the directory that holds it."
	case path == "/":
		why, hint = "the whole machine cannot be a source", "Name the directories of the application."
	default:
		return path, nil
	}
	return "", initProblem("--files "+dir, why, hint)
}

// common is the deepest directory that holds both; "" is no directory yet.
func common(a, b string) string {
	if a == "" {
		return b
	}
	for b != "/" && a != b && !strings.HasPrefix(a, b+"/") {
		b = filepath.Dir(b)
	}
	return b
}
