package testenv_test

import (
	"errors"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/testenv"
)

func TestWhoeverIsStarvedIsKilled(t *testing.T) {
	m, err := testenv.NewMemory(t)
	if err != nil {
		t.Skip(err)
	}
	start := func() (cmd *exec.Cmd, ended chan error) {
		cmd = exec.Command("sh", "-c", "read begin; x=x; while :; do x=$x$x; done") // takes ever more
		begin, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		require.NoError(t, m.Add(cmd.Process.Pid))
		ended = make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		defer func() { require.NoError(t, begin.Close()) }() // it reads its end
		require.NoError(t, m.Starve())
		return cmd, ended
	}
	cmd, ended := start()
	select {
	case err = <-ended:
	case <-time.After(20 * time.Second):
		err = errors.New("it lives")
	}
	require.Error(t, err)
	require.Equal(t, syscall.SIGKILL, cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
	killed, err := m.Killed()
	require.NoError(t, err)
	require.Equal(t, 1, killed)
	require.NoError(t, m.Feed())
	fed := exec.Command("sleep", "0.01")
	require.NoError(t, fed.Start())
	require.NoError(t, m.Add(fed.Process.Pid))
	require.NoError(t, fed.Wait())
}
