package testenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Memory is a control group of the kernel that can be starved: processes in it are killed then, as they are in a container
// whose limit is too low.
type Memory struct {
	dir string
	v2  bool
}

// NewMemory makes a group without a limit. It is gone when the test ends. The error says why there can be none here.
func NewMemory(t testing.TB) (*Memory, error) {
	t.Helper()
	m, err := memoryGroup()
	if err != nil {
		return nil, err
	}
	m.dir = filepath.Join(m.dir, dirPrefix+strconv.Itoa(os.Getpid())+"-"+strconv.FormatInt(time.Now().UnixNano(), 36))
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		return nil, fmt.Errorf("no control group can be made here: %w", err)
	}
	t.Cleanup(func() {
		_ = poll(10*time.Second, func() error { return os.Remove(m.dir) }) // once its processes are gone
	})
	if _, err := os.Stat(m.file("limit_in_bytes", "max")); err != nil {
		return nil, fmt.Errorf("control groups do not limit memory here: %w", err)
	}
	return m, nil
}

// memoryGroup finds where groups can be made: in our own, or, since in version 2 only leaves have processes, beside it.
func memoryGroup() (*Memory, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	own := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 {
			for controller := range strings.SplitSeq(parts[1], ",") {
				own[controller] = parts[2]
			}
		}
	}
	if at, there := own["memory"]; there {
		at = filepath.Join("/sys/fs/cgroup/memory", at)
		return &Memory{dir: at}, nil
	}
	at := filepath.Join("/sys/fs/cgroup", own[""])
	return &Memory{dir: filepath.Dir(at), v2: true}, nil
}

func (m *Memory) file(v1, v2 string) string {
	name := v1
	if m.v2 {
		name = v2
	}
	return filepath.Join(m.dir, "memory."+name)
}

// Add puts a process in: what it takes from now on counts.
func (m *Memory) Add(pid int) error {
	return os.WriteFile(filepath.Join(m.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

// Starve leaves the group what it has now and cannot give back: whoever asks for more is killed. Where others could give some
// back later, do it again.
func (m *Memory) Starve() error {
	if m.v2 {
		return os.WriteFile(m.file("", "max"), []byte("4096"), 0) // kills at once
	}
	// It takes no limit below what is in use, but frees what it can before it says so.
	_ = os.WriteFile(m.file("limit_in_bytes", ""), []byte("4096"), 0)
	for range 100 {
		used, err := os.ReadFile(m.file("usage_in_bytes", ""))
		if err != nil {
			return err
		}
		if err = os.WriteFile(m.file("limit_in_bytes", ""), used, 0); !errors.Is(err, syscall.EBUSY) {
			return err
		}
	}
	return syscall.EBUSY
}

// Feed takes the limit away.
func (m *Memory) Feed() error {
	none := "-1"
	if m.v2 {
		none = "max"
	}
	return os.WriteFile(m.file("limit_in_bytes", "max"), []byte(none), 0)
}

// Killed counts the processes that the kernel has killed for want of memory.
func (m *Memory) Killed() (n int, err error) {
	text, err := os.ReadFile(m.file("oom_control", "events"))
	for line := range strings.Lines(string(text)) {
		if count, is := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); is {
			return strconv.Atoi(count)
		}
	}
	return 0, errors.Join(err, errors.New("the kernel does not count whom it kills"))
}
