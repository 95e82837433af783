package mysql

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/remora-backup/remora/internal/remora"
)

// The kinds of objects, in the order in which they are created: a function may use a library, a view may call a function,
// and an event acts.
const (
	kindLibrary     = "library"
	kindFunction    = "function"
	kindProcedure   = "procedure"
	kindPackage     = "package"
	kindPackageBody = "package body"
	kindView        = "view"
	kindTrigger     = "trigger"
	kindEvent       = "event"
)

var (
	routineKinds = []string{kindLibrary, kindFunction, kindProcedure, kindPackage, kindPackageBody}
	objectKinds  = append(slices.Clone(routineKinds), kindView, kindTrigger, kindEvent)
)

// object is a view, a trigger, a routine or an event: a statement, and the settings under which it means what it says.
// It is never looked into but to disable an event; names of its own schema stand in it without the schema, so it can be
// created in any.
type object struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Table is the table of a trigger.
	Table string `json:"table,omitempty"`
	// Create is the server's own text, in the character set Client.
	Create     sqlText `json:"create"`
	Mode       string  `json:"sql_mode"`
	Client     string  `json:"character_set_client"`
	Connection string  `json:"collation_connection"`
	// Database is the default collation of the schema when the object was created.
	Database string `json:"database_collation,omitempty"`
	Zone     string `json:"time_zone,omitempty"`
	// Broken marks a view that was invalid when it was read: it names what is not there, or its definer may not use it. No
	// server creates such a view, so it is brought back only where it is valid, and left where it is if it can be.
	Broken bool `json:"broken,omitempty"`
}

// sqlText is a statement in whatever character set it was written; as JSON it is a string where it is UTF-8, and its
// bytes in an array of one otherwise.
type sqlText string

// MarshalJSON implements json.Marshaler.
func (t sqlText) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal([1][]byte{[]byte(t)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *sqlText) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '[' {
		var one [1][]byte
		err := json.Unmarshal(raw, &one)
		*t = sqlText(one[0])
		return err
	}
	return json.Unmarshal(raw, (*string)(t))
}

func (o object) String() string {
	if o.Table != "" {
		return o.Kind + " " + o.Name + " on " + o.Table
	}
	return o.Kind + " " + o.Name
}

// fields are all of an object, for a digest.
func (o object) fields() []string {
	return []string{o.Kind, o.Name, o.Table, string(o.Create), o.Mode, o.Client, o.Connection, o.Database, o.Zone}
}

// alike tells whether two objects are created by the same text.
func (o object) alike(p object) bool {
	o.Broken = p.Broken
	return o == p
}

// same tells whether two objects are the same but for what they do.
func (o object) same(p object) bool { return o.Kind == p.Kind && o.Name == p.Name }

// headers find what a statement creates: something of its kind in the session's schema, unless it names another. No text
// is executed that does not begin like this, since a backup may be forged. They find the definer, of a view the security, of an
// event when it ends, and its state: that stands where the grammar has it, not in a comment or a string.
var headers = func() map[string]*regexp.Regexp {
	const (
		quoted = "(?:`(?:[^`]|``)*`|\"(?:[^\"\\\\]|\"\")*\")"
		name   = "(?:" + quoted + `|(?:[\w$]|[^\x00-\x7f])+)`
		in     = `(?P<schema>` + name + `\s*\.\s*)?`
		begin  = `(?s)^CREATE (?:ALGORITHM=\w+ )?(?:MATERIALIZED /\*\(BY ENGINE=\w+\)\*/ )?(?:DEFINER=(?P<definer>` + quoted + `(?:@` + quoted + `)?) )?(?:SQL SECURITY (?P<security>\w+) )?`
		at     = `'(?P<end>[-0-9:. ]+)'`
	)
	all := map[string]*regexp.Regexp{}
	for kind, rest := range map[string]string{
		kindView:      `(?:JSON RELATIONAL DUALITY )?VIEW ` + in + name + `\s*(?:\(|AS\s)`,
		kindTrigger:   `(?i:TRIGGER\s+(?:IF\s+NOT\s+EXISTS\s+)?` + in + name + `\s+(?:BEFORE|AFTER)\s+\w[\w\s]*\sON\s+(?P<on>` + name + `\s*\.\s*)?` + name + `\s)`,
		kindFunction:  `(?:AGGREGATE )?FUNCTION ` + in + name + `\s*(?:\(|RETURN\s)`,
		kindProcedure: `PROCEDURE ` + in + name + `\s*(?:\(|AS\s|IS\s)`,
		// What would be the name of a package could be the word BODY, but for its quotes.
		kindPackage: `PACKAGE ` + quoted + `\s`, kindPackageBody: `PACKAGE BODY ` + quoted + `\s`, kindLibrary: `LIBRARY ` + quoted + `\s`,
		kindEvent: `EVENT ` + in + name + ` ON SCHEDULE (?:AT ` + at + `|EVERY (?:\d+|'[^'\\]*') \w+(?: STARTS '[-0-9:. ]+')?(?: ENDS ` + at + `)?)` +
			` ON COMPLETION (?:NOT )?PRESERVE (?P<state>ENABLE|DISABLE(?: ON SLAVE| ON REPLICA)?) (?:COMMENT '|DO )`,
	} {
		all[kind] = regexp.MustCompile(begin + rest)
	}
	return all
}()

// found is where the beginning of the text says something; "" and a position below 0 where it does not.
func (o object) found(what string) (text string, from, to int) {
	header := headers[o.Kind]
	m := header.FindStringSubmatchIndex(string(o.Create))
	for i, name := range header.SubexpNames() {
		if m != nil && name == what && m[2*i] >= 0 {
			return string(o.Create[m[2*i]:m[2*i+1]]), m[2*i], m[2*i+1]
		}
	}
	return "", -1, -1
}

// changed is the object with something else said at the beginning of its text, where it says it.
func (o object) changed(what, to string) object {
	if _, from, end := o.found(what); from >= 0 {
		o.Create = o.Create[:from] + sqlText(to) + o.Create[end:]
	}
	return o
}

// check refuses a text that is not what the object is, or that would create it somewhere else.
func (o object) check() error {
	header, known := headers[o.Kind]
	if !known || o.Name == "" || o.Broken && o.Kind != kindView || // no rehearsal looks at what is broken
		!settingName.MatchString(o.Client) || !settingName.MatchString(o.Connection) {
		return fmt.Errorf("%s %q is nothing that can be created", o.Kind, o.Name)
	}
	begin := header.FindString(string(o.Create))
	in, _, _ := o.found("schema")
	on, _, _ := o.found("on")
	// In these character sets a quote may be the second byte of a letter.
	doubtful := slices.Contains([]string{"big5", "cp932", "gb18030", "gbk", "sjis"}, o.Client) && strings.ContainsFunc(begin, func(r rune) bool { return r > 127 })
	if begin == "" || in+on != "" || doubtful {
		return fmt.Errorf("the text of %s does not begin as that of a %s in its schema does", o, o.Kind)
	}
	return nil
}

// disabled is an event that does not act.
func (o object) disabled() object { return o.changed("state", "DISABLE") }

// inTime is the object as it can come now, and what is to be said of that: an event whose last time has passed comes
// disabled, since the server would drop or disable it by itself.
func (o object) inTime(ctx context.Context, s *session) (object, []string, error) {
	end, _, _ := o.found("end")
	if state, _, _ := o.found("state"); state != "ENABLE" || end == "" {
		return o, nil, nil
	}
	var past bool
	err := s.row(ctx, "SELECT COALESCE(CONVERT_TZ(?, ?, '+00:00') <= UTC_TIMESTAMP(), FALSE)", end, o.Zone).Scan(&past)
	if err != nil || !past {
		return o, nil, err
	}
	return o.disabled(), []string{o.String() + ": its time has passed, so it comes disabled"}, nil
}

// objectQuery lists the objects of a schema by kind, name and table, in an order in which they can be created but for
// views on views: triggers of one moment in the order in which they act.
const objectQuery = `
	SELECT routine_schema AS in_schema, LOWER(routine_type) AS kind, routine_name AS name, '' AS on_table, '' AS at, 0 AS place FROM information_schema.routines WHERE routine_schema = ?
	UNION ALL SELECT table_schema, 'view', table_name, '', '', 0 FROM information_schema.views WHERE table_schema = ?
	UNION ALL SELECT trigger_schema, 'trigger', trigger_name, event_object_table, CONCAT(action_timing, event_manipulation), action_order FROM information_schema.triggers WHERE trigger_schema = ?
	UNION ALL SELECT event_schema, 'event', event_name, '', '', 0 FROM information_schema.events WHERE event_schema = ?
	ORDER BY CAST(on_table AS BINARY), at, place, CAST(name AS BINARY)`

// libraryQuery lists those of MySQL since 9.2.
const libraryQuery = `SELECT library_schema AS in_schema, 'library' AS kind, library_name AS name, '' AS on_table, '' AS at, 0 AS place FROM information_schema.libraries WHERE library_schema = ? UNION ALL`

// listObjects reads everything in a schema that is not a table.
func (c *census) listObjects(ctx context.Context, s *session, schema string) error {
	var all []object
	query := objectQuery
	if !s.server.mariadb() && s.server.since(9, 2) {
		query = libraryQuery + query
	}
	err := s.each(ctx, func(rows *sql.Rows) error {
		var in string
		var o object
		err := rows.Scan(&in, &o.Kind, &o.Name, &o.Table, new(string), new(int))
		if in == schema || s.server.LowerCase != 0 { // MariaDB means names in any letters by one
			all = append(all, o)
		}
		return err
	}, query, slices.Repeat([]any{schema}, strings.Count(query, "?"))...)
	if err != nil || len(all) == 0 {
		return err
	}
	inOrder(all)
	// The texts are wanted as they were written, and without the schema's name.
	if err := s.exec(ctx, "USE "+quote(schema)); err != nil {
		return err
	}
	return s.asWritten(ctx, func() error { return c.readObjects(ctx, s, schema, all) })
}

// readObjects reads the text of each object.
func (c *census) readObjects(ctx context.Context, s *session, schema string, all []object) (err error) {
	for _, o := range all {
		if !slices.Contains(objectKinds, o.Kind) {
			c.refuse(o.Kind, o.Name, "")
			continue
		}
		if err := o.read(ctx, s); err != nil {
			return fmt.Errorf("read %s: %w", o, err)
		}
		// MariaDB keeps the text of a trigger as it was written, with the schema where that was named.
		o = o.changed("on", "").changed("schema", "")
		if err := o.check(); err != nil {
			c.refuse(o.Kind, o.Name, "its text begins in a way that is not understood: create it again without comments before its body")
			continue
		}
		o = o.unqualified(schema)
		if o.Kind == kindView {
			if o.Broken, err = s.warned(ctx, codeViewInvalid, ""); err != nil {
				return err
			}
			// In a view, MariaDB 10 knows the functions of packages in this mode alone, without saying so.
			if s.server.mariadb() && !s.server.since(11, 0) && slices.ContainsFunc(all, func(p object) bool { return p.Kind == kindPackage && o.calls(p.Name) }) {
				o.Mode = "ORACLE"
			}
			// MariaDB names the schema where something about the view is amiss. As the name of something else it stands alone, too.
			if own := quote(schema); strings.Count(string(o.Create), own) == strings.Count(string(o.Create), own+".") {
				o.Create = sqlText(strings.ReplaceAll(string(o.Create), own+".", ""))
			}
		}
		c.objects = append(c.objects, o)
	}
	return nil
}

// calls tells whether a view calls a function of a package.
func (o object) calls(name string) bool {
	return regexp.MustCompile(regexp.QuoteMeta(quote(name)) + "\\.`(?:[^`]|``)+`\\(").MatchString(string(o.Create))
}

// unqualified is a routine in another language than SQL without the schema's name, where it says which libraries it uses.
func (o object) unqualified(schema string) object {
	const using, as = "\n    LANGUAGE JAVASCRIPT\n    USING (", ")\nAS "
	head, rest, _ := strings.Cut(string(o.Create), using)
	if libraries, body, found := strings.Cut(rest, as); found {
		o.Create = sqlText(head + using + strings.ReplaceAll(libraries, quote(schema)+".", "") + as + body)
	}
	return o
}

// read fills in the text of an object and its settings, from the session's schema.
func (o *object) read(ctx context.Context, s *session) error {
	all, err := s.records(ctx, "SHOW CREATE "+strings.ToUpper(o.Kind)+" "+quote(o.Name))
	if err != nil || len(all) == 0 {
		return err
	}
	said := all[0]
	o.Create = sqlText(said["sql original statement"] + said["create "+o.Kind]) // it has one of them
	if o.Create == "" {
		return remora.Fail(remora.Denied, "read a definition", o.String(), "grant "+s.server.routines(forBackup, everywhere)[0].privileges[0]+" to the user", "the server hides its text")
	}
	o.Mode, o.Database, o.Zone = said["sql_mode"], said["database collation"], said["time_zone"]
	o.Client, o.Connection = cmp.Or(said["character_set_client"], "utf8mb4"), cmp.Or(said["collation_connection"], "utf8mb4_general_ci") // a library has none
	return nil
}

// settings are the statements under which the text means what it says.
func (o object) settings() []string {
	assign := fmt.Sprintf("SET SESSION sql_mode = %s, character_set_client = %s, collation_connection = %s", text(o.Mode), o.Client, o.Connection)
	if o.Zone != "" {
		assign += ", time_zone = " + text(o.Zone)
	}
	if state, _, _ := o.found("state"); strings.HasPrefix(state, "DISABLE") { // else the server takes none whose time has passed
		assign += ", timestamp = 1"
	}
	return []string{assign}
}

// statement creates the object. A semicolon at the end belongs to the body, but the server would take it for the end of
// the query and away.
func (o object) statement() string {
	if strings.HasSuffix(string(o.Create), ";") {
		return string(o.Create) + "/**/"
	}
	return string(o.Create)
}

// unset takes the settings of objects back.
const unset = "SET SESSION sql_mode = '', time_zone = '+00:00', timestamp = DEFAULT, character_set_client = utf8mb4, collation_connection = utf8mb4_general_ci"

// create creates the object after what is to be done before, and tells what the server had to note.
func (o object) create(ctx context.Context, s *session, before []string) (notes []string, err error) {
	defer func() { err = errors.Join(err, s.exec(context.WithoutCancel(ctx), unset)) }()
	if err := s.all(ctx, append(before, o.statement())...); err != nil {
		return nil, err
	}
	definer, _, _ := o.found("definer") // MariaDB may go on to warn of that of the one before
	if missing, err := s.warned(ctx, codeNoDefiner, definer); err != nil || missing {
		notes = append(notes, fmt.Sprintf("%s: its definer does not exist on this server, so it fails when it is used", o))
		return notes, err
	}
	return nil, nil
}

// collations are those that schemas have at the moment: an object is created while its schema has that which it had then.
type collations map[string]string

func collationsOf(in []census) collations {
	c := collations{}
	for _, schema := range in {
		c[schema.schema] = schema.options.Collation
	}
	return c
}

// before are the statements after which the text of an object means what it says, the first of them USE.
func (c collations) before(o shapedObject) []string {
	statements := []string{"USE " + quote(o.in.schema)}
	if o.Database != "" && o.Database != c[o.in.schema] {
		statements = append(statements, "ALTER DATABASE "+quote(o.in.schema)+" COLLATE "+quote(o.Database))
		c[o.in.schema] = o.Database
	}
	return append(statements, o.settings()...)
}

// after are the statements that give schemas their own collations back.
func (c collations) after(in []census) (statements []string) {
	for _, schema := range in {
		if c[schema.schema] != schema.options.Collation {
			statements = append(statements, "ALTER DATABASE "+quote(schema.schema)+" "+schema.options.clause())
		}
	}
	return statements
}

// createObjects creates the objects of censuses that belong together, in schemas that are there: kind by kind, and views when what they are made of
// is there. What the server noted is returned.
func createObjects(ctx context.Context, s *session, in []census) (notes []string, err error) {
	now, current := collationsOf(in), ""
	defer func() { err = errors.Join(err, s.all(context.WithoutCancel(ctx), now.after(in)...)) }()
	for _, kind := range objectKinds {
		for waiting := ofKindIn(in, kind); len(waiting) > 0; {
			var later []shapedObject
			for _, one := range waiting {
				before := now.before(one)
				if one.in.schema == current {
					before = before[1:]
				}
				current = one.in.schema
				noted, err := one.create(ctx, s, before)
				notes = append(notes, noted...)
				switch {
				case isCode(err, codeUnknownTable, codeViewInvalid) && kind == kindView && len(later) < len(waiting)-1:
					later = append(later, one)
				case one.Broken && isCode(err, 1054, codeUnknownTable, 1305, codeViewInvalid):
					notes = append(notes, one.String()+" is invalid here too, and was left out")
				case err != nil:
					return notes, &uncreated{one.String(), err}
				}
			}
			waiting = later
		}
	}
	return notes, nil
}

// shapedObject is an object with its schema.
type shapedObject struct {
	object
	in census
}

// ofKindIn are the objects of a kind in several schemas.
func ofKindIn(in []census, kind string) (all []shapedObject) {
	for _, schema := range in {
		for _, o := range ofKinds(schema.objects, kind) {
			all = append(all, shapedObject{o, schema})
		}
	}
	return all
}

// uncreated says what could not be created.
type uncreated struct {
	what string
	err  error
}

func (u *uncreated) Error() string { return "create " + u.what + ": " + u.err.Error() }

func (u *uncreated) Unwrap() error { return u.err }

// dropObjects drops objects of these kinds from a schema, the last created first; views at once, which syncs the disk once.
func dropObjects(ctx context.Context, s *session, schema string, objects []object, kinds ...string) error {
	if objects = ofKinds(objects, kinds...); len(objects) == 0 {
		return nil
	}
	if err := s.exec(ctx, "USE "+quote(schema)); err != nil {
		return err
	}
	views := mapped(ofKinds(objects, kindView), func(o object) string { return quote(o.Name) })
	for _, o := range slices.Backward(objects) {
		drop := "DROP " + strings.ToUpper(o.Kind) + " IF EXISTS " + quote(o.Name)
		if o.Kind == kindView {
			if len(views) == 0 {
				continue
			}
			drop = "DROP VIEW IF EXISTS " + strings.Join(views, ", ")
			views = nil
		}
		if err := s.exec(ctx, drop); err != nil {
			return fmt.Errorf("drop %s: %w", o, err)
		}
	}
	return nil
}

// inOrder puts objects in the order in which the census lists kinds.
func inOrder(objects []object) []object {
	slices.SortStableFunc(objects, func(a, b object) int { return slices.Index(objectKinds, a.Kind) - slices.Index(objectKinds, b.Kind) })
	return objects
}

// ordered puts views behind those that their texts name, as far as that can be told from names.
func ordered(views []shapedObject) (sorted []shapedObject) {
	seen := map[int]bool{}
	var visit func(i int)
	visit = func(i int) {
		if seen[i] {
			return
		}
		seen[i] = true
		for j, other := range views {
			if strings.Contains(string(views[i].Create), quote(other.Name)) {
				visit(j)
			}
		}
		sorted = append(sorted, views[i])
	}
	for i := range views {
		visit(i)
	}
	return sorted
}

// broken are the objects that no server would create.
func broken(objects []object) []object {
	return slices.DeleteFunc(slices.Clone(objects), func(o object) bool { return !o.Broken })
}

// ofKinds are the objects of some kinds.
func ofKinds(objects []object, kinds ...string) []object {
	return slices.DeleteFunc(slices.Clone(objects), func(o object) bool { return !slices.Contains(kinds, o.Kind) })
}

// without are the objects that are not among others.
func without(objects, others []object) []object {
	return slices.DeleteFunc(slices.Clone(objects), func(o object) bool { return slices.ContainsFunc(others, o.same) })
}

// compareObjects names what differs between the objects that should be in a schema and those that are.
func compareObjects(want, found []object) (differences []string) {
	for _, o := range want {
		i := slices.IndexFunc(found, o.same)
		switch {
		case i < 0 && o.Broken: // no server creates it
		case i < 0:
			differences = append(differences, o.String()+" is missing")
		case !found[i].alike(o):
			differences = append(differences, o.String()+": its definition differs")
		}
	}
	for _, o := range without(found, want) {
		differences = append(differences, o.String()+" is not in the backup")
	}
	if len(differences) == 0 && !slices.Equal(triggerOrder(want), triggerOrder(found)) {
		differences = append(differences, "triggers act in another order")
	}
	return differences
}

// triggerOrder is the order in which the triggers of each table act.
func triggerOrder(objects []object) []string {
	triggers := ofKinds(objects, kindTrigger)
	slices.SortStableFunc(triggers, func(a, b object) int { return strings.Compare(a.Table, b.Table) })
	return objectNames(triggers)
}

// objectNames are the names of objects.
func objectNames(objects []object) []string {
	return mapped(objects, func(o object) string { return o.Name })
}
