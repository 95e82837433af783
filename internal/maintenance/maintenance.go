// Package maintenance takes an application offline while its data is switched, and back afterwards; and it runs what an
// operator has named for these moments.
//
// An application that was offline before stays offline: a run only undoes what it did itself.
package maintenance

import (
	"context"
)

// Mode is a way to take an application offline. Every call may be repeated, also by another process, and Enter and
// Leave may come without each other. Errors are *remora.Problem.
type Mode interface {
	// Offline tells whether somebody else than run has the application offline, as far as that can be seen. Commands
	// and hooks cannot see whose the maintenance is: whoever enters asks before, remembers the answer where a crash
	// does not lose it, and calls neither Enter nor Leave when it was yes.
	Offline(ctx context.Context, run string) (bool, error)
	// Enter takes the application offline on behalf of a run.
	Enter(ctx context.Context, run string) error
	// Leave brings the application back. What is seen to be somebody else's stays.
	Leave(ctx context.Context, run string) error
	// String names the mode for people; it is empty for None.
	String() string
}

// None is for applications that are not taken offline: no call does anything.
func None() Mode { return none{} }

type none struct{}

func (none) Offline(context.Context, string) (bool, error) { return false, nil }
func (none) Enter(context.Context, string) error           { return nil }
func (none) Leave(context.Context, string) error           { return nil }
func (none) String() string                                { return "" }
