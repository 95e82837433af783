package remora

import "time"

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

// NotOurs is the problem of an installation that is not the owner.
func (o Owner) NotOurs(op, where string) *Problem {
	return Fail(Fenced, op, where, "where that one is gone for good, take the repository over with: remora repository adopt",
		"it belongs to the installation on %s, since %s", o.Host, o.Since.UTC().Format(time.DateTime))
}
