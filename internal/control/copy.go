package control

import (
	"context"

	"github.com/remora-backup/remora/internal/remora"
)

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
