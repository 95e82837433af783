// Package testenv gives tests real servers: MySQL, MariaDB, Temporal and S3 storages, in containers of the images that an
// engine has (REMORA_TEST_ENGINE chooses, see container.go), and otherwise as processes of their own; in
// temporary directories, on free loopback ports. Nothing has to be installed first: what is missing is fetched or built
// into a cache beside the clone (see tools/).
//
// A package that wants servers has one line of preparation:
//
//	func TestMain(m *testing.M) { os.Exit(testenv.Run(m)) }
//
// [MySQL], [Temporal], [MinIO] and [VersityGW] then return servers that all tests of the package share, started when the
// first test asks; [NewMySQL], [NewTemporal] and [NewMinIO] return one that a test has to itself, to kill and to restart.
// [EachServer] and [EachNewServer] run a test on MySQL and on every MariaDB. No server outlives the test binary, however
// that ends; but the containers of a killed one end with the next.
//
// Between a test and a server, faults can be put: a Storm before a storage, a Wire to any server, a Disk that is full.
package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// environment is what the tests of one binary share.
type environment struct {
	dir      string   // holds everything the servers write; removed by Run
	lock     *os.File // says that dir is in use
	root     string   // of the repository
	database map[kind]func() (*MySQLServer, error)
	temporal func() (*TemporalServer, error)

	minio, versitygw func() (*S3Server, error)

	mu      sync.Mutex
	running []server
}

// current is set by Run before the first test and cleared after the last: TestMain has no other way to hand something
// to its tests.
var current *environment

// Run runs the tests, then stops the servers that they started and removes their files. It returns the code to exit
// with.
func Run(m *testing.M) int {
	env, err := newEnvironment()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 1
	}
	current = env
	defer func() {
		current = nil
		env.close()
	}()
	return m.Run()
}

func newEnvironment() (*environment, error) {
	root, err := repositoryRoot()
	if err != nil {
		return nil, err
	}
	dir, lock, err := newDir()
	if err != nil {
		return nil, err
	}
	env := &environment{dir: dir, lock: lock, root: root, database: map[kind]func() (*MySQLServer, error){}}
	for _, k := range kinds {
		env.database[k] = sync.OnceValues(func() (*MySQLServer, error) { return env.startDatabase(k) })
	}
	env.temporal = sync.OnceValues(func() (*TemporalServer, error) { return env.startTemporal() })
	env.minio = sync.OnceValues(func() (*S3Server, error) { return env.startS3("minio") })
	env.versitygw = sync.OnceValues(func() (*S3Server, error) { return env.startS3("versitygw") })
	return env, nil
}

// close kills rather than stops: the files are removed anyway.
func (e *environment) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.running {
		p.kill()
	}
	if err := os.RemoveAll(e.dir); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
	}
	_ = e.lock.Close()
}

func environmentOf(t testing.TB) *environment {
	t.Helper()
	if current == nil {
		t.Fatal("this package needs: func TestMain(m *testing.M) { os.Exit(testenv.Run(m)) }")
	}
	return current
}

// Both returns the shared MySQL and Temporal servers, started side by side if they are not there yet.
func Both(t testing.TB) (*MySQLServer, *TemporalServer) {
	t.Helper()
	env := environmentOf(t)
	started := make(chan struct{})
	go func() {
		defer close(started)
		_, _ = env.temporal() // Temporal reports the error
	}()
	database := MySQL(t)
	<-started
	return database, Temporal(t)
}

// Wait returns as soon as done says so, and fails the test when that takes longer than within. The error that done
// returned last tells what was missing.
func Wait(t testing.TB, within time.Duration, what string, done func() error) {
	t.Helper()
	if err := poll(within, done); err != nil {
		t.Fatalf("waited %s for %s: %v", within, what, err)
	}
}

// poll calls done, soon again and then more slowly, until it returns nil or within is over.
func poll(within time.Duration, done func() error) error {
	pause := 5 * time.Millisecond
	for end := time.Now().Add(within); ; {
		err := done()
		if err == nil || errors.As(err, new(givenUp)) || time.Now().After(end) {
			return err
		}
		time.Sleep(pause)
		pause = min(2*pause, 100*time.Millisecond)
	}
}

// givenUp is an error after which waiting is pointless.
type givenUp struct{ error }

// Root is the directory of the clone that is tested.
func Root(t testing.TB) string {
	t.Helper()
	return environmentOf(t).root
}

// Tool is the path of the program that tools/<name>/go.mod pins, for example the stock "kopia" command; it is built on
// first use.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := environmentOf(t).tool("build-tool", name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// repositoryRoot looks upwards from the directory of the package that is tested.
func repositoryRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(text, []byte("module github.com/remora-backup/remora\n")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("not inside a clone of remora")
		}
	}
}

// tool runs a script of tools/ that makes something available, and returns the path that it prints.
func (e *environment) tool(name string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(e.root, "tools", name), args...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("tools/%s %s: %w\n%s", name, strings.Join(args, " "), err, log.String())
	}
	return strings.TrimSpace(out.String()), nil
}
