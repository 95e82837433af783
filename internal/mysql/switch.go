package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

const (
	// switchPatience is for how long a switch tries to get past those who use the tables: the application is offline
	// meanwhile. switchPause is the pause after the first try; it grows.
	switchPatience = 20 * time.Second
	switchPause    = time.Second
	// renameLimit bounds the RENAME on our side. The server gives up waiting after lock_wait_timeout; moving hundreds of
	// tables takes seconds.
	renameLimit = 10 * time.Minute
	// switchSilence is for how long a switch believes in a server that is silent: see dialer.
	switchSilence = 30 * time.Second
	// oldTransaction is the age in seconds of a transaction behind which the RENAME would surely give up: it is not even
	// tried then, since while it waits it blocks readers of the tables that it already has.
	oldTransaction = 5
	// prepareRounds is how often counters are raised beforehand, while many are: numbers are handed out meanwhile.
	prepareRounds = 5
)

// Switch makes a side live with one RENAME TABLE. It is a level: what is asked for is compared with what the fence says,
// and nothing is done twice. Each try names the fence as no earlier one did, so whoever comes late moves nothing.
//
// What is no table does not move: it is dropped before the RENAME and created after it, from its text in the journal,
// which is written before the first is dropped. On MySQL the triggers go and come under LOCK TABLES, so that no row is
// written without them; events go first and come last.
func (d *Database) Switch(ctx context.Context, turn remora.Turn) error {
	const op = "switch"
	hasty := *d
	hasty.cfg.Stall, d = min(d.cfg.Stall, switchSilence), &hasty
	return d.holding(ctx, op, func(s *session) error {
		sw := switcher{d: d, op: op, s: s, turn: turn}
		if err := sw.accept(ctx); err != nil || turn.Stay {
			return err
		}
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
	// live and incoming are what the last try to move found on both sides.
	live, incoming []census
	// keys are the foreign keys across the border that it found.
	keys []key
}

func (sw *switcher) run(ctx context.Context) error {
	if err := sw.mend(ctx); err != nil {
		return sw.explained(ctx, err)
	}
	if sw.fence.live(sw.entry) != sw.turn.Live {
		return sw.move(ctx)
	}
	return sw.explained(ctx, sw.complete(ctx))
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
		return remora.Fail(remora.Fenced, sw.op, "run "+e.Run, "nothing to do: a later turn has been made", "turn %d came after turn %d: %w", sw.turn.Seq, e.Seq, remora.ErrStaleTurn)
	case sw.turn.Seq == e.Seq && e.Wanted != sw.turn.Live:
		return remora.Fail(remora.Fenced, sw.op, "run "+e.Run, "", "turn %d asked for the %s side before, and now for the %s side", e.Seq, e.Wanted, sw.turn.Live)
	case e.State == stateDiscarding:
		return remora.Fail(remora.Fenced, sw.op, "run "+e.Run, "nothing to go back to: start a new restore", "the side that was put away is being discarded")
	case e.State != stateCompared && sw.turn.Live == remora.Restored:
		return remora.Fail(remora.Fenced, sw.op, "run "+e.Run, "stage and compare it again", "the stage is not complete and found equal to the backup")
	}
	sw.fence, err = findFence(ctx, sw.s, e)
	switch {
	case errors.Is(err, errNoFence) && e.State == stateStaging && !e.Switched:
		sw.fence = fence{schema: e.Detail.Schemas[0].Stage} // the stage was not even begun
	case err != nil:
		sw.fence, err = sw.d.whereIs(ctx, sw.s, sw.op, e)
		if err != nil {
			return err
		}
	}
	if sw.turn.Stay && sw.fence.live(e) != sw.turn.Live {
		return remora.Fail(remora.Fenced, sw.op, "run "+e.Run, "finish it first: remora rollback", "the %s side is not live", sw.turn.Live)
	}
	if e.Detail.Unlogged && !e.Switched && sw.turn.Live != sw.fence.live(e) {
		if _, err := sw.d.skipsLog(ctx, sw.s, sw.op, true); err != nil { // one that came since the stage was begun
			return err
		}
	}
	// Before anything moves back, it is on record that the stage was live once (S1).
	e.Switched = e.Switched || sw.fence.live(e) == remora.Restored
	e.Seq, e.Wanted, e.KeepUntil = sw.turn.Seq, sw.turn.Live, sw.turn.KeepUntil
	return e.save(ctx, sw.s)
}

// settle makes the side that is live whole where a switch was cut off: what that dropped is known from the journal alone,
// so nothing else may be written there before.
func (d *Database) settle(ctx context.Context, s *session, op string, e *entry) error {
	if !e.Detail.Moving {
		return nil
	}
	f, err := d.whereIs(ctx, s, op, e)
	if err != nil {
		return err
	}
	e.Switched = e.Switched || f.live(e) == remora.Restored
	sw := switcher{d: d, op: op, s: s, entry: e, fence: f, turn: remora.Turn{Run: e.Run, Seq: e.Seq, Live: f.live(e)}}
	if err := sw.mend(ctx); err != nil {
		return err
	}
	return sw.complete(ctx)
}

// sides are the places between which tables move: live tables go out, those beside the fence come in.
func (sw *switcher) sides() (out, in []place) {
	live := sw.fence.live(sw.entry)
	return sw.entry.aside(live), sw.entry.aside(live.Other())
}

// Prepare raises the counters of what comes in, table by table, so that few are left to raise with the application
// offline, and waits for old transactions: what they are, Switch says.
func (d *Database) Prepare(ctx context.Context, turn remora.Turn) error {
	const op = "prepare the switch of"
	return d.holding(ctx, op, func(s *session) error {
		e, err := d.mine(ctx, s, op, turn.Run)
		if err != nil {
			return err
		}
		f, err := d.whereIs(ctx, s, op, e)
		if err != nil || f.live(e) == turn.Live || turn.Seq < e.Seq || e.Detail.Moving || e.Detail.Unlogged {
			return err
		}
		sw := switcher{d: d, op: op, s: s, turn: turn, entry: e, fence: f}
		if err := errors.Join(sw.look(ctx), sw.stillThere(ctx)); err != nil {
			return err
		}
		for i := range sw.incoming { // those have rows, which must go on to equal the backup
			sw.incoming[i].tables = slices.DeleteFunc(sw.incoming[i].tables, table.sequence)
		}
		for range prepareRounds {
			raised, err := sw.raiseCounters(ctx)
			if err != nil {
				return err
			}
			if raised < 10 {
				break
			}
		}
		err = sw.patiently(ctx, func(ctx context.Context) error { return sw.blockers(ctx, oldTransaction) })
		if remora.KindOf(err) == remora.Busy {
			return nil
		}
		return err
	})
}

// move exchanges the sides. Between two tries everything is as it was.
func (sw *switcher) move(ctx context.Context) error { return sw.patiently(ctx, sw.tryMove) }

// patiently tries again what others are in the way of, for a bounded time.
func (sw *switcher) patiently(ctx context.Context, try func(context.Context) error) error {
	for end, wait := time.Now().Add(sw.d.switchPatience), switchPause; ; wait *= 2 {
		err := try(ctx)
		if sw.fence.live(sw.entry) == sw.turn.Live || remora.KindOf(err) != remora.Busy || time.Now().Add(wait).After(end) {
			return err
		}
		sw.turn.Tell(remora.Progress{Phase: sw.op + " " + sw.d.name(), Item: fmt.Sprintf("tried again in %s: %v", wait, errors.Unwrap(err))})
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// mend takes a RENAME back that a crash of the server cut off. Only tables of engines without a log can be caught in
// between: the server commits each of them by itself. The fence comes last in the RENAME, so it has not moved.
func (sw *switcher) mend(ctx context.Context) error {
	if !sw.entry.Detail.Moving {
		return nil
	}
	out, in := sw.sides()
	var moves []string
	for i, s := range sw.entry.Detail.Schemas {
		side := sw.fence.live(sw.entry)
		var have [3][]string // live, gone out, still to come in
		for j, schema := range []string{s.Name, out[i].schema, in[i].schema} {
			tables, err := sw.s.strings(ctx, "SELECT table_name FROM information_schema.tables WHERE table_schema = ? AND table_type <> 'VIEW'", schema)
			if err != nil {
				return err
			}
			have[j] = tables
		}
		for _, t := range have[0] {
			_, comes := s.of(side.Other()).Tables[t]
			_, goes := s.of(side).Tables[t]
			if comes && !slices.Contains(have[2], t) && (!goes || slices.Contains(have[1], t)) {
				moves = append(moves, qualified(s.Name, t)+" TO "+qualified(in[i].schema, t))
			}
		}
		for _, t := range have[1] {
			moves = append(moves, qualified(out[i].schema, t)+" TO "+qualified(s.Name, t))
		}
	}
	if len(moves) == 0 {
		return nil
	}
	sw.d.log.Warn("taking back a switch that a crash of the server cut off", "run", sw.entry.Run, "tables", len(moves))
	return within(ctx, renameLimit, func(ctx context.Context) error { return sw.s.exec(ctx, "RENAME TABLE "+strings.Join(moves, ", ")) })
}

// look takes the census of what is live and of what comes in, and refuses what cannot be moved.
func (sw *switcher) look(ctx context.Context) (err error) {
	_, in := sw.sides()
	if sw.live, err = takeCensuses(ctx, sw.s, sw.entry.live(), sw.entry.inside()); err != nil {
		return err
	}
	if sw.incoming, err = takeCensuses(ctx, sw.s, in, nil); err != nil {
		return err
	}
	if sw.keys, err = sw.findKeys(ctx, sw.live); err != nil {
		return err
	}
	for _, c := range slices.Concat(sw.live, sw.incoming) {
		if len(c.refused) > 0 {
			return remora.Fail(remora.Changed, sw.op, "schema "+c.schema, "remove them, or start a new restore", "since the plan there are things that cannot be moved: %s", listed(c.refused))
		}
	}
	for i, s := range sw.entry.Detail.Schemas {
		if !sw.entry.Detail.Copy {
			break
		}
		going := s.of(sw.turn.Live.Other())
		theirs := slices.DeleteFunc(sw.live[i].names(), func(name string) bool { _, ours := going.Tables[name]; return ours })
		if theirs = append(theirs, objectNames(without(sw.live[i].objects, going.Objects))...); len(theirs) > 0 {
			return remora.Fail(remora.Changed, sw.op, "schema "+s.Name, "move them to another schema", "since the plan somebody made things there: %s", listed(theirs))
		}
	}
	for _, c := range sw.incoming {
		if len(c.objects) > 0 {
			return remora.Fail(remora.Changed, sw.op, "schema "+c.schema, "remove them", "somebody made things there: %s", listed(c.objects))
		}
	}
	return nil
}

// tryMove moves once. What may fail comes before the RENAME, and is made good where it does; so an error means that
// nothing was moved, but where the connection is lost in the RENAME itself, and nobody knows, or where something cannot
// be created after it. Both are found by the next call.
func (sw *switcher) tryMove(ctx context.Context) error {
	unused := func(ctx context.Context) error { return sw.blockers(ctx, oldTransaction) }
	for _, step := range []func(context.Context) error{sw.look, sw.stillThere, unused, sw.intend} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	shape := func(ctx context.Context) error { return sw.shape(ctx, sw.turn.Live) }
	raise := func(ctx context.Context) error { _, err := sw.raiseCounters(ctx); return err }
	// Changing the options waits for whoever uses a table of the schema, as the RENAME does.
	reshape := func(ctx context.Context) error { return within(ctx, renameLimit, shape) }
	for _, step := range []func(context.Context) error{reshape, sw.makeAside, sw.emptyStage, raise, sw.exchange} {
		err := step(ctx)
		if err == nil {
			continue
		}
		err = sw.explained(ctx, err)
		// Nothing was moved, so everything is to look as it did. Where that has to wait for too long, the turn that makes
		// up for this one sees to it.
		if back := within(ctx, renameLimit, func(ctx context.Context) error { return sw.completeAs(ctx, sw.turn.Live.Other(), false) }); back != nil {
			sw.d.log.Warn("a switch that moved nothing could not be cleaned up yet", "run", sw.entry.Run, "error", scrubbed(back))
		}
		return err
	}
	return within(ctx, renameLimit, func(ctx context.Context) error { return sw.explained(ctx, sw.complete(ctx)) })
}

// makeAside makes the schemas that the live tables go out to.
func (sw *switcher) makeAside(ctx context.Context) error {
	out, _ := sw.sides()
	for i, p := range out {
		options := sw.live[i].options
		if !sw.live[i].exists {
			options = sw.entry.Detail.Schemas[i].Restored.Options
		}
		if err := sw.s.exec(ctx, "CREATE DATABASE IF NOT EXISTS "+quote(p.schema)+" "+options.clause()); err != nil {
			return err
		}
	}
	return nil
}

// intend writes both sides into the journal as they are now, before anything of them is dropped. What an unfinished move
// dropped is known from the journal alone, and stays there.
func (sw *switcher) intend(ctx context.Context) error {
	for i, sides := range sw.entry.Detail.Schemas {
		going, coming := sides.of(sw.turn.Live.Other()), sides.of(sw.turn.Live)
		now := sw.live[i].side()
		if sw.entry.Detail.Moving {
			now.Objects = slices.Clone(going.Objects) // in their order, which tells that of triggers
			for j, o := range now.Objects {
				// What is half way may be invalid for the moment, so of what is the same the journal knows more.
				if k := slices.IndexFunc(sw.live[i].objects, o.same); k >= 0 && !o.alike(sw.live[i].objects[k]) {
					now.Objects[j] = sw.live[i].objects[k]
				}
			}
			now.Objects = inOrder(append(now.Objects, without(sw.live[i].objects, going.Objects)...))
		}
		if sw.entry.Detail.Moving || !sw.live[i].exists {
			now.Options = going.Options
		}
		*going = now
		coming.Tables = sw.incoming[i].side().Tables
		if sides.Only != nil && sw.live[i].exists {
			coming.Options = now.Options
		}
	}
	sw.intendKeys()
	sw.entry.Detail.Moving = true
	return sw.entry.save(ctx, sw.s)
}

// stillThere refuses a stage whose rows a restart of the server has emptied since they were compared (S27).
func (sw *switcher) stillThere(ctx context.Context) error {
	if sw.entry.Detail.Booted.IsZero() || sw.entry.Switched {
		return nil
	}
	now, err := booted(ctx, sw.s)
	if err != nil || now.Sub(sw.entry.Detail.Booted).Abs() < 3*time.Second {
		return err
	}
	sw.entry.State = stateStaged
	return errors.Join(remora.Fail(remora.Changed, sw.op, sw.d.subject(), "stage it again", "the server was restarted since the stage was compared, and so its MEMORY tables are empty"),
		sw.entry.save(ctx, sw.s))
}

// exchange drops what does not move, moves the tables, and creates the triggers of those that came in.
func (sw *switcher) exchange(ctx context.Context) (err error) {
	if err := sw.renameFence(ctx); err != nil {
		return err
	}
	if err := sw.dropLive(ctx, true, append([]string{kindEvent, kindView}, routineKinds...)...); err != nil {
		return err
	}
	if err := dropKeys(ctx, sw.s, sw.keys); err != nil {
		return err
	}
	moves, locks := sw.moves()
	rename := func() error {
		// Whatever happens to the caller now, the outcome must be known.
		return within(ctx, renameLimit, func(ctx context.Context) error { return sw.s.exec(ctx, "RENAME TABLE "+strings.Join(moves, ", ")) })
	}
	withTriggers := func() error {
		if err := sw.dropLive(ctx, false, kindTrigger); err != nil {
			return err
		}
		if err := rename(); err != nil {
			return err
		}
		sw.moved()
		return within(ctx, renameLimit, func(ctx context.Context) error { return sw.createLive(ctx, true, kindTrigger) })
	}
	switch {
	case !sw.triggers():
		err = rename()
	case sw.s.server.mariadb(): // it renames nothing under LOCK TABLES: for a moment there are no triggers (S32)
		err = withTriggers()
	default:
		err = sw.locked(ctx, locks, withTriggers)
	}
	if sw.fence.live(sw.entry) == sw.turn.Live { // it was moved: what failed after that is for complete to do
		if err != nil {
			sw.d.log.Warn("triggers could not be created at once", "run", sw.entry.Run, "error", scrubbed(err))
		}
		return nil
	}
	if err == nil {
		sw.moved()
	}
	return err
}

// moved takes notice that the RENAME was done.
func (sw *switcher) moved() {
	out, _ := sw.sides()
	sw.fence.schema = out[0].schema
	sw.entry.Switched = true
}

// locked runs work while nobody else uses the tables; what fails is undone by the caller. A worker that froze must not
// keep everybody out (S17). With GTIDs, MySQL locks no tables of InnoDB together with others: then there is the gap of
// MariaDB.
func (sw *switcher) locked(ctx context.Context, tables []string, work func() error) error {
	if err := sw.s.exec(ctx, fmt.Sprintf("SET SESSION wait_timeout = %d", holderTimeout)); err != nil {
		return err
	}
	err := sw.s.exec(ctx, "LOCK TABLES "+strings.Join(tables, " WRITE, ")+" WRITE")
	if err == nil || isCode(err, codeMixedGTID) {
		err = work()
	}
	again := context.WithoutCancel(ctx)
	return errors.Join(err, sw.s.exec(again, "UNLOCK TABLES"), sw.s.exec(again, "SET SESSION "+forever))
}

// triggers tells whether either side has any.
func (sw *switcher) triggers() bool {
	return slices.ContainsFunc(sw.entry.Detail.Schemas, func(s *sides) bool {
		return len(ofKinds(s.Live.Objects, kindTrigger))+len(ofKinds(s.Restored.Objects, kindTrigger)) > 0
	})
}

// dropLive drops objects of the side that is live. Views and routines that are the same on both sides may stay: they
// use whatever tables are there. So may invalid views whose names are free on the other side, since nothing would bring
// them back. Events may not, since they act.
func (sw *switcher) dropLive(ctx context.Context, spare bool, kinds ...string) error {
	for _, s := range sw.entry.Detail.Schemas {
		going := s.of(sw.turn.Live.Other()).Objects
		if spare {
			going = slices.DeleteFunc(slices.Clone(going), func(o object) bool {
				return o.Kind != kindEvent && (slices.ContainsFunc(s.of(sw.turn.Live).Objects, o.alike) || o.Broken && !s.of(sw.turn.Live).names(o.Name))
			})
		}
		if err := dropObjects(ctx, sw.s, s.Name, going, kinds...); err != nil {
			return err
		}
	}
	return nil
}

// createLive creates objects of the side that is wanted. With asIs, those of a schema whose collation would have to
// change for them are left for later.
func (sw *switcher) createLive(ctx context.Context, asIs bool, kinds ...string) error {
	var in []census
	for _, s := range sw.entry.Detail.Schemas {
		side := s.of(sw.turn.Live)
		objects := ofKinds(side.Objects, kinds...)
		if asIs { // or whose table has such a one: the order in which they are created is that in which they act
			all := slices.Clone(objects)
			objects = slices.DeleteFunc(objects, func(o object) bool {
				return slices.ContainsFunc(all, func(p object) bool { return p.Table == o.Table && p.Database != side.Options.Collation })
			})
		}
		in = append(in, census{place: place{s.Name, s.Name}, options: side.Options, objects: objects})
	}
	_, err := createObjects(ctx, sw.s, in)
	return err
}

// renameFence gives the fence a name that only this try knows.
func (sw *switcher) renameFence(ctx context.Context) error {
	_, in := sw.sides()
	sw.entry.Attempt++
	if err := sw.entry.save(ctx, sw.s); err != nil {
		return err
	}
	name := fenceName(sw.entry.Attempt)
	if err := sw.s.exec(ctx, "RENAME TABLE "+qualified(in[0].schema, sw.fence.table)+" TO "+qualified(in[0].schema, name)); err != nil {
		return err
	}
	sw.fence.table = name
	return nil
}

// moves are the parts of the RENAME, and the tables that it names as they are called before it.
func (sw *switcher) moves() (moves, tables []string) {
	out, in := sw.sides()
	add := func(table, from, to string) {
		moves = append(moves, qualified(from, table)+" TO "+qualified(to, table))
		tables = append(tables, qualified(from, table))
	}
	for i, c := range sw.live {
		for _, t := range c.names() {
			add(t, c.schema, out[i].schema)
		}
	}
	for _, c := range sw.incoming {
		for _, t := range c.names() {
			add(t, c.schema, c.name)
		}
	}
	add(sw.fence.table, in[0].schema, out[0].schema)
	return moves, tables
}

// complete makes the side that is live what it is to be: its options, and whatever is no table.
func (sw *switcher) complete(ctx context.Context) error {
	return sw.completeAs(ctx, sw.turn.Live, sw.turn.Hold)
}

// completeAs brings back what a move dropped, and takes away what is not of this side. Events come last, and not while
// they are held. Where no move is unfinished, nothing is touched but the options: what people changed since is theirs.
func (sw *switcher) completeAs(ctx context.Context, side remora.Side, hold bool) error {
	if err := errors.Join(sw.shape(ctx, side), sw.requalify(ctx)); err != nil || !sw.entry.Detail.Moving {
		return err
	}
	live, found, err := sw.lookAgain(ctx)
	if err != nil {
		return err
	}
	if err := sw.putKeys(ctx, side, found); err != nil {
		return err
	}
	kinds := objectKinds
	if hold {
		kinds = slices.DeleteFunc(slices.Clone(kinds), func(k string) bool { return k == kindEvent })
	}
	var missing []census
	var notes []string
	for i, s := range sw.entry.Detail.Schemas {
		want := s.of(side)
		for j, o := range want.Objects { // an event that comes disabled is from now on what it is
			o, noted, err := o.inTime(ctx, sw.s)
			if err != nil {
				return err
			}
			if slices.Contains(kinds, o.Kind) {
				want.Objects[j], notes = o, append(notes, noted...)
			}
		}
		if !live[i].exists {
			continue
		}
		missing = append(missing, census{place: live[i].place, options: want.Options, objects: ofKinds(without(want.Objects, live[i].objects), kinds...)})
	}
	noted, err := createObjects(ctx, sw.s, missing)
	if err != nil {
		return sw.d.cannotCreate(ctx, sw.s, sw.op, err)
	}
	for _, note := range append(notes, noted...) {
		sw.d.log.Warn("after a switch", "run", sw.entry.Run, "note", note)
	}
	if err := sw.verify(ctx, side, kinds); err != nil {
		return err
	}
	sw.entry.Detail.Moving = hold && slices.ContainsFunc(sw.entry.Detail.Schemas, func(s *sides) bool { return len(ofKinds(s.of(side).Objects, kindEvent)) > 0 })
	// The fence tells what happened; that the journal says so too can wait for the next turn.
	if err := sw.entry.save(ctx, sw.s); err != nil {
		sw.d.log.Warn("the journal could not be written after the switch", "run", sw.entry.Run, "error", scrubbed(err))
	}
	return nil
}

// lookAgain lists what is live after tables have moved, and the keys across the border. Of the tables it reads only
// definitions that have such a key: the RENAME has not changed any, and to open each of them takes time.
func (sw *switcher) lookAgain(ctx context.Context) ([]census, []key, error) {
	live := mapped(sw.entry.live(), func(p place) census { return census{place: p} })
	for i := range live {
		if err := live[i].list(ctx, sw.s, sw.entry.inside(), live[i].listTables, live[i].listObjects); err != nil {
			return nil, nil, err
		}
	}
	find := func(t [2]string) *table {
		i := slices.IndexFunc(live, func(c census) bool { return c.name == t[0] })
		if i < 0 {
			return nil
		}
		return live[i].find(t[1])
	}
	out, err := keyed(ctx, sw.s, func(from, to [2]string) bool { return find(from) != nil && find(to) == nil })
	if err != nil {
		return nil, nil, err
	}
	for _, t := range out {
		if find(t).Definition, err = definitionOf(ctx, sw.s, t[0], t[1]); err != nil {
			return nil, nil, err
		}
	}
	keys, err := sw.findKeys(ctx, live)
	return live, keys, err
}

// verify compares what is live with what should be, after a switch.
func (sw *switcher) verify(ctx context.Context, side remora.Side, kinds []string) error {
	live, keys, err := sw.lookAgain(ctx)
	if err != nil {
		return err
	}
	if lost := missing(sw.entry.Detail.Keys[side], keys); len(lost) > 0 {
		return remora.Fail(remora.Changed, sw.op, sw.d.subject(), "", "after the switch these foreign keys are missing: %s", listed(lost))
	}
	for i, s := range sw.entry.Detail.Schemas {
		want := ofKinds(s.of(side).Objects, kinds...)
		left := without(broken(s.of(side.Other()).Objects), want) // see dropLive
		if differences := compareObjects(want, without(ofKinds(live[i].objects, kinds...), left)); live[i].exists && len(differences) > 0 {
			return remora.Fail(remora.Changed, sw.op, "schema "+s.Name, "", "after the switch it is not what it should be: %s", listed(differences))
		}
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
		return remora.Fail(remora.Busy, sw.op, sw.d.subject(), "stop what uses its tables, or turn maintenance on", "its tables are in use, and nothing was changed")
	case !isCode(err, codeUnknownTable, codeTableExists):
		return err
	}
	if f, lookErr := findFence(ctx, sw.s, sw.entry); lookErr == nil && f == sw.fence {
		return remora.Fail(remora.Busy, sw.op, sw.d.subject(), "turn maintenance on, or wait for the migration to end", "a table came or went at the same moment, and nothing was changed: %w", scrubbed(err))
	}
	return remora.Fail(remora.Fenced, sw.op, sw.d.subject(), "nothing was changed by this attempt", "a later attempt has taken over: %w", scrubbed(err))
}

// blockers names the sessions that hold or wait for locks on our tables, where the rights allow to see them. On a stage,
// where nobody has any business, such a session may write what was not compared: it must be compared again (S2). Others
// are in the way when they are at least that many seconds old.
func (sw *switcher) blockers(ctx context.Context, seconds int) error {
	_, in := sw.sides()
	var writers, busy []string
	add := func(to *[]string, schema string, seconds int) (err error) {
		found, err := sw.s.users(ctx, schema, seconds)
		for _, who := range found {
			if !slices.Contains(*to, who) {
				*to = append(*to, who)
			}
		}
		return err
	}
	var err error
	for _, p := range in {
		aside, age := &busy, seconds
		if !sw.entry.Switched { // somebody has no business there at all
			aside, age = &writers, 0
		}
		err = errors.Join(err, add(&busy, p.name, seconds), add(aside, p.schema, age))
	}
	switch {
	case isCode(err, codeTableDenied, codeRightDenied):
		return nil
	case err != nil:
		return err
	case len(writers) > 0:
		sw.entry.State = stateStaged
		return errors.Join(remora.Fail(remora.Changed, sw.op, "schema "+schemasOf(in), "stage again: somebody may have written into it", "somebody uses the tables that were put aside: %s", listed(writers)),
			sw.entry.save(ctx, sw.s))
	case len(busy) > 0:
		return remora.Fail(remora.Busy, sw.op, sw.d.subject(), "try again when they have ended, or end them with KILL",
			"its tables are in use by %s; nothing was changed", listed(busy))
	}
	return nil
}

// shape makes the live schemas what a side has around its tables: their options, or that there is no schema.
func (sw *switcher) shape(ctx context.Context, side remora.Side) error {
	for _, s := range sw.entry.Detail.Schemas {
		want := s.of(side).Options
		live, exists, err := optionsOf(ctx, sw.s, s.Name)
		switch {
		case err != nil:
		case side == remora.Replaced && !s.LiveExisted:
			err = sw.dropEmptyLive(ctx, s.Name)
		case live == want, exists && s.Only != nil:
		case !exists:
			err = sw.s.exec(ctx, "CREATE DATABASE "+quote(s.Name)+" "+want.clause())
		default:
			clause := want.clause()
			if want.Comment == "" && live.Comment != "" {
				clause += " COMMENT ''"
			}
			err = sw.s.exec(ctx, "ALTER DATABASE "+quote(s.Name)+" "+clause)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dropEmptyLive drops a live schema when nothing at all is in it.
func (sw *switcher) dropEmptyLive(ctx context.Context, schema string) error {
	all, err := takeCensuses(ctx, sw.s, []place{{schema, schema}}, nil)
	if live := all[0]; err != nil || !live.exists || len(live.tables)+len(live.objects)+len(live.refused) > 0 {
		return err
	}
	if err := sw.s.exec(ctx, "DROP DATABASE "+quote(schema)); err != nil {
		return fmt.Errorf("drop the schema that was not there before: %w", err)
	}
	return nil
}
