package control

import (
	"context"
	"slices"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// rates are bytes a second, where nobody has measured them: those of a small machine with slow disks.
var rates = map[remora.Kind]map[string]float64{
	remora.Database: {remora.CaptureVerb: 20e6, remora.StageVerb: 5e6, remora.CompareVerb: 20e6},
	remora.Files:    {remora.CaptureVerb: 20e6, remora.StageVerb: 20e6, remora.CompareVerb: 40e6},
}

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
	var interruption time.Duration
	if c.repository != nil {
		restores, _ := c.repository.Restores(ctx, p.Source)
		for _, r := range restores { // the newest first
			runs = append(runs, measured{r.ID, r.Started, r.Phases})
			if interruption == 0 && r.Outcome != remora.OutcomeRolledBack {
				interruption = r.Interruption()
			}
		}
		drills, _ := c.repository.Proofs(ctx, p.Source)
		for _, d := range drills {
			runs = append(runs, measured{d.ID, d.Started, d.Phases})
		}
		slices.SortStableFunc(runs, func(a, b measured) int { return b.at.Compare(a.at) })
	}
	t := times(p, runs)
	if p.To == "" {
		t.Interruption = interruption
	}
	return t
}

// times is how long a plan takes before its switch, at the rates of the newest runs that tell.
func times(p remora.Plan, runs []measured) (t remora.Times) {
	for _, target := range p.Targets {
		for verb, rate := range rates[target.Kind] {
			bytes := target.Restores.Bytes
			if verb == remora.CaptureVerb {
				if bytes = target.Live.Summary.Bytes; target.Live.Empty || p.To != "" { // there is no safety backup
					continue
				}
			}
			by := ""
			for _, run := range runs {
				if of := rateOf(run.phases, remora.PhaseName(target.Kind, verb, p.Source)); of > 0 {
					rate, by = of, run.id
					break
				}
			}
			if verb == remora.StageVerb {
				t.By = by
			}
			t.Prepare += time.Duration(float64(bytes) / rate * float64(time.Second))
		}
	}
	return t
}

// enough is how much a phase must have handled for its rate to tell anything.
const enough = 1 << 20

// rateOf is the bytes a second of a phase that came to its end; 0 where there is none that tells.
func rateOf(phases []remora.Phase, name string) float64 {
	for _, ph := range phases {
		if ph.Name == name && !ph.Failed && ph.Summary != nil && ph.Summary.Bytes >= enough && ph.Took > 0 {
			return float64(ph.Summary.Bytes) / ph.Took.Seconds()
		}
	}
	return 0
}
