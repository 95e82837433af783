package repository

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/stretchr/testify/require"
)

// at is a draft that began at a given minute.
func at(source, run string, minute int) remora.Manifest {
	m := draft(source, run)
	m.Started = time.Date(2026, 3, 1, 2, minute, 0, 0, time.UTC)
	m.ID = remora.BackupID(source, run, "", m.Started)
	m.Ended = m.Started.Add(30 * time.Second)
	return m
}

func failed(m remora.Manifest, why string) remora.FailedRun {
	return remora.FailedRun{Run: m.Run, ID: m.ID, Source: m.Source, Name: m.Name, Kind: remora.FullBackup, Purpose: m.Purpose, Started: m.Started, Ended: m.Ended, Phase: "dump shop", Problem: why, Hint: "try again"}
}

func TestListTellsWhatBecameOfEveryRun(t *testing.T) {
	everywhere(t, testListTellsWhatBecameOfEveryRun)
}

func testListTellsWhatBecameOfEveryRun(t *testing.T, r *Repository) {
	pending := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"a": noise(1, 100)})
	good := backedUp(t, r, at("shop", "run-2", 2), map[string][]byte{"a": noise(2, 100)})
	bad := at("shop", "run-3", 3)
	other := backedUp(t, r, at("blog", "run-4", 4), map[string][]byte{"a": noise(4, 100)})
	verified(t, r, good.ID)
	require.NoError(t, r.RecordFailure(t.Context(), failed(bad, "the first time")))
	require.NoError(t, r.RecordFailure(t.Context(), failed(bad, "no route to host")))

	list := func(f Filter) []string {
		all, err := r.List(t.Context(), f)
		require.NoError(t, err)
		lines := []string{}
		for _, b := range all {
			lines = append(lines, b.ID+" "+string(b.Status))
		}
		return lines
	}
	o, f, g, p := other.ID+" pending", bad.ID+" failed", good.ID+" completed", pending.ID+" pending"
	for name, c := range map[string]struct {
		filter Filter
		want   []string
	}{
		"all":                     {Filter{}, []string{o, f, g, p}},
		"source":                  {Filter{Source: "shop"}, []string{f, g, p}},
		"kind":                    {Filter{Kind: remora.FullBackup}, []string{f}},
		"status":                  {Filter{Status: remora.Pending}, []string{o, p}},
		"since is included":       {Filter{Since: good.Started}, []string{o, f, g}},
		"until is not":            {Filter{Until: good.Started}, []string{p}},
		"limit counts what fits":  {Filter{Status: remora.Pending, Limit: 1}, []string{o}},
		"limit beyond what fits":  {Filter{Limit: 9}, []string{o, f, g, p}},
		"nothing of that name":    {Filter{Source: "nobody"}, []string{}},
		"nothing of those in all": {Filter{Source: "blog", Status: remora.Failed}, []string{}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, list(c.filter)) })
	}
	b, err := r.Find(t.Context(), bad.ID, "")
	require.NoError(t, err)
	require.Equal(t, "no route to host", b.Problem, "the newest record of a run counts")
	require.Equal(t, "dump shop", b.Phase)
	_, err = r.Part(t.Context(), bad.ID, remora.Database)
	requireProblem(t, err, remora.NotFound, "failed", "no backup")
	_, err = r.Part(t.Context(), good.ID, remora.Files)
	requireProblem(t, err, remora.NotFound, `no part "files"`)
}

func TestFindIsClearAboutWhatItFound(t *testing.T) { everywhere(t, testFindIsClearAboutWhatItFound) }

func testFindIsClearAboutWhatItFound(t *testing.T, r *Repository) {
	named := at("shop", "run-1", 1)
	named.Name = "release 7"
	named = backedUp(t, r, named, map[string][]byte{"a": noise(1, 100)})
	again := at("shop", "run-2", 2)
	again.Name = "release 7"
	again = backedUp(t, r, again, map[string][]byte{"a": noise(2, 100)})
	blog := at("blog", "run-3", 3)
	blog.Name = "release 7"
	blog = backedUp(t, r, blog, map[string][]byte{"a": noise(3, 100)})
	safety := at("blog", "run-4", 4)
	safety.Purpose = remora.Safety
	safety = backedUp(t, r, safety, map[string][]byte{"a": noise(4, 100)})
	lost := at("shop", "run-5", 5)
	lost.Name = "release 7"
	require.NoError(t, r.RecordFailure(t.Context(), failed(lost, "no")))
	_, err := r.Find(t.Context(), "latest", "shop")
	requireProblem(t, err, remora.NotFound, "no completed backup")
	for _, id := range []string{named.ID, again.ID, blog.ID, safety.ID} {
		verified(t, r, id)
	}

	for name, c := range map[string]struct{ ref, source, want string }{
		"id":                                {named.ID, "", named.ID},
		"id of a safety backup":             {safety.ID, "", safety.ID},
		"unique beginning":                  {named.ID[:len(named.ID)-3], "", named.ID},
		"beginning unique in the source":    {"blog-20260301T0203", "blog", blog.ID},
		"name, the newest that is a backup": {"release 7", "shop", again.ID},
		"latest of a source":                {"latest", "shop", again.ID},
		"latest leaves safety backups out":  {"latest", "blog", blog.ID},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := r.Find(t.Context(), c.ref, c.source)
			require.NoError(t, err)
			require.Equal(t, c.want, b.ID)
		})
	}
	for name, c := range map[string]struct {
		ref, source string
		kind        remora.ProblemKind
		words       []string
	}{
		"beginning of several":        {"shop-", "", remora.Invalid, []string{named.ID, again.ID}},
		"latest of several sources":   {"latest", "", remora.Invalid, []string{again.ID, blog.ID}},
		"name in several sources":     {"release 7", "", remora.Invalid, []string{again.ID, blog.ID}},
		"id of another source":        {named.ID, "blog", remora.NotFound, nil},
		"nothing":                     {"", "", remora.NotFound, []string{`""`}},
		"a path":                      {"../../etc/passwd", "", remora.NotFound, []string{`"../../etc/passwd"`, "remora history"}},
		"a line break and a quote":    {"x\n\"y", "", remora.NotFound, []string{`"x\n\"y"`}},
		"a terminal's control":        {"\x1b[2J", "", remora.NotFound, []string{`"\x1b[2J"`}},
		"ten megabytes":               {strings.Repeat("a", 10<<20), "", remora.NotFound, []string{"10485760 bytes"}},
		"latest of an unknown source": {"latest", "nobody", remora.NotFound, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.Find(t.Context(), c.ref, c.source)
			requireProblem(t, err, c.kind, c.words...)
			require.Less(t, len(err.Error()), 600)
			_, err = r.Part(t.Context(), c.ref, remora.Database)
			if c.source == "" {
				requireProblem(t, err, remora.NotFound)
			}
			_, err = r.FindRestore(t.Context(), c.ref)
			requireProblem(t, err, remora.NotFound)
		})
	}
}

func TestABackupOfANewerRemoraIsRefusedByName(t *testing.T) {
	everywhere(t, testABackupOfANewerRemoraIsRefusedByName)
}

func testABackupOfANewerRemoraIsRefusedByName(t *testing.T, r *Repository) {
	m := backedUp(t, r, at("shop", "run-1", 1), map[string][]byte{"a": noise(1, 100)})
	found, err := r.commits(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, r.write(t.Context(), "test", func(ctx context.Context, w repo.RepositoryWriter) error {
		if err := w.DeleteManifest(ctx, found[0].ID); err != nil {
			return err
		}
		_, err := w.PutManifest(ctx, map[string]string{
			manifest.TypeLabelKey: backupType, labelBackup: m.ID, labelSource: m.Source, labelFormat: strconv.Itoa(remora.ManifestFormat + 1),
		}, map[string]any{"snapshot": found[0].Value.Snapshot, "manifest": map[string]any{"id": m.ID}})
		return err
	}))
	all, err := r.List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Contains(t, all[0].Problem, "newer")
	_, err = r.Find(t.Context(), m.ID, "")
	requireProblem(t, err, remora.Unsupported, m.ID, "newer")
	_, err = r.Part(t.Context(), m.ID, remora.Database)
	requireProblem(t, err, remora.Unsupported, m.ID, "newer")
	_, err = r.Verify(t.Context(), m.ID, nil)
	requireProblem(t, err, remora.Unsupported, m.ID, "newer")
}

func TestTheLatestStateOfARestoreWins(t *testing.T) { everywhere(t, testTheLatestStateOfARestoreWins) }

func testTheLatestStateOfARestoreWins(t *testing.T, r *Repository) {
	first := remora.Restore{ID: "shop-restore-20260301T020000Z-aaaa", Run: "r1", Source: "shop", Outcome: remora.OutcomeRunning, Started: time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)}
	second := remora.Restore{ID: "blog-restore-20260302T020000Z-bbbb", Run: "r2", Source: "blog", Outcome: remora.OutcomeRefused, Started: time.Date(2026, 3, 2, 2, 0, 0, 0, time.UTC)}
	require.NoError(t, r.RecordRestore(t.Context(), first))
	require.NoError(t, r.RecordRestore(t.Context(), second))
	first.Outcome = remora.OutcomeApplied
	require.NoError(t, r.RecordRestore(t.Context(), first))
	other := reopened(t, r.cfg)
	first.Outcome = remora.OutcomeUndone
	require.NoError(t, other.RecordRestore(t.Context(), first))

	all, err := r.Restores(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, []remora.Restore{second, first}, all)
	some, err := r.Restores(t.Context(), "shop")
	require.NoError(t, err)
	require.Equal(t, []remora.Restore{first}, some)
	s, err := r.FindRestore(t.Context(), "shop-restore")
	require.NoError(t, err)
	require.Equal(t, first, s)
	left, err := r.rep.FindManifests(t.Context(), map[string]string{manifest.TypeLabelKey: restores.kind})
	require.NoError(t, err)
	require.Len(t, left, 2, "older states are replaced")
}

func TestManyRecordsStayQuick(t *testing.T) { everywhere(t, testManyRecordsStayQuick) }

func testManyRecordsStayQuick(t *testing.T, r *Repository) {
	require.NoError(t, r.write(t.Context(), "test", func(ctx context.Context, w repo.RepositoryWriter) error {
		for i := range 2000 {
			f := failed(at("shop", "run-"+strconv.Itoa(i), 1), "x")
			f.ID = "shop-" + strconv.Itoa(i)
			if _, err := w.PutManifest(ctx, map[string]string{manifest.TypeLabelKey: failures.kind, labelBackup: f.ID}, f); err != nil {
				return err
			}
		}
		return nil
	}))
	began := time.Now()
	all, err := r.List(t.Context(), Filter{Limit: 10})
	require.NoError(t, err)
	require.Len(t, all, 10)
	require.Less(t, time.Since(began), 3*time.Second)
}
