package mysql

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// Compare reads the stage back through the reader that captured it, range by range, and compares digests, counts
// and definitions with those of the part.
func (d *Database) Compare(ctx context.Context, job remora.Job, from fs.FS) (diff remora.Diff, err error) {
	op := "compare " + d.name()
	p, err := d.selected(op, job, from)
	if err != nil {
		return diff, err
	}
	err = d.holding(ctx, op, func(s *session) (err error) {
		c := comparison{d: d, op: op, s: s, part: p}
		diff, err = c.run(ctx, job)
		return err
	})
	return diff, err
}

// comparison is one run of Compare.
type comparison struct {
	d     *Database
	op    string
	s     *session
	part  part
	stage []place
	meter *meter

	mu          sync.Mutex
	differences []string
}

func (c *comparison) differ(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.differences) < remora.MaxDifferences {
		c.differences = append(c.differences, fmt.Sprintf(format, args...))
	}
}

func (c *comparison) run(ctx context.Context, job remora.Job) (diff remora.Diff, err error) {
	e, err := c.d.mine(ctx, c.s, c.op, job.Run)
	if err != nil {
		return diff, err
	}
	if e.State != stateStaged && e.State != stateCompared {
		return diff, remora.Fail(remora.Fenced, c.op, "run "+job.Run, "stage it again", "the stage is not complete")
	}
	f, err := c.d.whereIs(ctx, c.s, c.op, e)
	if err != nil {
		return diff, err
	}
	if e.Switched || f.live(e) == remora.Restored {
		return diff, remora.Fail(remora.Fenced, c.op, "run "+job.Run, "", "the stage was live already")
	}
	// It is proven by a comparison that came to its end, not by one of before.
	e.State = stateStaged
	if err := e.save(ctx, c.s); err != nil {
		return diff, err
	}
	// From here on nothing can write into the stage any more: what is compared is what will be live (S2).
	if err := c.d.endLoaders(ctx, c.s, e); err != nil {
		return diff, err
	}
	at := e.aside(remora.Restored)
	c.stage = mapped(c.part.names(), func(name string) place { // in the order of the part, which may be another
		return at[slices.IndexFunc(at, func(p place) bool { return p.name == name })]
	})
	if err := c.compareDefinitions(ctx); err != nil {
		return diff, err
	}
	diff.Compared.Objects, diff.Compared.Entries, diff.Compared.Bytes = c.part.counts()
	diff.Compared.Facts = map[string]string{"stage": schemasOf(c.stage)}
	if len(c.differences) == 0 { // rows are read by the definitions of the part
		if err := c.compareRows(ctx, job, &diff.Compared); err != nil {
			return diff, err
		}
	}
	slices.Sort(c.differences)
	diff.Differences = c.differences
	if !diff.Equal() {
		return diff, nil
	}
	if err := c.s.unlog(ctx, e.Detail.Unlogged && remora.IsDrill(job.Run)); err != nil {
		return diff, err
	}
	if err := c.d.rehearseBoth(ctx, c.s, &c.part, new([]string)); err != nil {
		return diff, err
	}
	if diff.Compared.Warnings, err = c.orphans(ctx); err != nil {
		return diff, err
	}
	if slices.ContainsFunc(c.part.tables(), func(t partTable) bool { return t.Engine == memory }) {
		if e.Detail.Booted, err = booted(ctx, c.s); err != nil {
			return diff, err
		}
	}
	e.State = stateCompared
	return diff, e.save(ctx, c.s)
}

// booted is when the server was started, to the second.
func booted(ctx context.Context, s *session) (at time.Time, err error) {
	uptime, err := s.status(ctx, "Uptime")
	if err != nil {
		return at, err
	}
	err = s.row(ctx, "SELECT UTC_TIMESTAMP() - INTERVAL ? SECOND", uptime).Scan(&at)
	return at, err
}

// label names a table in a difference.
func (c *comparison) label(t partTable) string {
	if len(c.part.Schemas) == 1 {
		return t.Name
	}
	return t.schema + "." + t.Name
}

// compareDefinitions compares the schemas and every definition, and finds what is missing or too much.
func (c *comparison) compareDefinitions(ctx context.Context) error {
	all, err := takeCensuses(ctx, c.s, c.stage, nil)
	if err != nil {
		return err
	}
	for i, found := range all {
		want := c.part.Schemas[i]
		if found.options != want.schemaOptions {
			c.differ("schema %s: its options are %s instead of %s", want.Name, found.options.clause(), want.clause())
		}
		for _, o := range found.refused {
			c.differ("%s: it is not in the backup", o)
		}
		for _, o := range found.objects {
			c.differ("%s: it is there before its time", o)
		}
		for _, t := range want.Tables {
			staged := found.find(t.Name)
			_, inner, err := c.part.moves.outgoing(want.Name, t.table, c.part.has)
			switch {
			case err != nil:
				return err
			case staged == nil:
				c.differ("table %s is missing", c.label(t))
			case normalised(staged.Definition) != normalised(inner):
				c.differ("table %s: its definition differs", c.label(t))
			case below(nextNumber(staged.Definition), nextNumber(t.Definition)):
				c.differ("table %s: its AUTO_INCREMENT would hand out numbers again", c.label(t))
			}
		}
		for _, name := range found.names() {
			if !c.part.has(want.Name, name) {
				c.differ("table %s is not in the backup", name)
			}
		}
	}
	return nil
}

// below compares two counters. That of a stage may be higher: a source whose counter had fallen behind its rows is put
// right by loading them.
func below(a, b string) bool {
	x, _ := strconv.ParseUint(a, 10, 64)
	y, _ := strconv.ParseUint(b, 10, 64)
	return x < y
}

// compareRows reads every range back.
func (c *comparison) compareRows(ctx context.Context, job remora.Job, sum *remora.Summary) error {
	c.meter = c.d.newMeter(job, c.op)
	c.meter.total.Store(sum.Bytes)
	ctx, stop, err := c.meter.watch(ctx, c.d.write)
	if err != nil {
		return err
	}
	defer func() {
		stop()
		c.meter.report(sum)
	}()
	sessions, _, err := c.d.sessions(ctx, c.s, c.d.cfg.RestoreSessions, int(sum.Objects), sum.Bytes)
	if err != nil {
		return err
	}
	readers, err := c.d.openReaders(ctx, c.d.write, sessions, c.s, forever)
	if err != nil {
		return err
	}
	defer closeReaders(readers)
	return c.d.problem(ctx, c.op, "schema "+schemasOf(c.stage), perform(ctx, c.meter, readers, c.tasks()))
}

func (c *comparison) tasks() []task {
	var all []task
	for _, t := range c.part.tables() {
		for _, want := range t.Ranges {
			all = append(all, func(ctx context.Context, r *reader) error { return c.compareRange(ctx, r, t, want) })
		}
	}
	return all
}

// in is the schema that a table was staged in.
func (c *comparison) in(schema string) string {
	return c.stage[slices.IndexFunc(c.stage, func(p place) bool { return p.name == schema })].schema
}

func (c *comparison) compareRange(ctx context.Context, r *reader, t partTable, want partRange) error {
	c.meter.begin(t.Name)
	read, err := digest(ctx, r, t.table, c.in(t.schema), want, c.meter.pass(ctx))
	if err != nil {
		return c.d.problem(ctx, c.op, tableName(t.schema, t.Name)+", range "+want.File, err)
	}
	switch {
	case read.Rows != want.Rows:
		c.differ("table %s, range %s: %d rows instead of %d", c.label(t), want.File, read.Rows, want.Rows)
	case read.SHA256 != want.SHA256:
		c.differ("table %s, range %s: its rows differ", c.label(t), want.File)
	}
	return nil
}
