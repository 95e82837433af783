package activities

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/internal/maintenance"
	"github.com/remora-backup/remora/internal/remora"
)

// Maintenance holds the steps that take the application of a source offline and back.
type Maintenance struct {
	// Mode finds the mode of a source, and After the programs, with their arguments, that are run after a switch.
	Mode     func(source string) (maintenance.Mode, error)
	After    func(source string) ([][]string, error)
	Temporal client.Client
	Watch    Watch

	// within bounds each of them, in tests; 0 means a minute.
	within time.Duration
}

// Register makes the steps known under their wire names.
func (m *Maintenance) Register(to Registry) {
	step(to, m.Watch, remora.LookActivity, func(in remora.MaintenanceInput) string { return "ask whether " + in.Source + " is offline" }, m.look)
	register(to, remora.EnterActivity, m.enter)
	register(to, remora.LeaveActivity, m.leave)
	act(to, m.Watch, remora.AfterActivity, afterOp, m.after)
}

func (m *Maintenance) look(ctx context.Context, in remora.MaintenanceInput) (remora.MaintenanceResult, error) {
	mode, err := m.Mode(in.Source)
	if err != nil {
		return remora.MaintenanceResult{}, err
	}
	commands, err := m.After(in.Source)
	if err != nil {
		return remora.MaintenanceResult{}, err
	}
	theirs, err := mode.Offline(ctx, in.Run)
	return remora.MaintenanceResult{Mode: mode.String(), Theirs: theirs, After: len(commands)}, err
}

func afterOp(in remora.MaintenanceInput) string {
	return fmt.Sprintf("run sources.%s.restore.after[%d]", in.Source, in.Nth)
}

// after may come late, or twice: what resets caches and queues may.
func (m *Maintenance) after(ctx context.Context, in remora.MaintenanceInput) error {
	commands, err := m.After(in.Source)
	if err != nil || in.Nth >= len(commands) { // the configuration has changed meanwhile
		return err
	}
	return maintenance.Command{Source: in.Source, Within: m.within}.Run(ctx, afterOp(in), in.Run, commands[in.Nth])
}

// enter may come late: its workflow was terminated, or its worker was frozen, and whoever settled that has brought the
// application back already. Nobody would do so once more, so enter does.
func (m *Maintenance) enter(ctx context.Context, in remora.MaintenanceInput) (remora.MaintenanceResult, error) {
	entered, err := m.call(ctx, "take "+in.Source+" offline", in, maintenance.Mode.Enter)
	ctx = context.WithoutCancel(ctx)
	if wanted, unknown := m.wanted(ctx, in.Source); !wanted && unknown == nil {
		in.Entered = true
		if _, left := m.leave(ctx, in); err == nil {
			err = left
		}
	}
	return entered, err
}

// wanted tells whether whoever is at work on a source will bring it back online. Of a Discard, only one that goes back first
// will, and it has begun with taking it offline.
func (m *Maintenance) wanted(ctx context.Context, source string) (bool, error) {
	lane, err := describe(ctx, m.Temporal, remora.Lane(source), "")
	now := lane.GetWorkflowExecutionInfo()
	switch kind := now.GetType().GetName(); {
	case err != nil || !running(lane):
		return false, err
	case kind != remora.DiscardWorkflow:
		return slices.Contains([]string{remora.ApplyWorkflow, remora.TurnWorkflow, remora.AdoptWorkflow}, kind), nil
	}
	offline := false
	events := m.Temporal.GetWorkflowHistory(ctx, now.GetExecution().GetWorkflowId(), now.GetExecution().GetRunId(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		if err != nil {
			return false, err
		}
		switch e.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() {
		case remora.EnterActivity:
			offline = true
		case remora.LeaveActivity:
			offline = false
		}
	}
	return offline, nil
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
