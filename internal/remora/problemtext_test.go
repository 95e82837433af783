package remora

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProblemTravelsAsText(t *testing.T) {
	inner := &Problem{Op: "connect to the database", Kind: Denied, Subject: "127.0.0.1:3306", Hint: "check the password", Err: errors.New("1045")}
	outer := &Problem{Op: "take the safety backup", Kind: Denied, Err: fmt.Errorf("capture: %w", inner)}

	want := ProblemText{
		Op: "take the safety backup", Kind: Denied, Hint: "check the password",
		Message: "capture: connect to the database (127.0.0.1:3306): 1045",
	}
	if diff := cmp.Diff(want, outer.Text()); diff != "" {
		t.Fatalf("text (-want +got):\n%s", diff)
	}
	back := want.Problem()
	if back.Error() != outer.Error() || back.Kind != Denied || back.Hint != "check the password" {
		t.Fatalf("back: %v, kind %s, hint %q", back, back.Kind, back.Hint)
	}
	if p := ProblemOf("op", fmt.Errorf("wrapped: %w", outer)); p != outer {
		t.Fatalf("the outermost problem was not found: %v", p)
	}
	if p := ProblemOf("stage", errors.New("boom")); p.Kind != Internal || p.Error() != "stage: boom" {
		t.Fatalf("a plain error became %v of kind %s", p, p.Kind)
	}
}
