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
	// switchTries bounds how often the RENAME is tried, switchPause is the pause after the first try; it doubles.
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
	s, err := d.hold(ctx)
	if err != nil {
		return err
	}
	defer release(ctx, s)
	sw := switcher{d: d, op: op, s: s, turn: turn}
	return d.problem(ctx, op, "schema "+d.schema, sw.run(ctx))
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
		if err := sw.move(ctx); err != nil {
			return err
		}
	}
	return sw.settle(ctx)
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
	case e.State != stateStaged && sw.turn.Live == remora.Restored:
		return fail(remora.Fenced, sw.op, "run "+e.Run, "stage it again", "the stage is not complete")
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
	pause := switchPause
	for try := 1; ; try++ {
		err := sw.tryMove(ctx)
		if remora.KindOf(err) != remora.Busy || try == switchTries {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause *= 2
	}
}

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
	if !live.exists && sw.turn.Live == remora.Replaced && sw.entry.Detail.LiveExisted {
		return fail(remora.Changed, sw.op, "schema "+sw.d.schema, "", "somebody dropped it")
	}
	if err := sw.blockers(ctx, oldTransaction); err != nil {
		return err
	}
	options := live.options
	if !live.exists {
		options = sw.entry.Detail.Restored.Options
		if err := sw.s.exec(ctx, "CREATE DATABASE "+quote(sw.d.schema)+" "+options.clause()); err != nil {
			return err
		}
	}
	err = sw.s.exec(ctx, "CREATE DATABASE IF NOT EXISTS "+quote(out)+" "+options.clause())
	if err == nil {
		err = sw.rename(ctx, live.names(), incoming.names(), out, in)
	}
	if err != nil && !live.exists {
		_ = within(ctx, connectTimeout, sw.dropEmptyLive) // on error nothing has changed
	}
	return err
}

// rename moves the fence to a new name, which only this try knows, and then everything at once.
func (sw *switcher) rename(ctx context.Context, live, incoming []string, out, in string) error {
	sw.entry.Attempt++
	if err := sw.entry.save(ctx, sw.s); err != nil {
		return err
	}
	name := fenceName(sw.entry.Attempt)
	if err := sw.s.exec(ctx, "RENAME TABLE "+qualified(in, sw.fence.table)+" TO "+qualified(in, name)); err != nil {
		return sw.fenced(err)
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
	switch {
	case err == nil:
		sw.fence.schema = out
		sw.entry.Switched = true
		return nil
	case isCode(err, codeLockWait):
		if blocked := sw.blockers(ctx, 0); blocked != nil {
			return blocked
		}
		return fail(remora.Busy, sw.op, "schema "+sw.d.schema, "stop what uses its tables, or turn maintenance on", "its tables are in use, and nothing was changed")
	default:
		return sw.fenced(err)
	}
}

// fenced recognises the error of an attempt that was overtaken: its fence is gone.
func (sw *switcher) fenced(err error) error {
	if isCode(err, codeUnknownTable) {
		return fail(remora.Fenced, sw.op, "schema "+sw.d.schema, "nothing was changed by this attempt", "a later attempt has taken over, or a table was dropped: %w", scrubbed(err))
	}
	return err
}

// blockers names the sessions that hold or wait for locks on our tables, where the rights allow to see them: those on
// the stage, where nobody has any business, as something that changed (S2); those on live tables, when they are at least
// that many seconds old, as busy.
func (sw *switcher) blockers(ctx context.Context, seconds int) error {
	_, in := sw.sides()
	byschema := map[string][]string{}
	err := sw.s.each(ctx, func(rows *sql.Rows) error {
		var schema, who string
		if err := rows.Scan(&schema, &who); err != nil {
			return err
		}
		if !slices.Contains(byschema[schema], who) {
			byschema[schema] = append(byschema[schema], who)
		}
		return nil
	}, `SELECT l.object_schema, CONCAT('connection ', t.processlist_id, ' of ', COALESCE(t.processlist_user, '?'), ' (', GREATEST(t.processlist_time, COALESCE(TIMESTAMPDIFF(SECOND, x.trx_started, NOW()), 0)), ' s)')
		FROM performance_schema.metadata_locks l
		JOIN performance_schema.threads t ON t.thread_id = l.owner_thread_id
		LEFT JOIN information_schema.innodb_trx x ON x.trx_mysql_thread_id = t.processlist_id
		WHERE l.object_type = 'TABLE' AND l.object_schema IN (?, ?) AND t.processlist_id <> CONNECTION_ID()
			AND (l.object_schema = ? OR GREATEST(t.processlist_time, COALESCE(TIMESTAMPDIFF(SECOND, x.trx_started, NOW()), 0)) >= ?)
		ORDER BY t.processlist_id LIMIT 100`, sw.d.schema, in, in, seconds)
	switch {
	case isCode(err, codeTableDenied, codeRightDenied):
		return nil
	case err != nil:
		return err
	case len(byschema[in]) > 0:
		return fail(remora.Changed, sw.op, "schema "+in, "stage again: somebody may have written into it", "somebody uses the tables that were put aside: %s", listed(byschema[in]))
	case len(byschema[sw.d.schema]) > 0:
		return fail(remora.Busy, sw.op, "schema "+sw.d.schema, "end them, for instance with KILL, or turn maintenance on: "+listed(byschema[sw.d.schema]),
			"its tables are in use by %s; nothing was changed", listed(byschema[sw.d.schema]))
	}
	return nil
}

// settle brings the rest of the level about: the journal, the options of the live schema, and that a schema that was
// not there before is not there again.
func (sw *switcher) settle(ctx context.Context) error {
	if err := sw.entry.save(ctx, sw.s); err != nil {
		return err
	}
	want := sw.entry.Detail.Restored.Options
	if sw.turn.Live == remora.Replaced {
		if !sw.entry.Detail.LiveExisted {
			return sw.dropEmptyLive(ctx)
		}
		want = sw.entry.Detail.Live.Options
	}
	live, exists, err := optionsOf(ctx, sw.s, sw.d.schema)
	if err != nil || !exists || live == want {
		return err
	}
	return sw.s.exec(ctx, "ALTER DATABASE "+quote(sw.d.schema)+" "+want.clause())
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
