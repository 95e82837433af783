package control

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/retention"
	"github.com/remora-backup/remora/internal/schedule"
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
		TypedSearchAttributes:                    schedule.Attributes(s.source, s.kind, c.cfg.Actor),
	}
	for range 3 { // the holder may end between the refusal and the look at it
		// Whoever leaves now would not know whether it was begun: the answer is waited for a little longer.
		whole, cancel := context.WithCancel(context.WithoutCancel(ctx))
		stay := context.AfterFunc(ctx, func() { time.AfterFunc(callTimeout, cancel) })
		run, err := c.client.ExecuteWorkflow(whole, options, s.workflow, s.request)
		stay()
		cancel()
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

// Copy starts to bring a backup to a copy of the repository, or gives the run that does so already.
func (c *Control) Copy(ctx context.Context, b remora.Backup, to string) (Run, error) {
	return c.start(ctx, start{
		op: "start a copy", source: b.Source, id: remora.CopyLane(to, b.ID), workflow: remora.CopyWorkflow, kind: "copy", join: true,
		request: remora.CopyRequest{Source: b.Source, Backup: b.ID, To: to, RequestedBy: c.cfg.Actor},
		summary: "copy " + b.ID + " to " + to,
	})
}

// CopyAll starts to bring to a copy what it lacks, and to remove there what need not be kept.
func (c *Control) CopyAll(ctx context.Context, to string) (Run, error) {
	return c.start(ctx, start{
		op: "start to copy", id: remora.CopyLane(to, ""), workflow: remora.CopyAllWorkflow, kind: "copy", join: true,
		request: remora.CopyAllRequest{To: to, RequestedBy: c.cfg.Actor},
		summary: "copy all backups to " + to,
	})
}

// Verify starts to read a backup back, all bytes or those that no other verified backup shares, or gives the run that
// reads it already.
func (c *Control) Verify(ctx context.Context, b remora.Backup, full bool) (Run, error) {
	id, summary := remora.VerifyRun(b.ID, full)
	return c.start(ctx, start{
		op: "start to verify", source: b.Source, id: id, workflow: remora.VerifyWorkflow, kind: "verify", join: true,
		request: remora.VerifyRequest{Source: b.Source, Backup: b.ID, Full: full, RequestedBy: c.cfg.Actor},
		summary: summary,
	})
}

// Drill starts to prove a backup of a source, the newest good one where none is named. When the source's lane is taken the
// Problem is of kind Busy, as for a backup.
func (c *Control) Drill(ctx context.Context, source, backup string) (Run, error) {
	return c.start(ctx, start{
		op: "start a drill", source: source, id: remora.Lane(source), workflow: remora.DrillWorkflow, kind: "drill",
		request: remora.DrillRequest{Source: source, Backup: backup, RequestedBy: c.cfg.Actor},
		summary: "prove a backup of " + source,
	})
}

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
