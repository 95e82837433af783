package activities

import (
	"context"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/remora-backup/remora/internal/remora"
)

const (
	// measured is how many of the newest backups tell how much of a source is new, and how far that is compressed.
	measured = 5
	// usualDatabase is what a first backup of a database comes to, of its size on the server; files may not shrink at all.
	usualDatabase = 0.5
	// mostReserve bounds what is left beside the estimate; leastReserve is for a writer's unfinished packs.
	mostReserve, leastReserve = 1 << 30, 40 << 20
)

func roomOp(in remora.RoomInput) string { return "find room for a backup of " + in.Source }

// room refuses a backup that does not fit where the repository is, as far as anybody can tell.
func (r *Repository) room(ctx context.Context, in remora.RoomInput) error {
	health, err := r.Store.Check(ctx, "")
	if remora.KindOf(err) == remora.Full { // not even the blob was written that it tries the place with
		health.Free, err = new(int64), nil
	}
	if err != nil || health.Free == nil {
		return err
	}
	all, err := r.Store.List(ctx)
	if err != nil {
		return err
	}
	need, sure := roomFor(all, in, time.Now())
	if !sure || need <= *health.Free {
		return nil
	}
	return remora.Fail(remora.Full, roomOp(in), health.Where,
		"make room on that disk, or give the repository a larger one; `remora cleanup` deletes what need not be kept, and its space comes back days later",
		"need about %s, have %s free", humanize.Bytes(uint64(need)), humanize.Bytes(uint64(max(0, *health.Free))))
}

// roomFor estimates what a backup takes, from what the newest good ones of the source took. It is not sure after a run
// that failed with something stored: the next one finds that again.
func roomFor(all []remora.Backup, in remora.RoomInput, now time.Time) (need int64, sure bool) {
	logical, added, seen := map[remora.Kind]int64{}, map[remora.Kind]int64{}, map[remora.Kind]int{}
	newest := true
	for _, b := range all { // newest first
		if b.Source != in.Source || b.Purpose != remora.Regular {
			continue
		}
		if newest && b.Status == remora.Failed && b.Phase != remora.RoomPhase && now.Sub(b.Ended) < 4*day {
			return 0, false
		}
		newest = false
		for _, part := range b.Parts {
			if b.Status == remora.Completed && seen[part.Kind] < measured {
				logical[part.Kind] += part.Summary.Bytes
				added[part.Kind] += part.Added
				seen[part.Kind]++
			}
		}
	}
	for kind, bytes := range in.Bytes {
		ratio := 1.0
		switch {
		case logical[kind] > 0:
			ratio = float64(added[kind]) / float64(logical[kind])
		case kind == remora.Database:
			ratio = usualDatabase
		}
		need += int64(float64(bytes) * ratio)
	}
	return need + min(need/4+leastReserve, mostReserve), true
}
