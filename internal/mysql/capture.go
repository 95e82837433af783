package mysql

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/remora-backup/remora/internal/remora"
)

// Capture writes one consistent image of the schemas: the live ones, or what a restore put away, under the live ones'
// names, so that it can be restored like any other.
func (d *Database) Capture(ctx context.Context, job remora.Job, of remora.Subject, to remora.PartWriter) (remora.Summary, error) {
	op := "dump " + d.name()
	c := capture{d: d, op: op, who: d.read, needs: d.backupNeeds, places: d.live(), to: to}
	if of.PutAway != "" {
		e, side, err := d.putAwaySide(ctx, of.PutAway)
		if err != nil {
			return remora.Summary{}, err
		}
		c.who, c.needs, c.places, c.entry, c.side = d.write, d.restoreNeeds, e.aside(side), e, side
	}
	c.meter = d.newMeter(job, op)
	snap, ctx, stop, err := d.begin(ctx, c.meter, c.who, c.places, of != remora.Subject{})
	if err != nil {
		return remora.Summary{}, err
	}
	c.snap = snap
	summary, err := c.run(ctx, of)
	err = d.problem(ctx, op, d.subject(), err)
	stop()
	c.meter.report(&summary)
	return summary, err
}

// capture is one run of Capture.
type capture struct {
	d      *Database
	op     string
	who    account
	needs  func(server) []need
	places []place
	// entry and side say which side of a restore is meant, where that is not live: the journal alone has its objects, and its
	// foreign keys to other tables.
	entry *entry
	side  remora.Side
	to    remora.PartWriter
	snap  *snapshot
	// left are the kinds of objects that are left out.
	left   []string
	meter  *meter
	tables []*captured
}

// captured is a table while it is captured, with the schema that it lies in.
type captured struct {
	partTable
	in string
	mu sync.Mutex // of Columns, while several sessions read it
}

// now is the table with its columns as they are to be read now.
func (t *captured) now() table {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.table
}

// reparse has the columns in which a reader met such numbers read as their text means from now on.
func (t *captured) reparse(r *reader) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Columns = slices.Clone(t.Columns)
	for i, found := range r.json {
		t.Columns[i].Reparsed = t.Columns[i].Reparsed || found.differs
	}
}

func (c *capture) run(ctx context.Context, of remora.Subject) (remora.Summary, error) {
	found, weaker, err := c.snap.look(ctx, c.op, c.places, c.needs(c.snap.control.server))
	if err != nil {
		return remora.Summary{}, err
	}
	for i := range found {
		if !found[i].exists {
			return remora.Summary{}, remora.Fail(remora.NotFound, c.op, "schema "+found[i].schema, "check the schema's name in the configuration", "there is no such schema")
		}
		if c.entry != nil {
			found[i].objects = c.entry.Detail.Schemas[i].of(c.side).Objects
		}
	}
	c.leaveOut(of, found)
	for _, schema := range found {
		if invalid := broken(schema.objects); len(invalid) > 0 {
			c.snap.warnings = append(c.snap.warnings, "these are invalid, so a restore can only bring back their text: "+listed(invalid))
		}
		lost, err := unwritten(ctx, c.snap.control, schema.schema)
		if err != nil {
			return remora.Summary{}, err
		}
		for _, what := range slices.Sorted(maps.Keys(lost)) {
			c.snap.warnings = append(c.snap.warnings, "a restore does not bring back "+what+": "+listed(lost[what]))
		}
	}
	if err = c.snap.keep(ctx, found); err == nil {
		err = c.plan(ctx, found)
	}
	if err == nil {
		err = perform(ctx, c.meter, c.snap.readers, c.tasks())
	}
	if err != nil {
		return remora.Summary{}, c.d.problem(ctx, c.op, c.d.subject(), err)
	}
	c.snap.warnings = append(c.snap.warnings, weaker...)
	return c.finish(ctx, found)
}

// leaveOut takes out of the census what the configuration does not want in a backup, and says so. What a restore saves
// of the live data is always whole.
func (c *capture) leaveOut(of remora.Subject, found []census) {
	if of.Partial || of.PutAway != "" {
		return
	}
	if c.d.cfg.WithoutRoutines {
		c.left = slices.Clone(routineKinds)
	}
	if c.d.cfg.WithoutTriggers {
		c.left = append(c.left, kindTrigger)
	}
	for i := range found {
		if out := ofKinds(found[i].objects, c.left...); len(out) > 0 {
			c.snap.warnings = append(c.snap.warnings, "left out, as configured: "+listed(out))
			found[i].objects = without(found[i].objects, out)
		}
	}
}

// plan cuts every table. Those that no snapshot holds come first, since writers wait for them; then the largest, so that
// the last thing to be read is small.
func (c *capture) plan(ctx context.Context, found []census) error {
	for _, schema := range found {
		for _, t := range schema.tables {
			c.tables = append(c.tables, &captured{partTable: partTable{table: t, schema: schema.name}, in: schema.schema})
		}
	}
	slices.SortStableFunc(c.tables, func(a, b *captured) int {
		return cmp.Or(strings.Compare(b.Engine, a.Engine), cmp.Compare(b.bytes, a.bytes))
	})
	return share(ctx, c.meter, c.snap.readers, c.tables, func(ctx context.Context, r *reader, t *captured) error {
		c.meter.begin(t.Name)
		err := c.meter.quiet(func() (err error) {
			t.Ranges, err = c.cutTable(ctx, r, t)
			return err
		})
		for i := range t.Ranges {
			t.Ranges[i].File = fmt.Sprintf("%s/%s.%05d.tsv", fileName(t.schema), fileName(t.Name), i+1)
		}
		return c.d.problem(ctx, c.op, tableName(t.schema, t.Name), err)
	})
}

// cutTable cuts a table into ranges. Those of a table in MEMORY would each be looked for in all of it.
func (c *capture) cutTable(ctx context.Context, r *reader, t *captured) ([]partRange, error) {
	key := t.cut()
	if len(key) == 0 || t.bytes <= c.d.rangeBytes || t.Engine == memory {
		return []partRange{{}}, nil
	}
	said := c.snap.control.server.dialect()
	values := strings.Join(mapped(key, column.keyed), ", ")
	cutter := cutter{
		key: key, limit: rangeRows(c.d.rangeBytes, t.rowBytes), patience: 64 + 16*(t.bytes/c.d.rangeBytes),
		estimate: func(in partRange) (int64, error) {
			// Into an index that is forced, rather than used, the server would not look for its estimate.
			rows, err := r.value(ctx, fmt.Sprintf("%s SELECT 1 FROM %s USE INDEX (PRIMARY) WHERE %s", said.explain, t.from(t.in), between(t.Key, in.From, in.To)), said.rows)
			if err != nil || rows == "" {
				return 0, err
			}
			n, err := strconv.ParseInt(rows, 10, 64)
			return n / 2, err // InnoDB doubles what it has not counted page by page
		},
		edge: func(in partRange, order string) ([]string, error) {
			by := mapped(key, func(c column) string { return quote(c.Name) + " " + order })
			return r.values(ctx, "SELECT "+values+t.within(t.in, in)+" ORDER BY "+strings.Join(by, ", ")+" LIMIT 1")
		},
	}
	borders, err := cutter.cut(partRange{})
	ranges := make([]partRange, len(borders)+1)
	for i, b := range borders {
		ranges[i].To, ranges[i+1].From = b, b
	}
	return ranges, err
}

// task is a piece of work on one reader.
type task func(ctx context.Context, r *reader) error

// perform has readers do tasks.
func perform(ctx context.Context, m *meter, readers []*reader, tasks []task) error {
	return share(ctx, m, readers, tasks, func(ctx context.Context, r *reader, t task) error { return t(ctx, r) })
}

// tasks lists all work in order: of each table its ranges and, at their end, the check.
func (c *capture) tasks() []task {
	var all []task
	for _, t := range c.tables {
		one := func(work task) task {
			return func(ctx context.Context, r *reader) error {
				c.meter.begin(t.Name)
				return c.d.problem(ctx, c.op, tableName(t.schema, t.Name), work(ctx, r))
			}
		}
		var work []task
		for j := range t.Ranges {
			work = append(work, one(func(ctx context.Context, r *reader) error { return c.copy(ctx, r, t, &t.Ranges[j]) }))
		}
		work = append(work, one(func(ctx context.Context, r *reader) error { return c.check(ctx, r, t) }))
		all = append(all, c.snap.reads(c.meter, t.table, work)...)
	}
	return all
}

// copy stores a range. JSON that holds numbers which come back as another text is read again, as it will come back. What
// was read before of other ranges is the same both ways.
func (c *capture) copy(ctx context.Context, r *reader, t *captured, into *partRange) error {
	first, err := r.value(ctx, "SELECT 1"+t.now().within(t.in, *into)+" LIMIT 1", 0)
	if err != nil {
		return err
	}
	if first == "" {
		into.File = ""
		*into, err = digest(ctx, r, t.now(), t.in, *into, c.meter.pass(ctx))
		return err
	}
	for {
		of := t.now()
		err := c.to.Put(ctx, into.File, func(w io.Writer) error {
			r.watch(of.Columns)
			read, err := digest(ctx, r, of, t.in, *into, io.MultiWriter(w, c.meter.pass(ctx)))
			*into = read
			return cmp.Or(err, r.reprinted())
		})
		if !errors.Is(err, errReprinted) {
			return err
		}
		t.reparse(r)
		c.d.log.Warn("json values have types that text cannot carry", "table", t.Name)
	}
}

// digest reads a range to w and returns it with what was counted.
func digest(ctx context.Context, r *reader, t table, schema string, of partRange, w io.Writer) (partRange, error) {
	sum := sha256.New()
	var size counter
	rows, err := r.copy(ctx, t.selects(schema, of), len(t.Columns), io.MultiWriter(w, sum, &size))
	of.Rows, of.Bytes, of.SHA256 = rows, int64(size), hex.EncodeToString(sum.Sum(nil))
	return of, err
}

// counter counts bytes.
type counter int64

func (n *counter) Write(p []byte) (int, error) {
	*n += counter(len(p))
	return len(p), nil
}

// check looks at the definition again where it may have changed, while the snapshot still holds the table, and then lets
// the table go, so that a migration need not wait for the whole backup.
func (c *capture) check(ctx context.Context, r *reader, t *captured) error {
	if c.snap.sealed.Load() {
		return nil
	}
	now, err := r.value(ctx, "SHOW CREATE TABLE "+qualified(t.in, t.Name), 1)
	if err != nil {
		return err
	}
	if normalised(requalified(asText(now), liveNames(c.places))) != normalised(t.Definition) {
		return remora.Fail(remora.Busy, c.op, tableName(t.schema, t.Name), "a migration ran at the same moment: try again when it is over", "its definition changed while it was read")
	}
	return r.exec(ctx, "ROLLBACK TO SAVEPOINT remora")
}

// finish writes how to load what was read and, last, part.json.
func (c *capture) finish(ctx context.Context, found []census) (remora.Summary, error) {
	p := part{
		Format: partFormat, Taken: time.Now().UTC(), Server: c.snap.control.server, Consistency: c.snap.facts["consistency"], Position: c.snap.position, LeftOut: c.left,
		Selected: c.entry != nil && c.entry.inside().some(),
	}
	for _, schema := range found {
		p.Schemas = append(p.Schemas, partSchema{Name: schema.name, Directory: fileName(schema.name), schemaOptions: schema.options})
	}
	slices.SortFunc(c.tables, func(a, b *captured) int { return cmp.Compare(a.Name, b.Name) })
	for _, t := range c.tables {
		for _, r := range t.Ranges {
			t.Rows, t.Bytes = t.Rows+r.Rows, t.Bytes+r.Bytes
		}
		for _, col := range t.Columns {
			if col.Reparsed {
				c.snap.warnings = append(c.snap.warnings, fmt.Sprintf("column %s of table %s holds JSON values with types that text cannot carry (such as DECIMAL): they come back as plain JSON", col.Name, t.Name))
			}
		}
		if c.entry != nil {
			t.Definition = whole(t.schema, t.table, c.entry.Detail.Keys[c.side])
		}
		i := slices.IndexFunc(p.Schemas, func(s partSchema) bool { return s.Name == t.schema })
		p.Schemas[i].Tables = append(p.Schemas[i].Tables, t.partTable)
	}
	if err := errors.Join(c.unchanged(ctx, found), c.snap.unlockAll(ctx)); err != nil {
		return remora.Summary{}, err
	}
	for i := range p.Schemas {
		p.Schemas[i].takeObjects(found[i].objects)
	}
	raw, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		return remora.Summary{}, err
	}
	if err := c.to.Put(ctx, loadFile, p.loadSQL); err != nil {
		return remora.Summary{}, err
	}
	err = c.to.Put(ctx, remora.PartFile, func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	})
	if err != nil {
		return remora.Summary{}, err
	}
	if c.snap.sealed.Load() {
		c.snap.facts["backup_lock"] = fmt.Sprintf("held %s; migrations waited for it, nobody else", time.Since(c.snap.since).Round(time.Millisecond))
	}
	sum := remora.Summary{Facts: c.snap.facts, Warnings: c.snap.warnings}
	sum.Objects, sum.Entries, sum.Bytes = p.counts()
	return sum, nil
}

// unchanged looks again at what is no table, where nothing kept it as it was while the rows were read, and at the
// definitions of tables where several sessions read them, since each lets go of them by itself.
func (c *capture) unchanged(ctx context.Context, found []census) error {
	if c.snap.sealed.Load() || c.entry != nil {
		return nil
	}
	now, err := takeCensuses(ctx, c.snap.control, c.places, nil)
	if err != nil {
		return err
	}
	same := func(a, b table) bool {
		return a.Name == b.Name && (len(c.snap.readers) == 1 || a.digest() == b.digest())
	}
	for i := range now {
		if now[i].exists != found[i].exists || !slices.Equal(without(now[i].objects, ofKinds(now[i].objects, c.left...)), found[i].objects) || !slices.EqualFunc(now[i].tables, found[i].tables, same) {
			return remora.Fail(remora.Busy, c.op, "schema "+found[i].name, "a migration ran at the same moment: try again when it is over", "its tables, views, triggers, routines or events changed while it was read")
		}
	}
	return nil
}

// share has workers take items in order until none is left or one fails, with pauses in between where the server wants any.
func share[W, T any](ctx context.Context, m *meter, workers []W, items []T, work func(context.Context, W, T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for _, w := range workers {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(items) {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return context.Cause(ctx)
				}
				if err := m.rest(ctx); err != nil {
					return err
				}
				m.working.Add(1)
				err := work(ctx, w, items[i])
				m.working.Add(-1)
				if err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}
