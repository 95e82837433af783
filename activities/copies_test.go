package activities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// locations are a repository with a copy, "offsite".
func locations(t *testing.T) *repository.Locations {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) repository.Config {
		return repository.Config{
			Path: filepath.Join(dir, name), State: filepath.Join(dir, "state", name),
			Password: func() (remora.Secret, error) { return "a password", nil },
		}
	}
	main, offsite := at("repository"), at("offsite")
	require.NoError(t, repository.Create(t.Context(), main))
	l := repository.NewLocations(main, map[string]repository.Config{"offsite": offsite})
	t.Cleanup(func() { require.NoError(t, l.Close(context.Background())) })
	var err error
	offsite.CopyOf, err = l.At(t.Context(), "")
	require.NoError(t, err)
	require.NoError(t, repository.Create(t.Context(), offsite))
	return l
}

// backedUp makes a completed backup of some hours ago.
func backedUp(t *testing.T, l *repository.Locations, run string, hours int) string {
	t.Helper()
	r, err := l.At(t.Context(), "")
	require.NoError(t, err)
	m := remora.Manifest{Run: run, Source: "shop", Kind: remora.DatabaseBackup, Purpose: remora.Regular, Started: time.Now().Add(-time.Duration(hours) * time.Hour).UTC()}
	m.ID = remora.BackupID("shop", run, "", m.Started)
	w, err := RepositoryStore(l).Begin(t.Context(), Part{Source: "shop", Run: run, Backup: m.ID, Kind: remora.Database})
	require.NoError(t, err)
	require.NoError(t, w.Put(t.Context(), "rows", func(w io.Writer) error { _, err := io.WriteString(w, run); return err }))
	root, added, err := w.Finish(t.Context())
	require.NoError(t, err)
	m.Parts = []remora.PartRef{{Kind: remora.Database, Root: root, Added: added}}
	_, err = r.Commit(t.Context(), m)
	require.NoError(t, err)
	_, err = r.Verify(t.Context(), m.ID, nil)
	require.NoError(t, err)
	return m.ID
}

// The whole life of a copy: what is missing is known, copied and recorded; what need not be kept is removed, but for
// what a restore reads, and never more than half unless somebody insists.
func TestCopiesCatchUpAndForget(t *testing.T) {
	l := locations(t)
	ids := []string{backedUp(t, l, "run-1", 3), backedUp(t, l, "run-2", 2), backedUp(t, l, "run-3", 1)}
	var policy remora.KeepPolicy
	keep := func(copied, _ string) remora.KeepPolicy {
		require.Equal(t, "offsite", copied)
		return policy
	}
	c := &Copies{Locations: l, Keep: keep, AfterBackup: []string{"offsite"}}
	suite := &testsuite.WorkflowTestSuite{}
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestActivityEnvironment()
	c.Register(env)
	(&Retention{Locations: l, Keep: keep}).Register(env)
	(&Repository{Store: RepositoryStore(l)}).Register(env)
	call := func(name string, in, out any) error {
		value, err := env.ExecuteActivity(name, in)
		if err == nil && out != nil {
			err = value.Get(out)
		}
		return err
	}
	missing := func(in remora.MissingInput) (names []string) {
		var all []remora.ListedBackup
		in.To = "offsite"
		require.NoError(t, call(remora.MissingActivity, in, &all))
		for _, b := range all {
			require.Equal(t, "shop", b.Source)
			names = append(names, b.ID)
		}
		return names
	}
	require.Equal(t, ids, missing(remora.MissingInput{Limit: 9}), "the oldest first")
	require.Equal(t, ids[1:2], missing(remora.MissingInput{Limit: 1, Skip: ids[:1]}))
	policy.Last = 1
	require.Equal(t, ids[2:], missing(remora.MissingInput{Limit: 9}), "what would be removed at once is not copied")
	policy = remora.KeepPolicy{}

	for _, id := range ids {
		var copied remora.Copied
		require.NoError(t, call(remora.CopyActivity, remora.CopyInput{Backup: id, To: "offsite"}, &copied))
		require.Equal(t, 1, copied.Backups)
		require.Contains(t, missing(remora.MissingInput{Limit: 9}), id, "it does not count before it was read back")
		require.NoError(t, call(remora.VerifyActivity, remora.VerifyInput{Backup: id, In: "offsite"}, nil))
	}
	require.Empty(t, missing(remora.MissingInput{Limit: 9}))
	require.NoError(t, call(remora.RecordCopiesActivity, remora.RecordCopiesInput{To: "offsite"}, nil))
	main, err := l.At(t.Context(), "")
	require.NoError(t, err)
	all, err := main.List(t.Context(), repository.Filter{})
	require.NoError(t, err)
	for _, b := range all {
		require.Equal(t, []string{"offsite"}, b.Copies)
	}

	// clean plays the steps of a Retention, as its workflow does.
	clean := func(force string) (done remora.DeletedPage, err error) {
		var planned remora.Planned
		if err := call(remora.PlanRetentionActivity, remora.RetentionRequest{Copy: "offsite", Force: force}, &planned); err != nil {
			return done, err
		}
		if err := call(remora.DeleteBackupsActivity, remora.DeleteInput{Copy: "offsite", Hash: planned.Hash, Limit: 50}, &done); err != nil || planned.Refused == nil {
			return done, err
		}
		return done, fmt.Errorf("%s; force %s", planned.Refused, planned.Hash)
	}
	done, err := clean("")
	require.NoError(t, err)
	require.Zero(t, done.Deleted, "nothing is said about what to keep")
	policy.Last = 1
	done, err = clean("")
	require.ErrorContains(t, err, "2 of the 3 good backups of shop would be deleted")
	require.Zero(t, done.Deleted)
	_, hash, _ := strings.Cut(err.Error(), "force ")
	_, err = clean("another")
	require.Equal(t, "Refused", errorType(err))
	require.NoError(t, main.RecordRestore(t.Context(), remora.Restore{ID: "r", Source: "shop", Backup: ids[0], Outcome: remora.OutcomeRunning}))
	_, err = clean(hash)
	require.Equal(t, "Refused", errorType(err), "F42: a restore has begun to read one of them, and so it is another plan")
	require.Equal(t, 1, must(clean("")).Deleted, "S29: a restore reads the other one")
	require.NoError(t, main.RecordRestore(t.Context(), remora.Restore{ID: "r", Source: "shop", Backup: ids[0], Outcome: remora.OutcomeApplied}))
	require.Equal(t, 1, must(clean("")).Deleted)
	offsite, err := l.At(t.Context(), "offsite")
	require.NoError(t, err)
	all, err = offsite.List(t.Context(), repository.Filter{})
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, ids[2], all[0].ID)
	all, err = main.List(t.Context(), repository.Filter{})
	require.NoError(t, err)
	require.Len(t, all, 3, "the repository keeps what it has")
}

func must[T any](one T, err error) T {
	if err != nil {
		panic(err)
	}
	return one
}

func errorType(err error) string {
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return app.Type()
	}
	return ""
}
