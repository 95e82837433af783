package control

import (
	"context"
	"errors"
	"strings"
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
		kind: "backup", summary: strings.TrimSuffix("back up "+req.Source+" as "+req.Name, " as "),
	})
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
	// join follows the run that has the id already, since it does the same.
	join bool
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
		started, taken := errors.AsType[*serviceerror.WorkflowExecutionAlreadyStarted](err)
		if !taken {
			return Run{}, c.asked(s.op, s.source, err)
		}
		if s.join {
			return Run{Source: s.source, Workflow: s.workflow, ID: s.id, RunID: started.RunId}, nil
		}
		if s.source == "" {
			if err := c.takenLane(ctx, s); err != nil {
				return Run{}, err
			}
			continue
		}
		now, err := c.stateOf(ctx, s.op, s.source)
		if err != nil {
			return Run{}, err
		}
		if err := c.taken(s.op, s.id, now); err != nil {
			return Run{}, err
		}
	}
	return Run{}, remora.Fail(remora.Busy, s.op, s.source, "try again", "the source is taken again and again by short runs")
}
