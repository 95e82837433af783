package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// mainVariable makes a child of the tests the worker itself.
const mainVariable = "REMORA_TEST_MAIN"

// lines is what a program prints, for tests to read meanwhile.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// ask gives the status, the header and the body of an answer.
func ask(method, url string) (int, http.Header, string, error) {
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return 0, nil, "", err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, answer.Header, string(text), err
}

// answers waits for an answer with that status, and gives its text.
func answers(t *testing.T, url string, status int) (text string) {
	t.Helper()
	testenv.Wait(t, 40*time.Second, fmt.Sprintf("%s to answer %d", url, status), func() (err error) {
		var got int
		got, _, text, err = ask(http.MethodGet, url)
		if err == nil && got != status {
			err = fmt.Errorf("%d %s", got, text)
		}
		return err
	})
	return text
}

// A worker tells machines how it is, also when Temporal or the repository is away, and ends within moments of a SIGTERM
// although the owner of the ping hangs (F5).
func TestWorkerTellsHowItIsAndStops(t *testing.T) {
	t.Parallel() // it mostly waits
	server := testenv.NewTemporal(t)
	at, r := newRepository(t)
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "uploads"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "password"), []byte("secret words\n"), 0o600))
	addBackup(t, r, "shop", time.Now().Add(-time.Hour))
	require.NoError(t, r.RecordMonitorState(t.Context(), remora.MonitorState{At: time.Now()}))
	pinged, release := make(chan struct{}, 1), make(chan struct{})
	owner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		pinged <- struct{}{}
		<-release
	}))
	defer owner.Close()
	defer close(release)
	listen := freeAddress(t)
	file := filepath.Join(dir, "remora.yaml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
state: %[1]s/state
repository: {path: %[2]s, password_file: password}
temporal: {address: "%[3]s", namespace: %[4]s}
sources: {shop: {files: {root: %[1]s, directories: [uploads]}}}
monitor: {listen: "%[5]s", ping: "%[6]s"}
`, dir, at.Path, server.Address, server.Namespace, listen, owner.URL), 0o600))

	said := &lines{}
	child := exec.Command(os.Args[0], "--config", file)
	child.Env = append(os.Environ(), mainVariable+"=1")
	child.Stdout, child.Stderr = said, said
	require.NoError(t, child.Start())
	defer func() { _ = child.Process.Kill() }()
	url := "http://" + listen
	require.Equal(t, "ok\n", answers(t, url+"/readyz", http.StatusOK))
	select {
	case <-pinged:
	case <-time.After(20 * time.Second):
		t.Fatal("no ping: " + said.String())
	}

	text := answers(t, url+"/metrics", http.StatusOK)
	for _, want := range []string{
		`remora_build_info{version="`, "remora_repository_up 1\n", `remora_backup_age_seconds{source="shop"} 36`, `remora_backup_bytes{source="shop"} 4096`,
		`remora_history_runs{outcome="completed",source="shop"} 1`, "temporal_request_total{", "temporal_request_latency_seconds_bucket{", "kopia_", "process_open_fds",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "secret words")
	for path, want := range map[string]int{"GET /": 404, "GET /debug/pprof/": 404, "GET /metrics/": 404, "GET /healthz/x": 404, "POST /healthz": 405, "DELETE /metrics": 405, "HEAD /healthz": 200, "HEAD /readyz": 200, "HEAD /metrics": 200} {
		method, path, _ := strings.Cut(path, " ")
		status, header, body, err := ask(method, url+path)
		require.NoError(t, err)
		require.Equal(t, want, status, method+" "+path)
		require.Equal(t, "nosniff", header.Get("X-Content-Type-Options"))
		if method == http.MethodHead {
			require.Empty(t, body)
		}
	}

	require.NoError(t, os.Rename(at.Path, at.Path+".away"))
	require.Contains(t, answers(t, url+"/readyz", http.StatusServiceUnavailable), "it is not there any more")
	require.NoError(t, os.Rename(at.Path+".away", at.Path))
	answers(t, url+"/readyz", http.StatusOK)
	server.Kill(t)
	require.Contains(t, answers(t, url+"/readyz", http.StatusServiceUnavailable), "connect to Temporal")
	require.Equal(t, "ok\n", answers(t, url+"/healthz", http.StatusOK), "the worker lives")

	began := time.Now()
	require.NoError(t, child.Process.Signal(syscall.SIGTERM))
	require.NoError(t, child.Wait(), said.String())
	require.Less(t, time.Since(began), 28*time.Second)
	t.Logf("stopped within %s", time.Since(began))
	require.Contains(t, said.String(), "msg=stopped")
	require.NotContains(t, said.String(), "did not stop cleanly")
	require.NotContains(t, said.String(), "secret words")
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

func metricsOf(t *testing.T, cfg *config.Config, known records, err error) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	require.NoError(t, registry.Register(&stock{cfg: cfg, at: time.Now(), known: known, err: err}))
	w := httptest.NewRecorder()
	endpoints(registry, nil).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	var values []string
	for line := range strings.Lines(w.Body.String()) {
		if !strings.HasPrefix(line, "#") && !strings.Contains(line, "build_info") {
			values = append(values, line)
		}
	}
	return strings.Join(values, "")
}

func TestMetricsSayWhatTheRecordsSay(t *testing.T) {
	now := time.Now()
	run := func(source string, age time.Duration, status remora.Status) remora.Backup {
		return remora.Backup{Status: status, Manifest: remora.Manifest{
			Source: source, Purpose: remora.Regular, Started: now.Add(-age), Ended: now.Add(-age + time.Minute),
			Parts: []remora.PartRef{{Summary: remora.Summary{Bytes: 1000}, Added: 10}},
		}}
	}
	safety := run("shop", 0, remora.Completed)
	safety.Purpose = remora.Safety
	cfg := &config.Config{Sources: map[string]*config.Source{
		"shop": {RecoveryPoint: 3 * time.Hour}, "blog": {Schedules: []remora.Schedule{{Timing: remora.Timing{Every: time.Hour}, Deadline: time.Minute}}},
	}}
	known := records{
		backups: []remora.Backup{
			safety, run("shop", time.Hour, remora.Skipped), run("shop", 2*time.Hour, remora.Failed), run("shop", 100*time.Hour, remora.Completed),
			run("gone", time.Hour, remora.Completed), run("shop", 200*time.Hour, remora.Completed),
		},
		restores: []remora.Restore{{Source: "shop", Outcome: remora.OutcomeRolledBack}, {Source: "gone", Outcome: remora.OutcomeApplied}},
		monitor: remora.MonitorState{At: now.Add(-1000 * time.Second), Alerts: []remora.Alert{{Level: remora.Failing}}, Sizes: []remora.SizeSample{
			{Stored: 1, Free: 1}, {Stored: 5000, Free: 700},
		}},
	}
	text := metricsOf(t, cfg, known, nil)
	for _, want := range []string{
		`remora_history_runs{outcome="completed",source="shop"} 2`, `remora_history_runs{outcome="failed",source="shop"} 1`,
		`remora_history_runs{outcome="skipped",source="shop"} 1`,
		"remora_repository_up 1\n", `remora_backup_objective_seconds{source="shop"} 10800`, `remora_backup_objective_seconds{source="blog"} 7260`,
		`remora_backup_age_seconds{source="shop"} 36000`, `remora_backup_bytes{source="shop"} 1000`, `remora_backup_added_bytes{source="shop"} 10`,
		`remora_backup_duration_seconds{source="shop"} 60`, `remora_restores{outcome="rolled back",source="shop"} 1`,
		`remora_alerts{level="failed"} 1`, `remora_alerts{level="warning"} 0`, "remora_repository_stored_bytes 5000\n", "remora_repository_free_bytes 700\n", "remora_monitor_age_seconds 1000",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "gone", "labels are those of the configuration")
	require.NotContains(t, text, `remora_backup_age_seconds{source="blog"}`, "there is none")

	require.Equal(t, `remora_backup_objective_seconds{source="blog"} 7260
remora_backup_objective_seconds{source="shop"} 10800
remora_repository_up 0
`, metricsOf(t, cfg, records{}, errors.New("away")))
}

// A storage that hangs keeps a few of those who ask about it, and nobody who asks for something else.
func TestQuestionsDoNotPileUp(t *testing.T) {
	release := make(chan struct{})
	h := endpoints(prometheus.NewRegistry(), func(context.Context) error {
		<-release
		return nil
	})
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	codes := make(chan int)
	for range atOnce + 1 {
		go func() {
			code, _ := get("/readyz")
			codes <- code
		}()
	}
	require.Equal(t, http.StatusServiceUnavailable, <-codes, "the one too many")
	code, text := get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "those who asked before have no answer yet\n", text)
	code, _ = get("/healthz")
	require.Equal(t, http.StatusOK, code)
	close(release)
	for range atOnce {
		require.Equal(t, http.StatusOK, <-codes)
	}
	code, _ = get("/readyz")
	require.Equal(t, http.StatusOK, code)
}
