package control

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/remora-backup/remora/internal/remora"
)

// How long something may stand still before it is worth a line. A run whose worker died is offered to that worker's
// successor alone for 5 s, which is no news.
const (
	workerPatience  = 7 * time.Second
	silencePatience = 20 * time.Second
)

// patience measures, by our own clock, how long something has not changed: clocks of other machines do not matter.
type patience struct {
	what  string
	since time.Time
	said  bool
}

// lost tells, once for each what, that what has not changed for limit. An empty what is never waited for.
func (p *patience) lost(what string, limit time.Duration) bool {
	if what != p.what {
		*p = patience{what: what, since: time.Now()}
	}
	if what == "" || p.said || time.Since(p.since) < limit {
		return false
	}
	p.said = true
	return true
}

// tellSteps tells how far the pending activities are, and what holds them up.
func (f *follower) tellSteps(ctx context.Context, w *watched) {
	for _, s := range w.last.steps {
		seen := w.steps[s.id]
		if seen == nil {
			seen = &watchedStep{attempt: 1}
			w.steps[s.id] = seen
		}
		name := w.phaseOf(s)
		if s.attempt > seen.attempt {
			seen.attempt = s.attempt
			f.say(Update{Event: Retrying, At: f.control.cfg.Now(), Phase: name, Attempt: s.attempt, Next: s.next, Problem: s.why()})
		}
		if s.progress != nil && *s.progress != seen.progress {
			seen.progress = *s.progress
			f.say(Update{Event: Progressed, At: f.control.cfg.Now(), Phase: name, Progress: s.progress, Attempt: s.attempt})
		}
		f.tellWaiting(ctx, s, seen, name)
	}
}

// phaseOf is the name under which the phase of a pending activity was told.
func (w *watched) phaseOf(s step) string {
	for _, p := range w.phases {
		if p.id == s.id {
			return p.name
		}
	}
	return s.name()
}

func (f *follower) tellWaiting(ctx context.Context, s step, seen *watchedStep, name string) {
	if seen.paused.lost(s.paused, 0) {
		f.notice(f.control.cfg.Now(), fmt.Sprintf("%q is %s; it goes on when somebody unpauses it there", name, s.paused))
	}
	if s.paused != "" {
		return
	}
	queued, beat := "", ""
	if !s.running && s.next.IsZero() {
		queued = fmt.Sprint(s.attempt)
	}
	if s.running && !s.beat.IsZero() {
		beat = s.beat.String()
	}
	if seen.queue.lost(queued, workerPatience) {
		f.notice(f.control.cfg.Now(), f.control.whyWaiting(ctx, s.queue, name))
	}
	if seen.silence.lost(beat, silencePatience) {
		f.notice(f.control.cfg.Now(), fmt.Sprintf("no sign of life from the worker during %q for %s; if it died, another one goes on", name, silencePatience))
	}
}

// tellTask tells that nobody takes the run itself up.
func (f *follower) tellTask(ctx context.Context, w *watched) {
	waiting := ""
	if !w.last.waiting.IsZero() {
		waiting = w.last.waiting.String()
	}
	if w.tasks.lost(waiting, workerPatience) {
		f.notice(f.control.cfg.Now(), f.control.whyWaiting(ctx, remora.Queue, "the run"))
	}
}

// whyWaiting says what a queue waits for.
func (c *Control) whyWaiting(ctx context.Context, queue, what string) string {
	queue = cmp.Or(queue, remora.Queue)
	if !c.worked(ctx, queue) {
		return NoWorker
	}
	if strings.HasPrefix(queue, remora.DataQueue) {
		return what + " waits for a free place: other copies are running"
	}
	return "no worker has taken up " + what + " yet: is remora-worker still running?"
}

// NoWorker is said when nobody is there to do the work.
const NoWorker = "no worker is running: start one with `remora up` or remora-worker"

// stalePoller is how long after its last question a worker counts as gone: a question waits for up to a minute.
const stalePoller = 90 * time.Second

// HasWorker tells whether a worker is there to do the work. When Temporal does not say, it is taken to be there.
func (c *Control) HasWorker(ctx context.Context) bool { return c.worked(ctx, remora.Queue) }

func (c *Control) worked(ctx context.Context, queue string) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kind := enumspb.TASK_QUEUE_TYPE_ACTIVITY
	if queue == remora.Queue {
		kind = enumspb.TASK_QUEUE_TYPE_WORKFLOW
	}
	d, err := c.client.DescribeTaskQueue(ctx, queue, kind)
	if err != nil {
		return true
	}
	for _, p := range d.GetPollers() {
		if c.cfg.Now().Sub(p.GetLastAccessTime().AsTime()) < stalePoller {
			return true
		}
	}
	return false
}
