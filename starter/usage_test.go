package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// nobody is an address where nothing listens.
const nobody = "127.0.0.1:1"

func TestWrongCommandLinesEndWith2AndSayWhatToDo(t *testing.T) {
	p := newPlace(t, nobody, "remora", "shop", "blog")
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"unknown command":       {[]string{"bakcup"}, "bakcup"},
		"unknown flag":          {[]string{"backup", "--hurry"}, "--hurry"},
		"unknown output":        {[]string{"version", "-o", "xml"}, "xml"},
		"too many arguments":    {[]string{"backup", "a", "b"}, "takes at most one SOURCE, not 2"},
		"too few arguments":     {[]string{"restore"}, "takes one BACKUP, not 0"},
		"no source named":       {[]string{"backup"}, "there are 2 sources"},
		"unknown kind":          {[]string{"history", "--kind", "everything"}, "everything"},
		"unknown status":        {[]string{"history", "--status", "green"}, "green"},
		"negative limit":        {[]string{"history", "--limit", "-1"}, "-1"},
		"no time":               {[]string{"history", "--since", "yesterday"}, "yesterday"},
		"negative age":          {[]string{"history", "--since", "-3h"}, "-3h"},
		"absurd age":            {[]string{"history", "--since", "99999999d"}, "99999999d"},
		"empty backup":          {[]string{"show", ""}, "no backup was named"},
		"name with a newline":   {[]string{"backup", "shop", "--name", "a\nb"}, `a\nb`},
		"name with a path":      {[]string{"backup", "shop", "--name", "../x"}, "../x"},
		"empty name":            {[]string{"backup", "shop", "--name", ""}, "1 to 80"},
		"the name latest":       {[]string{"backup", "shop", "--name", "latest"}, "latest"},
		"no such component":     {[]string{"backup", "shop", "--database"}, "the source has no database"},
		"nobody to ask":         {[]string{"restore", "latest", "--source", "shop"}, "there is nobody to answer"},
		"no reason":             {[]string{"restore", "x", "--force", "--without-safety-backup", " "}, "say why"},
		"a schema and files":    {[]string{"restore", "x", "--to", "copy", "--files"}, "for the database alone"},
		"a schema and paths":    {[]string{"restore", "x", "--to", "copy", "--path", "a"}, "for the database alone"},
		"no path":               {[]string{"restore", "x", "--path", "a", "--path", "/"}, "--path"},
		"an absolute path":      {[]string{"restore", "x", "--path", "/srv/shop/a"}, "below files.root"},
		"a path in no alphabet": {[]string{"restore", "x", "--path", "a\xff"}, "--path"},
		"no table":              {[]string{"restore", "x", "--table", "orders,"}, "--table orders,"},
		"no schema":             {[]string{"restore", "x", "--to", ""}, "--to"},
		"a directory for rows":  {[]string{"restore", "x", "--to", "/srv/look", "--table", "orders"}, "for the files alone"},
		"a relative directory":  {[]string{"restore", "x", "--to", "./look"}, "absolute directory"},
		"the directory of all":  {[]string{"restore", "x", "--to", "//"}, "absolute directory"},
		"a copy and its undo":   {[]string{"restore", "x", "--to", "copy", "--undo-window", "1h"}, "no undo window"},
		"a preview elsewhere":   {[]string{"restore", "x", "--preview", "--to", "copy"}, "nothing to preview"},
		"a preview unattended":  {[]string{"restore", "x", "--preview", "--detach"}, "starts nothing"},
		"no such form":          {[]string{"export", "latest", "--format", "csv"}, "csv"},
		"rows to nowhere":       {[]string{"export", "latest", "--format", "tsv"}, "not go to standard output"},
		"configuration missing": {[]string{"history", "--config", filepath.Join(p.dir, "none.yaml")}, "none.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			s := p.run(c.args...)
			require.Equal(t, 2, s.code, s.err)
			require.Contains(t, s.err, c.says)
			require.True(t, strings.HasPrefix(s.err, "remora: "), s.err)
			require.Contains(t, s.err, "\n  what to do: ")
			require.Equal(t, 2, strings.Count(s.err, "\n"), "one line for what and why, one for what to do")
			require.Empty(t, s.out)
		})
	}
}

func TestNamesThatAreNotThereEndWith4(t *testing.T) {
	p := newPlace(t, nobody, "remora", "shop")
	for _, args := range [][]string{
		{"backup", "nowhere"},
		{"backup", "../etc"},
		{"history", "nowhere"},
		{"restores", "a b"},
		{"status", "a\nb"},
		{"watch", `a"b'c`},
		{"cancel", "nowhere"},
		{"show", "shop-2020"},
		{"show", "../../etc/passwd"},
		{"show", "no such thing"},
		{"show", `a'b"c`},
		{"show", "a\nb\x1b[31m"},
		{"ls", "latest"},
		{"export", "latest"},
		{"restore", "latest", "--force"},
		{"restore", "latest", "--force", "--source", "nowhere"},
		{"rollback", "nothing"},
		{"accept", "../x"},
		{"show", strings.Repeat("x", 100_000)},
	} {
		t.Run(fit(strings.Join(args, " "), 40), func(t *testing.T) {
			s := p.run(args...)
			require.Equal(t, 4, s.code, s.err)
			require.Contains(t, s.err, "\n  what to do: ")
			require.NotContains(t, s.err, "\x1b", "control characters are shown, not obeyed")
			require.Equal(t, 2, strings.Count(s.err, "\n"), s.err)
			require.Less(t, len(s.err), 10_000)
		})
	}
}

func TestUnreachableTemporalEndsWith7(t *testing.T) {
	p := newPlace(t, nobody, "remora", "shop")
	for _, args := range [][]string{{"backup"}, {"cancel"}, {"watch"}, {"rollback"}, {"accept"}} {
		t.Run(args[0], func(t *testing.T) {
			s := p.run(args...)
			require.Equal(t, 7, s.code, s.err)
			require.Equal(t, "remora: reach Temporal (127.0.0.1:1): connect: connection refused\n"+
				"  what to do: start it with `remora up`, or correct temporal.address in the configuration\n", s.err)
		})
	}
	t.Run("status tells what it knows all the same", func(t *testing.T) {
		s := p.run("status")
		require.Equal(t, 7, s.code, s.err)
		require.Contains(t, s.out, "shop has no backup yet. Temporal does not answer")
	})
}

func TestMissingNamespaceIsAConfigurationError(t *testing.T) {
	p := newPlace(t, testenv.Temporal(t).Address, "elsewhere", "shop")
	s := p.run("backup")
	require.Equal(t, 2, s.code, s.err)
	require.Contains(t, s.err, `it has no namespace "elsewhere"`)
}

func TestErrorsInJSONAreOneObject(t *testing.T) {
	p := newPlace(t, nobody, "remora", "shop")
	for _, args := range [][]string{
		{"show", "nothing", "-o", "json"}, {"bakcup", "-o", "json"}, {"backup", "-o=json", "--hurry"}, {"backup", "--output", "json"},
	} {
		s := p.run(args...)
		require.NotZero(t, s.code)
		var got struct {
			Error struct{ Op, Kind, Subject, Hint, Message string }
		}
		dec := json.NewDecoder(strings.NewReader(s.err))
		dec.DisallowUnknownFields()
		require.NoError(t, dec.Decode(&got), s.err)
		require.False(t, dec.More())
		require.NotEmpty(t, got.Error.Kind)
		require.NotEmpty(t, got.Error.Message)
		require.NotEmpty(t, got.Error.Hint)
	}
}

func TestConfigurationMistakesAreListedOneByOne(t *testing.T) {
	p := newPlace(t, nobody, "remora", "shop")
	require.NoError(t, os.WriteFile(p.config, []byte("repositry: {}\nsorces: {}\n"), 0o600))
	s := p.run("history")
	require.Equal(t, 2, s.code)
	require.Contains(t, s.err, "read the configuration: 2 mistakes\n")
	require.Contains(t, s.err, "remora.yaml:1:1: repositry: unknown key; did you mean repository?\n")
}

func TestWrongRepositoryPasswordEndsWith1(t *testing.T) {
	p := newPlace(t, nobody, "remora", "shop")
	text, err := os.ReadFile(p.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(p.config, []byte(strings.Replace(string(text), "PASSWORD", "SUDO_USER", 1)), 0o600))
	s := p.run("history")
	require.Equal(t, 1, s.code, s.err)
	require.Contains(t, s.err, "password")
}

func TestEveryHelpTextHasTheExitStatus(t *testing.T) {
	p := newPlace(t, nobody, "remora", "shop")
	every(newRootCommand(&app{}), func(c *cobra.Command) {
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		s := p.run(args...)
		require.Zero(t, s.code, c.CommandPath())
		require.Contains(t, s.out, "EXIT STATUS\n    0  done\n", c.CommandPath())
	})
}

func TestExitCodesOfProblems(t *testing.T) {
	for kind, want := range map[remora.ProblemKind]int{
		remora.Invalid: 2, remora.Busy: 3, remora.NotFound: 4, remora.RolledBack: 5, remora.Corrupt: 6, remora.Unreachable: 7,
		remora.Denied: 1, remora.Internal: 1, remora.Cancelled: 1, remora.Full: 1, remora.Unsupported: 1,
	} {
		require.Equal(t, want, exitCode(&remora.Problem{Op: "x", Kind: kind}), kind)
	}
	require.Zero(t, exitCode(nil))
	require.Equal(t, 130, exitCode(errDetached))
}

// every calls do for a command and all below it.
func every(c *cobra.Command, do func(*cobra.Command)) {
	if !c.Hidden && c.Name() != "help" && c.Name() != "completion" {
		do(c)
		for _, sub := range c.Commands() {
			every(sub, do)
		}
	}
}
