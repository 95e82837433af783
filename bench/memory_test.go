package bench

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// most is what a process that backs up or restores may hold at once, whatever the data, with four sessions.
const most = 300 << 20

// TestMemory backs up, loads and compares what is awkward to hold, and fails where that takes more than most.
func TestMemory(t *testing.T) {
	asked(t, "bench-memory")
	p := newPlace(t, started(t, 2<<30))
	blobs := size(t, "BLOBS", "1G")
	all := []struct {
		name string
		make func(schema string)
	}{
		{"a table of 200 columns", p.wide},
		{fmt.Sprintf("%s of blobs of up to 64 MiB", setting("BLOBS", "1G")), func(schema string) { p.blobs(schema, blobs) }},
		{setting("TABLES", "5000") + " tables", func(schema string) { p.many(schema, number(t, "TABLES", "5000")) }},
		{"narrow rows", func(schema string) { p.narrow(schema, number(t, "ROWS", "5000000")) }},
	}
	text := fmt.Sprintf("\n| %d sessions | rows | MB of text | backup: peak MiB | wall s | load: peak MiB | wall s | compare: peak MiB | wall s |\n|---|---|---|---|---|---|---|---|---|\n", p.sessions)
	var over []string
	for i, one := range all {
		if !strings.Contains(one.name, setting("ONLY", "")) {
			continue
		}
		schema := fmt.Sprintf("memory_%d", i)
		db := p.DB(t)
		_, err := db.ExecContext(t.Context(), "CREATE SCHEMA "+schema)
		require.NoError(t, err)
		one.make(schema)
		o := order{Schema: schema, Repository: filepath.Join(p.dir, schema), Run: schema}
		step := func(do string) sample { o.Do = do; return p.do(o) }
		step("create")
		saved := step("backup")
		o.Backup = saved.said.Backup
		loaded, compared := step("stage"), step("compare")
		step("discard")
		_, err = db.ExecContext(t.Context(), "SET sql_log_bin = 0; DROP SCHEMA "+schema)
		require.NoError(t, err)
		line := fmt.Sprintf("| %s | %d | %.0f |", one.name, saved.said.Rows, float64(saved.said.Bytes)/1e6)
		for _, s := range []sample{saved, loaded, compared} {
			line += fmt.Sprintf(" %d | %.1f |", s.resident>>20, wall(s))
			if s.resident > most {
				over = append(over, one.name)
			}
		}
		t.Log(line)
		text += line + "\n"
	}
	report(t, text)
	require.Empty(t, over, "these took more than %d MiB", most>>20)
}

func (p *place) table(schema, name, columns string, rows int, row func(w *words, line []byte, i int) []byte) {
	p.Helper()
	_, err := p.DB(p).ExecContext(p.Context(), fmt.Sprintf("CREATE TABLE %s.%s (%s)", schema, name, columns))
	require.NoError(p, err)
	w := newWords(1, 1)
	const piece = 2_000_000
	for from := 1; from <= rows; from += piece {
		require.NoError(p, load(p.Context(), p.MySQLServer, schema, name, func(out io.Writer) error {
			return lines(out, from, min(rows, from+piece-1), func(line []byte, i int) []byte { return row(w, line, i) })
		}))
	}
}

func (p *place) wide(schema string) {
	columns := []string{"id INT PRIMARY KEY"}
	for i := 1; i < 200; i++ {
		columns = append(columns, fmt.Sprintf("c%d %s", i, []string{"INT", "VARCHAR(30)", "DECIMAL(12,2)", "DATETIME", "DOUBLE"}[i%5]))
	}
	p.table(schema, "wide", strings.Join(columns, ", "), 100_000, func(w *words, line []byte, i int) []byte {
		line = w.number(line, i)
		at := w.time(i, 100_000)
		for c := 1; c < 200; c++ {
			switch line = append(line, '\t'); c % 5 {
			case 1:
				line = append(line, w.word()...)
			case 3:
				line = append(line, at...)
			default:
				line = w.number(line, w.IntN(1_000_000))
			}
		}
		return line
	})
}

// blobs have 64, 48, 32, 16, 8, 4 and 1 MiB, without any order in their bytes.
func (p *place) blobs(schema string, total int64) {
	mib := []int{64, 48, 32, 16, 8, 4, 1}
	rows := int((total/(173<<20) + 1) * int64(len(mib)))
	p.table(schema, "attachments", "id INT PRIMARY KEY, content LONGBLOB NOT NULL", rows, func(w *words, line []byte, i int) []byte {
		return escape(append(w.number(line, i), '\t'), w.bytes(mib[i%len(mib)]<<20))
	})
}

func (p *place) many(schema string, tables int) {
	db := p.DB(p)
	var batch strings.Builder
	for i := range tables {
		fmt.Fprintf(&batch, "CREATE TABLE %[1]s.table_%[2]d (id INT PRIMARY KEY, name VARCHAR(40), KEY (name)); INSERT INTO %[1]s.table_%[2]d VALUES (1, 'one'), (2, 'two');", schema, i)
		if i%100 == 99 || i == tables-1 {
			_, err := db.ExecContext(p.Context(), "SET sql_log_bin = 0; "+batch.String())
			require.NoError(p, err)
			batch.Reset()
		}
	}
}

func (p *place) narrow(schema string, rows int) {
	p.table(schema, "narrow", "id INT UNSIGNED PRIMARY KEY, a INT NOT NULL, b SMALLINT", rows, func(w *words, line []byte, i int) []byte {
		return w.number(append(w.number(append(w.number(line, i), '\t'), w.IntN(1_000_000)), '\t'), w.IntN(1000))
	})
}
