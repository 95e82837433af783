package monitor

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/remora-backup/remora/internal/remora"
)

const (
	day = 24 * time.Hour
	// samples is how many daily samples are kept.
	samples = 90
	// atLeast is for how long samples must have been taken before anything is foretold.
	atLeast = 7 * day
	// lowSpace is when it is time to look for more, whatever the trend.
	lowSpace = 1 << 30
)

// SampleDue tells whether a day has passed since the last sample.
func SampleDue(sizes []remora.SizeSample, now time.Time) bool {
	return len(sizes) == 0 || now.Sub(sizes[len(sizes)-1].At) >= day
}

// Sampled adds a sample, and lets go of what is too old.
func Sampled(sizes []remora.SizeSample, s remora.SizeSample) []remora.SizeSample {
	sizes = append(sizes, s)
	return sizes[max(0, len(sizes)-samples):]
}

// Space judges the room that is left, in bytes; -1 where nobody can tell.
func Space(sizes []remora.SizeSample, free int64) []remora.Alert {
	left, known := untilFull(sizes, free)
	a := remora.Alert{Key: "full/repository", Level: remora.Failing, Hint: "make room, or keep less: see remora cleanup --dry-run"}
	switch {
	case free < 0:
		return nil
	case free < lowSpace:
		a.Problem = fmt.Sprintf("only %s are free where the repository lies", humanize.Bytes(uint64(free)))
	case !known || left >= 30*day:
		return nil
	default:
		if left >= 7*day {
			a.Level = remora.Warning
		}
		a.Problem = fmt.Sprintf("the disk of the repository will be full in about %s: %s are free", remora.Span(left), humanize.Bytes(uint64(free)))
	}
	return []remora.Alert{a}
}

// untilFull follows the straight line that fits the samples best: of what is stored, or of what is free where others
// fill the same disk faster.
func untilFull(sizes []remora.SizeSample, free int64) (left time.Duration, known bool) {
	if len(sizes) < 2 || sizes[len(sizes)-1].At.Sub(sizes[0].At) < atLeast {
		return 0, false
	}
	growth := max(slope(sizes, func(s remora.SizeSample) int64 { return s.Stored }), slope(sizes, func(s remora.SizeSample) int64 { return -s.Free }))
	days := float64(free) / growth
	if growth <= 0 || days > 3650 {
		return 0, false
	}
	return time.Duration(days * float64(day)), true
}

// slope is by how much the best line rises in a day.
func slope(sizes []remora.SizeSample, of func(remora.SizeSample) int64) float64 {
	var x, y, xx, xy float64
	for _, s := range sizes {
		at, value := s.At.Sub(sizes[0].At).Hours()/24, float64(of(s))
		x, y, xx, xy = x+at, y+value, xx+at*at, xy+at*value
	}
	n := float64(len(sizes))
	return (n*xy - x*y) / (n*xx - x*x)
}
