package mysql

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/remora-backup/remora/internal/remora"
)

// A rehearsal creates, in scratch schemas and with their definers, all views, triggers, routines and events that a
// switch or its way back will have to create: the server lets many an account drop what it then does not let it create
// again (S5). Events are created disabled. What was created is read back and compared.

// rehearseBoth rehearses both sides of a restore: the part, and what is live. notes takes what the server noted.
func (d *Database) rehearseBoth(ctx context.Context, s *session, p *part, notes *[]string) error {
	live, err := takeCensuses(ctx, s, d.live(), p.moves)
	if err != nil {
		return err
	}
	bare := func(c census) census { // only what a rehearsal looks at, so that equal sides are rehearsed once
		return census{place: c.place, options: c.options, objects: c.objects, tables: mapped(c.tables, func(t table) table {
			return table{Name: t.Name, Definition: t.Definition, Sequence: t.Sequence}
		})}
	}
	restored := mapped(p.after(live), bare)
	live = mapped(live, bare)
	sides := [][]census{restored, live}
	if reflect.DeepEqual(restored, live) {
		sides = sides[:1]
	}
	for _, side := range sides {
		if err := d.rehearseKeys(ctx, s, side, p.moves); err != nil {
			return err
		}
		if err := d.rehearse(ctx, s, side, p.moves, notes); err != nil {
			return err
		}
	}
	return nil
}

// rehearse rehearses one side.
func (d *Database) rehearse(ctx context.Context, s *session, side []census, in inside, notes *[]string) error {
	if !slices.ContainsFunc(side, func(c census) bool { return len(c.objects) > 0 }) {
		return nil
	}
	// With thousands of tables it takes minutes, for which only those wait who rehearse for the same source.
	stage := prefix + "_probe_" + short(d.cfg.Installation+" "+d.cfg.Source)
	scratch := make([]place, len(side))
	names := map[string]string{}
	for i, c := range side {
		scratch[i] = place{c.name, fmt.Sprintf("%s_%d", stage, i+1)}
		names[c.name] = scratch[i].schema
	}
	return d.scratch(ctx, s, stage, mapped(scratch, func(p place) string { return p.schema }), func() error {
		wanted := make([]census, len(side))
		for i, c := range side {
			wanted[i] = census{place: scratch[i], options: c.options}
			for _, o := range c.objects {
				if o.Broken {
					*notes = append(*notes, o.String()+" is invalid: it stays where it is if it can, and is created only where it is valid")
					continue
				}
				o, noted, err := o.inTime(ctx, s)
				if err != nil {
					return err
				}
				*notes = append(*notes, noted...)
				wanted[i].objects = append(wanted[i].objects, o.disabled().moved(side, names))
			}
			if err := s.exec(ctx, "CREATE DATABASE "+quote(scratch[i].schema)+" "+c.options.clause()); err != nil {
				return err
			}
		}
		if err := createScratchTables(ctx, s, side, names, in.names(scratch)); err != nil {
			return d.problem(ctx, "rehearse what a switch creates", d.subject(), err)
		}
		noted, err := createObjects(ctx, s, wanted)
		*notes = append(*notes, noted...)
		if err != nil {
			return d.cannotCreate(ctx, s, "rehearse what a switch creates", err)
		}
		return d.sameAsRehearsed(ctx, s, scratch, wanted)
	})
}

// scratch runs work that makes these schemas, while nobody else works with them, and drops them after it: and before it,
// since their names are always the same, so that a crash leaves nothing that the next one does not remove.
func (d *Database) scratch(ctx context.Context, s *session, lock string, schemas []string, work func() error) error {
	drops := mapped(schemas, func(name string) string { return "DROP DATABASE IF EXISTS " + quote(name) })
	drop := func(ctx context.Context) error { return s.all(ctx, drops...) }
	again := func(ctx context.Context) error { // a cancel ends the connection of what it interrupts
		return d.with(ctx, d.write, "drop what was rehearsed", d.subject(), func(s *session) error {
			return d.alone(ctx, s, lock, func() error { return s.all(ctx, drops...) })
		})
	}
	return d.alone(ctx, s, lock, func() (err error) {
		defer func() {
			dropped := within(ctx, rollbackPatience, drop)
			if lost(dropped) {
				dropped = within(ctx, rollbackPatience, again)
			}
			err = errors.Join(err, dropped)
		}()
		if err := drop(ctx); err != nil {
			return err
		}
		return work()
	})
}

// createScratchTables creates what views and triggers stand on: empty tables without foreign keys.
func createScratchTables(ctx context.Context, s *session, side []census, schemas, names map[string]string) error {
	views := slices.ContainsFunc(side, func(c census) bool { return len(ofKinds(c.objects, kindView)) > 0 })
	for _, c := range side {
		if err := s.all(ctx, "USE "+quote(schemas[c.name]), "SET SESSION sql_mode = '"+loadMode+"'"); err != nil {
			return err
		}
		for _, t := range inSequence(c.tables) {
			if !views && !t.Sequence && !slices.ContainsFunc(c.objects, func(o object) bool { return o.Table == t.Name }) {
				continue
			}
			if err := s.exec(ctx, recreate(t.Name, requalified(t.Definition, names), false)); err != nil {
				return fmt.Errorf("create table %s: %w", t.Name, err)
			}
		}
	}
	return s.exec(ctx, unset)
}

var pair = regexp.MustCompile("`((?:[^`]|``)+)`\\.`((?:[^`]|``)+)`(\\.?)")

// moved is a view that names the schemas of a side by other names, where it names something in them, by its own name or
// before a column by another, rather than a column of a table that is called like a schema. It is a view of whoever asks: its definer has no rights on a scratch schema.
func (o object) moved(side []census, names map[string]string) object {
	if o.Kind != kindView {
		return o
	}
	o = o.changed("security", "INVOKER")
	if len(side) == 1 { // it names only other schemas
		return o
	}
	o.Create = sqlText(pair.ReplaceAllStringFunc(string(o.Create), func(m string) string {
		p := pair.FindStringSubmatch(m)
		for _, c := range side {
			if quote(c.name) == "`"+p[1]+"`" && (p[3] != "" || slices.ContainsFunc(append(c.names(), objectNames(c.objects)...), func(n string) bool { return quote(n) == "`"+p[2]+"`" })) {
				return quote(names[c.name]) + ".`" + p[2] + "`" + p[3]
			}
		}
		return m
	}))
	return o
}

// cannotCreate says what to do about something that cannot be created again.
func (d *Database) cannotCreate(ctx context.Context, s *session, op string, err error) error {
	subject := d.subject()
	var what *uncreated
	if errors.As(err, &what) {
		subject = what.what
	}
	if isCode(err, codeRightDenied) {
		right := s.server.definer()
		if _, said := answer(err); strings.Contains(said, "SYSTEM_USER") { // the definer has that right
			right = "SYSTEM_USER"
		}
		g, _ := readGrants(ctx, s) // of it, only the account
		return remora.Fail(remora.Denied, op, subject,
			fmt.Sprintf("GRANT %s ON *.* TO %s;", right, g.quoted()),
			"the restore user may not create it again with the same definer: %w", scrubbed(err))
	}
	return d.problem(ctx, op, subject, err)
}

// sameAsRehearsed reads back what was created.
func (d *Database) sameAsRehearsed(ctx context.Context, s *session, scratch []place, wanted []census) error {
	found, err := takeCensuses(ctx, s, scratch, nil)
	if err != nil {
		return err
	}
	for i, c := range found {
		for _, o := range broken(c.objects) {
			c.refuse(o.Kind, o.Name, "it is invalid here")
		}
		if len(c.refused) > 0 {
			return remora.Fail(remora.Unsupported, "rehearse what a switch creates", "schema "+c.name, "mend it at the source, and back up again", "on this server it does not work: %s", listed(c.refused))
		}
		if differences := compareObjects(wanted[i].objects, c.objects); len(differences) > 0 {
			return remora.Fail(remora.Unsupported, "rehearse what a switch creates", "schema "+c.name, "restore into a server of the same kind and version",
				"this server does not create it as it was: %s", listed(differences))
		}
	}
	return nil
}
