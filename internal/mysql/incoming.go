package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/remora-backup/remora/internal/remora"
)

// A SEQUENCE of MariaDB is a table of one row in all that matters here: the same statements show, read, load and move it.
// But it must be there before a table whose DEFAULT takes numbers from it; and that DEFAULT goes on to name the schema
// in which it was created.

// sequenced is something that may be a sequence.
type sequenced interface{ sequence() bool }

func (t table) sequence() bool { return t.Sequence }

// inSequence puts sequences before the tables that may need them.
func inSequence[T sequenced](tables []T) []T {
	first := slices.DeleteFunc(slices.Clone(tables), func(t T) bool { return !t.sequence() })
	return append(first, slices.DeleteFunc(slices.Clone(tables), T.sequence)...)
}

// requalify has the tables that came in take their numbers from the sequences that came with them.
func (sw *switcher) requalify(ctx context.Context) error {
	if !sw.s.server.mariadb() {
		return nil
	}
	names := liveNames(sw.entry.asides())
	for _, p := range sw.d.live() {
		tables, err := sw.s.strings(ctx, "SELECT DISTINCT table_name FROM information_schema.columns WHERE table_schema = ? AND column_default LIKE ?", p.schema, "%val(`\\"+prefix+"\\_%")
		if err != nil {
			return err
		}
		for _, name := range tables {
			if err := requalifyTable(ctx, sw.s, p.schema, name, names); err != nil {
				return fmt.Errorf("requalify the defaults of table %s: %w", name, err)
			}
		}
	}
	return nil
}

func requalifyTable(ctx context.Context, s *session, schema, name string, names map[string]string) error {
	is, err := definitionOf(ctx, s, schema, name)
	if err != nil {
		return err
	}
	d, err := parseDefinition(is)
	if err != nil {
		return err
	}
	var changes []string
	for _, e := range d.elements {
		if now := requalified(e, names); now != e {
			changes = append(changes, "MODIFY "+now)
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return s.exec(ctx, "ALTER TABLE "+qualified(schema, name)+" "+strings.Join(changes, ", "))
}

// raiseSequence sees to it that numbers that a sequence has handed out are not handed out again by the one that takes
// its place: setting one never takes it back.
func raiseSequence(ctx context.Context, s *session, from, to string) error {
	var next int64
	if err := s.row(ctx, "SELECT next_not_cached_value FROM "+from).Scan(&next); err != nil {
		return err
	}
	return s.row(ctx, fmt.Sprintf("SELECT SETVAL(%s, %d, 0)", to, next)).Scan(new(sql.NullInt64))
}

// queues are the tables that frameworks keep work and visitors in: as of the backup, work that was done since would be
// done again.
var queues = []string{"jobs", "job_batches", "sessions"}

// comesEmpty tells whether a table is restored without its rows, as the configuration wants it.
func (d *Database) comesEmpty(schema, table string) bool {
	return slices.Contains(d.cfg.Empty, table) || slices.Contains(d.cfg.Empty, schema+"."+table)
}

// emptyStage empties, in what was staged and compared, the tables that are not to come back with rows (S24). Their next
// numbers stay.
func (sw *switcher) emptyStage(ctx context.Context) error {
	if sw.entry.Switched || sw.turn.Live != remora.Restored {
		return nil
	}
	for _, c := range sw.incoming {
		for _, t := range c.tables {
			if !sw.d.comesEmpty(c.name, t.Name) {
				continue
			}
			statements := []string{"TRUNCATE TABLE " + qualified(c.schema, t.Name)}
			if next := nextNumber(t.Definition); next != "" {
				statements = append(statements, "ALTER TABLE "+qualified(c.schema, t.Name)+" AUTO_INCREMENT = "+next)
			}
			if err := sw.s.all(ctx, statements...); err != nil {
				return err
			}
		}
	}
	return nil
}

// emptyWarnings says which tables come back empty, and which others hold work that would be done again.
func (d *Database) emptyWarnings(p part) (warnings []string) {
	for _, t := range p.tables() {
		switch {
		case d.comesEmpty(t.schema, t.Name):
			warnings = append(warnings, tableName(t.schema, t.Name)+" comes back empty, as configured")
		case t.Rows > 0 && slices.Contains(queues, t.Name):
			warnings = append(warnings, fmt.Sprintf("%s comes back with %d rows as of the backup: what was done with them since is done again; restore: {empty: [%s]} brings it back empty", tableName(t.schema, t.Name), t.Rows, t.Name))
		}
	}
	return warnings
}

// raiseCounters sees to it that numbers that were handed out are not handed out again (S24). It counts what it raised: an
// ALTER takes several syncs of the disk.
func (sw *switcher) raiseCounters(ctx context.Context) (raised int, err error) {
	for i, c := range sw.incoming {
		from := sw.live[i]
		live, err := nextNumbers(ctx, sw.s, from.schema)
		if err != nil {
			return raised, err
		}
		own, err := nextNumbers(ctx, sw.s, c.schema)
		if err != nil {
			return raised, err
		}
		for _, t := range c.tables {
			if now := from.find(t.Name); now != nil && now.Sequence && t.Sequence {
				if err := raiseSequence(ctx, sw.s, qualified(from.schema, t.Name), qualified(c.schema, t.Name)); err != nil {
					return raised, err
				}
			}
			next, counted := own[t.Name]
			if !counted || next >= live[t.Name] {
				continue
			}
			if err := sw.s.exec(ctx, fmt.Sprintf("ALTER TABLE %s AUTO_INCREMENT = %d", qualified(c.schema, t.Name), live[t.Name])); err != nil {
				return raised, err
			}
			raised++
		}
	}
	return raised, nil
}

// nextNumbers are those that the tables of a schema will hand out.
func nextNumbers(ctx context.Context, s *session, schema string) (map[string]uint64, error) {
	next := map[string]uint64{}
	return next, s.each(ctx, func(rows *sql.Rows) error {
		var table string
		var n uint64
		err := rows.Scan(&table, &n)
		next[table] = n
		return err
	}, "SELECT table_name, auto_increment FROM information_schema.tables WHERE table_schema = ? AND auto_increment IS NOT NULL", schema)
}
