package control

import (
	"errors"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/remora-backup/remora/internal/remora"
)

// asProblem finds the Problem in an error that came out of a workflow or an activity; where there is none it says in
// plain words how the run ended. op is what was being done.
func asProblem(op string, err error) *remora.Problem {
	if err == nil {
		return nil
	}
	if p := carried(err); p != nil {
		return p
	}
	switch timeout, late := errors.AsType[*temporal.TimeoutError](err); {
	case errors.As(err, new(*temporal.CanceledError)):
		return remora.Fail(remora.Cancelled, op, "", "", "it was cancelled")
	case errors.As(err, new(*temporal.TerminatedError)):
		return remora.Fail(remora.Cancelled, op, "",
			"a backup that was not completed is not kept: take another; `remora status` tells what a restore left, and `remora rollback` puts that right", "it was terminated in Temporal")
	case late:
		why := "it took longer than it may"
		if timeout.TimeoutType() == enums.TIMEOUT_TYPE_HEARTBEAT {
			why = "no sign of life from its worker"
		}
		return remora.Fail(remora.Stalled, op, "", "", "%s", why)
	}
	if application, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return remora.Fail(remora.Internal, op, "", "", "%s", application.Message())
	}
	return &remora.Problem{Op: op, Kind: remora.Internal, Err: err}
}

// carried is the outermost Problem that travelled in the details of an application error.
func carried(err error) *remora.Problem {
	for err != nil {
		application, ok := errors.AsType[*temporal.ApplicationError](err)
		if !ok {
			return nil
		}
		var text remora.ProblemText
		if application.HasDetails() && application.Details(&text) == nil && text.Kind != "" {
			return text.Problem()
		}
		err = errors.Unwrap(application)
	}
	return nil
}
