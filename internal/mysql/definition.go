package mysql

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// definition is the text of a CREATE TABLE, as SHOW CREATE TABLE writes it, taken apart.
type definition struct {
	// elements are columns, keys and constraints, in order; options is what follows the closing parenthesis.
	elements []string
	options  string
}

// parseDefinition splits the text at the commas between its elements. Names, strings and expressions may hold commas,
// parentheses and newlines themselves.
func parseDefinition(sql string) (definition, error) {
	open := -1
	depth, start := 0, 0
	var d definition
	for i := 0; i < len(sql); i++ {
		switch c := sql[i]; c {
		case '`', '\'', '"':
			i = closing(sql, i)
		case '(':
			if depth++; depth == 1 && open < 0 {
				open, start = i, i+1
			}
		case ',':
			if depth == 1 {
				d.elements = append(d.elements, strings.TrimSpace(sql[start:i]))
				start = i + 1
			}
		case ')':
			if depth--; depth == 0 && d.options == "" {
				d.elements = append(d.elements, strings.TrimSpace(sql[start:i]))
				d.options = strings.TrimSpace(sql[i+1:])
				if !strings.HasPrefix(sql, "CREATE TABLE `") {
					return d, fmt.Errorf("this is not the definition of a table")
				}
				return d, nil
			}
		}
	}
	return d, fmt.Errorf("this definition has no end")
}

var (
	// engineOf finds an engine, more what makes a table of a query, ownPlace where its files do not lie with the others.
	engineOf = regexp.MustCompile(`(?i)\bENGINE\b\s*=?\s*(\S*)`)
	more     = regexp.MustCompile(`(?i)\b(?:SELECT|TABLE)\b|\bVALUES\b\s*(?:[^IL\s]|I[^N]|L[^E])`)
	ownPlace = regexp.MustCompile(`(?i)\bDIRECTORY\b`)
)

// harmless refuses the definition of a table that would do more than make it: read or write other tables, run a query,
// reach other servers, or, behind a comment, be taken apart differently than the server does. A backup may be forged.
func harmless(sql string) error {
	if _, err := parseDefinition(sql); err != nil {
		return err
	}
	var bare strings.Builder // without what is quoted
	comment, depth, outside := -1, 0, 0
	for i := len("CREATE TABLE "); i < len(sql); i++ {
		rest := sql[i:]
		switch c := sql[i]; {
		case c == '`', c == '\'', c == '"':
			i = closing(sql, i)
			bare.WriteByte('?')
			continue
		case comment < 0 && (strings.HasPrefix(rest, "/*!") || strings.HasPrefix(rest, "/*M!")): // the server executes it or leaves it out, as a whole
			comment, outside = i+strings.Index(rest, "*/"), depth
		case strings.HasPrefix(rest, "*/") && comment == i && depth == outside:
			comment = -1
		case c == '#', strings.HasPrefix(rest, "/*"), strings.HasPrefix(rest, "*/"), strings.HasPrefix(rest, "--") && (len(rest) == 2 || rest[2] <= ' '):
			return errors.New("there is a comment in its definition")
		case c == '(':
			depth++
		case c == ')':
			depth--
		}
		bare.WriteByte(sql[i])
	}
	if comment >= 0 || more.MatchString(bare.String()) {
		return errors.New("its definition does more than make a table")
	}
	for _, m := range engineOf.FindAllStringSubmatch(bare.String(), -1) {
		engine := strings.TrimRight(m[1], ",)*/")
		if !slices.Contains(engines, engine) || engine != "InnoDB" && ownPlace.MatchString(bare.String()) {
			return errors.New("its engine is " + engine + ", or its files lie in a directory of their own")
		}
	}
	return nil
}

// closing is the index of the quote that closes the one at i. A doubled quote stands for itself, and in strings a
// backslash escapes.
func closing(sql string, i int) int {
	q := sql[i]
	for i++; i < len(sql); i++ {
		switch {
		case sql[i] == '\\' && q != '`':
			i++
		case sql[i] == q && i+1 < len(sql) && sql[i+1] == q:
			i++
		case sql[i] == q:
			return i
		}
	}
	return i
}

// text writes the definition of a table of that name, of these elements.
func (d definition) text(name string, elements []string) string {
	return "CREATE TABLE " + quote(name) + " (\n  " + strings.Join(elements, ",\n  ") + "\n) " + d.options
}

var tableCollation = regexp.MustCompile(` COLLATE=(\w+)`)

// spoken finds names, and strings with what they hold.
var spoken = regexp.MustCompile("(?s)`(?:[^`]|``)*`|'((?:[^'\\\\]|''|\\\\.)*)'")

// asText is a definition whose strings are all text: MariaDB before 11 writes the DEFAULT of a binary column as it is,
// whatever its bytes mean.
func asText(sql string) string {
	if utf8.ValidString(sql) {
		return sql
	}
	return spoken.ReplaceAllStringFunc(sql, func(m string) string {
		if utf8.ValidString(m) {
			return m
		}
		escaped := spoken.FindStringSubmatch(m)[1]
		bytes := strings.NewReplacer(`\\`, `\`, `\0`, "\x00", `\n`, "\n", `\r`, "\r", `\Z`, "\x1a", `\'`, `'`, `''`, `'`, `\"`, `"`).Replace(escaped)
		return fmt.Sprintf("x'%x'", bytes)
	})
}

// foreignKey tells whether an element of a definition is one.
func foreignKey(element string) bool {
	const begin = "CONSTRAINT "
	return strings.HasPrefix(element, begin) && strings.HasPrefix(element[closing(element, len(begin)):], "` FOREIGN KEY")
}

// qualifier finds the schema that a foreign key or a sequence in a DEFAULT names, past whatever is quoted otherwise.
var qualifier = regexp.MustCompile("(?s)(REFERENCES |(?:next|last|set)val\\()`((?:[^`]|``)+)`\\.(`(?:[^`]|``)+`)?|`(?:[^`]|``)*`|'(?:[^'\\\\]|''|\\\\.)*'")

// requalified is a text whose foreign keys and sequences name other schemas than they did: as names says, of a schema or of
// one table of it, qualified. A key within its own schema names none. Strings stay as they are.
func requalified(sql string, names map[string]string) string {
	return qualifier.ReplaceAllStringFunc(sql, func(m string) string {
		parts := qualifier.FindStringSubmatch(m)
		if parts[1] == "" {
			return m
		}
		for _, name := range []string{"`" + parts[2] + "`." + parts[3], strings.ReplaceAll(parts[2], "``", "`")} {
			if to, ok := names[name]; ok {
				return parts[1] + quote(to) + "." + parts[3]
			}
		}
		return m
	})
}

// columnType finds the name and the type at the beginning of a column.
var columnType = regexp.MustCompile("(?s)^`(?:[^`]|``)+` [^ (]+(?:\\((?:[^')]|'(?:[^'\\\\]|''|\\\\.)*')*\\))?")

// unsaid leaves out of a column what SHOW CREATE TABLE adds though nobody said it: the collation, where it is that of
// the table. Created with it said, a column would show its character set too from then on, and differ from its
// original in nothing but that.
func (d definition) unsaid(element string) string {
	m, begin := tableCollation.FindStringSubmatch(d.options), columnType.FindString(element)
	if m == nil || begin == "" {
		return element
	}
	if rest, ok := strings.CutPrefix(element[len(begin):], " COLLATE "+m[1]); ok && (rest == "" || rest[0] == ' ') {
		return begin + rest
	}
	return element
}

// recreate is a definition that creates the same table as SHOW CREATE TABLE showed; without its foreign keys and
// named checks, it does so where the other tables are not.
func recreate(name, sql string, foreignKeys bool) string {
	d, err := parseDefinition(sql)
	if err != nil {
		return sql
	}
	kept := slices.DeleteFunc(d.elements, func(e string) bool { return !foreignKeys && strings.HasPrefix(e, "CONSTRAINT ") })
	return d.text(name, mapped(kept, d.unsaid))
}

// staged says how a table is built in a stage: created without what would slow the loading down, which is added after.
type staged struct {
	create string
	// keys are added by one ALTER, each of fulltext by one of its own (InnoDB builds one at a time), foreign keys when
	// all tables are there.
	keys, fulltext, foreign []string
}

// atOnce is how much a table may hold, in bytes, to be created with its keys: to add them later costs a server some
// milliseconds, which thousands of small tables add up.
const atOnce = 1 << 20

// stage plans how to build the table under its name in the session's schema, a small one with its keys. Where an index
// is computed from values, the server may warn of these, which only a statement that does not load rows may do.
func (t table) stage(small bool) (staged, error) {
	d, err := parseDefinition(t.Definition)
	if err != nil {
		return staged{}, err
	}
	primary := slices.ContainsFunc(d.elements, func(e string) bool { return strings.HasPrefix(e, "PRIMARY KEY") })
	columns := slices.DeleteFunc(slices.Clone(d.elements), func(e string) bool { return !strings.HasPrefix(e, "`") })
	small = small && len(columns) == len(t.Columns) // none is generated
	var s staged
	var kept []string
	for _, e := range d.elements {
		is := func(kind string) bool { return strings.HasPrefix(e, kind) }
		switch {
		case foreignKey(e):
			s.foreign = append(s.foreign, e)
		case is("FULLTEXT KEY "):
			s.fulltext = append(s.fulltext, e)
		// A unique key may be what the table is ordered by, and an AUTO_INCREMENT column needs its key.
		case (is("UNIQUE KEY ") && primary || is("KEY ") || is("SPATIAL KEY ")) && !t.numbers(e) && (!small || strings.Contains(e, "((")):
			s.keys = append(s.keys, e)
		default:
			kept = append(kept, d.unsaid(e))
		}
	}
	s.create = d.text(t.Name, kept)
	return s, nil
}

// numbers tells whether a key is one that an AUTO_INCREMENT column needs.
func (t table) numbers(key string) bool {
	for _, c := range t.Columns {
		if c.AutoIncrement && strings.HasPrefix(key[strings.IndexByte(key, '(')+1:], quote(c.Name)) {
			return true
		}
	}
	return false
}

var autoIncrement = regexp.MustCompile(` AUTO_INCREMENT=(\d+)`)

// What versions of MariaDB write differently: whether a column is INVISIBLE stands before its DEFAULT or after it, and the
// number of an engine's own option bare or in quotes.
var (
	invisible    = regexp.MustCompile("(?s)^(`(?:[^`]|``)+` [^']*?) INVISIBLE( .*)?$")
	engineOption = regexp.MustCompile("(`=)'([0-9]+)'")
)

// normalised makes definitions comparable: the counter left out, keys and constraints sorted, since those that are
// added later come later.
func normalised(sql string) string {
	d, err := parseDefinition(sql)
	if err != nil {
		return sql
	}
	first := slices.IndexFunc(d.elements, func(e string) bool { return !strings.HasPrefix(e, "`") })
	if first >= 0 {
		slices.Sort(d.elements[first:])
	}
	for i, e := range d.elements {
		d.elements[i] = invisible.ReplaceAllString(e, "$1$2 INVISIBLE")
	}
	return strings.Join(d.elements, ",\n") + "\n" + engineOption.ReplaceAllString(autoIncrement.ReplaceAllString(d.options, ""), "$1$2")
}

// nextNumber is the AUTO_INCREMENT of a definition, "" when there is none.
func nextNumber(sql string) string {
	d, err := parseDefinition(sql)
	if err != nil {
		return ""
	}
	if m := autoIncrement.FindStringSubmatch(d.options); m != nil {
		return m[1]
	}
	return ""
}
