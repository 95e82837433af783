package repository

import (
	"context"

	"github.com/remora-backup/remora/internal/remora"
)

const (
	monitorType  = "remora-monitor"
	labelMonitor = "monitor"
)

// MonitorState is what the monitor remembers; the zero value, when it has not looked yet.
func (r *Repository) MonitorState(ctx context.Context) (remora.MonitorState, error) {
	var found map[string]remora.MonitorState
	err := r.Refresh(ctx)
	if err == nil {
		found, err = latest[remora.MonitorState](ctx, r.rep, monitorType, labelMonitor)
	}
	return found[monitorType], problem("read what the monitor remembers", r.Where(), err)
}

// RecordMonitorState replaces what the monitor remembers.
func (r *Repository) RecordMonitorState(ctx context.Context, s remora.MonitorState) error {
	return problem("record what the monitor remembers", r.Where(), r.record(ctx, monitorType, labelMonitor, monitorType, s))
}
