package config

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"github.com/remora-backup/remora/internal/remora"
)

// checks reads the questions that are asked after a restore.
func (r *reader) checks(to *[]remora.Check) setter {
	return r.list("[{sql: QUERY}, {http: URL}]", func(key string, n ast.Node) {
		var check remora.Check
		r.mapping(key, n, fields{"sql": r.query(&check.SQL), "http": r.url(&check.HTTP)})
		if isMapping(n) && !r.mistaken(key) && (check.SQL == "") == (check.HTTP == "") {
			r.wrong(key, n, "a check has either sql: QUERY or http: URL")
		}
		*to = append(*to, check)
	})
}

var (
	reading = regexp.MustCompile(`(?i)^[\s(]*(?:SELECT|WITH|TABLE|VALUES)\b`)
	writing = regexp.MustCompile(`(?i)\bINTO\s+(?:OUTFILE|DUMPFILE)\b`)
	target  = regexp.MustCompile(`\{\{(.*?)\}\}`)
	quoted  = regexp.MustCompile(`'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"`)
)

func (r *reader) query(to *string) setter {
	return r.lined(func(text string) string {
		if !reading.MatchString(text) || writing.MatchString(quoted.ReplaceAllString(text, "''")) {
			return "a check only reads; write a SELECT that gives one row, whose first column is true when all is well"
		}
		*to = text
		return ""
	})
}

// checkNames refuses checks that would look at another schema than the one that they are asked of: in a drill, a name
// with a schema would be answered by the live one (S28).
func (r *reader) checkNames(key string, s *Source) {
	for i, check := range s.Checks {
		at := fmt.Sprintf("%s[%d]", key, i)
		if check.SQL != "" && s.Database == nil {
			r.wrongKey(at, "this source has no database to ask; write an http check, or add database:")
			continue
		}
		if s.Database == nil {
			continue
		}
		for _, schema := range s.Database.Schemas {
			named := regexp.MustCompile("(?i)(?:^|[^A-Za-z0-9_$])`?" + regexp.QuoteMeta(schema) + "`?\\s*\\.")
			if named.MatchString(quoted.ReplaceAllString(check.SQL, "''")) {
				r.wrongKey(at, "write names without the schema, or with {{%s}}. where there are several: a check is asked of whatever schema was restored, and %[1]s. is always the live one", schema)
			}
		}
		for _, m := range target.FindAllStringSubmatch(check.SQL, -1) {
			if !slices.Contains(s.Database.Schemas, m[1]) {
				r.wrongKey(at, "{{…}} stands for one of the source's schemas: %s", joined(s.Database.Schemas, "or"))
			}
		}
	}
}
