package remora

import (
	"cmp"
	"time"
)

// Objective is how old the newest good backup of a source may be: as chosen, or else so old that one slot may fail and
// the next one wait as long as it may. 0 means that a source has no schedule that could keep any objective.
func Objective(chosen time.Duration, schedules []Schedule) time.Duration {
	if chosen > 0 {
		return chosen
	}
	var shortest time.Duration
	for _, s := range schedules {
		period := cmp.Or(s.Timing.Period, s.Timing.Every)
		if allowed := 2*period + s.Deadline; period > 0 && (shortest == 0 || allowed < shortest) {
			shortest = allowed
		}
	}
	return shortest
}
