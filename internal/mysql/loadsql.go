package mysql

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/remora-backup/remora/internal/remora"
)

// loadFile is the name of the file that says it.
const loadFile = "load.sql"

// loadSQL writes how a part is loaded by hand, with nothing but the server's own client.
func (p part) loadSQL(to io.Writer) error {
	b := bufio.NewWriter(to)
	fmt.Fprintf(b, `-- How to rebuild this database with the stock client, without Remora:
--   cd into the directory of this file, then
--   %s --local-infile=1 --comments --default-character-set=utf8mb4 -h HOST -u USER -p < %s
-- The server must have local_infile = ON.
`, p.Server.client(), loadFile)
	err := p.script(b, func(t partTable) error {
		for _, r := range t.Ranges {
			if r.Rows > 0 {
				fmt.Fprintf(b, "LOAD DATA LOCAL INFILE %s INTO TABLE %s %s %s;\n", text(r.File), quote(t.Name), loadFormat, t.loads())
			}
		}
		return nil
	})
	return cmp.Or(err, b.Flush())
}

// script writes the statements that rebuild a part, for the stock client; rows writes those that fill a table. The
// writer keeps the first error for itself until it is flushed.
func (p part) script(b *bufio.Writer, rows func(partTable) error) error {
	fmt.Fprintf(b, `-- Existing tables are never touched: the first one that exists ends the load.
%s-- Taken %s from %s (%s).

SET NAMES utf8mb4;
SET SESSION time_zone = '+00:00';
`, p.Server.dialect().keyHint, p.Taken.Format("2006-01-02 15:04:05 UTC"), remora.OneLine(p.Server.String()), remora.OneLine(p.Consistency))
	for _, setting := range assignments(p.Server.loading()) {
		fmt.Fprint(b, setting+";\n")
	}
	for _, s := range p.Schemas {
		fmt.Fprintf(b, "\nCREATE DATABASE IF NOT EXISTS %s %s;\n", quote(s.Name), s.clause())
	}
	for _, t := range inSequence(p.tables()) {
		fmt.Fprintf(b, "\n-- %d rows\nUSE %s;\n%s;\n", t.Rows, quote(t.schema), recreate(t.Name, t.Definition, true))
		if err := rows(t); err != nil {
			return err
		}
	}
	collations := map[string]string{}
	var whole []census
	for _, s := range p.Schemas {
		collations[s.Name] = s.Collation
		whole = append(whole, census{place: place{s.Name, s.Name}, options: s.schemaOptions, objects: s.Objects})
	}
	for _, kind := range objectKinds { // of all schemas, since those of one may need those of another
		objects := ofKindIn(whole, kind)
		if kind == kindView {
			objects = ordered(objects)
		}
		for _, o := range objects {
			loadObject(b, o, collations)
		}
	}
	for _, s := range p.Schemas {
		if collations[s.Name] != s.Collation {
			fmt.Fprintf(b, "ALTER DATABASE %s %s;\n", quote(s.Name), s.clause())
		}
	}
	fmt.Fprint(b, "\nSET SESSION foreign_key_checks = 1;\n")
	return nil
}

// loadObject writes an object, with a delimiter that it does not hold.
func loadObject(b *bufio.Writer, o shapedObject, collations map[string]string) {
	fmt.Fprintf(b, "\nUSE %s;\n", quote(o.in.schema))
	if o.Broken {
		fmt.Fprintf(b, "-- %s was invalid, and so cannot be created:\n-- %s\n", strings.ReplaceAll(o.String(), "\n", " "), strings.ReplaceAll(string(o.Create), "\n", "\n-- "))
		return
	}
	if o.Database != "" && o.Database != collations[o.in.schema] {
		fmt.Fprintf(b, "ALTER DATABASE %s COLLATE %s;\n", quote(o.in.schema), quote(o.Database))
		collations[o.in.schema] = o.Database
	}
	delimiter := "$$"
	for strings.Contains(string(o.Create), delimiter) {
		delimiter += "$"
	}
	fmt.Fprintf(b, "%s;\nDELIMITER %s\n%s\n%s\nDELIMITER ;\n%s;\n", strings.Join(o.settings(), ";\n"), delimiter, o.statement(), delimiter, unset)
}
