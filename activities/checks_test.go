package activities

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/remora-backup/remora/internal/maintenance"
	"github.com/remora-backup/remora/internal/remora"
)

// asked is a component that answers checks.
type asked struct {
	fake
	answers map[string]string
	err     error
}

func (a *asked) Check(_ context.Context, query string) (string, error) {
	return a.answers[query], a.err
}

// stager is one with a stage that answers in its place.
type stager struct {
	*asked
	staged *asked
}

func (s *stager) Staged(_ context.Context, run string) (remora.Checker, []string, error) {
	return s.staged, []string{"function f of " + run}, nil
}

func TestChecks(t *testing.T) {
	dir := t.TempDir()
	down := filepath.Join(dir, "storage", "framework", "down")
	require.NoError(t, os.MkdirAll(filepath.Dir(down), 0o700))
	laravel := maintenance.Laravel(dir)
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, offline := os.Stat(down)
		if _, err := r.Cookie("laravel_maintenance"); err != nil && offline == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if r.URL.Path == "/gone" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer application.Close()
	database := &asked{answers: map[string]string{"no": "it gives no row"}}
	var mode maintenance.Mode
	var component remora.Component = database
	checks := []remora.Check{{SQL: "yes"}, {SQL: "no"}, {HTTP: application.URL}, {HTTP: application.URL + "/gone"}}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	(&Checks{
		Of:       func(string) ([]remora.Check, error) { return checks, nil },
		Database: func(string) (remora.Component, error) { return component, nil },
		Mode:     func(string) (maintenance.Mode, error) { return mode, nil },
	}).Register(env)
	run := func(online bool) remora.ChecksResult {
		t.Helper()
		out, err := env.ExecuteActivity(remora.ChecksActivity, remora.ChecksInput{Source: "shop", Online: online})
		require.NoError(t, err)
		var result remora.ChecksResult
		require.NoError(t, out.Get(&result))
		return result
	}
	drilled := func() remora.ChecksResult {
		t.Helper()
		out, err := env.ExecuteActivity(remora.ChecksActivity, remora.ChecksInput{Source: "shop", Run: "drill-1"})
		require.NoError(t, err)
		var result remora.ChecksResult
		require.NoError(t, out.Get(&result))
		return result
	}
	mode = maintenance.None()
	require.Equal(t, []string{"sources.shop.checks[0]: this kind of database cannot be asked", "sources.shop.checks[1]: this kind of database cannot be asked"}, drilled().Failed,
		"what is live must not answer for a drill")
	component = &stager{asked: database, staged: &asked{answers: map[string]string{"yes": "not staged"}}}
	require.Equal(t, remora.ChecksResult{Passed: 1, Failed: []string{"sources.shop.checks[0]: not staged"}, Warnings: []string{"function f of drill-1"}}, drilled(),
		"the stage answers, and no requests are made")
	component = database

	sql, gone := "sources.shop.checks[1]: it gives no row", "sources.shop.checks[3]: it answered 404 Not Found"

	mode = maintenance.None()
	require.Equal(t, remora.ChecksResult{Passed: 1, Failed: []string{sql}, Later: 2}, run(false))
	require.Equal(t, remora.ChecksResult{Passed: 1, Failed: []string{gone}}, run(true))

	mode = laravel
	require.NoError(t, laravel.Enter(t.Context(), "run"))
	require.Equal(t, remora.ChecksResult{Passed: 2, Failed: []string{sql, gone}}, run(false), "the secret in the file lets us in")

	require.NoError(t, os.WriteFile(down, []byte(`{"secret": null}`), 0o600))
	require.Equal(t, remora.ChecksResult{Passed: 1, Failed: []string{sql}, Later: 2}, run(false), "there is no secret to get in with")

	component = &database.fake
	require.Contains(t, run(false).Failed[0], "cannot be asked")
	component, database.err = database, &remora.Problem{Op: "ask", Kind: remora.Unavailable, Err: errors.New("no answer")}
	_, err := env.ExecuteActivity(remora.ChecksActivity, remora.ChecksInput{Source: "shop"})
	_, app := problemIn(t, err)
	require.Equal(t, string(remora.Unavailable), app.Type())
	require.False(t, app.NonRetryable())

	after := func(string) ([][]string, error) { return nil, nil }
	(&Maintenance{Mode: func(string) (maintenance.Mode, error) { return mode, nil }, After: after}).Register(env)
	out, err := env.ExecuteActivity(remora.LookActivity, remora.MaintenanceInput{Source: "shop", Run: "run"})
	require.NoError(t, err)
	var looked remora.MaintenanceResult
	require.NoError(t, out.Get(&looked))
	require.Equal(t, remora.MaintenanceResult{Mode: "Laravel in " + dir, Theirs: true}, looked)
}
