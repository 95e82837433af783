package remora

import "errors"

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
