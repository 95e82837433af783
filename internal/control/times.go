package control

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// rates are bytes a second, where nobody has measured them: those of a small machine with slow disks.
var rates = map[string]float64{remora.CaptureVerb: 20e6, remora.StageVerb: 5e6, remora.CompareVerb: 20e6}

// least is how long it takes to prepare anything.
const least = 5 * time.Second

// measured is a run whose phases were recorded.
type measured struct {
	id     string
	at     time.Time
	phases []remora.Phase
}

// timed says how long a plan takes, as far as what the repository recorded of its source tells. It is a help, and so what
// cannot be read fails nothing.
func (c *Control) timed(ctx context.Context, p remora.Plan) remora.Times {
	var runs []measured
	var last time.Duration
	if c.repository != nil {
		restores, _ := c.repository.Restores(ctx, p.Source)
		for _, r := range restores { // the newest first
			runs = append(runs, measured{r.ID, r.Started, r.Phases})
			if last == 0 && r.Outcome != remora.OutcomeRolledBack {
				last = r.Interruption()
			}
		}
		drills, _ := c.repository.Proofs(ctx, p.Source)
		for _, d := range drills {
			runs = append(runs, measured{d.ID, d.Started, d.Phases})
		}
		slices.SortStableFunc(runs, func(a, b measured) int { return b.at.Compare(a.at) })
	}
	return times(p, runs, last)
}

// times is how long a plan takes, at the rates of the newest runs that tell.
func times(p remora.Plan, runs []measured, last time.Duration) remora.Times {
	t := remora.Times{Prepare: least, Interruption: last}
	for _, target := range p.Targets {
		for _, verb := range []string{remora.CaptureVerb, remora.StageVerb, remora.CompareVerb} {
			bytes := target.Restores.Bytes
			if verb == remora.CaptureVerb { // the safety backup
				bytes = target.Live.Summary.Bytes
			}
			if verb == remora.CaptureVerb && (target.Live.Empty || p.To != "") {
				continue
			}
			rate, by := rateOf(runs, remora.PhaseName(target.Kind, verb, p.Source))
			if verb == remora.StageVerb {
				t.By = cmp.Or(t.By, by)
			}
			t.Prepare += time.Duration(float64(bytes) / cmp.Or(rate, rates[verb]) * float64(time.Second))
		}
	}
	return t
}

// rateOf is the bytes a second of a phase in the newest run that handled enough in it to tell.
func rateOf(runs []measured, name string) (rate float64, by string) {
	for _, run := range runs {
		for _, ph := range run.phases {
			if ph.Name == name && !ph.Failed && ph.Summary != nil && ph.Summary.Bytes >= 1<<20 && ph.Took > 0 {
				return float64(ph.Summary.Bytes) / ph.Took.Seconds(), run.id
			}
		}
	}
	return 0, ""
}
