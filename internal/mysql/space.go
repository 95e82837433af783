package mysql

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

// space tells what a stage takes on the file systems of the server: its tables with their keys, its rows once more where
// they go into the binary log, and the largest keys while they are sorted (S27). What is free there is seen only where
// the server runs on this machine. The sizes are guesses, so a restore is refused where not even half is free.
func (d *Database) space(ctx context.Context, s *session, op string, p part, live []census, unlogged bool) (all []remora.Space, err error) {
	vars, err := s.variables(ctx, "datadir", "log_bin", "log_bin_basename", "tmpdir", "innodb_tmpdir", "hostname")
	if err != nil {
		return nil, err
	}
	data, keys, largest := stageSize(p, live)
	at := func(dir, what string, need int64) {
		if need == 0 {
			return
		}
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(vars["datadir"], dir)
		}
		all = append(all, remora.Space{At: dir, For: what, Need: need})
	}
	at(vars["datadir"], "the stage", data+keys)
	if vars["log_bin"] == "ON" && !unlogged {
		at(filepath.Dir(vars["log_bin_basename"]), "the binary log", data)
	}
	sorting, _, _ := strings.Cut(vars["tmpdir"], ":")
	if vars["innodb_tmpdir"] != "" {
		sorting = vars["innodb_tmpdir"]
	}
	at(sorting, "sorting keys", largest)
	if !d.here(vars["hostname"]) {
		return all, nil
	}
	return d.fits(op, all)
}

// stageSize guesses the bytes of a stage, by those of the tables as they are live, or else by their text: of its rows, of
// its keys, and of the table with the largest.
func stageSize(p part, live []census) (data, keys, largest int64) {
	for i, schema := range p.Schemas {
		for _, t := range schema.Tables {
			rows, index := 3*t.Bytes/2, t.Bytes/2
			if now := live[i].table(t.Name); now.rows > 0 {
				scale := float64(t.Rows) / float64(now.rows)
				rows, index = int64(scale*float64(now.bytes)), int64(scale*float64(now.keyBytes))
			}
			data, keys, largest = data+rows, keys+index, max(largest, index)
		}
	}
	return data, keys, largest
}

// here tells whether the server runs on this machine: under its name, and at an address that no other one has. A
// container that publishes its port has another name.
func (d *Database) here(hostname string) bool {
	host, _, err := net.SplitHostPort(d.cfg.Address)
	if ip := net.ParseIP(host); err == nil && host != "localhost" && !ip.IsLoopback() {
		return false
	}
	name, err := os.Hostname()
	return err == nil && name == hostname
}

// fits puts together what lies on one file system, and refuses what cannot fit.
func (d *Database) fits(op string, all []remora.Space) (by []remora.Space, err error) {
	var devices []uint64
	for _, sp := range all {
		var info unix.Stat_t
		if unix.Stat(sp.At, &info) != nil { // another machine of that name after all, or out of sight
			by, devices = append(by, sp), append(devices, 0)
			continue
		}
		if i := slices.Index(devices, info.Dev); i >= 0 {
			by[i].For, by[i].Need = by[i].For+" and "+sp.For, by[i].Need+sp.Need
			continue
		}
		if free, err := d.free(sp.At); err == nil {
			sp.Free = &free
		}
		by, devices = append(by, sp), append(devices, info.Dev)
	}
	for _, sp := range by {
		if sp.Free != nil && *sp.Free < sp.Need/2 {
			return by, remora.Fail(remora.Full, op, sp.At, "make room there: the stage lies beside the live data until the restore is accepted",
				"%s needs about %s, and %s is free", sp.For, humanize.Bytes(uint64(sp.Need)), humanize.Bytes(uint64(*sp.Free)))
		}
	}
	return by, nil
}

// freeOn is what is free on the file system of a directory.
func freeOn(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("look for free space in %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
