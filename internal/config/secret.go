package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

// secret is where a password lies: in a file, or in an environment variable.
type secret struct {
	key, name string // the key path of its owner, and what the keys NAME_file and NAME_env say
	file, env string
	read      remora.SecretFunc
}

// reader gives the function that reads the password when it is needed (S21). No place means no password.
func (s secret) reader(getenv func(string) string) remora.SecretFunc {
	switch {
	case s.file != "":
		return func() (remora.Secret, error) { return ReadSecretFile(s.file) }
	case s.env != "":
		return func() (remora.Secret, error) { return readSecretVariable(s.env, getenv) }
	default:
		return func() (remora.Secret, error) { return "", nil }
	}
}

func readSecretVariable(name string, getenv func(string) string) (remora.Secret, error) {
	value := getenv(name)
	if value == "" {
		return "", remora.Fail(remora.Denied, "read a password", "environment variable "+name,
			"Set the variable where the command and the worker run, or name a file instead of it.", "it is not set")
	}
	return remora.Secret(value), nil
}

// maxSecret bounds a password file, in bytes.
const maxSecret = 64 << 10

// secretMounts is where container engines mount secrets.
const secretMounts = "/run/secrets/"

// ReadSecretFile reads a password from a file. One line end after it is not part of it. A file that everybody can read,
// or that others can change, is refused: what it holds is no longer a secret. The exception is a secret that an engine
// has mounted into this container: its mode is not ours to choose, and nobody else is in the container.
func ReadSecretFile(file string) (remora.Secret, error) {
	f, err := os.Open(file) //nolint:gosec // the operator names the file
	if err != nil {
		return "", secretProblem(file, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", secretProblem(file, err)
	}
	if err := private(file, info); err != nil && !mounted(f) {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", secretProblem(file, err)
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	switch {
	case value == "":
		return "", secretProblem(file, errors.New("it is empty"))
	case len(text) > maxSecret:
		return "", secretProblem(file, fmt.Errorf("it is larger than %d KiB and cannot hold a password", maxSecret>>10))
	case strings.ContainsAny(value, "\r\n\x00"):
		return "", secretProblem(file, errors.New("it has more than one line; a password file holds the password alone"))
	}
	return remora.Secret(value), nil
}

// mounted tells whether an open file is a secret of a container: it lies, with every symlink followed, where engines
// mount secrets, and the mount cannot be written to. On a machine of its own, such a place is an ordinary folder.
func mounted(f *os.File) bool {
	var st unix.Statfs_t
	at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	return err == nil && strings.HasPrefix(at, secretMounts) && unix.Fstatfs(int(f.Fd()), &st) == nil && st.Flags&unix.ST_RDONLY != 0
}

// private refuses a password file that is not the owner's (and its group's) alone.
func private(file string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return secretProblem(file, errors.New("it is not a regular file"))
	}
	if perm := info.Mode().Perm(); perm&0o027 != 0 {
		return remora.Fail(remora.Denied, "read a password", file,
			fmt.Sprintf("Run: chmod 600 %s", remora.ShellWord(file)), "its mode is %04o: others than its owner can read or change it", perm)
	}
	return nil
}

func secretProblem(file string, err error) error {
	p := &remora.Problem{Op: "read a password", Kind: remora.Denied, Subject: file, Err: remora.Cause(err)}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Err = errors.New("the file is missing")
		p.Hint = "Put the password into that file with mode 0600, or correct its name in the configuration."
	case errors.Is(err, fs.ErrPermission):
		p.Hint = "Run the command and the worker as the user that owns the file."
	}
	return p
}
