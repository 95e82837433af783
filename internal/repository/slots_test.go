package repository

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/stretchr/testify/require"
)

var nightly = remora.Schedule{Source: "shop", Name: "nightly", Kinds: []remora.Kind{remora.Database}}

// I10: whoever records what, in whatever order, a slot has one outcome: the best that is known of it.
func TestASlotHasOneOutcome(t *testing.T) {
	r, hour := created(t), 0
	list := func(due time.Time) (found []string) {
		all, err := r.List(t.Context(), Filter{})
		require.NoError(t, err)
		for _, b := range all {
			if b.Slot.Due.Equal(due) {
				found = append(found, string(b.Status)+" "+b.Problem)
			}
		}
		return found
	}
	for name, c := range map[string]struct {
		records []string // by status; "own" is the failure that the backup recorded, "backup" its commit
		want    string
	}{
		"what the backup knows of its failure stays": {[]string{"own", "failed"}, "failed own"},
		"missed, and then it ran":                    {[]string{"missed", "backup"}, "pending "},
		"missed, and then it was skipped":            {[]string{"missed", "skipped"}, "skipped skipped"},
		"skipped is not missed":                      {[]string{"skipped", "missed"}, "skipped skipped"},
		"the first of two":                           {[]string{"skipped", "failed", "own"}, "skipped skipped"},
		"committed, and whoever asked did not learn": {[]string{"backup", "own", "failed", "missed"}, "pending "},
		"failed, and done once more":                 {[]string{"own", "backup", "failed"}, "pending "},
		"twice":                                      {[]string{"missed", "missed"}, "missed missed"},
	} {
		t.Run(name, func(t *testing.T) {
			hour++
			due := time.Date(2026, 3, 2, hour, 30, 0, 0, time.UTC)
			m := draft("shop", name)
			m.Started, m.Slot = due.Add(time.Minute), remora.Slot{Schedule: "nightly", Due: due}
			m.ID = remora.BackupID("shop", m.Run, "", m.Started)
			for _, what := range c.records {
				f := nightly.Without(remora.Status(what), due, what, "")
				switch what {
				case "backup":
					backedUp(t, r, m, map[string][]byte{"a": []byte(name)})
					continue
				case "own":
					f = failed(m, "own")
					f.Slot = m.Slot
				}
				require.NoError(t, r.RecordFailure(t.Context(), f))
			}
			require.Equal(t, []string{c.want}, list(due))
			kept, err := r.rep.FindManifests(t.Context(), map[string]string{manifest.TypeLabelKey: failures.kind, labelSlot: slotOf("shop", m.Slot)})
			require.NoError(t, err)
			if c.want == "pending " {
				require.Empty(t, kept, "a record that comes to light once the backup is deleted")
			}
		})
	}
}

// Records that are written at the same moment, by processes that do not see one another, come to one outcome as well.
func TestASlotHasOneOutcomeWhenAllAreRecordedAtOnce(t *testing.T) {
	r := created(t)
	due := time.Date(2026, 3, 2, 1, 30, 0, 0, time.UTC)
	m := at("shop", "run", 1)
	m.Slot = remora.Slot{Schedule: "nightly", Due: due}
	own := failed(m, "own")
	own.Slot = m.Slot
	var all sync.WaitGroup
	for _, f := range []remora.FailedRun{nightly.Without(remora.Missed, due, "missed", ""), nightly.Without(remora.Skipped, due, "skipped", ""), own} {
		all.Go(func() { require.NoError(t, reopened(t, r.cfg).RecordFailure(context.Background(), f)) })
	}
	all.Wait()
	// And worse: nobody has looked at all.
	for _, f := range []remora.FailedRun{nightly.Without(remora.Missed, due, "missed", ""), own} {
		f.ID += "-blind"
		require.NoError(t, r.write(t.Context(), "test", func(ctx context.Context, w repo.RepositoryWriter) error {
			_, err := w.PutManifest(ctx, map[string]string{manifest.TypeLabelKey: failures.kind, labelBackup: f.ID, labelSlot: slotOf("shop", f.Slot)}, f)
			return err
		}))
	}
	found, err := r.List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.NotEqual(t, remora.Missed, found[0].Status)
}

func TestASkippedSlotIsNoBackup(t *testing.T) {
	r := created(t)
	f := nightly.Without(remora.Skipped, time.Date(2026, 3, 2, 1, 30, 0, 0, time.UTC), "the source was busy", "")
	require.NoError(t, r.RecordFailure(t.Context(), f))
	found, err := r.Find(t.Context(), f.ID, "")
	require.NoError(t, err)
	require.Equal(t, "the source was busy", found.Problem)
	_, err = r.Part(t.Context(), f.ID, remora.Database)
	requireProblem(t, err, remora.NotFound, "this run was skipped and left no backup")
}

// I10: a slot of a schedule of drills has one outcome as well: that of its drill, whoever else says something before or after.
func TestASlotOfDrillsHasOneOutcome(t *testing.T) {
	weekly := nightly
	weekly.Name, weekly.Drill = "weekly", true
	due := time.Date(2026, 3, 2, 1, 30, 0, 0, time.UTC)
	outcomes := func(r *Repository) (all []remora.DrillOutcome) {
		proofs, err := r.Proofs(t.Context(), "shop")
		require.NoError(t, err)
		for _, p := range proofs {
			require.Equal(t, remora.Slot{Schedule: "weekly", Due: due}, p.Slot)
			all = append(all, p.Outcome)
		}
		return all
	}
	r := created(t)
	fails := func(how remora.Status) {
		require.NoError(t, r.RecordFailure(t.Context(), weekly.Without(how, due, "why", "")))
	}
	fails(remora.Missed)
	require.Equal(t, []remora.DrillOutcome{remora.DrillMissed}, outcomes(r))
	fails(remora.Skipped)
	require.Equal(t, []remora.DrillOutcome{remora.DrillSkipped}, outcomes(r))
	fails(remora.Missed)
	require.Equal(t, []remora.DrillOutcome{remora.DrillSkipped}, outcomes(r))
	p := remora.Proof{ID: "d", Source: "shop", Slot: remora.Slot{Schedule: "weekly", Due: due}, Outcome: remora.Proven}
	require.NoError(t, r.RecordProof(t.Context(), p))
	require.Equal(t, []remora.DrillOutcome{remora.Proven}, outcomes(r))
	fails(remora.Failed)
	require.Equal(t, []remora.DrillOutcome{remora.Proven}, outcomes(r))
	all, err := r.List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Empty(t, all, "it is no backup that is missing")
}
