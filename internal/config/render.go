package config

import (
	"bytes"
	_ "embed"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"text/template"

	"github.com/remora-backup/remora/internal/remora"
)

// Draft is what a new configuration file says. Empty fields are left out, or appear as comments that show what could
// be written there.
type Draft struct {
	RepositoryPath, RepositoryPasswordAt string
	// Bucket is where the repository is in place of RepositoryPath.
	Bucket *DraftBucket
	// Source is the name of the one source.
	Source   string
	Database *DraftDatabase
	Files    *DraftFiles
	// Laravel is the directory of the application, where it is one.
	Laravel string
	// Zone is that of the clock of the nightly schedule; empty means UTC.
	Zone string
	// Mail stands in a comment: its password is not known.
	Mail DraftMail
}

// DraftMail is whom a Draft would have mail sent to, and by which server.
type DraftMail struct{ To, From, Server, TLS, User string }

// DraftBucket is the repository of a Draft that is in a bucket. AccessKeyAt and SecretKeyAt are files; where they are
// empty, the usual environment variables hold keys that expire.
type DraftBucket struct{ Endpoint, Name, Prefix, AccessKeyAt, SecretKeyAt string }

// DraftDatabase is the database of a Draft. PasswordAt is a file, empty for a user without a password.
type DraftDatabase struct{ Address, User, PasswordAt, Schema string }

// DraftFiles is the files of a Draft.
type DraftFiles struct {
	Root        string
	Directories []string
}

//go:embed remora.yaml.tmpl
var skeleton string

// Render writes a commented configuration file that Load accepts.
func Render(d Draft) ([]byte, error) {
	t, err := template.New("remora.yaml").Funcs(template.FuncMap{"value": value, "values": values}).Parse(skeleton)
	if err != nil {
		return nil, fmt.Errorf("read the skeleton of a configuration: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, d); err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	return b.Bytes(), nil
}

// plainValue are texts that YAML reads as themselves, in lists too.
var plainValue = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./-]*$`)

// value writes text as YAML does: plain where that is safe, otherwise quoted.
func value(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
	default:
		if plainValue.MatchString(s) {
			return s
		}
	}
	return strconv.Quote(s) // what Go quotes, YAML reads
}

func values(list []string) string {
	return "[" + strings.Join(remora.Each(list, value), ", ") + "]"
}
