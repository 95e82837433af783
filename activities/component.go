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
	for verb, step := range map[string]any{
		remora.PreflightVerb: c.preflight,
		remora.CaptureVerb:   c.capture,
		remora.StageVerb:     c.stage,
		remora.CompareVerb:   c.compare,
		remora.SwitchVerb:    c.turn,
		remora.DiscardVerb:   c.discard,
		remora.LeftoversVerb: c.leftovers,
	} {
		register(to, c.Kind.Activity(verb), step)
	}
}

// on runs a step on the component of a source.
func on[T any](ctx context.Context, c *Component, verb, source string, stalls bool, do func(context.Context, remora.Component, reporter) (T, error)) (T, error) {
	op := fmt.Sprintf("%s %s of %s", verb, c.Kind, source)
	return run(ctx, c.Watch, op, stalls, func(ctx context.Context, report reporter) (none T, err error) {
		component, err := c.Of(source)
		if err != nil {
			return none, err
		}
		return do(ctx, component, report)
	})
}

func (c *Component) preflight(ctx context.Context, in remora.PreflightInput) (remora.Estimate, error) {
	return on(ctx, c, "check", in.Source, false, func(ctx context.Context, component remora.Component, report reporter) (found remora.Estimate, err error) {
		var intent remora.Intent
		if in.Backup != "" {
			if intent.From, err = c.Store.Part(ctx, in.From, in.Backup, c.Kind); err != nil {
				return found, err
			}
		}
		found, err = component.Preflight(ctx, job(in.Run, report), intent)
		if !intent.Restore() && !in.Partial {
			nearly(&found, c.MaxBytes)
		}
		return bounded(found), err
	})
}

// capture writes one part. A part that is not finished is aborted, so that nothing of it is ever committed.
func (c *Component) capture(ctx context.Context, in remora.CaptureInput) (remora.PartRef, error) {
	verb := "dump"
	if c.Kind != remora.Database {
		verb = "archive"
	}
	return on(ctx, c, verb, in.Source, true, func(ctx context.Context, component remora.Component, report reporter) (remora.PartRef, error) {
		ref := remora.PartRef{Kind: c.Kind, Started: time.Now().UTC()}
		to, err := c.Store.Begin(ctx, Part{Source: in.Source, Run: in.Run, Backup: in.Backup, Kind: c.Kind, ForRestore: in.Of != remora.Subject{}})
		if err != nil {
			return ref, err
		}
		if ref.Summary, err = component.Capture(ctx, job(in.Run, report), in.Of, limit(to, c.MaxBytes, in.Of)); err != nil {
			return ref, c.abort(ctx, to, err)
		}
		ref.Summary = summary(ref.Summary)
		if ref.Root, ref.Added, err = to.Finish(ctx); err != nil {
			return ref, c.abort(ctx, to, err)
		}
		ref.Ended = time.Now().UTC()
		return ref, nil
	})
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

func (c *Component) stage(ctx context.Context, in remora.StageInput) (remora.Summary, error) {
	return on(ctx, c, "stage", in.Source, true, func(ctx context.Context, component remora.Component, report reporter) (remora.Summary, error) {
		if err := mayBegin(ctx, c.Store, in.Source, in.Run); err != nil {
			return remora.Summary{}, err
		}
		var staged remora.Summary
		err := c.reading(ctx, in, func(from fs.FS) (err error) {
			staged, err = component.Stage(ctx, job(in.Run, report), from)
			return err
		})
		return summary(staged), err
	})
}

// reading reads the part of a backup that nobody deletes meanwhile (S29).
func (c *Component) reading(ctx context.Context, in remora.StageInput, read func(from fs.FS) error) error {
	end, err := c.Store.Lease(ctx, in.From, in.Backup, in.Run, "a restore of "+in.Source)
	if err != nil {
		return err
	}
	from, err := c.Store.Part(ctx, in.From, in.Backup, c.Kind)
	if err == nil {
		err = read(from)
	}
	return end(ctx, err)
}

func (c *Component) compare(ctx context.Context, in remora.StageInput) (remora.Diff, error) {
	return on(ctx, c, "compare staged", in.Source, true, func(ctx context.Context, component remora.Component, report reporter) (remora.Diff, error) {
		var diff remora.Diff
		err := c.reading(ctx, in, func(from fs.FS) (err error) {
			diff, err = component.Compare(ctx, job(in.Run, report), from)
			return err
		})
		diff.Compared, diff.Differences = summary(diff.Compared), few(diff.Differences)
		return diff, err
	})
}

func (c *Component) turn(ctx context.Context, in remora.SwitchInput) error {
	_, err := on(ctx, c, "switch", in.Source, false, func(ctx context.Context, component remora.Component, _ reporter) (struct{}, error) {
		return struct{}{}, component.Switch(ctx, in.Turn)
	})
	return err
}

func (c *Component) discard(ctx context.Context, in remora.DiscardInput) error {
	_, err := on(ctx, c, "discard put-away", in.Source, false, func(ctx context.Context, component remora.Component, report reporter) (struct{}, error) {
		return struct{}{}, component.Discard(ctx, job(in.Run, report), in.HeldBy)
	})
	return err
}

func (c *Component) leftovers(ctx context.Context, in remora.LeftoversInput) ([]remora.Leftover, error) {
	if _, err := c.Of(in.Source); errors.Is(err, errNoComponent) {
		return nil, nil // what is not there has left nothing
	}
	return on(ctx, c, "look at journal of", in.Source, false, func(ctx context.Context, component remora.Component, _ reporter) ([]remora.Leftover, error) {
		return component.Leftovers(ctx)
	})
}

func job(run string, report reporter) remora.Job {
	return remora.Job{Run: run, Report: report}
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
	var kept []string
	for _, text := range list[:min(len(list), remora.MaxDifferences)] {
		kept = append(kept, remora.Cut(remora.OneLine(text), enough))
	}
	return kept
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
