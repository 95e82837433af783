package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/testenv"
)

func TestWhenThePingDoesNotGoOut(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	backup := func(source string, age time.Duration) remora.Backup {
		return remora.Backup{Manifest: remora.Manifest{Source: source, Purpose: remora.Regular, Started: ago(age)}, Status: remora.Completed}
	}
	with := func(b remora.Backup, change func(*remora.Backup)) remora.Backup {
		change(&b)
		return b
	}
	looked := remora.MonitorState{At: ago(time.Hour)}
	alerts := func(level remora.Level) remora.MonitorState {
		return remora.MonitorState{At: now, Alerts: []remora.Alert{{Key: "missed/shop", Level: level}}}
	}
	sources := map[string]*config.Source{"shop": {RecoveryPoint: 3 * time.Hour}, "blog": {RecoveryPoint: 48 * time.Hour}, "by-hand": {}}
	good := []remora.Backup{backup("shop", time.Hour), backup("blog", 47*time.Hour)}
	for name, c := range map[string]struct {
		backups []remora.Backup
		monitor remora.MonitorState
		says    string
	}{
		"all is well":              {good, looked, ""},
		"a warning":                {good, alerts(remora.Warning), ""},
		"exactly at the objective": {[]remora.Backup{backup("shop", 3*time.Hour), good[1]}, looked, ""},
		"too old":                  {[]remora.Backup{backup("shop", 3*time.Hour+time.Second), good[1]}, looked, "shop has no good backup of the last 3h0m0s"},
		"none":                     {good[:1], looked, "blog has no good backup"},
		"nothing at all":           {nil, looked, "blog has no good backup"},
		"the newer ones are no good": {[]remora.Backup{
			with(good[0], func(b *remora.Backup) { b.Status = remora.Corrupted }),
			with(good[0], func(b *remora.Backup) { b.Status = remora.Failed }),
			with(good[0], func(b *remora.Backup) { b.Status = remora.Pending }),
			with(good[0], func(b *remora.Backup) { b.Purpose = remora.Safety }),
			backup("shop", 4*time.Hour), good[1],
		}, looked, "shop has no good backup"},
		"an alert":                        {good, alerts(remora.Failing), "missed/shop"},
		"the monitor never looked":        {good, remora.MonitorState{}, "has not looked within the last 2h0m0s"},
		"the monitor looked long ago":     {good, remora.MonitorState{At: ago(2*time.Hour + time.Second)}, "has not looked within the last 2h0m0s"},
		"a clock that is ahead elsewhere": {[]remora.Backup{backup("shop", -time.Minute), good[1]}, remora.MonitorState{At: now.Add(time.Minute)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := unwell(records{backups: c.backups, monitor: c.monitor}, sources, 2*time.Hour, now)
			if c.says == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.says)
			}
		})
	}
}

// deadMan is the server that raises the alarm when pings end.
type deadMan struct {
	*httptest.Server
	pings atomic.Int64
	last  atomic.Int64
}

func newDeadMan(t *testing.T) *deadMan {
	d := &deadMan{}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.URL.Path == "/0a1b" {
			d.pings.Add(1)
			d.last.Store(time.Now().UnixNano())
		}
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *deadMan) arrive(t *testing.T, when string) {
	t.Helper()
	before := d.pings.Load()
	testenv.Wait(t, 30*time.Second, "a ping "+when, func() error {
		if d.pings.Load() == before {
			return fmt.Errorf("none arrives")
		}
		return nil
	})
}

func (d *deadMan) stop(t *testing.T, when string) {
	t.Helper()
	testenv.Wait(t, 30*time.Second, "the pings to stop "+when, func() error {
		if since := time.Since(time.Unix(0, d.last.Load())); since < 1500*time.Millisecond {
			return fmt.Errorf("the last was %s ago", since)
		}
		return nil
	})
}

// newRepository is an open repository without backups.
func newRepository(t *testing.T) (repository.Config, *repository.Repository) {
	t.Helper()
	dir := t.TempDir()
	cfg := repository.Config{
		Path: filepath.Join(dir, "repository"), State: filepath.Join(dir, "state"),
		Password: func() (remora.Secret, error) { return "secret words", nil },
	}
	require.NoError(t, repository.Create(t.Context(), cfg))
	r, err := repository.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close(context.Background())) })
	return cfg, r
}

// addBackup stores a good backup that began then.
func addBackup(t *testing.T, r *repository.Repository, source string, started time.Time) remora.Backup {
	t.Helper()
	run := fmt.Sprint("run-", started.UnixNano())
	m := remora.Manifest{
		ID: remora.BackupID(source, run, "", started), Run: run, Source: source, Kind: remora.FilesBackup, Purpose: remora.Regular, RequestedBy: "test",
		Started: started, Ended: started.Add(90 * time.Second),
	}
	p, err := r.Begin(t.Context(), repository.Spec{Source: source, Run: run, Backup: m.ID, Kind: remora.Files})
	require.NoError(t, err)
	require.NoError(t, p.Put(t.Context(), "part.json", func(w io.Writer) error {
		_, err := io.WriteString(w, "{}")
		return err
	}))
	root, added, err := p.Finish(t.Context())
	require.NoError(t, err)
	m.Parts = []remora.PartRef{{Kind: remora.Files, Root: root, Added: added, Started: m.Started, Ended: m.Ended, Summary: remora.Summary{Bytes: 4096}}}
	_, err = r.Commit(t.Context(), m)
	require.NoError(t, err)
	_, err = r.Verify(t.Context(), m.ID, nil)
	require.NoError(t, err)
	b, err := r.Find(t.Context(), m.ID, source)
	require.NoError(t, err)
	return b
}

// lookingEverySecond has a workflow of Temporal write, once a second, that the monitor looked.
func lookingEverySecond(t *testing.T, c client.Client, r *repository.Repository) {
	t.Helper()
	const queue = "monitor-test"
	w := worker.New(c, queue, worker.Options{})
	w.RegisterActivityWithOptions(func(ctx context.Context) error {
		return r.RecordMonitorState(ctx, remora.MonitorState{At: time.Now()})
	}, activity.RegisterOptions{Name: "look"})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
		return workflow.ExecuteActivity(ctx, "look").Get(ctx, nil)
	}, workflow.RegisterOptions{Name: "monitor"})
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	_, err := c.ScheduleClient().Create(t.Context(), client.ScheduleOptions{
		ID: "monitor", Spec: client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: time.Second}}},
		Action: &client.ScheduleWorkflowAction{ID: "monitor", Workflow: "monitor", TaskQueue: queue},
	})
	require.NoError(t, err)
}

// beating is a pulse at work, and what it logs.
func beating(t *testing.T, p *pulse) *lines {
	said := &lines{}
	p.log = slog.New(slog.NewTextHandler(said, nil))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return said
}

// F31, F33: a backup that gets too old and a Temporal that is away for too long end the pings, and they come back. A
// worker that is away sends none anyway.
func TestPingsArriveWhileAllIsWellAndAtNoOtherTime(t *testing.T) {
	t.Parallel() // it mostly waits
	server := testenv.NewTemporal(t)
	cfg, r := newRepository(t)
	locations := repository.NewLocations(cfg, nil)
	t.Cleanup(func() { require.NoError(t, locations.Close(context.Background())) })
	const objective, left = time.Hour, 6 * time.Second
	lookingEverySecond(t, server.Client(t), r)
	testenv.Wait(t, 30*time.Second, "the monitor to look", func() error {
		state, err := r.MonitorState(t.Context())
		if err == nil && state.At.IsZero() {
			err = fmt.Errorf("not yet")
		}
		return err
	})
	addBackup(t, r, "shop", time.Now().Add(left-objective))
	owner := newDeadMan(t)
	said := beating(t, &pulse{
		cfg: &config.Config{
			Monitor: config.Monitor{Ping: owner.URL + "/0a1b"}, Sources: map[string]*config.Source{"shop": {RecoveryPoint: objective}},
		},
		locations: locations, every: 100 * time.Millisecond, stale: 5 * time.Second,
	})
	owner.arrive(t, "while all is well")
	owner.stop(t, "when the newest backup is too old")
	require.Contains(t, said.String(), "shop has no good backup of the last 1h0m0s")
	addBackup(t, r, "shop", time.Now())
	owner.arrive(t, "after the next backup")

	server.Kill(t)
	owner.stop(t, "when the monitor has not looked for long")
	require.Contains(t, said.String(), "the monitor has not looked within the last 5s")
	server.Restart(t)
	owner.arrive(t, "when Temporal is back")
	require.LessOrEqual(t, strings.Count(said.String(), "\n"), 8, "a reason is told once:\n%s", said)
	require.NotContains(t, said.String(), "0a1b")
}

func TestPingIsDoneWhenItsOwnerSaysSo(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	owner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/0a1b/good":
			w.WriteHeader(http.StatusNoContent)
		case "/0a1b/redirect":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/0a1b/cut":
			panic(http.ErrAbortHandler)
		default:
			http.NotFound(w, r)
		}
	}))
	defer owner.Close()
	for path, says := range map[string]string{"good": "", "redirect": "answers 302 Found", "cut": "does not answer: EOF", "none": "answers 404 Not Found"} {
		err := ping(t.Context(), owner.URL+"/0a1b/"+path)
		if says == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "0a1b", "whoever reads the log could ping")
	}
	require.Zero(t, elsewhere.Load())
	owner.Close()
	require.ErrorContains(t, ping(t.Context(), owner.URL), "connection refused")
}
