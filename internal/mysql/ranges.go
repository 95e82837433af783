package mysql

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// rangeBytes is about how much a range holds, as the server estimates it.
const rangeBytes = 32 << 20

// interval is a dyadic interval of keys: those that begin with the same bits. Keys are mapped so that their order is
// that of unsigned numbers.
type interval struct {
	first uint64
	bits  int
}

func (i interval) last() uint64 {
	if i.bits == 64 {
		return ^uint64(0)
	}
	return i.first + (1<<i.bits - 1)
}

func (i interval) halves() (left, right interval) {
	left = interval{i.first, i.bits - 1}
	return left, interval{left.last() + 1, left.bits}
}

// cutKeys cuts the keys between least and most into dyadic intervals of at most limit rows each, as far as estimate
// can tell. Borders of halved powers of two depend on keys alone: rows that come and go move none of them, so ranges
// in which nothing happened are the same bytes in the next backup.
func cutKeys(least, most uint64, limit int64, estimate func(interval) (int64, error)) ([]interval, error) {
	var cut func(interval) ([]interval, error)
	cut = func(i interval) ([]interval, error) {
		if i.last() < least || i.first > most {
			return nil, nil
		}
		if i.bits == 0 {
			return []interval{i}, nil
		}
		left, right := i.halves()
		if right.first > most {
			return cut(left)
		}
		if left.last() < least {
			return cut(right)
		}
		rows, err := estimate(i)
		if err != nil || rows <= limit {
			return []interval{i}, err
		}
		lower, err := cut(left)
		if err != nil {
			return nil, err
		}
		upper, err := cut(right)
		return append(lower, upper...), err
	}
	return cut(interval{0, 64})
}

// rangeRows is the number of rows above which an interval is halved. It is half as much again as a power of two:
// densely numbered keys fill their intervals with just a power of two, and an estimate that wavers around the limit
// would cut them now and not cut them the next time.
func rangeRows(rowBytes int64) int64 {
	rows := max(rangeBytes/max(rowBytes, 1), 2)
	power := int64(1) << (bits.Len64(uint64(rows)) - 1)
	return power + power/2
}

const signBit = 1 << 63

// mapKey maps the text of an integer key to the order of unsigned numbers.
func mapKey(s string, unsigned bool) (uint64, error) {
	if unsigned {
		return strconv.ParseUint(s, 10, 64)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return uint64(n) ^ signBit, err
}

// keyText is the inverse of mapKey.
func keyText(key uint64, unsigned bool) string {
	if unsigned {
		return strconv.FormatUint(key, 10)
	}
	return strconv.FormatInt(int64(key^signBit), 10)
}

// selects is the query of a range. Columns are named: a star would leave invisible ones out. Without a key the table is
// read in its own order, past any index that would be shorter.
func (t table) selects(schema string, r partRange) string {
	query := "SELECT " + strings.Join(mapped(t.Columns, column.read), ", ") + " FROM " + t.from(schema)
	if len(t.Key) == 0 {
		return query + " USE INDEX ()"
	}
	query += " FORCE INDEX (PRIMARY)"
	if r.From != "" {
		query += fmt.Sprintf(" WHERE %s BETWEEN %s AND %s", quote(t.Key[0]), r.From, r.To)
	}
	return query + " ORDER BY " + strings.Join(mapped(t.Key, quote), ", ")
}

// read is how a column is selected. The text of a FLOAT holds six digits of up to nine; multiplied by one it becomes a
// DOUBLE, whose text is exact (adding zero would lose the sign of -0).
func (c column) read() string {
	switch {
	case c.Type == "float", c.Type == "double" && c.Decimals:
		return quote(c.Name) + " * 1e0"
	case c.Indexed:
		return quote(c.Name) + " + 0"
	case c.Reparsed:
		return c.reparsed()
	default:
		return quote(c.Name)
	}
}

// reparsed is the text of a JSON column as it will be after its text was read again.
func (c column) reparsed() string {
	return "CAST(CONVERT(" + quote(c.Name) + " USING utf8mb4) AS JSON)"
}

// loads is the list of columns of a LOAD DATA with its SET clause. JSON, addresses and UUIDs take no binary text and an
// ENUM takes no number as text, so they go through a variable.
func (t table) loads() string {
	names, sets := make([]string, len(t.Columns)), []string(nil)
	for i, c := range t.Columns {
		names[i] = quote(c.Name)
		variable := fmt.Sprintf("@c%d", i)
		switch {
		case slices.Contains([]string{"json", "uuid", "inet4", "inet6"}, c.Type):
			names[i] = variable
			sets = append(sets, fmt.Sprintf("%s = CONVERT(%s USING utf8mb4)", quote(c.Name), variable))
		case c.Indexed:
			names[i] = variable
			sets = append(sets, fmt.Sprintf("%s = CAST(%s AS UNSIGNED)", quote(c.Name), variable))
		}
	}
	list := "(" + strings.Join(names, ", ") + ")"
	if len(sets) > 0 {
		list += " SET " + strings.Join(sets, ", ")
	}
	return list
}
