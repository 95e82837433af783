package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity" //nolint:depguard // a stand-in for the worker: the command needs somebody to talk with
	"go.temporal.io/sdk/client"   //nolint:depguard // a stand-in for the worker: the command needs somebody to talk with
	"go.temporal.io/sdk/log"      //nolint:depguard // a stand-in for the worker: the command needs somebody to talk with
	"go.temporal.io/sdk/temporal" //nolint:depguard // a stand-in for the worker: the command needs somebody to talk with
	"go.temporal.io/sdk/worker"   //nolint:depguard // a stand-in for the worker: the command needs somebody to talk with
	"go.temporal.io/sdk/workflow" //nolint:depguard // a stand-in for the worker: the command needs somebody to talk with

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/testenv"
)

// atWork gives a place with a Temporal and a worker that runs stand-ins under the wire names: the real workflows need
// databases and are run by the end-to-end tests; here only what the command says is looked at.
func atWork(t *testing.T) *place {
	t.Helper()
	server := testenv.Temporal(t)
	c, err := client.Dial(client.Options{HostPort: server.Address, Namespace: server.Namespace, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	require.NoError(t, err)
	w := worker.New(c, remora.Queue, worker.Options{})
	for name, fake := range map[string]any{
		remora.BackupWorkflow: fakeBackup, remora.PlanWorkflow: fakePlan, remora.RestoreWorkflow: fakeRestore,
	} {
		w.RegisterWorkflowWithOptions(fake, workflow.RegisterOptions{Name: name})
	}
	w.RegisterActivityWithOptions(func(context.Context, remora.Restore) error { return nil },
		activity.RegisterOptions{Name: remora.RecordRestoreActivity})
	require.NoError(t, w.Start())
	p := newPlace(t, server.Address, server.Namespace, "shop")
	p.now = time.Now
	t.Cleanup(func() {
		for _, id := range []string{remora.Lane("shop"), remora.RestoreLane("shop")} {
			_ = c.TerminateWorkflow(context.Background(), id, "", "the test is over")
		}
		w.Stop()
		c.Close()
	})
	return p
}

// fakeBackup waits to be cancelled when its name says so.
func fakeBackup(ctx workflow.Context, req remora.BackupRequest) (remora.BackupResult, error) {
	if req.Name == "endless" {
		return remora.BackupResult{}, workflow.Await(ctx, func() bool { return false })
	}
	return remora.BackupResult{ID: req.Source + "-1", Kind: remora.FilesBackup, Bytes: 45_000_000, Added: 1_000_000, Warnings: []string{"one file changed"}}, nil
}

func fakePlan(_ workflow.Context, req remora.PlanRequest) (remora.Plan, error) {
	p := plan()
	p.Source, p.Backup.ID, p.Undo, p.Selection = req.Source, req.Backup, req.Undo, req.Selection
	p.Seal()
	return p, nil
}

// fakeRestore records itself, opens its window and ends with an accept.
func fakeRestore(ctx workflow.Context, req remora.RestoreRequest) (remora.Restore, error) {
	if req.Adopt {
		return remora.Restore{}, temporal.NewNonRetryableApplicationError("none", string(remora.NotFound), nil, remora.ProblemText{Op: "take over", Kind: remora.NotFound})
	}
	r := openRestore()
	r.Source, r.Backup, r.KeepUntil, r.WithoutSafety = req.Source, req.Backup, workflow.Now(ctx).Add(req.Undo), req.WithoutSafety
	over := false
	save := func(ctx workflow.Context, o remora.Outcome) error {
		r.Outcome = o
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		return workflow.ExecuteActivity(ctx, remora.RecordRestoreActivity, r).Get(ctx, nil)
	}
	if r.Selection = req.Selection; req.To != "" {
		if req.PlanHash == "" {
			return r, errors.New("a worker that has never heard of it would restore in place")
		}
		return r, save(ctx, remora.OutcomeCopied)
	}
	for name, o := range map[string]remora.Outcome{remora.RollbackUpdate: remora.OutcomeUndone, remora.AcceptUpdate: remora.OutcomeAccepted} {
		err := workflow.SetUpdateHandler(ctx, name, func(ctx workflow.Context) (remora.Restore, error) {
			err := save(ctx, o)
			over = o == remora.OutcomeAccepted
			return r, err
		})
		if err != nil {
			return r, err
		}
	}
	if err := save(ctx, remora.OutcomeApplied); err != nil {
		return r, err
	}
	return r, workflow.Await(ctx, func() bool { return over && workflow.AllHandlersFinished(ctx) })
}

// stored puts a completed backup into the repository and gives its id.
func (p *place) stored(name string) (id string) {
	p.repository(func(ctx context.Context, r *repository.Repository) {
		started := time.Now()
		id = remora.BackupID("shop", name, "", started)
		w, err := r.Begin(ctx, repository.Spec{Source: "shop", Run: name, Backup: id, Kind: remora.Files})
		require.NoError(p.t, err)
		require.NoError(p.t, w.Put(ctx, "receipts/1.pdf", func(to io.Writer) error { _, err := to.Write([]byte("paper")); return err }))
		root, added, err := w.Finish(ctx)
		require.NoError(p.t, err)
		_, err = r.Commit(ctx, remora.Manifest{
			Format: remora.ManifestFormat, ID: id, Run: name, Source: "shop", Name: name, Kind: remora.FilesBackup, Purpose: remora.Regular,
			RequestedBy: "alice@desk", Tool: "test", Started: started, Ended: started,
			Parts: []remora.PartRef{{Kind: remora.Files, Root: root, Added: added, Started: started, Ended: started, Summary: remora.Summary{Objects: 1, Entries: 1, Bytes: 5}}},
		})
		require.NoError(p.t, err)
		_, err = r.Verify(ctx, id, nil)
		require.NoError(p.t, err)
	})
	return id
}

func TestBackupSaysWhatItCameTo(t *testing.T) {
	p := atWork(t)
	s := p.run("backup")
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, "shop-1 is completed: 45 MB, of which 1.0 MB were new; all of it was read back.\n  note: one file changed\n")
	s = p.run("backup", "shop", "-o", "json")
	require.Zero(t, s.code, s.err)
	lines := strings.Split(strings.TrimSpace(s.out), "\n")
	var last struct {
		Event  string
		Backup remora.BackupResult
	}
	require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &last))
	require.Equal(t, "completed", last.Event)
	require.Equal(t, "shop-1", last.Backup.ID)
}

func TestSecondBackupEndsWith3AndCancelEndsTheFirst(t *testing.T) {
	p := atWork(t)
	s := p.run("backup", "--name", "endless", "--detach")
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, "The backup has started. Watch it: remora watch shop")
	s = p.run("backup")
	require.Equal(t, 3, s.code, s.err)
	require.Regexp(t, `^remora: start a backup \(shop\): a backup by alice@\S+ runs since \d\d:\d\d:\d\d \(.*\)\n  what to do: wait for it with `+"`remora watch shop`", s.err)

	ctx, interrupt := context.WithCancel(context.Background())
	watching := make(chan said)
	go func() { watching <- p.runContext(ctx, "watch") }()
	time.AfterFunc(time.Second, interrupt)
	s = <-watching
	require.Equal(t, 130, s.code)
	require.Contains(t, s.err, "It goes on without you. Watch it: remora watch shop   Stop it: remora cancel shop")

	s = p.run("cancel")
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, "Asked to stop: a backup by alice@")
	require.Eventually(t, func() bool { return strings.Contains(p.run("cancel").out, "Nothing is running on shop.") }, 20*time.Second, 100*time.Millisecond)
}

func TestRestoreAsksForTheNameOfTheSource(t *testing.T) {
	p := atWork(t)
	id := p.stored("good one")
	p.in = "shpo\n"
	s := p.run("restore", "latest")
	require.Equal(t, 2, s.code, s.err)
	require.Contains(t, s.out, "Restore of shop")
	require.Contains(t, s.out, "Type shop to go on: ")
	require.Contains(t, s.err, "nothing was touched")
	require.Contains(t, p.run("cancel").out, "Nothing is running on shop.\n", "nothing was started")

	p.in = "shop\n"
	s = p.run("restore", "good one", "--undo-window", "2d")
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, "What was replaced is kept for 2 days")
	require.Contains(t, s.out, "shop is restored from "+id)

	p.in = ""
	s = p.run("restore", id, "--force")
	require.Equal(t, 3, s.code, s.err)
	require.Contains(t, s.err, "remora rollback shop")
	s = p.run("status")
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, "shop is protected; newest good backup ")
	require.Contains(t, s.out, "  restore:  of "+id+", live; can be undone until ")
	require.Contains(t, s.out, "remora rollback shop, or")
	require.Contains(t, s.out, "remora accept shop\n")
	s = p.run("cancel")
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, "Its restore is done and can be undone until")

	s = p.run("rollback", "shop")
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, "Rolled back: shop is as it was before the restore.")
	s = p.run("accept", "shop")
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, "Accepted: what is live on shop stays.")
	s = p.run("rollback", "shop")
	require.Equal(t, 4, s.code, s.err)
	require.Contains(t, s.err, "no restore of it has an open undo window")
}

func TestRestoreWithForceSkipsTheQuestionOnly(t *testing.T) {
	p := atWork(t)
	p.stored("good")
	s := p.run("restore", "latest", "--force", "--without-safety-backup", "cannot be read")
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, "NO safety backup is taken (cannot be read).")
	require.NotContains(t, s.out, "Type shop")
	require.Contains(t, s.out, "shop is restored from")
}

// Nothing live is replaced by a copy, so nothing is asked, and there is no window to wait for.
func TestRestoreIntoAnotherSchemaAsksNothing(t *testing.T) {
	p := atWork(t)
	text, err := os.ReadFile(p.config)
	require.NoError(t, err)
	text = bytes.Replace(text, []byte("{files:"), []byte("{database: {address: 127.0.0.1:3306, user: u, password_env: PASSWORD, schemas: [shop]}, files:"), 1)
	require.NoError(t, os.WriteFile(p.config, text, 0o600))
	id := p.stored("good")
	s := p.run("restore", "latest", "--table", "orders,users", "--table", "items", "--to", "shop_copy")
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, "orders, users, items\n")
	require.NotContains(t, s.out, "Type shop")
	require.Contains(t, s.out, id+" is built in schema shop_copy")
	s = p.run("restore", "latest", "--to", "shop_copy", "-o", "json")
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, `"event":"copied"`)
}

// What is not completed is refused here: Temporal does not answer, and is not asked.
func TestOnlyCompletedBackupsAreRestored(t *testing.T) {
	p := newPlace(t, nobody, "remora", "shop")
	p.now = time.Now
	p.stored("good")
	started := time.Now()
	failed, pending := remora.BackupID("shop", "failed", "", started), remora.BackupID("shop", "pending", "", started)
	p.repository(func(ctx context.Context, r *repository.Repository) {
		require.NoError(t, r.RecordFailure(ctx, remora.FailedRun{
			Run: "failed", ID: failed, Source: "shop", Kind: remora.FilesBackup, Purpose: remora.Regular, Started: started, Ended: started, Problem: "no",
		}))
		w, err := r.Begin(ctx, repository.Spec{Source: "shop", Run: "pending", Backup: pending, Kind: remora.Files})
		require.NoError(t, err)
		root, added, err := w.Finish(ctx)
		require.NoError(t, err)
		_, err = r.Commit(ctx, remora.Manifest{
			Format: remora.ManifestFormat, ID: pending, Run: "pending", Source: "shop", Kind: remora.FilesBackup, Purpose: remora.Regular,
			Started: started, Ended: started, Parts: []remora.PartRef{{Kind: remora.Files, Root: root, Added: added, Started: started, Ended: started}},
		})
		require.NoError(t, err)
	})
	for id, status := range map[string]string{failed: "failed", pending: "pending"} {
		s := p.run("restore", id, "--force")
		require.Equal(t, 2, s.code, s.err)
		require.Equal(t, "remora: restore ("+id+"): it is "+status+"; only completed backups can be restored\n"+
			"  what to do: choose another one: remora history shop --status completed\n", s.err)
		require.Empty(t, s.out)
	}
	require.Equal(t, 7, p.run("restore", "good", "--force").code, "a completed one goes on to ask")
	require.Equal(t, remora.Corrupt, remora.KindOf(restorable(remora.Backup{Status: remora.Corrupted})), "exit code 6, as verification has it")
}

func TestShowTakesABeginningThatIsUniqueAmongBackupsAndRestores(t *testing.T) {
	p := newPlace(t, nobody, "remora", "shop")
	p.now = time.Now
	p.repository(func(ctx context.Context, r *repository.Repository) {
		require.NoError(t, r.RecordRestore(ctx, overRestore()))
	})
	s := p.run("show", "shop-")
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, overRestore().ID)

	id := p.stored("good")
	s = p.run("show", "shop-")
	require.Equal(t, 2, s.code, s.out)
	require.Contains(t, s.err, "it could be "+id+", or the restores "+overRestore().ID)
	require.Contains(t, s.err, "what to do: give a longer beginning of the id")
	for _, clear := range []string{id, id[:len(id)-1], "good", "latest"} {
		s = p.run("show", clear)
		require.Zero(t, s.code, s.err)
		require.Contains(t, s.out, "backup:    "+id)
	}

	second := p.stored("better")
	p.repository(func(ctx context.Context, r *repository.Repository) {
		require.NoError(t, r.RecordRestore(ctx, openRestore()))
	})
	s = p.run("show", "shop")
	require.Equal(t, 2, s.code, s.out)
	for _, one := range []string{id, second, overRestore().ID, openRestore().ID} {
		require.Contains(t, s.err, one)
	}
	s = p.run("show", "shop-restore-2026")
	require.Equal(t, 2, s.code, s.out)
	require.Contains(t, s.err, "it could be the restores "+openRestore().ID+", "+overRestore().ID)
	require.Zero(t, p.run("show", "shop-restore-20261123").code)
	require.Equal(t, 4, p.run("show", "shop-nothing").code)
}

func TestRollbackOfARestoreThatIsOverSaysHowItEnded(t *testing.T) {
	p := newPlace(t, nobody, "remora", "shop")
	p.repository(func(ctx context.Context, r *repository.Repository) {
		require.NoError(t, r.RecordRestore(ctx, overRestore()))
	})
	s := p.run("rollback", "shop-restore-20261101")
	require.Equal(t, 4, s.code, s.err)
	require.Contains(t, s.err, "its undo window is over: accepted at 2026-11-02 13:00:00 (21 days ago)")
	require.Contains(t, s.err, "remora restore shop-20261102T120000Z-9f9f")
	s = p.run("show", overRestore().ID, "-o", "json")
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, `"outcome":"accepted"`)
}

func TestLsListsWhatIsInABackup(t *testing.T) {
	p := newPlace(t, nobody, "remora", "shop")
	p.now = time.Now
	id := p.stored("good")
	s := p.run("ls", "latest")
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, "files/")
	s = p.run("ls", id, "files/receipts/", "-o", "json")
	require.Zero(t, s.code, s.err)
	var e entryJSON
	require.NoError(t, json.Unmarshal([]byte(s.out), &e))
	require.Equal(t, "files/receipts/1.pdf", e.Path)
	require.Equal(t, int64(5), e.Size)
	for _, bad := range []string{"../..", "/etc/passwd", "files/../../x", "nothing", "files/receipts/1.pdf/x", "a\nb", "a'b\"c", ""} {
		s = p.run("ls", "latest", bad)
		require.Equal(t, 4, s.code, "%q: %s", bad, s.err)
		require.Equal(t, 2, strings.Count(s.err, "\n"), s.err)
	}
}

func TestEntriesShowLinksAndHostileNames(t *testing.T) {
	tree := fstest.MapFS{
		"d/link":    {Data: []byte("../../etc"), Mode: fs.ModeSymlink | 0o777},
		"d/a\x1b\n": {Data: []byte("x"), Mode: 0o600},
		"d/sub/x":   {Data: []byte("x"), Mode: 0o600},
	}
	entries, err := listEntries(tree, "d")
	require.NoError(t, err)
	out := printed(t, textOutput, func(a *app) error { return a.printEntries(entries) })
	require.Contains(t, out, "d/link -> ../../etc")
	require.Contains(t, out, `d/a\u001b\n`)
	require.Contains(t, out, "d/sub/\n")
}
