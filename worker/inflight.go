package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.uber.org/fx"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
)

// inflight remembers on disk which steps this process is running, so that its successor can hand them back to Temporal
// at once when it was killed, instead of waiting minutes for the heartbeat timeout. Each process has a directory with
// one file for each step, and holds a lock in it. The kernel frees that lock when the process dies, and only then: a
// process that is merely frozen keeps it, so it is never declared dead while it may wake up.
//
// Nothing depends on it: where it cannot write, the heartbeat timeout does the same later.
type inflight struct {
	interceptor.WorkerInterceptorBase

	base string // of all processes on this machine
	own  string // this process's directory
	lock *os.File
	log  *slog.Logger

	mu     sync.Mutex
	landed map[string]time.Time // tokens of steps that have returned, and when

	once  sync.Once
	stop  chan struct{}
	swept sync.WaitGroup
}

const (
	lockFile = "lock"
	// linger is how long the token of a finished step is kept: its answer may not have reached Temporal yet.
	linger = 5 * time.Second
	// lookout is how often a living worker looks for dead ones beside it.
	lookout = 5 * time.Second
)

func newInflight(lc fx.Lifecycle, cfg *config.Config, log *slog.Logger) (*inflight, error) {
	f, err := openInflight(filepath.Join(cfg.State, "inflight"), log)
	if err != nil {
		return nil, &remora.Problem{
			Op: "prepare the state directory", Kind: remora.Invalid, Subject: cfg.State, Err: err,
			Hint: "Let the user of the worker write there, or set state in the configuration.",
		}
	}
	lc.Append(fx.StopHook(f.land))
	return f, nil
}

// openInflight makes this process's directory. It appears under its name only once the lock is held, so that nobody
// takes it for a dead one.
func openInflight(base string, log *slog.Logger) (*inflight, error) {
	name := make([]byte, 8)
	if _, err := rand.Read(name); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(base, 0o700); err != nil {
		return nil, err
	}
	own := filepath.Join(base, hex.EncodeToString(name))
	unborn := filepath.Join(base, "."+hex.EncodeToString(name))
	if err := os.Mkdir(unborn, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(unborn, lockFile), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // our own state directory
	if err != nil {
		return nil, err
	}
	if err := errors.Join(syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), os.Rename(unborn, own)); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &inflight{base: base, own: own, lock: lock, log: log, landed: map[string]time.Time{}, stop: make(chan struct{})}, nil
}

// takeOff writes down that a step begins; landing says that it has returned.
func (f *inflight) takeOff(token []byte) (landing func()) {
	sum := sha256.Sum256(token)
	file := filepath.Join(f.own, hex.EncodeToString(sum[:16]))
	if err := os.WriteFile(file, token, 0o600); err != nil {
		f.log.Warn("a step is not written down; if this worker dies, it is noticed later", "error", err)
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.landed[file] = time.Now()
	}
}

// forget removes the tokens of steps that returned long enough ago.
func (f *inflight) forget(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for file, at := range f.landed {
		if now.Sub(at) < linger {
			continue
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.log.Warn("a finished step is still written down", "error", err)
			continue
		}
		delete(f.landed, file)
	}
}

// takeOver hands the steps of dead workers on this machine back to Temporal, now and as long as this process lives.
func (f *inflight) takeOver(c client.Client) {
	f.bury(c)
	f.swept.Go(func() {
		tick := time.NewTicker(lookout)
		defer tick.Stop()
		for {
			select {
			case <-f.stop:
				return
			case now := <-tick.C:
				f.forget(now)
				f.bury(c)
			}
		}
	})
}

// bury settles what dead processes left.
func (f *inflight) bury(c client.Client) {
	entries, err := os.ReadDir(f.base)
	if err != nil {
		f.log.Warn("cannot look for workers that died", "error", err)
		return
	}
	for _, e := range entries {
		dir := filepath.Join(f.base, e.Name())
		if !e.IsDir() || dir == f.own || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := f.settle(c, dir); err != nil {
			f.log.Warn("what a dead worker left is not settled yet", "directory", dir, "error", err)
		}
	}
}

// settle hands back the steps of one process, if it is dead, and removes its directory.
func (f *inflight) settle(c client.Client, dir string) error {
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR, 0o600) //nolint:gosec // our own state directory
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody else has just settled it
	}
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil //nolint:nilerr // its process lives
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		if file.Name() == lockFile {
			continue
		}
		path := filepath.Join(dir, file.Name())
		token, err := os.ReadFile(path) //nolint:gosec // our own state directory
		if err != nil {
			return err
		}
		if err := f.handBack(c, token); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// handBack fails one step of a dead worker in a way that is tried again at once.
func (f *inflight) handBack(c client.Client, token []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	p := &remora.Problem{Op: "run the step", Kind: remora.Unavailable, Err: errors.New("the worker died; another one goes on")}
	err := c.CompleteActivity(ctx, token, nil, temporal.NewApplicationErrorWithOptions(p.Error(), string(p.Kind),
		temporal.ApplicationErrorOptions{NextRetryDelay: 100 * time.Millisecond, Details: []any{p.Text()}}))
	var over *serviceerror.NotFound
	var strange *serviceerror.InvalidArgument
	switch {
	case err == nil:
		f.log.Info("handed back a step of a worker that died")
		return nil
	case errors.As(err, &over), errors.As(err, &strange), len(token) == 0: // it had ended, or is of another Temporal
		return nil
	default:
		return err
	}
}

// land ends the bookkeeping of this process. Steps that have not returned by now die with it, and stay written down
// for whoever comes next; the kernel frees the lock.
func (f *inflight) land() {
	f.once.Do(func() {
		close(f.stop)
		f.swept.Wait()
		f.forget(time.Now().Add(linger))
		left, err := os.ReadDir(f.own)
		if err == nil && len(left) <= 1 { // the lock alone
			err = errors.Join(os.RemoveAll(f.own), f.lock.Close())
		}
		if err != nil {
			f.log.Warn("the record of running steps is not removed", "error", err)
		}
	})
}

// InterceptActivity writes down each step while it runs.
func (f *inflight) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &flight{ActivityInboundInterceptorBase: interceptor.ActivityInboundInterceptorBase{Next: next}, record: f}
}

type flight struct {
	interceptor.ActivityInboundInterceptorBase
	record *inflight
}

// ExecuteActivity runs a step, written down.
func (s *flight) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	landing := s.record.takeOff(activity.GetInfo(ctx).TaskToken)
	defer landing()
	return s.Next.ExecuteActivity(ctx, in)
}
