package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// Component holds the steps of one kind of component, for every source of this worker.
type Component struct {
	Kind remora.Kind
	// Of finds the component of a source.
	Of    func(source string) (remora.Component, error)
	Store Store
	Watch Watch
	// MaxBytes is how large a regular backup may be; 0 means any size.
	MaxBytes int64
}

// Register makes the steps known under their wire names: "database.Capture".
func (c *Component) Register(to Registry) {
	capture := "archive"
	if c.Kind == remora.Database {
		capture = "dump"
	}
	verb(to, c, remora.PreflightVerb, "check", false, c.preflight)
	verb(to, c, remora.CaptureVerb, capture, true, c.capture)
	verb(to, c, remora.StageVerb, "stage", true, c.stage)
	verb(to, c, remora.CompareVerb, "compare staged", true, c.compare)
	verb(to, c, remora.SwitchVerb, "switch", false, c.turn)
	verb(to, c, remora.PrepareVerb, "prepare switch of", false, c.prepare)
	verb(to, c, remora.DiscardVerb, "discard put-away", false, c.discard)
	verb(to, c, remora.PreviewVerb, "compare live", true, c.preview)
	verb(to, c, remora.LeftoversVerb, "look at journal of", false, c.leftovers)
}

// task is one verb at work on the component of a source.
type task struct {
	remora.Component
	remora.ComponentInput
	job remora.Job
}

// verb registers a step under the name of a verb; says is what problems call it, and one that stalls is cancelled.
func verb[T any](to Registry, c *Component, name, says string, stalls bool, do func(context.Context, task) (T, error)) {
	op := func(in remora.ComponentInput) string { return fmt.Sprintf("%s %s of %s", says, c.Kind, in.Source) }
	reporting(to, c.Watch, c.Kind.Activity(name), stalls, op, func(ctx context.Context, in remora.ComponentInput, report reporter) (none T, err error) {
		component, err := c.Of(in.Source)
		switch {
		case errors.Is(err, errNoComponent) && name == remora.LeftoversVerb: // what is not there has left nothing
			return none, nil
		case err != nil:
			return none, err
		case in.Selection.To != "":
			copier, ok := component.(remora.Copier)
			if !ok {
				return none, remora.Fail(remora.Unsupported, op(in), string(c.Kind), "", "this component cannot be built elsewhere")
			}
			component = copier.Into(in.Selection)
		}
		return do(ctx, task{component, in, remora.Job{Run: in.Run, Selection: in.Selection, Report: report}})
	})
}

func (c *Component) preflight(ctx context.Context, t task) (found remora.Estimate, err error) {
	var intent remora.Intent
	if t.Backup != "" {
		if intent.From, err = c.Store.Part(ctx, t.From, t.Backup, c.Kind); err != nil {
			return found, err
		}
	}
	found, err = t.Preflight(ctx, t.job, intent)
	if !intent.Restore() {
		nearly(&found, c.MaxBytes)
	}
	return bounded(found), err
}

// capture writes one part. A part that is not finished is aborted, so that nothing of it is ever committed.
func (c *Component) capture(ctx context.Context, t task) (remora.PartRef, error) {
	ref := remora.PartRef{Kind: c.Kind, Started: time.Now().UTC()}
	to, err := c.Store.Begin(ctx, Part{Source: t.Source, Run: t.Run, Backup: t.Backup, Kind: c.Kind, ForRestore: t.Of != remora.Subject{}})
	if err != nil {
		return ref, err
	}
	if ref.Summary, err = t.Capture(ctx, t.job, t.Of, limit(to, c.MaxBytes, t.Of)); err != nil {
		return ref, c.abort(ctx, to, err)
	}
	ref.Summary = summary(ref.Summary)
	if ref.Root, ref.Added, err = to.Finish(ctx); err != nil {
		return ref, c.abort(ctx, to, err)
	}
	ref.Ended = time.Now().UTC()
	return ref, nil
}

// abortTime bounds how long a failed capture cleans up behind itself; what remains is for the collector.
const abortTime = 10 * time.Second

func (c *Component) abort(ctx context.Context, to PartWriter, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	if err := to.Abort(ctx); err != nil {
		c.Watch.withDefaults().Log.WarnContext(ctx, "the unfinished part was not cleaned up", "kind", c.Kind, "error", err)
	}
	return why
}

func (c *Component) stage(ctx context.Context, t task) (staged remora.Summary, err error) {
	if err := mayBegin(ctx, c.Store, t.Source, t.Run); err != nil {
		return staged, err
	}
	err = c.reading(ctx, t, func(from fs.FS) (err error) {
		staged, err = t.Stage(ctx, t.job, from)
		return err
	})
	return summary(staged), err
}

func (c *Component) compare(ctx context.Context, t task) (diff remora.Diff, err error) {
	err = c.reading(ctx, t, func(from fs.FS) (err error) {
		diff, err = t.Compare(ctx, t.job, from)
		return err
	})
	diff.Compared, diff.Differences = summary(diff.Compared), few(diff.Differences)
	return diff, err
}

func (c *Component) preview(ctx context.Context, t task) (differs remora.Preview, err error) {
	previewer, ok := t.Component.(remora.Previewer)
	if !ok {
		return differs, remora.Fail(remora.Unsupported, "preview the restore of "+t.Source, string(c.Kind), "", "this component cannot tell what differs")
	}
	err = c.reading(ctx, t, func(from fs.FS) (err error) {
		differs, err = previewer.Preview(ctx, t.job, from)
		return err
	})
	differs.Compared = summary(differs.Compared)
	return differs, err
}

// reading reads the part of a backup that nobody deletes meanwhile (S29).
func (c *Component) reading(ctx context.Context, t task, read func(from fs.FS) error) error {
	what := "a restore of "
	if remora.IsDrill(t.Run) {
		what = "a drill of "
	}
	end, err := c.Store.Lease(ctx, t.From, t.Backup, t.Run, what+t.Source)
	if err != nil {
		return err
	}
	from, err := c.Store.Part(ctx, t.From, t.Backup, c.Kind)
	if err == nil {
		err = read(from)
	}
	return end(ctx, err)
}

func (c *Component) prepare(ctx context.Context, t task) (done struct{}, err error) {
	if p, ok := t.Component.(remora.Preparer); ok {
		t.Turn.Report = t.job.Report
		err = p.Prepare(ctx, t.Turn)
	}
	return done, err
}

func (c *Component) turn(ctx context.Context, t task) (done struct{}, err error) {
	t.Turn.Report = t.job.Report
	return done, t.Switch(ctx, t.Turn)
}

func (c *Component) discard(ctx context.Context, t task) (done struct{}, err error) {
	t.job.Seq = t.Turn.Seq
	return done, t.Discard(ctx, t.job, t.HeldBy)
}

func (c *Component) leftovers(ctx context.Context, t task) ([]remora.Leftover, error) {
	return t.Leftovers(ctx)
}

// NoSuchComponent is the problem of a source that has no component of a kind.
func NoSuchComponent(source string, kind remora.Kind) error {
	return remora.Fail(remora.Invalid, "find the "+string(kind)+" of "+source, "source "+source,
		"Add it to the source in remora.yaml, or leave it out.", "%w", errNoComponent)
}

var errNoComponent = errors.New("none is configured")

// The lists in results are for people, who read the first few; a history must stay small.

func few(list []string) []string {
	const enough = 500 // bytes of each
	return remora.Each(list[:min(len(list), remora.MaxDifferences)], func(text string) string { return remora.Cut(remora.OneLine(text), enough) })
}

func summary(s remora.Summary) remora.Summary {
	s.Warnings = few(s.Warnings)
	return s
}

func bounded(e remora.Estimate) remora.Estimate {
	e.Summary, e.Warnings = summary(e.Summary), few(e.Warnings)
	const lines = 200 // one for each table or directory
	e.Replaces = e.Replaces[:min(len(e.Replaces), lines)]
	return e
}
