package control

import (
	"context"
	"fmt"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// state is what Temporal knows of a source. A look is open while its workflow is.
type state struct {
	source string
	// lane is what touches the source's data exclusively; for a restore at work that is a child of it.
	lane look
	// restore is its restore, from its plan to the end of its undo window, and record what that last said of itself.
	restore look
	record  remora.Restore
}

// stateOf looks at a source on behalf of op.
func (c *Control) stateOf(ctx context.Context, op, source string) (state, error) {
	if err := checkSource(op, source); err != nil {
		return state{}, err
	}
	if err := c.Reach(ctx); err != nil {
		return state{}, err
	}
	s := state{source: source}
	var err error
	if s.lane, err = c.glance(ctx, remora.Lane(source), ""); err != nil {
		return s, c.asked(op, source, err)
	}
	if s.restore, err = c.glance(ctx, remora.RestoreLane(source), ""); err != nil {
		return s, c.asked(op, source, err)
	}
	if s.restore.open {
		s.record, err = c.recordOf(ctx, s.restore)
	}
	return s, c.asked(op, source, err)
}

// top is the top workflow that works on the source; it is not open when none does, or when a restore only waits in its
// undo window.
func (s state) top() look {
	applying := s.lane.workflow == remora.ApplyWorkflow && s.restore.open
	switch {
	case s.lane.open && !applying:
		return s.lane
	case s.restore.open && (s.lane.open || !s.windowOpen() || len(s.restore.steps) > 0):
		return s.restore
	default:
		return look{}
	}
}

// work is where the progress of top is.
func (s state) work() look {
	if s.lane.open {
		return s.lane
	}
	return s.top()
}

func (s state) windowOpen() bool { return s.restore.open && s.record.Outcome.Open() }

// taken says who holds a workflow id that is needed; nil when nobody does any more.
func (c *Control) taken(op, id string, s state) error {
	switch {
	case id == remora.RestoreLane(s.source) && s.windowOpen():
		return remora.Fail(remora.Busy, op, s.source, fmt.Sprintf("go back with `remora rollback %[1]s`, or keep what is live with `remora accept %[1]s`; then ask again", s.source),
			"the undo window of the restore of %s is open %s", minute(s.restore.started), until(s.record.KeepUntil))
	case id == remora.RestoreLane(s.source) && s.restore.open, id == remora.Lane(s.source) && s.lane.open:
		hint := fmt.Sprintf("wait for it with `remora watch %[1]s`, or stop it with `remora cancel %[1]s`", s.source)
		if !s.top().cancellable() {
			hint = fmt.Sprintf("wait for it with `remora watch %s`", s.source)
		}
		return remora.Fail(remora.Busy, op, s.source, hint, "%s", s.running().Sentence(c.cfg.Now()))
	}
	return nil
}

// cancellable tells whether a workflow may be stopped: a switch must not stop half-way.
func (l look) cancellable() bool {
	return l.workflow != remora.TurnWorkflow && l.workflow != remora.DiscardWorkflow && l.workflow != remora.AdoptWorkflow
}

func minute(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

func until(t time.Time) string {
	if t.IsZero() {
		return "until somebody ends it"
	}
	return "until " + minute(t)
}

// Active is what runs on a source now: what holds its lane, or the restore around that. An idle source, and one whose
// restore only waits in its undo window, gives a Problem of kind NotFound.
func (c *Control) Active(ctx context.Context, source string) (Running, error) {
	const op = "look for what is running"
	s, err := c.stateOf(ctx, op, source)
	if err != nil {
		return Running{}, err
	}
	if !s.top().open {
		return Running{}, notFound(op, source, "nothing is running", "")
	}
	return s.running(), nil
}

// Watch waits until something runs on a source and says what. waiting is called once when nothing runs yet.
func (c *Control) Watch(ctx context.Context, source string, waiting func()) (Running, error) {
	for {
		r, err := c.Active(ctx, source)
		if remora.KindOf(err) != remora.NotFound || checkSource("watch", source) != nil {
			return r, err
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		if err := pause(ctx, c.cfg.Poll); err != nil {
			return Running{}, err
		}
	}
}

// Cancelled is the answer to a Cancel.
type Cancelled struct {
	Source    string `json:"source"`
	Cancelled bool   `json:"cancelled"`
	// Message says it, or why there was nothing to stop.
	Message string `json:"message"`
	// Running is what was asked to stop; nil when there was nothing to stop.
	Running *Running `json:"running,omitempty"`
}

// Cancel asks what runs on a source to stop. Stopping takes a moment: what has begun is undone first. An idle source
// is no error, and the undo window of a restore is not cancelled: Message says so, and what to do instead.
func (c *Control) Cancel(ctx context.Context, source string) (Cancelled, error) {
	const op = "cancel"
	s, err := c.stateOf(ctx, op, source)
	if err != nil {
		return Cancelled{}, err
	}
	top := s.top()
	if !top.open {
		return Cancelled{Source: source, Message: s.idle()}, nil
	}
	r := s.running()
	if !top.cancellable() {
		return Cancelled{}, remora.Fail(remora.Busy, op, source,
			fmt.Sprintf("wait for it with `remora watch %s`", source), "%s; it must not stop half-way", r.Sentence(c.cfg.Now()))
	}
	if err := c.client.CancelWorkflow(ctx, top.id, top.runID); err != nil {
		return Cancelled{}, c.asked(op, source, err)
	}
	return Cancelled{
		Source: source, Cancelled: true, Running: &r,
		Message: fmt.Sprintf("Asked to stop: %s. Follow its end: remora watch %s", r.Sentence(c.cfg.Now()), source),
	}, nil
}

// idle says that there is nothing to cancel, and what else may be meant.
func (s state) idle() string {
	said := fmt.Sprintf("Nothing is running on %s.", s.source)
	if s.windowOpen() {
		said += fmt.Sprintf(" Its restore is done and can be undone %s: go back with `remora rollback %[2]s`, or keep what is live with `remora accept %[2]s`.",
			until(s.record.KeepUntil), s.source)
	}
	return said
}
