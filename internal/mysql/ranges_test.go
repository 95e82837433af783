package mysql

import (
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// oracle is a server in miniature: rows in the order of their key, which is that of one column after the other.
type oracle struct {
	key  []column
	rows [][]string
	// order compares two values of a column, or one with a literal's.
	order func(c column, a, b string) int
	asked int
}

// value is what a literal says.
func value(literal string) string {
	if hexadecimal, ok := strings.CutSuffix(literal, "'"); ok && strings.Contains(hexadecimal, "X'") {
		n, _ := new(big.Int).SetString("01"+hexadecimal[strings.Index(hexadecimal, "X'")+2:], 16)
		return string(n.Bytes()[1:])
	}
	return strings.Trim(literal, "'")
}

func numerically(_ column, a, b string) int { return floor(a).Cmp(floor(b)) }

func textually(_ column, a, b string) int { return strings.Compare(a, b) }

// compare compares a row with a border or with another row.
func (o *oracle) compare(row []string, with []string) int {
	for i, v := range with {
		if c := o.order(o.key[i], row[i], v); c != 0 {
			return c
		}
	}
	return 0
}

func (o *oracle) in(r partRange) (rows [][]string) {
	for _, row := range o.rows {
		if (r.From == nil || o.compare(row, mapped(r.From, value)) >= 0) && (r.To == nil || o.compare(row, mapped(r.To, value)) < 0) {
			rows = append(rows, row)
		}
	}
	return rows
}

// cut sorts the rows and cuts them.
func (o *oracle) cut(t require.TestingT, limit int64) []partRange {
	slices.SortFunc(o.rows, o.compare)
	c := cutter{
		key: o.key, limit: limit, patience: 1 << 40,
		estimate: func(in partRange) (int64, error) { o.asked++; return int64(len(o.in(in))), nil },
		edge: func(in partRange, order string) ([]string, error) {
			rows := o.in(in)
			switch {
			case len(rows) == 0:
				return nil, nil
			case order == "ASC":
				return rows[0], nil
			default:
				return rows[len(rows)-1], nil
			}
		},
	}
	borders, err := c.cut(partRange{})
	require.NoError(t, err)
	ranges := make([]partRange, len(borders)+1)
	for i, b := range borders {
		ranges[i].To, ranges[i+1].From = b, b
	}
	return ranges
}

var keyShapes = []struct {
	name   string
	types  []column
	values []*rapid.Generator[string]
	order  func(column, string, string) int
	// whole tells that any two keys can be parted, so no range is larger than wanted.
	whole bool
}{
	{"signed", []column{{Type: "bigint"}}, []*rapid.Generator[string]{integers}, numerically, true},
	{"decimal", []column{{Type: "decimal"}}, []*rapid.Generator[string]{rapid.Map(rapid.IntRange(-9000, 9000), func(n int) string { return strconv.Itoa(n) + "000000000000000000000000000000" })}, numerically, true},
	{"octets", []column{{Type: "varbinary"}}, []*rapid.Generator[string]{rapid.StringMatching("(ab)?[\\x01-\x7f]{1,6}")}, textually, true},
	{"numbers as text", []column{{Type: "varchar"}}, []*rapid.Generator[string]{rapid.StringMatching("ORD-202[45]-000[0-9]{3}")}, textually, true},
	{"digits and letters", []column{{Type: "char"}}, []*rapid.Generator[string]{rapid.StringMatching("01[0-9a-hjkmnp-tv-z]{5}")}, textually, true},
	{"exact", []column{{Type: "varchar", exact: true}}, []*rapid.Generator[string]{rapid.StringMatching("[!-~]{1,4}")}, textually, true},
	{"any text", []column{{Type: "varchar"}}, []*rapid.Generator[string]{rapid.StringN(0, 5, -1)}, textually, false},
	{"days", []column{{Type: "date"}}, []*rapid.Generator[string]{rapid.Map(rapid.IntRange(-400_000, 80_000), func(n int) string { return time.Unix(int64(n)*86400, 0).UTC().Format(time.DateOnly) })}, textually, true},
	{"moments", []column{{Type: "datetime"}}, []*rapid.Generator[string]{rapid.Map(rapid.Int64Range(-30_000_000_000, 9_000_000_000), func(n int64) string { return time.Unix(n, 0).UTC().Format(time.DateTime) })}, textually, true},
	{"tenants", []column{{Type: "char"}, {Type: "bigint"}, {Type: "date"}}, []*rapid.Generator[string]{rapid.SampledFrom([]string{"a", "b"}), rapid.SampledFrom([]string{"7", "9", "10"}), days}, mixed, true},
}

var (
	integers = rapid.Map(rapid.OneOf(rapid.Int64(), rapid.Int64Range(1, 300)), func(n int64) string { return strconv.FormatInt(n, 10) })
	days     = rapid.Map(rapid.IntRange(10_000, 20_000), func(n int) string { return time.Unix(int64(n)*86400, 0).UTC().Format(time.DateOnly) })
)

func mixed(c column, a, b string) int {
	if c.domain() == numbers {
		return numerically(c, a, b)
	}
	return textually(c, a, b)
}

func drawKeys(t *rapid.T, types []column, values []*rapid.Generator[string], least int) [][]string {
	key := rapid.Custom(func(t *rapid.T) []string {
		return mapped(values, func(g *rapid.Generator[string]) string { return g.Draw(t, "value") })
	})
	return rapid.SliceOfNDistinct(key, least, 120, func(k []string) string { return strings.Join(k, "\x00") }).Draw(t, "keys")
}

func TestRangesHoldEveryKeyOnce(t *testing.T) {
	for _, shape := range keyShapes {
		t.Run(shape.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				o := oracle{key: shape.types, rows: drawKeys(t, shape.types, shape.values, 1), order: shape.order}
				limit := rapid.Int64Range(1, 30).Draw(t, "limit")
				ranges := o.cut(t, limit)
				total := 0
				for _, r := range ranges {
					rows := o.in(r)
					require.True(t, r.From.valid(make([]string, len(o.key))) && r.To.valid(make([]string, len(o.key))), "%v", r)
					require.NotEmpty(t, rows, "%v", r)
					total += len(rows)
					if shape.whole {
						require.LessOrEqual(t, int64(len(rows)), limit)
					}
				}
				require.Equal(t, len(o.rows), total)
				require.LessOrEqual(t, o.asked, 2*len(ranges))
			})
		})
	}
}

// Rows that come add borders, and move none; those that go take some away. So what happens in one range leaves the others
// as they are, unless it becomes one with its neighbours.
func TestBordersDoNotMove(t *testing.T) {
	for _, shape := range keyShapes {
		if !shape.whole {
			continue
		}
		t.Run(shape.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				all := oracle{key: shape.types, rows: drawKeys(t, shape.types, shape.values, 20), order: shape.order}
				n := rapid.IntRange(1, len(all.rows)).Draw(t, "rows that were there before")
				some := oracle{key: shape.types, rows: slices.Clone(all.rows[:n]), order: shape.order}
				limit := rapid.Int64Range(1, 20).Draw(t, "limit")
				borders := func(of []partRange) []string {
					return mapped(of, func(r partRange) string { return strings.Join(r.To, ", ") })
				}
				require.Subset(t, borders(all.cut(t, limit)), borders(some.cut(t, limit)))
			})
		})
	}
}

func TestRangesStayWhereTheyAreWhenTheTableGrows(t *testing.T) {
	dense := func(most, rowBytes int64) []border {
		bounds := func(in partRange) (int64, int64) {
			first, last := int64(1), most
			if in.From != nil {
				first, _ = strconv.ParseInt(in.From[0], 10, 64)
			}
			if in.To != nil {
				to, _ := strconv.ParseInt(in.To[0], 10, 64)
				last = to - 1
			}
			return first, last
		}
		asked := 0
		c := cutter{
			key: []column{{Type: "int"}}, limit: rangeRows(rangeBytes, rowBytes), patience: 1 << 30,
			estimate: func(in partRange) (int64, error) {
				asked++
				first, last := bounds(in)
				return last - first + 1, nil
			},
			edge: func(in partRange, order string) ([]string, error) {
				first, last := bounds(in)
				if order == "DESC" {
					first = last
				}
				return []string{strconv.FormatInt(first, 10)}, nil
			},
		}
		borders, err := c.cut(partRange{})
		require.NoError(t, err)
		t.Logf("%d rows of %d bytes: %d ranges, %d estimates", most, rowBytes, len(borders)+1, asked)
		return borders
	}
	before, after := dense(3_000_000, 300), dense(3_400_000, 300)
	require.Greater(t, len(before), 10)
	require.Equal(t, before, after[:len(before)])
	dense(50_000_000, 50)
}

func TestRangeRowsAreNoKnifeEdgeForDenseKeys(t *testing.T) {
	for _, rowBytes := range []int64{0, 1, 30, 100, 333, 4096, 1 << 20, 1 << 30} {
		rows := rangeRows(rangeBytes, rowBytes)
		require.Equal(t, int64(0), rows%3, "half as much again as a power of two")
		require.Positive(t, rows)
	}
}

func TestConditionsOfRanges(t *testing.T) {
	key := []string{"a", "b", "c"}
	for want, r := range map[string]partRange{
		"TRUE":                               {},
		"(`a` < 5)":                          {To: border{"5"}},
		"(`a` >= 5 AND `a` < 9)":             {From: border{"5"}, To: border{"9"}},
		"`a` = 5 AND (`b` >= 1 AND `b` < 2)": {From: border{"5", "1"}, To: border{"5", "2"}},
		"`a` = 5 AND (`b` < 2)":              {From: border{"5"}, To: border{"5", "2"}},
		"(`a` = 5 AND (`b` >= 1) OR `a` > 5 AND `a` < 9)":                          {From: border{"5", "1"}, To: border{"9"}},
		"(`a` >= 5 AND `a` < 9 OR `a` = 9 AND (`b` < 3 OR `b` = 3 AND (`c` < 4)))": {From: border{"5"}, To: border{"9", "3", "4"}},
	} {
		require.Equal(t, want, between(key, r.From, r.To))
	}
}
