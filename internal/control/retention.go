package control

import (
	"context"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/retention"
)

// Retention starts to delete what need not be kept. Another one at work in the same place gives a Problem of kind Busy.
func (c *Control) Retention(ctx context.Context, req remora.RetentionRequest) (Run, error) {
	req.RequestedBy = c.cfg.Actor
	return c.start(ctx, start{
		op: "start a cleanup", id: remora.RepositoryLane(req.Copy), workflow: remora.RetentionWorkflow, kind: "retention",
		request: req, summary: req.Command("")[len("remora "):],
	})
}

// takenLane says who has the id of a run that concerns no source; nil when nobody has it any more.
func (c *Control) takenLane(ctx context.Context, s start) error {
	l, err := c.glance(ctx, s.id, "")
	if err != nil || !l.open {
		return c.asked(s.op, s.id, err)
	}
	return remora.Fail(remora.Busy, s.op, "", "ask again when it has ended", "%s", state{lane: l}.running().Sentence(c.cfg.Now()))
}

// RetentionPlan says what a Retention would do now. It changes nothing. policy is what a worker with the same
// configuration keeps of a source there.
func RetentionPlan(ctx context.Context, l *repository.Locations, req remora.RetentionRequest, policy func(source string) remora.KeepPolicy) (remora.RetentionPlan, error) {
	at, found, err := l.Inventory(ctx, req.Copy)
	if err != nil {
		return remora.RetentionPlan{}, err
	}
	if found.Now, found.Skew, err = at.Clock(ctx); err != nil {
		return remora.RetentionPlan{}, err
	}
	plan := retention.Make(found, policy, req.Source)
	plan.Copy = req.Copy
	var gone []string
	for _, v := range plan.Verdicts {
		if v.Delete {
			gone = append(gone, v.Backup)
		}
	}
	plan.Bytes, err = at.OnlyIn(ctx, gone)
	return plan, err
}
