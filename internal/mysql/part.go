package mysql

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// partFormat is the version of the part that this program writes; a later one is refused.
const partFormat = 3

// part is part.json: everything about a captured database but its rows. It is written last, so a part that has it is
// whole.
type part struct {
	Format int       `json:"format"`
	Taken  time.Time `json:"taken"`
	Server server    `json:"server"`
	// Consistency says how the rows came to belong to one moment.
	Consistency string    `json:"consistency"`
	Position    *position `json:"position,omitempty"`
	// LeftOut are the kinds of objects that are not in the part because the configuration says so.
	LeftOut []string `json:"left_out,omitempty"`
	// Selected tells that other tables stayed where they were: this is what a restore of some put away.
	Selected bool         `json:"selected,omitempty"`
	Schemas  []partSchema `json:"schemas"`

	notes []string // what a plan says of what was chosen of it
	moves inside   // what a restore of it moves
}

// position is the moment of the part in the server's binary log.
type position struct {
	File   string `json:"file"`
	Offset uint64 `json:"offset"`
	GTID   string `json:"gtid,omitempty"`
}

// partSchema is one schema of a part. Its files lie under Directory.
type partSchema struct {
	Name      string `json:"name"`
	Directory string `json:"directory"`
	schemaOptions
	// Census counts every kind of object that was looked for.
	Census map[string]int `json:"census"`
	Tables []partTable    `json:"tables"`
	// Objects are everything else, in an order in which it can be created.
	Objects []object `json:"objects,omitempty"`
}

// takeObjects keeps what is no table, and counts what there is of every kind.
func (s *partSchema) takeObjects(objects []object) {
	s.Objects = objects
	s.Census = map[string]int{"table": len(s.Tables)}
	for _, kind := range objectKinds {
		s.Census[kind] = len(ofKinds(objects, kind))
	}
}

// restored are the objects of the nth schema after a restore of the part: its own, and those of the live schema that it
// leaves out.
func (p *part) restored(n int, live census) []object {
	schema := p.Schemas[n]
	kept := ofKinds(live.objects, p.LeftOut...)
	kept = slices.DeleteFunc(kept, func(o object) bool { return o.Table != "" && !p.has(schema.Name, o.Table) })
	return inOrder(slices.Concat(schema.Objects, kept))
}

// tables lists the tables of a part with the schemas that they belong to.
func (p *part) tables() (all []partTable) {
	for _, s := range p.Schemas {
		all = append(all, s.Tables...)
	}
	return all
}

// has tells whether a table is in the part.
func (p *part) has(schema, table string) bool {
	return slices.ContainsFunc(p.Schemas, func(s partSchema) bool {
		return s.Name == schema && slices.ContainsFunc(s.Tables, func(t partTable) bool { return t.Name == table })
	})
}

// partTable is one table with what was read of it.
type partTable struct {
	table
	// schema is the schema that the table belongs to; part.json says it by its structure.
	schema string
	Rows   int64       `json:"rows"`
	Bytes  int64       `json:"bytes"`
	Ranges []partRange `json:"ranges"`
}

func (t partTable) String() string { return t.schema + "." + t.Name }

// partRange is one file of rows: those from the border From on, and before the border To. The first range of a table
// begins without one and the last ends without one, so together they hold whatever rows there can be. A range that holds
// none has no file.
type partRange struct {
	File   string `json:"file,omitempty"`
	From   border `json:"from,omitempty"`
	To     border `json:"to,omitempty"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// only leaves in a part the tables that are named, and their triggers. Where none is, everything stays.
func (p *part) only(op string, names []string) error {
	all, chosen := p.tables(), map[string]bool{}
	for _, name := range names {
		found := slices.DeleteFunc(slices.Clone(all), func(t partTable) bool { return !t.called(name) })
		switch {
		case len(found) == 0:
			return remora.Fail(remora.NotFound, op, remora.PartFile, "name tables of the backup: "+listed(all), "the backup holds no table %s", name)
		case len(found) > 1:
			return remora.Fail(remora.Invalid, op, "table "+name, "name one of them: "+listed(found), "several schemas have a table of that name")
		}
		chosen[found[0].String()] = true
	}
	p.Schemas, p.moves = slices.Clone(p.Schemas), inside{}
	for i := range p.Schemas {
		s := &p.Schemas[i]
		if p.moves[s.Name] = nil; len(names) > 0 {
			s.Tables = slices.DeleteFunc(slices.Clone(s.Tables), func(t partTable) bool { return !chosen[t.String()] })
			only := mapped(s.Tables, func(t partTable) string { return t.Name }) // none, but not nil
			p.moves[s.Name], s.Objects = only, onTables(s.Objects, only)
		}
	}
	return nil
}

// counts sums up a part.
func (p *part) counts() (tables, rows, bytes int64) {
	for _, t := range p.tables() {
		tables, rows, bytes = tables+1, rows+t.Rows, bytes+t.Bytes
	}
	return tables, rows, bytes
}

// names are the schemas of a part.
func (p *part) names() []string {
	return mapped(p.Schemas, func(s partSchema) string { return s.Name })
}

// readPart reads and checks the part.json of a part of this source: what it returns has the schemas of the source, in the
// order of the configuration.
func (d *Database) readPart(from fs.FS) (part, error) {
	p, err := openPart(from)
	switch {
	case err != nil:
		return p, err
	case d.copies():
		return d.choose(p)
	case !sameNames(p.names(), d.cfg.Schemas):
		return p, remora.Fail(remora.Invalid, readPartOp, remora.PartFile, fmt.Sprintf("set schemas: [%s] for this source", strings.Join(p.names(), ", ")),
			"the backup holds %s, the source is configured with %s", strings.Join(p.names(), ", "), d.name())
	}
	slices.SortFunc(p.Schemas, func(a, b partSchema) int {
		return slices.Index(d.cfg.Schemas, a.Name) - slices.Index(d.cfg.Schemas, b.Name)
	})
	return p, nil
}

// selected reads a part, and leaves in it what a job means: some tables with their triggers, or all there is.
func (d *Database) selected(op string, job remora.Job, from fs.FS) (p part, err error) {
	if p, err = d.readPart(from); err != nil || d.copies() { // of a copy, they have been chosen
		return p, err
	}
	if p.Selected && len(job.Selection.Tables) == 0 {
		return p, remora.Fail(remora.Invalid, op, remora.PartFile, "restore them with --table", "the backup holds some tables alone: %s", listed(p.tables()))
	}
	err = p.only(op, job.Selection.Tables)
	return p, err
}

const readPartOp = "read the part"

// openPart reads and checks the part.json of a part. What it returns can be relied on: it names sensible paths, and
// statements that do what they should.
func openPart(from fs.FS) (part, error) {
	p, err := parsePart(from)
	switch {
	case p.Format > partFormat:
		return p, remora.Fail(remora.Unsupported, readPartOp, remora.PartFile, "restore it with the newer version that wrote it", "it was written by a later version")
	case err != nil:
		return p, remora.Fail(remora.Corrupt, readPartOp, remora.PartFile, "verify the backup", "%w", err)
	}
	return p, nil
}

// after is what the schemas hold after a restore of the part. What is restored alone leaves the options of a schema as
// they are.
func (p *part) after(live []census) []census {
	after := make([]census, len(p.Schemas))
	for i, schema := range p.Schemas {
		after[i] = census{place: live[i].place, options: schema.schemaOptions, objects: p.restored(i, live[i])}
		after[i].tables = mapped(schema.Tables, func(t partTable) table { return t.table })
		if live[i].exists && p.moves[schema.Name] != nil {
			after[i].options = live[i].options
		}
	}
	return after
}

func parsePart(from fs.FS) (p part, err error) {
	raw, err := fs.ReadFile(from, remora.PartFile)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(raw, &p); err != nil || p.Format > partFormat {
		return p, err // nothing is known of the rest of a later format
	}
	for _, s := range p.Schemas {
		for i, t := range s.Tables {
			s.Tables[i].schema = s.Name
			if t.Name == "" || len(t.Columns) == 0 {
				return p, fmt.Errorf("table %q has no name or no columns", t.Name)
			}
			if err := harmless(t.Definition); err != nil || isFence(t.Name) {
				return p, errors.Join(fmt.Errorf("table %q cannot be created", t.Name), err)
			}
			for j, r := range t.Ranges {
				if !fs.ValidPath(r.File) && (r.File != "" || r.Rows != 0) {
					return p, fmt.Errorf("table %q: %q is not a path", t.Name, r.File)
				}
				if !r.From.valid(t.Key) || !r.To.valid(t.Key) {
					return p, fmt.Errorf("table %q: a range does not lie between values of its key", t.Name)
				}
				if p.Format < 3 { // the key was a whole number, and To belonged to the range
					t.Ranges[j].To = r.To.next()
				}
			}
			if n := len(t.Ranges); p.Format < 3 && n > 0 { // the ends were closed
				t.Ranges[0].From, t.Ranges[n-1].To = nil, nil
			}
		}
		for _, o := range s.Objects {
			if err := o.check(); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

// settingName is what the name of a character set or a collation looks like: these are written into statements as they
// stand.
var settingName = regexp.MustCompile(`^\w+$`)

// rangeBorder is what stands in a statement as it is, too: a number, octets, a text or a moment.
var rangeBorder = regexp.MustCompile(`^(?:-?\d+(?:\.\d+)?|(?:_utf8mb4 )?X'(?:[0-9A-F]{2})*'|'[0-9:. -]+')$`)
