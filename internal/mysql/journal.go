package mysql

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// The states of a run in the journal.
const (
	stateStaging    = "staging"
	stateStaged     = "staged"
	stateCompared   = "compared" // equal to the part: only then may it go live
	stateDiscarding = "discarding"
)

// entry is what the journal knows of one run. It states intents; what is true is computed from where the tables lie.
type entry struct {
	Run, Source, Installation, Schema, ServerUUID string
	// Attempt grows with each Stage and with each try to switch; the fence carries it.
	Attempt int
	// Seq and Wanted are the last turn that was asked for.
	Seq    int
	Wanted remora.Side
	State  string
	// Switched is true once the stage has been live; it never becomes false again.
	Switched  bool
	KeepUntil time.Time
	Since     time.Time
	Detail    detail
}

// detail is the part of an entry that only we read.
type detail struct {
	// Stage is side b, PutAway side a.
	Stage   string `json:"stage"`
	PutAway string `json:"put_away"`
	// Sessions is the largest number of loading sessions that any attempt used.
	Sessions int `json:"sessions"`
	// LiveExisted tells whether the live schema was there before; Live and Restored are both sides as they were staged.
	LiveExisted bool `json:"live_existed"`
	Live        side `json:"live"`
	Restored    side `json:"restored"`
	// HeldBy is the backup that holds what is being discarded.
	HeldBy string `json:"held_by,omitempty"`
}

// side is the shape of one side: its options, and its tables with digests of their definitions.
type side struct {
	Options schemaOptions     `json:"options"`
	Tables  map[string]string `json:"tables"`
}

const (
	journalSchema = prefix
	journalTable  = "`" + prefix + "`.journal"
)

// journalDDL creates the journal.
var journalDDL = [...]string{
	"CREATE DATABASE IF NOT EXISTS `" + journalSchema + "` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
	"CREATE TABLE IF NOT EXISTS " + journalTable + ` (
		run VARCHAR(128) NOT NULL PRIMARY KEY,
		source VARCHAR(64) NOT NULL,
		installation VARCHAR(64) NOT NULL,
		schema_name VARCHAR(64) NOT NULL,
		server_uuid VARCHAR(64) NOT NULL,
		attempt BIGINT NOT NULL,
		seq BIGINT NOT NULL,
		wanted VARCHAR(16) NOT NULL,
		state VARCHAR(16) NOT NULL,
		switched BOOLEAN NOT NULL,
		keep_until DATETIME(6) NULL,
		since DATETIME(6) NOT NULL,
		changed DATETIME(6) NOT NULL,
		detail JSON NOT NULL
	) ENGINE = InnoDB`,
}

// noJournal tells whether err means that this server has no journal: nothing of ours is on it.
func noJournal(err error) bool { return isCode(err, codeUnknownSchema, codeUnknownTable) }

// entries reads the journal, or one run of it.
func entries(ctx context.Context, s *session, where string, args ...any) (all []entry, err error) {
	err = s.each(ctx, func(rows *sql.Rows) error {
		var e entry
		var keep sql.NullTime
		var raw []byte
		err := rows.Scan(&e.Run, &e.Source, &e.Installation, &e.Schema, &e.ServerUUID, &e.Attempt, &e.Seq, &e.Wanted, &e.State, &e.Switched, &keep, &e.Since, &raw)
		if err != nil {
			return err
		}
		e.KeepUntil = keep.Time
		all = append(all, e)
		return json.Unmarshal(raw, &all[len(all)-1].Detail)
	}, `SELECT run, source, installation, schema_name, server_uuid, attempt, seq, wanted, state, switched, keep_until, since, detail
		FROM `+journalTable+` `+where, args...)
	if noJournal(err) {
		return nil, nil
	}
	return all, err
}

// find reads one run's entry; nil when the journal does not know it.
func find(ctx context.Context, s *session, run string) (*entry, error) {
	all, err := entries(ctx, s, "WHERE run = ?", run)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// save writes the entry; it is committed when save returns (S4).
func (e *entry) save(ctx context.Context, s *session) error {
	raw, err := json.Marshal(e.Detail)
	if err != nil {
		return err
	}
	return s.exec(ctx, `INSERT INTO `+journalTable+` (run, source, installation, schema_name, server_uuid, attempt, seq, wanted, state, switched, keep_until, since, changed, detail)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(6), CONVERT(? USING utf8mb4)) AS new
		ON DUPLICATE KEY UPDATE attempt = new.attempt, seq = new.seq, wanted = new.wanted, state = new.state, switched = new.switched,
			keep_until = new.keep_until, changed = new.changed, detail = new.detail`,
		e.Run, e.Source, e.Installation, e.Schema, e.ServerUUID, e.Attempt, e.Seq, string(e.Wanted), e.State, e.Switched,
		sql.NullTime{Time: e.KeepUntil, Valid: !e.KeepUntil.IsZero()}, e.Since, string(raw))
}

// mayAct refuses entries of somebody else, of another server, or of another schema (S10, S12).
func (d *Database) mayAct(op string, e *entry, on server) error {
	switch {
	case e.Installation != d.cfg.Installation:
		return fail(remora.Fenced, op, "run "+e.Run, "act from the installation that started this restore", "it belongs to the installation %s, not to %s", e.Installation, d.cfg.Installation)
	case e.ServerUUID != on.UUID:
		return fail(remora.Fenced, op, d.cfg.Address, "is the address that of another server, or of a copy?", "the restore was planned for the server %s, this one is %s", e.ServerUUID, on.UUID)
	case e.Schema != d.schema || e.Source != d.cfg.Source:
		return fail(remora.Fenced, op, "run "+e.Run, "check the source's configuration", "it is a restore of schema %s of source %s", e.Schema, e.Source)
	}
	return nil
}

// mine reads the entry of a run that must exist and be ours.
func (d *Database) mine(ctx context.Context, s *session, op, run string) (*entry, error) {
	e, err := find(ctx, s, run)
	if err != nil {
		return nil, err
	}
	if e == nil {
		return nil, fail(remora.Fenced, op, "run "+run, "look at `remora restores`: this restore was settled, or it never staged here", "the journal on %s does not know it", d.cfg.Address)
	}
	return e, d.mayAct(op, e, s.server)
}

// unsettled refuses while another restore of this schema has not been settled: its put-away data would be lost track of.
func (d *Database) unsettled(ctx context.Context, s *session, op, run string) error {
	all, err := entries(ctx, s, "WHERE schema_name = ? AND run <> ? ORDER BY since", d.schema, run)
	if err != nil || len(all) == 0 {
		return err
	}
	e := all[0]
	if e.Installation != d.cfg.Installation {
		return fail(remora.Fenced, op, "schema "+d.schema, "settle it from the installation that started it", "a restore of installation %s (run %s) is not settled", e.Installation, e.Run)
	}
	return fail(remora.Fenced, op, "schema "+d.schema, "end it first with `remora rollback` or `remora accept` (`remora restores` lists it)", "the restore with run %s is not settled", e.Run)
}

// fencePrefix begins the name of the fence: the table that lies in the schema that holds what is not live.
const fencePrefix = prefix + "_fence_"

func fenceName(attempt int) string { return fmt.Sprintf("%s%d", fencePrefix, attempt) }

// fence is where the fence lies, and what that means.
type fence struct{ schema, table string }

var errNoFence = errors.New("there is no fence")

// findFence looks where the fence of a run lies. That is the truth about which side is live.
func findFence(ctx context.Context, s *session, e *entry) (f fence, err error) {
	n := 0
	err = s.each(ctx, func(rows *sql.Rows) error {
		n++
		return rows.Scan(&f.schema, &f.table)
	}, `SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN (?, ?) AND LEFT(table_name, ?) = ?`,
		e.Detail.Stage, e.Detail.PutAway, len(fencePrefix), fencePrefix)
	switch {
	case err != nil:
		return f, err
	case n == 0:
		return f, errNoFence
	case n > 1:
		return f, fmt.Errorf("there are %d fences", n)
	}
	return f, nil
}

// live is the side that is live, as the fence says.
func (f fence) live(e *entry) remora.Side {
	if f.schema == e.Detail.PutAway {
		return remora.Restored
	}
	return remora.Replaced
}

// whereIs is findFence for those who cannot go on without.
func (d *Database) whereIs(ctx context.Context, s *session, op string, e *entry) (fence, error) {
	f, err := findFence(ctx, s, e)
	if err != nil && codeOf(err) == 0 && !lost(err) {
		return f, fail(remora.Fenced, op, "run "+e.Run, "a person must look at the schemas "+e.Detail.Stage+" and "+e.Detail.PutAway, "the journal and the data disagree: %w", err)
	}
	return f, err
}

// putAwaySide is the schema that holds what a restore put away.
func (d *Database) putAwaySide(ctx context.Context, run string) (schema string, err error) {
	const op = "find what was put away"
	err = d.with(ctx, d.write, op, "run "+run, func(s *session) error {
		e, err := d.mine(ctx, s, op, run)
		if err != nil {
			return err
		}
		f, err := d.whereIs(ctx, s, op, e)
		schema = f.schema
		return err
	})
	return schema, err
}

// Leftovers lists every run in the journal of the server, of any installation.
func (d *Database) Leftovers(ctx context.Context) (leftovers []remora.Leftover, err error) {
	err = d.with(ctx, d.write, "read the journal", d.cfg.Address, func(s *session) error {
		all, err := entries(ctx, s, "ORDER BY since")
		if err != nil {
			return err
		}
		for _, e := range all {
			l := remora.Leftover{
				Kind: remora.Database, Run: e.Run, Source: e.Source, Installation: e.Installation, Seq: e.Seq, Live: remora.Replaced,
				Switched: e.Switched, KeepUntil: e.KeepUntil, Since: e.Since,
			}
			f, err := findFence(ctx, s, &e)
			switch {
			case err == nil:
				l.Live = f.live(&e)
				l.Switched = l.Switched || l.Live == remora.Restored
			case codeOf(err) != 0 || lost(err):
				return err
			}
			l.What, err = s.strings(ctx, "SELECT schema_name FROM information_schema.schemata WHERE schema_name IN (?, ?) ORDER BY schema_name", e.Detail.PutAway, e.Detail.Stage)
			if err != nil {
				return err
			}
			leftovers = append(leftovers, l)
		}
		return nil
	})
	return leftovers, err
}
