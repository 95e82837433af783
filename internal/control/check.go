package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/workflowservice/v1"

	"github.com/remora-backup/remora/internal/remora"
)

// answerTime ends a check that is not answered; each of its looks gives up after half a minute.
const answerTime = 5 * time.Minute

// Check looks at the control plane, and asks a worker how everything is that only a worker can see. What is wrong, and
// whoever does not answer, is a finding; the error is ctx's alone.
func (c *Control) Check(ctx context.Context, sources []remora.FindingsSource) ([]remora.Finding, error) {
	if err := c.Reach(ctx); err != nil {
		return []remora.Finding{remora.FoundProblem("temporal", remora.ProblemOf("reach Temporal", err))}, ctx.Err()
	}
	version := "unknown"
	if info, err := c.client.WorkflowService().GetSystemInfo(ctx, &workflowservice.GetSystemInfoRequest{}); err == nil {
		version = info.GetServerVersion()
	}
	found := []remora.Finding{remora.Found(remora.Fine, "temporal", "%s, namespace %s, version %s", c.cfg.Address, c.cfg.Namespace, version)}
	for _, queue := range []string{remora.Queue, remora.DataQueue} {
		if c.worked(ctx, queue) {
			found = append(found, remora.Found(remora.Fine, "queue "+queue, "a worker takes work from it"))
			continue
		}
		found = append(found, remora.Finding{Level: remora.Failing, Subject: "queue " + queue, Said: "no worker takes work from it", Hint: "start one with `remora up` or remora-worker"})
	}
	if found[1].Level != remora.Fine {
		return append(found, notAsked("there is none")), ctx.Err()
	}
	var answer []remora.Finding
	err := c.answer(ctx, start{
		op: "check", id: fmt.Sprintf("check/%d", c.cfg.Now().UnixNano()), workflow: remora.CheckWorkflow, kind: "check",
		request: remora.FindingsRequest{Sources: sources}, summary: "check everything",
	}, &answer)
	if err != nil {
		return append(found, notAsked(err.Error())), ctx.Err()
	}
	return append(found, answer...), nil
}

// notAsked says what was not looked at.
func notAsked(why string) remora.Finding {
	return remora.Finding{
		Level: remora.Failing, Subject: "worker", Said: remora.OneLine("repository and sources were not looked at, since no worker answered: " + why),
		Hint: "look into the log of remora-worker, which must be of the same version as this command",
	}
}

// answer starts a short run, and waits for what it comes to.
func (c *Control) answer(ctx context.Context, s start, result any) error {
	s.limit = answerTime
	run, err := c.start(ctx, s)
	if err != nil {
		return err
	}
	for untaken := (patience{}); ; {
		l, err := c.glance(ctx, run.ID, run.RunID)
		if err != nil {
			return err
		}
		if !l.open {
			break
		}
		if !l.waiting.IsZero() && untaken.lost(l.waiting.String(), 2*workerPatience) {
			return fmt.Errorf("none has taken it up within %s", 2*workerPatience) // it ends by its limit
		}
		if err := pause(ctx, c.cfg.Poll); err != nil {
			return err
		}
	}
	if err := c.client.GetWorkflow(ctx, run.ID, run.RunID).Get(ctx, result); err != nil {
		return asProblem(s.op, err)
	}
	return nil
}

// NotifyTest has a worker tell everybody whom notices go to, or one mail address, that this is a test: once, and now. It
// gives what came of it.
func (c *Control) NotifyTest(ctx context.Context, to string) (told remora.Notified, err error) {
	const op = "send a test message"
	now := c.cfg.Now().UTC()
	id := fmt.Sprintf("test/%d", now.UnixNano())
	err = c.answer(ctx, start{
		op: op, id: "notify/" + id, workflow: remora.NotifyWorkflow, kind: "notify", summary: "tell: test",
		request: remora.Notice{ID: id, Event: remora.TestEvent, At: now, By: c.cfg.Actor, To: to},
	}, &told)
	if err != nil && !errors.As(err, new(*remora.Problem)) && ctx.Err() == nil {
		err = remora.Fail(remora.Unavailable, op, "", "Start one with `remora up` or remora-worker, or look into its log.", "no worker sends it: %w", err)
	}
	return told, err
}
