package bench

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// results are all samples of every line of the table, in the order in which lines were first measured.
type results struct {
	names   []string
	samples map[string][]sample
}

func (r *results) add(t testing.TB, name string, s sample) {
	t.Helper()
	if r.samples == nil {
		r.samples = map[string][]sample{}
	}
	if r.samples[name] == nil {
		r.names = append(r.names, name)
	}
	r.samples[name] = append(r.samples[name], s)
	t.Logf("%-44s %6.2f s, client %6.2f, server %6.2f CPU s, %4d MiB, stored %d MB %v", name, s.wall.Seconds(), s.client.Seconds(), s.server.Seconds(), s.resident>>20, s.stored/1e6, phases(s.said.Phases))
}

func phases(all map[string]time.Duration) (text string) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		text += fmt.Sprintf(" %s %.2f", name, all[name].Seconds())
	}
	return text
}

// median of what samples say; NaN-free: 0 where there are none.
func (r *results) median(name string, of func(sample) float64) float64 {
	var all []float64
	for _, s := range r.samples[name] {
		all = append(all, of(s))
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

func wall(s sample) float64 { return s.wall.Seconds() }

func clientCPU(s sample) float64 { return s.client.Seconds() }

func serverCPU(s sample) float64 { return s.server.Seconds() }

// table prints the lines whose names begin with prefix; each wall time also as a ratio to the first one's: how long the
// first takes compared with it.
func (r *results) table(title, prefix string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n| %s | runs | wall s | ours / this | client CPU s | server CPU s | client peak MiB | stored MB |\n|---|---|---|---|---|---|---|---|\n", title)
	first := ""
	for _, name := range r.names {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		first = cmp.Or(first, name)
		peak := r.median(name, func(s sample) float64 { return float64(s.resident) / (1 << 20) })
		stored := r.median(name, func(s sample) float64 { return float64(s.stored) / 1e6 })
		fmt.Fprintf(&b, "| %s | %d | %.2f | %.2f | %.2f | %.2f | %.0f | %s |\n", strings.TrimPrefix(name, prefix), len(r.samples[name]), r.median(name, wall),
			r.median(first, wall)/r.median(name, wall), r.median(name, clientCPU), r.median(name, serverCPU), peak, map[bool]string{true: fmt.Sprintf("%.0f", stored)}[stored > 0])
	}
	return b.String()
}

// report prints, and keeps in the file of REMORA_BENCH_OUT.
func report(t testing.TB, text string) {
	t.Helper()
	fmt.Print(text)
	if name := setting("OUT", ""); name != "" {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
	}
}
