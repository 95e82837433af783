package mysql

import (
	"encoding/json"
	"fmt"
	"math/big"
	"math/bits"
	"slices"
	"strings"
	"time"
	"unicode"
)

// rangeBytes is about how much a range holds, as the server estimates it.
const rangeBytes = 32 << 20

// A border parts the rows of a table: values of the first columns of its key, as literals. The server says whether a row
// comes before it, in the order of the key, and every row does or does not. So ranges from one border to the next, the
// first and the last of them open, hold each row once, whatever a collation thinks of the borders.
type border []string

// valid tells whether a border can stand in a statement about that key.
func (b border) valid(key []string) bool {
	return len(b) <= len(key) && !slices.ContainsFunc(b, func(literal string) bool { return !rangeBorder.MatchString(literal) })
}

// UnmarshalJSON reads the one number of a part before format 3, too.
func (b *border) UnmarshalJSON(raw []byte) error {
	var number string
	if json.Unmarshal(raw, &number) == nil {
		*b = border{number}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(b))
}

// next is the border behind one whole number.
func (b border) next() border {
	if len(b) == 0 {
		return nil
	}
	n := floor(b[0])
	return border{n.Add(n, big.NewInt(1)).String()}
}

// edge is an end of a range.
type edge int

const (
	firstRow edge = iota
	lastRow
)

// cutter cuts a table along its key. Its functions ask the server.
type cutter struct {
	key []column
	// limit is how many rows a range may have.
	limit int64
	// estimate tells about how many rows there are in a range, edge the key of its first or its last row, nil without one.
	estimate func(partRange) (int64, error)
	edge     func(partRange, edge) ([]string, error)
	// patience is how many more estimates there may be: those of a server that is wrong about them would never end.
	patience int64
}

// cut finds the borders between ranges of at most limit rows, as far as estimates can tell. Rows are parted where the
// bits or the characters of the first and of the last of them begin to differ, at the rounder of the two. Such borders
// depend on keys alone: rows that come and go move none of them, so ranges in which nothing happened are the same bytes
// in the next backup.
func (c *cutter) cut(in partRange) ([]border, error) {
	first, err := c.edge(in, firstRow)
	if err != nil || first == nil {
		return nil, err
	}
	last, err := c.edge(in, lastRow)
	if err != nil || last == nil {
		return nil, err
	}
	return c.between(in, nil, first, last)
}

// between cuts a range whose first and last row are known. Rows of it have equal values in the columns before those that
// shared are the values of: they stand in all its borders as they were found once, since equal values need not be the
// same text.
func (c *cutter) between(in partRange, shared border, first, last []string) ([]border, error) {
	c.patience--
	rows, err := c.estimate(in)
	if err != nil || rows <= c.limit || c.patience < 0 {
		return nil, err
	}
	at := slices.Clone(shared)
	for i := len(at); i < len(c.key) && c.key[i].equal(first[i], last[i]); i++ {
		at = append(at, c.key[i].literal(first[i]))
	}
	if len(at) == len(c.key) {
		return nil, nil
	}
	column := c.key[len(at)]
	half, ok := column.halve(first[len(at)], last[len(at)])
	if !ok {
		return nil, nil
	}
	shared, at = at, append(slices.Clone(at), column.literal(half))
	left, right := partRange{From: in.From, To: at}, partRange{From: at, To: in.To}
	before, err := c.edge(left, lastRow)
	if err != nil || before == nil {
		return nil, err
	}
	after, err := c.edge(right, firstRow)
	if err != nil || after == nil {
		return nil, err
	}
	// There are rows on both sides, so it is a border between those of the range for the server, too.
	lower, err := c.between(left, shared, first, before)
	if err != nil {
		return nil, err
	}
	upper, err := c.between(right, shared, after, last)
	return slices.Concat(lower, []border{at}, upper), err
}

// rangeRows is the number of rows above which a range is cut. It is half as much again as a power of two: densely
// numbered keys fill their ranges with just a power of two, and an estimate that wavers around the limit would cut them
// now and not cut them the next time.
func rangeRows(rangeBytes, rowBytes int64) int64 {
	rows := max(rangeBytes/max(rowBytes, 1), 2)
	power := int64(1) << (bits.Len64(uint64(rows)) - 1)
	return power + power/2
}

// rounder is the number with the most zeros at its end that is above a and not above b.
func rounder(a, b *big.Int) *big.Int {
	if a.Sign() < 0 && b.Sign() >= 0 {
		return new(big.Int)
	}
	zeros := uint(new(big.Int).Xor(a, b).BitLen() - 1)
	return new(big.Int).Lsh(new(big.Int).Rsh(b, zeros), zeros)
}

// domain is what a column holds, as far as ranges can be cut along it.
type domain int

const (
	unordered domain = iota // or not worth the while
	numbers
	moments
	octets
	characters
)

var domains = map[string]domain{
	"tinyint": numbers, "smallint": numbers, "mediumint": numbers, "int": numbers, "bigint": numbers, "year": numbers, "decimal": numbers,
	"date": moments, "datetime": moments, "timestamp": moments,
	"binary": octets, "varbinary": octets, "uuid": octets, "inet6": octets, "inet4": octets,
	"char": characters, "varchar": characters,
}

// octetsOf are the sizes of types that are octets in one size alone.
var octetsOf = map[string]int{"uuid": 16, "inet6": 16, "inet4": 4}

func (c column) domain() domain { return domains[c.Type] }

// keyed is how a column is selected for the key of a row.
func (c column) keyed() string {
	switch size := octetsOf[c.Type]; {
	case c.domain() == characters:
		return "CONVERT(" + quote(c.Name) + " USING utf8mb4)"
	case size > 0:
		return fmt.Sprintf("CAST(%s AS BINARY(%d))", quote(c.Name), size)
	default:
		return quote(c.Name)
	}
}

// literal writes a value of a key as it stands in a statement: see rangeBorder.
func (c column) literal(value string) string {
	switch c.domain() {
	case octets:
		return fmt.Sprintf("X'%X'", value)
	case characters:
		return fmt.Sprintf("_utf8mb4 X'%X'", value)
	case moments:
		return "'" + value + "'"
	default:
		return value
	}
}

// equal tells whether two values are, as far as can be seen here.
func (c column) equal(a, b string) bool {
	return a == b || c.domain() == characters && !c.exact && strings.EqualFold(a, b)
}

// halve finds what is above a and not above b, if that is seen here.
func (c column) halve(a, b string) (at string, ok bool) {
	switch c.domain() {
	case numbers:
		low, high := floor(a), floor(b)
		if low == nil || high == nil || low.Cmp(high) >= 0 {
			return "", false
		}
		return rounder(low, high).String(), true
	case moments:
		return halveMoments(a, b)
	case octets:
		return c.halveOctets(a, b)
	default:
		at, ok := halveText([]rune(a), []rune(b), alphabet{words: !c.exact, least: ' ', most: 0x7f})
		return string(at), ok
	}
}

// floor is the whole part of a number, nil if it is none.
func floor(text string) *big.Int {
	if n, ok := new(big.Rat).SetString(text); ok {
		return new(big.Int).Div(n.Num(), n.Denom())
	}
	return nil
}

// halveMoments cuts at round numbers of days or seconds. A date that no calendar has comes before all others.
func halveMoments(a, b string) (string, bool) {
	layout, unit := time.DateTime, int64(1)
	if len(b) == len(time.DateOnly) {
		layout, unit = time.DateOnly, 24*60*60
	}
	low, _ := time.Parse(layout, a)
	high, err := time.Parse(layout, b)
	if from, to := low.Unix()/unit, high.Unix()/unit; err == nil && from < to {
		return time.Unix(rounder(big.NewInt(from), big.NewInt(to)).Int64()*unit, 0).UTC().Format(layout), true
	}
	return "", false
}

// halveOctets knows that MariaDB orders a UUID of the versions 1 to 5 by its last group first, then by the one before it,
// and so on.
func (c column) halveOctets(a, b string) (string, bool) {
	size := octetsOf[c.Type]
	backwards := func(s string) bool { return c.Type == "uuid" && s[6] >= 0x10 && s[6] < 0x60 && s[8] >= 0x80 }
	turned := size > 0 && backwards(b)
	if turned != (size > 0 && backwards(a)) {
		return "", false
	}
	if turned {
		a, b = a[10:]+a[8:10]+a[6:8]+a[4:6]+a[:4], b[10:]+b[8:10]+b[6:8]+b[4:6]+b[:4]
	}
	runes := func(s string) []rune { return mapped([]byte(s), func(o byte) rune { return rune(o) }) }
	at, ok := halveText(runes(a), runes(b), alphabet{most: 0xff})
	octets := make([]byte, max(size, len(at)))
	for i, r := range at {
		octets[i] = byte(r)
	}
	if turned {
		octets = slices.Concat(octets[12:], octets[10:12], octets[8:10], octets[6:8], octets[:6])
		octets[6] = max(octets[6], 0x10)
		octets[8] |= 0x80
	}
	return string(octets), ok
}

// alphabet orders characters: by their numbers between least and most, or, for the order of words, digits before letters
// and all else before or behind them. Where the digits begin keeps hexadecimal ones together.
type alphabet struct {
	words       bool
	least, most rune
}

const digitsAt, lettersAt = 16, 26

func (a alphabet) slot(r rune) int64 {
	lower := unicode.ToLower(r)
	switch {
	case !a.words:
		return int64(min(max(r, a.least), a.most))
	case r >= '0' && r <= '9':
		return int64(digitsAt + r - '0')
	case lower >= 'a':
		return int64(lettersAt + min(lower, 'z') - 'a')
	default:
		return digitsAt - 1
	}
}

func (a alphabet) char(slot int64) rune {
	switch {
	case !a.words:
		return rune(slot)
	case slot < lettersAt:
		return '0' + rune(slot-digitsAt)
	default:
		return 'a' + rune(slot-lettersAt)
	}
}

// halveText cuts at the first character in which the texts differ.
func halveText(a, b []rune, in alphabet) ([]rune, bool) {
	n := 0
	for n < min(len(a), len(b)) && (a[n] == b[n] || in.words && unicode.ToLower(a[n]) == unicode.ToLower(b[n])) {
		n++
	}
	slot := func(s []rune) *big.Int {
		if n < len(s) {
			return big.NewInt(in.slot(s[n]))
		}
		return big.NewInt(in.slot(0))
	}
	low, high := slot(a), slot(b)
	if low.Cmp(high) >= 0 {
		return nil, false
	}
	return append(slices.Clone(b[:n]), in.char(rounder(low, high).Int64())), true
}

// selects is the query of a range. Columns are named: a star would leave invisible ones out. Without a key the table is
// read in its own order, past any index that would be shorter.
func (t table) selects(schema string, r partRange) string {
	query := "SELECT " + strings.Join(mapped(t.Columns, column.read), ", ") + t.within(schema, r)
	if len(t.Key) > 0 {
		query += " ORDER BY " + strings.Join(mapped(t.Key, quote), ", ")
	}
	return query
}

// within is the rows of a range, as a query says it after its columns. The ranges of a table hold all its rows, those
// that come later, too: the first begins and the last ends with nothing.
func (t table) within(schema string, r partRange) string {
	if len(t.Key) == 0 {
		return " FROM " + t.from(schema) + " USE INDEX ()"
	}
	return " FROM " + t.from(schema) + " FORCE INDEX (PRIMARY) WHERE " + between(t.Key, r.From, r.To)
}

// between is the condition that a key is not before one border, and before the other. A comparison of tuples would say
// it shorter, but servers would look through the whole index for it.
func between(key []string, from, to border) string {
	if len(from)+len(to) == 0 {
		return "TRUE"
	}
	k, rest := quote(key[0]), key[1:]
	if len(from) > 0 && len(to) > 0 && from[0] == to[0] {
		return k + " = " + from[0] + " AND " + between(rest, from[1:], to[1:])
	}
	var ways, middle []string
	switch {
	case len(from) > 1:
		ways = append(ways, k+" = "+from[0]+" AND "+between(rest, from[1:], nil))
		middle = append(middle, k+" > "+from[0])
	case len(from) == 1:
		middle = append(middle, k+" >= "+from[0])
	}
	if len(to) > 0 {
		middle = append(middle, k+" < "+to[0])
	}
	ways = append(ways, strings.Join(middle, " AND "))
	if len(to) > 1 {
		ways = append(ways, k+" = "+to[0]+" AND "+between(rest, nil, to[1:]))
	}
	return "(" + strings.Join(ways, " OR ") + ")"
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
