package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/testenv"
)

// sample is one measurement.
type sample struct {
	wall, client, server time.Duration
	resident             int64 // the client's peak, in bytes
	stored               int64 // bytes
	said                 answer
}

// place is a server that is measured.
type place struct {
	testing.TB
	*testenv.MySQLServer
	dir      string
	sessions int
	runs     int
}

func newPlace(t testing.TB, s *testenv.MySQLServer) *place {
	return &place{TB: t, MySQLServer: s, dir: t.TempDir(), sessions: number(t, "SESSIONS", "4")}
}

func (p *place) host() string { host, _, _ := strings.Cut(p.Address, ":"); return host }

func (p *place) port() string { _, port, _ := strings.Cut(p.Address, ":"); return port }

// child is an order as a process.
func (p *place) child(o order) *exec.Cmd {
	o.Address, o.Sessions = p.Address, p.sessions
	text, err := json.Marshal(o)
	require.NoError(p, err)
	cmd := exec.CommandContext(p.Context(), os.Args[0])
	file := filepath.Join(p.dir, "order") // a list of statements is too long for an environment
	require.NoError(p, os.WriteFile(file, text, 0o600))
	cmd.Env = append(os.Environ(), childVariable+"="+file)
	return cmd
}

// do measures an order.
func (p *place) do(o order) sample {
	p.Helper()
	cmd := p.child(o)
	var out bytes.Buffer
	cmd.Stdout = &out
	s := p.measure(cmd)
	require.NoError(p, json.Unmarshal(out.Bytes(), &s.said))
	s.stored = s.said.Added
	return s
}

// measure runs commands at the same time until all have ended. Files that they read and write are closed.
func (p *place) measure(cmds ...*exec.Cmd) sample {
	p.Helper()
	before, began := p.serverCPU(), time.Now()
	logs := make([]bytes.Buffer, len(cmds))
	for i, cmd := range cmds {
		if cmd.Stderr == nil {
			cmd.Stderr = &logs[i]
		}
		require.NoError(p, cmd.Start())
	}
	for _, cmd := range cmds { // the ends of pipes are theirs alone now, or the last would wait for more
		for _, file := range []any{cmd.Stdin, cmd.Stdout} {
			if file, ok := file.(*os.File); ok {
				_ = file.Close()
			}
		}
	}
	peaks := make([]int64, len(cmds))
	done, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			for i, cmd := range cmds {
				peaks[i] = max(peaks[i], resident(cmd.Process.Pid))
			}
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	var s sample
	for i, cmd := range cmds {
		err := cmd.Wait()
		require.NoError(p, err, "%s\n%s", cmd, logs[i].String())
		s.client += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	s.wall, s.server = time.Since(began), p.serverCPU()-before
	close(done)
	<-watched
	for _, peak := range peaks {
		s.resident += peak
	}
	return s
}

// resident is the most memory that a process has had at once; that of a process that began others is their parents'.
func resident(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	line, _, _ := strings.Cut(after, "kB")
	n, _ := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	return n << 10
}

// serverCPU is the CPU that the server has used.
func (p *place) serverCPU() time.Duration {
	pid, err := os.ReadFile(filepath.Join(filepath.Dir(p.Datadir()), "pid"))
	require.NoError(p, err)
	stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
	require.NoError(p, err, "the server must be a process of this machine: unset REMORA_TEST_ENGINE")
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		require.NoError(p, err)
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100)
}

// settle waits until the server has written what it has in memory alone: the next measurement must not pay for the last.
func (p *place) settle() {
	p.Helper()
	db := p.DB(p)
	defer func() { _ = db.Close() }()
	variable := func(query string) (value string) {
		require.NoError(p, db.QueryRowContext(p.Context(), query).Scan(new(string), &value))
		return value
	}
	set := func(low, high int) {
		_, err := db.ExecContext(p.Context(), fmt.Sprintf("SET GLOBAL innodb_max_dirty_pages_pct_lwm = %d, GLOBAL innodb_max_dirty_pages_pct = %d", low, high))
		require.NoError(p, err)
	}
	set(0, 0)
	testenv.Wait(p, 10*time.Minute, "the server to write its pages", func() error {
		if n, _ := strconv.Atoi(variable("SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")); n > 200 {
			return fmt.Errorf("%d dirty pages", n)
		}
		return nil
	})
	if p.MariaDB() {
		set(0, 90)
	} else {
		set(10, 90)
	}
}

// statements are what work sent to the server, in order.
func (p *place) statements(work func()) (all []string) {
	p.Helper()
	db := p.DB(p)
	exec := func(statement string) {
		_, err := db.ExecContext(p.Context(), statement)
		require.NoError(p, err)
	}
	exec("SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = OFF; TRUNCATE mysql.general_log; SET GLOBAL general_log = ON")
	work()
	exec("SET GLOBAL general_log = OFF")
	rows, err := db.QueryContext(p.Context(), "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log WHERE command_type = 'Query' ORDER BY event_time")
	require.NoError(p, err)
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var one string
		require.NoError(p, rows.Scan(&one))
		all = append(all, one)
	}
	require.NoError(p, rows.Err())
	return all
}

// of finds statements by how they begin and what they hold; - in front of it tells what they must not hold.
func of(all []string, prefix string, parts ...string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool {
		return !strings.HasPrefix(s, prefix) || slices.ContainsFunc(parts, func(part string) bool {
			unwanted, not := strings.CutPrefix(part, "-")
			return not == strings.Contains(s, unwanted)
		})
	})
}

// storedIn is the size of what is in a directory.
func (p *place) storedIn(dir string) (bytes int64) {
	err := filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var info os.FileInfo
			if info, err = e.Info(); err == nil {
				bytes += info.Size()
			}
		}
		return err
	})
	require.NoError(p, err)
	return bytes
}
