package mysql

import (
	"fmt"
	"strings"
)

// loadSQL is how a part is loaded by hand, with nothing but the server's own client.
func loadSQL(p part) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `-- How to rebuild this database with the stock client, without Remora:
--   cd into the directory of this file, then
--   mysql --local-infile=1 --default-character-set=utf8mb4 -h HOST -u USER -p < load.sql
-- The server must have local_infile = ON. Existing tables are never touched: the first one that exists ends the load.
-- If a foreign key is refused with error 6125: SET SESSION restrict_fk_on_non_standard_key = OFF; first.
-- Taken %s from MySQL %s (%s).

SET NAMES utf8mb4;
SET SESSION time_zone = '+00:00';
SET SESSION sql_mode = '%s';
SET SESSION foreign_key_checks = 0;
`, p.Taken.Format("2006-01-02 15:04:05 UTC"), p.Server.Version, p.Consistency, loadMode)
	for _, s := range p.Schemas {
		fmt.Fprintf(&b, "\nCREATE DATABASE IF NOT EXISTS %s %s;\nUSE %s;\n", quote(s.Name), s.clause(), quote(s.Name))
		for _, t := range s.Tables {
			fmt.Fprintf(&b, "\n-- %d rows\n%s;\n", t.Rows, recreate(t.Name, t.Definition))
			for _, r := range t.Ranges {
				if r.Rows > 0 {
					fmt.Fprintf(&b, "LOAD DATA LOCAL INFILE %s INTO TABLE %s %s %s;\n", text(r.File), quote(t.Name), loadFormat, t.loads())
				}
			}
		}
	}
	b.WriteString("\nSET SESSION foreign_key_checks = 1;\n")
	return []byte(b.String())
}
