package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// A namespace that nobody prepared is made usable, and making it again changes nothing.
func TestNamespaceIsMade(t *testing.T) {
	server := testenv.Temporal(t)
	const fresh = "remora-fresh"
	c, err := client.Dial(client.Options{HostPort: server.Address, Namespace: fresh, Logger: nothing{}})
	require.NoError(t, err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, ensureNamespace(ctx, c, fresh, quiet))
	require.NoError(t, ensureNamespace(ctx, c, fresh, quiet))
	made, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: fresh})
	require.NoError(t, err)
	require.Equal(t, histories, made.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration())
}

// A worker that cannot run says one clear line and ends with the documented code.
func TestWorkerThatCannotRunSaysWhy(t *testing.T) {
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	require.NoError(t, os.WriteFile(password, []byte("secret words\n"), 0o600))
	write := func(text string) string {
		file := filepath.Join(dir, "remora.yaml")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	source := "sources: {shop: {files: {root: " + dir + ", directories: [uploads]}}}\nstate: " + dir + "/state\n"
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no such file":    {[]string{"--config", filepath.Join(dir, "none.yaml")}, exitUsage, "none.yaml"},
		"nonsense":        {[]string{"--config", write("sources: 7")}, exitUsage, "sources"},
		"argument":        {[]string{"shop"}, exitUsage, "shop"},
		"no repository":   {nil, exitUsage, "need a repository"},
		"lost repository": {nil, exitFailed, "repository"},
	} {
		t.Run(name, func(t *testing.T) {
			switch name {
			case "no repository":
				c.args = []string{"--config", write(source)}
			case "lost repository":
				c.args = []string{"--config", write(source + "repository: {path: " + dir + "/repository, password_file: " + password + "}\n")}
			case "nonsense":
				c.args = []string{"--config", write("sources: 7")}
			}
			var out bytes.Buffer
			code := run(c.args, &out, func(string) string { return "" })
			require.Equal(t, 1, strings.Count(out.String(), "\n"), out.String())
			require.Contains(t, out.String(), c.says)
			require.Equal(t, c.code, code, out.String())
			require.NotContains(t, out.String(), "secret words")
			require.NotContains(t, out.String(), "could not build")
		})
	}
}

// A container engine is told what is true: a process that lives is not enough, and neither is one that lived a moment ago.
func TestHealthyIsAWorkerThatTakesWork(t *testing.T) {
	server := testenv.NewTemporal(t)
	cfg := &config.Config{State: t.TempDir(), Temporal: config.Temporal{Address: server.Address, Namespace: server.Namespace}}
	require.ErrorContains(t, healthy(cfg), "none on this machine")
	r, err := enrol(filepath.Join(cfg.State, "workers"), quiet)
	require.NoError(t, err)
	require.ErrorContains(t, healthy(cfg), "none on this machine", "it has not asked for work")

	c, err := client.Dial(client.Options{HostPort: server.Address, Namespace: server.Namespace, Identity: r.identity(), Logger: nothing{}})
	require.NoError(t, err)
	defer c.Close()
	w := worker.New(c, remora.Queue, worker.Options{})
	w.RegisterWorkflowWithOptions(func(workflow.Context) error { return nil }, workflow.RegisterOptions{Name: "none"})
	require.NoError(t, w.Start())
	testenv.Wait(t, 10*time.Second, "the worker to be seen", func() error { return healthy(cfg) })
	elsewhere := *cfg
	elsewhere.State = t.TempDir()
	require.ErrorContains(t, healthy(&elsewhere), "none on this machine")

	w.Stop()
	require.NoError(t, syscall.Close(r.lock)) // as the end of its process does
	require.ErrorContains(t, healthy(cfg), "none on this machine", "Temporal still remembers it")
	server.Kill(t)
	require.Equal(t, remora.Unreachable, remora.KindOf(healthy(cfg)))
}

// S12: the digest that a worker publishes is of where its sources are, and of nothing that may differ.
func TestS12TheDigestIsOfWhereTheSourcesAre(t *testing.T) {
	known := func(change func(*config.Config)) string {
		cfg := &config.Config{State: "/var/lib/remora", Sources: map[string]*config.Source{"shop": {
			Database: &config.Database{Address: "127.0.0.1:3306", User: "remora", Schemas: []string{"shop"}},
			Files:    &config.Files{Root: "/srv/shop", Directories: []string{"receipts"}}, Maintenance: config.Maintenance{Laravel: "/srv/shop"},
		}}}
		change(cfg)
		return digest(cfg)
	}
	first := known(func(*config.Config) {})
	require.Equal(t, first, known(func(c *config.Config) { c.State, c.Sources["shop"].Database.User = "/tmp", "another" }))
	for name, change := range map[string]func(*config.Config){
		"repository": func(c *config.Config) { c.Repository.Path = "/var/backups" },
		"server":     func(c *config.Config) { c.Sources["shop"].Database.Address = "127.0.0.1:3307" },
		"schema":     func(c *config.Config) { c.Sources["shop"].Database.Schemas = []string{"other"} },
		"root":       func(c *config.Config) { c.Sources["shop"].Files.Root = "/srv/other" },
		"mode":       func(c *config.Config) { c.Sources["shop"].Maintenance = config.Maintenance{File: "/srv/shop/down"} },
		"source":     func(c *config.Config) { c.Sources["blog"] = c.Sources["shop"] },
	} {
		require.NotEqual(t, first, known(change), name)
	}
}
