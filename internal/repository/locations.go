package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// Locations are a repository and its copies. Each is opened when it is first needed, and again when it comes back: one
// that is away stops nobody who does not need it. They are safe for concurrent use.
type Locations struct {
	all   map[string]*location // the repository under ""
	names []string             // of the copies, in the order in which they are looked into
}

type location struct {
	name  string
	cfg   Config
	mu    sync.Mutex
	open  *Repository
	err   error // why it could not be opened at tried; it is not tried again at once
	tried time.Time
}

// again is how long after its failure a location is tried again.
const again = 10 * time.Second

// NewLocations opens nothing. The copies are looked into in the order of their names.
func NewLocations(main Config, copies map[string]Config) *Locations {
	l := &Locations{all: map[string]*location{"": {cfg: main}}, names: slices.Sorted(maps.Keys(copies))}
	for name, cfg := range copies {
		l.all[name] = &location{name: name, cfg: cfg}
	}
	return l
}

// Names lists the copies.
func (l *Locations) Names() []string { return l.names }

// At opens a copy, or the repository where no name is given.
func (l *Locations) At(ctx context.Context, name string) (*Repository, error) {
	at := l.all[name]
	if at == nil {
		return nil, remora.Fail(remora.NotFound, openCopyOp, quote(name), "see copies: in the configuration where this runs", "no copy of this name is configured here")
	}
	at.mu.Lock()
	defer at.mu.Unlock()
	if at.err != nil && time.Since(at.tried) < again {
		return nil, at.err
	}
	began := time.Now()
	err := l.soon(ctx, at)
	at.err = nil
	if err == nil {
		return at.open, nil
	}
	err = atCopy(name, err)
	if ctx.Err() == nil && (at.open == nil || time.Since(began) > time.Second) {
		at.err, at.tried = err, time.Now()
	}
	return nil, err
}

// openTime is how long a location may take to answer where there is another one to look into.
const openTime = 20 * time.Second

// soon opens a location, or sees that it is still there.
func (l *Locations) soon(ctx context.Context, at *location) error {
	soon := ctx
	if len(l.names) > 0 {
		var cancel context.CancelFunc
		soon, cancel = context.WithTimeout(ctx, openTime)
		defer cancel()
	}
	var err error
	if at.open != nil {
		err = at.open.present(soon)
	} else if r, failed := Open(soon, at.cfg); failed != nil {
		err = failed
	} else if err = l.ours(ctx, r, at.name); err == nil {
		at.open = r
	}
	if err != nil && soon.Err() != nil && ctx.Err() == nil {
		err = remora.Fail(remora.Unavailable, "open the repository", at.cfg.where(), "see that its storage answers", "no answer within %s", openTime)
	}
	return err
}

const openCopyOp = "open the copy"

// atCopy says which copy is meant.
func atCopy(name string, err error) error {
	p, ok := errors.AsType[*remora.Problem](err)
	if name == "" || !ok {
		return err
	}
	named := *p
	named.Op = openCopyOp + " " + name
	if p.Kind == remora.NotFound {
		named.Hint = "see that its disk is mounted; a new one is made with: remora repository create " + name
	}
	return &named
}

// ours refuses the repository of another installation, which has backups of its own and its own idea of what to keep.
func (l *Locations) ours(ctx context.Context, r *Repository, name string) error {
	if name == "" {
		return nil
	}
	main, err := l.At(ctx, "")
	if err != nil || main.installation == r.installation {
		return nil //nolint:nilerr // the copy is looked into because the repository is away
	}
	return errors.Join(remora.Fail(remora.Invalid, openCopyOp, r.Where(),
		"make one in another place with: remora repository create "+name, "the repository there belongs to another installation"), r.Close(ctx))
}

// Home is the repository, or the first of the copies that can be opened when the repository cannot: then name is that
// of the copy, and away says why.
func (l *Locations) Home(ctx context.Context) (r *Repository, name string, away error) {
	r, away = l.At(ctx, "")
	if away == nil || ctx.Err() != nil {
		return r, "", away
	}
	for _, name := range l.names {
		if r, err := l.At(ctx, name); err == nil {
			return r, name, away
		}
	}
	return nil, "", away
}

// Holding is where a backup is: in the repository, or in the first copy that holds it.
func (l *Locations) Holding(ctx context.Context, id string) (*Repository, error) {
	var first error
	for _, name := range append([]string{""}, l.names...) {
		r, err := l.At(ctx, name)
		if err == nil {
			_, err = r.exactly(ctx, findOp, id)
		}
		if err == nil || ctx.Err() != nil {
			return r, err
		}
		first = cmp.Or(first, err)
	}
	return nil, first
}

// Find finds a backup as Repository.Find does: in the repository; and where that cannot be opened, does not hold it or
// holds it damaged, in the copy that has the newest completed one. from, if given, is the only copy to look into.
func (l *Locations) Find(ctx context.Context, ref, source, from string) (remora.Backup, error) {
	if from != "" {
		b, err := l.findIn(ctx, from, ref, source)
		b.Because = "it was asked for"
		return b, err
	}
	_, away := l.At(ctx, "")
	main, err := l.findIn(ctx, "", ref, source)
	damaged := err == nil && main.Status == remora.Corrupted
	if ctx.Err() != nil || err == nil && !damaged || remora.KindOf(err) == remora.Invalid && away == nil {
		return main, err
	}
	var best remora.Backup
	for _, name := range l.names {
		if b, err := l.findIn(ctx, name, ref, source); err == nil && b.Status == remora.Completed && b.Started.After(best.Started) {
			best = b
		}
	}
	if best.ID == "" {
		return main, err
	}
	switch path := l.all[""].cfg.where(); {
	case damaged:
		best.Because = "in the repository at " + path + " it is damaged"
	case away != nil:
		best.Because = fmt.Sprintf("the repository at %s cannot be opened: %s", path, why(away))
	case remora.KindOf(err) == remora.NotFound:
		best.Because = "the repository at " + path + " does not hold it"
	default:
		best.Because = fmt.Sprintf("the repository at %s cannot be read: %s", path, why(err))
	}
	return best, nil
}

func (l *Locations) findIn(ctx context.Context, name, ref, source string) (remora.Backup, error) {
	r, err := l.At(ctx, name)
	if err != nil {
		return remora.Backup{}, err
	}
	b, err := r.Find(ctx, ref, source)
	b.Location = name
	return b, err
}

// why is the reason of a problem, without its subject.
func why(err error) string {
	if p := remora.ProblemOf("", err); p.Err != nil {
		return remora.OneLine(p.Err.Error())
	}
	return remora.OneLine(err.Error())
}

// Close releases what was opened.
func (l *Locations) Close(ctx context.Context) error {
	var errs []error
	for _, at := range l.all {
		at.mu.Lock()
		if at.open != nil {
			errs = append(errs, at.open.Close(ctx))
			at.open = nil
		}
		at.mu.Unlock()
	}
	return errors.Join(errs...)
}
