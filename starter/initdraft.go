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

// placeInBucket understands HOST/BUCKET/PREFIX with https://, http:// or nothing before it, and finds the keys. Those that
// expire are not written down.
func (b *beginning) placeInBucket(a *app, dir, text string) error {
	const how = "Write s3:https://HOST/BUCKET or s3:https://HOST/BUCKET/PREFIX."
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "https", strings.TrimPrefix(text, "//")
	}
	parts := strings.SplitN(rest, "/", 3)
	if len(parts) < 2 || parts[1] == "" || strings.Contains(parts[0], "@") {
		return initProblem("--repository", "it names no bucket", how+" Keys do not stand there.")
	}
	d := &config.DraftBucket{Endpoint: scheme + "://" + parts[0], Name: parts[1]}
	if len(parts) == 3 {
		d.Prefix = strings.Trim(parts[2], "/")
	}
	b.draft.Bucket = d
	b.accessKey, b.secretKey = a.Getenv("AWS_ACCESS_KEY_ID"), remora.Secret(a.Getenv("AWS_SECRET_ACCESS_KEY"))
	switch {
	case b.accessKey == "" || b.secretKey == "":
		return initProblem("--repository", "the keys of the storage are missing", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment of this command.")
	case a.Getenv("AWS_SESSION_TOKEN") != "":
		b.warnings = append(b.warnings, "the keys of the storage expire: whatever renews them has to set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN for the worker, or write files that remora.yaml names")
	default:
		d.AccessKeyAt, d.SecretKeyAt = filepath.Join(dir, "s3.access-key"), filepath.Join(dir, "s3.secret-key")
	}
	return nil
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
		why, hint = remora.Cause(err).Error(), "Name a directory that exists on this machine."
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
