package repository

import (
	"cmp"
	"context"
	"crypto/rand"
	"os"
	"time"
)

// Owner is the installation whose runs may act on a repository, and on the sources that it protects (S11): the workers of one
// namespace of Temporal, where lanes keep its runs apart.
type Owner struct {
	// ID is known to each machine that worked for the owner, and tells it when Temporal alone was lost.
	ID string `json:"id"`
	// Namespace is the id that Temporal gave the namespace, not its name.
	Namespace string `json:"namespace"`
	// Host is where it took the repository over, Since when, and By who did; By is empty where nobody had to. Gone is what
	// was said of the owner before.
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
	By    string    `json:"by,omitempty"`
	Gone  string    `json:"gone,omitempty"`
}

// NewOwner is an installation that begins here and now; id is known where Temporal alone was lost, else empty.
func NewOwner(id, namespace string, now time.Time) Owner {
	host, _ := os.Hostname() // it only tells machines apart
	return Owner{ID: cmp.Or(id, rand.Text()), Namespace: namespace, Host: cmp.Or(host, "an unnamed machine"), Since: now.UTC()}
}

// Owner tells whose the repository is; its zero value, that it is nobody's.
func (r *Repository) Owner(ctx context.Context) (Owner, error) {
	found, err := owners.list(ctx, r)
	return found[owners.kind], err
}

// SetOwner puts an owner in the place of the one before.
func (r *Repository) SetOwner(ctx context.Context, o Owner) error {
	return owners.put(ctx, r, owners.kind, o)
}

// LastSign is when the owner last wrote: a run that it began, or what its monitor saw, which is written every hour.
func (r *Repository) LastSign(ctx context.Context) (time.Time, error) {
	seen, err := r.MonitorState(ctx)
	if err != nil {
		return seen.At, err
	}
	runs, err := r.List(ctx, Filter{Limit: 1})
	if len(runs) > 0 && runs[0].Started.After(seen.At) {
		return runs[0].Started, err
	}
	return seen.At, err
}
