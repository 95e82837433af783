package control

import (
	"context"

	"github.com/remora-backup/remora/internal/remora"
)

// Verify starts to read a backup back, all bytes or those that no other verified backup shares, or gives the run that
// reads it already.
func (c *Control) Verify(ctx context.Context, b remora.Backup, full bool) (Run, error) {
	id, summary := "verify/"+b.ID, "verify "+b.ID
	if full {
		id, summary = id+"/data", "verify all bytes of "+b.ID
	}
	return c.start(ctx, start{
		op: "start to verify", source: b.Source, id: id, workflow: remora.VerifyWorkflow, kind: "verify", join: true,
		request: remora.VerifyRequest{Source: b.Source, Backup: b.ID, Full: full, RequestedBy: c.cfg.Actor},
		summary: summary,
	})
}
