package mysql

import (
	"cmp"
	"context"
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
	var devices []uint64
	here := d.here(vars["hostname"])
	at := func(dir, what string, need int64) {
		if dir = filepath.Clean(dir); !filepath.IsAbs(dir) {
			dir = filepath.Join(vars["datadir"], dir)
		}
		var info unix.Stat_t
		sp := remora.Space{At: dir, For: what, Need: need}
		if here && unix.Stat(dir, &info) == nil { // else another machine of that name after all, or out of sight
			if i := slices.Index(devices, info.Dev); i >= 0 {
				all[i].For, all[i].Need = all[i].For+", "+what, all[i].Need+need
				return
			}
			sp.Free = d.free(dir)
		}
		all, devices = append(all, sp), append(devices, info.Dev)
	}
	data, keys, largest := stageSize(p, live)
	at(vars["datadir"], "the stage", data+keys)
	if vars["log_bin"] == "ON" && !unlogged {
		at(filepath.Dir(vars["log_bin_basename"]), "the binary log", data)
	}
	at(cmp.Or(vars["innodb_tmpdir"], strings.Split(vars["tmpdir"], ":")[0]), "sorting keys", largest)
	for _, sp := range all {
		if sp.Free != nil && *sp.Free < sp.Need/2 {
			return all, remora.Fail(remora.Full, op, sp.At, "make room there: the stage lies beside the live data until the restore is accepted",
				"%s: about %s, and %s is free", sp.For, humanize.Bytes(uint64(sp.Need)), humanize.Bytes(uint64(*sp.Free)))
		}
	}
	return all, nil
}

// stageSize guesses the bytes of a stage: of its rows by their text, of its keys by what those of the live table are to its
// rows, and of the largest keys of a table. How many rows are live, the server only believes to know.
func stageSize(p part, live []census) (data, keys, largest int64) {
	for i, schema := range p.Schemas {
		for _, t := range schema.Tables {
			rows, share := t.Bytes*6/5+t.Rows*40, 1./3
			if now := live[i].table(t.Name); now.bytes > 0 {
				share = float64(now.keyBytes) / float64(now.bytes)
			}
			index := int64(share * float64(rows))
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

// freeOn is what is free on the file system of a directory, nil where that is not seen.
func freeOn(dir string) *int64 {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return nil
	}
	return new(int64(st.Bavail) * st.Bsize)
}
