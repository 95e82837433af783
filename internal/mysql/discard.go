package mysql

import (
	"context"
	"errors"

	"github.com/remora-backup/remora/internal/remora"
)

// Discard removes the side of a run that is not live and settles the journal; the journal itself goes with its last
// run, so that nothing of ours is left. A side that was once live is only removed when a backup holds it (S1).
func (d *Database) Discard(ctx context.Context, job remora.Job, heldBy string) error {
	const op = "discard"
	known := false
	err := d.with(ctx, d.write, op, d.cfg.Address, func(s *session) error { // no lock: there is none to wait for when there is nothing
		e, err := find(ctx, s, job.Run)
		if err != nil {
			return err
		}
		if e == nil {
			return d.dropJournal(ctx, s)
		}
		known = true
		return d.mayAct(op, e, s.server)
	})
	if err != nil || !known {
		return err
	}
	return d.holding(ctx, op, func(s *session) error { return d.discard(ctx, s, op, job, heldBy) })
}

func (d *Database) discard(ctx context.Context, s *session, op string, job remora.Job, heldBy string) error {
	e, err := find(ctx, s, job.Run)
	if err != nil || e == nil {
		return err
	}
	if err := d.mayAct(op, e, s.server); err != nil {
		return err
	}
	if err := job.Stale(op, e.Seq); err != nil {
		return err
	}
	if e.State != stateDiscarding {
		if err := d.settle(ctx, s, op, e); err != nil {
			return err
		}
		if err := d.mayDiscard(ctx, s, op, e, heldBy); err != nil {
			return err
		}
		e.State, e.Detail.HeldBy = stateDiscarding, heldBy
		if err := e.save(ctx, s); err != nil {
			return err
		}
	}
	// The intent is on record: no switch comes any more, and a repeated call goes on from here.
	if err := d.endLoaders(ctx, s, e); err != nil {
		return err
	}
	for _, schema := range e.made() {
		if err := dropSchema(ctx, s, e.Run, schema); err != nil {
			return err
		}
	}
	if err := s.exec(ctx, "DELETE FROM "+journalTable+" WHERE run = ?", e.Run); err != nil {
		return err
	}
	return d.dropJournal(ctx, s)
}

// made are all schemas that a run may have made, those of the first schema last: the fence goes last.
func (e *entry) made() (all []string) {
	for n := len(e.Detail.Schemas); n > 0; n-- {
		all = append(all, e.Detail.Schemas[n-1].PutAway)
		for attempt := 1; attempt <= e.Attempt; attempt++ {
			all = append(all, stageSchema(e.Run, n, attempt))
		}
	}
	return all
}

// mayDiscard tells whether what is not live may go: when it never was live, when there is nothing in it, or when a
// backup holds it.
func (d *Database) mayDiscard(ctx context.Context, s *session, op string, e *entry, heldBy string) error {
	f, err := findFence(ctx, s, e)
	if errors.Is(err, errNoFence) && e.State == stateStaging && !e.Switched {
		return nil // the stage was never begun
	}
	if err != nil {
		_, err := d.whereIs(ctx, s, op, e)
		return err
	}
	if !e.Switched && f.live(e) == remora.Replaced || heldBy != "" || e.Detail.Copy && f.live(e) == remora.Replaced {
		return nil // of a copy, a backup is what it was built from
	}
	live := f.live(e)
	aside, err := takeCensuses(ctx, s, e.aside(live.Other()), nil)
	if err != nil {
		return err
	}
	for i, c := range aside {
		if len(c.tables)+len(c.refused)+len(e.Detail.Schemas[i].of(live.Other()).Objects) > 0 {
			return remora.Fail(remora.Fenced, op, "schema "+c.schema, "capture the side that was put away first, and verify that backup", "its data was live once, and no backup is named that holds it")
		}
	}
	return nil
}

// dropJournal drops the journal when it is empty, while nobody can begin to write in it.
func (d *Database) dropJournal(ctx context.Context, s *session) error {
	return d.alone(ctx, s, "journal", func() error {
		var n int
		err := s.row(ctx, "SELECT COUNT(*) FROM "+journalTable).Scan(&n)
		if noJournal(err) || err == nil && n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
		return s.exec(ctx, "DROP DATABASE IF EXISTS "+quote(journalSchema))
	})
}
