package control

import (
	"context"

	"github.com/remora-backup/remora/internal/remora"
)

// lost is the newest restore of a source that is not settled while no workflow looks after it, because that was
// terminated or Temporal was lost; nil when there is none.
func (c *Control) lost(ctx context.Context, s state) (*remora.Restore, error) {
	if s.restore.open || c.repository == nil {
		return nil, nil //nolint:nilnil // no restore, no error: the comment says so
	}
	all, err := c.repository.Restores(ctx, s.source)
	for _, r := range all {
		if r.Outcome.Unsettled() {
			return &r, nil
		}
	}
	return nil, err
}

// adopt has a restore that nobody looks after any more taken over (S20). It returns when its undo window is open, or when
// nothing of it is left; the Problem is of kind NotFound when there is none.
func (c *Control) adopt(ctx context.Context, op, source string, tell func(Update)) (remora.Restore, Run, error) {
	if tell != nil {
		tell(Update{Event: Noticed, At: c.cfg.Now(), Message: "no workflow looks after the last restore of " + source + "; taking it over"})
	}
	run, err := c.start(ctx, start{
		op: op, source: source, id: remora.RestoreLane(source), workflow: remora.RestoreWorkflow, kind: "restore",
		request: remora.RestoreRequest{PlanRequest: remora.PlanRequest{Source: source}, RequestedBy: c.cfg.Actor, Adopt: true},
		summary: "take over the restore of " + source,
	})
	if err != nil {
		return remora.Restore{}, run, err
	}
	ended, err := c.Follow(ctx, run, tell)
	if err != nil || ended.Restore == nil {
		return remora.Restore{}, run, err
	}
	return *ended.Restore, run, nil
}
