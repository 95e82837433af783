package standalone

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/remora-backup/remora/internal/remora"
)

// takeState makes the directories and takes the lock that only one `remora up` can hold.
func takeState(dir string) (io.Closer, error) {
	for _, d := range []string{dir, filepath.Join(dir, "temporal"), filepath.Join(dir, "log")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, stateProblem(dir, err)
		}
	}
	file := filepath.Join(dir, "up.lock")
	lock := flock.New(file, flock.SetPermissions(0o600))
	taken, err := lock.TryLock()
	if err != nil {
		return nil, stateProblem(dir, err)
	}
	if !taken {
		who := "another `remora up`"
		if pid, err := os.ReadFile(file); err == nil && len(pid) > 0 {
			who += " (process " + strings.TrimSpace(string(pid)) + ")"
		}
		return nil, remora.Fail(remora.Busy, "take the state directory", dir,
			"One is enough for all sources. Stop that one first, or give this one a state directory and a port of its own.", "%s uses it", who)
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return nil, errors.Join(stateProblem(dir, err), lock.Close())
	}
	return lock, nil
}

func stateProblem(dir string, err error) error {
	kind := remora.Unavailable
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrExist) {
		kind = remora.Invalid
	}
	return remora.Fail(kind, "take the state directory", dir, "Let this user write there, or set state in the configuration.", "%w", err)
}

// stateFile is Temporal's state; versionFile, beside it, the server that wrote it.
const (
	stateFile   = "temporal.db"
	versionFile = "temporal.version"
)

// pin writes down which server the state file in dir belongs to, and refuses a server of another version: it would
// neither upgrade the file nor refuse it by itself (S31).
func pin(ctx context.Context, binary, dir string) (version string, err error) {
	version, err = serverVersion(ctx, binary)
	if err != nil {
		return "", err
	}
	note := filepath.Join(dir, versionFile)
	_, err = os.Stat(filepath.Join(dir, stateFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.WriteFile(note, []byte(version+"\n"), 0o600); err != nil {
			return "", stateProblem(dir, err)
		}
		return version, nil
	case err != nil:
		return "", stateProblem(dir, err)
	}
	known, err := os.ReadFile(note)
	wrote := strings.TrimSpace(string(known))
	if err != nil || wrote == "" {
		wrote = "of an unknown version"
	}
	if wrote == version {
		return version, nil
	}
	return "", remora.Fail(remora.Invalid, "start Temporal", binary,
		"Name a program with the server that wrote it in "+TemporalVariable+". Or, when no backup or restore is running and no undo window is open "+
			"(remora status), move "+dir+" away: a new one is made, and nothing in the old one is irreplaceable.",
		"it is server %s, and the state in %s was written by server %s", version, dir, wrote)
}

var server = regexp.MustCompile(`Server ([^ ,)]+)`)

// serverVersion asks the program which server it holds.
func serverVersion(ctx context.Context, binary string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, "--version").Output()
	problem := &remora.Problem{
		Op: "ask for the version of Temporal", Kind: remora.Invalid, Subject: binary, Err: err,
		Hint: "Is this Temporal's own program? It is described at https://docs.temporal.io/cli.",
	}
	if err != nil {
		return "", problem
	}
	found := server.FindSubmatch(out)
	if found == nil {
		problem.Err = errors.New("its --version names no server")
		return "", problem
	}
	return string(found[1]), nil
}
