package mysql

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/remora-backup/remora/internal/remora"
)

// maxWaiting bounds how many rows wait for their other half at the same time, in all sessions: some 30 bytes each. Where
// more of a range came and went, its rows are only counted.
const maxWaiting = 3 << 20

// Preview reads the live tables in one snapshot, range by range as they were captured, and compares digests with those
// of the part. Only where a digest differs it reads the range of the part, and the live one again, to count rows.
func (d *Database) Preview(ctx context.Context, job remora.Job, from fs.FS) (remora.Preview, error) {
	op := "compare live " + d.name()
	p, err := d.selected(op, job, from)
	if err != nil {
		return remora.Preview{}, err
	}
	m := d.newMeter(job, op)
	snap, ctx, stop, err := d.begin(ctx, m, d.read, d.live(), false)
	if err != nil {
		return remora.Preview{}, err
	}
	v := preview{d: d, op: op, meter: m, snap: snap, part: p, from: from}
	err = d.problem(ctx, op, d.subject(), v.run(ctx, job))
	stop()
	m.report(&v.said.Compared)
	return v.said, err
}

// preview is one run of Preview.
type preview struct {
	d     *Database
	op    string
	snap  *snapshot
	part  part
	from  fs.FS
	meter *meter
	said  remora.Preview

	mu     sync.Mutex // of what tables count
	tables []*previewed
}

// previewed is a table that is live, in the part, or both; the other one is empty. reshaped tells that its definition differs.
type previewed struct {
	remora.TablePreview
	then     partTable
	live     table
	in       string
	reshaped bool
}

func (v *preview) run(ctx context.Context, job remora.Job) error {
	on := v.snap.control.server
	if v.part.Server.mariadb() != on.mariadb() {
		return remora.Fail(remora.Unsupported, v.op, v.d.cfg.Address, "compare it with a server of "+v.part.Server.maker(), "the backup was taken from %s, and this server is %s", v.part.Server, on)
	}
	found, weaker, err := v.snap.look(ctx, v.op, v.d.live(), v.d.backupNeeds(on))
	if err != nil {
		return err
	}
	found = mapped(found, func(c census) census { return c.only(v.part.moves) })
	var reshaped map[string]bool
	v.said.Shape, reshaped = v.part.shape(found, len(job.Selection.Tables) == 0, maxSchemaText)
	v.match(found, reshaped)
	if err := v.snap.keep(ctx, found); err != nil {
		return err
	}
	if err := perform(ctx, v.meter, v.snap.readers, v.tasks()); err != nil {
		return err
	}
	v.tell()
	v.said.Compared.Facts, v.said.Compared.Warnings = v.snap.facts, slices.Concat(v.snap.warnings, weaker)
	return nil
}

// match finds the pairs of tables.
func (v *preview) match(live []census, reshaped map[string]bool) {
	for i, c := range live {
		schema := v.part.Schemas[i]
		take := func(then partTable, live table) {
			t := &previewed{then: then, live: live, in: c.schema}
			if t.Name = c.schema + "." + cmp.Or(then.Name, live.Name); !v.d.comesEmpty(c.schema, then.Name) {
				t.Then = then.Rows
			}
			t.reshaped = reshaped["table "+t.Name]
			v.tables = append(v.tables, t)
		}
		for _, t := range schema.Tables {
			take(t, c.table(t.Name))
		}
		for _, t := range c.tables {
			if !v.part.has(schema.Name, t.Name) {
				take(partTable{}, t)
			}
		}
	}
}

// readAlike tells whether the live table can be read by the columns and the key of the part.
func (t *previewed) readAlike() bool {
	return slices.Equal(t.then.Key, t.live.Key) && t.then.History == t.live.History &&
		!slices.ContainsFunc(t.then.Columns, func(c column) bool {
			return !slices.ContainsFunc(t.live.Columns, func(l column) bool {
				return l.Name == c.Name && l.Type == c.Type && l.Unsigned == c.Unsigned && l.Decimals == c.Decimals && l.Indexed == c.Indexed
			})
		})
}

// tasks lists what is to be read: tables that keep their writers waiting first, then the largest.
func (v *preview) tasks() (all []task) {
	slices.SortStableFunc(v.tables, func(a, b *previewed) int {
		return cmp.Or(strings.Compare(b.live.Engine, a.live.Engine), cmp.Compare(b.live.bytes, a.live.bytes))
	})
	for _, t := range v.tables {
		ranges := t.then.Ranges
		switch {
		case t.live.Name == "":
			t.Added = t.Then
			continue
		case t.Then > 0 && t.then.Sequence && t.live.Sequence:
			t.Now, ranges = t.Then, nil // a restore takes no number back, so there is no row to tell of
		case t.Then == 0, !t.readAlike():
			t.Counted, ranges = t.Then > 0, []partRange{{}}
		default:
			t.Ranges = len(ranges)
		}
		reads := mapped(ranges, func(want partRange) task {
			return func(ctx context.Context, r *reader) error {
				return v.d.problem(ctx, v.op, "table "+t.Name, v.read(ctx, r, t, want))
			}
		})
		all = append(all, v.snap.reads(v.meter, t.live, reads)...)
	}
	return all
}

// read reads a range of a live table as it was captured, or counts the rows of one that has no ranges.
func (v *preview) read(ctx context.Context, r *reader, t *previewed, want partRange) (err error) {
	v.meter.begin(t.Name)
	var now partRange
	var rows rowDiff
	if t.Ranges == 0 {
		err = v.meter.quiet(func() error {
			counted, err := r.value(ctx, "SELECT COUNT(*) FROM "+t.live.from(t.in), 0)
			if err == nil {
				now.Rows, err = strconv.ParseInt(counted, 10, 64)
			}
			return err
		})
		if t.Then == 0 {
			rows.removed = now.Rows
		}
	} else if now, err = digest(ctx, r, t.then.table, t.in, want, v.meter.pass(ctx)); err == nil && now.SHA256 != want.SHA256 {
		rows, err = v.compareRows(ctx, r, t, now, want)
	}
	if err == nil && !v.snap.sealed.Load() { // lets a migration have the table
		err = r.exec(ctx, "ROLLBACK TO SAVEPOINT remora")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if now.SHA256 != want.SHA256 {
		t.Differ++
	}
	t.Counted = t.Counted || rows.full
	t.Now, t.Added, t.Removed, t.Changed = t.Now+now.Rows, t.Added+rows.added, t.Removed+rows.removed, t.Changed+rows.changed
	v.said.Compared.Entries, v.said.Compared.Bytes = v.said.Compared.Entries+now.Rows, v.said.Compared.Bytes+now.Bytes
	return err
}

// tell lists the tables that differ.
func (v *preview) tell() {
	v.said.Compared.Objects = int64(len(v.tables))
	slices.SortFunc(v.tables, func(a, b *previewed) int { return strings.Compare(a.Name, b.Name) })
	for _, t := range v.tables {
		switch {
		case !t.reshaped && !t.Counted && t.Added+t.Removed+t.Changed == 0:
			v.said.Equal++
		case len(v.said.Tables) == remora.MaxPreviewed:
			v.said.More++
		default:
			v.said.Tables = append(v.said.Tables, t.TablePreview)
		}
	}
}

// compareRows tells the rows of a range apart, reading a row of the live one and of that of the part in turn. Where too
// many differ it answers with what counting tells.
func (v *preview) compareRows(ctx context.Context, r *reader, t *previewed, now, want partRange) (rowDiff, error) {
	counted := rowDiff{added: max(0, want.Rows-now.Rows), removed: max(0, now.Rows-want.Rows)}
	if now.Rows == 0 || want.Rows == 0 {
		return counted, nil
	}
	file, err := v.from.Open(want.File)
	if err != nil {
		return counted, err
	}
	defer func() { _ = file.Close() }()
	rows := rowDiff{waiting: map[uint64]waiting{}, limit: v.d.maxWaiting / len(v.snap.readers)}
	seed := maphash.MakeSeed()
	then, live := rows.stream(t.then.table, seed, -1), rows.stream(t.then.table, seed, 1)
	text := bufio.NewReaderSize(io.TeeReader(file, v.meter.pass(ctx)), readBuffer)
	var end error
	live.then = func() {
		for more := end == nil; more; {
			var piece []byte
			piece, end = text.ReadSlice('\n')
			_, _ = then.Write(piece) // cannot fail
			if more = errors.Is(end, bufio.ErrBufferFull); more {
				end = nil
			}
		}
	}
	_, err = r.copy(ctx, t.then.selects(t.in, want), len(t.then.Columns), io.MultiWriter(live, v.meter.pass(ctx)))
	for err == nil && end == nil {
		live.then()
		err = ctx.Err()
	}
	switch {
	case err != nil, !errors.Is(end, io.EOF):
		return counted, cmp.Or(err, end)
	case rows.full:
		counted.full = true
		return counted, nil
	}
	for _, w := range rows.waiting { // rows of one side alone
		rows.removed, rows.added = rows.removed+int64(max(0, w.n)), rows.added+int64(max(0, -w.n))
	}
	return rows, nil
}

// rowDiff tells two streams of rows apart by digests. Both come in the order of the key and more or less in step, so that
// few rows wait for their other half, however many there are.
type rowDiff struct {
	added, removed, changed int64

	// waiting are rows whose other half has not come yet, by the digest of the key; without a key, by that of the row.
	waiting map[uint64]waiting
	limit   int
	full    bool
}

// waiting are rows of one key: more than one only where there is no key, live ones counted up and those of the part down.
type waiting struct {
	row uint32
	n   int32
}

func (d *rowDiff) put(key, row uint64, n int32) {
	w, known := d.waiting[key]
	switch {
	case d.full:
		return
	case !known && len(d.waiting) == d.limit:
		d.full = true
		return
	case known && w.row != uint32(row):
		d.changed++
	}
	w.row, w.n = uint32(row), w.n+n
	d.waiting[key] = w
	if w.n == 0 {
		delete(d.waiting, key)
	}
}

// stream is one of the two: it digests rows as their text is written to it, in pieces of any size.
type stream struct {
	into *rowDiff
	n    int32
	// inKey tells of each column whether it is one of the key. Where that is not among the columns, all stand for it.
	inKey    []bool
	column   int
	key, row maphash.Hash
	then     func() // after each row
}

func (d *rowDiff) stream(t table, seed maphash.Seed, n int32) *stream {
	names := mapped(t.Columns, func(c column) string { return c.Name })
	missing := slices.ContainsFunc(t.Key, func(name string) bool { return !slices.Contains(names, name) })
	s := &stream{into: d, n: n, then: func() {}, inKey: mapped(names, func(name string) bool {
		return missing || len(t.Key) == 0 || slices.Contains(t.Key, name)
	})}
	s.key.SetSeed(seed)
	s.row.SetSeed(seed)
	return s
}

// Write implements io.Writer; it never fails.
func (s *stream) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		size := 1 + bytes.IndexAny(rest, "\t\n")
		if size == 0 {
			size = len(rest)
		}
		field := rest[:size]
		rest = rest[size:]
		_, _ = s.row.Write(field)                         // cannot fail
		if s.column < len(s.inKey) && s.inKey[s.column] { // a forged text may have more
			_, _ = s.key.Write(field)
		}
		switch field[size-1] {
		case '\t':
			s.column++
		case '\n':
			s.into.put(s.key.Sum64(), s.row.Sum64(), s.n)
			s.column = 0
			s.key.Reset()
			s.row.Reset()
			s.then()
		}
	}
	return len(p), nil
}
