package remora

import "context"

// Check is a question about an application after a restore. One of its fields is set.
type Check struct {
	// SQL must give one row whose first column is true. Names are written without a schema.
	SQL string
	// HTTP is a URL that must answer a GET with 2xx.
	HTTP string
}

// Checker is what a component may be able to do besides: to be asked about its live data.
type Checker interface {
	// Check asks with the live data as its default, and cannot change it. It gives why the answer is no; "" is yes. The
	// answer is never told. An error is a *Problem that may pass: there was no answer.
	Check(ctx context.Context, sql string) (why string, err error)
}

// ChecksInput asks for the live checks of a source. Online is false while the restore has the application offline: then
// those that cannot get past that are left for later. When Online is true, only those are meant.
type ChecksInput struct {
	Source string `json:"source"`
	Online bool   `json:"online,omitempty"`
	// Run is the drill whose stage is asked in place of what is live. No requests are made then: they would be answered
	// by what is live.
	Run string `json:"run,omitempty"`
}

// ChecksResult says what came of the checks.
type ChecksResult struct {
	Passed int `json:"passed,omitempty"`
	// Failed says which, by its key in the configuration, and why; never with row data.
	Failed []string `json:"failed,omitempty"`
	// Later is how many are left for when the application is online.
	Later int `json:"later,omitempty"`
	// Warnings are what an answer may have been mistaken about.
	Warnings []string `json:"warnings,omitempty"`
}

// Turned is the result of a Turn.
type Turned struct {
	Warnings []string `json:"warnings,omitempty"`
}
