package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	taskqueue "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/sdk/client"
	temporallog "go.temporal.io/sdk/log"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
)

const (
	// healthTime bounds the answer to whoever asks.
	healthTime = 5 * time.Second
	// silence is how long a worker that serves may go without asking Temporal for work: each of its questions waits for
	// a minute.
	silence = 2 * time.Minute
)

// healthy answers a container engine: a worker on this machine lives, by its lock, and has lately asked Temporal for
// work. One that is frozen, or cut off, has not.
func healthy(cfg *config.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), healthTime)
	defer cancel()
	c, err := client.DialContext(ctx, client.Options{
		HostPort: cfg.Temporal.Address, Namespace: cfg.Temporal.Namespace,
		ConnectionOptions: plainNames(),
		Logger:            temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		return unreachable(cfg.Temporal.Address)
	}
	defer c.Close()
	host, _ := os.Hostname()
	asks, err := asksForWork(ctx, c, func(who string) bool {
		file := filepath.Join(cfg.State, "workers", who[strings.LastIndexByte(who, ' ')+1:])
		_, err := os.Stat(file)
		return err == nil && !isDead(file) && strings.Contains(who, "@"+host+" ")
	})
	if err != nil || asks {
		return err
	}
	return remora.Fail(remora.Unavailable, "look for a worker", host, "", "none on this machine has asked Temporal for work in the last %s", silence)
}

// asksForWork tells whether one of those that are meant has lately asked Temporal for work.
func asksForWork(ctx context.Context, c client.Client, meant func(identity string) bool) (bool, error) {
	described, err := c.DescribeTaskQueue(ctx, remora.Queue, enums.TASK_QUEUE_TYPE_WORKFLOW)
	return slices.ContainsFunc(described.GetPollers(), func(p *taskqueue.PollerInfo) bool {
		return time.Since(p.GetLastAccessTime().AsTime()) < silence && meant(p.GetIdentity())
	}), err
}
