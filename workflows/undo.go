package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// compensations are the ways back of the steps that were begun, oldest first. They are run explicitly, never in a
// defer: a defer also runs when a worker forgets a workflow from its cache.
type compensations struct {
	steps []compensation
}

type compensation struct {
	name string
	do   func(workflow.Context) error
}

// push remembers how to undo a step. It comes before the step, which may happen by half.
func (c *compensations) push(name string, do func(workflow.Context) error) {
	c.steps = append(c.steps, compensation{name, do})
}

// any tells whether anything was touched.
func (c *compensations) any() bool { return len(c.steps) > 0 }

// run undoes the newest step first, untouched by any cancel, until each is undone.
func (c *compensations) run(ctx workflow.Context, op *operation) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	for i := len(c.steps) - 1; i >= 0; i-- {
		began := workflow.Now(ctx)
		op.insist(ctx, c.steps[i].name, c.steps[i].do)
		op.told.done = append(op.told.done, lasted(ctx, remora.WayBack+c.steps[i].name, began, ""))
	}
	c.steps = nil
}

// insist does what must be done. Steps on the way back are tried for ever while their trouble may pass; where it
// cannot pass by itself, a person is asked, and it is done again once the person has resolved it. Where a later step of
// the same restore has acted, nothing is left to do.
func (op *operation) insist(ctx workflow.Context, name string, do func(workflow.Context) error) {
	for {
		workflow.SetCurrentDetails(ctx, name)
		err := do(ctx)
		if err == nil {
			return
		}
		p := problemOf(name, err)
		if p.Kind == remora.Superseded {
			return
		}
		op.tell(ctx, remora.Notice{Event: remora.NeedsPerson, Subject: op.restore, Phase: name, Problem: p.Error(), Hint: p.Text().Hint})
		op.person.ask(ctx, name, p)
	}
}

// person is whoever answers the update "resolve".
type person struct {
	asked    bool
	resolved bool
}

// listen lets a person answer. It must be called before the workflow first waits.
func (p *person) listen(ctx workflow.Context) error {
	return workflow.SetUpdateHandlerWithOptions(ctx, remora.ResolveUpdate,
		func(workflow.Context) error {
			p.resolved = true
			return nil
		},
		workflow.UpdateHandlerOptions{
			Description: "What a person was asked for has been done: try again.",
			Validator: func() error {
				if !p.asked {
					return failure(remora.Fail(remora.Invalid, "resolve", "", "", "nothing waits for a person"))
				}
				return nil
			},
		})
}

// ask waits, for days if need be, until a person has resolved a problem.
func (p *person) ask(ctx workflow.Context, what string, problem *remora.Problem) {
	text := problem.Text()
	workflow.GetLogger(ctx).Error("needs a person", "step", what, "problem", problem.Error(), "hint", text.Hint)
	workflow.SetCurrentDetails(ctx, "needs a person: "+what+": "+problem.Error()+"\n\n"+text.Hint+
		"\n\nThen send the update \""+remora.ResolveUpdate+"\" to this workflow.")
	p.asked, p.resolved = true, false
	if err := workflow.Await(ctx, func() bool { return p.resolved }); err != nil {
		workflow.GetLogger(ctx).Error("the wait for a person ended", "error", err)
	}
	p.asked = false
}
