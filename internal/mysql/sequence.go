package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
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
	names := liveNames(append(sw.entry.aside(false), sw.entry.aside(true)...))
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
