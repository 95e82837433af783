package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

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
	require.Equal(t, retention, made.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration())
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
