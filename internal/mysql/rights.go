package mysql

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/remora-backup/remora/internal/remora"
)

// Right is a right that an account lacks.
type Right struct {
	// Purpose is what it is needed for: "backup" or "restore".
	Purpose string `json:"purpose"`
	// Account is the account as the server knows it: 'remora'@'%'.
	Account string `json:"account"`
	// Name says what is missing: "TRIGGER on shop".
	Name string `json:"name"`
	// Why says what happens without it.
	Why string `json:"why"`
	// Required is false where the work goes on without it, in a weaker way.
	Required bool `json:"required"`
	// Grant is the statement that gives it.
	Grant string `json:"grant"`
}

func (r Right) warning() string {
	return fmt.Sprintf("%s lacks %s: %s. To change that: %s", r.Account, r.Name, r.Why, r.Grant)
}

// Rights tests what the accounts may do, and the server, and returns what is missing for backups and for restores, the
// required ones first. It changes nothing.
func (d *Database) Rights(ctx context.Context) ([]Right, error) {
	var all []Right
	for i, purpose := range []struct {
		who   account
		needs func(server) []need
	}{{d.read, d.backupNeeds}, {d.write, d.restoreNeeds}, {d.write, d.laterNeeds}} {
		err := d.with(ctx, purpose.who, "read the rights", purpose.who.user, func(s *session) error {
			g, err := readGrants(ctx, s)
			all = append(all, g.missing(purpose.needs(s.server))...)
			if err == nil && i == 2 {
				err = g.settings(ctx, s, &all)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	required := slices.DeleteFunc(slices.Clone(all), func(r Right) bool { return !r.Required })
	return append(required, slices.DeleteFunc(all, func(r Right) bool { return r.Required })...), nil
}

// settings adds those of the server that keep an account from restoring.
func (g grants) settings(ctx context.Context, s *session, to *[]Right) error {
	is, err := s.variables(ctx, "local_infile", "log_bin", "log_bin_trust_function_creators")
	wanted := func(name, why string) {
		*to = append(*to, Right{forRestore, g.quoted(), name, why, false, s.server.dialect().persist + name + " = ON;"})
	}
	if is["local_infile"] == "OFF" {
		wanted("local_infile", "without it the server takes no rows from a client")
	}
	if is["log_bin"] == "ON" && is["log_bin_trust_function_creators"] == "OFF" && !g.everywhere("SUPER") {
		wanted("log_bin_trust_function_creators", "without it, or SUPER, triggers and functions cannot be restored while there is a binary log")
	}
	return err
}

// scope is where a right must hold: in the schema of that name, in all schemas of ours, or everywhere.
type scope string

const (
	everywhere scope = ""
	inOurs     scope = prefix
	procTable  scope = "mysql.proc" // the table of routines
)

func (s scope) String() string {
	named := map[scope]string{inOurs: "the schemas _remora…", everywhere: "the server", procTable: "the table mysql.proc"}
	return cmp.Or(named[s], string(s))
}

// need is a set of rights that belong together.
type need struct {
	purpose    string
	privileges []string
	scope      scope
	required   bool
	why        string
}

const (
	forBackup  = "backup"
	forRestore = "restore"
)

// routines are the needs for reading the routines in scopes of ours. MySQL has one right for the whole server, MariaDB
// one for each schema, and older ones of it show routines to those who may read their table.
func (v server) routines(purpose string, scopes ...scope) []need {
	right := "SHOW_ROUTINE"
	switch {
	case !v.mariadb():
		scopes = []scope{everywhere}
	case v.since(11, 3):
		right = "SHOW CREATE ROUTINE"
	default:
		right, scopes = "SELECT", []scope{procTable}
	}
	return mapped(scopes, func(s scope) need {
		return need{purpose, []string{right}, s, true, "without it the server hides routines"}
	})
}

// definer are the rights to create something that somebody else defined.
func (v server) definer() string {
	switch {
	case v.mariadb():
		return "SET USER"
	case v.since(8, 2):
		return "SET_ANY_DEFINER, ALLOW_NONEXISTENT_DEFINER"
	default:
		return "SET_USER_ID"
	}
}

// laterNeeds are worth having from the beginning; whether they are needed, a plan finds out (S5).
func (d *Database) laterNeeds(on server) (needs []need) {
	for _, schema := range d.scopes() {
		needs = append(needs, need{forRestore, []string{"REFERENCES"}, schema, false, "without it tables cannot be restored by --table that have foreign keys to or from others"})
	}
	return append(needs, need{forRestore, strings.Split(on.definer(), ", "), everywhere, false, "without it views, triggers, routines and events that somebody else has defined cannot be restored"})
}

// scopes are the schemas of the source.
func (d *Database) scopes() []scope {
	return mapped(d.cfg.Schemas, func(name string) scope { return scope(name) })
}

func (d *Database) backupNeeds(on server) (needs []need) {
	for _, schema := range d.scopes() {
		needs = append(needs,
			need{forBackup, []string{"SELECT", "SHOW VIEW", "TRIGGER", "EVENT"}, schema, true, "without them the server hides rows, views, triggers and events"},
			need{forBackup, []string{"LOCK TABLES"}, schema, false, "without it tables that are not InnoDB cannot be backed up"})
	}
	return slices.Concat(needs, on.routines(forBackup, d.scopes()...), []need{
		{forBackup, on.sealing(), everywhere, false, "without them one session reads everything, and a migration meanwhile fails the backup"},
		{forBackup, []string{on.dialect().logRight}, everywhere, false, "without it the position in the binary log is not recorded"},
	})
}

func (d *Database) restoreNeeds(on server) (needs []need) {
	objects := []string{"SHOW VIEW", "CREATE VIEW", "TRIGGER", "EVENT", "CREATE ROUTINE", "ALTER ROUTINE", "EXECUTE", "LOCK TABLES"}
	for _, schema := range d.scopes() {
		needs = append(needs,
			need{forRestore, slices.Concat([]string{"SELECT", "INSERT", "CREATE", "DROP", "ALTER"}, objects), schema, true, "they move tables out and in, and create views, triggers, routines and events again"})
	}
	needs = append(needs,
		need{forRestore, slices.Concat([]string{"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX", "REFERENCES"}, objects), inOurs, true, "they build the stage, rehearse the switch, and keep the journal"},
		need{forRestore, []string{"PROCESS"}, everywhere, true, "without it the server hides foreign keys of other schemas"})
	needs = append(needs, on.routines(forRestore, append(d.scopes(), inOurs)...)...)
	if d.cfg.SkipBinaryLog {
		needs = append(needs, need{forRestore, []string{on.dialect().unlogRight}, everywhere, true, "without it restore.skip_binary_log cannot keep a stage out of the binary log"})
	}
	if !on.mariadb() {
		needs = append(needs, need{forRestore, []string{"SELECT"}, "performance_schema", false, "without it nobody can tell who blocks a switch"})
	}
	return needs
}

// grants are what an account may do, its active roles included.
type grants struct {
	account string
	global  map[string]bool
	schemas []schemaGrant
	revoked []schemaGrant
	// routines tells that the table of routines may be read.
	routines bool
	// literal tells that wildcards mean nothing (partial_revokes), mixed that MySQL has active roles.
	literal, mixed bool
	fold           bool
}

// schemaGrant is what a holder may do in the schemas of a pattern.
type schemaGrant struct {
	pattern    string
	holder     holder
	privileges map[string]bool
}

// holder is who has a right: the account itself, or what it has its rights from. MariaDB alone tells them apart.
type holder int

const (
	itself holder = iota
	aRole
	everybody
)

// grantLine reads grants on everything and on schemas. Grants on single tables, columns and routines are not enough for
// anything that we do, and roles have been expanded by the server.
var grantLine = regexp.MustCompile("(?s)^(GRANT|REVOKE) ([A-Z0-9_, ]+) ON (?:(\\*)|`((?:[^`]|``)*)`)\\.\\* (?:TO|FROM) (.*)")

// procLine is the grant that shows routines on MariaDB before 11.3.
var procLine = regexp.MustCompile("^GRANT (?:SELECT|ALL PRIVILEGES)[^`']* ON `mysql`\\.`proc` TO ")

// readGrants reads the rights of a session's account.
func readGrants(ctx context.Context, s *session) (grants, error) {
	g := grants{global: map[string]bool{}, fold: s.server.LowerCase != 0}
	if err := s.row(ctx, "SELECT CURRENT_USER(), "+s.server.dialect().grantsMean).Scan(&g.account, &g.literal, &g.mixed); err != nil {
		return g, err
	}
	lines, err := s.strings(ctx, "SHOW GRANTS")
	for _, line := range lines {
		g.add(line)
	}
	return g, err
}

func (g *grants) add(line string) {
	g.routines = g.routines || procLine.MatchString(line)
	m := grantLine.FindStringSubmatch(line)
	if m == nil {
		return
	}
	set := map[string]bool{}
	for p := range strings.SplitSeq(m[2], ",") {
		set[strings.TrimSpace(p)] = true
	}
	one := schemaGrant{strings.ReplaceAll(m[4], "``", "`"), itself, set}
	switch {
	case strings.HasPrefix(m[5], "PUBLIC"):
		one.holder = everybody
	case !strings.Contains(m[5], "`@`"):
		one.holder = aRole
	}
	same := func(s schemaGrant) bool { return s.holder == one.holder && s.pattern == one.pattern }
	switch {
	case m[1] == "REVOKE":
		g.revoked = append(g.revoked, one)
	case m[3] == "*":
		for p := range set {
			g.global[p] = true
		}
	case slices.ContainsFunc(g.schemas, same): // of another role
		maps.Copy(g.schemas[slices.IndexFunc(g.schemas, same)].privileges, set)
	default:
		g.schemas = append(g.schemas, one)
	}
}

// everywhere tells whether a right holds for the whole server.
func (g grants) everywhere(privilege string) bool {
	includedIn := map[string]string{"FLUSH_TABLES": "RELOAD", "SHOW_ROUTINE": "SELECT", "SESSION_VARIABLES_ADMIN": "SYSTEM_VARIABLES_ADMIN"}
	return g.global[privilege] || g.global["ALL PRIVILEGES"] || g.global[includedIn[privilege]]
}

// in tells whether a right holds in a schema.
func (g grants) in(schema, privilege string) bool {
	if g.everywhere(privilege) && !slices.ContainsFunc(g.revoked, func(r schemaGrant) bool {
		return strings.EqualFold(r.pattern, schema) && r.privileges[privilege]
	}) {
		return true
	}
	for _, h := range []holder{itself, aRole, everybody} {
		if force := g.inForce(h, schema); len(force) > 0 && len(lacking(force, privilege)) == 0 {
			return true
		}
	}
	return false
}

// inForce are the grants of which a server takes one, the only one, for a schema: of several whose patterns match, that
// with the most letters before a wildcard. Which of those that are alike in that, and which of all while MySQL has roles,
// is nobody's to say.
func (g grants) inForce(h holder, schema string) []schemaGrant {
	force := slices.DeleteFunc(slices.Clone(g.schemas), func(s schemaGrant) bool { return s.holder != h || !g.matches(s.pattern, schema) })
	if g.mixed || len(force) == 0 {
		return force
	}
	letters := func(s schemaGrant) int {
		if at := wildcard.FindStringIndex(s.pattern); at != nil && !g.literal {
			return at[1]
		}
		return math.MaxInt
	}
	most := letters(slices.MaxFunc(force, func(a, b schemaGrant) int { return cmp.Compare(letters(a), letters(b)) }))
	return slices.DeleteFunc(force, func(s schemaGrant) bool { return letters(s) < most })
}

// wildcard is a pattern up to its first wildcard.
var wildcard = regexp.MustCompile(`(?s)^(?:\\.|[^%_\\])*[%_]`)

// lacking are the grants that do not give a right.
func lacking(all []schemaGrant, privilege string) []schemaGrant {
	return slices.DeleteFunc(slices.Clone(all), func(s schemaGrant) bool { return s.privileges[privilege] || s.privileges["ALL PRIVILEGES"] })
}

// matches compares a schema with the pattern of a grant: _ and % are wildcards unless escaped, or unless partial_revokes
// makes all of them mean themselves.
func (g grants) matches(pattern, schema string) bool {
	meant := []string{`\\_`, `_`, `\\%`, `%`, `\\\\`, `\\`} // each backslash is two once it is quoted
	if !g.literal {
		meant = append(meant, `_`, `.`, `%`, `.*`)
	}
	flags := "(?s)"
	if g.fold {
		flags = "(?si)"
	}
	matched, err := regexp.MatchString(flags+"^"+strings.NewReplacer(meant...).Replace(regexp.QuoteMeta(pattern))+"$", schema)
	return err == nil && matched
}

// has tells whether a right holds in a scope.
func (g grants) has(s scope, privilege string) bool {
	switch s {
	case everywhere:
		return g.everywhere(privilege)
	case procTable:
		return g.routines || g.in("mysql", privilege)
	}
	return !slices.ContainsFunc(s.schemas(), func(schema string) bool { return !g.in(schema, privilege) })
}

// schemas are those of a scope. A pattern that covers these of ours covers all.
func (s scope) schemas() []string {
	if s == inOurs {
		return []string{prefix, putAwaySchema("a", 1), stageSchema("b", 2, 10)}
	}
	return []string{string(s)}
}

// missing lists the needs that are not met, one right for each.
func (g grants) missing(needs []need) []Right {
	var all []Right
	for _, n := range needs {
		lack := slices.DeleteFunc(slices.Clone(n.privileges), func(p string) bool { return g.has(n.scope, p) })
		if len(lack) == 0 {
			continue
		}
		list := strings.Join(lack, ", ")
		all = append(all, Right{
			Purpose: n.purpose, Account: g.quoted(), Name: list + " on " + n.scope.String(), Why: n.why, Required: n.required,
			Grant: strings.Join(mapped(g.targets(n.scope, lack), func(to string) string { return fmt.Sprintf("GRANT %s ON %s TO %s;", list, to, g.quoted()) }), " "),
		})
	}
	return all
}

// targets are what GRANT has to name, so that rights hold in a scope. To name what no grant in force does would put those
// out of force.
func (g grants) targets(s scope, lack []string) (all []string) {
	if s == everywhere || s == procTable {
		return []string{g.target(s)}
	}
	for _, schema := range s.schemas() {
		force := g.inForce(itself, schema)
		targets := []string{g.target(s)}
		if len(force) > 0 {
			targets = mapped(slices.Concat(mapped(lack, func(p string) []schemaGrant { return lacking(force, p) })...), func(s schemaGrant) string { return quote(s.pattern) + ".*" })
		}
		all = append(all, targets...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// target writes a scope as GRANT wants it. With partial_revokes no pattern covers our schemas, so the right must hold
// everywhere.
func (g grants) target(s scope) string {
	switch {
	case s == everywhere, s == inOurs && g.literal:
		return "*.*"
	case s == procTable:
		return string(s)
	case s == inOurs:
		return "`\\_remora%`.*"
	case g.literal:
		return quote(string(s)) + ".*"
	default:
		return grantPattern(string(s)) + ".*"
	}
}

// quoted writes the account as GRANT wants it.
func (g grants) quoted() string {
	at := strings.LastIndexByte(g.account, '@')
	if at < 0 {
		return text(g.account)
	}
	return text(g.account[:at]) + "@" + text(g.account[at+1:])
}

// checkRights refuses when a required right is missing, with the statements that give it, and warns of what is weaker
// without another.
func (g grants) checkRights(op string, needs []need) (warnings []string, err error) {
	var names, statements []string
	for _, r := range g.missing(needs) {
		if !r.Required {
			warnings = append(warnings, r.warning())
			continue
		}
		names = append(names, r.Name+" ("+r.Why+")")
		statements = append(statements, r.Grant)
	}
	if len(names) > 0 {
		return nil, remora.Fail(remora.Denied, op, "user "+g.quoted(), strings.Join(statements, " "), "missing rights: %s", strings.Join(names, "; "))
	}
	return warnings, nil
}
