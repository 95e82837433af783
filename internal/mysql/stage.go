package mysql

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	sqldriver "github.com/go-sql-driver/mysql"

	"github.com/remora-backup/remora/internal/remora"
)

// loadMode keeps zeros in AUTO_INCREMENT columns and dates that some setting once let in.
const loadMode = "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES"

// Stage builds the part beside the live schemas, in schemas of this attempt: its tables. Of views, triggers, routines and
// events nothing is there until the switch, so that nothing of a stage ever acts. What an earlier attempt of the run left is
// ended and removed first.
func (d *Database) Stage(ctx context.Context, job remora.Job, from fs.FS) (sum remora.Summary, err error) {
	op := "load " + d.name()
	p, err := d.selected(op, job, from)
	if err != nil {
		return sum, err
	}
	err = d.holding(ctx, op, func(s *session) (err error) {
		st := stage{d: d, op: op, s: s, from: from, part: p}
		sum.Objects, sum.Entries, sum.Bytes = p.counts()
		if err = st.run(ctx, job, sum.Bytes); err == nil {
			sum.Facts = map[string]string{"server": s.server.String(), "stage": schemasOf(st.entry.aside(remora.Restored)), "sessions": fmt.Sprintf("%d: %s", st.sessions, st.why)}
			st.meter.report(&sum)
		}
		return err
	})
	return sum, err
}

// stage is one run of Stage.
type stage struct {
	d     *Database
	op    string
	s     *session
	from  fs.FS
	part  part
	entry *entry
	meter *meter
	// sessions is how many loaders there are, why says why so many.
	sessions int
	why      string
	loaders  []*session
	tables   []stagedTable
}

// stagedTable is a table while it is staged: the schema that it is built in, and how.
type stagedTable struct {
	partTable
	in   string
	plan staged
}

func (t stagedTable) at() string { return qualified(t.in, t.Name) }

// schemasOf names the schemas of places.
func schemasOf(places []place) string {
	return strings.Join(mapped(places, func(p place) string { return p.schema }), ", ")
}

func (st *stage) run(ctx context.Context, job remora.Job, size int64) error {
	if err := st.begin(ctx, job.Run, size); err != nil {
		return err
	}
	st.meter = st.d.newMeter(job, st.op)
	st.meter.total.Store(size)
	ctx, stop, err := st.meter.watch(ctx, st.d.write)
	if err != nil {
		return err
	}
	defer stop()
	defer func() {
		for _, l := range st.loaders {
			l.close()
		}
	}()
	for _, step := range []func(context.Context) error{st.clear, st.connect, st.create, st.load, st.addKeys, st.addForeignKeys} {
		if err := step(ctx); err != nil {
			return st.d.problem(ctx, st.op, "schema "+schemasOf(st.entry.aside(remora.Restored)), err)
		}
	}
	st.entry.State = stateStaged
	return st.entry.save(ctx, st.s)
}

// begin writes the intent: a new attempt of this run, with both sides as they are.
func (st *stage) begin(ctx context.Context, run string, size int64) error {
	if err := st.resume(ctx, run); err != nil {
		return err
	}
	live, err := takeCensuses(ctx, st.s, st.d.live(), st.part.moves)
	if err != nil {
		return err
	}
	after := st.part.after(live)
	keys, err := leaving(after, st.part.moves)
	if err != nil {
		return err
	}
	unlogged, err := st.d.leavesLogOut(ctx, st.s, st.op, run)
	if err != nil {
		return err
	}
	st.sessions, st.why, err = st.d.sessions(ctx, st.s, st.d.cfg.RestoreSessions, len(st.part.tables()), size)
	if err != nil {
		return err
	}
	return st.d.alone(ctx, st.s, "journal", func() error {
		if err := st.s.all(ctx, strings.Split(journalDDL, ";\n")...); err != nil {
			return err
		}
		if err := st.d.unsettled(ctx, st.s, st.op, run); err != nil {
			return err
		}
		st.entry.Attempt++
		st.entry.State = stateStaging
		st.entry.Detail = detail{Sessions: max(st.entry.Detail.Sessions, st.sessions), Unlogged: unlogged, Copy: st.d.copies(), Keys: map[remora.Side][]key{remora.Restored: keys}}
		for i, schema := range st.part.Schemas {
			st.entry.Detail.Schemas = append(st.entry.Detail.Schemas, &sides{
				Only: st.part.moves[schema.Name], Name: schema.Name, Stage: stageSchema(run, i+1, st.entry.Attempt), PutAway: putAwaySchema(run, i+1),
				LiveExisted: live[i].exists, Live: live[i].side(), Restored: after[i].side(),
			})
		}
		return st.entry.save(ctx, st.s)
	})
}

// resume finds this run's entry or begins one. A run that was switched is never staged again.
func (st *stage) resume(ctx context.Context, run string) error {
	e, err := find(ctx, st.s, run)
	if err != nil {
		return err
	}
	if e == nil {
		st.entry = &entry{
			Run: run, Source: st.d.cfg.Source, Installation: st.d.cfg.Installation,
			ServerUUID: st.s.server.UUID, Wanted: remora.Replaced, Since: time.Now(),
		}
		return nil
	}
	if err := st.d.mayAct(st.op, e, st.s.server); err != nil {
		return err
	}
	f, err := findFence(ctx, st.s, e)
	if e.Switched || e.State == stateDiscarding || err == nil && f.live(e) == remora.Restored {
		return remora.Fail(remora.Fenced, st.op, "run "+run, "start a new restore", "this restore was switched already")
	}
	st.entry = e
	return st.d.settle(ctx, st.s, st.op, e)
}

// clear removes what earlier attempts left: first their sessions, so that nothing can write any more.
func (st *stage) clear(ctx context.Context) error {
	if err := st.d.endLoaders(ctx, st.s, st.entry); err != nil {
		return err
	}
	for attempt := 1; attempt < st.entry.Attempt; attempt++ {
		for n := len(st.part.Schemas); n > 0; n-- {
			if err := dropSchema(ctx, st.s, st.entry.Run, stageSchema(st.entry.Run, n, attempt)); err != nil {
				return err
			}
		}
	}
	return nil
}

// create makes the schemas, the fence, and the tables without what would slow the loading down: several at a time, since
// each waits for the disk, and sequences first, since tables may need them.
func (st *stage) create(ctx context.Context) error {
	if err := st.s.exec(ctx, assignments(st.settings())[0]); err != nil {
		return err
	}
	places := st.entry.aside(remora.Restored)
	staged, names := map[string]string{}, st.part.moves.names(places)
	for i, p := range places {
		staged[p.name] = p.schema
		if err := st.s.exec(ctx, "CREATE DATABASE "+quote(p.schema)+" "+st.part.Schemas[i].clause()); err != nil {
			return err
		}
	}
	if err := st.s.exec(ctx, "CREATE TABLE "+qualified(places[0].schema, fenceName(st.entry.Attempt))+" (attempt BIGINT PRIMARY KEY) ENGINE = InnoDB"); err != nil {
		return err
	}
	tables, sequences := inSequence(st.part.tables()), 0
	for _, t := range tables {
		_, own, err := st.part.moves.outgoing(t.schema, t.table, st.part.has)
		if err != nil {
			return err
		}
		t.Definition = requalified(own, names)
		plan, err := t.stage(t.Bytes <= atOnce)
		if err != nil {
			return err
		}
		st.tables = append(st.tables, stagedTable{t, staged[t.schema], plan})
		if t.Sequence {
			sequences++
		}
	}
	for _, some := range [][]stagedTable{st.tables[:sequences], st.tables[sequences:]} {
		err := share(ctx, st.meter, st.loaders, some, func(ctx context.Context, l *session, t stagedTable) error {
			st.meter.begin(t.Name)
			return st.d.problem(ctx, st.op, tableName(t.schema, t.Name), l.all(ctx, "USE "+quote(t.in), t.plan.create))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settings are those of every session that builds the stage.
func (st *stage) settings() []string {
	if st.entry.Detail.Unlogged {
		return append(st.s.server.loading(), "sql_log_bin = 0")
	}
	return st.s.server.loading()
}

// connect opens the loading sessions. Each holds a lock by which a successor finds it.
func (st *stage) connect(ctx context.Context) error {
	for number := range st.sessions {
		l, err := st.d.connect(ctx, st.d.write, append(st.settings(), forever,
			"lock_wait_timeout = 60", "net_read_timeout = "+st.d.patience())...)
		if err != nil {
			return err
		}
		st.loaders = append(st.loaders, l)
		var got sql.NullInt64
		if err := l.row(ctx, "SELECT GET_LOCK(?, 0)", loadLock(st.entry, st.entry.Attempt, number)).Scan(&got); err != nil {
			return err
		}
		if got.Int64 != 1 {
			return remora.Fail(remora.Fenced, st.op, "run "+st.entry.Run, "", "another process works on the same attempt")
		}
	}
	return nil
}

// load fills the tables: the largest first, each table's ranges in the order of its key.
func (st *stage) load(ctx context.Context) error {
	type piece struct {
		table stagedTable
		rows  partRange
	}
	tables := slices.Clone(st.tables)
	slices.SortStableFunc(tables, func(a, b stagedTable) int { return cmp.Compare(b.Bytes, a.Bytes) })
	var pieces []piece
	for _, t := range tables {
		for _, r := range t.Ranges {
			if r.File != "" {
				pieces = append(pieces, piece{t, r})
			}
		}
	}
	return share(ctx, st.meter, st.loaders, pieces, func(ctx context.Context, l *session, p piece) error {
		st.meter.begin(p.table.Name)
		subject := tableName(p.table.schema, p.table.Name) + ", range " + p.rows.File
		damage, err := st.loadRange(ctx, l, p.table, p.rows)
		if damage != "" {
			return remora.Fail(remora.Corrupt, st.op, subject, "verify the backup, and restore another one", "%s", damage)
		}
		return st.d.problem(ctx, st.op, subject, err)
	})
}

// loadRange loads one file of rows. LOAD DATA LOCAL never fails on bad rows, it only warns; so whatever it did not take
// exactly as it stands is damage here, which is told without showing any row.
func (st *stage) loadRange(ctx context.Context, l *session, t stagedTable, r partRange) (damage string, err error) {
	file, err := st.from.Open(r.File)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	sum := sha256.New()
	var size counter
	body := io.TeeReader(file, io.MultiWriter(sum, &size, st.meter.pass(ctx)))
	name := rand.Text() // unguessable: a server may ask for any reader by name
	sqldriver.RegisterReaderHandler(name, func() io.Reader { return body })
	defer sqldriver.DeregisterReaderHandler(name)

	result, err := l.conn.ExecContext(ctx, fmt.Sprintf("LOAD DATA LOCAL INFILE 'Reader::%s' INTO TABLE %s %s %s", name, t.at(), loadFormat, t.loads()))
	if err != nil {
		return "", err
	}
	rows, err := result.RowsAffected()
	if err != nil {
		return "", err
	}
	damage, err = warnings(ctx, l, t.table)
	switch {
	case err != nil || damage != "":
	case rows != r.Rows:
		damage = fmt.Sprintf("%d rows were loaded instead of %d", rows, r.Rows)
	case int64(size) != r.Bytes || hex.EncodeToString(sum.Sum(nil)) != r.SHA256:
		damage = "the file is not the one that was written"
	}
	return damage, err
}

var truncatedColumn = regexp.MustCompile(`^Data truncated for column '(.*)' at row \d+$`)

// warnings says of what the last statement was warned. One kind is let through: an ENUM that holds the empty error value
// cannot be loaded without one; that it is loaded right is for Compare to say. Only texts that hold no row data are passed
// on.
func warnings(ctx context.Context, l *session, t table) (string, error) {
	var count int64 // asked for with SHOW: a SELECT would clear the list
	if err := l.row(ctx, "SHOW COUNT(*) WARNINGS").Scan(&count); err != nil || count == 0 {
		return "", err
	}
	all, err := l.records(ctx, "SHOW WARNINGS")
	if err != nil {
		return "", err
	}
	for _, w := range all {
		code, message := w["code"], w["message"]
		m := truncatedColumn.FindStringSubmatch(message)
		if code == "1265" && m != nil && slices.ContainsFunc(t.Columns, func(c column) bool { return c.Type == "enum" && c.Name == m[1] }) {
			continue
		}
		if !slices.Contains([]string{"1261", "1262", "1264", "1265"}, code) {
			message = "warning " + code
		}
		return fmt.Sprintf("the server warned %d times, first: %s", count, message), nil
	}
	if len(all) == 0 {
		return fmt.Sprintf("the server warned %d times", count), nil
	}
	return "", nil
}

// addKeys adds the secondary keys, several tables at a time: all of a table at once, but one FULLTEXT key after the
// other, since the first of them builds the table anew.
func (st *stage) addKeys(ctx context.Context) error {
	return share(ctx, st.meter, st.loaders, st.tables, func(ctx context.Context, l *session, t stagedTable) error {
		alters := [][]string{t.plan.keys}
		for _, key := range t.plan.fulltext {
			alters = append(alters, []string{key})
		}
		for _, keys := range alters {
			if err := st.add(ctx, l, "add keys", t, keys); err != nil {
				return err
			}
		}
		return nil
	})
}

// addForeignKeys adds the foreign keys when every table has its keys. Nothing is validated, so it is quick; one session
// does it, because two would wait for each other's tables.
func (st *stage) addForeignKeys(ctx context.Context) error {
	for _, t := range st.tables {
		if err := st.add(ctx, st.s, "add foreign keys", t, t.plan.foreign); err != nil {
			return err
		}
	}
	return nil
}

// add adds keys to a table, in one statement.
func (st *stage) add(ctx context.Context, on *session, op string, t stagedTable, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	st.meter.begin(t.Name)
	err := st.meter.quiet(func() error {
		return on.exec(ctx, "ALTER TABLE "+t.at()+" ADD "+strings.Join(keys, ", ADD "))
	})
	return st.d.problem(ctx, op, tableName(t.schema, t.Name), err)
}

// side is the shape of a schema for the journal.
func (c census) side() side {
	s := side{Options: c.options, Tables: map[string]string{}, Objects: c.objects}
	for _, t := range c.tables {
		s.Tables[t.Name] = t.digest()
	}
	return s
}

// digest changes when the definition does.
func (t table) digest() string {
	sum := sha256.Sum256([]byte(normalised(t.Definition)))
	return hex.EncodeToString(sum[:8])
}

// dropSchema removes a schema of ours, a hundred tables at a time, the fence last. It refuses any name that this run did not give.
func dropSchema(ctx context.Context, s *session, run, schema string) error {
	if !strings.HasPrefix(schema, prefix+"_"+short(run)+"_") {
		return remora.Fail(remora.Fenced, "drop a schema", "schema "+schema, "", "this is not a schema of run %s", run)
	}
	tables, err := s.strings(ctx, `SELECT table_name FROM information_schema.tables WHERE table_schema = ?
		ORDER BY LEFT(table_name, ?) = ?, table_name`, schema, len(fencePrefix), fencePrefix)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(tables, 100) {
		names := mapped(some, func(t string) string { return qualified(schema, t) })
		if err := s.exec(ctx, "DROP TABLE IF EXISTS "+strings.Join(names, ", ")); err != nil {
			return fmt.Errorf("drop tables of schema %s: %w", schema, err)
		}
	}
	return s.exec(ctx, "DROP DATABASE IF EXISTS "+quote(schema))
}
