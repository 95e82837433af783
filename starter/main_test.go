package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/testenv"
)

func TestMain(m *testing.M) {
	flag.Parse()
	time.Local = time.FixedZone("here", 3600) // texts for people are in the local zone
	os.Exit(testenv.Run(m))
}

// now is when the tests with fixed texts happen.
func now() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// said is what a command line came to.
type said struct {
	code     int
	out, err string
}

// place is a machine with a configuration, a repository and perhaps a Temporal.
type place struct {
	t      *testing.T
	dir    string
	config string
	in     string
	now    func() time.Time
}

// newPlace writes a configuration with these sources (files only) and makes its repository.
func newPlace(t *testing.T, temporal, namespace string, sources ...string) *place {
	t.Helper()
	dir := t.TempDir()
	text := "repository: {path: repository, password_env: PASSWORD}\nstate: state\n" +
		"temporal: {address: \"" + temporal + "\", namespace: " + namespace + "}\nsources:\n"
	for _, s := range sources {
		text += "  " + s + ": {files: {root: " + s + ", directories: [uploads]}}\n"
	}
	p := &place{t: t, dir: dir, config: filepath.Join(dir, "remora.yaml"), now: now}
	require.NoError(t, os.WriteFile(p.config, []byte(text), 0o600))
	require.NoError(t, repository.Create(context.Background(), p.repositoryConfig()))
	return p
}

func (p *place) repositoryConfig() repository.Config {
	return repository.Config{
		Path: filepath.Join(p.dir, "repository"), State: filepath.Join(p.dir, "state", "command"),
		Password: func() (remora.Secret, error) { return "a password", nil },
	}
}

// repository opens the place's repository for a test to write into.
func (p *place) repository(do func(ctx context.Context, r *repository.Repository)) {
	p.t.Helper()
	ctx := context.Background()
	r, err := repository.Open(ctx, p.repositoryConfig())
	require.NoError(p.t, err)
	do(ctx, r)
	require.NoError(p.t, r.Close(ctx))
}

func (p *place) run(args ...string) said {
	p.t.Helper()
	return p.runContext(context.Background(), args...)
}

func (p *place) runContext(ctx context.Context, args ...string) said {
	var out, errs bytes.Buffer
	a := &app{
		In: strings.NewReader(p.in), Out: &out, Err: &errs, Now: p.now, Width: func() int { return 80 },
		Getenv: func(name string) string {
			return map[string]string{"REMORA_CONFIG": p.config, "PASSWORD": "a password", "SUDO_USER": "alice"}[name]
		},
		Interactive: p.in != "",
	}
	code := run(ctx, a, args)
	return said{code, out.String(), errs.String()}
}

// golden compares text with a file; UPDATE_GOLDEN=1 writes it anew.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (UPDATE_GOLDEN=1 go test writes it anew):\n%s", file, diff)
	}
}
