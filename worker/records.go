package main

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// records are what the repository knows of how things stand, whether Temporal is there or not.
type records struct {
	backups  []remora.Backup // and failed runs, newest first
	restores []remora.Restore
	monitor  remora.MonitorState
}

func readRecords(ctx context.Context, locations *repository.Locations) (r records, err error) {
	repo, err := locations.At(ctx, "")
	if err != nil {
		return r, err
	}
	if r.backups, err = repo.List(ctx, repository.Filter{}); err != nil {
		return r, err
	}
	if r.restores, err = repo.Restores(ctx, ""); err != nil {
		return r, err
	}
	r.monitor, err = repo.MonitorState(ctx)
	return r, err
}

// newestGood is the newest backup of a source that somebody or a schedule asked for, and that was read back; nil when
// there is none.
func newestGood(backups []remora.Backup, source string) *remora.Backup {
	for i, b := range backups {
		if b.Source == source && b.Status == remora.Completed && b.Purpose == remora.Regular {
			return &backups[i]
		}
	}
	return nil
}

// askTime bounds one question to a storage or a server.
const askTime = time.Minute

// recent is an answer that is asked for again once it is older than age. One question runs at a time, and nobody waits
// for it longer than they want: whoever asks often, or while a storage hangs, costs nothing.
type recent[T any] struct {
	age time.Duration
	ask func(context.Context) (T, error)

	asking singleflight.Group
	mu     sync.Mutex
	at     time.Time
	answer T
	err    error
}

func (r *recent[T]) get(ctx context.Context) (T, error) {
	r.mu.Lock()
	answer, err, fresh := r.answer, r.err, time.Since(r.at) < r.age
	r.mu.Unlock()
	if fresh {
		return answer, err
	}
	asked := r.asking.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
		defer cancel()
		answer, err := r.ask(ctx)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.at, r.answer, r.err = time.Now(), answer, err
		return answer, err
	})
	select {
	case got := <-asked:
		return got.Val.(T), got.Err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
