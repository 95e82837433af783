package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// Overview is how things stand.
type Overview struct {
	// Sentence says it all in one line.
	Sentence string `json:"summary"`
	// Away says why Temporal could not be asked; what runs is unknown then. Empty when it answered.
	Away string `json:"away,omitempty"`
	// Worker tells whether somebody is there to do the work.
	Worker  bool           `json:"worker"`
	Sources []SourceStatus `json:"sources"`
}

// SourceStatus is how a source stands.
type SourceStatus struct {
	Source string `json:"source"`
	// Newest is the newest good backup that somebody or a schedule asked for; nil when there is none.
	Newest *remora.Backup `json:"newest,omitempty"`
	// Last is the newest such run, good or not.
	Last *remora.Backup `json:"last,omitempty"`
	// FailedSince counts the runs that failed since Newest.
	FailedSince int `json:"failed_since"`
	// Running is what is at work on it now.
	Running *Running `json:"running,omitempty"`
	// Person says what Running waits for somebody to put right.
	Person string `json:"person,omitempty"`
	// Window is its restore whose undo window is open.
	Window *remora.Restore `json:"window,omitempty"`
}

// Status tells how the sources stand. When Temporal does not answer it tells what the repository knows, and says so
// in Overview.Away.
func (c *Control) Status(ctx context.Context, sources []string) (Overview, error) {
	var o Overview
	if err := c.Reach(ctx); err != nil {
		if ctx.Err() != nil {
			return o, ctx.Err()
		}
		o.Away = err.Error()
	} else {
		o.Worker = c.HasWorker(ctx)
	}
	for _, name := range sources {
		s, err := c.sourceStatus(ctx, name, o.Away == "")
		if err != nil {
			return o, err
		}
		o.Sources = append(o.Sources, s)
	}
	o.Sentence = sentence(o, c.cfg.Now())
	return o, nil
}

func (c *Control) sourceStatus(ctx context.Context, source string, reached bool) (SourceStatus, error) {
	s := SourceStatus{Source: source}
	if err := c.backupsOf(ctx, &s); err != nil {
		return s, err
	}
	restores, err := c.repository.Restores(ctx, source)
	if err != nil {
		return s, err
	}
	for i := range restores {
		if restores[i].Outcome.Open() && s.Window == nil {
			s.Window = &restores[i]
		}
	}
	if !reached {
		return s, nil
	}
	return s, c.runningOf(ctx, &s)
}

// recent bounds how many runs are looked through for the last ones.
const recent = 500

func (c *Control) backupsOf(ctx context.Context, s *SourceStatus) error {
	newest, err := c.repository.Find(ctx, "latest", s.Source)
	switch {
	case err == nil:
		s.Newest = &newest
	case remora.KindOf(err) != remora.NotFound:
		return err
	}
	filter := repository.Filter{Source: s.Source, Limit: recent}
	if s.Newest != nil {
		filter.Since = s.Newest.Started
	}
	runs, err := c.repository.List(ctx, filter)
	if err != nil {
		return err
	}
	for i := range runs {
		b := &runs[i]
		if b.Purpose != remora.Regular {
			continue
		}
		if s.Last == nil {
			s.Last = b
		}
		if b.Status == remora.Failed || b.Status == remora.Corrupted {
			s.FailedSince++
		}
	}
	return nil
}

// runningOf asks Temporal what is at work, and what a restore last said of itself.
func (c *Control) runningOf(ctx context.Context, s *SourceStatus) error {
	l, err := c.active(ctx, s.Source)
	switch {
	case err == nil:
		r := c.runningTop(ctx, s.Source, l)
		s.Running = &r
		s.Person = c.waitsForPerson(ctx, c.childOf(ctx, l))
	case !errors.Is(err, errNoRun):
		return c.asked("look for what is running", s.Source, err)
	}
	restore, err := c.glance(ctx, remora.RestoreLane(s.Source), "")
	if err != nil || !restore.open {
		if err == nil || errors.Is(err, errNoRun) {
			s.Window = nil
			return nil
		}
		return c.asked("look at the restore", s.Source, err)
	}
	record, err := c.recordOf(ctx, restore)
	if err != nil {
		return c.asked("look at the restore", s.Source, err)
	}
	if s.Window = nil; record.Outcome.Open() {
		s.Window = &record
	}
	return nil
}

// sentence is the one line that somebody reads who reads no more.
func sentence(o Overview, now time.Time) string {
	if len(o.Sources) == 0 {
		return "No source is configured yet."
	}
	var needy []string
	var oldest time.Time
	for _, s := range o.Sources {
		if why := s.Trouble(); why != "" {
			needy = append(needy, s.Source+" "+why)
			continue
		}
		if oldest.IsZero() || s.Newest.Started.Before(oldest) {
			oldest = s.Newest.Started
		}
	}
	var b strings.Builder
	switch {
	case len(needy) > 0 && len(o.Sources) == 1:
		fmt.Fprintf(&b, "%s.", needy[0])
	case len(needy) > 0:
		fmt.Fprintf(&b, "%d of %d sources need a look: %s.", len(needy), len(o.Sources), strings.Join(needy, "; "))
	case len(o.Sources) == 1:
		fmt.Fprintf(&b, "%s has a good backup of %s ago.", o.Sources[0].Source, Span(now.Sub(oldest)))
	default:
		fmt.Fprintf(&b, "All %d sources have a good backup; the oldest is of %s ago.", len(o.Sources), Span(now.Sub(oldest)))
	}
	switch {
	case o.Away != "":
		b.WriteString(" Temporal does not answer, so nothing runs or can be started.")
	case !o.Worker:
		b.WriteString(" No worker is running, so nothing moves: `remora up` or remora-worker.")
	}
	return b.String()
}

// Trouble says in a few words what a person should look at; empty when all is well.
func (s SourceStatus) Trouble() string {
	switch {
	case s.Person != "":
		return "has a run that waits for a person"
	case s.Window != nil && s.Window.Problem != "":
		return "has a restore that needs a look"
	case s.Newest == nil && s.FailedSince > 0:
		return "has no good backup, and its last run failed"
	case s.Newest == nil:
		return "has no backup yet"
	case s.FailedSince == 1:
		return "failed to back up since its last good one"
	case s.FailedSince > 1:
		return fmt.Sprintf("failed %d times to back up since its last good one", s.FailedSince)
	default:
		return ""
	}
}
