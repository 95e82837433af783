package maintenance

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// application is what a mode takes offline, with the eyes and the hands of its operator.
type application struct {
	mode    Mode
	offline func() bool
	down    func() // by the operator
	// half leaves what a worker killed in the middle of Enter leaves.
	half func(run string)
}

func fileApplication(t *testing.T, path string, mode Mode, theirs string) application {
	return application{
		mode:    mode,
		offline: func() bool { _, err := os.Stat(path); return err == nil },
		down:    func() { require.NoError(t, os.WriteFile(path, []byte(theirs), 0o644)) },
		half: func(run string) {
			tmp, err := os.CreateTemp(filepath.Dir(path), (&file{}).beginnings(run))
			require.NoError(t, err)
			require.NoError(t, tmp.Close())
		},
	}
}

// hookServer is an application that is taken offline by a hook.
type hookServer struct {
	down  bool
	got   []string
	token string
	// answer, if set, is what the hook answers without doing anything.
	answer int
}

func (s *hookServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case s.answer != 0:
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(s.answer)
	case r.Method == http.MethodGet && s.down:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.Method == http.MethodPost:
		var body struct{ Source, Run, Action string }
		if json.NewDecoder(r.Body).Decode(&body) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.token = r.Header.Get("Authorization")
		s.got = append(s.got, body.Source+" "+body.Run+" "+body.Action)
		s.down = body.Action == "enter"
	}
}

func applications() map[string]func(t *testing.T) application {
	return map[string]func(t *testing.T) application{
		"file": func(t *testing.T) application {
			path := filepath.Join(t.TempDir(), "down")
			return fileApplication(t, path, FlagFile(path), `{"run": "run-2"}`)
		},
		"laravel": func(t *testing.T) application {
			dir, path := laravelTree(t)
			return fileApplication(t, path, Laravel(dir), `{"except": [], "status": 503, "secret": null}`)
		},
		"command": func(t *testing.T) application {
			path := filepath.Join(t.TempDir(), "off")
			a := fileApplication(t, path, Journalled(Commands(Command{
				Source: "shop", Enter: []string{"touch", path}, Leave: []string{"rm", "-f", path}, Status: []string{"test", "-f", path},
			}), filepath.Join(t.TempDir(), "state", "shop")), "")
			a.half = func(string) {}
			return a
		},
		"http": func(t *testing.T) application {
			s := &hookServer{}
			server := httptest.NewServer(s)
			t.Cleanup(server.Close)
			return application{
				mode: Journalled(Hooks(Hook{Source: "shop", Enter: server.URL, Leave: server.URL, Status: server.URL}),
					filepath.Join(t.TempDir(), "state", "shop")),
				offline: func() bool { return s.down }, down: func() { s.down = true }, half: func(string) {},
			}
		},
	}
}

// restoring does what a saga does: it asks before, and remembers.
type restoring struct {
	t *testing.T
	application
	run    string
	theirs bool
}

func (a application) restore(t *testing.T, run string) *restoring {
	r := &restoring{t: t, application: a, run: run}
	var err error
	r.theirs, err = a.mode.Offline(t.Context(), run)
	require.NoError(t, err)
	return r
}

func (r *restoring) enter() {
	r.t.Helper()
	if !r.theirs {
		require.NoError(r.t, r.mode.Enter(r.t.Context(), r.run))
	}
}

func (r *restoring) leave() {
	r.t.Helper()
	if !r.theirs {
		require.NoError(r.t, r.mode.Leave(r.t.Context(), r.run))
	}
}

// What every mode promises.
func TestContract(t *testing.T) {
	for name, build := range applications() {
		t.Run(name, func(t *testing.T) {
			t.Run("there and back, each twice", func(t *testing.T) {
				a := build(t)
				require.NotEmpty(t, a.mode.String())
				r := a.restore(t, "run-1")
				r.leave()
				require.False(t, a.offline())
				r.enter()
				require.True(t, a.offline())
				theirs, err := a.mode.Offline(t.Context(), "run-1")
				require.NoError(t, err)
				require.False(t, theirs, "after a crash, it is still ours")
				r.enter()
				require.True(t, a.offline())
				r.leave()
				require.False(t, a.offline())
				r.leave()
				require.False(t, a.offline())
			})
			t.Run("down before stays down", func(t *testing.T) {
				a := build(t)
				a.down()
				r := a.restore(t, "run-1")
				r.enter()
				r.enter()
				require.True(t, a.offline())
				r.leave()
				require.True(t, a.offline(), "it took away what somebody else set")
				require.NoError(t, a.mode.Leave(t.Context(), "run-1"), "out of the blue, as after a workflow was terminated")
				require.True(t, a.offline(), "it took away what somebody else set")
			})
			t.Run("what an earlier run left is not the next one's to leave", func(t *testing.T) {
				a := build(t)
				a.restore(t, "run-1").enter()
				require.NoError(t, a.mode.Leave(t.Context(), "run-2"))
				require.NoError(t, a.mode.Leave(t.Context(), ""))
				require.True(t, a.offline())
				require.NoError(t, a.mode.Leave(t.Context(), "run-1"))
				require.False(t, a.offline())
			})
			t.Run("a killed worker's successor leaves", func(t *testing.T) {
				a := build(t)
				r := a.restore(t, "run-1")
				a.half("run-1") // before anything was to be seen
				r.enter()
				r.leave()
				require.False(t, a.offline())
				a.half("run-1")
				r.leave()
				require.False(t, a.offline())
			})
			t.Run("the next restore", func(t *testing.T) {
				a := build(t)
				for _, run := range []string{"run-1", "run-2"} {
					r := a.restore(t, run)
					r.enter()
					require.True(t, a.offline())
					r.leave()
					require.False(t, a.offline())
				}
			})
		})
	}
}

// A worker of another machine that leaves for a history which has entered needs no journal of its own.
func TestAHistoryThatHasEnteredIsBelieved(t *testing.T) {
	s := &hookServer{down: true}
	server := httptest.NewServer(s)
	defer server.Close()
	mode := Journalled(Hooks(Hook{Enter: server.URL, Leave: server.URL}), filepath.Join(t.TempDir(), "shop"))
	require.NoError(t, mode.(interface{ Claim(string) error }).Claim("run-1"))
	require.NoError(t, mode.Leave(t.Context(), "run-1"))
	require.False(t, s.down)

	closed := Journalled(None(), "/proc/remora/shop")
	require.Equal(t, "/proc/remora/shop", problemOf(t, closed.Enter(t.Context(), "run-1")).Subject)
}

func TestNoneDoesNothing(t *testing.T) {
	theirs, err := None().Offline(t.Context(), "run-1")
	require.NoError(t, err)
	require.False(t, theirs)
	require.NoError(t, None().Enter(t.Context(), "run-1"))
	require.NoError(t, None().Leave(t.Context(), "run-1"))
	require.Empty(t, None().String())
}

func TestTheFileIsForTheApplicationToRead(t *testing.T) {
	folder := t.TempDir()
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(folder, 33, 33))
	}
	path := filepath.Join(folder, "down")
	mode := FlagFile(path)
	require.NoError(t, mode.Enter(t.Context(), "run-1"))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o644, info.Mode().Perm(), "the application runs as another user")
	above, err := os.Stat(folder)
	require.NoError(t, err)
	require.Equal(t, above.Sys().(*syscall.Stat_t).Uid, info.Sys().(*syscall.Stat_t).Uid)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var said mark
	require.NoError(t, json.Unmarshal(text, &said))
	require.Equal(t, "run-1", said.Run)
	require.WithinDuration(t, time.Now(), said.Since, time.Minute)
	require.NoError(t, mode.Leave(t.Context(), "run-1"))
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, entries, "something was left beside the flag")
}

// Whatever is in a file that is not this run's, it stays as it is.
func TestWhatWasOnBeforeStaysOn(t *testing.T) {
	dir, down := laravelTree(t)
	flag := filepath.Join(t.TempDir(), "down")
	for path, mode := range map[string]Mode{flag: FlagFile(flag), down: Laravel(dir)} {
		for _, text := range []string{
			"", `{"secret": "x"}`, `{"run": "run-2", "remora": {"run": "run-2"}}`, `[1]`, `{"remora": 7}`, `{"run": "", "remora": {"run": ""}}`, "\xff",
		} {
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			theirs, err := mode.Offline(t.Context(), "run-1")
			require.NoError(t, err)
			require.True(t, theirs)
			require.NoError(t, mode.Enter(t.Context(), "run-1"))
			require.NoError(t, mode.Leave(t.Context(), "run-1"))
			require.NoError(t, mode.Leave(t.Context(), ""))
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, text, string(after))
			require.NoError(t, os.Remove(path))
		}
	}
}

func problemOf(t *testing.T, err error) *remora.Problem {
	t.Helper()
	var p *remora.Problem
	require.ErrorAs(t, err, &p)
	return p
}

func TestAMissingFolderIsNamed(t *testing.T) {
	dir := t.TempDir()
	for _, mode := range []Mode{FlagFile(filepath.Join(dir, "gone", "down")), Laravel(dir)} {
		p := problemOf(t, mode.Enter(t.Context(), "run-1"))
		require.Equal(t, remora.Invalid, p.Kind)
		require.Contains(t, p.Hint, filepath.Dir(p.Subject))
		require.NoError(t, mode.Leave(t.Context(), "run-1"), "nothing to undo")
	}
}

func TestCommandsThatFailAreNamed(t *testing.T) {
	script := func(text string) []string { return []string{"sh", "-c", text} }
	t.Setenv("SHOP_PASSWORD", "hunter2")
	for name, c := range map[string]struct {
		argv []string
		kind remora.ProblemKind
		says string
	}{
		"not there":      {[]string{"/nowhere/artisan"}, remora.Invalid, "no such file"},
		"not to run":     {[]string{"/etc/passwd"}, remora.Invalid, "permission denied"},
		"exit code":      {script("echo first >&2; echo the cache is gone >&2; exit 3"), remora.Unavailable, "exit status 3: the cache is gone"},
		"says a lot":     {script("yes hunter2 | head -c 3000000 >&2; echo >&2; echo end >&2; exit 1"), remora.Unavailable, "exit status 1: end"},
		"one long line":  {script("head -c 5000 /dev/zero | tr '\\0' x >&2; exit 1"), remora.Unavailable, "xxx..."},
		"never ends":     {script("sleep 60 & sleep 60"), remora.Stalled, "did not end within 300ms"},
		"no environment": {script(`echo "$REMORA_SOURCE $REMORA_RUN <$SHOP_PASSWORD>" >&2; exit 1`), remora.Unavailable, "shop run-1 <>"},
		"no shell":       {[]string{"ls", "$(reboot)"}, remora.Unavailable, "$(reboot)"},
	} {
		t.Run(name, func(t *testing.T) {
			within := time.Minute
			if name == "never ends" {
				within = 300 * time.Millisecond
			}
			mode := Commands(Command{Source: "shop", Enter: c.argv, Leave: c.argv, Status: c.argv, Within: within})
			p := problemOf(t, mode.Enter(t.Context(), "run-1"))
			require.Equal(t, c.kind, p.Kind)
			require.Contains(t, p.Error(), c.says)
			require.NotContains(t, p.Error(), "hunter2")
			require.Less(t, len(p.Error()), 400)
		})
	}
	mode := Commands(Command{Enter: script("sleep 60 & exit 0"), Leave: script("exit 0"), Status: script("exit 2")})
	began := time.Now()
	require.NoError(t, mode.Enter(t.Context(), "run-1"), "what it leaves running is its own business")
	require.Less(t, time.Since(began), 20*time.Second)
	_, err := mode.Offline(t.Context(), "run-1")
	require.ErrorContains(t, err, "exit status 2", "neither offline nor online")
}

func TestHooksThatFailAreNamed(t *testing.T) {
	s := &hookServer{}
	server := httptest.NewServer(s)
	secret := func() (remora.Secret, error) { return "hunter2", nil }
	to := server.URL + "/hook?key=hunter2"
	mode := Hooks(Hook{Source: "shop", Enter: to, Leave: to, Status: to, Token: secret})
	require.NoError(t, mode.Enter(t.Context(), "run-1"))
	require.Equal(t, []string{"shop run-1 enter"}, s.got)
	require.Equal(t, "Bearer hunter2", s.token)
	for status, kind := range map[int]remora.ProblemKind{
		302: remora.Invalid, 307: remora.Invalid, 400: remora.Invalid, 401: remora.Denied, 403: remora.Denied, 404: remora.Invalid,
		429: remora.Unavailable, 500: remora.Unavailable, 503: remora.Unavailable,
	} {
		s.answer = status
		p := problemOf(t, mode.Leave(t.Context(), "run-1"))
		require.Equal(t, kind, p.Kind, "%d", status)
		require.NotContains(t, p.Error()+p.Hint, "hunter2")
	}
	require.Len(t, s.got, 1, "a redirect was followed")
	s.answer = 500
	_, err := mode.Offline(t.Context(), "run-1")
	require.Equal(t, remora.Unavailable, problemOf(t, err).Kind)
	server.Close()
	p := problemOf(t, mode.Leave(t.Context(), "run-1"))
	require.Equal(t, remora.Unavailable, p.Kind)
	require.NotContains(t, p.Error()+p.Hint+mode.String(), "hunter2")

	lost := Hooks(Hook{Enter: to, Leave: to, Token: func() (remora.Secret, error) { return "", errors.New("the file is missing") }})
	require.ErrorContains(t, lost.Enter(t.Context(), "run-1"), "the file is missing")
}

// left lists what is in a folder.
func left(t *testing.T, folder string) []string {
	t.Helper()
	var names []string
	require.NoError(t, filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, strings.TrimPrefix(path, folder))
		return err
	}))
	slices.Sort(names)
	return names
}

// A worker that was killed anywhere in Enter leaves no trace once its successor has left.
func TestNothingIsLeftBehind(t *testing.T) {
	dir, down := laravelTree(t)
	folder := filepath.Dir(down)
	before := left(t, folder)
	a := fileApplication(t, down, Laravel(dir), "")
	a.half("run-1")
	a.half("run-1")
	require.NoError(t, a.mode.Enter(t.Context(), "run-1"))
	require.NoError(t, a.mode.Leave(t.Context(), "run-1"))
	require.Equal(t, before, left(t, folder))
	a.half("run-2")
	require.NoError(t, a.mode.Leave(t.Context(), "run-1"))
	require.Len(t, left(t, folder), len(before)+1, "another run's is not ours to remove")
}

func TestLastLine(t *testing.T) {
	var l last
	for range 100 {
		_, _ = l.Write(bytes.Repeat([]byte("ä\x00"), 1000))
	}
	require.LessOrEqual(t, len(l.line()), 202)
	require.NotContains(t, l.line(), "\x00")
	require.Empty(t, (&last{text: []byte("\n \n")}).line())
}
