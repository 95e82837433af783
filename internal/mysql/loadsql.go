package mysql

import (
	"fmt"
	"strings"
)

// loadSQL is how a part is loaded by hand, with nothing but the server's own client.
func loadSQL(p part) []byte {
	var b strings.Builder
	client, hint := "mysql", "-- If a foreign key is refused with error 6125: SET SESSION restrict_fk_on_non_standard_key = OFF; first.\n"
	if p.Server.mariadb() {
		client, hint = "mariadb", ""
	}
	fmt.Fprintf(&b, `-- How to rebuild this database with the stock client, without Remora:
--   cd into the directory of this file, then
--   %s --local-infile=1 --default-character-set=utf8mb4 -h HOST -u USER -p < load.sql
-- The server must have local_infile = ON. Existing tables are never touched: the first one that exists ends the load.
%s-- Taken %s from %s (%s).

SET NAMES utf8mb4;
SET SESSION time_zone = '+00:00';
`, client, hint, p.Taken.Format("2006-01-02 15:04:05 UTC"), p.Server, p.Consistency)
	for _, setting := range assignments(p.Server.loading()) {
		b.WriteString(setting + ";\n")
	}
	for _, s := range p.Schemas {
		fmt.Fprintf(&b, "\nCREATE DATABASE IF NOT EXISTS %s %s;\nUSE %s;\n", quote(s.Name), s.clause(), quote(s.Name))
		for _, t := range s.Tables {
			fmt.Fprintf(&b, "\n-- %d rows\n%s;\n", t.Rows, recreate(t.Name, t.Definition, true))
			for _, r := range t.Ranges {
				if r.Rows > 0 {
					fmt.Fprintf(&b, "LOAD DATA LOCAL INFILE %s INTO TABLE %s %s %s;\n", text(r.File), quote(t.Name), loadFormat, t.loads())
				}
			}
		}
	}
	collations := map[string]string{}
	var in []shaped
	for _, s := range p.Schemas {
		collations[s.Name] = s.Collation
		in = append(in, shaped{s.Name, s.schemaOptions, s.Objects})
	}
	for _, kind := range objectKinds { // of all schemas, since those of one may need those of another
		objects := ofKindIn(in, kind)
		if kind == kindView {
			objects = ordered(objects)
		}
		for _, o := range objects {
			loadObject(&b, o, collations)
		}
	}
	for _, s := range p.Schemas {
		if collations[s.Name] != s.Collation {
			fmt.Fprintf(&b, "ALTER DATABASE %s %s;\n", quote(s.Name), s.clause())
		}
	}
	b.WriteString("\nSET SESSION foreign_key_checks = 1;\n")
	return []byte(b.String())
}

// loadObject writes an object, with a delimiter that it does not hold.
func loadObject(b *strings.Builder, o shapedObject, collations map[string]string) {
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
