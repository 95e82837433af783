package mysql

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/remora-backup/remora/internal/remora"
)

// maxReplaces bounds how many tables an Estimate names.
const maxReplaces = 100

// Preflight tells whether a capture, or the restore of a part, can succeed. It changes nothing; before a restore it
// makes and drops an empty schema of its own, since the text of grants does not tell all (S26).
func (d *Database) Preflight(ctx context.Context, job remora.Job, intent remora.Intent) (est remora.Estimate, err error) {
	op, who, needs := "plan the backup of "+d.name(), d.read, d.backupNeeds
	if intent.Restore() {
		op, who, needs = "plan the restore of "+d.name(), d.write, d.restoreNeeds
	}
	if err := d.mayCopy(op, census{}); err != nil {
		return est, err
	}
	err = d.with(ctx, who, op, d.cfg.Address, func(s *session) (err error) {
		est, err = d.preflight(ctx, s, op, needs(s.server), job, intent)
		return err
	})
	return est, err
}

func (d *Database) preflight(ctx context.Context, s *session, op string, needs []need, job remora.Job, intent remora.Intent) (est remora.Estimate, err error) {
	est.Identity = fmt.Sprintf("%s at %s, %s", s.server, d.cfg.Address, d.subject())
	g, err := readGrants(ctx, s)
	if err != nil {
		return est, err
	}
	if est.Warnings, err = g.checkRights(op, needs); err != nil {
		return est, err
	}
	found, err := takeCensuses(ctx, s, d.live(), nil)
	if err != nil {
		return est, err
	}
	if err := cmp.Or(d.mayCopy(op, found[0]), refusals(found, op)); err != nil {
		return est, err
	}
	if intent.Restore() {
		if err := d.unsettled(ctx, s, op, job.Run); err != nil {
			return est, err
		}
		p, err := d.selected(op, job, intent.From)
		if err != nil {
			return est, err
		}
		if err := free(op, &p, found); err != nil {
			return est, err
		}
		found = mapped(found, func(c census) census { return c.only(p.moves) })
		keys, err := d.checkBorder(ctx, s, g, op, &p, found)
		if err != nil {
			return est, err
		}
		est.Warnings = append(est.Warnings, keys...)
		if err := d.checkTarget(ctx, s, op, job, p, found, &est); err != nil {
			return est, err
		}
	}
	var now float64
	asked := time.Now()
	if err := s.row(ctx, "SELECT UNIX_TIMESTAMP(NOW(6))").Scan(&now); err != nil {
		return est, err
	}
	est.Skew = time.UnixMicro(int64(now * 1e6)).Sub(asked.Add(time.Since(asked) / 2))
	d.describe(found, s.server, &est)
	return est, nil
}

// describe fills in what is live now.
func (d *Database) describe(found []census, on server, est *remora.Estimate) {
	est.Empty = !slices.ContainsFunc(found, func(c census) bool { return c.exists })
	est.Summary.Facts = map[string]string{"schema": d.name()}
	rows, bytes := estimates(found)
	est.Summary.Entries, est.Summary.Bytes = est.Summary.Entries+rows, est.Summary.Bytes+bytes
	h := sha256.New()
	// The server's own id is nothing for people, but another server at the same address must not pass for this one (S12).
	fmt.Fprintf(h, "%s %s\n", est.Identity, on.identity())
	for _, c := range found {
		fmt.Fprintf(h, "%q %t\n%s\n", c.name, c.exists, c.options.clause())
		for _, t := range c.tables {
			fmt.Fprintf(h, "%q %s\n", t.Name, t.digest())
			est.Replaces = append(est.Replaces, fmt.Sprintf("table %s.%s (about %s rows)", c.name, t.Name, humanize.Comma(t.rows)))
			if t.Engine != "" {
				est.Warnings = append(est.Warnings, fmt.Sprintf("table %s.%s is %s, not InnoDB: nobody can write to it while it is read, and a crash of the server in the moment of a switch may damage it", c.name, t.Name, t.Engine))
			}
		}
		for _, o := range c.objects {
			fmt.Fprintf(h, "%q\n", o.fields())
			est.Replaces = append(est.Replaces, fmt.Sprintf("%s %s.%s", o.Kind, c.name, o.Name))
		}
		est.Summary.Objects += int64(len(c.tables))
	}
	if more := len(est.Replaces) - maxReplaces; more > 0 {
		est.Replaces = append(est.Replaces[:maxReplaces], fmt.Sprintf("and %d more", more))
	}
	est.Fingerprint = hex.EncodeToString(h.Sum(nil)[:16])
}

// numbersAgain names the numbers that were handed out since the backup, and that a restore does not hand out again (S24).
func numbersAgain(p part, live []census) (warnings []string) {
	for i, schema := range p.Schemas {
		for _, t := range schema.Tables {
			now := live[i].find(t.Name)
			if now == nil || !below(nextNumber(t.Definition), nextNumber(now.Definition)) {
				continue
			}
			warnings = append(warnings, fmt.Sprintf("table %s.%s has handed out numbers up to %s since the backup (%s): they are not handed out again; what others remember by them is gone with the restore",
				schema.Name, t.Name, nextNumber(now.Definition), cmp.Or(nextNumber(t.Definition), "it was empty")))
		}
	}
	return warnings
}

// checkTarget finds out whether the part can be loaded into this server.
func (d *Database) checkTarget(ctx context.Context, s *session, op string, job remora.Job, p part, live []census, est *remora.Estimate) error {
	vars, err := s.variables(ctx, "local_infile", "read_only", "super_read_only", "wsrep_on", "group_replication_group_name", "sql_require_primary_key", "enforce_gtid_consistency")
	if err != nil {
		return err
	}
	refuse := func(kind remora.ProblemKind, hint, format string, args ...any) error {
		return remora.Fail(kind, op, d.cfg.Address, hint, format, args...)
	}
	switch {
	case p.Server.mariadb() != s.server.mariadb():
		return refuse(remora.Unsupported, "restore into "+p.Server.maker()+", where it can be proven to come back exactly", "the backup was taken from %s, and this server is %s", p.Server, s.server)
	case vars["local_infile"] != "ON":
		return refuse(remora.Denied, s.server.dialect().localInfile, "the server does not take rows from a client: local_infile is OFF")
	case vars["read_only"] == "ON", vars["super_read_only"] == "ON":
		return refuse(remora.Denied, "restore on the primary", "the server is read-only")
	case vars["wsrep_on"] == "ON":
		return refuse(remora.Unsupported, "restore into a server outside the cluster", "Galera is not supported yet")
	case vars["group_replication_group_name"] != "":
		return refuse(remora.Unsupported, "restore into a server outside the group", "Group Replication is not supported yet")
	case p.Server.LowerCase != s.server.LowerCase && slices.ContainsFunc(p.tables(), func(t partTable) bool { return t.Name+t.schema != strings.ToLower(t.Name+t.schema) }):
		return refuse(remora.Unsupported, "use a server with the same lower_case_table_names", "the backup was taken with lower_case_table_names = %d, here it is %d", p.Server.LowerCase, s.server.LowerCase)
	}
	if i := slices.IndexFunc(p.tables(), func(t partTable) bool { return !strings.Contains(t.Definition, "PRIMARY KEY") }); i >= 0 && vars["sql_require_primary_key"] == "ON" {
		return refuse(remora.Denied, "SET PERSIST sql_require_primary_key = OFF; for the time of the restore", "table %s has no primary key, and this server demands one", p.tables()[i].Name)
	}
	for _, c := range live {
		if found, err := unwritten(ctx, s, c.schema); err != nil {
			return err
		} else if found[readOnlySchema] != nil {
			return refuse(remora.Denied, "ALTER SCHEMA "+quote(c.schema)+" READ ONLY = 0; for the time of the restore", "the schema %s is READ ONLY", c.schema)
		}
	}
	if err := d.checkFilters(ctx, s, refuse); err != nil {
		return err
	}
	unlogged, err := d.leavesLogOut(ctx, s, op, job.Run)
	if err != nil {
		return err
	}
	if remora.IsDrill(job.Run) {
		if err := s.unlog(ctx, unlogged); err != nil {
			return err
		}
	} else if unlogged {
		est.Warnings = append(est.Warnings, logWarning)
	}
	if est.Space, err = d.space(ctx, s, op, p, live, unlogged); err != nil {
		return err
	}
	if !d.copies() {
		est.Shape, _ = p.shape(live, len(p.moves[live[0].name]) == 0, maxPlanText)
	}
	gap := s.server.mariadb() || vars["enforce_gtid_consistency"] != "OFF" && otherEngines(p, live)
	if trigger := anyTrigger(p, live); gap && d.cfg.StaysOnline && trigger != "" {
		return refuse(remora.Unsupported, "set maintenance: for the source, so that nobody writes meanwhile, or drop the triggers", "while %s switches these tables, %s and all other triggers are absent for a moment, and nothing takes the application offline", s.server.maker(), trigger)
	}
	if i := slices.IndexFunc(p.tables(), func(t partTable) bool { return t.History }); i >= 0 && !p.Server.sameKind(s.server) {
		return refuse(remora.Unsupported, "restore into a server of the same version, and upgrade that", "table %s is WITH SYSTEM VERSIONING, and versions differ in how they end a row that is current (the backup was taken from %s, this is %s)", p.tables()[i].Name, p.Server, s.server)
	}
	if !p.Server.sameKind(s.server) {
		est.Warnings = append(est.Warnings, fmt.Sprintf("the backup was taken from %s, and is restored into %s", p.Server, s.server))
	}
	if len(p.LeftOut) > 0 {
		est.Warnings = append(est.Warnings, "the backup was taken without these, so the live ones stay: "+strings.Join(p.LeftOut, ", "))
	}
	est.Warnings = slices.Concat(est.Warnings, p.notes, numbersAgain(p, live))
	if d.copies() {
		est.Summary.Objects, est.Summary.Entries, est.Summary.Bytes = p.counts()
	} else {
		est.Warnings = append(est.Warnings, d.emptyWarnings(p)...)
	}
	// A backup that is running gives way to the restore, not to its plan (S19): Compare rehearses again before the switch.
	if err := s.exec(ctx, "SET SESSION lock_wait_timeout = 2"); err != nil {
		return err
	}
	if err = d.probe(ctx, s); err == nil {
		err = d.rehearseBoth(ctx, s, &p, &est.Warnings)
	}
	if isCode(err, codeLockWait) {
		est.Warnings = append(est.Warnings, "a backup or a migration keeps the server from creating anything at the moment: whether the views, triggers and routines can be created again is tried before the switch instead")
		return nil
	}
	return err
}

// otherEngines tells whether either side has tables that are not InnoDB.
func otherEngines(p part, live []census) bool {
	tables := mapped(p.tables(), func(t partTable) table { return t.table })
	for _, c := range live {
		tables = append(tables, c.tables...)
	}
	return slices.ContainsFunc(tables, func(t table) bool { return t.Engine != "" })
}

// anyTrigger is one of either side, "" when there is none (S32).
func anyTrigger(p part, live []census) string {
	var all []object
	for i, schema := range p.Schemas {
		all = append(append(all, schema.Objects...), live[i].objects...)
	}
	if triggers := ofKinds(all, kindTrigger); len(triggers) > 0 {
		return triggers[0].String()
	}
	return ""
}

// checkFilters refuses binary log filters: a replica that does not get all of a RENAME breaks (S25). Without the right
// to look, replicas are not ours to know about.
func (d *Database) checkFilters(ctx context.Context, s *session, refuse func(remora.ProblemKind, string, string, ...any) error) error {
	l, err := s.logStatus(ctx)
	switch {
	case isCode(err, codeRightDenied, codeTableDenied):
		return nil
	case err == nil && l.doDB+l.ignoreDB != "":
		return refuse(remora.Unsupported, "remove binlog_do_db and binlog_ignore_db", "binary log filters are not supported yet: a replica would break at the switch")
	}
	return err
}

// probe makes an empty schema of ours, and does in it what a restore does. One at a time per server.
func (d *Database) probe(ctx context.Context, s *session) error {
	const probe = prefix + "_probe"
	return d.scratch(ctx, s, "journal", []string{probe}, func() error {
		return d.problem(ctx, "try the rights of a restore", "schema "+probe, s.all(ctx,
			"CREATE DATABASE "+quote(probe),
			"CREATE TABLE "+qualified(probe, "parent")+" (id INT PRIMARY KEY)",
			"CREATE TABLE "+qualified(probe, "child")+" (id INT PRIMARY KEY, parent INT)",
			"ALTER TABLE "+qualified(probe, "child")+" ADD KEY (parent), ADD FOREIGN KEY (parent) REFERENCES "+qualified(probe, "parent")+" (id)",
			"INSERT INTO "+qualified(probe, "parent")+" VALUES (1)",
			"UPDATE "+qualified(probe, "parent")+" SET id = 2",
			"DELETE FROM "+qualified(probe, "parent"),
			"RENAME TABLE "+qualified(probe, "child")+" TO "+qualified(probe, "renamed")))
	})
}

// free refuses a restore of some tables whose names, or those of their triggers, are something else's by now.
func free(op string, p *part, live []census) error {
	for i, c := range live {
		schema := p.Schemas[i]
		j := slices.IndexFunc(c.objects, func(o object) bool {
			table := slices.ContainsFunc(schema.Tables, func(t partTable) bool { return t.Name == o.Name })
			return o.Kind == kindView && table || !p.moves.has(c.name, o.Table) && o.Kind == kindTrigger && slices.ContainsFunc(schema.Objects, o.same)
		})
		if j >= 0 && p.moves[c.name] != nil {
			return remora.Fail(remora.Changed, op, "schema "+c.name, "rename or drop it", "what is restored needs the name that %s has by now", c.objects[j])
		}
	}
	return nil
}
