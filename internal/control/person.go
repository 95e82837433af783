package control

import (
	"context"
	"errors"
	"strings"

	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/remora-backup/remora/internal/remora"
)

// metadataQuery is answered by every workflow of the SDK: it holds the details that a workflow last set of itself.
const metadataQuery = "__temporal_workflow_metadata"

// waitsForPerson is what a run waits for somebody to put right; empty when it does not, or cannot be asked now.
func (c *Control) waitsForPerson(ctx context.Context, l look) string {
	if !l.waits() || !c.HasWorker(ctx) {
		return "" // it is at work, or nobody is there to answer
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := c.client.QueryWorkflow(ctx, l.id, l.runID, metadataQuery)
	if err != nil {
		return ""
	}
	var said sdkpb.WorkflowMetadata
	if answer.Get(&said) != nil {
		return ""
	}
	return remora.WaitsForPerson(said.GetCurrentDetails())
}

// Resolve tells what waits for a person on a source that it is put right, so that it tries again.
func (c *Control) Resolve(ctx context.Context, source string) error {
	const op = "resolve"
	s, err := c.stateOf(ctx, op, source)
	if err != nil {
		return err
	}
	if !c.HasWorker(ctx) {
		return remora.Fail(remora.Unavailable, op, source, "`remora up` or remora-worker", "no worker is running")
	}
	for _, l := range []look{s.lane, s.restore} {
		if !l.open {
			continue
		}
		err = c.ask(ctx, l.run(source), remora.ResolveUpdate, remora.WishInput{RequestedBy: c.cfg.Actor}, nil)
		p := carried(err)
		switch {
		case err == nil:
			return nil
		case errors.As(err, new(*serviceerror.NotFound)), p != nil && p.Kind == remora.Invalid, strings.Contains(err.Error(), "unknown update"):
			continue // it does not wait, or takes no such answer
		default:
			return c.updateProblem(ctx, op, source, err)
		}
	}
	return notFound(op, source, "nothing on it waits for a person", "`remora status "+source+"` tells how it stands")
}
