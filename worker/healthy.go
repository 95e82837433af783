package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
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
	queue, err := c.DescribeTaskQueue(ctx, remora.Queue, enums.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	for _, p := range queue.GetPollers() {
		who := p.GetIdentity()
		file := filepath.Join(cfg.State, "workers", who[strings.LastIndexByte(who, ' ')+1:])
		_, err := os.Stat(file)
		if err == nil && !isDead(file) && strings.Contains(who, "@"+host+" ") && time.Since(p.GetLastAccessTime().AsTime()) < silence {
			return nil
		}
	}
	return remora.Fail(remora.Unavailable, "look for a worker", host, "", "none on this machine has asked Temporal for work in the last %s", silence)
}
