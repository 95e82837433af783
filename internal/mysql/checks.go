package mysql

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

var _ remora.Checker = (*Database)(nil)

// checkTime bounds a check: the tables that it reads cannot be switched back meanwhile.
const checkTime = time.Minute

// Check asks as the restore user, with the first live schema as the default, or what is staged of it, in a transaction that
// cannot write.
func (d *Database) Check(ctx context.Context, query string) (why string, err error) {
	err = d.with(ctx, d.write, "ask the live schema", "schema "+d.cfg.Schemas[0], func(s *session) (err error) {
		for _, schema := range d.cfg.Schemas {
			query = strings.ReplaceAll(query, "{{"+schema+"}}", quote(d.schema(schema)))
		}
		why, err = d.ask(ctx, s, query)
		code := codeOf(err)
		switch kind := kinds[code]; {
		case code == 0 || kind == remora.Unavailable || kind == remora.Busy || kind == remora.Full:
			return err
		case code == codeWouldWrite:
			why = "it would change something"
		case code == 3024 || code == 1969:
			why = fmt.Sprintf("it did not end within %s", checkTime)
		case code == 1064: // the server's text repeats the query, and with it what may be no one's business
			why = "the server does not understand it (error 1064)"
		default:
			why = scrubbed(err).Error()
		}
		return nil
	})
	return why, err
}

func (d *Database) ask(ctx context.Context, s *session, query string) (string, error) {
	// Texts compare as in an application's own connection. The session's mode too: some statements end the transaction before they are refused.
	err := s.all(ctx, "USE "+quote(d.schema(d.cfg.Schemas[0])), "SET SESSION collation_connection = @@collation_database", "SET SESSION TRANSACTION READ ONLY", "START TRANSACTION READ ONLY")
	if err := errors.Join(err, s.limit(ctx, checkTime)); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime+connectTimeout)
	defer cancel()
	return s.isTrue(ctx, query)
}

const codeWouldWrite = 1792

// limit bounds the statements of a session.
func (s *session) limit(ctx context.Context, most time.Duration) error {
	in := s.server.dialect()
	return s.exec(ctx, fmt.Sprintf(in.limit, most/in.unit))
}

// isTrue tells why a query does not give one row whose first column is true; "" when it does.
func (s *session) isTrue(ctx context.Context, query string) (why string, err error) {
	rows, err := s.conn.QueryContext(ctx, query)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return "", err
	}
	values := make([]any, len(columns))
	for i := range values {
		values[i] = new(sql.RawBytes)
	}
	count, yes := 0, false
	for ; count < 2 && rows.Next(); count++ {
		if err := rows.Scan(values...); err != nil {
			return "", err
		}
		number, err := strconv.ParseFloat(string(*values[0].(*sql.RawBytes)), 64)
		yes = err == nil && number != 0
	}
	switch {
	case rows.Err() != nil:
		return "", rows.Err()
	case count == 0:
		return "it gives no row", nil
	case count > 1:
		return "it gives more than one row", nil
	case !yes:
		return "its first column is not true", nil
	}
	return "", nil
}

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
		places := e.aside(remora.Restored)
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

// schema is where a schema of the source is asked.
func (d *Database) schema(name string) string { return cmp.Or(d.staged[name], name) }
