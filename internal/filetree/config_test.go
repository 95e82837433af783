package filetree

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

func TestANonsensicalConfigurationIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"relative root":          {func(c *Config) { c.Root = "srv/public" }, "absolute"},
		"unclean root":           {func(c *Config) { c.Root = "/srv//public/" }, "clean"},
		"the whole machine":      {func(c *Config) { c.Root = "/" }, "below /"},
		"our own root":           {func(c *Config) { c.Root = "/srv/.remora" }, "keeps for itself"},
		"no directories":         {func(c *Config) { c.Directories = nil }, "at least one"},
		"absolute directory":     {func(c *Config) { c.Directories = []string{"/etc"} }, "relative to root"},
		"upward directory":       {func(c *Config) { c.Directories = []string{"../etc"} }, "relative to root"},
		"hidden upward":          {func(c *Config) { c.Directories = []string{"a/../../etc"} }, "relative to root"},
		"root itself":            {func(c *Config) { c.Directories = []string{"."} }, "relative to root"},
		"trailing slash":         {func(c *Config) { c.Directories = []string{"a/"} }, "relative to root"},
		"NUL":                    {func(c *Config) { c.Directories = []string{"a\x00b"} }, "relative to root"},
		"one in another":         {func(c *Config) { c.Directories = []string{"a/b", "a"} }, "overlap"},
		"twice":                  {func(c *Config) { c.Directories = []string{"a", "a"} }, "overlap"},
		"the name of the census": {func(c *Config) { c.Directories = []string{"part.json"} }, "keeps for itself"},
		"our own name":           {func(c *Config) { c.Directories = []string{"a/.remora-x"} }, "keeps for itself"},
		"bad pattern":            {func(c *Config) { c.Exclude = []string{"[a"} }, "not a valid pattern"},
		"absolute pattern":       {func(c *Config) { c.Exclude = []string{"/srv/x"} }, "relative to each directory"},
		"negated pattern":        {func(c *Config) { c.Exclude = []string{"!x"} }, "cannot be negated"},
		"empty pattern":          {func(c *Config) { c.Exclude = []string{""} }, "relative to each directory"},
		"bad source":             {func(c *Config) { c.Source = "../x" }, "not a source name"},
		"no installation":        {func(c *Config) { c.Installation = "" }, "installation"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Source: "shop", Installation: installation, Root: "/srv/public", Directories: []string{"a", "b/c"}, Exclude: []string{"*.tmp"}}
			_, err := New(cfg)
			require.NoError(t, err)
			c.change(&cfg)
			_, err = New(cfg)
			requireProblem(t, err, remora.Invalid, c.says)
		})
	}
	_, err := New(Config{Source: "shop", Installation: installation, Root: "/srv/public", Directories: []string{"a", "ab"}})
	require.NoError(t, err, "a common beginning is no overlap")
}

func TestPatternsMatchPathAndBaseName(t *testing.T) {
	p := patterns{"*.tmp", "cache/**", "logs/", "a/*/c", "we?rd"}
	for rel, want := range map[string]bool{
		"x.tmp": true, "deep/down/x.tmp": true, "x.tmp/inside": false /* its parent is not entered */, "x.tmpl": false,
		"cache": true, "cache/a/b": true, "other/cache": false, "logs": true, "deep/logs": true,
		"a/b/c": true, "a/b/b/c": false, "weird": true, "we\nrd": true,
		".remora": true, "_remora_x": true, "sub/.remora": false, "receipts": false,
	} {
		require.Equal(t, want, p.match(rel), "%q", rel)
	}
}
