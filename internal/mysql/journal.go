package mysql

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	Run, Source, Installation, ServerUUID string
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
	// Schemas are the source's schemas with their sides. The fence lies beside the tables of the first.
	Schemas []*sides `json:"schemas"`
	// Sessions is the largest number of loading sessions that any attempt used.
	Sessions int `json:"sessions"`
	// Moving is set before the first object is dropped for a switch, and reset when the side that is live is whole: while
	// it is set, what a side has is what is written here, whatever is found.
	Moving bool `json:"moving,omitempty"`
	// Copy says that it is built in a schema of its own, and nothing of the source's is put away.
	Copy bool `json:"copy,omitempty"`
	// Keys are the foreign keys of each side across the border of what the run moves. On a side that is not live they
	// are here alone.
	Keys map[remora.Side][]key `json:"keys,omitempty"`
	// Unlogged tells that the stage is not in the binary log.
	Unlogged bool `json:"unlogged,omitempty"`
	// Booted is when the server had been started at the comparison of a stage that a restart would empty (S27).
	Booted time.Time `json:"booted,omitzero"`
	// HeldBy is the backup that holds what is being discarded.
	HeldBy string `json:"held_by,omitempty"`
}

// sides are the two sides of a schema. Tables lie in schemas of ours while they are not live; of the other objects, only
// their texts are kept, here, so that none of them ever acts.
type sides struct {
	// Name is the schema. Stage is side b, PutAway side a.
	Name    string `json:"name"`
	Stage   string `json:"stage"`
	PutAway string `json:"put_away"`
	// Only are the tables that the run moves; nil means all of the schema, and whatever else is in it.
	Only []string `json:"only"`
	// LiveExisted tells whether the live schema was there before; Live and Restored are both sides as they were seen last.
	LiveExisted bool `json:"live_existed"`
	Live        side `json:"live"`
	Restored    side `json:"restored"`
}

// of is one of the two.
func (s *sides) of(which remora.Side) *side {
	if which == remora.Restored {
		return &s.Restored
	}
	return &s.Live
}

// side is the shape of one side: its options, its tables with digests of their definitions, its other objects.
type side struct {
	Options schemaOptions     `json:"options"`
	Tables  map[string]string `json:"tables"`
	Objects []object          `json:"objects,omitempty"`
}

// names tells whether the side has something of that name that a view of the same name would be in the way of.
func (s side) names(name string) bool {
	_, table := s.Tables[name]
	return table || slices.ContainsFunc(s.Objects, func(o object) bool { return o.Kind == kindView && o.Name == name })
}

// aside are the places where one of a run's sides lies while it is not live.
func (e *entry) aside(which remora.Side) []place {
	return mapped(e.Detail.Schemas, func(s *sides) place {
		if which == remora.Restored {
			return place{s.Name, s.Stage}
		}
		return place{s.Name, s.PutAway}
	})
}

// asides are those of both.
func (e *entry) asides() []place {
	return slices.Concat(e.aside(remora.Replaced), e.aside(remora.Restored))
}

// live are the places of a run's schemas when they are live, in the order of its sides: the configuration may name them in
// another one by now.
func (e *entry) live() []place {
	return mapped(e.schemas(), func(name string) place { return place{name, name} })
}

const (
	journalSchema = prefix
	journalTable  = "`" + prefix + "`.journal"
)

// journalDDL creates the journal.
//
//go:embed journal.sql
var journalDDL string

// noJournal tells whether err means that this server has no journal: nothing of ours is on it.
func noJournal(err error) bool { return isCode(err, codeUnknownSchema, codeUnknownTable) }

// entries reads the journal, or some runs of it, the oldest first. The server does not sort what may be megabytes: MySQL
// gives up where they do not fit its sort buffer (error 1038).
func entries(ctx context.Context, s *session, where string, args ...any) (all []entry, err error) {
	err = s.each(ctx, func(rows *sql.Rows) error {
		var e entry
		var keep sql.NullTime
		var raw []byte
		err := rows.Scan(&e.Run, &e.Source, &e.Installation, &e.ServerUUID, &e.Attempt, &e.Seq, &e.Wanted, &e.State, &e.Switched, &keep, &e.Since, &raw)
		if err != nil {
			return err
		}
		e.KeepUntil = keep.Time
		all = append(all, e)
		return json.Unmarshal(raw, &all[len(all)-1].Detail)
	}, `SELECT run, source, installation, server_uuid, attempt, seq, wanted, state, switched, keep_until, since, detail
		FROM `+journalTable+` `+where, args...)
	if noJournal(err) {
		return nil, nil
	}
	slices.SortStableFunc(all, func(a, b entry) int { return a.Since.Compare(b.Since) })
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
	return s.exec(ctx, `REPLACE INTO `+journalTable+` (run, source, installation, server_uuid, attempt, seq, wanted, state, switched, keep_until, since, changed, detail)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(6), CONVERT(? USING utf8mb4))`,
		e.Run, e.Source, e.Installation, e.ServerUUID, e.Attempt, e.Seq, string(e.Wanted), e.State, e.Switched,
		sql.NullTime{Time: e.KeepUntil, Valid: !e.KeepUntil.IsZero()}, e.Since, string(raw))
}

// mayAct refuses entries of somebody else, of another server, or of another schema (S10, S12).
func (d *Database) mayAct(op string, e *entry, on server) error {
	switch {
	case e.Installation != d.cfg.Installation:
		return remora.Fail(remora.Fenced, op, "run "+e.Run, "act from the installation that started this restore", "it belongs to the installation %s, not to %s", e.Installation, d.cfg.Installation)
	case e.ServerUUID != on.UUID:
		return remora.Fail(remora.Fenced, op, d.cfg.Address, "is the address that of another server, or of a copy?", "the restore was planned for the server %s, this one is %s", e.ServerUUID, on.UUID)
	case e.Source != d.cfg.Source || !sameNames(e.schemas(), d.cfg.Schemas):
		return remora.Fail(remora.Fenced, op, "run "+e.Run, "check the source's configuration", "it is a restore of %s of source %s", strings.Join(e.schemas(), ", "), e.Source)
	}
	return nil
}

// inside are the tables that a run moves.
func (e *entry) inside() inside {
	in := inside{}
	for _, s := range e.Detail.Schemas {
		in[s.Name] = s.Only
	}
	return in
}

// schemas are the names of the schemas that a run is about.
func (e *entry) schemas() []string {
	return mapped(e.Detail.Schemas, func(s *sides) string { return s.Name })
}

func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// mine reads the entry of a run that must exist and be ours.
func (d *Database) mine(ctx context.Context, s *session, op, run string) (*entry, error) {
	e, err := find(ctx, s, run)
	if err != nil {
		return nil, err
	}
	if e == nil {
		return nil, remora.Fail(remora.Fenced, op, "run "+run, "look at `remora restores`: this restore was settled, or it never staged here", "the journal on %s does not know it", d.cfg.Address)
	}
	return e, d.mayAct(op, e, s.server)
}

// unsettled refuses while another restore of any of these schemas has not been settled: its put-away data would be lost
// track of. A drill of ours puts nothing away: it stands in nobody's way, and no restore of ours in its.
func (d *Database) unsettled(ctx context.Context, s *session, op, run string) error {
	all, err := d.touching(ctx, s, "WHERE run <> ?", run)
	all = slices.DeleteFunc(all, func(e entry) bool {
		return e.Installation == d.cfg.Installation && (remora.IsDrill(e.Run) || remora.IsDrill(run))
	})
	if err != nil || len(all) == 0 {
		return err
	}
	e := all[0]
	if e.Installation != d.cfg.Installation {
		return remora.Fail(remora.Fenced, op, d.subject(), "settle it from the installation that started it", "a restore of installation %s (run %s) is not settled", e.Installation, e.Run)
	}
	return remora.Fail(remora.Fenced, op, d.subject(), "end it first with `remora rollback` or `remora accept` (`remora restores` lists it)", "the restore with run %s is not settled", e.Run)
}

// touching are the entries, of any installation, that are about any of our schemas.
func (d *Database) touching(ctx context.Context, s *session, where string, args ...any) ([]entry, error) {
	all, err := entries(ctx, s, where, args...)
	return slices.DeleteFunc(all, func(e entry) bool {
		return !slices.ContainsFunc(e.schemas(), func(name string) bool { return slices.Contains(d.cfg.Schemas, name) })
	}), err
}

// fencePrefix begins the name of the fence: the table that lies in the schema that holds what is not live.
const fencePrefix = prefix + "_fence_"

func isFence(table string) bool { return strings.HasPrefix(strings.ToLower(table), fencePrefix) }

func fenceName(attempt int) string { return fmt.Sprintf("%s%d", fencePrefix, attempt) }

// fence is where the fence lies, and what that means.
type fence struct{ schema, table string }

var errNoFence = errors.New("there is no fence")

// findFence looks where the fence of a run lies. That is the truth about which side is live.
func findFence(ctx context.Context, s *session, e *entry) (f fence, err error) {
	if len(e.Detail.Schemas) == 0 {
		return f, errNoFence
	}
	n, first := 0, e.Detail.Schemas[0]
	err = s.each(ctx, func(rows *sql.Rows) error {
		n++
		return rows.Scan(&f.schema, &f.table)
	}, `SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN (?, ?) AND LEFT(table_name, ?) = ?`,
		first.Stage, first.PutAway, len(fencePrefix), fencePrefix)
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
	if f.schema == e.Detail.Schemas[0].PutAway {
		return remora.Restored
	}
	return remora.Replaced
}

// whereIs is findFence for those who cannot go on without.
func (d *Database) whereIs(ctx context.Context, s *session, op string, e *entry) (fence, error) {
	f, err := findFence(ctx, s, e)
	if err != nil && codeOf(err) == 0 && !lost(err) {
		return f, remora.Fail(remora.Fenced, op, "run "+e.Run, "a person must look at the schemas "+e.Detail.Schemas[0].Stage+" and "+e.Detail.Schemas[0].PutAway, "the journal and the data disagree: %w", err)
	}
	return f, err
}

// putAwaySide is which side a restore put away.
func (d *Database) putAwaySide(ctx context.Context, run string) (e *entry, side remora.Side, err error) {
	const op = "find what was put away"
	err = d.with(ctx, d.write, op, "run "+run, func(s *session) (err error) {
		if e, err = d.mine(ctx, s, op, run); err != nil {
			return err
		}
		f, err := d.whereIs(ctx, s, op, e)
		side = f.live(e).Other()
		return err
	})
	return e, side, err
}

// Leftovers lists every run in the journal of the server, of any installation.
func (d *Database) Leftovers(ctx context.Context) (leftovers []remora.Leftover, err error) {
	err = d.with(ctx, d.write, "read the journal", d.cfg.Address, func(s *session) error {
		all, err := entries(ctx, s, "")
		if err != nil {
			return err
		}
		for _, e := range all {
			l := remora.Leftover{
				Kind: remora.Database, Run: e.Run, Source: e.Source, Installation: e.Installation, Seq: e.Seq, Live: remora.Replaced,
				Switched: e.Switched, KeepUntil: e.KeepUntil, Since: e.Since, Foreign: e.Installation != d.cfg.Installation,
			}
			if e.Detail.Copy {
				l.To = e.Detail.Schemas[0].Name
			}
			f, err := findFence(ctx, s, &e)
			switch {
			case err == nil:
				l.Live = f.live(&e)
				l.Switched = l.Switched || l.Live == remora.Restored
				l.Nothing = l.Live == remora.Restored && !slices.ContainsFunc(e.Detail.Schemas, func(s *sides) bool { return s.LiveExisted })
			case codeOf(err) != 0 || lost(err):
				return err
			}
			for _, p := range e.asides() {
				_, exists, err := optionsOf(ctx, s, p.schema)
				if err != nil {
					return err
				}
				if exists {
					l.What = append(l.What, p.schema)
				}
			}
			for _, s := range e.Detail.Schemas {
				l.What = append(l.What, mapped(s.Only, func(t string) string { return "only " + tableName(s.Name, t) })...)
			}
			leftovers = append(leftovers, l)
		}
		return nil
	})
	return leftovers, err
}
