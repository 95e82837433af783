package mysql

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/remora-backup/remora/internal/remora"
)

const (
	// maxSchemaText bounds the text of what differs in definitions, in bytes: that of a preview, and that of a plan, which
	// stays in the histories of restores.
	maxSchemaText = 32 << 10
	maxPlanText   = 4 << 10
)

// shape tells how the definitions of a part differ from what is live, and of what they do. A whole schema has options, and
// tables that would go.
func (p *part) shape(live []census, whole bool, limit int) (remora.Shape, map[string]bool) {
	s := shaper{limit: limit, changed: map[string]bool{}}
	for i, c := range live {
		schema := p.Schemas[i]
		if whole && c.exists {
			s.change("schema "+c.name, c.options.clause(), schema.clause())
		}
		for _, t := range schema.Tables {
			s.change(tableName(c.schema, t.Name), normalised(c.table(t.Name).Definition), normalised(t.Definition))
		}
		for _, t := range c.tables {
			if !p.has(schema.Name, t.Name) {
				s.change(tableName(c.schema, t.Name), normalised(t.Definition), "")
			}
		}
		s.changeObjects(c.name, p.restored(i, c), c.objects)
	}
	if s.untold > 0 {
		s.Schema += fmt.Sprintf("and %d more that differ: there is no room for them here\n", s.untold)
	}
	return s.Shape, s.changed
}

// shaper collects how definitions differ.
type shaper struct {
	remora.Shape
	limit int
	// untold counts the differences that there is no room for.
	untold  int
	changed map[string]bool
}

// changeObjects tells how the objects of a schema differ.
func (s *shaper) changeObjects(schema string, then, now []object) {
	name := func(o object) string {
		o.Name = schema + "." + o.Name
		return o.String()
	}
	settings := func(o object) string { return strings.Join(append(o.settings(), o.Database), "\n") }
	for _, o := range then {
		i := slices.IndexFunc(now, o.same)
		switch {
		case i >= 0 && now[i].Create != o.Create:
			s.change(name(o), string(now[i].Create), string(o.Create))
		case i >= 0: // the settings under which it was created
			s.change(name(o), settings(now[i]), settings(o))
		case !o.Broken: // no server would create it
			s.change(name(o), "", string(o.Create))
		}
	}
	for _, o := range without(now, then) {
		s.change(name(o), string(o.Create), "")
	}
	both := func(a, b []object) string { return strings.Join(triggerOrder(without(a, without(a, b))), "\n") }
	s.change("order of the triggers of "+schema, both(now, then), both(then, now))
}

// change tells of a definition that differs; "" where there is none.
func (s *shaper) change(name, now, then string) {
	list := &s.Replaces
	switch {
	case now == then:
		return
	case now == "":
		list = &s.Creates
	case then == "":
		list = &s.Drops
	}
	s.changed[name] = true
	lines := func(text string) []byte { return []byte(strings.TrimPrefix(text+"\n", "\n")) }
	// What comes first are three lines of names.
	text := remora.OneLine(name) + "\n" + strings.SplitN(string(diff.Diff("", lines(now), "", lines(then))), "\n", 4)[3]
	if len(*list) < remora.MaxPreviewed {
		*list = append(*list, name)
	}
	if len(s.Schema)+len(text) > s.limit {
		s.untold++
	} else {
		s.Schema += strings.ToValidUTF8(text, "�")
	}
}
