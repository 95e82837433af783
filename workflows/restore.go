package workflows

import (
	"cmp"
	"errors"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// Restore brings a backup back and keeps what it replaced until the undo window ends. Its exclusive phases are
// children in the lane of the source, so that backups go on while the window is open. An error means: the source is
// as it was before; the record says the same in the repository.
func Restore(ctx workflow.Context, req remora.RestoreRequest) (remora.Restore, error) {
	info := workflow.GetInfo(ctx)
	op, err := begin(ctx, "restore", req.Source, firstRun(info), req.RequestedBy)
	if err != nil {
		return remora.Restore{}, err
	}
	if req.Undo <= 0 {
		req.Undo = remora.DefaultUndo
	}
	r := &restore{
		operation: op, req: req, root: ctx, seq: 2,
		record: remora.Restore{
			ID: remora.RestoreID(req.Source, op.run, info.WorkflowStartTime), Run: op.run,
			Source: req.Source, Backup: req.Backup, Kinds: req.Kinds, Selection: req.Selection, RequestedBy: req.RequestedBy,
			Outcome: remora.OutcomeRunning, Started: info.WorkflowStartTime, WithoutSafety: req.WithoutSafety,
		},
	}
	op.restore = r.record.ID
	if err := r.listen(ctx); err != nil {
		return r.record, err
	}
	start := r.apply
	if req.Adopt {
		start = r.adopt
	}
	if err := start(ctx); err != nil {
		return r.record, err
	}
	ctx, _ = workflow.NewDisconnectedContext(ctx) // a cancel in the window changes nothing
	r.keepWindow(ctx)
	return r.record, workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
}

// secondThought is how long, at least, the other side is kept after a rollback, and how long it takes until the end of
// a window is tried again after it failed. Shorter windows use their own length.
const secondThought = time.Hour

// restore is a restore and its undo window. Only the workflow's own coroutine changes it; updates leave a wish and
// wait for the answer.
type restore struct {
	*operation
	req    remora.RestoreRequest
	record remora.Restore
	// root is the context that a cancel of this workflow ends.
	root workflow.Context
	// seq is the sequence number of the next Turn; Apply has used 1.
	seq int

	// working is true while a child is at work, and no wish can be taken.
	working bool
	// wish is what a person asked for and the workflow has not begun yet.
	wish *wish
	// accepting is the accept that waits for its Discard to succeed.
	accepting *wish
	// extending is the extend that waits for the journals to know of it, and extendAt when that is tried again.
	extending *wish
	extendAt  time.Time
	// endAt is when the window is ended, or tried to be ended again; zero means: not by time.
	endAt time.Time
	// endAs is what the end will be called.
	endAs remora.Outcome
	// endBegan is when the end was first tried for the side that is now put away. The backup that holds the side is
	// named by it, so that another try is the same backup.
	endBegan time.Time
	// busyFor paces the tries while a backup holds the lane.
	busyFor time.Duration
	// stuck is true while the end of the window failed and a person should look.
	stuck bool
	// owed is true once a record could not be written.
	owed bool
	// toldCancel is true once a cancel was pointed at rollback and accept.
	toldCancel bool
}

// wish is an update of a person, and its answer.
type wish struct {
	update string
	by     string
	until  time.Time
	done   bool
	err    error
}

// listen registers what people can ask. It comes before everything else, so that nothing asked early is lost.
func (r *restore) listen(ctx workflow.Context) error {
	if err := workflow.SetQueryHandler(ctx, remora.RecordQuery, func() (remora.Restore, error) { return r.record, nil }); err != nil {
		return err
	}
	for _, u := range []struct {
		name, description string
		allowed           func(remora.WishInput) error
	}{
		{remora.RollbackUpdate, "Make the other side live again.", r.mayTurn},
		{remora.AcceptUpdate, "End the undo window: save what was put away as a backup, then discard it.", r.mayAccept},
		{remora.ExtendUpdate, "Keep the other side until a later time.", r.mayExtend},
		{remora.ResolveUpdate, "What a person was asked for has been done: try again to end the window.", r.mayResolve},
	} {
		err := workflow.SetUpdateHandlerWithOptions(ctx, u.name,
			func(ctx workflow.Context, in remora.WishInput) (remora.Restore, error) {
				return r.grant(ctx, &wish{update: u.name, by: in.RequestedBy, until: in.Until})
			},
			workflow.UpdateHandlerOptions{Description: u.description, Validator: u.allowed})
		if err != nil {
			return err
		}
	}
	return nil
}

// grant leaves a wish with the workflow and waits for what comes of it.
func (r *restore) grant(ctx workflow.Context, w *wish) (remora.Restore, error) {
	if w.update == remora.ResolveUpdate && r.person.asked {
		r.person.resolved = true
		return r.record, nil
	}
	ctx, _ = workflow.NewDisconnectedContext(ctx) // people may ask after a cancel, which changes nothing
	r.wish = w
	if err := workflow.Await(ctx, func() bool { return w.done }); err != nil {
		return r.record, err
	}
	if w.err != nil {
		return r.record, failure(problemOf(w.update+" "+r.record.ID, w.err))
	}
	return r.record, nil
}

// who asked; nobody for an end by time.
func (w *wish) who() string {
	if w == nil {
		return ""
	}
	return w.by
}

func (w *wish) answer(err error) {
	if w != nil {
		w.done, w.err = true, err
	}
}

func (r *restore) mayTurn(remora.WishInput) error {
	op := "roll back " + r.record.ID
	switch {
	case !r.record.Outcome.Open():
		return failure(remora.Fail(remora.Invalid, op, "", "", "its undo window is not open; it is %s", r.record.Outcome))
	case r.working && r.extending == nil || r.wish != nil: // an extend takes a moment; what is asked meanwhile comes next
		return failure(remora.Fail(remora.Busy, op, "", "Follow it: remora watch "+r.source, "it is at work on an earlier request"))
	}
	return nil
}

func (r *restore) mayAccept(in remora.WishInput) error {
	if r.accepting != nil {
		return failure(remora.Fail(remora.Busy, "accept "+r.record.ID, "", "", "it was accepted already, and waits for a backup of the source to end"))
	}
	return r.mayTurn(in)
}

// mayExtend refuses what would not lengthen the window.
func (r *restore) mayExtend(in remora.WishInput) error {
	op := "extend " + r.record.ID
	switch {
	case !r.record.Outcome.Open():
		return r.mayTurn(in)
	case r.record.KeepUntil.IsZero():
		return failure(remora.Fail(remora.Invalid, op, "", "End it with: remora accept "+r.source,
			"its undo window does not end by time, since no safety backup was taken (%s)", r.record.WithoutSafety))
	case r.extending != nil:
		return failure(remora.Fail(remora.Busy, op, "", "", "it is being extended already, and waits for a backup of the source to end"))
	case !in.Until.After(r.record.KeepUntil):
		return failure(remora.Fail(remora.Invalid, op, "", "Name a later time, or end the window with: remora accept "+r.source,
			"it is kept until %s already, and an undo window is only ever lengthened", r.record.KeepUntil.UTC().Format(time.RFC3339)))
	}
	return r.mayAccept(in)
}

func (r *restore) mayResolve(in remora.WishInput) error {
	if r.person.asked {
		return nil
	}
	if !r.stuck {
		return failure(remora.Fail(remora.Invalid, "resolve "+r.record.ID, "", "", "nothing here waits for a person"))
	}
	return r.mayTurn(in)
}

// apply runs the Apply child and opens the undo window.
func (r *restore) apply(ctx workflow.Context) error {
	// Who cannot record cannot take a safety backup either, which is only given up where a person said so.
	err := r.recordRestore(ctx, shortCall, r.record)
	if err != nil && problemOf("record", err).Kind == remora.Superseded {
		return r.adopt(ctx) // somebody has reset this in Temporal: it goes on from where the data is
	}
	if err != nil && r.req.WithoutSafety == "" {
		return r.ended(ctx, remora.OutcomeRefused, err)
	}
	r.working = true
	workflow.SetCurrentDetails(ctx, "applying; follow workflow "+remora.Lane(r.source))
	call := laneCall{
		workflow: remora.ApplyWorkflow, source: r.source, summary: "restore " + r.source + " from " + r.req.Backup,
		input:    remora.ApplyRequest{RestoreRequest: r.req, Run: r.run, ID: r.record.ID, Started: r.record.Started},
		patience: lanePatience, waiting: r.waitsForBackup,
	}
	if r.req.To != "" {
		call.patience, call.polite = copyPatience, true
	}
	began := workflow.Now(ctx)
	applied, err := inLane[remora.Applied](ctx, call)
	r.working = false
	if err != nil {
		came(err, &applied)
	}
	if killed(err) {
		lost := lasted(ctx, "restore, until its workflow was terminated; how long each step took is not known", began, "")
		lost.Failed = true
		applied.Phases = []remora.Phase{lost}
	}
	if len(applied.Kinds) > 0 {
		r.record.Kinds = applied.Kinds
	}
	r.record.Empty, r.record.SafetyBackup = applied.Empty, applied.SafetyBackup
	r.record.Phases = append(r.record.Phases, applied.Phases...)
	r.record.Warnings, r.record.Hint = applied.Warnings, ""
	if err != nil {
		return r.notApplied(ctx, laneProblem("restore "+r.source, r.source, err))
	}
	if r.req.To != "" {
		r.record.Outcome, r.record.Ended = remora.OutcomeCopied, workflow.Now(ctx)
	} else {
		r.record.Outcome, r.record.Live, r.record.KeepUntil = remora.OutcomeApplied, remora.Restored, applied.KeepUntil
		r.endAt, r.endAs = applied.KeepUntil, remora.OutcomeExpired
	}
	if r.root.Err() != nil && r.record.Outcome.Open() {
		r.toldCancel = true
		r.record.Hint = "The cancel came after the switch had begun, so the restore was finished. " + r.choices()
	}
	r.save(ctx)
	r.tellOutcome(ctx, r.record.Backup, r.req.RequestedBy)
	return nil
}

// adopt goes on with a restore that nobody looks after any more, from where its data is (S20).
func (r *restore) adopt(ctx workflow.Context) error {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	run := r.run
	if r.req.Adopt {
		run = ""
	}
	r.working = true
	workflow.SetCurrentDetails(ctx, "taking over; follow workflow "+remora.Lane(r.source))
	adopted, err := inLane[remora.Adopted](ctx, laneCall{
		workflow: remora.AdoptWorkflow, source: r.source, summary: "take over the restore of " + r.source,
		input:    remora.AdoptRequest{Source: r.source, Run: run, RequestedBy: r.req.RequestedBy},
		patience: lanePatience,
	})
	r.working = false
	if err != nil {
		return failure(problemOf("take over the restore of "+r.source, laneProblem("take over the restore of "+r.source, r.source, err)))
	}
	adopted.Record.Phases = append(r.record.Phases, adopted.Record.Phases...)
	r.record, r.run, r.seq = adopted.Record, adopted.Record.Run, adopted.Seq
	if r.endAs = remora.OutcomeExpired; !r.record.KeepUntil.IsZero() {
		r.endAt = later(r.record.KeepUntil, workflow.Now(ctx).Add(r.pause())) // whoever took it over has a wish
		r.record.KeepUntil = r.endAt
	}
	r.save(ctx)
	r.tellOutcome(ctx, cmp.Or(r.record.PutAwayBackup, r.record.Backup), r.req.RequestedBy)
	return nil
}

// waitsForBackup tells that a restore or rollback met a running backup, which gives way.
func (r *restore) waitsForBackup(ctx workflow.Context) {
	r.record.Hint = "It waits for the running operation on " + r.source + ", which was asked to stop."
	if r.req.To != "" {
		r.record.Hint = "It waits for the running operation on " + r.source + " to end."
	}
	workflow.SetCurrentDetails(ctx, r.record.Hint)
	r.save(ctx)
}

// notApplied ends a restore whose Apply did not switch.
func (r *restore) notApplied(ctx workflow.Context, err error) error {
	switch p := problemOf("restore "+r.source, err); {
	case killed(err):
		if r.goBack(ctx) {
			return r.adopt(ctx)
		}
		return r.ended(ctx, remora.OutcomeRolledBack, rolledBack(r.source, p))
	case p.Kind == remora.RolledBack, p.Kind == remora.Cancelled:
		return r.ended(ctx, remora.OutcomeRolledBack, err)
	default:
		return r.ended(ctx, remora.OutcomeRefused, err)
	}
}

// goBack does for a terminated Apply what it could not do itself any more. Where that had come to its end there is nothing
// to go back from.
func (r *restore) goBack(ctx workflow.Context) (whole bool) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	kinds := r.req.Kinds
	if r.req.To != "" {
		kinds = []remora.Kind{r.req.Place()}
	}
	if len(kinds) == 0 {
		kinds = []remora.Kind{remora.Database, remora.Files}
	}
	r.working = true
	const back = "go back to what was before"
	began := workflow.Now(ctx)
	r.insist(ctx, back, func(ctx workflow.Context) error {
		done, err := r.tryDiscard(ctx, remora.DiscardRequest{Kinds: kinds, Started: r.record.Started, BackFirst: true}, lanePatience)
		whole, r.record.Warnings = done.Whole, append(r.record.Warnings, done.Warnings...)
		return err
	})
	r.working = false
	r.record.Phases = append(r.record.Phases, lasted(ctx, remora.WayBack+back, began, ""))
	r.findSafety(ctx, &r.record)
	return whole
}

// ended records how a restore ended without a window, and gives the error to end with.
func (r *restore) ended(ctx workflow.Context, how remora.Outcome, err error) error {
	p := problemOf("restore "+r.source, err)
	text := p.Text()
	r.record.Outcome, r.record.Ended = how, workflow.Now(ctx)
	r.record.Problem, r.record.Hint = p.Error(), text.Hint
	r.save(ctx)
	r.tellOutcome(ctx, r.record.Backup, r.req.RequestedBy)
	workflow.SetCurrentDetails(ctx, string(how)+": "+p.Error())
	return ending(r.root, p, err)
}

// save records the state, wherever the root context stands. A record that cannot be written now is left to a Record, and
// so are the later ones of this restore, each in the place of the one before.
func (r *restore) save(ctx workflow.Context) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	outcome(ctx, string(r.record.Outcome))
	if !r.owed {
		err := r.recordRestore(ctx, bestEffort, r.record)
		if err == nil {
			return
		}
		workflow.GetLogger(ctx).Warn("the state of the restore was not recorded", "outcome", r.record.Outcome, "error", err)
		r.owed = workflow.GetVersion(ctx, "a record is owed", workflow.DefaultVersion, 1) > workflow.DefaultVersion
	}
	if r.owed {
		letGo(child(ctx, "record/"+r.record.ID, "record: "+string(r.record.Outcome), replacing), remora.RecordWorkflow, r.record)
	}
}

// Record writes down how a restore stands once the repository takes it again, be that in hours. Nobody waits for it.
func Record(ctx workflow.Context, r remora.Restore) error {
	op, err := begin(ctx, "record", r.Source, r.Run, r.RequestedBy)
	if err != nil {
		return err
	}
	if err := op.recordRestore(ctx, untilRecorded, r); err != nil {
		return failure(problemOf("record the restore "+r.ID, err))
	}
	conclude(ctx, string(remora.Completed), "recorded: "+string(r.Outcome))
	return nil
}

// tellOutcome has people told how the restore stands.
func (r *restore) tellOutcome(ctx workflow.Context, backup, by string) {
	r.tellOf(ctx, remora.RestoreEvent, backup, by)
}

func (r *restore) tellOf(ctx workflow.Context, event remora.Event, backup, by string) {
	r.tell(ctx, remora.Notice{
		Event: event, Subject: r.record.ID, Backup: backup, Outcome: r.record.Outcome, By: by, Started: r.record.Started,
		Problem: r.record.Problem, Hint: r.record.Hint, KeepUntil: r.record.KeepUntil, Warnings: r.record.Warnings,
	})
}

// choices says what a person can do while the window is open.
func (r *restore) choices() string {
	return "Undo it: remora rollback " + r.record.ID + "; end the window: remora accept " + r.record.ID + "."
}

// keepWindow serves the undo window until it is ended by a person or by time. ctx must not be cancellable.
func (r *restore) keepWindow(ctx workflow.Context) {
	for r.record.Outcome.Open() {
		due := r.await(ctx)
		w := r.wish
		r.wish = nil
		if w != nil && (w.update == remora.AcceptUpdate || w.update == remora.ResolveUpdate) {
			r.extending.answer(remora.Fail(remora.Changed, "extend "+r.record.ID, "", "", "somebody wants the window to end"))
			r.extending = nil
		}
		switch {
		case w == nil && due && r.extending != nil:
			r.extend(ctx)
		case w == nil && due:
			r.end(ctx)
		case w == nil:
			r.pointCancelAtRollback(ctx)
		case w.update == remora.RollbackUpdate:
			w.answer(r.turnBack(ctx, w.by))
		case w.update == remora.AcceptUpdate:
			r.accepting, r.endAs = w, remora.OutcomeAccepted
			r.end(ctx)
		case w.update == remora.ExtendUpdate:
			r.extending = w
			r.extend(ctx)
		default: // resolve: the answer is whether the end succeeds now
			r.accepting.answer(nil)
			r.accepting = w
			r.end(ctx)
		}
	}
}

// await waits for a wish, a cancel, or the time to end the window.
func (r *restore) await(ctx workflow.Context) (due bool) {
	woken := func() bool { return r.wish != nil || (r.root.Err() != nil && !r.toldCancel) }
	if r.endAt.IsZero() {
		workflow.SetCurrentDetails(ctx, r.state()+". The window does not end by time. "+r.choices())
		return workflow.Await(ctx, woken) != nil // never: this context cannot be cancelled
	}
	at := r.endAt
	if r.extending != nil { // the window does not end before that is done
		at = r.extendAt
	}
	until := at.UTC().Format(time.RFC3339)
	text := "undo window until " + until
	switch {
	case r.extending != nil:
		text = "try again to extend the undo window at " + until
	case r.stuck || r.endAt != r.record.KeepUntil:
		text = "try again to end the undo window at " + until
	}
	workflow.SetCurrentDetails(ctx, r.state()+". "+text+". "+r.choices()+"\n\n"+r.record.Problem)
	ok, err := workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{
		Timeout: at.Sub(workflow.Now(ctx)), TimerOptions: workflow.TimerOptions{Summary: text},
	}, woken)
	return !ok && err == nil
}

func (r *restore) state() string {
	return "The " + string(r.record.Live) + " side is live"
}

// pointCancelAtRollback answers a cancel in the window, which changes nothing: whoever cancels may mean either.
func (r *restore) pointCancelAtRollback(ctx workflow.Context) {
	r.toldCancel = true
	r.record.Hint = "A cancel was asked for; in the undo window it changes nothing. " + r.choices()
	r.save(ctx)
}

// turnBack makes the other side live: the undo, or the undo of the undo. What was live is kept in its place.
func (r *restore) turnBack(ctx workflow.Context, by string) error {
	began := workflow.Now(ctx)
	live := r.record.Live.Other()
	keep := r.record.KeepUntil
	if !keep.IsZero() {
		keep = later(keep, began.Add(r.pause()))
	}
	r.working = true
	workflow.SetCurrentDetails(ctx, "making the "+string(live)+" side live; follow workflow "+remora.Lane(r.source))
	turned, err := r.turn(ctx, live, keep, by)
	r.record.Hint = ""
	if err != nil {
		came(err, &turned)
		r.record.Warnings = append(r.record.Warnings, turned.Warnings...)
		r.seq += 2 // its compensation has used the second
		if killed(err) && workflow.GetVersion(ctx, "a terminated turn is settled", workflow.DefaultVersion, 1) > workflow.DefaultVersion {
			r.insist(ctx, "bring back what a terminated rollback left between", func(ctx workflow.Context) error {
				defer func() { r.seq += 2 }()
				settled, err := r.turn(ctx, r.record.Live, keep, by)
				r.record.Warnings = append(r.record.Warnings, settled.Warnings...)
				return err
			})
		}
		r.working = false
		err = laneProblem("roll back "+r.record.ID, r.source, err)
		p := problemOf("roll back "+r.record.ID, err)
		r.record.Problem, r.record.Hint = p.Error(), p.Text().Hint
		failed := lasted(ctx, "make the "+string(live)+" side live", began, by)
		failed.Failed = true
		r.record.Phases = append(r.record.Phases, failed)
		r.save(ctx)
		return err
	}
	r.working = false
	r.seq++
	r.accepting.answer(remora.Fail(remora.Changed, "accept "+r.record.ID, "", "", "a rollback came first"))
	r.accepting, r.stuck, r.endBegan, r.busyFor = nil, false, time.Time{}, 0
	r.endAt, r.endAs = keep, remora.OutcomeExpired
	r.record.Live, r.record.KeepUntil, r.record.Problem = live, keep, ""
	r.record.Warnings = turned.Warnings
	r.record.Outcome = remora.OutcomeUndone
	if live == remora.Restored {
		r.record.Outcome = remora.OutcomeApplied
	}
	r.record.Phases = append(r.record.Phases, lasted(ctx, "make the "+string(live)+" side live", began, by))
	r.save(ctx)
	r.tellOutcome(ctx, r.record.Backup, by)
	return nil
}

// turn runs the Turn child for this restore.
func (r *restore) turn(ctx workflow.Context, live remora.Side, keep time.Time, by string) (remora.Turned, error) {
	return inLane[remora.Turned](ctx, laneCall{
		workflow: remora.TurnWorkflow, source: r.source, summary: "make the " + string(live) + " side of " + r.source + " live",
		input: remora.TurnRequest{
			Source: r.source, Run: r.run, Kinds: r.record.Kinds, Seq: r.seq, Live: live, KeepUntil: keep, RequestedBy: by,
		},
		patience: lanePatience, waiting: r.waitsForBackup,
	})
}

// end tries to end the window: what is put away is saved as a backup, then discarded. While a backup holds the lane
// the end waits for it, and rollback stays possible. If it fails nothing was discarded, the window stays open, and a
// person is asked; it is also tried again by itself.
func (r *restore) end(ctx workflow.Context) {
	began := workflow.Now(ctx)
	if r.endBegan.IsZero() {
		r.endBegan = began
	}
	var empty []remora.Kind
	if r.record.Live == remora.Restored {
		empty = r.record.Empty // nothing was live before, so nothing was put away
	}
	r.working = true
	workflow.SetCurrentDetails(ctx, "saving and discarding what was put away; follow workflow "+remora.Lane(r.source))
	done, err := r.tryDiscard(ctx, remora.DiscardRequest{Kinds: r.record.Kinds, Started: r.endBegan, Nothing: empty}, 0)
	r.working = false
	switch {
	case errors.Is(err, errLaneTaken),
		killed(err) && workflow.GetVersion(ctx, "a terminated discard is repeated", workflow.DefaultVersion, 1) > workflow.DefaultVersion:
		r.endAt = r.patiently(ctx)
		return
	case err != nil:
		r.cannotEnd(ctx, err)
		return
	}
	r.record.Outcome, r.record.Ended, r.record.PutAwayBackup = r.endAs, workflow.Now(ctx), done.HeldBy
	r.record.Problem, r.record.Hint = "", ""
	r.record.Phases = append(r.record.Phases, lasted(ctx, "save and discard what was put away", began, r.accepting.who()))
	r.save(ctx)
	r.tellOutcome(ctx, done.HeldBy, r.accepting.who())
	workflow.SetCurrentDetails(ctx, string(r.endAs)+"; what was put away is held by backup "+done.HeldBy)
	r.accepting.answer(nil)
	r.accepting = nil
}

// cannotEnd keeps the window open after its end has failed.
func (r *restore) cannotEnd(ctx workflow.Context, err error) {
	p := problemOf("end the undo window of "+r.record.ID, err)
	text := p.Text()
	if p.Kind == remora.Corrupt {
		text.Hint = "Ask again: remora accept " + r.record.ID + " stores again what was lost, as long as both sides are there. Then check the repository's disk."
	}
	p = remora.Fail(p.Kind, p.Op, p.Subject, text.Hint, "%w; nothing was discarded and the undo window stays open", p.Err)
	workflow.GetLogger(ctx).Error("the undo window stays open", "problem", p.Error(), "hint", text.Hint)
	again := r.stuck
	r.stuck, r.busyFor = true, 0
	r.endAt = workflow.Now(ctx).Add(r.pause())
	r.record.Problem = p.Error()
	r.record.Hint = text.Hint
	r.save(ctx)
	if !again { // it is tried each hour, and told once
		r.tell(ctx, remora.Notice{Event: remora.NeedsPerson, Subject: r.record.ID, Outcome: r.record.Outcome, Problem: r.record.Problem, Hint: text.Hint})
	}
	r.accepting.answer(p)
	r.accepting = nil
}

// patiently is when a lane that is taken is tried again.
func (r *restore) patiently(ctx workflow.Context) time.Time {
	r.busyFor = min(max(2*r.busyFor, 5*time.Second), 5*time.Minute)
	return workflow.Now(ctx).Add(r.busyFor)
}

// extend writes a later end of the undo window into the journals beside the data, and only then answers (S10). A backup
// that is at work goes first; the window stays open meanwhile, and can be turned and ended.
func (r *restore) extend(ctx workflow.Context) {
	began, w := workflow.Now(ctx), r.extending
	keep := later(r.record.KeepUntil, w.until)
	until := keep.UTC().Format(time.RFC3339)
	r.working = true
	workflow.SetCurrentDetails(ctx, "extending the undo window until "+until+"; follow workflow "+remora.Lane(r.source))
	_, err := inLane[remora.Turned](ctx, laneCall{
		workflow: remora.TurnWorkflow, source: r.source, summary: "extend the undo window of " + r.record.ID + " until " + until,
		input: remora.TurnRequest{
			Source: r.source, Run: r.run, Kinds: r.record.Kinds, Seq: r.seq, Live: r.record.Live, KeepUntil: keep, RequestedBy: w.by, Stay: true,
		},
	})
	r.working = false
	taken := errors.Is(err, errLaneTaken)
	if !taken {
		r.seq++
	}
	if taken || killed(err) {
		r.extendAt = r.patiently(ctx)
		return
	}
	r.extending, r.busyFor = nil, 0
	if err != nil { // whoever asked may ask again
		r.endAt = later(r.endAt, workflow.Now(ctx).Add(r.pause()))
		w.answer(err)
		return
	}
	if r.stuck {
		r.stuck, r.record.Problem, r.record.Hint = false, "", ""
	}
	r.record.KeepUntil, r.endAt, r.endAs = keep, keep, remora.OutcomeExpired
	r.record.Phases = append(r.record.Phases, lasted(ctx, "extend the undo window until "+until, began, w.by))
	r.save(ctx)
	if workflow.GetVersion(ctx, "an extend is told", workflow.DefaultVersion, 1) > workflow.DefaultVersion {
		r.tellOf(ctx, remora.RestoreExtended, r.record.Backup, w.by)
	}
	w.answer(nil)
}

// pause is how long the next end of the window is away, after a rollback or a failure.
func (r *restore) pause() time.Duration { return min(secondThought, r.req.Undo) }

// tryDiscard runs the Discard child for this restore.
func (r *restore) tryDiscard(ctx workflow.Context, req remora.DiscardRequest, patience time.Duration) (remora.Discarded, error) {
	req.Selection = r.record.Selection
	req.Source, req.Run, req.Restore, req.RequestedBy = r.source, r.run, r.record.ID, cmp.Or(r.accepting.who(), r.req.RequestedBy)
	return inLane[remora.Discarded](ctx, laneCall{
		workflow: remora.DiscardWorkflow, source: r.source, summary: "save and discard what " + r.record.ID + " put away",
		input: req, patience: patience,
	})
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
