package repository

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/stretchr/testify/require"
)

// F47: a drill that could not be made takes nothing from a backup, one that failed does; both outlive it.
func TestProofsAreRecords(t *testing.T) {
	everywhere(t, func(t *testing.T, r *Repository) {
		m := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"a": noise(1, 100)})
		for i, c := range []struct{ how, of remora.DrillOutcome }{
			{remora.DrillNotMade, ""}, {remora.Proven, remora.Proven}, {remora.DrillNotMade, remora.Proven}, {remora.DrillFailing, remora.DrillFailing}, {remora.Proven, remora.Proven},
		} {
			p := remora.Proof{ID: fmt.Sprint("drill-", i), Source: "shop", Backup: m.ID, Outcome: c.how, Started: m.Started.Add(time.Duration(i) * time.Hour), Took: time.Minute}
			require.NoError(t, r.RecordProof(t.Context(), p))
			require.NoError(t, r.RecordProof(t.Context(), p), "a repeated step")
			b, err := r.Find(t.Context(), m.ID, "")
			require.NoError(t, err)
			require.Equal(t, c.of != "", b.Proof != nil)
			if b.Proof != nil {
				require.Equal(t, c.of, b.Proof.Outcome)
			}
		}
		require.NoError(t, r.RecordProof(t.Context(), remora.Proof{ID: "x", Source: "shop", Backup: "gone", Outcome: remora.Proven}))
		require.NoError(t, r.Delete(t.Context(), m.ID))
		all, err := r.Proofs(t.Context(), "shop")
		require.NoError(t, err)
		require.Len(t, all, 6)
		require.Equal(t, "drill-4", remora.LastProof(remora.DrillsOf("shop", all)).ID)
		require.Empty(t, remora.DrillsOf("blog", all))
	})
}

func TestHoldsAndLeasesAreRecords(t *testing.T) { everywhere(t, testHoldsAndLeasesAreRecords) }

func testHoldsAndLeasesAreRecords(t *testing.T, r *Repository) {
	m := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"a": noise(1, 100)})
	hold := remora.Hold{Backup: m.ID, By: "alice@host", Why: "audit", At: m.Started}
	require.NoError(t, r.Hold(t.Context(), hold))
	hold.Until = m.Started.Add(time.Hour)
	require.NoError(t, r.Hold(t.Context(), hold), "a later one takes its place")
	b, err := r.Find(t.Context(), m.ID, "")
	require.NoError(t, err)
	require.Equal(t, &hold, b.Hold)
	require.NoError(t, r.Release(t.Context(), m.ID))
	require.NoError(t, r.Release(t.Context(), m.ID), "it is released already")
	b, err = r.Find(t.Context(), m.ID, "")
	require.NoError(t, err)
	require.Nil(t, b.Hold)
	requireProblem(t, r.Hold(t.Context(), remora.Hold{Backup: "shop-none"}), remora.NotFound)

	leases := func(n int) []remora.Lease {
		all, err := r.Leases(t.Context())
		require.NoError(t, err)
		require.Len(t, all, n)
		return all
	}
	one, err := r.Lease(t.Context(), m.ID, "run-2", "a restore of shop")
	require.NoError(t, err)
	other, err := r.Lease(t.Context(), m.ID, "run-2", "a restore of shop")
	require.NoError(t, err)
	require.NoError(t, one.End(t.Context(), nil))
	lease := leases(1)[0] // the same run reads it twice, as a late attempt does: each has its own
	require.Equal(t, remora.Lease{Backup: m.ID, Reader: "run-2", What: "a restore of shop", Until: lease.Until}, lease)
	require.WithinDuration(t, time.Now().Add(leaseTime), lease.Until, time.Minute)
	broken := remora.Fail(remora.Corrupt, "read", "a", "", "it is damaged")
	require.Equal(t, error(broken), other.End(t.Context(), broken))
	leases(0)

	// S29: what is gone was deleted, and is not damaged.
	late, err := r.Lease(t.Context(), m.ID, "run-3", "a drill of shop")
	require.NoError(t, err)
	require.NoError(t, r.Hold(t.Context(), hold))
	require.NoError(t, r.Delete(t.Context(), m.ID))
	requireProblem(t, late.End(t.Context(), errors.Join(broken)), remora.NotFound, "deleted meanwhile")
	_, err = r.Lease(t.Context(), m.ID, "run-3", "a drill of shop")
	requireProblem(t, err, remora.NotFound)
	leases(0)
	require.Empty(t, labelled(t, r, holds.kind), "the hold went with it")
	require.NoError(t, r.RecordFailure(t.Context(), failed(at("shop", "run-4", 4), "no route to host")))
	require.NoError(t, r.Delete(t.Context(), at("shop", "run-4", 4).ID))
	all, err := r.List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Empty(t, all)
}

func labelled(t *testing.T, r *Repository, kind string) []*manifest.EntryMetadata {
	t.Helper()
	require.NoError(t, r.Refresh(t.Context()))
	found, err := r.rep.FindManifests(t.Context(), map[string]string{manifest.TypeLabelKey: kind})
	require.NoError(t, err)
	return found
}

// What dead runs left keeps nothing for ever; a run that is alive keeps also what it finished days ago.
func TestReclaimSweepsWhatDeadRunsLeft(t *testing.T) {
	r := created(t)
	kept := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"a": noise(1, 100)})
	m := at("shop", "run-2", 2)
	p := begin(t, r, m, remora.Database)
	put(t, p, "b", noise(2, 100))
	finish(t, p, &m)
	_, err := r.Lease(t.Context(), kept.ID, "run-2", "a drill that was killed")
	require.NoError(t, err)
	between := time.Now()
	late := begin(t, r, m, remora.Files)
	put(t, late, "c", noise(3, 100))
	finish(t, late, &m)
	count := func(snapshots, readers int, why string) {
		require.Len(t, labelled(t, r, snapshot.ManifestType), snapshots, why)
		require.Len(t, labelled(t, r, leases.kind), readers, why)
	}
	require.NoError(t, r.Reclaim(t.Context()))
	count(3, 1, "all is young")
	require.NoError(t, r.sweep(t.Context(), between))
	count(3, 1, "its second part has just been finished")
	require.NoError(t, r.sweep(t.Context(), time.Now()))
	count(1, 1, "a lease ends by itself")
	require.NoError(t, r.sweep(t.Context(), time.Now().Add(2*leaseTime)))
	count(1, 0, "long ago")
	verified(t, r, kept.ID)
}

func TestOnlyInIsWhatNobodyElseRefersTo(t *testing.T) { everywhere(t, testOnlyIn) }

func testOnlyIn(t *testing.T, r *Repository) {
	shared, both, mine := noise(1, 4<<20), noise(2, 3<<20), noise(3, 1<<20)
	one := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"dir/shared": shared, "dir/both": both, "mine": mine})
	two := backedUp(t, r, at("shop", "run-2", 2), map[string][]byte{"shared": shared, "both": both})
	backedUp(t, r, at("shop", "run-3", 3), map[string][]byte{"x/shared": shared})
	for name, c := range map[string]struct {
		ids  []string
		want int64
	}{
		"none":              {nil, 0},
		"one":               {[]string{one.ID}, 1 << 20},
		"both of a file":    {[]string{one.ID, two.ID}, 4 << 20},
		"what is not there": {[]string{"shop-none"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := r.OnlyIn(t.Context(), c.ids)
			require.NoError(t, err)
			require.InDelta(t, c.want, n, 50<<10) // with the directories, and what encryption adds
		})
	}
}

// The same space is never promised twice, and a promise ends when it is kept.
func TestWhatIsOwedIsPromisedOnce(t *testing.T) {
	r := created(t)
	for _, c := range []struct {
		run         string
		later, back int64
		owed        int64
	}{
		{"run-1", 100, 0, 100},
		{"run-1", 100, 0, 100}, // a repeated step
		{"run-2", 50, 0, 150},
		{"run-3", 0, 120, 30}, // all of the first, and some of the second
		{"run-4", 5, 10, 25},
		{"run-5", 0, 1000, 0},
		{"run-6", 7, 0, 7},
	} {
		owed, err := r.Owe(t.Context(), c.run, c.later, c.back)
		require.NoError(t, err)
		require.Equal(t, c.owed, owed, c.run)
	}
}
