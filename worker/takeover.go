package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.uber.org/fx"

	"github.com/remora-backup/remora/activities"
	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
)

// roster lets the workers of one machine notice at once that one of them was killed, and hand its steps back to
// Temporal, instead of waiting minutes for the heartbeat timeout. Each process holds a lock on a file of its own, whose
// name is part of its identity in Temporal. The kernel frees that lock when the process dies, and only then: a process
// that is merely frozen keeps it, so it is never declared dead while it may wake up.
//
// Nothing depends on it: where it cannot work, the heartbeat timeout does the same later.
type roster struct {
	dir  string
	name string
	// knows is the digest of what this worker's configuration says of the sources.
	knows string
	lock  int // a bare descriptor: an os.File would be closed, and the lock freed, once nobody refers to it
	log   *slog.Logger

	here     context.Context // until this process leaves: stop
	stop     context.CancelFunc
	watching sync.WaitGroup
	dead     map[string]time.Time // when the death of a process was noticed
}

const (
	// lookout is how often the dead are looked for.
	lookout = 2 * time.Second
	// mourning is how long a dead process's steps are looked for: the list of runs may lag, and a step may have been
	// on its way to the process when it died.
	mourning = 20 * time.Second
)

func newRoster(lc fx.Lifecycle, cfg *config.Config, log *slog.Logger) (*roster, error) {
	r, err := enrol(filepath.Join(cfg.State, "workers"), log)
	if err == nil {
		r.knows = digest(cfg)
	}
	if err != nil {
		return nil, remora.Fail(remora.Invalid, "prepare the state directory", cfg.State,
			"Let the user of the worker write there, or set state in the configuration.", "%w", err)
	}
	lc.Append(fx.StopHook(r.leave))
	return r, nil
}

// enrol makes this process's file. It appears under its name only once the lock is held, so that nobody takes it for a
// dead one.
func enrol(dir string, log *slog.Logger) (*roster, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil { //nolint:gosec // the state directory is the configuration's word
		return nil, err
	}
	name := strings.ToLower(rand.Text())
	unborn := filepath.Join(dir, "."+name)
	lock, err := syscall.Open(unborn, syscall.O_CREAT|syscall.O_EXCL|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: unborn, Err: err}
	}
	err = syscall.Flock(lock, syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		err = os.Rename(unborn, filepath.Join(dir, name)) //nolint:gosec // both are ours
	}
	if err != nil {
		return nil, errors.Join(err, syscall.Close(lock))
	}
	r := &roster{dir: dir, name: name, lock: lock, log: log, dead: map[string]time.Time{}}
	r.here, r.stop = context.WithCancel(context.Background())
	return r, nil
}

// identity is what this process is called in Temporal.
func (r *roster) identity() string {
	host, _ := os.Hostname() // a machine without a name is told apart by the rest
	return fmt.Sprintf("remora-worker %d@%s %s%s %s", os.Getpid(), host, activities.Knows, r.knows, r.name)
}

// watch hands the steps of dead workers on this machine back to Temporal, now and as long as this process lives.
func (r *roster) watch(c client.Client, namespace string) {
	r.watching.Go(func() { again(r.here, lookout, forEver(func() { r.settle(r.here, c, namespace) })) })
}

// leave ends the watch. The lock is freed by the end of the process and not before, since a step may still be ending;
// the file stays for the next worker, since a step may have been sent here too late to be noticed.
func (r *roster) leave() {
	r.stop()
	r.watching.Wait()
}

// settle does one round for every dead process.
func (r *roster) settle(ctx context.Context, c client.Client, namespace string) {
	dead, err := r.findDead()
	if err != nil {
		r.log.Warn("cannot look for workers that died", "error", err)
		return
	}
	if len(dead) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, mourning)
	defer cancel()
	switch err := r.handBackAll(ctx, c, namespace, dead); {
	case errors.Is(ctx.Err(), context.Canceled): // we leave
		return
	case err != nil:
		r.log.Warn("the steps of a dead worker are not handed back yet", "error", err)
		return
	}
	for name := range dead {
		if time.Since(r.dead[name]) < mourning {
			continue
		}
		if err := os.Remove(filepath.Join(r.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.log.Warn("a dead worker's file stays", "error", err)
		}
		delete(r.dead, name)
	}
}

// findDead gives the names of the processes that are no more.
func (r *roster) findDead() (map[string]bool, error) {
	files, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, err
	}
	dead := map[string]bool{}
	for _, file := range files {
		name := file.Name()
		if name == r.name || strings.HasPrefix(name, ".") || !isDead(filepath.Join(r.dir, name)) {
			continue
		}
		dead[name] = true
		if r.dead[name].IsZero() {
			r.dead[name] = time.Now()
		}
	}
	return dead, nil
}

// isDead tells whether nobody holds the lock of a file.
func isDead(path string) bool {
	lock, err := os.Open(path)
	if err != nil {
		return false // somebody else has just settled it
	}
	defer func() { _ = lock.Close() }()
	return syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil
}

// handBackAll looks through all open runs for steps that dead processes had begun.
func (r *roster) handBackAll(ctx context.Context, c client.Client, namespace string, dead map[string]bool) error {
	var page []byte
	for {
		open, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Namespace: namespace, Query: "ExecutionStatus = 'Running'", NextPageToken: page,
		})
		if err != nil {
			return err
		}
		for _, e := range open.GetExecutions() {
			id, run := e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId()
			described, err := c.DescribeWorkflowExecution(ctx, id, run)
			if gone(err) {
				continue
			}
			if err != nil {
				return err
			}
			for _, step := range described.GetPendingActivities() {
				if !begunBy(step, dead) {
					continue
				}
				if err := handBack(ctx, c, namespace, id, run, step); err != nil {
					return err
				}
				r.log.Info("handed back a step of a worker that died", "workflow", id, "step", step.GetActivityType().GetName(), "attempt", step.GetAttempt())
			}
		}
		if page = open.GetNextPageToken(); len(page) == 0 {
			return nil
		}
	}
}

// begunBy tells whether a step is in the hands of a dead process: begun, and not waiting to be tried again.
func begunBy(step *workflow.PendingActivityInfo, dead map[string]bool) bool {
	if step.GetState() == enums.PENDING_ACTIVITY_STATE_SCHEDULED || step.GetState() == enums.PENDING_ACTIVITY_STATE_PAUSED {
		return false
	}
	identity := step.GetLastWorkerIdentity()
	return dead[identity[strings.LastIndexByte(identity, ' ')+1:]]
}

// handBack ends an attempt of a dead process, so that the step is tried again at once; or, where it was to be
// cancelled, says that it is.
func handBack(ctx context.Context, c client.Client, namespace, id, run string, step *workflow.PendingActivityInfo) error {
	p := remora.Fail(remora.Unavailable, "run the step", "", "", "its worker died; another one goes on")
	why := temporal.NewApplicationErrorWithOptions(p.Error(), string(p.Kind),
		temporal.ApplicationErrorOptions{NextRetryDelay: 100 * time.Millisecond, Details: []any{p.Text()}})
	if step.GetState() == enums.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED {
		why = temporal.NewCanceledError()
	}
	if err := c.CompleteActivityByID(ctx, namespace, id, run, step.GetActivityId(), nil, why); !gone(err) {
		return err
	}
	return nil
}

// gone tells whether what was asked about has ended meanwhile.
func gone(err error) bool {
	return errors.As(err, new(*serviceerror.NotFound))
}
