package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/remora-backup/remora/internal/remora"
)

// NotifyTest has a worker tell everybody whom notices go to, or one mail address, that this is a test: once, and now. It
// gives what came of it.
func (c *Control) NotifyTest(ctx context.Context, to string) (told remora.Notified, err error) {
	const op = "send a test message"
	if err := c.Reach(ctx); err != nil {
		return told, err
	}
	now := c.cfg.Now().UTC()
	id := fmt.Sprintf("test/%d", now.UnixNano())
	run, err := c.start(ctx, start{
		op: op, id: "notify/" + id, workflow: remora.NotifyWorkflow, kind: "notify",
		request: remora.Notice{ID: id, Event: remora.TestEvent, At: now, By: c.cfg.Actor, To: to},
		summary: "tell: test", limit: answerTime,
	})
	if err != nil {
		return told, err
	}
	if err = c.answer(ctx, op, run, &told); err != nil && !errors.As(err, new(*remora.Problem)) && ctx.Err() == nil {
		err = remora.Fail(remora.Unavailable, op, "", "Start one with `remora up` or remora-worker, or look into its log.", "no worker sends it: %w", err)
	}
	return told, err
}
