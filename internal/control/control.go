// Package control is what a person may ask for: take a backup, restore one, undo that, stop it, follow it, and tell how
// things stand. The command and the console call it and nothing else. It owns the client of the control plane
// (Temporal), starts workflows by their wire names and never imports them; what exists it reads from the repository.
//
// Every error that leaves this package is a *remora.Problem, or wraps one.
package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	temporallog "go.temporal.io/sdk/log"
	"google.golang.org/grpc"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// Config says where the control plane answers and who asks.
type Config struct {
	// Address is Temporal's host:port.
	Address string
	// Namespace is the namespace of this installation; empty means "remora".
	Namespace string
	// Actor is who asks: "alice@host". It is recorded with every run.
	Actor string
	// Copies names the copies of the repository, for Status.
	Copies []string
	// Expected is what is expected of each source, for Status.
	Expected []remora.Expected
	// Poll is how often a followed run is looked at; 0 means 500 ms.
	Poll time.Duration
	// Now is the clock that ages in messages are counted from; nil means time.Now.
	Now func() time.Time
}

// Control asks on behalf of one person. It is safe for concurrent use.
type Control struct {
	cfg        Config
	client     client.Client
	repository *repository.Repository
}

// callTimeout bounds one question to Temporal: long enough for a server that is busy, short enough for a person.
const callTimeout = 5 * time.Second

// New makes a Control. It does not connect: the first question does. repo is for what is read from the repository
// (Status); it may be nil where nothing of that is asked, and stays the caller's to close.
func New(cfg Config, repo *repository.Repository) (*Control, error) {
	cfg.Namespace = cmp.Or(cfg.Namespace, "remora")
	cfg.Poll = cmp.Or(cfg.Poll, 500*time.Millisecond)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c, err := client.NewLazyClient(client.Options{
		HostPort: cfg.Address,
		// The address is looked up and nothing else: where the DNS of a private network does not answer, that would wait.
		ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithDisableServiceConfig()}},

		Namespace: cfg.Namespace,
		Identity:  cfg.Actor,
		Logger:    temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)), // what matters comes back as an error
	})
	if err != nil {
		return nil, remora.Fail(remora.Invalid, "prepare the connection to Temporal", cfg.Address,
			"correct temporal.address in the configuration", "%w", err)
	}
	return &Control{cfg: cfg, client: c, repository: repo}, nil
}

// Close ends the connection.
func (c *Control) Close() { c.client.Close() }

// Reach tells whether the control plane answers. The Problem is of kind Unreachable when it does not, and Invalid when
// it does but has no such namespace.
func (c *Control) Reach(ctx context.Context) error {
	_, err := c.Domain(ctx)
	return err
}

// Domain is the id that Temporal gave our namespace: its lanes keep apart what runs there, and nothing else.
func (c *Control) Domain(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// A refused connection is known at once; the client itself would try for the whole timeout.
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", c.cfg.Address)
	if err != nil {
		return "", c.unreachable(err)
	}
	_ = conn.Close() // nothing was said on it
	found, err := c.client.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: c.cfg.Namespace})
	if errors.As(err, new(*serviceerror.NamespaceNotFound)) {
		return "", remora.Fail(remora.Invalid, "reach Temporal", c.cfg.Address,
			"`remora up` makes the namespace; or correct temporal.namespace in the configuration", "it has no namespace %q", c.cfg.Namespace)
	}
	if err != nil {
		return "", c.unreachable(err)
	}
	return found.GetNamespaceInfo().GetId(), nil
}

func (c *Control) unreachable(err error) error {
	why := errors.New("nothing answers there")
	switch op, refused := errors.AsType[*net.OpError](err); {
	case errors.Is(err, context.DeadlineExceeded) || away(err):
		why = fmt.Errorf("no answer within %s", callTimeout)
	case refused:
		why = op.Err
	}
	return remora.Fail(remora.Unreachable, "reach Temporal", c.cfg.Address,
		"start it with `remora up`, or correct temporal.address in the configuration", "%w", why)
}

// away tells whether err means that Temporal does not answer just now, rather than that it answered with an error.
func away(err error) bool {
	return errors.As(err, new(*serviceerror.Unavailable)) || errors.As(err, new(*serviceerror.DeadlineExceeded)) || errors.As(err, new(*serviceerror.Canceled)) ||
		errors.Is(err, context.DeadlineExceeded)
}

// asked turns an error of a call to Temporal into a Problem about op; what is one stays as it is.
func (c *Control) asked(op, source string, err error) error {
	switch {
	case err == nil, errors.As(err, new(*remora.Problem)):
		return err
	case away(err):
		return c.unreachable(err)
	default:
		return &remora.Problem{Op: op, Kind: remora.Internal, Subject: source, Hint: "look at Temporal's log", Err: err}
	}
}

// checkSource refuses what cannot be a source before it becomes part of a workflow id.
func checkSource(op, source string) error {
	if err := remora.CheckSourceName(source); err != nil {
		return notFound(op, source, err.Error(), "`remora status` lists the sources")
	}
	return nil
}

func notFound(op, subject, why, hint string) error {
	return remora.Fail(remora.NotFound, op, subject, hint, "%s", why)
}
