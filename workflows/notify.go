package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// untilDelivered is for notices: a mail server may be away for a day, and nobody waits.
func untilDelivered() workflow.ActivityOptions {
	options := retried(2*time.Minute, 1000, 15*time.Minute) // more than the day has
	options.ScheduleToCloseTimeout = 24 * time.Hour
	return options
}

// onceTold is for a test, whose sender waits for the answer.
func onceTold() workflow.ActivityOptions { return bounded(time.Minute, 1, time.Second) }

// Notify tells people one thing: each channel by itself, for as long as a day. What cannot be delivered is recorded, and
// fails nothing; that of a test is only told to whoever asked for it.
func Notify(ctx workflow.Context, n remora.Notice) (told remora.Notified, err error) {
	p := untilDelivered
	if n.Event == remora.TestEvent {
		p = onceTold
	}
	what := "tell: " + string(n.Event) + " " + n.Source
	channels, err := take[[]string](ctx, p, step{remora.ChannelsActivity, remora.Queue, "see whom to " + what}, n)
	if err != nil {
		return told, failure(problemOf("see whom to tell", err))
	}
	failed := make([]*remora.Undelivered, len(channels))
	telling := workflow.NewWaitGroup(ctx)
	for i, to := range channels {
		telling.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer telling.Done()
			_, err := take[nothing](ctx, p, step{remora.NotifyActivity, remora.Queue, what + " to " + to}, remora.NotifyInput{Notice: n, To: to})
			if err == nil {
				return
			}
			problem := problemOf("tell "+to, err)
			workflow.GetLogger(ctx).Error("a notice was not delivered", "event", n.Event, "source", n.Source, "to", to, "error", problem.Error())
			failed[i] = &remora.Undelivered{Notice: n, To: to, Problem: problem.Error(), Hint: problem.Text().Hint, At: workflow.Now(ctx)}
			if n.Event == remora.TestEvent {
				return
			}
			if _, err = take[nothing](ctx, bestEffort, step{remora.UndeliveredActivity, remora.Queue, "record what was not delivered to " + to}, failed[i]); err != nil {
				workflow.GetLogger(ctx).Error("what was not delivered was not recorded", "to", to, "error", err)
			}
		})
	}
	telling.Wait(ctx)
	for i, to := range channels {
		if failed[i] == nil {
			told.Delivered = append(told.Delivered, to)
		} else {
			told.Undelivered = append(told.Undelivered, *failed[i])
		}
	}
	return told, nil
}

// tell is notify in a workflow that earlier versions have run without it. The notice is named after the run, so that a
// run which is reset tells nothing twice.
func (op *operation) tell(ctx workflow.Context, n remora.Notice) {
	if workflow.GetVersion(ctx, "notify", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return
	}
	op.told.notices++
	n.ID = fmt.Sprintf("%s/%s/%d", firstRun(workflow.GetInfo(ctx)), n.Event, op.told.notices)
	op.notify(ctx, n)
}

// notify has people told, and does not wait: how that ends changes nothing about the operation.
func (op *operation) notify(ctx workflow.Context, n remora.Notice) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	n.At = workflow.Now(ctx)
	if n.Source == "" {
		n.Source = op.source
	}
	letGo(child(ctx, "notify/"+n.ID, "tell: "+string(n.Event)+" "+n.Source, once), remora.NotifyWorkflow, n)
}
