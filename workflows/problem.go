package workflows

import (
	"errors"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// problemOf reads the problem out of a failed step or child. op is what was being done, for errors that do not say.
func problemOf(op string, err error) *remora.Problem {
	if own, ok := errors.AsType[*remora.Problem](err); ok {
		return own
	}
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		var text remora.ProblemText
		if app.HasDetails() && app.Details(&text) == nil && text.Kind != "" {
			return text.Problem()
		}
		return remora.Fail(remora.Internal, op, "", "", "%s", app.Message())
	}
	switch {
	case temporal.IsCanceledError(err):
		return remora.Fail(remora.Cancelled, op, "", "", "it was cancelled")
	case killed(err):
		return remora.Fail(remora.Cancelled, op, "", "", "it was terminated")
	case errors.As(err, new(*temporal.TimeoutError)):
		return remora.Fail(remora.Unavailable, op, "",
			"See that a remora-worker is running, and look into its log.", "no worker finished it in time")
	default:
		return &remora.Problem{Op: op, Kind: remora.Internal, Err: err}
	}
}

// killed tells whether a child was terminated, and so could not say how it stands.
func killed(err error) bool {
	return errors.As(err, new(*temporal.TerminatedError))
}

// ending is the error to end a workflow with: one that was cancelled, and stopped for that, ends as cancelled.
func ending(ctx workflow.Context, p *remora.Problem, err error) error {
	if ctx.Err() != nil && p.Kind == remora.Cancelled {
		return err
	}
	return failure(p)
}

// with adds to the error that a workflow ends with what it came to until then; came reads it.
func with(err error, done any) error {
	app, failed := errors.AsType[*temporal.ApplicationError](err)
	switch {
	case temporal.IsCanceledError(err):
		return temporal.NewCanceledError(done)
	case !failed:
		return err
	}
	return temporal.NewApplicationErrorWithOptions(app.Message(), app.Type(),
		temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{problemOf("", app).Text(), done}})
}

func came(err error, done any) {
	if stopped, ok := errors.AsType[*temporal.CanceledError](err); ok && stopped.HasDetails() {
		_ = stopped.Details(done) // what an earlier version did not tell is not known
	} else if app, ok := errors.AsType[*temporal.ApplicationError](err); ok && app.HasDetails() {
		_ = app.Details(new(remora.ProblemText), done)
	}
}

// failure is a problem as the end of a workflow or the answer to an update: its type is the kind, its first detail
// the ProblemText.
func failure(p *remora.Problem) error {
	return temporal.NewApplicationErrorWithOptions(p.Error(), string(p.Kind),
		temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{p.Text()}})
}
