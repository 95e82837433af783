package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/testenv"
)

// mydumper is a version of mydumper that can dump this server.
type mydumper struct {
	dir     string // of the programs
	version string
	old     bool // compresses with gzip alone
}

// findMydumper tries the newest that builds, and then what is installed; notes tell what did not do.
func (p *place) findMydumper(schema string) (found *mydumper, notes []string) {
	p.Helper()
	var dirs []string
	var log bytes.Buffer
	cmd := exec.CommandContext(p.Context(), filepath.Join(testenv.Root(p), "tools", "build-mydumper"))
	cmd.Stderr = &log
	if out, err := cmd.Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	} else {
		notes = append(notes, "mydumper was not built: "+strings.TrimSpace(log.String()))
	}
	if installed, err := exec.LookPath("mydumper"); err == nil {
		dirs = append(dirs, filepath.Dir(installed))
	}
	for _, dir := range dirs {
		m := &mydumper{dir: dir}
		out, _ := exec.CommandContext(p.Context(), filepath.Join(dir, "mydumper"), "--version").CombinedOutput()
		if fields := strings.Fields(string(out)); len(fields) > 1 {
			m.version = strings.Trim(fields[1], ",v")
		}
		m.old = strings.HasPrefix(m.version, "0.")
		to := filepath.Join(p.dir, "trial")
		text, err := p.dumpWith(m, schema, to).CombinedOutput()
		_ = os.RemoveAll(to)
		if err == nil {
			return m, notes
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		notes = append(notes, fmt.Sprintf("mydumper %s cannot dump this server: %v %s", m.version, err, lines[len(lines)-1]))
	}
	return nil, append(notes, "mydumper and myloader were not measured")
}

func (p *place) login(threads int) []string {
	return []string{"--host", p.host(), "--port", p.port(), "--user", "root", "--threads", strconv.Itoa(threads)}
}

func (p *place) dumpWith(m *mydumper, schema, to string) *exec.Cmd {
	args := append(p.login(p.sessions), "--database", schema, "--outputdir", to)
	if m.old {
		args = append(args, "--compress", "--rows", "200000") // it cuts no table by itself
	} else {
		args = append(args, "--compress=zstd")
	}
	return exec.CommandContext(p.Context(), filepath.Join(m.dir, "mydumper"), args...)
}

// loadWith loads a dump of mydumper into another schema. Like a restore of ours it writes the server's binary log.
func (p *place) loadWith(m *mydumper, from, schema string) *exec.Cmd {
	args := append(p.login(p.sessions), "--directory", from, "--database", schema)
	if m.old {
		args = append(args, "--enable-binlog")
	} else {
		file := filepath.Join(p.dir, "myloader.cnf")
		require.NoError(p, os.WriteFile(file, []byte("[myloader_session_variables]\nSQL_LOG_BIN = 1\n"), 0o600))
		args = append(args, "--defaults-file", file)
	}
	return exec.CommandContext(p.Context(), filepath.Join(m.dir, "myloader"), args...)
}

// stockDump is `mysqldump --single-transaction | zstd -1`, or without zstd where a plain file is wanted.
func (p *place) stockDump(schema, to string, compressed bool) []*exec.Cmd {
	p.Helper()
	program, args := "mysqldump", []string{"--no-defaults", "--set-gtid-purged=OFF", "--no-tablespaces"}
	if p.MariaDB() {
		program, args = "mariadb-dump", []string{"--no-defaults"}
	}
	dump := exec.CommandContext(p.Context(), filepath.Join(p.Bin(), program), append(args, "--host="+p.host(), "--port="+p.port(), "--user=root",
		"--single-transaction", "--routines", "--triggers", "--events", "--hex-blob", schema)...)
	file, err := os.Create(to)
	require.NoError(p, err)
	if !compressed {
		dump.Stdout = file
		return []*exec.Cmd{dump}
	}
	zstd := exec.CommandContext(p.Context(), "zstd", "-1", "-q")
	from, into, err := os.Pipe()
	require.NoError(p, err)
	zstd.Stdin, dump.Stdout, zstd.Stdout = from, into, file
	return []*exec.Cmd{dump, zstd}
}
