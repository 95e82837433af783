package mysql

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/remora-backup/remora/internal/remora"
)

const (
	// maxSchemaText bounds the text of what differs in definitions, in bytes.
	maxSchemaText = 32 << 10

	// maxWaiting bounds how many rows wait for their other half at the same time, in all sessions: some 30 bytes each. A
	// range that needs more is read again in parts of its rows, at most maxPasses of them; beyond that, and beyond eight
	// million rows of one range that came or went, they are only counted.
	maxWaiting = 2 << 20
	maxPasses  = 16
)

// Preview reads the live tables in one snapshot, range by range as they were captured, and compares digests with those
// of the part. Only where a digest differs it reads the range of the part, and the live one again, to count rows.
func (d *Database) Preview(ctx context.Context, job remora.Job, from fs.FS) (remora.Preview, error) {
	return d.preview(ctx, job, from, maxWaiting)
}

func (d *Database) preview(ctx context.Context, job remora.Job, from fs.FS, limit int) (remora.Preview, error) {
	op := "compare live " + d.name()
	p, err := d.readPart(from)
	if err != nil {
		return remora.Preview{}, err
	}
	snap, err := d.openSnapshot(ctx, d.read, d.live())
	if err != nil {
		return remora.Preview{}, err
	}
	defer snap.close()
	kept, stop := guarded(ctx, pingEvery, snap.ping)
	defer stop()
	v := preview{d: d, op: op, snap: snap, part: p, from: from, only: job.Selection.Tables, waiting: limit / len(snap.readers)}
	err = v.run(kept, job)
	return v.said, d.problem(kept, op, d.subject(), err)
}

// preview is one run of Preview.
type preview struct {
	d    *Database
	op   string
	snap *snapshot
	part part
	from fs.FS
	// only are the tables that were chosen; empty means everything.
	only []string
	// waiting is how many rows of a range may wait for their other half.
	waiting int
	meter   *meter
	said    remora.Preview
	// untold counts the differences of definitions that the text has no room for.
	untold int

	mu     sync.Mutex
	tables []*previewed
}

// previewed is a table that is live, in the part, or both.
type previewed struct {
	remora.TablePreview
	then *partTable
	live *table
	in   string
	// reshaped tells that its definition differs.
	reshaped bool
}

func (v *preview) run(ctx context.Context, job remora.Job) error {
	on := v.snap.control.server
	weaker, err := v.snap.grants.checkRights(v.op, v.d.backupNeeds(on))
	if err != nil {
		return err
	}
	if v.part.Server.mariadb() != on.mariadb() {
		return remora.Fail(remora.Unsupported, v.op, v.d.cfg.Address, "compare it with a server of "+v.part.Server.maker(), "the backup was taken from %s, and this server is %s", v.part.Server, on)
	}
	found, err := takeCensuses(ctx, v.snap.control, v.d.live(), v.snap.grants.everywhere("PROCESS"))
	if err != nil {
		return err
	}
	if err := refusals(found, v.op); err != nil {
		return err
	}
	if err := v.snap.holdsAll(found); err != nil {
		return err
	}
	if err := v.match(found); err != nil {
		return err
	}
	_, size := estimates(found)
	v.meter = newMeter(job, v.op, size)
	stop := v.meter.watch(ctx)
	defer stop()
	if err := perform(ctx, v.snap.readers, v.tasks()); err != nil {
		return err
	}
	v.tell()
	v.said.Compared.Facts, v.said.Compared.Warnings = v.snap.facts, slices.Concat(v.snap.warnings, weaker)
	return nil
}

// chosen tells whether a table was asked for.
func (v *preview) chosen(schema, name string) bool {
	return len(v.only) == 0 || slices.Contains(v.only, name) || slices.Contains(v.only, schema+"."+name)
}

// match finds the pairs of tables, and tells of all definitions.
func (v *preview) match(found []census) error {
	for i, c := range found {
		schema := v.part.Schemas[i]
		if len(v.only) == 0 {
			now := ""
			if c.exists {
				now = c.options.clause()
			}
			v.change("schema "+schema.Name, now, schema.clause())
		}
		for j := range schema.Tables {
			v.take(&previewed{then: &schema.Tables[j], live: c.find(schema.Tables[j].Name), in: c.schema}, schema.Name, schema.Tables[j].Name)
		}
		for j, t := range c.tables {
			if len(v.only) == 0 && !slices.ContainsFunc(schema.Tables, func(s partTable) bool { return s.Name == t.Name }) {
				v.take(&previewed{live: &c.tables[j], in: c.schema}, schema.Name, t.Name)
			}
		}
		v.changeObjects(schema.Name, v.part.restored(i, c), c.objects)
	}
	for _, name := range v.only {
		if !slices.ContainsFunc(v.tables, func(t *previewed) bool { return t.Name == name || strings.HasSuffix(t.Name, "."+name) }) {
			return remora.Fail(remora.NotFound, v.op, "table "+name, "remora ls shows what is in a backup", "there is no such table in the backup")
		}
	}
	return nil
}

// take takes a pair up, where it was chosen.
func (v *preview) take(t *previewed, schema, name string) {
	if !v.chosen(schema, name) {
		return
	}
	t.Name = schema + "." + name
	now, then := "", ""
	if t.live != nil {
		now = normalised(t.live.Definition)
	}
	if t.then != nil {
		then = normalised(t.then.Definition)
		if !v.d.comesEmpty(schema, name) {
			t.Then = t.then.Rows
		}
	}
	t.reshaped = now != then
	v.change("table "+t.Name, now, then)
	v.tables = append(v.tables, t)
}

// changeObjects tells how the objects of a schema differ: of chosen tables, their triggers alone.
func (v *preview) changeObjects(schema string, then, now []object) {
	others := func(o object) bool { return len(v.only) > 0 && (o.Table == "" || !v.chosen(schema, o.Table)) }
	then, now = slices.DeleteFunc(slices.Clone(then), others), slices.DeleteFunc(slices.Clone(now), others)
	name := func(o object) string {
		o.Name = schema + "." + o.Name
		return o.String()
	}
	for _, o := range then {
		i := slices.IndexFunc(now, o.same)
		switch {
		case i >= 0 && now[i].settled() == o.settled():
			v.change(name(o), string(now[i].Create), string(o.Create))
		case i >= 0:
			v.change(name(o), now[i].settled()+string(now[i].Create), o.settled()+string(o.Create))
		case !o.Broken: // no server would create it
			v.change(name(o), "", string(o.Create))
		}
	}
	for _, o := range without(now, then) {
		v.change(name(o), string(o.Create), "")
	}
	both := func(a, b []object) string { return strings.Join(triggerOrder(without(a, without(a, b))), "\n") }
	v.change("order of the triggers of "+schema, both(now, then), both(then, now))
}

// settled says under which settings an object was created, for people.
func (o object) settled() string {
	return strings.Join(append(o.settings(), "the schema's collation: "+o.Database, ""), "\n")
}

// change tells of a definition that differs; "" where there is none.
func (v *preview) change(name, now, then string) {
	list := &v.said.Replaces
	switch {
	case now == then:
		return
	case now == "":
		list = &v.said.Creates
	case then == "":
		list = &v.said.Drops
	}
	*list = append(*list, name)
	lines := func(text string) []byte { return []byte(strings.TrimPrefix(text+"\n", "\n")) }
	// What comes first are three lines of names.
	text := remora.OneLine(name) + "\n" + strings.SplitN(string(diff.Diff("", lines(now), "", lines(then))), "\n", 4)[3]
	if len(v.said.Schema)+len(text) > maxSchemaText {
		v.untold++
		return
	}
	v.said.Schema += strings.ToValidUTF8(text, "�")
}

// readAlike tells whether the live table can be read by the columns and the key of the part.
func (t *previewed) readAlike() bool {
	for _, c := range t.then.Columns {
		if !slices.ContainsFunc(t.live.Columns, func(l column) bool {
			l.Reparsed, l.AutoIncrement = c.Reparsed, c.AutoIncrement
			return l == c
		}) {
			return false
		}
	}
	return slices.Equal(t.then.Key, t.live.Key) && t.then.History == t.live.History
}

// tasks lists what is to be read: tables that keep their writers waiting first, then the largest.
func (v *preview) tasks() (all []task) {
	live := slices.DeleteFunc(slices.Clone(v.tables), func(t *previewed) bool { return t.live == nil })
	slices.SortStableFunc(live, func(a, b *previewed) int {
		return cmp.Or(strings.Compare(b.live.Engine, a.live.Engine), cmp.Compare(b.live.bytes, a.live.bytes))
	})
	for _, t := range live {
		one := func(work task) task {
			return func(ctx context.Context, r *reader) error {
				v.meter.begin(t.Name)
				err := work(ctx, r)
				if err == nil && !v.snap.sealed.Load() { // lets a migration have the table
					err = r.exec(ctx, "ROLLBACK TO SAVEPOINT remora")
				}
				return v.d.problem(ctx, v.op, "table "+t.Name, err)
			}
		}
		var reads []task
		switch {
		case t.Then > 0 && t.then.Sequence && t.live.Sequence:
			t.Now = t.Then // a restore takes no number back, so there is no row to tell of
		case t.Then == 0, !t.readAlike():
			t.Counted = t.Then > 0
			reads = append(reads, one(func(ctx context.Context, r *reader) error { return v.count(ctx, r, t) }))
		default:
			for _, want := range t.then.Ranges {
				reads = append(reads, one(func(ctx context.Context, r *reader) error { return v.compareRange(ctx, r, t, want) }))
			}
		}
		if t.live.Engine == "" {
			all = append(all, reads...)
			continue
		}
		all = append(all, func(ctx context.Context, r *reader) error { // in one piece, since writers wait for its end
			defer v.snap.done(*t.live)
			return perform(ctx, []*reader{r}, reads)
		})
	}
	return all
}

// tell lists what differs.
func (v *preview) tell() {
	slices.SortFunc(v.tables, func(a, b *previewed) int { return strings.Compare(a.Name, b.Name) })
	for _, t := range v.tables {
		switch {
		case t.live == nil:
			t.Added = t.Then
		case t.then != nil && !t.reshaped && !t.Counted && t.Added+t.Removed+t.Changed == 0:
			v.said.Equal++
			continue
		}
		if len(v.said.Tables) == remora.MaxPreviewed {
			v.said.More++
			continue
		}
		v.said.Tables = append(v.said.Tables, t.TablePreview)
	}
	for _, list := range []*[]string{&v.said.Creates, &v.said.Replaces, &v.said.Drops} {
		if more := len(*list) - remora.MaxPreviewed; more > 0 {
			*list = append((*list)[:remora.MaxPreviewed], fmt.Sprintf("and %d more", more))
		}
	}
	if v.untold > 0 {
		v.said.Schema += fmt.Sprintf("and %d more definitions that differ: there is no room for them here\n", v.untold)
	}
	v.said.Compared.Objects = int64(len(v.tables))
}

// count counts the rows of a live table that cannot be compared.
func (v *preview) count(ctx context.Context, r *reader, t *previewed) error {
	var rows int64
	err := v.meter.quiet(func() (err error) {
		rows, err = countRows(ctx, r, *t.live, t.in)
		return err
	})
	v.mu.Lock()
	defer v.mu.Unlock()
	t.Now += rows
	if !t.Counted {
		t.Removed += rows
	}
	return err
}

// compareRange reads a range of a live table as it was captured.
func (v *preview) compareRange(ctx context.Context, r *reader, t *previewed, want partRange) error {
	now, err := digest(ctx, r, t.then.table, t.in, want, v.meter)
	if err != nil {
		return err
	}
	rows := rowDiff{added: max(0, want.Rows-now.Rows), removed: max(0, now.Rows-want.Rows)}
	differs, told := now.SHA256 != want.SHA256, true
	if differs && now.Rows > 0 && want.Rows > 0 {
		if rows, told, err = v.compareRows(ctx, r, t, want, rows); err != nil {
			return fmt.Errorf("compare range %s: %w", want.File, err)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	t.Ranges++
	if differs {
		t.Differ++
	}
	t.Counted = t.Counted || !told
	t.Now, t.Added, t.Removed, t.Changed = t.Now+now.Rows, t.Added+rows.added, t.Removed+rows.removed, t.Changed+rows.changed
	v.said.Compared.Entries, v.said.Compared.Bytes = v.said.Compared.Entries+now.Rows, v.said.Compared.Bytes+now.Bytes
	return nil
}

// compareRows tells the rows of a range apart, in as many passes as its differences need. Where those are too many, it
// answers with what counting told, and false.
func (v *preview) compareRows(ctx context.Context, r *reader, t *previewed, want partRange, counted rowDiff) (rowDiff, bool, error) {
	seed := maphash.MakeSeed()
	for passes := uint64(1); passes <= maxPasses; passes *= 4 {
		sum := rowDiff{limit: v.waiting}
		for pass := uint64(0); pass < passes && !sum.full; pass++ {
			sum.passes, sum.pass, sum.waiting = passes, pass, map[uint64]waiting{}
			if err := v.pass(ctx, r, t, want, &sum, seed); err != nil {
				return sum, false, err
			}
		}
		if !sum.full {
			return sum, true, nil
		}
	}
	return counted, false, nil
}

// pass reads a range of the live table and that of the part, a row of each in turn.
func (v *preview) pass(ctx context.Context, r *reader, t *previewed, want partRange, into *rowDiff, seed maphash.Seed) error {
	file, err := v.from.Open(want.File)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	text := bufio.NewReaderSize(io.TeeReader(file, v.meter), readBuffer)
	then := newRowHashes(t.then.table, seed, func(key, row uint64) { into.put(key, row, -1) })
	next := func() error {
		for {
			piece, err := text.ReadSlice('\n')
			_, _ = then.Write(piece) // cannot fail
			if !errors.Is(err, bufio.ErrBufferFull) {
				return err
			}
		}
	}
	var end error
	now := newRowHashes(t.then.table, seed, func(key, row uint64) {
		into.put(key, row, 1)
		if end == nil {
			end = next()
		}
	})
	if _, err := r.copy(ctx, t.then.selects(t.in, want), len(t.then.Columns), io.MultiWriter(now, v.meter)); err != nil {
		return err
	}
	for end == nil && ctx.Err() == nil {
		end = next()
	}
	into.settle()
	if errors.Is(end, io.EOF) {
		return nil
	}
	return cmp.Or(end, context.Cause(ctx))
}

// rowDiff tells two streams of rows apart by digests. Both come in the order of the key and more or less in step, so that
// few rows wait for their other half, however many there are.
type rowDiff struct {
	added, removed, changed int64

	// waiting are rows whose other half has not come yet, by the digest of the key; without a key, by that of the row.
	waiting map[uint64]waiting
	limit   int
	full    bool
	// Only the keys of this pass are looked at.
	passes, pass uint64
}

// waiting are rows of one key: more than one only where there is no key, live ones counted up and those of the part down.
type waiting struct {
	row uint32
	n   int32
}

func (d *rowDiff) put(key, row uint64, n int32) {
	if key%d.passes != d.pass || d.full {
		return
	}
	w, known := d.waiting[key]
	switch {
	case !known && len(d.waiting) == d.limit:
		d.full = true
		return
	case known && w.row != uint32(row):
		d.changed++
	}
	w.row, w.n = uint32(row), w.n+n
	if w.n == 0 {
		delete(d.waiting, key)
	} else {
		d.waiting[key] = w
	}
}

// settle takes what still waits for rows of one side alone.
func (d *rowDiff) settle() {
	for _, w := range d.waiting {
		d.removed += int64(max(0, w.n))
		d.added += int64(max(0, -w.n))
	}
}

// rowHashes digests the rows of a text as they are written to it, in pieces of any size.
type rowHashes struct {
	// inKey tells of each column whether it is one of the key.
	inKey    []bool
	column   int
	key, row maphash.Hash
	each     func(key, row uint64)
}

// newRowHashes digests rows of a table. Where the key is not among the columns, or there is none, all of them stand for it.
func newRowHashes(t table, seed maphash.Seed, each func(key, row uint64)) *rowHashes {
	h := &rowHashes{each: each, inKey: mapped(t.Columns, func(c column) bool { return slices.Contains(t.Key, c.Name) })}
	if slices.ContainsFunc(t.Key, func(name string) bool {
		return !slices.ContainsFunc(t.Columns, func(c column) bool { return c.Name == name })
	}) || len(t.Key) == 0 {
		h.inKey = mapped(t.Columns, func(column) bool { return true })
	}
	h.key.SetSeed(seed)
	h.row.SetSeed(seed)
	return h
}

// Write implements io.Writer; it never fails.
func (h *rowHashes) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		size := 1 + bytes.IndexAny(rest, "\t\n")
		if size == 0 {
			size = len(rest)
		}
		field := rest[:size]
		rest = rest[size:]
		_, _ = h.row.Write(field)                         // cannot fail
		if h.column < len(h.inKey) && h.inKey[h.column] { // a forged text may have more
			_, _ = h.key.Write(field)
		}
		switch field[size-1] {
		case '\t':
			h.column++
		case '\n':
			h.each(h.key.Sum64(), h.row.Sum64())
			h.column = 0
			h.key.Reset()
			h.row.Reset()
		}
	}
	return len(p), nil
}
