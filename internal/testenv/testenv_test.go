package testenv_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Run(m)) }

func TestServersAreSharedByTheTestsOfABinary(t *testing.T) {
	mysql, temporal := testenv.Both(t)
	require.Same(t, mysql, testenv.MySQL(t))
	require.Same(t, temporal, testenv.Temporal(t))
}

func TestEveryServerHasWhatTheProductReliesOn(t *testing.T) {
	logs := 0
	testenv.EachServer(t, func(t *testing.T, server *testenv.MySQLServer) {
		var version string
		var loads, binlog bool
		require.NoError(t, server.DB(t).QueryRowContext(t.Context(), `SELECT VERSION(), @@local_infile, @@log_bin`).Scan(&version, &loads, &binlog))
		t.Log(version)
		require.Equal(t, server.MariaDB(), strings.Contains(version, "MariaDB"))
		require.True(t, loads)
		if binlog {
			logs++
		}
		out, err := server.Client(t, "-N", "-e", "SELECT VERSION()").Output()
		require.NoError(t, err)
		require.Equal(t, version, strings.TrimSpace(string(out)))
	})
	require.Equal(t, 2, logs, "with a binary log, and without")
}

func TestSchemaGoesWithItsTestAndTakesLeftoversAlong(t *testing.T) {
	server := testenv.MySQL(t)
	db := server.DB(t)
	var schema string
	t.Run("a test with a restore", func(t *testing.T) {
		schema = server.Schema(t)
		_, err := db.ExecContext(t.Context(), `CREATE SCHEMA _remora_0123456789ab_1_b1;
			CREATE TABLE `+schema+`.parent (id INT PRIMARY KEY);
			CREATE TABLE _remora_0123456789ab_1_b1.child (id INT, FOREIGN KEY (id) REFERENCES `+schema+`.parent (id))`)
		require.NoError(t, err)
	})
	var left int
	require.NoError(t, db.QueryRowContext(t.Context(),
		`SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = ? OR schema_name LIKE '\_remora%'`, schema).Scan(&left))
	require.Zero(t, left)
}

func TestDumpTellsEveryRowAndDefinition(t *testing.T) {
	testenv.EachServer(t, dumpTellsEveryRowAndDefinition)
}

func dumpTellsEveryRowAndDefinition(t *testing.T, server *testenv.MySQLServer) {
	schema := server.Schema(t)
	db := server.DB(t)
	exec := func(query string) {
		t.Helper()
		_, err := db.ExecContext(t.Context(), "USE "+schema+"; "+query)
		require.NoError(t, err)
	}
	exec(`CREATE TABLE users (id INT PRIMARY KEY, name VARCHAR(20)); INSERT INTO users VALUES (2, 'Bob'), (1, 'Ann')`)
	before := server.Dump(t, schema)
	require.Contains(t, before, "CREATE TABLE `users`")
	require.Less(t, strings.Index(before, "Ann"), strings.Index(before, "Bob"))
	require.Equal(t, before, server.Dump(t, schema), "two dumps of the same data")
	exec(`UPDATE users SET name = 'Bobby' WHERE id = 2`)
	require.NotEqual(t, before, server.Dump(t, schema))
}

func TestAServerKeepsItsRowsAndAddressOverKill(t *testing.T) {
	testenv.EachNewServer(t, func(t *testing.T, server *testenv.MySQLServer) {
		db := server.DB(t)
		_, err := db.ExecContext(t.Context(), `CREATE SCHEMA shop; CREATE TABLE shop.users (id INT PRIMARY KEY) ENGINE = InnoDB; INSERT INTO shop.users VALUES (7)`)
		require.NoError(t, err)
		server.Kill(t)
		require.Error(t, db.PingContext(t.Context()))
		server.Restart(t)
		var id int
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT id FROM shop.users`).Scan(&id))
		require.Equal(t, 7, id)
	})
}

func TestEveryMySQLIsAServerOfItsOwn(t *testing.T) {
	identity := func(server *testenv.MySQLServer) (uuid string) {
		require.NoError(t, server.DB(t).QueryRowContext(t.Context(), `SELECT @@server_uuid`).Scan(&uuid))
		return uuid
	}
	require.NotEqual(t, identity(testenv.MySQL(t)), identity(testenv.NewMySQL(t)))
}

func TestTemporalKeepsItsWorkflowsAndAddressOverKill(t *testing.T) {
	server := testenv.NewTemporal(t)
	require.NotEqual(t, testenv.Temporal(t).Address, server.Address)
	c := server.Client(t)
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		ID: remora.Lane("shop"), TaskQueue: remora.Queue,
		TypedSearchAttributes: temporal.NewSearchAttributes(
			temporal.NewSearchAttributeKeyKeyword(remora.SourceAttribute).ValueSet("shop")),
	}, remora.BackupWorkflow)
	require.NoError(t, err)
	server.Restart(t)
	described, err := c.DescribeWorkflowExecution(t.Context(), remora.Lane("shop"), "")
	require.NoError(t, err)
	require.Equal(t, run.GetRunID(), described.GetWorkflowExecutionInfo().GetExecution().GetRunId())
	testenv.Wait(t, 10*time.Second, "the run to be listed by its source", func() error {
		list, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: remora.SourceAttribute + `="shop"`})
		if err == nil && len(list.GetExecutions()) != 1 {
			err = errors.New("not listed")
		}
		return err
	})
}

func TestToolIsTheVersionThatIsPinned(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), testenv.Tool(t, "temporal"), "--version").CombinedOutput()
	require.NoError(t, err, string(out))
	pinned, err := os.ReadFile(filepath.Join(testenv.Root(t), "tools", "temporal", "go.mod"))
	require.NoError(t, err)
	require.Contains(t, string(pinned), "github.com/temporalio/cli v"+filepath.Base(testenv.Tool(t, "temporal"))[len("temporal-"):])
}

// TestNothingOutlivesAKilledTestBinary runs this binary a second time and kills it while its server works. A process ends
// with it; a container, and all files, with the next test binary.
func TestNothingOutlivesAKilledTestBinary(t *testing.T) {
	const helper = "REMORA_TESTENV_HELPER"
	if os.Getenv(helper) != "" {
		server := testenv.NewMySQL(t)
		_, _ = os.Stdout.WriteString("\nserver " + server.Address + " " + server.Datadir() + "\n")
		select {} // until killed
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), helper+"=1")
	var out synced
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()

	var address, datadir string
	testenv.Wait(t, time.Minute, "the other binary's server", func() error {
		_, after, _ := strings.Cut(out.String(), "server ")
		line, _, ok := strings.Cut(after, "\n")
		if address, datadir, _ = strings.Cut(line, " "); !ok {
			return errors.New("not started: " + out.String())
		}
		return nil
	})
	reached := func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
	require.True(t, reached())
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()

	next := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	text, err := next.CombinedOutput()
	require.NoError(t, err, string(text))
	testenv.Wait(t, 10*time.Second, "its server to end", func() error {
		if reached() {
			return errors.New("it answers at " + address)
		}
		return nil
	})
	require.NoDirExists(t, datadir)
}

// synced is a buffer that one goroutine writes while another reads.
type synced struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (s *synced) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buffer.Write(p)
}

func (s *synced) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buffer.String()
}
