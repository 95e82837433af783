package testenv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/remora-backup/remora/internal/remora"
)

// TemporalServer is a running Temporal in its single-process mode, with the namespace and the search attributes that
// Remora uses. Safe for concurrent use, but for Kill and Restart.
type TemporalServer struct {
	// Address is the host and port of the service, the same after a restart.
	Address string
	// Namespace is where workflows go.
	Namespace string
	// UI is the address of its web pages.
	UI string

	env     *environment
	binary  string
	dir     string
	port    int
	uiPort  int
	process server
}

// Temporal returns the server that the tests of this binary share.
func Temporal(t testing.TB) *TemporalServer {
	t.Helper()
	server, err := environmentOf(t).temporal()
	if err != nil {
		t.Fatal("start Temporal: ", err)
	}
	return server
}

// NewTemporal returns an empty server for this test alone. It is gone when the test ends.
func NewTemporal(t testing.TB) *TemporalServer {
	t.Helper()
	server, err := environmentOf(t).startTemporal()
	if err != nil {
		t.Fatal("start Temporal: ", err)
	}
	t.Cleanup(func() {
		server.process.kill()
		_ = os.RemoveAll(server.dir) // once more when the binary ends
	})
	return server
}

// State is the directory of all that the server has stored: histories with every payload, uncompressed.
func (s *TemporalServer) State() string { return s.dir }

func (e *environment) startTemporal() (*TemporalServer, error) {
	binary, err := e.tool("build-tool", "temporal")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(e.dir, "temporal-")
	if err != nil {
		return nil, err
	}
	s := &TemporalServer{env: e, binary: binary, dir: dir, Namespace: "remora"}
	for range 3 { // somebody may take a port before the server does
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		if s.uiPort, err = freePort(); err != nil {
			return nil, err
		}
		s.Address = "127.0.0.1:" + strconv.Itoa(s.port)
		s.UI = "http://127.0.0.1:" + strconv.Itoa(s.uiPort)
		if err = s.start(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func (s *TemporalServer) start() error {
	args := []string{
		"server", "start-dev", "--ip", "127.0.0.1", "--port", strconv.Itoa(s.port), "--ui-port", strconv.Itoa(s.uiPort),
		"--db-filename", filepath.Join(s.dir, "state.db"), "--namespace", s.Namespace, "--log-level", "warn",
		"--disable-config-file", "--disable-config-env",
		// Only the machine could lose what is not synced; a killed server loses nothing.
		"--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=OFF",
	}
	for _, attribute := range searchAttributes() {
		args = append(args, "--search-attribute", attribute+"=Keyword")
	}
	image, err := image("temporal")
	if err != nil {
		return err
	}
	if s.process, err = s.env.serve(image, s.dir, nil, s.binary, args...); err != nil {
		return err
	}
	err = poll(time.Minute, func() error {
		if err := s.process.alive(); err != nil {
			return err
		}
		return s.ready()
	})
	if err != nil {
		s.process.kill()
	}
	return err
}

func searchAttributes() []string {
	return []string{remora.SourceAttribute, remora.KindAttribute, remora.ActorAttribute, remora.OutcomeAttribute}
}

// ready returns nil once a workflow with our search attributes can start.
func (s *TemporalServer) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	c, err := client.DialContext(ctx, s.options())
	if err != nil {
		return err
	}
	defer c.Close()
	known, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: s.Namespace})
	if err != nil {
		return err
	}
	for _, attribute := range searchAttributes() {
		if known.GetCustomAttributes()[attribute] != enums.INDEXED_VALUE_TYPE_KEYWORD {
			return fmt.Errorf("search attribute %s is not there yet", attribute)
		}
	}
	return nil
}

func (s *TemporalServer) options() client.Options {
	return client.Options{HostPort: s.Address, Namespace: s.Namespace, Logger: silent{}}
}

// Client connects to the namespace. It is closed when the test ends.
func (s *TemporalServer) Client(t testing.TB) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), s.options())
	if err != nil {
		t.Fatal("connect to Temporal: ", err)
	}
	t.Cleanup(c.Close)
	return c
}

// Kill ends the server with SIGKILL, as a crash would.
func (s *TemporalServer) Kill(t testing.TB) {
	t.Helper()
	s.process.kill()
}

// Restart starts a server again that was killed, and kills it before if it was not. Address and state stay.
func (s *TemporalServer) Restart(t testing.TB) {
	t.Helper()
	s.process.kill()
	if err := s.start(); err != nil {
		t.Fatal("start Temporal again: ", err)
	}
}

// silent keeps the client's chatter out of the output of tests.
type silent struct{}

var _ log.Logger = silent{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}
