package main

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// gate keeps the steps of this worker back while the repository belongs to another installation (S11). Two of them know
// nothing of each other's runs: each would take the other's open restore for a lost one, and settle it.
type gate struct {
	look func(context.Context) error // sees that the repository is ours
	log  *slog.Logger

	mu      sync.Mutex
	looked  time.Time
	looking chan struct{} // ends with the look that is under way; nil while none is
	closed  error         // why steps are kept back
}

const (
	// ownerAge is how soon a worker that is at work notices that its repository was adopted by another installation, and
	// ownerLimit for how long it goes on without having looked.
	ownerAge, ownerLimit = time.Minute, 10 * time.Minute
	// ownerTime is how long is waited for the record of the owner.
	ownerTime = 10 * time.Second
)

// pass tells whether a step may be done. While nobody can tell, it is as it was: what is on its way back does not wait for a
// storage, which may be one that never answers.
func (g *gate) pass(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	age := time.Since(g.looked)
	if g.closed == nil && age <= ownerAge {
		return nil
	}
	if g.looking == nil {
		g.looking = make(chan struct{})
		go g.note(context.WithoutCancel(ctx), g.looking)
	}
	if looking := g.looking; g.closed != nil || age > ownerLimit {
		g.mu.Unlock()
		select {
		case <-looking:
		case <-time.After(ownerTime):
		}
		g.mu.Lock()
		g.looked = time.Now()
	}
	return g.closed
}

// note keeps what a look comes to.
func (g *gate) note(ctx context.Context, looking chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, ownerTime)
	defer cancel()
	err := g.look(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	close(looking)
	g.looked, g.looking = time.Now(), nil
	if err == nil || remora.KindOf(err) == remora.Fenced {
		g.closed = err
		return
	}
	g.log.Warn("whose the repository is cannot be told now", "error", err)
}

// ownership is how this machine knows whose the repository is.
type ownership struct {
	locations *repository.Locations
	client    client.Client
	name      string // of the namespace
	file      string // holds the id of the owner that this machine worked for
	log       *slog.Logger
}

// look sees that the repository is ours. One that is nobody's becomes ours; and ours stays ours where Temporal was lost.
func (w *ownership) look(ctx context.Context) error {
	found, err := w.client.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: w.name})
	if err != nil {
		return err
	}
	r, err := w.locations.At(ctx, "")
	if err != nil {
		return err
	}
	o, err := r.Owner(ctx)
	if err != nil {
		return err
	}
	known, _ := os.ReadFile(w.file) // a machine without it worked for nobody
	if us := found.GetNamespaceInfo().GetId(); o.Namespace != us {
		if o.ID != "" && o.ID != string(known) {
			return remora.Fail(remora.Fenced, "act for the repository", r.Where(), "where that one is gone for good, take the repository over with: remora repository adopt",
				"it belongs to the installation on %s, since %s", o.Host, o.Since.UTC().Format(time.DateTime))
		}
		o = repository.NewOwner(o.ID, us, time.Now())
		if err := r.SetOwner(ctx, o); err != nil {
			return err
		}
	}
	if string(known) != o.ID {
		if err := os.WriteFile(w.file, []byte(o.ID), 0o600); err != nil { // it is ours all the same
			w.log.Warn("without this file, this machine will not know the repository should Temporal be lost", "error", err)
		}
	}
	return nil
}
