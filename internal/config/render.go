package config

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"text/template"
)

// Draft is what a new configuration file says. Empty fields are left out, or appear as comments that show what could
// be written there.
type Draft struct {
	// State and TemporalAddress are written as comments with their defaults when empty.
	State, TemporalAddress               string
	RepositoryPath, RepositoryPasswordAt string
	// Bucket is where the repository is in place of RepositoryPath.
	Bucket *DraftBucket
	// Source is the name of the one source.
	Source   string
	Database *DraftDatabase
	Files    *DraftFiles
	// Laravel is the directory of the application, where it is one.
	Laravel string
	// LaterSource and LaterRoot are lines of YAML that are not supported yet, and written as comments.
	LaterSource, LaterRoot []string
}

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
	t, err := template.New("remora.yaml").Funcs(template.FuncMap{"value": Value, "values": values}).Parse(skeleton)
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

// Value writes text as YAML does: plain where that is safe, otherwise quoted.
func Value(s string) (string, error) {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
	default:
		if plainValue.MatchString(s) {
			return s, nil
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b) // what JSON quotes, YAML reads
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return "", fmt.Errorf("quote a value: %w", err)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

func values(list []string) (string, error) {
	out := make([]string, len(list))
	for i, s := range list {
		var err error
		if out[i], err = Value(s); err != nil {
			return "", err
		}
	}
	return "[" + strings.Join(out, ", ") + "]", nil
}
