package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// gate keeps the steps of this worker back while the repository belongs to another installation (S11). Two of them know
// nothing of each other's runs: each would take the other's open restore for a lost one, and settle it.
type gate struct {
	locations *repository.Locations
	client    client.Client
	name      string // of the namespace
	file      string // holds the id of the owner that this machine worked for
	host      string
	log       *slog.Logger

	mu     sync.Mutex
	looked time.Time
	state  error // why steps are kept back
}

const (
	// ownerAge is how soon a worker notices that its repository was adopted by another installation.
	ownerAge = time.Minute
	// ownerTime is how long is waited for the record of the owner: what is on its way back must not wait for a storage.
	ownerTime = 10 * time.Second
)

func newGate(cfg *config.Config, locations *repository.Locations, c client.Client, log *slog.Logger) *gate {
	host, _ := os.Hostname() // it only tells machines apart
	return &gate{
		locations: locations, client: c, name: cfg.Temporal.Namespace, file: filepath.Join(cfg.State, "owner"),
		host: cmp.Or(host, "an unnamed machine"), log: log,
	}
}

// pass tells whether a step may be done. While nobody can tell, it is as it was.
func (g *gate) pass(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == nil && time.Since(g.looked) < ownerAge {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ownerTime)
	defer cancel()
	ours, owner, err := g.look(ctx)
	switch {
	case err != nil:
		g.log.WarnContext(ctx, "whose the repository is cannot be told now", "error", err)
	case ours:
		g.state = nil
	default:
		g.state = owner
	}
	g.looked = time.Now()
	return g.state
}

// look reads whose the repository is. One that is nobody's becomes ours; and ours stays ours where Temporal was lost.
func (g *gate) look(ctx context.Context) (ours bool, notOurs, err error) {
	found, err := g.client.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: g.name})
	if err != nil {
		return false, nil, err
	}
	r, err := g.locations.At(ctx, "")
	if err != nil {
		return false, nil, err
	}
	o, err := r.Owner(ctx)
	if err != nil {
		return false, nil, err
	}
	known, _ := os.ReadFile(g.file) // a machine that does not know worked for nobody
	us := found.GetNamespaceInfo().GetId()
	if o.Namespace != us {
		if o.ID != "" && o.ID != string(bytes.TrimSpace(known)) {
			return false, o.NotOurs("act for the repository", r.Where()), nil
		}
		o = remora.Owner{ID: cmp.Or(o.ID, rand.Text()), Namespace: us, Host: g.host, Since: time.Now().UTC()}
		if err := r.SetOwner(ctx, o); err != nil {
			return false, nil, err
		}
		g.log.Info("the repository is ours", "repository", r.Where(), "namespace", g.name)
	}
	if string(known) != o.ID {
		if err := os.WriteFile(g.file, []byte(o.ID), 0o600); err != nil {
			g.log.Warn("this machine cannot remember whose the repository is", "error", err)
		}
	}
	return true, nil, nil
}
