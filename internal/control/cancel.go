package control

import (
	"context"
	"fmt"

	"github.com/remora-backup/remora/internal/remora"
)

// Cancelled is the answer to a Cancel.
type Cancelled struct {
	// Running is what was asked to stop; nil when there was nothing to stop.
	Running *Running
	// Message says it, or why there was nothing to stop.
	Message string
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
		return Cancelled{Message: s.idle()}, nil
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
		Running: &r,
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
