package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestRenderedFileIsWhatPeopleShouldSee(t *testing.T) {
	for name, draft := range map[string]Draft{
		"full": {
			RepositoryPath: "/var/backups/remora", RepositoryPasswordAt: "/etc/remora/repository.password", Source: "shop",
			Database: &DraftDatabase{Address: "127.0.0.1:3306", User: "remora", PasswordAt: "/etc/remora/shop.password", Schema: "shop"},
			Files:    &DraftFiles{Root: "/srv/shop/storage", Directories: []string{"pre-alerts", "receipts"}},
		},
		"bucket": {
			Bucket: &DraftBucket{
				Endpoint: "https://storage:9000", Name: "backups", Prefix: "shop",
				AccessKeyAt: "/etc/remora/s3.access-key", SecretKeyAt: "/etc/remora/s3.secret-key",
			},
			RepositoryPasswordAt: "/etc/remora/repository.password", Source: "shop",
			Files: &DraftFiles{Root: "/srv/shop/storage", Directories: []string{"receipts"}},
		},
		"bucket-env": {
			Bucket:               &DraftBucket{Endpoint: "http://127.0.0.1:9000", Name: "backups"},
			RepositoryPasswordAt: "/etc/remora/repository.password", Source: "shop",
			Files: &DraftFiles{Root: "/srv/shop/storage", Directories: []string{"receipts"}},
		},
		"files": {
			RepositoryPath: "/var/backups/remora", RepositoryPasswordAt: "/etc/remora/repository.password", Source: "2024",
			Files: &DraftFiles{Root: "/srv/my blog", Directories: []string{"on", "a: b"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := Render(draft)
			require.NoError(t, err)
			golden := filepath.Join("testdata", "render", name+".yaml")
			if os.Getenv("UPDATE_GOLDEN") != "" {
				require.NoError(t, os.MkdirAll(filepath.Dir(golden), 0o755))
				require.NoError(t, os.WriteFile(golden, text, 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(string(want), string(text)))
			_, err = Load(write(t, string(text)), env())
			require.NoError(t, err)
		})
	}
}

// A file that was written by us may be completed at its end: whoever appends these keys must not give them twice.
func TestRenderedFileCanBeCompletedAtItsEnd(t *testing.T) {
	text, err := Render(Draft{RepositoryPath: "/r", RepositoryPasswordAt: "/p", Source: "shop", Files: &DraftFiles{Root: "/f", Directories: []string{"a"}}})
	require.NoError(t, err)
	c, err := Load(write(t, string(text)+"\nstate: /s\ntemporal:\n  address: 127.0.0.1:7777\n"), env())
	require.NoError(t, err)
	require.Equal(t, "/s", c.State)
	require.Equal(t, "127.0.0.1:7777", c.Temporal.Address)
}

// Whatever can be a user, a schema or a path survives being written and read.
func TestRenderedValuesAreReadBackUnchanged(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ -~äöüß李]{1,20}`).Filter(func(s string) bool { return strings.TrimSpace(s) == s && s != "" })
		schema := text.Filter(func(s string) bool { return !strings.HasPrefix(strings.ToLower(s), "_remora") }).Draw(t, "schema")
		user, at := text.Draw(t, "user"), "/"+text.Draw(t, "file")
		draft := Draft{
			RepositoryPath: "/r", RepositoryPasswordAt: "/p", Source: "shop",
			Database: &DraftDatabase{Address: "127.0.0.1:3306", User: user, PasswordAt: at, Schema: schema},
		}
		written, err := Render(draft)
		require.NoError(t, err)
		file := filepath.Join(dir, "remora.yaml")
		require.NoError(t, os.WriteFile(file, written, 0o600))
		c, err := Load(file, env())
		require.NoError(t, err, string(written))
		require.Equal(t, user, c.Sources["shop"].Database.User)
		require.Equal(t, []string{schema}, c.Sources["shop"].Database.Schemas)
		require.Equal(t, filepath.Clean(at), c.secrets[1].file)
	})
}
