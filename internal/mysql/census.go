package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/remora-backup/remora/internal/remora"
)

// schemaOptions are what a schema has besides its objects.
type schemaOptions struct {
	Charset   string `json:"charset"`
	Collation string `json:"collation"`
	Encrypted bool   `json:"encrypted,omitempty"`
	Comment   string `json:"comment,omitempty"`
}

// clause writes the options as CREATE and ALTER DATABASE take them.
func (o schemaOptions) clause() string {
	clause := "CHARACTER SET " + quote(o.Charset) + " COLLATE " + quote(o.Collation)
	if o.Encrypted {
		clause += " ENCRYPTION 'Y'"
	}
	if o.Comment != "" {
		clause += " COMMENT " + text(o.Comment)
	}
	return clause
}

// column is what the reader and the loader need to know of a column.
type column struct {
	Name string `json:"name"`
	// Type is the data type without its arguments: "int", "json".
	Type string `json:"type"`
	// Unsigned and AutoIncrement are what they say. Decimals tells that a floating column has a fixed number of them.
	Unsigned      bool `json:"unsigned,omitempty"`
	AutoIncrement bool `json:"auto_increment,omitempty"`
	Decimals      bool `json:"decimals,omitempty"`
	// Reparsed marks a JSON column that is read as its text means: it holds values whose types no text can carry.
	Reparsed bool `json:"reparsed,omitempty"`
	// Indexed marks an ENUM that has the empty string among its values: its text is that of the error value too, so it
	// is read and loaded by number.
	Indexed bool `json:"indexed,omitempty"`

	exact bool // its characters are ordered by their numbers
}

// engines are the storage engines whose tables can be read, loaded and moved like any other.
var engines = []string{"InnoDB", "MyISAM", "MEMORY", "ARCHIVE", "CSV", "BLACKHOLE", "Aria"}

// memory is the engine whose rows are gone when the server restarts (S27).
const memory = "MEMORY"

// emptyMember finds the empty string among the values of an ENUM.
var emptyMember = regexp.MustCompile(`^enum\((?:.*,)?''(?:,.*)?\)$`)

// table is one base table: what it is made of, and how its rows are read. Generated columns are not among its columns;
// they come back by themselves.
type table struct {
	Name       string   `json:"name"`
	Definition string   `json:"definition"`
	Columns    []column `json:"columns"`
	// Key is the primary key by which rows are read; empty means in the order of the table.
	Key []string `json:"key,omitempty"`
	// Engine is the storage engine where that is not InnoDB: no snapshot holds such a table.
	Engine string `json:"engine,omitempty"`
	// Sequence marks a SEQUENCE of MariaDB: a table of one row, which others may be made of. History marks a table WITH
	// SYSTEM VERSIONING: its rows of the past are rows like others, told apart by when they began and ended.
	Sequence bool `json:"sequence,omitempty"`
	History  bool `json:"history,omitempty"`

	rows, bytes, rowBytes, keyBytes int64 // estimates
	period                          bool  // the columns that tell when a row began and ended have been named
}

// from is the table with all its rows.
func (t table) from(schema string) string {
	if t.History {
		return qualified(schema, t.Name) + " FOR SYSTEM_TIME ALL"
	}
	return qualified(schema, t.Name)
}

// cut are the first columns of the key, as far as ranges can be cut along them.
func (t table) cut() (key []column) {
	for _, name := range t.Key {
		i := slices.IndexFunc(t.Columns, func(c column) bool { return c.Name == name })
		if i < 0 || t.Columns[i].domain() == unordered {
			break
		}
		key = append(key, t.Columns[i])
	}
	return key
}

// refused is something in or around a schema that is not handled, and why.
type refused struct{ kind, name, why string }

func (o refused) String() string {
	if o.why == "" {
		return o.kind + " " + o.name
	}
	return o.kind + " " + o.name + " (" + o.why + ")"
}

// place says where a schema of a source lies: live, under its own name, or aside, in one of ours.
type place struct{ name, schema string }

// live are the places of the schemas of the source when they are live.
func (d *Database) live() []place {
	return mapped(d.cfg.Schemas, func(name string) place { return place{name, name} })
}

// liveNames gives the live name of each schema.
func liveNames(places []place) map[string]string {
	names := map[string]string{}
	for _, p := range places {
		names[p.schema] = p.name
	}
	return names
}

// census is everything there is in a schema. It is complete only for an account whose rights were checked: the server
// shows emptiness, not an error, to one that lacks them.
type census struct {
	place
	exists  bool
	options schemaOptions
	tables  []table
	objects []object
	// refused is what is not handled.
	refused []refused
}

func (c census) names() []string {
	return mapped(c.tables, func(t table) string { return t.Name })
}

// estimates add up what the server believes to be in the tables.
func estimates(all []census) (rows, bytes int64) {
	for _, c := range all {
		for _, t := range c.tables {
			rows, bytes = rows+t.rows, bytes+t.bytes
		}
	}
	return rows, bytes
}

// takeCensuses lists everything in schemas that belong together, in their order: of some of them only what a restore moves.
func takeCensuses(ctx context.Context, s *session, places []place, in inside) ([]census, error) {
	all := make([]census, len(places))
	for i, p := range places {
		all[i].place = p
		if err := all[i].take(ctx, s, places, in); err != nil {
			return nil, fmt.Errorf("look at schema %s: %w", p.schema, err)
		}
	}
	return all, nil
}

// take lists everything in a schema, with definitions.
func (c *census) take(ctx context.Context, s *session, together []place, in inside) error {
	if err := c.list(ctx, s, in, c.listTables, c.listColumns, c.listKeys, c.listObjects); err != nil || !c.exists {
		return err
	}
	return s.asWritten(ctx, func() error { return c.readDefinitions(ctx, s, liveNames(together)) })
}

// list lists what steps list of a schema.
func (c *census) list(ctx context.Context, s *session, in inside, steps ...func(context.Context, *session, string) error) (err error) {
	if c.options, c.exists, err = optionsOf(ctx, s, c.schema); err != nil || !c.exists {
		return err
	}
	for _, step := range steps {
		if err := step(ctx, s, c.schema); err != nil {
			return err
		}
	}
	*c = c.only(in)
	return nil
}

// readDefinitions reads the definition of each table, and looks whether it can be created again.
func (c *census) readDefinitions(ctx context.Context, s *session, names map[string]string) (err error) {
	for i := range c.tables {
		t := &c.tables[i]
		if t.Definition, err = definitionOf(ctx, s, c.schema, t.Name); err != nil {
			return fmt.Errorf("read the definition of table %s: %w", t.Name, err)
		}
		t.Definition = requalified(t.Definition, names)
		if len(t.Columns) == 0 {
			c.refuse("table", t.Name, "all its columns are generated")
		}
		if err := harmless(t.Definition); err != nil {
			c.refuse("table", t.Name, err.Error())
		}
	}
	return nil
}

// only is a census of what a restore moves alone. A trigger that is refused may be one of a table that moves.
func (c census) only(in inside) census {
	moves := in[c.name]
	if moves == nil {
		return c
	}
	c.tables = slices.DeleteFunc(slices.Clone(c.tables), func(t table) bool { return !slices.Contains(moves, t.Name) })
	c.objects = onTables(c.objects, moves)
	c.refused = slices.DeleteFunc(slices.Clone(c.refused), func(r refused) bool { return r.kind != kindTrigger && !slices.Contains(moves, r.name) })
	return c
}

// onTables are the triggers of some tables.
func onTables(objects []object, tables []string) []object {
	return slices.DeleteFunc(slices.Clone(objects), func(o object) bool { return !slices.Contains(tables, o.Table) })
}

// refusals turns what is not handled into one problem that names it, nil where there is nothing.
func refusals(all []census, op string) error {
	for _, c := range all {
		if len(c.refused) > 0 {
			return remora.Fail(remora.Unsupported, op, "schema "+c.name, "mend them, or move them out of the schema; nothing is ever skipped in silence",
				"these cannot be backed up and restored: %s", listed(c.refused))
		}
	}
	return nil
}

// optionsOf reads the options of a schema, and whether there is one.
func optionsOf(ctx context.Context, s *session, schema string) (o schemaOptions, exists bool, err error) {
	var encrypted string
	err = s.row(ctx, `SELECT default_character_set_name, default_collation_name, `+s.server.dialect().schemaColumns+`
		FROM information_schema.schemata WHERE schema_name = ?`, schema).Scan(&o.Charset, &o.Collation, &encrypted, &o.Comment)
	if errors.Is(err, sql.ErrNoRows) {
		return o, false, nil
	}
	o.Encrypted = encrypted == "YES"
	return o, err == nil, err
}

// unwritten is what a restore of a schema does not bring back, since no definition says it: by what it is, where.
func unwritten(ctx context.Context, s *session, schema string) (map[string][]string, error) {
	all := map[string][]string{}
	for what, query := range s.server.unwritten() {
		found, err := s.strings(ctx, query, schema)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 {
			all[what] = found
		}
	}
	return all, nil
}

func (c *census) refuse(kind, name, why string) {
	c.refused = append(c.refused, refused{kind, name, why})
}

func (c *census) listTables(ctx context.Context, s *session, schema string) error {
	return s.each(ctx, func(rows *sql.Rows) error {
		var t table
		var kind string
		var engine sql.NullString
		if err := rows.Scan(&t.Name, &kind, &engine, &t.rows, &t.bytes, &t.rowBytes, &t.keyBytes); err != nil {
			return err
		}
		switch {
		case ours(schema) && isFence(t.Name):
		case isFence(t.Name):
			c.refuse("table", t.Name, "its name is one that Remora gives")
		case kind == "VIEW": // see listObjects
		case kind == "SYSTEM VERSIONED" && !s.server.keepsHistory():
			c.refuse("table", t.Name, "it is WITH SYSTEM VERSIONING, and MariaDB before 10.11 takes no rows of the past")
		case !slices.Contains([]string{"BASE TABLE", "SYSTEM VERSIONED", "SEQUENCE"}, kind):
			c.refuse(strings.ToLower(kind), t.Name, "")
		case !slices.Contains(engines, engine.String):
			c.refuse("table", t.Name, "its engine is "+engine.String+": ALTER TABLE … ENGINE=InnoDB")
		default:
			if engine.String != "InnoDB" {
				t.Engine = engine.String
			}
			t.Sequence, t.History = kind == "SEQUENCE", kind == "SYSTEM VERSIONED"
			c.tables = append(c.tables, t)
		}
		return nil
	}, `SELECT table_name, table_type, engine, COALESCE(table_rows, 0), COALESCE(data_length, 0), COALESCE(avg_row_length, 0), COALESCE(index_length, 0)
		FROM information_schema.tables WHERE table_schema = ? ORDER BY CAST(table_name AS BINARY)`, schema) // names may differ in case alone
}

// find is the table of that name, nil when it is not among the supported ones.
func (c *census) find(name string) *table {
	i := slices.IndexFunc(c.tables, func(t table) bool { return t.Name == name })
	if i < 0 {
		return nil
	}
	return &c.tables[i]
}

// table is find for those to whom a table that is not there is an empty one.
func (c *census) table(name string) (t table) {
	if found := c.find(name); found != nil {
		t = *found
	}
	return t
}

func (c *census) listColumns(ctx context.Context, s *session, schema string) error {
	byName := map[string]*table{}
	for i := range c.tables {
		byName[c.tables[i].Name] = &c.tables[i]
	}
	return s.each(ctx, func(rows *sql.Rows) error {
		var name, full, extra, expression string
		var scale sql.NullInt64
		var col column
		if err := rows.Scan(&name, &col.Name, &col.Type, &full, &extra, &expression, &scale, &col.exact); err != nil {
			return err
		}
		col.Type = strings.ToLower(col.Type)
		col.Unsigned = strings.Contains(strings.ToLower(full), " unsigned")
		col.AutoIncrement = strings.Contains(extra, "auto_increment")
		col.Decimals = scale.Valid
		col.Indexed = emptyMember.MatchString(full)
		period := expression == "ROW START" || expression == "ROW END"
		if t := byName[name]; t != nil && (expression == "" || t.History && period) {
			t.Columns = append(t.Columns, col)
			t.period = t.period || period
			if period && col.Type != "timestamp" {
				c.refuse("table", name, "its rows are versioned by transactions, not by time")
			}
		}
		return nil
	}, `SELECT table_name, column_name, data_type, column_type, extra, COALESCE(generation_expression, ''), numeric_scale,
		COALESCE(collation_name LIKE '%\_bin', FALSE)
		FROM information_schema.columns WHERE table_schema = ? ORDER BY table_name, ordinal_position`, schema)
}

// listKeys finds the primary keys. A key over a prefix of a column does not order its rows by that column, so such a
// table is read in the order of the table, which is the same.
func (c *census) listKeys(ctx context.Context, s *session, schema string) error {
	prefixed := map[string]bool{}
	err := s.each(ctx, func(rows *sql.Rows) error {
		var name string
		var col sql.NullString
		var part sql.NullInt64
		if err := rows.Scan(&name, &col, &part); err != nil {
			return err
		}
		if t := c.find(name); t != nil {
			t.Key = append(t.Key, col.String)
			prefixed[name] = prefixed[name] || part.Valid || !col.Valid
		}
		return nil
	}, `SELECT table_name, column_name, sub_part FROM information_schema.statistics
		WHERE table_schema = ? AND index_name = 'PRIMARY' ORDER BY table_name, seq_in_index`, schema)
	for i := range c.tables {
		t := &c.tables[i]
		if prefixed[t.Name] {
			t.Key = nil
		}
		if t.History && !t.period { // nobody named them, but they are there
			const began, ended = "row_start", "row_end"
			t.Columns = append(t.Columns, column{Name: began, Type: "timestamp"}, column{Name: ended, Type: "timestamp"})
			if len(t.Key) > 0 {
				t.Key = append(t.Key, ended)
			}
		}
	}
	return err
}

// definitionOf is the server's own text of a table.
func definitionOf(ctx context.Context, s *session, schema, name string) (definition string, err error) {
	err = s.row(ctx, "SHOW CREATE TABLE "+qualified(schema, name)).Scan(new(string), &definition)
	return asText(definition), err
}

// listed names the first few things of a list, and counts the others.
func listed[T any](all []T) string {
	names := mapped(all[:min(len(all), remora.MaxDifferences)], func(one T) string { return fmt.Sprint(one) })
	if more := len(all) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}
