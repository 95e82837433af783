package activities

import (
	"context"
	"slices"

	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/internal/maintenance"
	"github.com/remora-backup/remora/internal/remora"
)

// Maintenance holds the steps that take the application of a source offline and back.
type Maintenance struct {
	// Mode finds the mode of a source.
	Mode     func(source string) (maintenance.Mode, error)
	Temporal client.Client
	Watch    Watch
}

// Register makes the steps known under their wire names.
func (m *Maintenance) Register(to Registry) {
	step(to, m.Watch, remora.LookActivity, func(in remora.MaintenanceInput) string { return "ask whether " + in.Source + " is offline" }, m.look)
	register(to, remora.EnterActivity, m.enter)
	register(to, remora.LeaveActivity, m.leave)
}

func (m *Maintenance) look(ctx context.Context, in remora.MaintenanceInput) (remora.MaintenanceResult, error) {
	mode, err := m.Mode(in.Source)
	if err != nil {
		return remora.MaintenanceResult{}, err
	}
	theirs, err := mode.Offline(ctx, in.Run)
	return remora.MaintenanceResult{Mode: mode.String(), Theirs: theirs}, err
}

// enter may come late: its workflow was terminated, or its worker was frozen, and whoever settled that has brought the
// application back already. Nobody would do so once more, so enter does.
func (m *Maintenance) enter(ctx context.Context, in remora.MaintenanceInput) (remora.MaintenanceResult, error) {
	entered, err := m.call(ctx, "take "+in.Source+" offline", in, maintenance.Mode.Enter)
	ctx = context.WithoutCancel(ctx)
	lane, unknown := describe(ctx, m.Temporal, remora.Lane(in.Source), "")
	wanted := []string{remora.ApplyWorkflow, remora.TurnWorkflow, remora.AdoptWorkflow}
	if unknown == nil && (!running(lane) || !slices.Contains(wanted, lane.GetWorkflowExecutionInfo().GetType().GetName())) {
		in.Entered = true
		if _, left := m.leave(ctx, in); err == nil {
			err = left
		}
	}
	return entered, err
}

func (m *Maintenance) leave(ctx context.Context, in remora.MaintenanceInput) (remora.MaintenanceResult, error) {
	return m.call(ctx, "take "+in.Source+" online again", in, maintenance.Mode.Leave)
}

func (m *Maintenance) call(ctx context.Context, op string, in remora.MaintenanceInput, verb func(maintenance.Mode, context.Context, string) error) (remora.MaintenanceResult, error) {
	return plain(ctx, m.Watch, op, func(ctx context.Context) (remora.MaintenanceResult, error) {
		mode, err := m.Mode(in.Source)
		if err != nil {
			return remora.MaintenanceResult{}, err
		}
		if m, ok := mode.(interface {
			For(by string) maintenance.Mode
		}); ok {
			mode = m.For(in.By)
		}
		if j, ok := mode.(interface{ Claim(run string) error }); ok && in.Entered {
			if err := j.Claim(in.Run); err != nil {
				return remora.MaintenanceResult{}, err
			}
		}
		return remora.MaintenanceResult{Mode: mode.String()}, verb(mode, ctx, in.Run)
	})
}
