package mysql

import (
	"cmp"
	"context"

	"github.com/remora-backup/remora/internal/remora"
)

var _ remora.Stager = (*Database)(nil)

// Staged creates in a compared stage what is no table: events disabled, and the rest by whoever asks, since definers have
// no rights there. What a call before left is dropped first. What it gives asks the stage in place of the live schemas.
func (d *Database) Staged(ctx context.Context, run string) (asked remora.Checker, notes []string, err error) {
	const op = "complete the stage"
	staged := *d
	staged.staged = map[string]string{}
	err = d.holding(ctx, op, func(s *session) error {
		e, err := d.mine(ctx, s, op, run)
		if err != nil {
			return err
		}
		if e.State != stateCompared || e.Switched || !remora.IsDrill(run) {
			return remora.Fail(remora.Fenced, op, "run "+run, "make another drill", "this is no stage of a drill that was compared")
		}
		if err := s.unlog(ctx, e.Detail.Unlogged); err != nil {
			return err
		}
		places := e.aside(false)
		found, err := takeCensuses(ctx, s, places, nil)
		if err != nil {
			return err
		}
		for i, p := range places {
			staged.staged[p.name] = p.schema
			if err := dropObjects(ctx, s, p.schema, found[i].objects, objectKinds...); err != nil {
				return err
			}
			for _, t := range found[i].tables { // a check is as quick as it is of a table that is not new
				if err := s.exec(ctx, "ANALYZE NO_WRITE_TO_BINLOG TABLE "+qualified(p.schema, t.Name)); err != nil {
					return err
				}
			}
			found[i].objects = e.Detail.Schemas[i].Restored.Objects
		}
		wanted := make([]census, len(places))
		for i, c := range found {
			wanted[i] = census{place: c.place, options: c.options}
			for _, o := range c.objects {
				for _, p := range places {
					if o.Kind != kindView && o.mentions(p.name) {
						notes = append(notes, o.String()+" names the schema "+p.name+" in its text: a check that uses it is answered by what is live there")
					}
				}
				if !o.Broken {
					wanted[i].objects = append(wanted[i].objects, o.disabled().changed("definer", "CURRENT_USER").moved(found, staged.staged))
				}
			}
		}
		noted, err := createObjects(ctx, s, wanted)
		notes = append(notes, noted...)
		return err
	})
	return &staged, notes, err
}

// leavesLogOut tells whether what is staged is kept out of the binary log. What a drill stages is never switched, so no
// replica ever asks for it: wherever the account may, nobody is troubled with it (S25).
func (d *Database) leavesLogOut(ctx context.Context, s *session, op, run string) (bool, error) {
	if !remora.IsDrill(run) {
		return d.skipsLog(ctx, s, op, d.cfg.SkipBinaryLog)
	}
	vars, err := s.variables(ctx, "log_bin")
	if err != nil || vars["log_bin"] != "ON" {
		return false, err
	}
	err = s.all(ctx, "SET SESSION sql_log_bin = 0", "SET SESSION sql_log_bin = 1")
	if isCode(err, codeRightDenied) {
		return false, nil
	}
	return err == nil, err
}

// unlog keeps what the session does from here on out of the binary log, where that is wanted.
func (s *session) unlog(ctx context.Context, wanted bool) error {
	if !wanted {
		return nil
	}
	return s.exec(ctx, "SET SESSION sql_log_bin = 0")
}

// schema is where a schema of the source is asked.
func (d *Database) schema(name string) string { return cmp.Or(d.staged[name], name) }
