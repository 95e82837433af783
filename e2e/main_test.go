// Package e2e runs the built programs as their users do: the command, a worker that may be killed, a real MySQL, a real
// Temporal server and real files; and judges what they did by independent readings.
package e2e

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/remora-backup/remora/internal/testenv"
)

// bin is the folder of the programs under test, built once.
var bin string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if bin, err = os.MkdirTemp("", "remora-e2e-bin-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(bin) }()
	for name, pkg := range map[string]string{"remora": "starter", "remora-worker": "worker"} {
		build := exec.Command("go", "build", "-o", filepath.Join(bin, name), "github.com/remora-backup/remora/"+pkg)
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", name, err, out)
			return 1
		}
	}
	// Those that run beside each other mostly wait, and there are more of them than processors.
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return testenv.Run(m)
}

// lookAtSources is for the go command, which keeps results: it does not see that these depend on the sources of the programs
// unless a test looks at them.
var lookAtSources = sync.OnceValue(func() (err error) {
	for _, dir := range []string{"starter", "worker", "workflows", "activities", "internal"} {
		err = errors.Join(err, filepath.WalkDir(filepath.Join("..", dir), func(_ string, _ fs.DirEntry, err error) error { return err }))
	}
	return err
})
