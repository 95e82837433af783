package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

const (
	// switchTries bounds how often the RENAME is tried, switchPause is the pause after the first try; it grows.
	switchTries = 3
	switchPause = time.Second
	// renameLimit bounds the RENAME on our side. The server gives up waiting after lock_wait_timeout; moving hundreds of
	// tables takes seconds.
	renameLimit = 10 * time.Minute
	// oldTransaction is the age in seconds of a transaction behind which the RENAME would surely give up: it is not even
	// tried then, since while it waits it blocks readers of the tables that it already has.
	oldTransaction = 5
)

// Switch makes a side live with one RENAME TABLE. It is a level: what is asked for is compared with what the fence says,
// and nothing is done twice. Each try names the fence as no earlier one did, so whoever comes late moves nothing.
func (d *Database) Switch(ctx context.Context, turn remora.Turn) error {
	const op = "switch"
	return d.holding(ctx, op, func(s *session) error {
		sw := switcher{d: d, op: op, s: s, turn: turn}
		return sw.run(ctx)
	})
}

// switcher is one call of Switch.
type switcher struct {
	d     *Database
	op    string
	s     *session
	turn  remora.Turn
	entry *entry
	fence fence
}

func (sw *switcher) run(ctx context.Context) error {
	if err := sw.accept(ctx); err != nil {
		return err
	}
	if sw.fence.live(sw.entry) != sw.turn.Live {
		return sw.move(ctx)
	}
	return sw.explained(ctx, sw.shape(ctx, sw.turn.Live))
}

// accept reads the journal and the fence, refuses a turn that does not fit them, and writes it down.
func (sw *switcher) accept(ctx context.Context) (err error) {
	e, err := sw.d.mine(ctx, sw.s, sw.op, sw.turn.Run)
	if err != nil {
		return err
	}
	sw.entry = e
	switch {
	case sw.turn.Seq < e.Seq:
		return fail(remora.Fenced, sw.op, "run "+e.Run, "nothing to do: a later turn has been made", "turn %d came after turn %d: %w", sw.turn.Seq, e.Seq, remora.ErrStaleTurn)
	case sw.turn.Seq == e.Seq && e.Wanted != sw.turn.Live:
		return fail(remora.Fenced, sw.op, "run "+e.Run, "", "turn %d asked for the %s side before, and now for the %s side", e.Seq, e.Wanted, sw.turn.Live)
	case e.State == stateDiscarding:
		return fail(remora.Fenced, sw.op, "run "+e.Run, "nothing to go back to: start a new restore", "the side that was put away is being discarded")
	case e.State != stateCompared && sw.turn.Live == remora.Restored:
		return fail(remora.Fenced, sw.op, "run "+e.Run, "stage and compare it again", "the stage is not complete and found equal to the backup")
	}
	sw.fence, err = findFence(ctx, sw.s, e)
	switch {
	case errors.Is(err, errNoFence) && e.State == stateStaging && !e.Switched:
		sw.fence = fence{schema: e.Detail.Stage} // the stage was not even begun
	case err != nil:
		sw.fence, err = sw.d.whereIs(ctx, sw.s, sw.op, e)
		if err != nil {
			return err
		}
	}
	// Before anything moves back, it is on record that the stage was live once (S1).
	e.Switched = e.Switched || sw.fence.live(e) == remora.Restored
	e.Seq, e.Wanted, e.KeepUntil = sw.turn.Seq, sw.turn.Live, sw.turn.KeepUntil
	return e.save(ctx, sw.s)
}

// sides are the schemas between which tables move: live tables go out, those beside the fence come in.
func (sw *switcher) sides() (out, in string) {
	if sw.fence.schema == sw.entry.Detail.Stage {
		return sw.entry.Detail.PutAway, sw.entry.Detail.Stage
	}
	return sw.entry.Detail.Stage, sw.entry.Detail.PutAway
}

// move exchanges the sides, with a bounded number of tries.
func (sw *switcher) move(ctx context.Context) error {
	for try := 1; ; try++ {
		err := sw.tryMove(ctx)
		if remora.KindOf(err) != remora.Busy || try == switchTries {
			return err
		}
		if err := pause(ctx, time.Duration(try)*switchPause); err != nil {
			return err
		}
	}
}

// tryMove moves once. Whatever may fail comes before the RENAME, so an error means that nothing was moved; but where the
// connection is lost in the RENAME itself nobody knows, and where a schema that was not there before must go again, that
// comes after. Both are found by the next call.
func (sw *switcher) tryMove(ctx context.Context) error {
	out, in := sw.sides()
	live, err := takeCensus(ctx, sw.s, sw.d.schema, true)
	if err != nil {
		return err
	}
	if len(live.refused) > 0 {
		return fail(remora.Changed, sw.op, "schema "+sw.d.schema, "remove them, or start a new restore", "since the plan there are things that cannot be moved: %s", listed(live.refused))
	}
	incoming, err := takeCensus(ctx, sw.s, in, true)
	if err != nil {
		return err
	}
	if len(incoming.refused) > 0 {
		return fail(remora.Changed, sw.op, "schema "+in, "remove them", "there are things that cannot be moved: %s", listed(incoming.refused))
	}
	if err := sw.blockers(ctx, oldTransaction); err != nil {
		return err
	}
	options := live.options
	if !live.exists {
		options = sw.entry.Detail.Restored.Options
	}
	// Changing the options waits for whoever uses a table of the schema, as the RENAME does.
	if err = within(ctx, renameLimit, func(ctx context.Context) error { return sw.shape(ctx, sw.turn.Live) }); err == nil {
		err = sw.s.exec(ctx, "CREATE DATABASE IF NOT EXISTS "+quote(out)+" "+options.clause())
	}
	if err == nil {
		err = sw.rename(ctx, live.names(), incoming.names(), out, in)
	}
	if err != nil {
		err = sw.explained(ctx, err)
		// Nothing was moved, so the schema is to look as it did. Where that has to wait for too long, the turn that makes
		// up for this one sees to it.
		back := func(ctx context.Context) error { return sw.shape(ctx, sw.turn.Live.Other()) }
		if !live.exists {
			back = sw.dropEmptyLive
		}
		_ = within(ctx, connectTimeout, back)
		return err
	}
	if sw.turn.Live == remora.Restored || sw.entry.Detail.LiveExisted {
		return nil
	}
	return within(ctx, connectTimeout, sw.dropEmptyLive)
}

// rename moves the fence to a new name, which only this try knows, and then everything at once.
func (sw *switcher) rename(ctx context.Context, live, incoming []string, out, in string) error {
	sw.entry.Attempt++
	if err := sw.entry.save(ctx, sw.s); err != nil {
		return err
	}
	name := fenceName(sw.entry.Attempt)
	if err := sw.s.exec(ctx, "RENAME TABLE "+qualified(in, sw.fence.table)+" TO "+qualified(in, name)); err != nil {
		return sw.explained(ctx, err)
	}
	sw.fence.table = name
	moves := make([]string, 0, len(live)+len(incoming)+1)
	add := func(table, from, to string) {
		moves = append(moves, qualified(from, table)+" TO "+qualified(to, table))
	}
	for _, t := range live {
		add(t, sw.d.schema, out)
	}
	for _, t := range incoming {
		add(t, in, sw.d.schema)
	}
	add(name, in, out)
	// Whatever happens to the caller now, the outcome must be known.
	err := within(ctx, renameLimit, func(ctx context.Context) error {
		return sw.s.exec(ctx, "RENAME TABLE "+strings.Join(moves, ", "))
	})
	if err != nil {
		return sw.explained(ctx, err)
	}
	sw.fence.schema = out
	sw.entry.Switched = true
	// The fence tells what happened; that the journal says so too can wait for the next turn.
	if err := within(ctx, connectTimeout, func(ctx context.Context) error { return sw.entry.save(ctx, sw.s) }); err != nil {
		sw.d.log.Warn("the journal could not be written after the switch", "run", sw.entry.Run, "error", scrubbed(err))
	}
	return nil
}

// explained says why nothing was moved: who was in the way, or, when a table is not where it was, whether this attempt was
// overtaken, and so its fence is gone, or its list of tables is out of date.
func (sw *switcher) explained(ctx context.Context, err error) error {
	switch {
	case isCode(err, codeLockWait):
		if blocked := sw.blockers(ctx, 0); blocked != nil {
			return blocked
		}
		return fail(remora.Busy, sw.op, "schema "+sw.d.schema, "stop what uses its tables, or turn maintenance on", "its tables are in use, and nothing was changed")
	case !isCode(err, codeUnknownTable, codeTableExists):
		return err
	}
	if f, lookErr := findFence(ctx, sw.s, sw.entry); lookErr == nil && f == sw.fence {
		return fail(remora.Busy, sw.op, "schema "+sw.d.schema, "turn maintenance on, or wait for the migration to end", "a table came or went at the same moment, and nothing was changed: %w", scrubbed(err))
	}
	return fail(remora.Fenced, sw.op, "schema "+sw.d.schema, "nothing was changed by this attempt", "a later attempt has taken over: %w", scrubbed(err))
}

// blockers names the sessions that hold or wait for locks on our tables, where the rights allow to see them. On a stage,
// where nobody has any business, such a session may write what was not compared: it must be compared again (S2). Others
// are in the way when they are at least that many seconds old.
func (sw *switcher) blockers(ctx context.Context, seconds int) error {
	_, in := sw.sides()
	unproven := "" // the schema that was never live
	if !sw.entry.Switched {
		unproven = in
	}
	var writers, busy []string
	err := sw.s.each(ctx, func(rows *sql.Rows) error {
		var schema, who string
		if err := rows.Scan(&schema, &who); err != nil {
			return err
		}
		list := &busy
		if schema == unproven {
			list = &writers
		}
		if !slices.Contains(*list, who) {
			*list = append(*list, who)
		}
		return nil
	}, `SELECT l.object_schema, CONCAT('connection ', t.processlist_id, ' of ', COALESCE(t.processlist_user, '?'), ' (', GREATEST(t.processlist_time, COALESCE(TIMESTAMPDIFF(SECOND, x.trx_started, NOW()), 0)), ' s)')
		FROM performance_schema.metadata_locks l
		JOIN performance_schema.threads t ON t.thread_id = l.owner_thread_id
		LEFT JOIN information_schema.innodb_trx x ON x.trx_mysql_thread_id = t.processlist_id
		WHERE l.object_type = 'TABLE' AND l.object_schema IN (?, ?) AND t.processlist_id <> CONNECTION_ID()
			AND (l.object_schema = ? OR GREATEST(t.processlist_time, COALESCE(TIMESTAMPDIFF(SECOND, x.trx_started, NOW()), 0)) >= ?)
		ORDER BY t.processlist_id LIMIT 100`, sw.d.schema, in, unproven, seconds)
	switch {
	case isCode(err, codeTableDenied, codeRightDenied):
		return nil
	case err != nil:
		return err
	case len(writers) > 0:
		sw.entry.State = stateStaged
		return errors.Join(fail(remora.Changed, sw.op, "schema "+in, "stage again: somebody may have written into it", "somebody uses the tables that were put aside: %s", listed(writers)),
			sw.entry.save(ctx, sw.s))
	case len(busy) > 0:
		return fail(remora.Busy, sw.op, "schema "+sw.d.schema, "end them, for instance with KILL, or turn maintenance on: "+listed(busy),
			"its tables are in use by %s; nothing was changed", listed(busy))
	}
	return nil
}

// shape makes the live schema what a side has around its tables: its options, or that there is no schema.
func (sw *switcher) shape(ctx context.Context, side remora.Side) error {
	want := sw.entry.Detail.Restored.Options
	if side == remora.Replaced {
		if !sw.entry.Detail.LiveExisted {
			return sw.dropEmptyLive(ctx)
		}
		want = sw.entry.Detail.Live.Options
	}
	live, exists, err := optionsOf(ctx, sw.s, sw.d.schema)
	switch {
	case err != nil || live == want:
		return err
	case !exists:
		return sw.s.exec(ctx, "CREATE DATABASE "+quote(sw.d.schema)+" "+want.clause())
	default:
		return sw.s.exec(ctx, "ALTER DATABASE "+quote(sw.d.schema)+" "+want.clause())
	}
}

// dropEmptyLive drops the live schema when nothing at all is in it.
func (sw *switcher) dropEmptyLive(ctx context.Context) error {
	live, err := takeCensus(ctx, sw.s, sw.d.schema, true)
	if err != nil || !live.exists || len(live.tables)+len(live.refused) > 0 {
		return err
	}
	if err := sw.s.exec(ctx, "DROP DATABASE "+quote(sw.d.schema)); err != nil {
		return fmt.Errorf("drop the schema that was not there before: %w", err)
	}
	return nil
}
