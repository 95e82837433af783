package activities

import (
	"context"
	"errors"
	"syscall"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/remora-backup/remora/internal/remora"
)

// handOver is how soon a step that a stopping worker gave back is tried by another one.
const handOver = time.Second

// translate turns the error of a step into what Temporal understands: the one place where the problems of this
// program become application errors. The type is the problem's kind, which decides about retries; the first detail is
// its ProblemText. ctx is the step's own context, op says what the step was doing.
func translate(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	p := problemOf(ctx, op, err)
	if p == nil {
		return temporal.NewCanceledError()
	}
	options := temporal.ApplicationErrorOptions{NonRetryable: !p.Kind.Retryable(), Details: []any{p.Text()}}
	if p.Kind == remora.Stopping {
		options.NextRetryDelay = handOver
	}
	return temporal.NewApplicationErrorWithOptions(p.Error(), string(p.Kind), options)
}

// problemOf says what went wrong: nil means that the step was cancelled, as it should be when somebody asks for it.
func problemOf(ctx context.Context, op string, err error) *remora.Problem {
	cause := context.Cause(ctx)
	why, known := errors.AsType[*remora.Problem](cause)
	switch {
	case cause != nil && temporal.IsCanceledError(cause):
		return nil
	case known: // a stall, or the end of this worker
		return why
	case errors.Is(cause, activity.ErrActivityPaused), errors.Is(cause, activity.ErrActivityReset):
		// What the step has stored so far it finds again: it stops, and nothing is undone.
		return remora.Fail(remora.Stopping, op, "", "", "it was asked to stop in Temporal: %s", cause.Error())
	case cause != nil:
		return remora.Fail(remora.Unavailable, op, "",
			"The worker and Temporal lost sight of each other; the step is tried again.", "%w", cause)
	}
	p := remora.ProblemOf(op, err)
	switch {
	case errors.Is(err, remora.ErrStaleTurn):
		return &remora.Problem{Op: op, Kind: remora.Superseded, Err: err, Hint: "A later step of the same restore has acted already."}
	case p.Kind != remora.Internal:
	case errors.Is(err, syscall.ENOSPC):
		return &remora.Problem{Op: op, Kind: remora.Full, Err: err, Hint: "Make room on that disk."}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &remora.Problem{Op: op, Kind: remora.Unavailable, Err: err}
	}
	return p
}
