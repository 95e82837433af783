package mysql

import (
	"math"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestRangesCoverEveryKeyOnceAndHaveDyadicBorders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfNDistinct(rapid.Int64(), 1, 200, rapid.ID[int64]).Draw(t, "keys")
		limit := rapid.Int64Range(1, 50).Draw(t, "limit")
		var mapped []uint64
		least, most := uint64(math.MaxUint64), uint64(0)
		for _, k := range keys {
			m, err := mapKey(strconv.FormatInt(k, 10), false)
			require.NoError(t, err)
			require.Equal(t, strconv.FormatInt(k, 10), keyText(m, false))
			mapped = append(mapped, m)
			least, most = min(least, m), max(most, m)
		}
		count := func(i interval) (n int64, _ error) {
			for _, m := range mapped {
				if m >= i.first && m <= i.last() {
					n++
				}
			}
			return n, nil
		}
		cuts, err := cutKeys(least, most, limit, count)
		require.NoError(t, err)
		total := int64(0)
		for i, c := range cuts {
			n, _ := count(c)
			total += n
			if c.bits > 0 {
				require.LessOrEqual(t, n, limit)
			}
			require.Zero(t, c.first&(c.last()-c.first), "the border is a multiple of the size")
			if i > 0 {
				require.Greater(t, c.first, cuts[i-1].last())
			}
		}
		require.Equal(t, int64(len(keys)), total)
	})
}

func TestRangesStayWhereTheyAreWhenTheTableGrows(t *testing.T) {
	dense := func(most uint64) []interval {
		cuts, err := cutKeys(1, most, rangeRows(300), func(i interval) (int64, error) {
			return int64(min(i.last(), most) - max(i.first, 1) + 1), nil
		})
		require.NoError(t, err)
		return cuts
	}
	before, after := dense(3_000_000), dense(3_400_000)
	require.Greater(t, len(before), 10)
	require.Equal(t, before[:len(before)-1], after[:len(before)-1])
}

func TestRangeRowsAreNoKnifeEdgeForDenseKeys(t *testing.T) {
	for _, rowBytes := range []int64{0, 1, 30, 100, 333, 4096, 1 << 20, 1 << 30} {
		rows := rangeRows(rowBytes)
		require.Equal(t, int64(0), rows%3, "half as much again as a power of two")
		require.Positive(t, rows)
	}
}
