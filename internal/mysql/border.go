package mysql

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/remora-backup/remora/internal/remora"
)

// A foreign key may cross the border between what a restore moves and what stays where it is. Left alone, one that leads
// out goes on to act on the side that was put away: it blocks deletes, or CASCADE empties what is kept (S6). And one that
// leads in follows the table that goes out, without a word. So both are in the journal, with their texts, and on the
// server only between tables that are live: they are dropped before the RENAME and added after it, on every turn.

// inside are the tables that a restore moves, by schema: nil means all of it, a list means no others.
type inside map[string][]string

func (in inside) has(schema, table string) bool {
	only, ours := in[schema]
	return ours && (only == nil || slices.Contains(only, table))
}

// some tells whether other tables of the same schemas stay.
func (in inside) some() bool {
	for _, only := range in {
		if only != nil {
			return true
		}
	}
	return false
}

// names gives the schemas in which the tables lie at these places, for requalified.
func (in inside) names(places []place) map[string]string {
	names := map[string]string{}
	for _, p := range places {
		if in[p.name] == nil {
			names[p.name] = p.schema
		}
		for _, t := range in[p.name] {
			names[qualified(p.name, t)] = p.schema
		}
	}
	return names
}

// key is a foreign key, by the names that its tables have when they are live. Columns and lists are as the server
// writes them.
type key struct {
	Schema  string `json:"schema"`
	Table   string `json:"table"`
	Name    string `json:"name"`
	Columns string `json:"columns"`
	// ToSchema and ToTable are the table that it leads to, ToColumns what it names there, Actions what it does.
	ToSchema  string `json:"to_schema"`
	ToTable   string `json:"to_table"`
	ToColumns string `json:"to_columns"`
	Actions   string `json:"actions,omitempty"`
}

func (k key) String() string {
	return fmt.Sprintf("%s of %s.%s to %s.%s", k.Name, k.Schema, k.Table, k.ToSchema, k.ToTable)
}

// same tells whether two keys bear one name.
func (k key) same(l key) bool { return k.Schema == l.Schema && k.Table == l.Table && k.Name == l.Name }

// split are those of some keys that lead out, or in.
func (in inside) split(keys []key, out bool) []key {
	return slices.DeleteFunc(slices.Clone(keys), func(k key) bool { return in.has(k.Schema, k.Table) != out })
}

// element is the key as SHOW CREATE TABLE writes it, leading to that table.
func (k key) element(to string) string {
	return "CONSTRAINT " + quote(k.Name) + " FOREIGN KEY " + k.Columns + " REFERENCES " + to + " " + k.ToColumns + k.Actions
}

// keyElement takes a foreign key apart.
var keyElement = func() *regexp.Regexp {
	const name = "`((?:[^`]|``)+)`"
	const list = "(\\((?:`(?:[^`]|``)+`(?:, )?)+\\))"
	const actions = "((?: ON (?:DELETE|UPDATE) (?:CASCADE|RESTRICT|NO ACTION|SET NULL|SET DEFAULT))*)"
	return regexp.MustCompile("(?s)^CONSTRAINT " + name + " FOREIGN KEY " + list + " REFERENCES (?:" + name + "\\.)?" + name + " " + list + actions + "$")
}()

// keysOf are those foreign keys of a table that are wanted, and its definition without them.
func keysOf(schema string, t table, wanted func(key) bool) (keys []key, without string, err error) {
	d, err := parseDefinition(t.Definition)
	if err != nil {
		return nil, "", err
	}
	var kept []string
	for _, e := range d.elements {
		if !foreignKey(e) {
			kept = append(kept, e)
			continue
		}
		m := keyElement.FindStringSubmatch(e)
		if m == nil {
			return nil, "", fmt.Errorf("a foreign key of %s is not understood", tableName(schema, t.Name))
		}
		bare := func(i int) string { return strings.ReplaceAll(m[i], "``", "`") }
		k := key{schema, t.Name, bare(1), m[2], cmp.Or(bare(3), schema), bare(4), m[5], m[6]}
		if wanted(k) {
			keys = append(keys, k)
		} else {
			kept = append(kept, e)
		}
	}
	return keys, d.text(t.Name, kept), nil
}

// outgoing are the keys of a table that moves to tables that do not move with it, and its definition without them. Those
// to a table that is not there are among them: where they were put away, they would find the one of the other side.
func (in inside) outgoing(schema string, t table, there func(schema, table string) bool) (keys []key, without string, err error) {
	return keysOf(schema, t, func(k key) bool { return !in.has(k.ToSchema, k.ToTable) || !there(k.ToSchema, k.ToTable) })
}

// whole is the definition of a table with the keys that were taken from it.
func whole(schema string, t table, keys []key) string {
	keys = slices.DeleteFunc(slices.Clone(keys), func(k key) bool { return k.Schema != schema || k.Table != t.Name })
	d, err := parseDefinition(t.Definition)
	if err != nil || len(keys) == 0 {
		return t.Definition
	}
	for _, k := range keys {
		to := quote(k.ToTable)
		if k.ToSchema != schema {
			to = qualified(k.ToSchema, k.ToTable)
		}
		d.elements = append(d.elements, k.element(to))
	}
	return d.text(t.Name, d.elements)
}

// children are the tables that stay and have keys to tables that move: where these are live, or astray, where they were
// put. All of them are only seen with PROCESS.
func children(ctx context.Context, s *session, in inside, aside []place) (all [][2]string, err error) {
	live := liveNames(aside)
	return keyed(ctx, s, func(from, to [2]string) bool {
		return in.has(cmp.Or(live[to[0]], to[0]), to[1]) && !in.has(from[0], from[1]) && !ours(from[0])
	})
}

// keyed are the tables of the whole server that have a foreign key from one to another as it is wanted.
func keyed(ctx context.Context, s *session, wanted func(from, to [2]string) bool) (all [][2]string, err error) {
	err = s.each(ctx, func(rows *sql.Rows) error {
		var from, to [2]string
		err := rows.Scan(&from[0], &from[1], &to[0], &to[1])
		if wanted(from, to) && !slices.Contains(all, from) {
			all = append(all, from)
		}
		return err
	}, "SELECT "+s.server.tableIn("for_name")+", "+s.server.tableIn("ref_name")+" FROM "+s.server.dialect().foreignKeys+" ORDER BY for_name")
	return all, err
}

// crossing are the keys across the border: from children, and from the tables of censuses to tables that stay.
func crossing(ctx context.Context, s *session, of []census, in inside, aside []place) (all []key, err error) {
	from, err := children(ctx, s, in, aside)
	if err != nil {
		return nil, err
	}
	live := liveNames(aside)
	for _, child := range from {
		t := table{Name: child[1]}
		if t.Definition, err = definitionOf(ctx, s, child[0], child[1]); err != nil {
			return nil, fmt.Errorf("read the definition of %s: %w", tableName(child[0], child[1]), err)
		}
		keys, _, err := keysOf(child[0], t, func(k key) bool { return in.has(cmp.Or(live[k.ToSchema], k.ToSchema), k.ToTable) })
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
	}
	out, err := leaving(of, in)
	return append(all, out...), err
}

// leaving are the keys of tables of censuses, as far as their definitions were read, that lead out of these.
func leaving(of []census, in inside) (all []key, err error) {
	there := func(schema, table string) bool {
		return slices.ContainsFunc(of, func(c census) bool { return c.name == schema && c.find(table) != nil })
	}
	for _, c := range of {
		for _, t := range c.tables {
			if t.Definition == "" {
				continue
			}
			keys, _, err := in.outgoing(c.name, t, there)
			if err != nil {
				return nil, err
			}
			all = append(all, keys...)
		}
	}
	return all, nil
}

// dropKeys drops keys from tables that are live. An index that the server made for a key by itself would be made anew,
// under another name and at another place, when the key is added again: so it is made one that somebody wanted, in the
// same statement, and those behind it are named again so that their order stays. Of an index that is one already the
// server notices that nothing changes.
func dropKeys(ctx context.Context, s *session, keys []key) error {
	for _, k := range keys {
		is, err := definitionOf(ctx, s, k.Schema, k.Table)
		if err != nil {
			return err
		}
		d, err := parseDefinition(is)
		if err != nil {
			return err
		}
		changes, behind := "DROP FOREIGN KEY "+quote(k.Name), false
		for _, e := range d.elements {
			const begin = "KEY "
			if !strings.HasPrefix(e, begin+"`") || strings.Contains(e, "((") { // that of an expression is made anew
				continue
			}
			name := e[:closing(e, len(begin))+1]
			if behind = behind || strings.HasPrefix(e, name+" "+k.Columns); behind {
				changes += ", DROP " + name + ", ADD " + e
			}
		}
		if err := s.exec(ctx, "ALTER TABLE "+qualified(k.Schema, k.Table)+" "+changes); err != nil {
			return k.problem("drop", err)
		}
	}
	return nil
}

// problem says why a key could not be dropped or added: those of other schemas are in nobody's way but its own.
func (k key) problem(op string, err error) error {
	if isCode(err, codeLockWait) {
		return remora.Fail(remora.Busy, op+" a foreign key", "foreign key "+k.String(), "end the transactions that use its tables", "they are in use: %w", scrubbed(err))
	}
	return fmt.Errorf("%s the foreign key %s: %w", op, k, err)
}

// loose lets a session add foreign keys without a look at the rows, also to keys that are not unique, as old schemas have
// them. Without the right to allow those, one that needs it is refused, by name.
func (s *session) loose(ctx context.Context) error {
	err := s.exec(ctx, "SET SESSION restrict_fk_on_non_standard_key = OFF")
	if isCode(err, codeUnknownVariable, codeRightDenied) {
		err = nil
	}
	return errors.Join(err, s.exec(ctx, "SET SESSION foreign_key_checks = 0"))
}

// findKeys looks for the keys across the border.
func (sw *switcher) findKeys(ctx context.Context, live []census) ([]key, error) {
	return crossing(ctx, sw.s, live, sw.entry.inside(), sw.entry.asides())
}

// intendKeys writes down the keys of both sides. Those that lead in belong to whatever side is live.
func (sw *switcher) intendKeys() {
	d, in := &sw.entry.Detail, sw.entry.inside()
	going := sw.home(sw.keys)
	known := d.Keys[sw.turn.Live.Other()]
	if d.Moving { // what an unfinished move dropped is known from the journal alone
		going = append(going, missing(known, going)...)
	}
	coming := append(in.split(d.Keys[sw.turn.Live], true), in.split(going, false)...)
	d.Keys = map[remora.Side][]key{sw.turn.Live.Other(): going, sw.turn.Live: coming}
}

// home are keys that lead to where the tables are when they are live.
func (sw *switcher) home(keys []key) []key {
	live := liveNames(sw.entry.asides())
	return mapped(keys, func(k key) key {
		k.ToSchema = cmp.Or(live[k.ToSchema], k.ToSchema)
		return k
	})
}

// missing are the keys that are not among others.
func missing(keys, others []key) []key {
	return slices.DeleteFunc(slices.Clone(keys), func(k key) bool { return slices.ContainsFunc(others, k.same) })
}

// putKeys adds the keys of a side that are not there. A table that somebody dropped needs none any more.
func (sw *switcher) putKeys(ctx context.Context, side remora.Side, found []key) error {
	astray := slices.DeleteFunc(slices.Clone(found), func(k key) bool { return !ours(k.ToSchema) })
	if len(astray) > 0 { // they came after the journal was written
		sw.entry.Detail.Keys[side] = append(missing(sw.entry.Detail.Keys[side], astray), sw.home(astray)...)
		if err := sw.entry.save(ctx, sw.s); err != nil {
			return err
		}
	}
	if err := dropKeys(ctx, sw.s, astray); err != nil {
		return err
	}
	for _, k := range missing(sw.entry.Detail.Keys[side], missing(found, astray)) {
		err := sw.s.exec(ctx, "ALTER TABLE "+qualified(k.Schema, k.Table)+" ADD "+k.element(qualified(k.ToSchema, k.ToTable)))
		switch {
		case isCode(err, codeUnknownTable, codeUnknownSchema):
			sw.d.log.Warn("a foreign key is not put back, since its table is gone", "run", sw.entry.Run, "key", k.String())
			sw.entry.Detail.Keys[side] = missing(sw.entry.Detail.Keys[side], []key{k})
		case err != nil:
			return k.problem("add", err)
		}
	}
	return nil
}

// checkBorder refuses where a right is missing to take keys across the border off and put them back, and says what that
// means.
func (d *Database) checkBorder(ctx context.Context, s *session, g grants, op string, p *part, live []census) (warnings []string, err error) {
	from, err := children(ctx, s, p.moves, nil)
	if err != nil {
		return nil, err
	}
	then := p.after(live)
	out, err := leaving(slices.Concat(live, then), p.moves)
	if err != nil {
		return nil, err
	}
	var needs []need
	needed := func(schema, right string) {
		n := need{forRestore, []string{right}, scope(schema), true, "foreign keys between there and what is restored are taken off and put back"}
		if !slices.ContainsFunc(needs, func(m need) bool { return m.scope == n.scope && m.privileges[0] == right }) {
			needs = append(needs, n)
		}
	}
	for _, child := range from {
		needed(child[0], "ALTER")
		for _, schema := range slices.Sorted(maps.Keys(p.moves)) {
			needed(schema, "REFERENCES")
		}
	}
	for _, k := range out {
		needed(k.ToSchema, "REFERENCES")
	}
	if _, err := g.checkRights(op, needs); err != nil { // the server hides the definitions of children without them
		return nil, err
	}
	keys, err := crossing(ctx, s, then, p.moves, nil)
	if out := p.moves.split(keys, true); len(out) > 0 {
		warnings = append(warnings, "these foreign keys of what comes back lead to tables that do not come with them, and are added after the switch without a look at the rows, which may name others that are gone: "+listed(out))
	}
	if into := p.moves.split(keys, false); len(into) > 0 {
		warnings = append(warnings, "these foreign keys of tables that stay as they are lead to what is replaced: they are taken off for the switch and put back without a look at the rows, which may name others that are missing then: "+listed(into))
	}
	return warnings, err
}

// rehearseKeys adds the keys across the border of one side between copies of their tables: the server may not take one
// again, since a column or an index that it needs is another (S5). To a table that is not there it takes any.
func (d *Database) rehearseKeys(ctx context.Context, s *session, side []census, in inside) error {
	keys, err := crossing(ctx, s, side, in, nil)
	if err != nil || len(keys) == 0 {
		return err
	}
	const op = "rehearse what a switch creates"
	scratch := fmt.Sprintf("%s_probe_%s_0", prefix, short(d.cfg.Installation+" "+d.cfg.Source))
	copied := func(name, schema, table string) (string, error) {
		i := slices.IndexFunc(side, func(c census) bool { return c.name == schema })
		if i >= 0 && in.has(schema, table) {
			if t := side[i].find(table); t != nil {
				return recreate(name, t.Definition, false), nil
			}
			return "DO 1", nil
		}
		is, err := definitionOf(ctx, s, schema, table)
		if isCode(err, codeUnknownTable, codeUnknownSchema) {
			return "DO 1", nil
		}
		return recreate(name, is, false), err
	}
	return d.scratch(ctx, s, scratch, []string{scratch}, func() (err error) {
		defer func() { err = errors.Join(err, s.exec(context.WithoutCancel(ctx), unset)) }()
		err = errors.Join(s.loose(ctx), s.all(ctx, "CREATE DATABASE "+quote(scratch), "USE "+quote(scratch), "SET SESSION sql_mode = '"+loadMode+"'"))
		for _, k := range keys {
			from, fromErr := copied("child", k.Schema, k.Table)
			to, toErr := copied("parent", k.ToSchema, k.ToTable)
			if err = errors.Join(err, fromErr, toErr); err == nil {
				err = s.all(ctx, "DROP TABLE IF EXISTS child, parent", to, from, "ALTER TABLE child ADD "+k.element("parent"))
			}
			switch {
			case isCode(err, codeNoSuchColumn, codeNoParentIndex, codeUnlikeColumns):
				return remora.Fail(remora.Unsupported, op, "foreign key "+k.String(), "make the tables fit each other, or drop the key", "it could not be put back: %w", scrubbed(err))
			case err != nil:
				return d.problem(ctx, op, "foreign key "+k.String(), err)
			}
		}
		return nil
	})
}

// columnName finds the names in a list of columns.
var columnName = regexp.MustCompile("`(?:[^`]|``)+`")

// orphans counts, on the stage, the rows that will name others that are not there, key by key. It is for people: where the
// server does not say, only that is said.
func (c *comparison) orphans(ctx context.Context) (warnings []string, err error) {
	keys, err := crossing(ctx, c.s, c.part.after(mapped(c.d.live(), func(p place) census { return census{place: p} })), c.part.moves, nil)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	s, err := c.d.connect(ctx, c.d.write)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.limit(ctx, checkTime); err != nil {
		return nil, err
	}
	at := func(schema, table string) string {
		if c.part.moves.has(schema, table) {
			schema = c.in(schema)
		}
		return qualified(schema, table)
	}
	for _, k := range keys {
		to := columnName.FindAllString(k.ToColumns, -1)
		named, there := "TRUE", "TRUE"
		for i, name := range columnName.FindAllString(k.Columns, -1) {
			named, there = named+" AND c."+name+" IS NOT NULL", there+" AND p."+to[i]+" = c."+name
		}
		var n int64
		err := s.row(ctx, fmt.Sprintf("SELECT COUNT(*) FROM %s AS c WHERE %s AND NOT EXISTS (SELECT 1 FROM %s AS p WHERE %s)", at(k.Schema, k.Table), named, at(k.ToSchema, k.ToTable), there)).Scan(&n)
		switch {
		case lost(err) || ctx.Err() != nil:
			return nil, err
		case err != nil:
			warnings = append(warnings, fmt.Sprintf("foreign key %s: rows that name others that are not there could not be counted: %s", k, scrubbed(err)))
		case n > 0:
			warnings = append(warnings, fmt.Sprintf("foreign key %s: %d rows name others that are not there", k, n))
		}
	}
	return warnings, nil
}
