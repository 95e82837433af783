package maintenance

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/testenv"
)

// leaver is set in the process that TestS3… starts and freezes.
const leaver = "REMORA_MAINTENANCE_LEAVES"

func TestMain(m *testing.M) {
	if path := os.Getenv(leaver); path != "" {
		if err := owned(FlagFile(path), "apply").Leave(context.Background(), "run-1"); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// owned is a mode in the hands of one workflow of a run.
func owned(m Mode, by string) Mode { return m.(interface{ For(string) Mode }).For(by) }

// S3: what one workflow of a run has entered, a late Leave of another one does not end: a rollback is in maintenance for the
// same run as the restore was.
func TestS3ALateLeaveEndsNoOtherMaintenance(t *testing.T) {
	for name, build := range applications() {
		t.Run(name, func(t *testing.T) {
			a := build(t)
			apply, turn := owned(a.mode, "apply"), owned(a.mode, "turn")
			require.NoError(t, apply.Enter(t.Context(), "run-1"))
			require.NoError(t, apply.Enter(t.Context(), "run-1"))
			require.NoError(t, apply.Leave(t.Context(), "run-1"))
			require.False(t, a.offline())
			require.NoError(t, turn.Enter(t.Context(), "run-1"))
			require.NoError(t, apply.Leave(t.Context(), "run-1"))
			require.True(t, a.offline(), "a rollback is at work")
			theirs, err := apply.Offline(t.Context(), "run-1")
			require.NoError(t, err)
			require.False(t, theirs, "it is still of the run")
			require.NoError(t, turn.Leave(t.Context(), "run-1"))
			require.False(t, a.offline())

			// What a terminated workflow has entered is taken over by the next one, and left by who cannot know.
			require.NoError(t, apply.Enter(t.Context(), "run-1"))
			require.NoError(t, turn.Enter(t.Context(), "run-1"))
			require.NoError(t, apply.Leave(t.Context(), "run-1"))
			require.True(t, a.offline())
			require.NoError(t, a.mode.Leave(t.Context(), "run-1"))
			require.False(t, a.offline())

			// What an earlier version has entered, whoever comes after it leaves.
			require.NoError(t, a.mode.Enter(t.Context(), "run-1"))
			require.NoError(t, turn.Leave(t.Context(), "run-1"))
			require.False(t, a.offline())
		})
	}
}

// S3: a process that was frozen when it had just seen that it may leave takes nothing away that came meanwhile.
func TestS3AFrozenProcessThatLeavesTakesNothingAway(t *testing.T) {
	ours := `{"run": "run-1", "by": "apply"}`
	for name, c := range map[string]struct {
		now   string
		stays bool
	}{
		"of an operator":             {`{"down": "by hand"}`, true},
		"of a rollback":              {`{"run": "run-1", "by": "turn"}`, true},
		"nobody's":                   {"", false},
		"what it was asked to leave": {ours, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "down")
			require.NoError(t, syscall.Mkfifo(path, 0o600)) // it stands still while it reads
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), leaver+"="+path)
			cmd.Stderr = os.Stderr
			require.NoError(t, cmd.Start())
			w, err := os.OpenFile(path, os.O_WRONLY, 0) // returns when it reads
			require.NoError(t, err)
			_, err = w.WriteString(ours)
			require.NoError(t, err)
			require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
			testenv.Wait(t, 10e9, "it stands still", func() error { return frozen(cmd.Process.Pid) })

			require.NoError(t, os.Remove(path))
			if c.now != "" {
				require.NoError(t, os.WriteFile(path, []byte(c.now), 0o600))
			}
			require.NoError(t, w.Close())
			require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
			require.NoError(t, cmd.Wait())
			if c.stays {
				text, err := os.ReadFile(path)
				require.NoError(t, err)
				require.Equal(t, c.now, string(text))
			} else {
				require.NoFileExists(t, path)
			}
			left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".remora*"))
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func frozen(pid int) error {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err == nil && !strings.Contains(string(text), ") T ") {
		err = context.DeadlineExceeded
	}
	return err
}
