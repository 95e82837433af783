package main

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/standalone"
)

func TestUpSaysWhereItLookedForMissingPrograms(t *testing.T) {
	p := newPlace(t, nobody, "remora", "shop")
	s := p.run("up")
	require.Equal(t, 2, s.code)
	require.Contains(t, s.err, "find the program (temporal): it is not there; looked at $REMORA_TEMPORAL (not set), "+besideUs()+"/temporal\n")
	require.Contains(t, s.err, "what to do: Put Temporal's own program")
	require.Empty(t, s.out)
	require.NoDirExists(t, p.dir+"/state/temporal", "nothing was made")
}

func TestUpTellsWhatHappens(t *testing.T) {
	at := time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)
	events := []standalone.Event{
		{Time: at, What: standalone.Up, Running: &standalone.Running{
			UI: "http://127.0.0.1:8233/namespaces/remora/workflows", Address: "127.0.0.1:7233", Namespace: "remora",
			TemporalBinary: "/opt/remora/temporal", ServerVersion: "1.29.1", WorkerBinary: "/opt/remora/remora-worker",
			ConfigFile: "/etc/remora/remora.yaml", State: "/var/lib/remora", Logs: "/var/lib/remora/log", PID: 123,
		}},
		{Time: at, What: standalone.Ended, Program: "worker", Why: "it ended with exit status 1: no\ndisk", Next: 2 * time.Second},
		{Time: at, What: standalone.Back, Program: "worker"},
		{Time: at, What: standalone.Stopping},
		{Time: at, What: standalone.Stopped},
	}
	var out bytes.Buffer
	a := &app{Out: &out}
	for _, e := range events {
		a.sayEvent(e)
	}
	golden(t, "testdata/up.txt", out.String())

	out.Reset()
	a.Output = jsonOutput
	for _, e := range events {
		a.sayEvent(e)
	}
	for dec, i := json.NewDecoder(&out), 0; i < len(events); i++ {
		var e standalone.Event
		require.NoError(t, dec.Decode(&e))
		require.Equal(t, events[i], e)
	}
}
