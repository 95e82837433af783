package activities

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// cleaner plays the steps of a Retention in a real repository.
type cleaner struct {
	t      *testing.T
	l      *repository.Locations
	policy remora.KeepPolicy
	// asked is called for each backup that is decided about.
	asked func()
}

func (c *cleaner) call(ctx context.Context, name string, in, out any) error {
	suite := &testsuite.WorkflowTestSuite{}
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{BackgroundActivityContext: ctx})
	(&Retention{Locations: c.l, Keep: func(string, string) remora.KeepPolicy {
		if c.asked != nil {
			c.asked()
		}
		return c.policy
	}}).Register(env)
	value, err := env.ExecuteActivity(name, in)
	if err == nil && out != nil {
		err = value.Get(out)
	}
	return err
}

func (c *cleaner) plan(force string) (p remora.Planned) {
	c.t.Helper()
	require.NoError(c.t, c.call(c.t.Context(), remora.PlanRetentionActivity, remora.RetentionRequest{Force: force}, &p))
	return p
}

func (c *cleaner) delete(ctx context.Context, p remora.Planned) (page remora.DeletedPage, err error) {
	return page, c.call(ctx, remora.DeleteBackupsActivity, remora.DeleteInput{Hash: p.Hash, Limit: 50}, &page)
}

// whole lists the backups that are there, each read in full.
func (c *cleaner) whole() (ids []string) {
	c.t.Helper()
	r, err := c.l.At(c.t.Context(), "")
	require.NoError(c.t, err)
	all, err := r.List(c.t.Context(), repository.Filter{})
	require.NoError(c.t, err)
	for _, b := range all {
		require.Equal(c.t, remora.Completed, b.Status)
		tree, err := r.Tree(c.t.Context(), b.ID)
		require.NoError(c.t, err)
		require.NoError(c.t, fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				_, err = fs.ReadFile(tree, path)
			}
			return err
		}))
		ids = append(ids, b.ID)
	}
	return ids
}

func newCleaner(t *testing.T, backups int) (*cleaner, []string) {
	c := &cleaner{t: t, l: locations(t), policy: remora.KeepPolicy{Last: backups}}
	ids := make([]string, backups)
	for i := range ids { // the newest first
		ids[i] = backedUp(t, c.l, fmt.Sprint("run-", i), i)
	}
	return c, ids
}

// S29: what is held or read between the plan and the deletion stays.
func TestS29AHoldAndALeaseCountUpToTheLastMoment(t *testing.T) {
	c, ids := newCleaner(t, 6)
	r, err := c.l.At(t.Context(), "")
	require.NoError(t, err)
	c.policy.Last = 3
	planned := c.plan("")
	require.Equal(t, remora.Planned{Hash: planned.Hash, Keep: 3, Delete: 3, Bytes: planned.Bytes}, planned)
	require.Positive(t, planned.Bytes)
	require.NoError(t, r.Hold(t.Context(), remora.Hold{Backup: ids[5], By: "alice"}))
	lease, err := r.Lease(t.Context(), ids[4], "run", "a drill of shop")
	require.NoError(t, err)
	page, err := c.delete(t.Context(), planned)
	require.NoError(t, err)
	require.Equal(t, 1, page.Deleted)
	require.Equal(t, []string{ids[0], ids[1], ids[2], ids[4], ids[5]}, c.whole())

	require.NoError(t, lease.End(t.Context(), nil))
	require.NoError(t, r.Release(t.Context(), ids[5]))
	_, err = c.delete(t.Context(), remora.Planned{Hash: "another"})
	require.Equal(t, string(remora.Changed), errorType(err), "only the plan that was made is carried out")
	planned = c.plan("")
	page, err = c.delete(t.Context(), planned)
	require.NoError(t, err)
	require.Equal(t, 2, page.Deleted)
	require.Equal(t, ids[:3], c.whole())
	var done remora.RetentionResult
	for range 2 { // also when it is repeated, nothing is promised twice
		require.NoError(t, c.call(t.Context(), remora.ReclaimActivity, remora.ReclaimInput{Run: "run", Bytes: planned.Bytes}, &done))
		require.Equal(t, planned.Bytes, done.Owed)
		require.Zero(t, done.Freed, "what is young stays, whoever deleted it")
	}
	require.Equal(t, ids[:3], c.whole())
}

// F43: a crash between any two deletions leaves whole backups, and the next attempt finishes.
func TestACrashBetweenAnyTwoDeletionsConverges(t *testing.T) {
	const all, kept = 4, 2
	for cut := range all - kept + 1 {
		t.Run(fmt.Sprint("after ", cut), func(t *testing.T) {
			t.Parallel()
			c, ids := newCleaner(t, all)
			c.policy.Last = kept
			planned := c.plan("")
			ctx, crash := context.WithCancel(t.Context())
			asked := 0
			for i := range cut + 1 {
				asked += all - i // before a deletion it is decided about all that there is
			}
			c.asked = func() {
				if asked--; asked == 0 {
					crash()
				}
			}
			_, err := c.delete(ctx, planned)
			require.Equal(t, cut < all-kept, err != nil, "%v", err)
			c.asked = nil
			require.Equal(t, ids[:all-cut], c.whole())
			page, err := c.delete(t.Context(), planned)
			require.NoError(t, err)
			require.Equal(t, all-kept, page.Deleted)
			require.Equal(t, ids[:kept], c.whole())
			require.Zero(t, c.plan("").Delete)
			crash()
		})
	}
}

// F42: a policy that was tightened to one is refused, and forced by the hash of what was seen alone.
func TestATightenedPolicyNeedsItsHash(t *testing.T) {
	c, ids := newCleaner(t, 4)
	c.policy.Last = 1
	planned := c.plan("")
	require.Zero(t, planned.Delete)
	require.Equal(t, []string{"3 of the 4 good backups of shop would be deleted at once"}, planned.Refused)
	page, err := c.delete(t.Context(), planned)
	require.NoError(t, err)
	require.Zero(t, page.Deleted)
	seen := planned.Hash
	newer := backedUp(t, c.l, "run-newer", -1)
	err = c.call(t.Context(), remora.PlanRetentionActivity, remora.RetentionRequest{Force: seen}, nil)
	require.Equal(t, string(remora.Refused), errorType(err))
	require.ErrorContains(t, err, "nothing was deleted")
	require.Equal(t, append([]string{newer}, ids...), c.whole())
	planned = c.plan(c.plan("").Hash)
	page, err = c.delete(t.Context(), planned)
	require.NoError(t, err)
	require.Equal(t, 4, page.Deleted)
	require.Equal(t, []string{newer}, c.whole())
}
