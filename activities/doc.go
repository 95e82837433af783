// Package activities holds the steps that the sagas call. A step resolves names to what this worker has configured,
// lets a component, the repository or the maintenance mode do the work, tells Temporal how far it is, and translates
// what went wrong. One file per noun; the steps have the names of remora's wire contract.
//
// Every step may be repeated after a crash, by another worker, and ends in the same state: that is a promise of the
// components and the repository, and the reason why steps can be thin.
package activities

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/remora-backup/remora/internal/remora"
)

// Registry is the part of a worker that takes activities.
type Registry interface {
	RegisterActivityWithOptions(a any, options activity.RegisterOptions)
}

// Watch is how the steps are watched over while they run.
type Watch struct {
	// Stall is how long a step may report no progress before it is cancelled and tried again. 0 means remora.DefaultStall.
	Stall time.Duration
	// Beat is how often progress is told to Temporal. 0 means each second.
	Beat time.Duration
	// Log takes what an operator should look at. Nil discards it.
	Log *slog.Logger
	// Gate is asked before each step, and its error ends that. Nil lets all pass.
	Gate func(context.Context) error
}

func (w Watch) withDefaults() Watch {
	w.Stall = cmp.Or(w.Stall, remora.DefaultStall)
	w.Beat = cmp.Or(w.Beat, time.Second)
	w.Log = cmp.Or(w.Log, slog.New(slog.DiscardHandler))
	return w
}

func register(r Registry, name string, a any) {
	r.RegisterActivityWithOptions(a, activity.RegisterOptions{Name: name})
}
