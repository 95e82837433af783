package control

import (
	"context"
	"fmt"
	"slices"
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
	// Behind are the copies of the repository that lack its newest good backups.
	Behind []Behind `json:"behind,omitempty"`
	// Running is what is at work on it now.
	Running *Running `json:"running,omitempty"`
	// Person says what Running waits for somebody to put right.
	Person string `json:"person,omitempty"`
	// Window is its restore whose undo window is open.
	Window *remora.Restore `json:"window,omitempty"`
}

// Behind is a copy that lacks the newest good backups of a source: how many, and since when.
type Behind struct {
	Copy    string    `json:"copy"`
	Backups int       `json:"backups"`
	Since   time.Time `json:"since"`
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
	if reached {
		return s, c.runningOf(ctx, &s)
	}
	restores, err := c.repository.Restores(ctx, source)
	for _, r := range restores {
		if r.Outcome.Open() && s.Window == nil {
			s.Window = &r
		}
	}
	return s, err
}

// runningOf asks Temporal what is at work, and what a restore last said of itself.
func (c *Control) runningOf(ctx context.Context, s *SourceStatus) error {
	now, err := c.stateOf(ctx, "look for what is running", s.Source)
	if err != nil {
		return err
	}
	if now.top().open {
		r := now.running()
		s.Running, s.Person = &r, c.waitsForPerson(ctx, now.work())
	}
	if now.windowOpen() {
		s.Window = &now.record
	}
	left, err := c.lost(ctx, now)
	if left != nil && !now.lane.open { // what is at work may be its own child, which settles it
		left.Problem = "no workflow looks after the restore " + left.ID + " any more: it was terminated, or Temporal was lost"
		left.Hint = fmt.Sprintf("go back with `remora rollback %[1]s`, or keep what is live with `remora accept %[1]s`; either takes it over first", s.Source)
		s.Window = left
	}
	return err
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
	if err := c.behind(ctx, s); err != nil {
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

func (c *Control) behind(ctx context.Context, s *SourceStatus) error {
	if len(c.cfg.Copies) == 0 {
		return nil
	}
	good, err := c.repository.List(ctx, repository.Filter{Source: s.Source, Status: remora.Completed, Limit: recent})
	for _, name := range c.cfg.Copies {
		b := Behind{Copy: name}
		for _, g := range good { // newest first
			if slices.Contains(g.Copies, name) {
				break
			}
			if g.Purpose == remora.Regular {
				b.Backups, b.Since = b.Backups+1, g.Started
			}
		}
		if b.Backups > 0 {
			s.Behind = append(s.Behind, b)
		}
	}
	return err
}

// sentence is the one line that somebody reads who reads no more.
func sentence(o Overview, now time.Time) string {
	said := sourcesSentence(o.Sources, now)
	switch {
	case len(o.Sources) == 0:
	case o.Away != "":
		said += " Temporal does not answer, so nothing runs or can be started."
	case !o.Worker:
		said += " No worker is running, so nothing moves: `remora up` or remora-worker."
	}
	return said
}

// sourcesSentence names the sources that need a look, those that need it most first, or says that all is well.
func sourcesSentence(sources []SourceStatus, now time.Time) string {
	var needy []SourceStatus
	var oldest time.Time
	for _, s := range sources {
		if _, why := s.trouble(); why != "" {
			needy = append(needy, s)
		} else if oldest.IsZero() || s.Newest.Started.Before(oldest) {
			oldest = s.Newest.Started
		}
	}
	slices.SortStableFunc(needy, func(a, b SourceStatus) int {
		rank, _ := a.trouble()
		other, _ := b.trouble()
		return rank - other
	})
	switch all := len(sources); {
	case all == 0:
		return "No source is configured yet."
	case len(needy) > 0 && all == 1:
		return named(needy) + "."
	case len(needy) > 0:
		return fmt.Sprintf("%d of %d sources need a look: %s.", len(needy), all, named(needy))
	case all == 1:
		return fmt.Sprintf("%s has a good backup of %s ago.", sources[0].Source, Span(now.Sub(oldest)))
	default:
		return fmt.Sprintf("All %d sources have a good backup; the oldest is of %s ago.", all, Span(now.Sub(oldest)))
	}
}

// named says what is the matter with the first few.
func named(needy []SourceStatus) string {
	const most = 3
	var words []string
	for _, s := range needy[:min(most, len(needy))] {
		_, why := s.trouble()
		words = append(words, s.Source+" "+why)
	}
	if more := len(needy) - most; more > 0 {
		words = append(words, fmt.Sprintf("%d more", more))
	}
	return strings.Join(words, "; ")
}

// trouble says in a few words what a person should look at, and its rank: the lower, the more urgent. It is empty when
// all is well.
func (s SourceStatus) trouble() (int, string) {
	switch {
	case s.Person != "":
		return 1, "has a run that waits for a person"
	case s.Window != nil && s.Window.Problem != "":
		return 2, "has a restore that needs a look"
	case s.Newest == nil && s.FailedSince > 0:
		return 3, "has no good backup, and its last run failed"
	case s.Newest == nil:
		return 4, "has no backup yet"
	case s.FailedSince == 1:
		return 5, "failed to back up since its last good one"
	case s.FailedSince > 1:
		return 5, fmt.Sprintf("failed %d times to back up since its last good one", s.FailedSince)
	default:
		return 0, ""
	}
}
