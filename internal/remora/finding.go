package remora

import (
	"fmt"
	"time"
)

// Level says how a check came out.
type Level string

// The levels of findings. A warning is worth a look and fails nothing.
const (
	Fine    Level = "ok"
	Warning Level = "warning"
	Failing Level = "failed"
)

// Finding is one line of a check: what was looked at, how it is, and what to do about it.
type Finding struct {
	Level   Level  `json:"level"`
	Subject string `json:"subject"`
	Said    string `json:"said"`
	Hint    string `json:"hint,omitempty"`
}

// Found is a finding of that level.
func Found(level Level, subject, format string, args ...any) Finding {
	return Finding{Level: level, Subject: subject, Said: OneLine(fmt.Sprintf(format, args...))}
}

// FoundProblem is the finding that says a problem.
func FoundProblem(subject string, p *Problem) Finding {
	return Finding{Level: Failing, Subject: subject, Said: p.Error(), Hint: p.Text().Hint}
}

// FindingsRequest starts a Check, which asks a worker about the repository and these sources.
type FindingsRequest struct {
	Sources []FindingsSource `json:"sources"`
}

// FindingsSource is a source and the components that it should have.
type FindingsSource struct {
	Name  string `json:"name"`
	Kinds []Kind `json:"kinds"`
}

// FoundSkew judges how far a clock is ahead of the worker's. Ages, holds and signatures are counted in these clocks.
func FoundSkew(subject string, skew time.Duration) Finding {
	skew = skew.Round(100 * time.Millisecond)
	f := Found(Fine, subject, "within %s of the worker's", max(skew.Abs(), time.Second))
	switch {
	case skew.Abs() > 5*time.Minute:
		f.Level = Failing
	case skew.Abs() > 5*time.Second:
		f.Level = Warning
	default:
		return f
	}
	f.Said, f.Hint = "ahead of the worker's by "+skew.String(), "let every machine follow a time server (NTP)"
	return f
}
