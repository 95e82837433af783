package activities

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

var today = time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)

func completed(source string, started, full time.Time, bytes int64) remora.Backup {
	return remora.Backup{
		Status: remora.Completed, Verification: &remora.Verification{At: started, FullAt: full},
		Manifest: remora.Manifest{
			ID: fmt.Sprint(source, "-", started.Format("0102")), Source: source, Started: started, Purpose: remora.Regular,
			Parts: []remora.PartRef{{Kind: remora.Files, Summary: remora.Summary{Bytes: bytes}}},
		},
	}
}

// A year of daily backups of all sizes, kept for as long as 40 days or for ever: each is read within its days, and no
// day has much more to read than another.
func TestAllBytesAreReadWithinTheirDaysSpreadEvenly(t *testing.T) {
	const days = 30
	chance := rand.New(rand.NewPCG(1, 2))
	var all []remora.Backup
	var loads []int64
	for n := range 400 {
		now := today.AddDate(0, 0, n)
		all = append(all, completed("shop", now.Add(-2*time.Hour), time.Time{}, 50+chance.Int64N(100)))
		all = slices.DeleteFunc(all, func(b remora.Backup) bool { return now.Sub(b.Started) > 40*day && b.Started.Day() != 1 })
		load := int64(0)
		for _, due := range dueForVerify(all, days, now) {
			i := slices.IndexFunc(all, func(b remora.Backup) bool { return b.ID == due.ID && b.Started.Equal(due.Started) })
			last := all[i].Verification
			since := last.FullAt
			if since.IsZero() {
				since = all[i].Started
			}
			require.LessOrEqual(t, now.Sub(since), days*day, "day %d", n)
			all[i].Verification = &remora.Verification{At: now, FullAt: now}
			load += due.Bytes()
		}
		for _, b := range all {
			since := b.Verification.FullAt
			if since.IsZero() {
				since = b.Started
			}
			require.Less(t, now.Sub(since), (days+1)*day)
		}
		if n > 100 {
			loads = append(loads, load)
		}
	}
	slices.Sort(loads)
	require.Less(t, loads[len(loads)-1], int64(450), "about 52 backups of 100 bytes within 30 days: 170 a day")
	require.Positive(t, loads[0], "no day is idle")
}

func TestWhatWasNeverReadIsSpreadToo(t *testing.T) {
	var all []remora.Backup
	for i := range 30 {
		all = append(all, completed("shop", today.AddDate(0, 0, -i), time.Time{}, 100))
	}
	due := dueForVerify(all, 30, today)
	require.Len(t, due, 1)
	require.Equal(t, all[29].ID, due[0].ID, "the oldest first")
	require.Empty(t, dueForVerify(nil, 30, today))
	require.Len(t, dueForVerify(all, 1, today), 30)
}

func TestWhatMayShareTheLossIsReadAtOnce(t *testing.T) {
	corrupt := completed("shop", today.AddDate(0, 0, -9), today, 100)
	corrupt.Status, corrupt.Verification = remora.Corrupted, &remora.Verification{At: today, FullAt: today, Problem: "damaged"}
	pending := completed("shop", today.Add(-time.Hour), time.Time{}, 100)
	pending.Status, pending.Verification = remora.Pending, nil
	abandoned := pending
	abandoned.ID, abandoned.Started = "abandoned", today.AddDate(0, 0, -3)
	failed := remora.Backup{Status: remora.Failed, Manifest: remora.Manifest{ID: "failed", Source: "shop", Started: today}}
	newer := completed("shop", today.AddDate(0, 0, -1), today.Add(-time.Hour), 100)
	newer.ID, newer.Format = "newer", remora.ManifestFormat+1
	read := completed("shop", today.AddDate(0, 0, -2), today.Add(time.Minute), 100)
	share := completed("shop", today.AddDate(0, 0, -3), today.Add(-time.Minute), 100)
	other := completed("blog", today.AddDate(0, 0, -3), today.Add(-time.Minute), 100)
	all := []remora.Backup{failed, pending, newer, read, share, other, abandoned, corrupt}
	ids := func(some []remora.Backup) (ids []string) {
		for _, b := range some {
			ids = append(ids, b.ID)
		}
		return ids
	}
	require.Equal(t, []string{share.ID}, ids(suspects(all)))
	require.ElementsMatch(t, []string{share.ID, "abandoned"}, ids(dueForVerify(all, 30, today)))
}

func TestRoomForABackupIsEstimatedFromThoseBefore(t *testing.T) {
	const mb = 1 << 20
	in := remora.RoomInput{Source: "shop", Bytes: map[remora.Kind]int64{remora.Database: 1000 * mb, remora.Files: 2000 * mb}}
	need, sure := roomFor(nil, in, today)
	require.True(t, sure)
	require.EqualValues(t, (2500+625+40)*mb, need, "a first one: half of the database, all of the files, a reserve")
	var all []remora.Backup
	for i, added := range []int64{10, 10, 20, 10, 0, 900} { // the last one is too old to count
		all = append(all, remora.Backup{Status: remora.Completed, Manifest: remora.Manifest{
			Source: "shop", Purpose: remora.Regular, Started: today.AddDate(0, 0, -1-i),
			Parts: []remora.PartRef{
				{Kind: remora.Database, Summary: remora.Summary{Bytes: 100 * mb}, Added: added * mb},
				{Kind: remora.Files, Summary: remora.Summary{Bytes: 100 * mb}, Added: mb},
			},
		}})
	}
	need, sure = roomFor(all, in, today)
	require.True(t, sure)
	require.InDelta(t, (100+20)*1.25*mb+40*mb, float64(need), mb)
	in.Bytes[remora.Files] = 1 << 50
	need, _ = roomFor(all, in, today)
	require.InEpsilon(t, 1<<50/100, float64(need), 0.01, "the reserve has a bound")

	late := remora.Backup{Status: remora.Failed, Phase: "archive files of shop", Manifest: remora.Manifest{Source: "shop", Purpose: remora.Regular, Ended: today.Add(-time.Hour)}}
	_, sure = roomFor(append([]remora.Backup{late}, all...), in, today)
	require.False(t, sure, "the next one finds what it had stored")
	late.Phase = remora.RoomPhase
	_, sure = roomFor(append([]remora.Backup{late}, all...), in, today)
	require.True(t, sure)
}

func TestABackupWithoutRoomIsRefusedWithBothNumbers(t *testing.T) {
	f := &fake{}
	env := newEnv(f, Watch{})
	_, err := env.ExecuteActivity(remora.RoomActivity, remora.RoomInput{Source: "shop", Bytes: map[remora.Kind]int64{remora.Files: 3 << 30}})
	text, app := problemIn(t, err)
	require.Equal(t, remora.Full, text.Kind)
	require.Equal(t, string(remora.Full), app.Type())
	require.Contains(t, app.Message(), "need about 4.1 GB, have 0 B free")
	require.Contains(t, app.Message(), "/backups")
	require.Contains(t, text.Hint, "remora cleanup")
}
