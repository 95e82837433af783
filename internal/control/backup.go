package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/remora-backup/remora/internal/remora"
)

// Backup starts a backup and returns as soon as it is accepted. When the source's lane is taken the Problem is of kind
// Busy and tells by whom, since when, and how far that is.
func (c *Control) Backup(ctx context.Context, req remora.BackupRequest) (Run, error) {
	const op = "start a backup"
	if err := checkSource(op, req.Source); err != nil {
		return Run{}, err
	}
	if req.Name != "" {
		if err := remora.CheckBackupName(req.Name); err != nil {
			return Run{}, &remora.Problem{Op: op, Kind: remora.Invalid, Subject: req.Name, Hint: "choose another --name", Err: err}
		}
	}
	req.RequestedBy = c.cfg.Actor
	return c.start(ctx, start{
		op: op, source: req.Source, id: remora.Lane(req.Source), workflow: remora.BackupWorkflow, request: req,
		kind: "backup", summary: summarised("back up "+req.Source, req.Name),
	})
}

func summarised(what, name string) string {
	if name == "" {
		return what
	}
	return what + " as " + name
}

// start is what it takes to start a workflow.
type start struct {
	op       string
	source   string
	id       string
	workflow string
	request  any
	kind     string
	summary  string
	// limit ends the run when it takes longer; only for runs that have nothing to undo.
	limit time.Duration
}

// start starts a workflow unless its id is taken.
func (c *Control) start(ctx context.Context, s start) (Run, error) {
	if err := c.Reach(ctx); err != nil {
		return Run{}, err
	}
	options := client.StartWorkflowOptions{
		ID:                                       s.id,
		TaskQueue:                                remora.Queue,
		WorkflowIDConflictPolicy:                 enums.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		WorkflowExecutionTimeout:                 s.limit,
		StaticSummary:                            s.summary,
		TypedSearchAttributes: temporal.NewSearchAttributes(
			temporal.NewSearchAttributeKeyKeyword(remora.SourceAttribute).ValueSet(s.source),
			temporal.NewSearchAttributeKeyKeyword(remora.KindAttribute).ValueSet(s.kind),
			temporal.NewSearchAttributeKeyKeyword(remora.ActorAttribute).ValueSet(c.cfg.Actor),
		),
	}
	for range 3 { // the holder may end between the refusal and the look at it
		run, err := c.client.ExecuteWorkflow(ctx, options, s.workflow, s.request)
		if err == nil {
			return Run{Source: s.source, Workflow: s.workflow, ID: s.id, RunID: run.GetRunID()}, nil
		}
		var taken *serviceerror.WorkflowExecutionAlreadyStarted
		if !errors.As(err, &taken) {
			return Run{}, c.asked(s.op, s.source, err)
		}
		holder, err := c.glance(ctx, s.id, "")
		if err != nil && !errors.Is(err, errNoRun) {
			return Run{}, c.asked(s.op, s.source, err)
		}
		if err == nil && holder.open {
			return Run{}, c.busy(s, c.topOf(ctx, holder))
		}
	}
	return Run{}, &remora.Problem{
		Op: s.op, Kind: remora.Busy, Subject: s.source, Hint: "try again",
		Err: errors.New("the source is taken again and again by short runs"),
	}
}

// topOf gives a child the actor and the start of the restore that it works for.
func (c *Control) topOf(ctx context.Context, l look) look {
	if l.parent == "" || l.workflow != remora.ApplyWorkflow {
		return l
	}
	if parent, err := c.glance(ctx, l.parent, ""); err == nil {
		l.actor, l.started = parent.actor, parent.started
	}
	return l
}

// busy says who holds what a start needs, since when, and how far that is.
func (c *Control) busy(s start, holder look) error {
	hint := fmt.Sprintf("wait for it with `remora watch %[1]s`, or stop it with `remora cancel %[1]s`", s.source)
	switch holder.workflow {
	case remora.TurnWorkflow, remora.DiscardWorkflow:
		hint = fmt.Sprintf("wait for it with `remora watch %s`", s.source)
	}
	return &remora.Problem{
		Op: s.op, Kind: remora.Busy, Subject: s.source, Hint: hint,
		Err: errors.New(c.running(s.source, holder).Sentence(c.cfg.Now())),
	}
}
