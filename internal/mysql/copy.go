package mysql

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/remora-backup/remora/internal/remora"
)

var _ remora.Copier = (*Database)(nil)

// Into is the same database in another place: what was chosen of a part is its one schema, and is live under the name that
// was chosen. So it is staged, compared and switched like any other; nothing goes out in exchange, and it is discarded
// at once. What is live of the source is no part of it, and is neither locked nor looked at.
func (d *Database) Into(chosen remora.Selection) remora.Component {
	into := *d
	into.chosen, into.cfg.Schemas, into.cfg.Empty, into.cfg.StaysOnline = chosen, []string{chosen.To}, nil, false
	into.cfg.Reserved = slices.Concat(d.cfg.Reserved, d.cfg.Schemas)
	return &into
}

// copies tells whether it is the place of a copy.
func (d *Database) copies() bool { return d.chosen.To != "" }

// mayCopy refuses a place where nothing may be built, or where something is.
func (d *Database) mayCopy(op string, found census) error {
	refuse := func(why string) error {
		return remora.Fail(remora.Invalid, op, d.subject(), "choose a schema that does not exist yet", "%s", why)
	}
	there := slices.Concat(found.names(), objectNames(found.objects), mapped(found.refused, refused.String))
	switch {
	case !d.copies():
	case !plausibleSchema(d.chosen.To):
		return refuse("no application's schema can be called that")
	case slices.ContainsFunc(d.cfg.Reserved, func(name string) bool { return strings.EqualFold(name, d.chosen.To) }):
		return refuse("it is a schema of a source, which is backed up itself")
	case len(there) > 0:
		return refuse("it is there already, and not empty: " + listed(there))
	}
	return nil
}

// named finds the sequence that a DEFAULT names, past whatever is quoted otherwise.
var named = regexp.MustCompile("(?s)((?:next|last|set)val\\()(?:`((?:[^`]|``)+)`\\.)?`((?:[^`]|``)+)`|`(?:[^`]|``)*`|'(?:[^'\\\\]|''|\\\\.)*'")

// choose is what was chosen of a part, as the schema that it becomes. Nothing of it may act on what is live: foreign keys
// that lead out are left out, events come disabled, and what names a schema of the source is noted.
func (d *Database) choose(p part) (part, error) {
	refuse := func(kind remora.ProblemKind, hint, format string, args ...any) (part, error) {
		return p, remora.Fail(kind, "build "+d.chosen.To, remora.PartFile, hint, format, args...)
	}
	note := func(what string, all []string) {
		if len(all) > 0 {
			p.notes = append(p.notes, what+": "+listed(all))
		}
	}
	sources := p.names()
	if err := p.only("build "+d.chosen.To, d.chosen.Tables); err != nil {
		return p, err
	}
	if len(sources) > 1 {
		p.Schemas = slices.DeleteFunc(p.Schemas, func(s partSchema) bool { return len(d.chosen.Tables) > 0 && len(s.Tables) == 0 })
	}
	if len(p.Schemas) != 1 {
		return refuse(remora.Invalid, "choose tables of one schema: --table "+sources[0]+".TABLE", "the tables are those of several schemas: %s", strings.Join(p.names(), ", "))
	}
	s := &p.Schemas[0]
	from := s.Name
	var keys, events, texts, defined []string
	for i := range s.Tables {
		t := &s.Tables[i]
		out, kept, err := p.moves.outgoing(from, t.table, p.has)
		if err != nil {
			return p, err
		}
		for _, k := range out {
			keys = append(keys, t.Name+" to "+strings.TrimPrefix(k.ToSchema+"."+k.ToTable, from+"."))
		}
		for _, m := range named.FindAllStringSubmatch(kept, -1) {
			schema, table := cmp.Or(strings.ReplaceAll(m[2], "``", "`"), from), strings.ReplaceAll(m[3], "``", "`")
			if m[1] != "" && !p.has(schema, table) {
				return refuse(remora.Invalid, "choose it too: --table "+schema+"."+table, "table %s takes numbers from the sequence %s.%s", t.Name, schema, table)
			}
		}
		t.schema, t.Definition = d.chosen.To, requalified(kept, map[string]string{from: d.chosen.To})
	}
	if len(d.chosen.Tables) > 0 {
		note("only these and their triggers are built, no views, routines or events", d.chosen.Tables)
	}
	s.Objects = mapped(s.Objects, func(o object) object {
		for _, source := range sources {
			if o.mentions(source) {
				texts = append(texts, o.String()+" ("+source+")")
			}
		}
		definer, _, _ := o.found("definer")
		if definer = strings.ReplaceAll(definer, `"`, "`"); definer != "" && !strings.HasPrefix(definer, quote(d.write.user)+"@") {
			defined = append(defined, o.String()+" ("+definer+")")
		}
		if state, _, _ := o.found("state"); state == "ENABLE" {
			events = append(events, o.Name)
		}
		return o.disabled()
	})
	note("the backup was taken without these, so they are missing", p.LeftOut)
	note("foreign keys are left out, because what they lead to is not built with them", keys)
	note("events come disabled, because a copy does nothing by itself", events)
	note("these name a schema of the source in their text, and go on to use what is live there", texts)
	note("these act with the rights of whoever defined them, and fail where that account has none on "+d.chosen.To, defined)
	s.Name, p.LeftOut, p.moves = d.chosen.To, nil, inside{d.chosen.To: nil}
	return p, nil
}

// called tells whether a table is meant by a name: "orders", or "shop.orders".
func (t partTable) called(name string) bool { return name == t.Name || name == t.String() }

// mentions tells whether the text names something in a schema, as far as that can be told from a text.
func (o object) mentions(schema string) bool {
	name := regexp.QuoteMeta(schema)
	return regexp.MustCompile("(?i)(?:`" + name + "`|\"" + name + "\"|(?:^|[^\\w$`])" + name + `)\s*\.`).MatchString(string(o.Create))
}
