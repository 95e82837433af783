package mysql

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/remora-backup/remora/internal/remora"
)

const localInfileHint = "SET PERSIST local_infile = ON; on the server, as an administrator"

// maxReplaces bounds how many tables an Estimate names.
const maxReplaces = 100

// Preflight tells whether a capture, or the restore of a part, can succeed. It changes nothing; before a restore it
// makes and drops an empty schema of its own, since the text of grants does not tell all (S26).
func (d *Database) Preflight(ctx context.Context, job remora.Job, intent remora.Intent) (est remora.Estimate, err error) {
	op, who, needs := "plan the backup of "+d.schema, d.read, d.backupNeeds()
	if intent.Restore() {
		op, who, needs = "plan the restore of "+d.schema, d.write, d.restoreNeeds()
	}
	err = d.with(ctx, who, op, d.cfg.Address, func(s *session) (err error) {
		est, err = d.preflight(ctx, s, op, needs, job, intent)
		return err
	})
	return est, err
}

func (d *Database) preflight(ctx context.Context, s *session, op string, needs []need, job remora.Job, intent remora.Intent) (est remora.Estimate, err error) {
	est.Identity = fmt.Sprintf("MySQL %s at %s, schema %s", s.server.Version, d.cfg.Address, d.schema)
	g, err := readGrants(ctx, s)
	if err != nil {
		return est, err
	}
	weaker, err := g.checkRights(op, needs)
	if err != nil {
		return est, err
	}
	for _, r := range weaker {
		est.Warnings = append(est.Warnings, r.warning())
	}
	found, err := takeCensus(ctx, s, d.schema, g.everywhere("PROCESS"))
	if err != nil {
		return est, err
	}
	if err := found.refusal(op, d.schema); err != nil {
		return est, err
	}
	if intent.Restore() {
		if err := d.unsettled(ctx, s, op, job.Run); err != nil {
			return est, err
		}
		if err := d.checkTarget(ctx, s, op, intent, &est); err != nil {
			return est, err
		}
	}
	d.describe(found, s.server, &est)
	return est, nil
}

// describe fills in what is live now.
func (d *Database) describe(found census, on server, est *remora.Estimate) {
	est.Empty = !found.exists
	est.Summary = remora.Summary{Objects: int64(len(found.tables)), Entries: found.rows(), Bytes: found.bytes(), Facts: map[string]string{"schema": d.schema}}
	h := sha256.New()
	// The server's own id is nothing for people, but another server at the same address must not pass for this one (S12).
	fmt.Fprintf(h, "%s %s\n%t\n%s\n", est.Identity, on.UUID, found.exists, found.options.clause())
	for i, t := range found.tables {
		fmt.Fprintf(h, "%q %s\n", t.Name, t.digest())
		if i < maxReplaces {
			est.Replaces = append(est.Replaces, fmt.Sprintf("table %s.%s (about %s rows)", d.schema, t.Name, humanize.Comma(t.rows)))
		}
	}
	if more := len(found.tables) - maxReplaces; more > 0 {
		est.Replaces = append(est.Replaces, fmt.Sprintf("and %d more tables", more))
	}
	est.Fingerprint = hex.EncodeToString(h.Sum(nil)[:16])
}

// checkTarget finds out whether the part can be loaded into this server.
func (d *Database) checkTarget(ctx context.Context, s *session, op string, intent remora.Intent, est *remora.Estimate) error {
	p, err := d.readPart(intent.From)
	if err != nil {
		return err
	}
	vars, err := s.variables(ctx, "local_infile", "read_only", "super_read_only", "wsrep_on", "group_replication_group_name", "sql_require_primary_key")
	if err != nil {
		return err
	}
	refuse := func(kind remora.ProblemKind, hint, format string, args ...any) error {
		return fail(kind, op, d.cfg.Address, hint, format, args...)
	}
	switch {
	case vars["local_infile"] != "ON":
		return refuse(remora.Denied, localInfileHint, "the server does not take rows from a client: local_infile is OFF")
	case vars["read_only"] == "ON", vars["super_read_only"] == "ON":
		return refuse(remora.Denied, "restore on the primary", "the server is read-only")
	case vars["wsrep_on"] == "ON":
		return refuse(remora.Unsupported, "restore into a server outside the cluster", "Galera is not supported yet")
	case vars["group_replication_group_name"] != "":
		return refuse(remora.Unsupported, "restore into a server outside the group", "Group Replication is not supported yet")
	case p.Server.LowerCase != s.server.LowerCase && slices.ContainsFunc(p.Schemas[0].Tables, func(t partTable) bool { return t.Name != strings.ToLower(t.Name) }):
		return refuse(remora.Unsupported, "use a server with the same lower_case_table_names", "the backup was taken with lower_case_table_names = %d, here it is %d", p.Server.LowerCase, s.server.LowerCase)
	}
	if i := slices.IndexFunc(p.Schemas[0].Tables, func(t partTable) bool { return !strings.Contains(t.Definition, "PRIMARY KEY") }); i >= 0 && vars["sql_require_primary_key"] == "ON" {
		return refuse(remora.Denied, "SET PERSIST sql_require_primary_key = OFF; for the time of the restore", "table %s has no primary key, and this server demands one", p.Schemas[0].Tables[i].Name)
	}
	if err := d.checkFilters(ctx, s, refuse); err != nil {
		return err
	}
	if !p.Server.sameKind(s.server) {
		est.Warnings = append(est.Warnings, fmt.Sprintf("the backup was taken from MySQL %s, and is restored into %s", p.Server.Version, s.server.Version))
	}
	return d.probe(ctx, s)
}

// checkFilters refuses binary log filters: a replica that does not get all of a RENAME breaks (S25). Without the right
// to look, replicas are not ours to know about.
func (d *Database) checkFilters(ctx context.Context, s *session, refuse func(remora.ProblemKind, string, string, ...any) error) error {
	err := s.each(ctx, func(rows *sql.Rows) error {
		var doDB, ignoreDB string
		var rest [3]any
		if err := rows.Scan(&rest[0], &rest[1], &doDB, &ignoreDB, &rest[2]); err != nil || doDB+ignoreDB == "" {
			return err
		}
		return refuse(remora.Unsupported, "remove binlog_do_db and binlog_ignore_db", "binary log filters are not supported yet: a replica would break at the switch")
	}, statusCommand(s.server))
	if isCode(err, codeRightDenied, codeTableDenied) {
		return nil
	}
	return err
}

// probe makes an empty schema of ours, does in it what a restore does, and drops it. One at a time per server: the name
// is always the same, so that a crash leaves nothing that the next one does not remove.
func (d *Database) probe(ctx context.Context, s *session) error {
	return d.withJournal(ctx, s, func() (err error) {
		probe := prefix + "_probe"
		drop := "DROP DATABASE IF EXISTS " + quote(probe)
		defer func() {
			err = errors.Join(err, within(ctx, connectTimeout, func(ctx context.Context) error { return s.exec(ctx, drop) }))
		}()
		return d.problem(ctx, "try the rights of a restore", "schema "+probe, s.all(ctx,
			drop,
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
