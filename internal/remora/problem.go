package remora

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"
)

// ProblemKind says what sort of trouble a Problem is. It decides whether the step is tried again and which exit code
// the command ends with. The strings are a contract: they are error types in Temporal.
type ProblemKind string

// The kinds of problems.
const (
	// Unavailable: a server or a disk does not answer now.
	Unavailable ProblemKind = "Unavailable"
	// Busy: somebody else holds what is needed.
	Busy ProblemKind = "Busy"
	// Stalled: nothing moved for too long.
	Stalled ProblemKind = "Stalled"
	// Stopping: the worker was asked to stop; another one goes on.
	Stopping ProblemKind = "Stopping"
	// Full: no space.
	Full ProblemKind = "Full"

	// Invalid: the configuration or the request makes no sense.
	Invalid ProblemKind = "Invalid"
	// Denied: a password or a right is missing.
	Denied ProblemKind = "Denied"
	// NotFound: there is no such source, backup or restore.
	NotFound ProblemKind = "NotFound"
	// Unsupported: what is there is not handled yet, and is refused by name instead of being skipped.
	Unsupported ProblemKind = "Unsupported"
	// Changed: what was planned for, or what is being read, is no longer as it was.
	Changed ProblemKind = "Changed"
	// Corrupt: what was stored, or what was staged, is not what it should be.
	Corrupt ProblemKind = "Corrupt"
	// Fenced: a later attempt has taken over, or the journal disagrees; a person or the later attempt decides.
	Fenced ProblemKind = "Fenced"
	// Superseded: a later step of the same restore has acted already, so there is nothing left to do here.
	Superseded ProblemKind = "Superseded"
	// Unreachable: the control plane (Temporal) does not answer.
	Unreachable ProblemKind = "Unreachable"
	// RolledBack: a restore ended with the source as it was before.
	RolledBack ProblemKind = "RolledBack"
	// Refused: it would delete more than may go without a person's word.
	Refused ProblemKind = "Refused"
	// Cancelled: somebody asked for it to end.
	Cancelled ProblemKind = "Cancelled"
	// Internal: a bug of ours.
	Internal ProblemKind = "Internal"
)

// Retryable tells whether the same step may succeed when it is tried again.
func (k ProblemKind) Retryable() bool {
	switch k {
	case Unavailable, Busy, Stalled, Stopping, Full, Internal:
		return true
	default:
		return false
	}
}

// Problem is the one error that people see: what was being done, what is wrong, with what, and what to do next. It is
// translated once at the border of the activities and once at the terminal. Its texts never hold secrets or row data.
type Problem struct {
	// Op is what was being done, as a short verb phrase: "connect to the database".
	Op string `json:"op"`
	// Kind decides about retries and exit codes.
	Kind ProblemKind `json:"kind"`
	// Subject is the thing it happened to: "127.0.0.1:3306", "table shop.orders". May be empty.
	Subject string `json:"subject,omitempty"`
	// Hint is what to do about it, as a sentence or a command. May be empty.
	Hint string `json:"hint,omitempty"`
	// Err is why. May be nil.
	Err error `json:"-"`
}

// Fail is a Problem with a reason that is told, as fmt.Errorf does.
func Fail(kind ProblemKind, op, subject, hint, why string, args ...any) *Problem {
	return &Problem{Op: op, Kind: kind, Subject: subject, Hint: hint, Err: fmt.Errorf(why, args...)}
}

// Cause is why something failed, without the path that a Problem names as its subject.
func Cause(err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return at.Err
	}
	return err
}

// Error is one line: what, with what, and why; without the hint.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Op)
	if p.Subject != "" {
		fmt.Fprintf(&b, " (%s)", p.Subject)
	}
	if p.Err != nil {
		fmt.Fprintf(&b, ": %v", p.Err)
	}
	return OneLine(b.String())
}

// Unwrap gives the cause.
func (p *Problem) Unwrap() error { return p.Err }

// KindOf finds the kind of the outermost Problem in err: "" for nil, Internal when there is none.
func KindOf(err error) ProblemKind {
	if err == nil {
		return ""
	}
	if p, ok := errors.AsType[*Problem](err); ok {
		return p.Kind
	}
	return Internal
}

// MaxErrorText bounds, in bytes, what an error may carry into a history or a mail.
const MaxErrorText = 4 << 10

// Cut shortens s to at most limit bytes, dots included, without splitting a character: a text that is not UTF-8 cannot
// be told to Temporal at all.
func Cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := max(0, limit-len("..."))
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
}

// Each puts every one of all into another form.
func Each[T, R any](all []T, form func(T) R) (formed []R) {
	for _, one := range all {
		formed = append(formed, form(one))
	}
	return formed
}

// Few names the first of many.
func Few(all []string) string {
	const named = 5
	if more := len(all) - named; more > 0 {
		return strings.Join(all[:named], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(all, ", ")
}

// OneLine makes s safe for a line of a terminal, a log or a mail header: control characters become visible escapes
// and the length is bounded by MaxErrorText.
func OneLine(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteByte(' ')
		case r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == 0x2028 || r == 0x2029 || (r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		if b.Len() > MaxErrorText {
			return Cut(b.String(), MaxErrorText)
		}
	}
	return b.String()
}

// ProblemText is a Problem as it travels: the first detail of every application error that an activity or a workflow
// ends with. The error's type is Kind.
type ProblemText struct {
	Op      string      `json:"op"`
	Kind    ProblemKind `json:"kind"`
	Subject string      `json:"subject,omitempty"`
	Hint    string      `json:"hint,omitempty"`
	// Message is the text of Err.
	Message string `json:"message,omitempty"`
}

// Text puts the problem into words that can travel: one line each, bounded by MaxErrorText. Where the problem has no
// hint, the first one among its causes is taken.
func (p *Problem) Text() ProblemText {
	t := ProblemText{Op: OneLine(p.Op), Kind: p.Kind, Subject: OneLine(p.Subject), Hint: OneLine(p.Hint)}
	if p.Err != nil {
		t.Message = OneLine(p.Err.Error())
	}
	for err := p.Err; t.Hint == "" && err != nil; {
		inner, ok := errors.AsType[*Problem](err)
		if !ok {
			break
		}
		t.Hint, err = OneLine(inner.Hint), inner.Err
	}
	return t
}

// Problem is the way back from a text.
func (t ProblemText) Problem() *Problem {
	p := &Problem{Op: t.Op, Kind: t.Kind, Subject: t.Subject, Hint: t.Hint}
	if t.Message != "" {
		p.Err = errors.New(t.Message)
	}
	return p
}

// ProblemOf finds the outermost Problem in err, or makes one of kind Internal about op. It is nil for nil.
func ProblemOf(op string, err error) *Problem {
	if err == nil {
		return nil
	}
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	return &Problem{Op: op, Kind: Internal, Err: err}
}

// ShellWord makes a name or a path safe to paste into a shell.
func ShellWord(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
