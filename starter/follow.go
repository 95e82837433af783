package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
)

// teller prints what happens in a run: a line that is rewritten in place on a terminal, a line for the end of each phase
// in a pipe (and for the beginning of one that takes its time), an object for each update in json.
type teller struct {
	app *app
	// drawn is how many columns of the terminal's last line are ours.
	drawn int
	// begun is the beginning of a phase that a pipe was not told yet: of a phase that ends soon, its end says enough.
	begun *control.Update
}

func newTeller(a *app) *teller { return &teller{app: a} }

// tell prints one update.
func (t *teller) tell(u control.Update) {
	if t.app.json() {
		_ = t.app.printJSON(u) // a broken pipe has nobody left to tell
		return
	}
	switch u.Event {
	case control.PhaseStarted:
		t.begun = &u
		t.draw(u.Phase + " ...")
	case control.PhaseEnded:
		t.begun = nil
		if u.Skipped == "" {
			t.line(u.At, phaseEnded(u))
		}
	case control.Progressed:
		t.tellBegun(u.At)
		t.draw(t.progress(u))
	case control.Retrying:
		t.begun = nil // the line names the phase
		t.line(u.At, t.retry(u))
	case control.Noticed:
		t.line(u.At, u.Message)
	}
}

// soon is how long a phase may take without a word in a pipe.
const soon = 2 * time.Second

// tellBegun tells a pipe of a phase that takes its time.
func (t *teller) tellBegun(now time.Time) {
	if t.begun == nil || t.app.Live || now.Sub(t.begun.At) < soon {
		return
	}
	t.line(t.begun.At, t.begun.Phase+" ...")
	t.begun = nil
}

// phaseEnded says how a phase ended: "dump database of shop: 1,200 rows, 3.1 MB, 4.2 s".
func phaseEnded(u control.Update) string {
	if u.Problem != "" {
		return fmt.Sprintf("%s: failed after %s: %s", u.Phase, control.Span(u.Took), u.Problem)
	}
	return u.Phase + ": " + strings.Join(append(handled(u.Kind, u.Summary), "done in "+control.Span(u.Took)), ", ")
}

func (t *teller) retry(u control.Update) string {
	when := "now"
	if !u.Next.IsZero() {
		when = t.app.age(u.Next)
	}
	why := ""
	if u.Problem != "" {
		why = " after: " + u.Problem
	}
	return fmt.Sprintf("%s: attempt %d %s%s", u.Phase, u.Attempt, when, why)
}

// progress is the line that a terminal shows while a phase works.
func (t *teller) progress(u control.Update) string {
	p := *u.Progress
	words := []string{p.Phase}
	if far := control.HowFar(p); far != "" {
		words = append(words, far)
	}
	if rate := t.rate(p); rate > 0 {
		words = append(words, control.Amount(int64(rate), p.Unit)+"/s")
		if p.Total > p.Done {
			left := time.Duration(float64(p.Total-p.Done) / rate * float64(time.Second))
			words = append(words, control.Span(left)+" left")
		}
	}
	if u.Attempt > 1 {
		words = append(words, fmt.Sprintf("attempt %d", u.Attempt))
	}
	if p.Item != "" {
		words = append(words, p.Item)
	}
	return strings.Join(words, "  ")
}

// rate is how many units a second the phase has moved; 0 before that says anything.
func (t *teller) rate(p remora.Progress) float64 {
	took := t.app.Now().Sub(p.Since).Seconds()
	if p.Since.IsZero() || took < 0.5 {
		return 0
	}
	return float64(p.Done) / took
}

// line prints a line that stays.
func (t *teller) line(at time.Time, text string) {
	t.clear()
	t.app.say("%s  %s", at.Local().Format("15:04:05"), remora.OneLine(text))
}

// draw rewrites the terminal's last line; in a pipe it prints nothing.
func (t *teller) draw(text string) {
	if !t.app.Live {
		return
	}
	text = fit("          "+remora.OneLine(text), t.app.Width()-1)
	width := utf8.RuneCountInString(text)
	_, _ = fmt.Fprintf(t.app.Out, "\r%s%s", text, strings.Repeat(" ", max(0, t.drawn-width)))
	t.drawn = width
}

func fit(text string, columns int) string {
	if runes := []rune(text); len(runes) > columns && columns > 3 {
		return string(runes[:columns-3]) + "..."
	}
	return text
}

// clear takes the progress line away.
func (t *teller) clear() {
	if t.drawn > 0 {
		_, _ = fmt.Fprintf(t.app.Out, "\r%s\r", strings.Repeat(" ", t.drawn))
		t.drawn = 0
	}
}

// finish follows a run to its end, and prints what it came to. With detach it only says what has started.
func (s *session) finish(ctx context.Context, run control.Run, detach bool, what string, print func(control.Ended) error) error {
	if detach {
		return s.started(ctx, run, what)
	}
	var end control.Ended
	err := s.told(ctx, watchable(run), func(tell func(control.Update)) (err error) {
		end, err = s.control.Follow(ctx, run, tell)
		return err
	})
	if err != nil {
		return err
	}
	return print(end)
}

// watchable is the source that a run is the one of, so that it can be watched there and stopped; empty where it is not.
func watchable(run control.Run) string {
	if run.ID == remora.Lane(run.Source) || run.ID == remora.RestoreLane(run.Source) {
		return run.Source
	}
	return ""
}

// told does something on a source that tells what happens. A person who interrupts stops listening; the run goes on.
func (s *session) told(ctx context.Context, source string, do func(tell func(control.Update)) error) error {
	t := newTeller(s.app)
	err := do(t.tell)
	t.clear()
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return s.app.detached(source)
	}
	return err
}

// detached says how to come back to a run that goes on.
func (a *app) detached(source string) error {
	how := "See what came of it: remora history"
	if source != "" {
		how = fmt.Sprintf("Watch it: remora watch %[1]s   Stop it: remora cancel %[1]s", source)
	}
	_, _ = fmt.Fprintf(a.Err, "\nIt goes on without you. %s\n", how)
	return errDetached
}

// endJSON is the last object of a followed run: what that came to, for a program.
type endJSON struct {
	Event string    `json:"event"`
	At    time.Time `json:"at"`
	control.Ended
}

func ended(a *app, end control.Ended) endJSON {
	said := endJSON{Event: string(remora.Completed), At: a.Now(), Ended: end}
	if end.Restore != nil {
		said.Event = string(end.Restore.Outcome)
	}
	return said
}

// printEnded says what a run came to.
func (a *app) printEnded(end control.Ended) error {
	return a.answer(ended(a, end), a.text("ended", end))
}

// started says that a run was started that nobody follows.
func (s *session) started(ctx context.Context, run control.Run, what string) error {
	return s.app.answer(run, func() {
		said := struct{ What, Source, Alone string }{What: what, Source: watchable(run)}
		if said.Source != "" && !s.control.HasWorker(ctx) {
			said.Alone = control.NoWorker
		}
		s.app.text("started", said)()
	})
}
