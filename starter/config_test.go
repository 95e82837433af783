package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConfigCheckSaysWhatIsConfigured(t *testing.T) {
	p := newPlace(t, nobody, "remora", "shop", "blog")
	require.NoError(t, os.MkdirAll(filepath.Join(p.dir, "shop", "uploads"), 0o700))
	s := p.run("config", "check")
	require.Zero(t, s.code, s.err)
	require.Equal(t, "blog: files uploads in "+p.dir+"/blog\n"+
		"shop: files uploads in "+p.dir+"/shop\n"+
		"note: sources.shop: only files are backed up; add database: where the application has one\n"+
		"note: sources.blog: only files are backed up; add database: where the application has one\n"+
		"note: sources.blog.files: there is no directory "+p.dir+"/blog/uploads on this machine\n"+
		"ok: "+p.config+"\n", s.out)
	require.Empty(t, s.err)

	s = p.run("config", "check", "-o", "json")
	var answer checkJSON
	require.NoError(t, json.Unmarshal([]byte(s.out), &answer))
	require.True(t, answer.OK)
	require.Len(t, answer.Sources, 2)
	require.Len(t, answer.Warnings, 3)
}

func TestConfigCheckNamesEveryMistakeAndEndsWith2(t *testing.T) {
	p := newPlace(t, nobody, "remora", "shop")
	put := func(text string) { require.NoError(t, os.WriteFile(p.config, []byte(text), 0o600)) }

	put("repositry: {}\nsources: {shop: {files: {root: /f}}}\n")
	s := p.run("config", "check")
	require.Equal(t, 2, s.code)
	require.Empty(t, s.out)
	require.Equal(t, "remora: read the configuration: 3 mistakes\n"+
		"  "+p.config+":1:1: repositry: unknown key; did you mean repository?\n"+
		"  "+p.config+":1:1: repository: sources need a repository; write repository: {path: DIR, password_file: FILE}, or s3: in place of path:\n"+
		"  "+p.config+":2:18: sources.shop.files: it needs directories: [NAME], the directories inside root to back up\n", s.err)

	s = p.run("config", "check", "-o", "json")
	require.Equal(t, 2, s.code)
	var answer checkJSON
	require.NoError(t, json.Unmarshal([]byte(s.out), &answer))
	require.False(t, answer.OK)
	require.Len(t, answer.Mistakes, 3)
	require.Equal(t, "sources.shop.files", answer.Mistakes[2].Key)
	require.Equal(t, 2, answer.Mistakes[2].Line)

	secret := filepath.Join(p.dir, "open.password")
	require.NoError(t, os.WriteFile(secret, []byte("hunter2\n"), 0o644))
	put("state: state\nrepository: {path: repository, password_file: open.password}\n" +
		"sources: {shop: {database: {address: h, user: u, password_env: UNSET, schemas: [s]}, files: {root: /f, directories: [a]}}}\n")
	s = p.run("config", "check")
	require.Equal(t, 2, s.code)
	require.Equal(t, "read a password ("+secret+"): its mode is 0644: others than its owner can read or change it\n"+
		"  what to do: Run: chmod 600 "+secret+"\n"+
		"read a password (environment variable UNSET): it is not set\n"+
		"  what to do: Set the variable where the command and the worker run, or name a file instead of it.\n"+
		"shop: database s on h:3306 as u; files a in /f\n"+
		"note: sources.shop.files: there is no directory /f/a on this machine\n", s.out)
	require.Equal(t, "remora: check the configuration ("+p.config+"): 2 mistakes\n", s.err)
	require.NotContains(t, s.out+s.err, "hunter2")

	s = p.run("config", "check", "-o", "json")
	require.Equal(t, 2, s.code)
	answer = checkJSON{}
	require.NoError(t, json.Unmarshal([]byte(s.out), &answer))
	require.Len(t, answer.Problems, 2)

	s = p.run("config", "check", "--config", filepath.Join(p.dir, "none.yaml"))
	require.Equal(t, 2, s.code)
	require.Contains(t, s.err, "none.yaml): no such file or directory")
}
