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
}

// clause writes the options as CREATE and ALTER DATABASE take them.
func (o schemaOptions) clause() string {
	encryption := ""
	if o.Encrypted {
		encryption = " ENCRYPTION 'Y'"
	}
	return "CHARACTER SET " + quote(o.Charset) + " COLLATE " + quote(o.Collation) + encryption
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
}

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

	rows, bytes, rowBytes int64 // estimates
}

// cut is the leading column of the key, when ranges can be cut along it.
func (t table) cut() (column, bool) {
	if len(t.Key) == 0 {
		return column{}, false
	}
	i := slices.IndexFunc(t.Columns, func(c column) bool { return c.Name == t.Key[0] })
	if i < 0 {
		return column{}, false
	}
	switch t.Columns[i].Type {
	case "tinyint", "smallint", "mediumint", "int", "bigint":
		return t.Columns[i], true
	}
	return column{}, false
}

// object is something in or around a schema that is not supported yet, and why that matters.
type object struct{ kind, name, why string }

func (o object) String() string {
	if o.why == "" {
		return o.kind + " " + o.name
	}
	return o.kind + " " + o.name + " (" + o.why + ")"
}

// census is everything there is in a schema. It is complete only for an account whose rights were checked: the server
// shows emptiness, not an error, to one that lacks them.
type census struct {
	exists  bool
	options schemaOptions
	tables  []table
	// refused are the objects that are not handled yet.
	refused []object
}

func (c census) names() []string {
	names := make([]string, len(c.tables))
	for i, t := range c.tables {
		names[i] = t.Name
	}
	return names
}

func (c census) rows() (n int64) {
	for _, t := range c.tables {
		n += t.rows
	}
	return n
}

func (c census) bytes() (n int64) {
	for _, t := range c.tables {
		n += t.bytes
	}
	return n
}

// takeCensus lists everything in a schema, with definitions. allKeys tells whether the account may see the foreign
// keys of the whole server (PROCESS).
func takeCensus(ctx context.Context, s *session, schema string, allKeys bool) (c census, err error) {
	if c.options, c.exists, err = optionsOf(ctx, s, schema); err != nil || !c.exists {
		return c, err
	}
	for _, step := range []func(context.Context, *session, string) error{c.listTables, c.listColumns, c.listKeys, c.listObjects} {
		if err := step(ctx, s, schema); err != nil {
			return c, err
		}
	}
	if allKeys {
		if err := c.listForeignKeys(ctx, s, schema); err != nil {
			return c, err
		}
	}
	for i := range c.tables {
		if c.tables[i].Definition, err = definitionOf(ctx, s, schema, c.tables[i].Name); err != nil {
			return c, fmt.Errorf("read the definition of table %s: %w", c.tables[i].Name, err)
		}
		if len(c.tables[i].Columns) == 0 {
			c.refuse("table", c.tables[i].Name, "all its columns are generated")
		}
	}
	return c, nil
}

// optionsOf reads the options of a schema, and whether there is one.
func optionsOf(ctx context.Context, s *session, schema string) (o schemaOptions, exists bool, err error) {
	var encrypted string
	err = s.row(ctx, `SELECT default_character_set_name, default_collation_name, default_encryption
		FROM information_schema.schemata WHERE schema_name = ?`, schema).Scan(&o.Charset, &o.Collation, &encrypted)
	if errors.Is(err, sql.ErrNoRows) {
		return o, false, nil
	}
	o.Encrypted = encrypted == "YES"
	return o, err == nil, err
}

func (c *census) refuse(kind, name, why string) {
	c.refused = append(c.refused, object{kind, name, why})
}

func (c *census) listTables(ctx context.Context, s *session, schema string) error {
	return s.each(ctx, func(rows *sql.Rows) error {
		var t table
		var kind string
		var engine sql.NullString
		if err := rows.Scan(&t.Name, &kind, &engine, &t.rows, &t.bytes, &t.rowBytes); err != nil {
			return err
		}
		switch {
		case ours(schema) && strings.HasPrefix(t.Name, fencePrefix):
		case kind == "VIEW":
			c.refuse("view", t.Name, "")
		case kind != "BASE TABLE":
			c.refuse(strings.ToLower(kind), t.Name, "")
		case engine.String != "InnoDB":
			c.refuse("table", t.Name, "its engine is "+engine.String+": ALTER TABLE … ENGINE=InnoDB")
		default:
			c.tables = append(c.tables, t)
		}
		return nil
	}, `SELECT table_name, table_type, engine, COALESCE(table_rows, 0), COALESCE(data_length, 0), COALESCE(avg_row_length, 0)
		FROM information_schema.tables WHERE table_schema = ? ORDER BY table_name`, schema)
}

// find is the table of that name, nil when it is not among the supported ones.
func (c *census) find(name string) *table {
	i := slices.IndexFunc(c.tables, func(t table) bool { return t.Name == name })
	if i < 0 {
		return nil
	}
	return &c.tables[i]
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
		if err := rows.Scan(&name, &col.Name, &col.Type, &full, &extra, &expression, &scale); err != nil {
			return err
		}
		col.Type = strings.ToLower(col.Type)
		col.Unsigned = strings.Contains(strings.ToLower(full), " unsigned")
		col.AutoIncrement = strings.Contains(extra, "auto_increment")
		col.Decimals = scale.Valid
		col.Indexed = emptyMember.MatchString(full)
		if t := byName[name]; t != nil && expression == "" {
			t.Columns = append(t.Columns, col)
		}
		return nil
	}, `SELECT table_name, column_name, data_type, column_type, extra, COALESCE(generation_expression, ''), numeric_scale
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
	for name := range prefixed {
		if prefixed[name] {
			c.find(name).Key = nil
		}
	}
	return err
}

// listObjects finds what is not a table.
func (c *census) listObjects(ctx context.Context, s *session, schema string) error {
	for _, q := range []string{
		`SELECT 'trigger', CONCAT(trigger_name, ' on ', event_object_table) FROM information_schema.triggers WHERE trigger_schema = ?`,
		`SELECT LOWER(routine_type), routine_name FROM information_schema.routines WHERE routine_schema = ?`,
		`SELECT 'event', event_name FROM information_schema.events WHERE event_schema = ?`,
		`SELECT 'foreign key', CONCAT(constraint_name, ' of ', table_name, ' to ', unique_constraint_schema, '.', referenced_table_name)
			FROM information_schema.referential_constraints WHERE constraint_schema = ? AND unique_constraint_schema <> constraint_schema`,
	} {
		err := s.each(ctx, func(rows *sql.Rows) error {
			var o object
			if err := rows.Scan(&o.kind, &o.name); err != nil {
				return err
			}
			if o.kind == "foreign key" {
				o.why = "it leads out of the schema"
			}
			c.refused = append(c.refused, o)
			return nil
		}, q, schema)
		if err != nil {
			return err
		}
	}
	return nil
}

// listForeignKeys finds the keys of other schemas that point into this one: they would follow a table that is renamed
// away, without a word (S6). Names come as schema/table.
func (c *census) listForeignKeys(ctx context.Context, s *session, schema string) error {
	return s.each(ctx, func(rows *sql.Rows) error {
		var from, to string
		if err := rows.Scan(&from, &to); err != nil {
			return err
		}
		c.refuse("foreign key", "of "+from, "it leads into the schema, to "+to)
		return nil
	}, `SELECT for_name, ref_name FROM information_schema.innodb_foreign
		WHERE LEFT(ref_name, CHAR_LENGTH(?) + 1) = CONCAT(?, '/') AND LEFT(for_name, CHAR_LENGTH(?) + 1) <> CONCAT(?, '/')`,
		schema, schema, schema, schema)
}

// definitionOf is the server's own text of a table.
func definitionOf(ctx context.Context, s *session, schema, name string) (definition string, err error) {
	err = s.row(ctx, "SHOW CREATE TABLE "+qualified(schema, name)).Scan(new(string), &definition)
	return definition, err
}

// refusal turns the objects that are not supported into one problem that names them.
func (c census) refusal(op, schema string) error {
	if len(c.refused) == 0 {
		return nil
	}
	return fail(remora.Unsupported, op, "schema "+schema,
		"leave these objects out of the schema, or wait for the version that handles them; nothing is ever skipped in silence",
		"not supported yet: %s", listed(c.refused))
}

// listed names the first few things of a list, and counts the others.
func listed[T any](all []T) string {
	var names []string
	for i, one := range all {
		if i == remora.MaxDifferences {
			names = append(names, fmt.Sprintf("and %d more", len(all)-i))
			break
		}
		names = append(names, fmt.Sprint(one))
	}
	return strings.Join(names, ", ")
}
