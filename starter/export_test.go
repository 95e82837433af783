package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// exported puts a backup with a database of one table into the repository; its part.json says that rows were written.
func (p *place) exported(name, rows string) {
	sum := sha256.Sum256([]byte("1\tAnn\n"))
	part := fmt.Sprintf(`{"format": 2, "taken": "2026-11-23T09:00:00Z", "server": {"version": "9.7.4"}, "consistency": "one moment", "schemas": [{"name": "shop", "directory": "shop", "charset": "utf8mb4", "collation": "utf8mb4_bin", "tables": [{
		"name": "users", "definition": "CREATE TABLE %[1]susers%[1]s (\n  %[1]sid%[1]s int NOT NULL,\n  %[1]sname%[1]s text\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4", "columns": [{"name": "id", "type": "int"}, {"name": "name", "type": "text"}],
		"rows": 1, "bytes": 6, "ranges": [{"file": "shop/users.00001.tsv", "rows": 1, "bytes": 6, "sha256": %[2]q}]}]}]}`, "`", hex.EncodeToString(sum[:]))
	p.repository(func(ctx context.Context, r *repository.Repository) {
		w, err := r.Begin(ctx, repository.Spec{Source: "shop", Run: name, Backup: name, Kind: remora.Database})
		require.NoError(p.t, err)
		for path, text := range map[string]string{"shop/users.00001.tsv": rows, remora.PartFile: part} {
			require.NoError(p.t, w.Put(ctx, path, func(to io.Writer) error { _, err := io.WriteString(to, text); return err }))
		}
		root, added, err := w.Finish(ctx)
		require.NoError(p.t, err)
		_, err = r.Commit(ctx, remora.Manifest{
			Format: remora.ManifestFormat, ID: name, Run: name, Source: "shop", Name: name, Kind: remora.DatabaseBackup, Purpose: remora.Regular, Started: now(), Ended: now(),
			Parts: []remora.PartRef{{Kind: remora.Database, Root: root, Added: added, Started: now(), Ended: now(), Summary: remora.Summary{Objects: 1, Entries: 1, Bytes: 6}}},
		})
		require.NoError(p.t, err)
	})
}

func TestExportWritesWhatLoadsOrNothing(t *testing.T) {
	p := newPlace(t, nobody, "remora", "shop")
	p.exported("good", "1\tAnn\n")
	p.exported("bad", "1\tEve\n")
	files := p.stored("papers")
	in := func(name string) string { return filepath.Join(p.dir, name) }

	s := p.run("export", "good")
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, "INSERT INTO `users` (`id`, `name`) VALUES\n(1,'Ann');\nCOMMIT;\n")
	require.Equal(t, "good is exported: 1 table, 1 row, 6 B\n", s.err)

	s = p.run("export", "good", "--to", in("shop.sql"), "-o", "json")
	require.Zero(t, s.code, s.err)
	var said exportJSON
	require.NoError(t, json.Unmarshal([]byte(s.out), &said))
	require.Equal(t, exportJSON{"good", in("shop.sql"), remora.Summary{Objects: 1, Entries: 1, Bytes: 6}}, said)
	info, err := os.Stat(in("shop.sql"))
	require.NoError(t, err)
	require.Equal(t, "-rw-------", info.Mode().String())
	s = p.run("export", "good", "--to", in("shop.sql"))
	require.Equal(t, 2, s.code)
	require.Contains(t, s.err, "it is there already")

	s = p.run("export", "good", "--format", "tsv", "--to", in("rows"))
	require.Zero(t, s.code, s.err)
	rows, err := os.ReadFile(in("rows/shop/users.00001.tsv"))
	require.NoError(t, err)
	require.Equal(t, "1\tAnn\n", string(rows))
	require.FileExists(t, in("rows/load.sql"))
	info, err = os.Stat(in("rows"))
	require.NoError(t, err)
	require.Equal(t, "drwx------", info.Mode().String())

	for _, args := range [][]string{{"--to", in("bad.sql")}, {"--format", "tsv", "--to", in("bad-rows")}, nil} {
		s = p.run(append([]string{"export", "bad"}, args...)...)
		require.Equal(t, 6, s.code, s.err)
		require.Contains(t, s.err, "table shop.users, range shop/users.00001.tsv")
	}
	require.Regexp(t, "this dump is not whole\n$", s.out)
	s = p.run("export", "good", "--to", in("nowhere/shop.sql"))
	require.Equal(t, 1, s.code)
	require.Contains(t, s.err, in("nowhere/shop.sql")+"): no such file or directory")
	s = p.run("export", "good", "--table", "orders", "--to", in("no.sql"))
	require.Equal(t, 4, s.code)
	s = p.run("export", files)
	require.Equal(t, 2, s.code)
	require.Contains(t, s.err, "restore "+files+" --files")

	left, err := filepath.Glob(in(".remora*"))
	require.NoError(t, err)
	require.Empty(t, left)
	for _, name := range []string{"bad.sql", "bad-rows", "no.sql"} {
		require.NoFileExists(t, in(name))
		require.NoDirExists(t, in(name))
	}
	p.repository(func(ctx context.Context, r *repository.Repository) {
		leases, err := r.Leases(ctx)
		require.NoError(t, err)
		require.Empty(t, leases)
	})
}
