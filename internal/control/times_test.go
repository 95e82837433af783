package control

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// How long a restore takes is told by the newest run that measured each of its phases, and guessed where none did.
func TestTimesComeFromWhatWasMeasured(t *testing.T) {
	p := remora.Plan{Source: "shop", Targets: []remora.Target{{
		Kind: remora.Database, Restores: remora.Summary{Bytes: 100e6}, Live: remora.Estimate{Summary: remora.Summary{Bytes: 60e6}},
	}}}
	took := func(verb string, bytes int64, d time.Duration, failed bool) remora.Phase {
		return remora.Phase{Name: remora.PhaseName(remora.Database, verb, "shop"), Took: d, Failed: failed, Summary: &remora.Summary{Bytes: bytes}}
	}
	guess := times(p, nil, 0)
	require.Empty(t, guess.By)
	require.Equal(t, 33*time.Second, guess.Prepare, "5 s for a start, 3 s to save, 20 s to load, 5 s to compare")

	runs := []measured{
		{"failed", time.Time{}, []remora.Phase{took(remora.StageVerb, 10e6, time.Hour, true)}},
		{"small", time.Time{}, []remora.Phase{took(remora.StageVerb, 10e3, time.Hour, false)}},
		{"new", time.Time{}, []remora.Phase{took(remora.StageVerb, 50e6, time.Second, false), took(remora.CompareVerb, 50e6, 500*time.Millisecond, false)}},
		{"old", time.Time{}, []remora.Phase{took(remora.StageVerb, 50e6, time.Minute, false), took(remora.CaptureVerb, 60e6, 2*time.Second, false)}},
	}
	told := times(p, runs, time.Minute)
	require.Equal(t, "new", told.By)
	require.Equal(t, 10*time.Second, told.Prepare, "5 s for a start, 2 s to save, 2 s to load, 1 s to compare")
	p.To = "shop_copy"
	require.Equal(t, 8*time.Second, times(p, runs, time.Minute).Prepare, "a copy saves nothing")
}

func TestTheInterruptionIsThatOfTheSwitch(t *testing.T) {
	phases := func(names ...string) (r remora.Restore) {
		for _, name := range names {
			r.Phases = append(r.Phases, remora.Phase{Name: name, Took: time.Second})
		}
		return r
	}
	require.Equal(t, 4*time.Second, phases("stage", "maintenance on", "switch", "live checks", "maintenance off", "live checks", "extend").Interruption())
	require.Equal(t, 4*time.Second, phases("stage", "maintenance on", "switch", "way back: switch", "way back: leave maintenance", "way back: discard").Interruption())
	apart := phases("stage", "maintenance on", "switch", "maintenance off", "extend")
	for i := range apart.Phases {
		apart.Phases[i].At = time.Unix(int64(i*10), 0)
	}
	require.Equal(t, 21*time.Second, apart.Interruption(), "and what lay between its phases")
	require.Zero(t, phases("stage", "switch").Interruption(), "nobody was taken offline")
}
