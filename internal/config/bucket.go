package config

import (
	"net"
	"net/url"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/remora-backup/remora/internal/remora"
)

var (
	bucketName   = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	bucketPrefix = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*/?$`)
	lockMode     = regexp.MustCompile("^(" + remora.Compliance + "|" + remora.Governance + ")$")
	regionName   = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
)

// bucket reads where in an S3 storage a repository is.
func (r *reader) bucket(c *Config, to **remora.Bucket) setter {
	return func(key string, n ast.Node) {
		b := &remora.Bucket{}
		access, secretKey, token := secret{key: key, name: "access_key"}, secret{key: key, name: "secret_key"}, secret{key: key, name: "session_token"}
		known := fields{
			"endpoint":    r.endpoint(b),
			"bucket":      r.matching(&b.Name, bucketName, "a bucket's name has 3 to 63 of a-z, 0-9, . and -"),
			"prefix":      r.matching(&b.Prefix, bucketPrefix, "write a prefix of letters, digits, _ . - and /, such as shop or backups/shop"),
			"region":      r.matching(&b.Region, regionName, "a region's name has letters, digits and -"),
			"path_style":  r.flag(&b.PathStyle),
			"ca_file":     r.path(&b.CAFile),
			"object_lock": r.objectLock(&b.Lock),
		}
		r.mapping(key, n, r.places(r.places(r.places(known, &access), &secretKey), &token))
		if !isMapping(n) {
			return
		}
		r.need(key, "endpoint", "HOST:PORT, or https://HOST")
		r.need(key, "bucket", "NAME")
		const needed = "keys do not stand in this file"
		b.AccessKey, b.SecretKey = r.secret(c, access, needed), r.secret(c, secretKey, needed)
		if token.file != "" || token.env != "" {
			b.SessionToken = r.secret(c, token, "")
		}
		if b.Prefix != "" {
			b.Prefix = strings.TrimSuffix(b.Prefix, "/") + "/"
		}
		*to = b
	}
}

// endpoint reads HOST:PORT, HOST, https://HOST or http://HOST; TLS is left out only where it says http://. A message
// never repeats it: it may hold a key.
func (r *reader) endpoint(b *remora.Bucket) setter {
	return r.lined(func(value string) string {
		if !strings.Contains(value, "://") {
			value = "https://" + value
		}
		u, err := url.Parse(value)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.Host == "" ||
			strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" ||
			net.ParseIP(u.Hostname()) == nil && !hostName.MatchString(u.Hostname()) {
			return "this is not the address of a storage; write HOST:PORT, https://HOST or http://HOST, without keys and bucket"
		}
		b.Endpoint, b.Plain = u.Host, u.Scheme == "http"
		return ""
	})
}

func (r *reader) objectLock(to *remora.ObjectLock) setter {
	return func(key string, n ast.Node) {
		r.mapping(key, n, fields{
			"mode": r.matching(&to.Mode, lockMode, "write compliance, which nobody can lift, or governance"),
			"days": r.number(&to.Days, 2, 36500),
		})
		if isMapping(n) && (!r.has(key, "mode") || !r.has(key, "days")) {
			r.wrongKey(key, "it needs mode: compliance or governance, and days: N")
		}
	}
}
