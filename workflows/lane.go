package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// lanePatience is how long a restore or a rollback waits for a backup that it has asked to stop. A backup stops
// within seconds, unless it is already being committed and read back.
const lanePatience = 30 * time.Minute

// copyPatience is how long a copy into another schema waits for a backup to end: it is no emergency, and stops nobody.
const copyPatience = 12 * time.Hour

// errLaneTaken says that somebody else is at work on the source.
var errLaneTaken = errors.New("the lane is taken")

// laneCall is a child workflow that needs its source for itself.
type laneCall struct {
	workflow string
	summary  string
	source   string
	input    any
	// patience is how long to wait for the lane while asking its holder to stop; 0 means: neither ask nor wait.
	patience time.Duration
	// polite waits without asking anybody to stop, and looks seldom: the wait may take a night.
	polite bool
	// waiting is told once when the lane is taken. It may be nil.
	waiting func(workflow.Context)
	// started is told when the child has begun. It may be nil.
	started func()
}

// inLane runs a child in the lane of its source: under the workflow id that everything takes that touches the
// source's data, so that the server itself sees to it that there is one at a time. The child is cancelled, never
// terminated, when this workflow closes, so it compensates whatever happens to its parent.
func inLane[T any](ctx workflow.Context, call laneCall) (result T, err error) {
	ctx = child(ctx, remora.Lane(call.source), call.summary, bound)
	deadline := workflow.Now(ctx).Add(call.patience)
	pause, longest := time.Second, 15*time.Second
	if call.polite {
		pause, longest = 30*time.Second, 5*time.Minute
	}
	for ; ; pause = min(2*pause, longest) {
		child := workflow.ExecuteChildWorkflow(ctx, call.workflow, call.input)
		err = child.GetChildWorkflowExecution().Get(ctx, nil)
		if err == nil {
			if call.started != nil {
				call.started()
			}
			err = child.Get(ctx, &result)
			return result, err
		}
		if !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
			return result, err
		}
		if !workflow.Now(ctx).Before(deadline) {
			return result, errLaneTaken
		}
		if call.waiting != nil {
			call.waiting(ctx)
			call.waiting = nil
		}
		switch {
		case !call.polite:
			askHolderToStop(ctx, call.source)
		case call.workflow != remora.DrillWorkflow && askDrillToStop(ctx, call.source):
			pause = time.Second // it does at once
		}
		pause = min(pause, deadline.Sub(workflow.Now(ctx)))
		if err := pauseFor(ctx, pause, "wait for whoever is at work on "+call.source); err != nil {
			return result, err
		}
	}
}

// pauseFor is a sleep that says what for.
func pauseFor(ctx workflow.Context, d time.Duration, what string) error {
	return workflow.NewTimerWithOptions(ctx, d, workflow.TimerOptions{Summary: what}).Get(ctx, nil)
}

// askHolderToStop cancels whatever holds the lane. It is asked again at each try, because the next backup of a
// schedule may have taken the lane meanwhile; a holder that must not stop does not.
func askHolderToStop(ctx workflow.Context, source string) {
	err := workflow.RequestCancelExternalWorkflow(ctx, remora.Lane(source), "").Get(ctx, nil)
	if err != nil { // it has just ended, or knows already
		workflow.GetLogger(ctx).Debug("the holder of the lane was not asked to stop", "source", source, "error", err)
	}
}

// askDrillToStop cancels a drill that holds the lane, and nobody else: it may be made at any time, and proves nothing that
// could not wait. It tells whether there was one.
func askDrillToStop(ctx workflow.Context, source string) bool {
	if workflow.GetVersion(ctx, "drills give way", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return false
	}
	who, err := holderOf(ctx, source)
	if err != nil || who.Workflow != remora.DrillWorkflow {
		return false
	}
	if err := workflow.RequestCancelExternalWorkflow(ctx, remora.Lane(source), who.Run).Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Debug("a drill was not asked to stop", "source", source, "error", err)
	}
	return true
}

// holderOf asks who holds the lane of a source.
func holderOf(ctx workflow.Context, source string) (remora.Holder, error) {
	return take[remora.Holder](ctx, bestEffort, step{remora.HolderActivity, remora.Queue, "see who is at work on " + source}, remora.HolderInput{Source: source})
}

// laneProblem puts a taken lane into words.
func laneProblem(op, source string, err error) error {
	if !errors.Is(err, errLaneTaken) {
		return err
	}
	return remora.Fail(remora.Busy, op, source,
		"See what it is: remora watch "+source, "another operation is at work on it and did not stop")
}
