package control

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/testenv"
)

// withRepository gives a Control on the address with a real, empty repository.
func withRepository(t *testing.T, address, namespace string) (*Control, *repository.Repository) {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	cfg := repository.Config{
		Path: filepath.Join(dir, "repository"), State: filepath.Join(dir, "state"),
		Password: func() (remora.Secret, error) { return "a password", nil },
	}
	require.NoError(t, repository.Create(ctx, cfg))
	r, err := repository.Open(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close(ctx)) })
	c, err := New(Config{Address: address, Namespace: namespace, Actor: "alice@desk", Poll: 50 * time.Millisecond}, r)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, r
}

// commit stores a completed backup that was taken some time ago.
func commit(t *testing.T, r *repository.Repository, source string, purpose remora.Purpose, age time.Duration) string {
	t.Helper()
	ctx, started := context.Background(), time.Now().Add(-age)
	id := remora.BackupID(source, string(purpose), "", started)
	w, err := r.Begin(ctx, repository.Spec{Source: source, Run: id, Backup: id, Kind: remora.Files})
	require.NoError(t, err)
	root, added, err := w.Finish(ctx)
	require.NoError(t, err)
	_, err = r.Commit(ctx, remora.Manifest{
		Format: remora.ManifestFormat, ID: id, Run: id, Source: source, Kind: remora.FilesBackup, Purpose: purpose, RequestedBy: "alice", Tool: "test",
		Started: started, Ended: started, Parts: []remora.PartRef{{Kind: remora.Files, Root: root, Added: added, Started: started, Ended: started}},
	})
	require.NoError(t, err)
	_, err = r.Verify(ctx, id, nil)
	require.NoError(t, err)
	return id
}

func fail(t *testing.T, r *repository.Repository, source string, age time.Duration) {
	t.Helper()
	started := time.Now().Add(-age)
	require.NoError(t, r.RecordFailure(context.Background(), remora.FailedRun{
		Run: source + age.String(), ID: remora.BackupID(source, age.String(), "", started), Source: source, Kind: remora.FilesBackup,
		Purpose: remora.Regular, Started: started, Ended: started, Phase: "dump", Problem: "no",
	}))
}

func TestStatusBeginsWithOneSentence(t *testing.T) {
	c, r := withRepository(t, "127.0.0.1:1", "")
	ctx := context.Background()
	sentence := func(sources ...string) string {
		o, err := c.Status(ctx, sources)
		require.NoError(t, err)
		require.Contains(t, o.Away, "127.0.0.1:1")
		require.Len(t, o.Sources, len(sources))
		require.Less(t, len(o.Sentence), 200)
		return o.Sentence
	}
	const away = " Temporal does not answer, so nothing runs or can be started."
	require.Equal(t, "No source is configured yet.", sentence())
	require.Equal(t, "shop has no backup yet."+away, sentence("shop"))

	fail(t, r, "shop", 30*time.Hour)
	require.Equal(t, "shop has no good backup, and its last run failed."+away, sentence("shop"))
	commit(t, r, "shop", remora.Regular, 3*time.Hour)
	require.Equal(t, "shop is protected; newest good backup 3 h ago."+away, sentence("shop"), "what failed before it is settled")
	commit(t, r, "shop", remora.Safety, time.Hour)
	require.Equal(t, "shop is protected; newest good backup 3 h ago."+away, sentence("shop"), "a safety backup is not one that was asked for (S9)")
	fail(t, r, "shop", 2*time.Hour)
	fail(t, r, "shop", time.Hour)
	commit(t, r, "blog", remora.Regular, 50*time.Hour)
	require.Equal(t, "1 of 2 sources needs a look: shop failed 2 times to back up since its last good one."+away, sentence("blog", "shop"))
	commit(t, r, "shop", remora.Regular, 5*time.Minute)
	require.Equal(t, "All 2 sources protected; newest good backup 5 min ago, that of blog 2 days ago."+away, sentence("blog", "shop"))
}

func TestStatusTellsWhichCopyIsBehind(t *testing.T) {
	c, r := withRepository(t, "127.0.0.1:1", "")
	ctx, dir := context.Background(), t.TempDir()
	cfg := repository.Config{Path: filepath.Join(dir, "copy"), State: dir, CopyOf: r, Password: func() (remora.Secret, error) { return "another", nil }}
	require.NoError(t, repository.Create(ctx, cfg))
	offsite, err := repository.Open(ctx, cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, offsite.Close(ctx)) }()
	c.cfg.Copies = []string{"offsite"}
	behind := func() []Behind {
		o, err := c.Status(ctx, []string{"shop"})
		require.NoError(t, err)
		return o.Sources[0].Behind
	}
	require.Empty(t, behind())
	commit(t, r, "shop", remora.Regular, 9*time.Hour)
	second := commit(t, r, "shop", remora.Regular, 8*time.Hour)
	commit(t, r, "shop", remora.Safety, 7*time.Hour)
	found := behind()
	require.Len(t, found, 1)
	require.Equal(t, 2, found[0].Backups)
	require.WithinDuration(t, time.Now().Add(-9*time.Hour), found[0].Since, time.Minute)
	_, err = r.Copy(ctx, offsite, second, nil)
	require.NoError(t, err)
	_, err = offsite.Verify(ctx, second, nil)
	require.NoError(t, err)
	require.NoError(t, r.RecordCopies(ctx, "offsite", offsite))
	require.Empty(t, behind(), "an older one may have been left out")
	commit(t, r, "shop", remora.Regular, time.Hour)
	require.Equal(t, 1, behind()[0].Backups)
}

func TestTheSentenceBeginsWithWhatNeedsAPersonMostAndStaysShort(t *testing.T) {
	good := &remora.Backup{Manifest: remora.Manifest{Started: time.Now()}}
	o := Overview{Worker: true, Sources: []SourceStatus{
		{Source: "a", Newest: good, FailedSince: 2},
		{Source: "b"},
		{Source: "c", Newest: good},
		{Source: "d", Newest: good, Window: &remora.Restore{Problem: "no space"}},
		{Source: "e", Newest: good, Person: "chmod it"},
	}}
	require.Equal(t, "4 of 5 sources need a look: e has a run that waits for a person; d has a restore that needs a look; b has no backup yet; 1 more.", sentence(o, time.Now()))
}

func TestStatusBeginsWithTheSourceThatNeedsSomebodyMost(t *testing.T) {
	c, r := withRepository(t, "127.0.0.1:1", "")
	c.cfg.Expected = []remora.Expected{{Source: "shop", Kinds: []remora.Kind{remora.Database, remora.Files}, RecoveryPoint: 26 * time.Hour}, {Source: "blog", Kinds: []remora.Kind{remora.Files}}}
	ctx := context.Background()
	commit(t, r, "blog", remora.Regular, time.Hour)
	commit(t, r, "shop", remora.Regular, 50*time.Hour)
	alert := func(key, source string, gone bool) (a remora.Alert) {
		a = remora.Alert{Key: key + "/" + source, Source: source, Level: remora.Warning, Problem: "what is " + key, Since: time.Now()}
		if gone {
			a.Gone = time.Now()
		}
		return a
	}
	require.NoError(t, r.RecordMonitorState(ctx, remora.MonitorState{At: time.Now(), Alerts: []remora.Alert{
		alert("overdue", "shop", false), alert("missed", "shop", false), alert("halved", "blog", true), alert("full", "", false),
	}}))
	o, err := c.Status(ctx, []string{"blog", "shop"})
	require.NoError(t, err)
	require.Equal(t, "1 of 2 sources needs a look: shop has had no good backup for 2 days (objective 26 h). Besides, what is full. Temporal does not answer, so nothing runs or can be started.", o.Sentence)
	require.Equal(t, "shop", o.Sources[0].Source)
	require.Len(t, o.Sources[0].Alerts, 1, "what status finds itself is told once")
	require.Equal(t, remora.Files, o.Sources[0].Late)
	require.Empty(t, o.Sources[1].Alerts, "what was not found at the last look is no problem now")
	require.Positive(t, o.Sources[0].Stored+o.Sources[1].Stored+1)
	require.Len(t, o.Alerts, 1)
	require.NotZero(t, o.Monitored)

	often := remora.Schedule{Source: "blog", Name: "often", Kinds: []remora.Kind{remora.Files}, Timing: remora.Every(5 * time.Minute), AdHoc: true}
	require.NoError(t, r.RecordSchedule(ctx, remora.ScheduleRecord{ID: often.ID(), Schedule: &often}))
	o, err = c.Status(ctx, []string{"blog"})
	require.NoError(t, err)
	require.Equal(t, 10*time.Minute, o.Sources[0].Objective, "what a command made counts as well")
	require.Equal(t, remora.Files, o.Sources[0].Late)
}

func TestStatusTellsTheOpenWindowAlsoWithoutTemporal(t *testing.T) {
	c, r := withRepository(t, "127.0.0.1:1", "")
	ctx := context.Background()
	record := remora.Restore{ID: "shop-restore-1", Run: "1", Source: "shop", Outcome: remora.OutcomeApplied, Started: time.Now(), KeepUntil: time.Now().Add(time.Hour)}
	require.NoError(t, r.RecordRestore(ctx, record))
	o, err := c.Status(ctx, []string{"shop"})
	require.NoError(t, err)
	require.NotNil(t, o.Sources[0].Window)
	require.Equal(t, "shop-restore-1", o.Sources[0].Window.ID)
}

func TestStatusTellsWhatRunsAndWhatWaitsForAPerson(t *testing.T) {
	server := testenv.Temporal(t)
	s := newSite(t, server)
	s.startWorker(server)
	s.terminate(remora.Lane("person"))
	c, _ := withRepository(t, server.Address, server.Namespace)
	ctx := context.Background()
	req := shopBackup("person")
	req.Name = "stuck"
	run, err := c.Backup(ctx, req)
	require.NoError(t, err)
	var o Overview
	eventually(t, "it waits", func() bool {
		o, err = c.Status(ctx, []string{"person"})
		return err == nil && o.Sources[0].Person != ""
	})
	require.True(t, o.Worker)
	require.Equal(t, "leave maintenance: remove /srv/down: permission denied chmod it", o.Sources[0].Person)
	require.Equal(t, "person has a run that waits for a person.", o.Sentence)
	require.Equal(t, run, o.Sources[0].Running.Run)

	require.NoError(t, c.Resolve(ctx, "person"))
	_, err = c.Follow(ctx, run, nil)
	require.NoError(t, err)
	requireProblem(t, c.Resolve(ctx, "person"), remora.NotFound, "nothing on it waits for a person")
}

func TestResolveOfARunThatDoesNotWaitSaysSo(t *testing.T) {
	server := testenv.Temporal(t)
	s := newSite(t, server)
	s.startWorker(server)
	release := s.hold(remora.Progress{Phase: "dump", Done: 1})
	run, err := s.control.Backup(context.Background(), shopBackup("unasked"))
	require.NoError(t, err)
	requireProblem(t, s.control.Resolve(context.Background(), "unasked"), remora.NotFound, "nothing on it waits for a person")
	release()
	_, err = s.control.Follow(context.Background(), run, nil)
	require.NoError(t, err)
}

func TestASourceThatWasNeverRestoredIsNotToldThatItsLastRestoreIsOver(t *testing.T) {
	server := testenv.Temporal(t)
	s := newSite(t, server)
	s.startWorker(server)
	c, _ := withRepository(t, server.Address, server.Namespace)
	for range 2 { // the first leaves a run that found nothing
		_, err := c.Rollback(context.Background(), "never", nil)
		requireProblem(t, err, remora.NotFound, "no restore of it has an open undo window")
	}
}
