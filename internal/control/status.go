package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/internal/monitor"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/schedule"
)

// Overview is how things stand.
type Overview struct {
	// Sentence says it all in one line.
	Sentence string `json:"summary"`
	// Away says why Temporal could not be asked; what runs is unknown then. Empty when it answered.
	Away string `json:"away,omitempty"`
	// Worker tells whether somebody is there to do the work.
	Worker bool `json:"worker"`
	// Sources begin with what needs somebody most.
	Sources []SourceStatus `json:"sources"`
	// Monitored is when the monitor last wrote down what it saw, which it does every hour; zero when it never did.
	Monitored time.Time `json:"monitored,omitzero"`
	// RecoveryTried is when the recovery copy of the repository's password was tried; zero when that never was, as it is now.
	RecoveryTried time.Time `json:"recovery_tried,omitzero"`
	// Alerts are the problems that it found and that are about no source alone.
	Alerts []remora.Alert `json:"alerts,omitempty"`
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
	// Objective is how old the newest good backup may be, in nanoseconds, where something is promised, and Overdue how old
	// that of Late is where it is older: a component, of which the objective is meant then.
	Objective time.Duration `json:"objective,omitempty"`
	Overdue   time.Duration `json:"overdue,omitempty"`
	Late      remora.Kind   `json:"late,omitempty"`
	// Proof is the last drill that proved a backup; nil when there was none.
	Proof *remora.Proof `json:"proof,omitempty"`
	// Stored is what its backups have added to the repository, in bytes.
	Stored int64 `json:"stored"`
	// Next is when a schedule begins the next run; zero when none does, or nobody knows.
	Next time.Time `json:"next,omitzero"`
	// Alerts are the problems that the monitor found, but for those that are told here anyway.
	Alerts []remora.Alert `json:"alerts,omitempty"`
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
	us, err := c.Domain(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return o, ctx.Err()
		}
		o.Away = err.Error()
	} else {
		o.Worker = c.HasWorker(ctx)
	}
	owner, err := c.repository.Owner(ctx)
	if err != nil {
		return o, err
	}
	if o.Away == "" && owner.ID != "" && owner.Namespace != us {
		o.Alerts = append(o.Alerts, remora.Alert{Key: "owner", Since: owner.Since, Problem: "the repository belongs to the installation on " + owner.Host + ", and nothing is done here", Hint: "where that one is gone for good, take it over with: remora repository adopt"})
	}
	watched, err := c.repository.MonitorState(ctx)
	if err != nil {
		return o, err
	}
	o.Monitored = watched.At
	if o.RecoveryTried, err = c.repository.RecoveryTried(ctx); err != nil {
		return o, err
	}
	next := map[string]time.Time{}
	if o.Away == "" {
		next = c.nextRuns(ctx)
	}
	for _, name := range sources {
		s, err := c.sourceStatus(ctx, name, o.Away == "")
		if err != nil {
			return o, err
		}
		s.Next = next[name]
		o.Sources = append(o.Sources, s)
	}
	for _, a := range monitor.Worst(watched.Open()) {
		i := slices.IndexFunc(o.Sources, func(s SourceStatus) bool { return s.Source == a.Source })
		switch what, _, _ := strings.Cut(a.Key, "/"); {
		case a.Source == "":
			o.Alerts = append(o.Alerts, a)
		case i >= 0 && !slices.Contains([]string{"overdue", "failed", "copy", "person"}, what): // which are told as they are now
			o.Sources[i].Alerts = append(o.Sources[i].Alerts, a)
		}
	}
	slices.SortStableFunc(o.Sources, func(a, b SourceStatus) int { return a.rank() - b.rank() })
	o.Sentence = sentence(o, c.cfg.Now())
	return o, nil
}

// nextRuns are when the schedules of sources begin their next runs; empty where Temporal does not say.
func (c *Control) nextRuns(ctx context.Context) map[string]time.Time {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	next := map[string]time.Time{}
	list, err := c.client.ScheduleClient().List(ctx, client.ScheduleListOptions{})
	for err == nil && list.HasNext() {
		var entry *client.ScheduleListEntry
		if entry, err = list.Next(); err != nil || entry.Paused || len(entry.NextActionTimes) == 0 {
			continue
		}
		if parts := strings.Split(entry.ID, "/"); len(parts) == 3 && parts[0] == "schedule" {
			if at, known := next[parts[1]]; !known || entry.NextActionTimes[0].Before(at) {
				next[parts[1]] = entry.NextActionTimes[0]
			}
		}
	}
	return next
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

// backupsOf reads what the repository knows of a source.
func (c *Control) backupsOf(ctx context.Context, s *SourceStatus) error {
	runs, err := c.repository.List(ctx, repository.Filter{Source: s.Source})
	if err != nil {
		return err
	}
	s.Behind = behind(runs, c.cfg.Copies)
	proofs, err := c.repository.Proofs(ctx, s.Source)
	if err != nil {
		return err
	}
	s.Proof = remora.LastProof(proofs)
	records, err := c.repository.Schedules(ctx)
	if err != nil {
		return err
	}
	for _, e := range c.cfg.Expected {
		if e.Source != s.Source {
			continue
		}
		e.Schedules = schedule.Of(e.Source, e.Schedules, records)
		for _, kind := range e.Kinds {
			if o := e.Objective(kind); o > 0 && (s.Objective == 0 || o < s.Objective) {
				s.Objective = o
			}
		}
		if late, age, objective := monitor.Overdue(e, runs, c.cfg.Now()); late != "" {
			s.Late, s.Overdue, s.Objective = late, age, objective
		}
	}
	for i := range runs { // newest first
		b := &runs[i]
		s.Stored += b.Added()
		if b.Purpose != remora.Regular || s.Newest != nil {
			continue
		}
		s.Last = cmp.Or(s.Last, b)
		switch b.Status {
		case remora.Completed:
			s.Newest = b
		case remora.Failed, remora.Corrupted:
			s.FailedSince++
		}
	}
	return nil
}

// behind finds the copies that lack the newest good backups.
func behind(newestFirst []remora.Backup, copies []string) (all []Behind) {
	for _, name := range copies {
		b := Behind{Copy: name}
		for _, g := range newestFirst {
			if g.Status == remora.Completed && slices.Contains(g.Copies, name) {
				break
			}
			if g.Status == remora.Completed && g.Purpose == remora.Regular {
				b.Backups, b.Since = b.Backups+1, g.Started
			}
		}
		if b.Backups > 0 {
			all = append(all, b)
		}
	}
	return all
}

// sentence is the one line that somebody reads who reads no more.
func sentence(o Overview, now time.Time) string {
	said := sourcesSentence(o.Sources, now)
	if len(o.Alerts) > 0 {
		said += " Besides, " + o.Alerts[0].Problem + "."
	}
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
	if len(sources) == 0 {
		return "No source is configured yet."
	}
	needy := slices.SortedStableFunc(slices.Values(sources), func(a, b SourceStatus) int { return a.rank() - b.rank() })
	needy = slices.DeleteFunc(needy, func(s SourceStatus) bool { return s.rank() == well })
	if len(needy) == 0 {
		return protected(sources, now)
	}
	switch all := len(sources); {
	case all == 1:
		return named(needy) + "."
	case len(needy) == 1:
		return fmt.Sprintf("1 of %d sources needs a look: %s.", all, named(needy))
	default:
		return fmt.Sprintf("%d of %d sources need a look: %s.", len(needy), all, named(needy))
	}
}

// protected says that all is well, and how old the newest good backups are.
func protected(sources []SourceStatus, now time.Time) string {
	byAge := slices.SortedStableFunc(slices.Values(sources), func(a, b SourceStatus) int { return b.Newest.Started.Compare(a.Newest.Started) })
	newest, oldest := byAge[0], byAge[len(byAge)-1]
	age := func(s SourceStatus) string { return Span(now.Sub(s.Newest.Started)) + " ago" }
	switch all := len(sources); {
	case all == 1:
		return fmt.Sprintf("%s is protected; newest good backup %s.", newest.Source, age(newest))
	case age(newest) == age(oldest):
		return fmt.Sprintf("All %d sources protected; newest good backup %s.", all, age(newest))
	default:
		return fmt.Sprintf("All %d sources protected; newest good backup %s, that of %s %s.", all, age(newest), oldest.Source, age(oldest))
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

// well is the rank of a source that needs nobody.
const well = 8

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
	case s.Late != "":
		of := ""
		if _, holds := s.Newest.Part(s.Late); !holds { // there are newer ones, without it
			of = " of its " + string(s.Late)
		}
		return 5, fmt.Sprintf("has had no good backup%s for %s (objective %s)", of, Span(s.Overdue), Span(s.Objective))
	case s.FailedSince == 1:
		return 6, "failed to back up since its last good one"
	case s.FailedSince > 1:
		return 6, fmt.Sprintf("failed %d times to back up since its last good one", s.FailedSince)
	case len(s.Alerts) > 0:
		return 7, "is protected, but " + s.Alerts[0].Problem
	default:
		return well, ""
	}
}

func (s SourceStatus) rank() int {
	rank, _ := s.trouble()
	return rank
}
