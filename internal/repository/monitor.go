package repository

import (
	"context"

	"github.com/kopia/kopia/repo/blob"

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

// Sample is how large the repository is, and how much room there is. It lists every blob.
func (r *Repository) Sample(ctx context.Context) (remora.SizeSample, error) {
	s := remora.SizeSample{At: r.rep.Time().UTC()}
	err := r.rep.BlobReader().ListBlobs(ctx, "", func(m blob.Metadata) error {
		s.Stored += m.Length
		return nil
	})
	if err == nil {
		s.Free, err = r.Free(ctx)
	}
	return s, problem("measure the repository", r.Where(), err)
}

// Free is how much room there is, in bytes; -1 where nobody can tell.
func (r *Repository) Free(ctx context.Context) (int64, error) {
	var h Health
	err := r.at.health(ctx, &h)
	if err != nil || h.Free == nil {
		return -1, problem("measure the room that is left", r.Where(), err)
	}
	return *h.Free, nil
}
