package filetree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

// The test binary runs itself as another process, to be killed, frozen, put into its own mount namespace or run as
// another user.
const (
	childVariable   = "REMORA_FILETREE_CHILD"
	parentVariable  = "REMORA_FILETREE_PARENT"
	byEntryVariable = "REMORA_FILETREE_BY_ENTRY" // not empty: exchange entries
)

func TestMain(m *testing.M) {
	if what := os.Getenv(childVariable); what != "" {
		if err := child(what, os.Getenv(parentVariable)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func child(what, parent string) error {
	tree, err := New(Config{Source: "shop", Installation: installation, Root: filepath.Join(parent, "public"), Directories: []string{"receipts", "deep/alerts"}, ByEntry: os.Getenv(byEntryVariable) != ""})
	if err != nil {
		return err
	}
	ctx := context.Background()
	switch what {
	case "turns": // there and back until somebody ends it
		for seq := nextSeq(tree); ; seq++ {
			live := remora.Restored
			if seq%2 == 0 {
				live = remora.Replaced
			}
			if err := tree.Switch(ctx, remora.Turn{Run: run1, Seq: seq, Live: live}); err != nil {
				return err
			}
		}
	case "stages":
		part := os.DirFS(filepath.Join(parent, "part"))
		for {
			if _, err := tree.Stage(ctx, job1, part); err != nil {
				return err
			}
		}
	case "copies": // again and again until somebody ends it
		for part := os.DirFS(filepath.Join(parent, "part")); ; {
			into := tree.Into(remora.Selection{To: filepath.Join(parent, "look")})
			if err := childCopy(ctx, into, part); err != nil {
				return err
			}
			gone := filepath.Join(parent, "gone")
			if err := errors.Join(os.RemoveAll(gone), os.Rename(filepath.Join(parent, "look"), gone)); err != nil {
				return err
			}
		}
	case "hold":
		if _, err := tree.lock(ctx, run2); err != nil {
			return err
		}
		fmt.Println("held")
		_, err = io.Copy(io.Discard, os.Stdin)
		return err
	case "stage", "switch", "discard": // once somebody says so
		fmt.Println("here")
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			return err
		}
		switch what {
		case "switch":
			return tree.Switch(ctx, remora.Turn{Run: run1, Seq: 1, Live: remora.Restored})
		case "discard":
			return tree.Discard(ctx, remora.Job{Run: run1, Seq: 1}, "the backup of the replaced side")
		}
		_, err := tree.Stage(ctx, job1, os.DirFS(filepath.Join(parent, "part")))
		return err
	case "preflight":
		_, err := tree.Preflight(ctx, job1, remora.Intent{From: os.DirFS(filepath.Join(parent, "part"))})
		return err
	case "capture":
		if _, err := tree.Preflight(ctx, job1, remora.Intent{}); err == nil {
			return fmt.Errorf("the preflight saw nothing wrong")
		}
		_, err := tree.Capture(ctx, job1, remora.Subject{}, &dirWriter{dir: filepath.Join(parent, "copy")})
		return err
	case "restore":
		return childRestore(ctx, tree, parent)
	}
	return fmt.Errorf("no such child: %s", what)
}

func childCopy(ctx context.Context, into remora.Component, from fs.FS) error {
	if _, err := into.Stage(ctx, job1, from); err != nil {
		return err
	}
	if diff, err := into.Compare(ctx, job1, from); err != nil || !diff.Equal() {
		return fmt.Errorf("compare: %v %w", diff.Differences, err)
	}
	if err := into.Switch(ctx, remora.Turn{Run: run1, Seq: 1, Live: remora.Restored}); err != nil {
		return err
	}
	return into.Discard(ctx, job1, "")
}

func nextSeq(tree *Tree) int {
	left, err := tree.Leftovers(context.Background())
	if err != nil || len(left) != 1 {
		return 1
	}
	return left[0].Seq + 1
}

func childRestore(ctx context.Context, tree *Tree, parent string) error {
	from := os.DirFS(filepath.Join(parent, "part"))
	est, err := tree.Preflight(ctx, job1, remora.Intent{From: from})
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(est.Warnings, "\n"))
	sum, err := tree.Stage(ctx, job1, from)
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(sum.Warnings, "\n"))
	diff, err := tree.Compare(ctx, job1, from)
	if err != nil || !diff.Equal() {
		return fmt.Errorf("compare: %v %w", diff.Differences, err)
	}
	for seq, live := range []remora.Side{remora.Restored, remora.Replaced, remora.Restored} {
		if err := tree.Switch(ctx, remora.Turn{Run: run1, Seq: seq + 1, Live: live}); err != nil {
			return err
		}
	}
	return tree.Discard(ctx, job1, "held")
}

func childCommand(t *testing.T, what string, s *site, before ...string) *exec.Cmd {
	t.Helper()
	args := append(before, os.Args[0])
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), childVariable+"="+what, parentVariable+"="+filepath.Dir(s.root))
	if s.tree.cfg.ByEntry {
		cmd.Env = append(cmd.Env, byEntryVariable+"=1")
	}
	return cmd
}

// withPart keeps the site's part where a child finds it.
func (s *site) withPart() *dirWriter {
	s.t.Helper()
	w := &dirWriter{dir: filepath.Join(filepath.Dir(s.root), "part")}
	require.NoError(s.t, os.Mkdir(w.dir, 0o755))
	_, err := s.tree.Capture(s.t.Context(), job1, remora.Subject{}, w)
	require.NoError(s.t, err)
	return w
}

func TestAKillBetweenTwoExchangesIsFinishedByTheNextCall(t *testing.T) {
	s := filled(t)
	good := s.look()
	part := s.withPart()
	s.damage()
	bad := s.look()
	s.ready(job1, part.fs())
	mixed := 0
	for range 40 {
		cmd := childCommand(t, "turns", s)
		require.NoError(t, cmd.Start())
		time.Sleep(time.Duration(20+rand.IntN(40)) * time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		left, err := s.tree.Leftovers(t.Context())
		require.NoError(t, err)
		h, err := s.tree.lock(t.Context(), run1)
		require.NoError(t, err)
		j, err := s.tree.ours(h.work, run1)
		require.NoError(t, err)
		spots, err := s.tree.spots(j)
		require.NoError(t, err)
		h.release()
		if _, ok := level(spots); !ok {
			mixed++
			requireProblem(t, s.tree.Discard(t.Context(), job1, "held"), remora.Fenced, "some directories")
			_, err := s.tree.Capture(t.Context(), job1, remora.Subject{}, &dirWriter{dir: t.TempDir()})
			requireProblem(t, err, remora.Busy, "between two directories")
		}
		if left[0].Seq == 0 {
			continue
		}
		require.NoError(t, s.turn(left[0].Seq, j.Live), "the same turn is finished")
		require.Equal(t, map[remora.Side]string{remora.Restored: good, remora.Replaced: bad}[j.Live], s.look())
	}
	t.Logf("%d of 40 kills fell between two directories", mixed)
	require.NoError(t, s.turn(1_000_000, remora.Replaced))
	require.NoError(t, s.tree.Discard(t.Context(), job1, "held"))
	require.Equal(t, bad, s.look())
	s.noWork()
}

// TestAStandBetweenTwoDirectories makes by hand what a kill only sometimes does.
func TestAStandBetweenTwoDirectories(t *testing.T) {
	for _, next := range []remora.Side{remora.Restored, remora.Replaced} {
		t.Run(string(next), func(t *testing.T) {
			s, good, bad := restored(t)
			stage := filepath.Join(s.tree.work, run1, "b1")
			require.NoError(t, unix.Renameat2(unix.AT_FDCWD, filepath.Join(stage, "receipts"), unix.AT_FDCWD, s.path("receipts"), unix.RENAME_EXCHANGE))
			require.NoError(t, s.turn(2, next))
			require.Equal(t, map[remora.Side]string{remora.Restored: good, remora.Replaced: bad}[next], s.look())
		})
	}
}

func TestAKilledStageLeavesNothingBehind(t *testing.T) {
	s := filled(t)
	for i := range 200 {
		s.write(fmt.Sprintf("receipts/many/%d", i), strings.Repeat("x", i))
	}
	before := s.look()
	part := s.withPart()
	for range 8 {
		cmd := childCommand(t, "stages", s)
		require.NoError(t, cmd.Start())
		time.Sleep(time.Duration(20+rand.IntN(100)) * time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		require.Equal(t, before, s.look())
	}
	s.ready(job1, part.fs())
	require.NoError(t, s.tree.Discard(t.Context(), job1, ""))
	s.noWork()
}

func TestS3AFrozenProcessKeepsTheLockAndIsNamed(t *testing.T) {
	s := filled(t)
	part := s.capture()
	cmd := childCommand(t, "hold", s)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line := make([]byte, 5)
	_, err = io.ReadFull(out, line)
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))

	began := time.Now()
	_, err = s.tree.Stage(t.Context(), job1, part.fs())
	requireProblem(t, err, remora.Busy, "process "+strconv.Itoa(cmd.Process.Pid), run2)
	require.Greater(t, time.Since(began), lockWait/2)

	require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
	require.NoError(t, stdin.Close())
	require.NoError(t, cmd.Wait())
	s.ready(job1, part.fs())
}

// inOwnMounts runs a shell script, and then a child, in a private mount namespace.
func inOwnMounts(t *testing.T, s *site, script, what string) (string, error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount something")
	}
	out, err := childCommand(t, what, s, "unshare", "-m", "sh", "-c", script+` && exec "$0"`).CombinedOutput()
	return string(out), err
}

func TestS7WhatIsMountedIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ script, says string }{
		"the directory is a mount point": {`mount --bind "$P/public/receipts" "$P/public/receipts"`, "cannot be exchanged"},
		"a mount below it":               {`mount -t tmpfs none "$P/public/receipts/2024"`, "cannot be exchanged"},
		"root is a mount point":          {`mount --bind "$P/public" "$P/public"`, "mounted on its own"},
		"it is mounted elsewhere":        {`mkdir "$P/view" && mount --bind "$P/public/receipts" "$P/view"`, "would keep the replaced directory"},
		"a folder in it is elsewhere":    {`mkdir "$P/view" && mount --bind "$P/public/receipts/2024" "$P/view"`, "would keep the replaced directory"},
	} {
		t.Run(name, func(t *testing.T) {
			s := filled(t)
			s.withPart()
			out, err := inOwnMounts(t, s, `P="$`+parentVariable+`"; `+c.script, "preflight")
			require.Error(t, err, out)
			require.Contains(t, out, c.says)
		})
	}
	s := filled(t)
	s.withPart()
	out, err := inOwnMounts(t, s, `P="$`+parentVariable+`"; mount --bind "$P" "$P"`, "restore")
	require.NoError(t, err, "a mount at the folder that holds root is fine: %s", out)
}

func TestS7AContainerThatHasItMountedIsNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount something")
	}
	s := filled(t)
	part := s.capture()
	view := t.TempDir()
	script := fmt.Sprintf("mount --bind %q %q && echo ready && exec sleep 60", s.path("receipts"), view)
	cmd := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", script)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	_, err = io.ReadFull(out, make([]byte, 6))
	require.NoError(t, err)
	_, err = s.tree.Preflight(t.Context(), job1, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Unsupported, s.path("receipts"), view, strconv.Itoa(cmd.Process.Pid))

	s.ready(job1, part.fs())
	requireProblem(t, s.turn(1, remora.Restored), remora.Unsupported, view)
	require.NoError(t, s.turn(2, remora.Replaced), "the way back asks no such question")
}

func TestAFullDiskIsToldApart(t *testing.T) {
	s := filled(t)
	s.write("receipts/big", strings.Repeat("x", 3<<20))
	s.withPart()
	small := `P="$` + parentVariable + `"; mkdir -p "$P/small" && mount -t tmpfs -o size=1m none "$P/small" && mkdir -p "$P/small/public/receipts" "$P/small/public/deep/alerts" && mkdir -p "$P/small/part" && `
	small += `mount --bind "$P/part" "$P/small/part" && export ` + parentVariable + `="$P/small"`

	out, err := inOwnMounts(t, s, small, "preflight")
	require.Error(t, err)
	require.Contains(t, out, "need 3.2 MB, have", out)

	// A census that promises less gets past the estimate: then the disk says it.
	file := filepath.Join(filepath.Dir(s.root), "part", remora.PartFile)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(text), strconv.Itoa(3<<20+3003), "3003")), 0o600))
	out, err = inOwnMounts(t, s, small, "restore")
	require.Error(t, err)
	require.Contains(t, out, "no space left on device")
}

// asNobody prepares a command that runs as a user without rights.
func asNobody(t *testing.T, cmd *exec.Cmd, s *site) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to run as somebody else")
	}
	binary := filepath.Join(t.TempDir(), "test")
	text, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(binary, text, 0o755))
	require.NoError(t, exec.CommandContext(t.Context(), "chown", "-R", "-h", "65534:65534", filepath.Dir(s.root)).Run())
	for at := filepath.Dir(s.root); at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
		require.NoError(t, os.Chmod(at, 0o755))
	}
	require.NoError(t, os.Chmod(filepath.Dir(filepath.Dir(binary)), 0o755))
	cmd.Path, cmd.Args = binary, []string{binary}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}

func TestAnUnreadableFileFailsByName(t *testing.T) {
	s := filled(t)
	cmd := asNobody(t, childCommand(t, "capture", s), s)
	require.NoError(t, os.Mkdir(filepath.Join(filepath.Dir(s.root), "copy"), 0o777))
	require.NoError(t, os.Chown(s.path("receipts/empty"), 0, 0))
	require.NoError(t, os.Chmod(s.path("receipts/empty"), 0o600))
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), s.path("receipts/empty")+"): permission denied")
}

func TestAWorkerWithoutRootRestoresWhatItMay(t *testing.T) {
	s := filled(t)
	require.NoError(t, os.Lchown(s.path("receipts/empty"), 33, 33))
	s.write("receipts/locked/x", "x")
	s.withPart()
	require.NoError(t, os.Chmod(s.path("receipts/locked"), 0o500))
	s.damage()
	cmd := asNobody(t, childCommand(t, "restore", s), s)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "the worker is not root")
	require.Contains(t, string(out), "33:33")
	require.Contains(t, string(out), "belong to uid 65534 now")
	require.FileExists(t, s.path("receipts/2024/one.pdf"))
	s.noWork()
}

// What a worker that is not root needs to restore the files of several owners, as docs/how-to/containers.md says.
func TestOwnersAndModesComeBackWithFourCapabilities(t *testing.T) {
	all := []uintptr{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID}
	for name, c := range map[string]struct {
		without uintptr
		says    string
	}{
		"all of them":          {},
		"without CHOWN":        {unix.CAP_CHOWN, "belong to uid 65534 now"},
		"without DAC_OVERRIDE": {unix.CAP_DAC_OVERRIDE, "permission denied"},
		"without FOWNER":       {unix.CAP_FOWNER, "operation not permitted"},
		"without FSETID":       {unix.CAP_FSETID, "should have the mode 2750"},
	} {
		t.Run(name, func(t *testing.T) {
			s := filled(t)
			s.write("receipts/team/x", "x")
			part := s.withPart()
			cmd := asNobody(t, childCommand(t, "restore", s), s)
			for _, root := range []string{s.root, part.dir} {
				require.NoError(t, os.Chown(filepath.Join(root, "receipts/empty"), 33, 33))
				require.NoError(t, os.Chmod(filepath.Join(root, "receipts/empty"), 0o600))
				require.NoError(t, exec.CommandContext(t.Context(), "chown", "-R", "34:34", filepath.Join(root, "receipts/team")).Run())
				require.NoError(t, os.Chmod(filepath.Join(root, "receipts/team"), 0o750|os.ModeSetgid))
			}
			for _, dir := range s.tree.cfg.Directories { // as part.json has it
				require.NoError(t, os.Chown(s.path(dir), 0, 0))
			}
			good := s.look()
			s.write("receipts/team/y", "y")
			cmd.SysProcAttr.AmbientCaps = slices.DeleteFunc(slices.Clone(all), func(one uintptr) bool { return c.says != "" && one == c.without })
			out, err := cmd.CombinedOutput()
			if c.says == "" {
				require.NoError(t, err, "%s", out)
				require.NotContains(t, string(out), "belong")
				require.Equal(t, good, s.look())
				s.noWork()
				return
			}
			require.Contains(t, string(out), c.says)
		})
	}
}

// S3: a process that was frozen while it held the lock may go on when it wakes, since nobody could take over; one that was
// frozen before it had it finds that it is late, whatever it was to do.
func TestS3AProcessThatWakesLateMovesNothing(t *testing.T) {
	for what, says := range map[string]string{
		"stage":   "has already been switched",
		"switch":  "comes after turn",
		"discard": "before turn 2",
	} {
		t.Run(what, func(t *testing.T) {
			s := filled(t)
			part := s.withPart()
			s.damage()
			bad := s.look()
			s.ready(job1, part.fs())
			if what == "discard" {
				require.NoError(t, s.turn(1, remora.Restored))
			}
			cmd := childCommand(t, what, s)
			var said strings.Builder
			cmd.Stderr = &said
			in, err := cmd.StdinPipe()
			require.NoError(t, err)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			_, err = io.ReadFull(out, make([]byte, 5))
			require.NoError(t, err)
			require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
			require.NoError(t, s.turn(1, remora.Restored))
			require.NoError(t, s.turn(2, remora.Replaced))
			require.NoError(t, in.Close())
			require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
			require.Error(t, cmd.Wait())
			require.Contains(t, said.String(), says)
			require.Equal(t, bad, s.look())
			require.NoError(t, s.turn(3, remora.Restored), "both sides are still there")
		})
	}
}

// S7: a file system that cannot exchange is found out in the plan. NFS is one; here the kernel says so in its place.
func TestS7AFileSystemThatCannotExchangeIsRefused(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs strace")
	}
	s := filled(t)
	s.withPart()
	before := describe(t, filepath.Dir(s.root))
	trace := []string{"strace", "-f", "-qq", "-o", os.DevNull, "-e", "inject=renameat2:error=EINVAL"}
	out, err := childCommand(t, "preflight", s, trace...).CombinedOutput()
	require.Error(t, err, "%s", out)
	require.Contains(t, string(out), "cannot exchange two directories")
	require.Equal(t, before, describe(t, filepath.Dir(s.root)), "nothing is left")
	out, err = childCommand(t, "preflight", s).CombinedOutput()
	require.NoError(t, err, "%s", out)
}
