package standalone

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/remora-backup/remora/internal/remora"
)

// The environment variables that name the programs.
const (
	TemporalVariable = "REMORA_TEMPORAL"
	WorkerVariable   = "REMORA_WORKER"
)

const (
	temporalHint = "Put Temporal's own program `temporal` (https://docs.temporal.io/cli) beside remora or into PATH, or name it with " + TemporalVariable + "."
	workerHint   = "It is built and installed together with remora: put it beside remora or into PATH, or name it with " + WorkerVariable + "."
)

// find looks for a program where its variable says, beside our own program, and in PATH.
func find(name, variable string, cfg Config, hint string) (string, error) {
	problem := &remora.Problem{Op: "find the program", Kind: remora.Invalid, Subject: name, Hint: hint}
	if named := cfg.Getenv(variable); named != "" {
		path, err := filepath.Abs(named)
		if err == nil {
			err = executable(path)
		}
		if err != nil {
			problem.Err = fmt.Errorf("%s names %s: %w", variable, named, err)
			return "", problem
		}
		return path, nil
	}
	looked := []string{"$" + variable + " (not set)"}
	for _, dir := range append([]string{cfg.Beside}, filepath.SplitList(cfg.Getenv("PATH"))...) {
		if !filepath.IsAbs(dir) {
			continue // whatever lies in the current directory is not to be run
		}
		path := filepath.Join(dir, name)
		if executable(path) == nil {
			return path, nil
		}
		looked = append(looked, path)
	}
	problem.Err = errors.New("it is not there; looked at " + strings.Join(looked, ", "))
	return "", problem
}

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return remora.Cause(err)
	case info.IsDir():
		return errors.New("it is a directory")
	case info.Mode().Perm()&0o111 == 0:
		return errors.New("it is not executable")
	}
	return nil
}
