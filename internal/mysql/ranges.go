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
	if len(b) == 0 || floor(b[0]) == nil {
		return b
	}
	return border{new(big.Int).Add(floor(b[0]), big.NewInt(1)).String()}
}

// cutter cuts a table along its key. Its functions ask the server.
type cutter struct {
	key []column
	// limit is how many rows a range may have.
	limit int64
	// estimate tells about how many rows there are in a range, edge the key of its first row in an order, nil without one.
	estimate func(partRange) (int64, error)
	edge     func(in partRange, order string) ([]string, error)
	// patience is how many more estimates there may be: those of a server that is wrong about them would never end.
	patience int64
}

// cut finds the borders between ranges of at most limit rows, as far as estimates can tell. Rows are parted where the
// bits or the characters of the first and of the last of them begin to differ, at the roundest place. Such borders depend
// on keys alone: rows that come and go move none of them, so ranges in which nothing happened are the same bytes in the
// next backup.
func (c *cutter) cut(in partRange) ([]border, error) {
	first, last, err := c.edges(in, in)
	if err != nil || first == nil || last == nil {
		return nil, err
	}
	return c.between(in, nil, first, last)
}

// edges finds the first row of one range and the last of another.
func (c *cutter) edges(of, to partRange) (first, last []string, err error) {
	if first, err = c.edge(of, "ASC"); err == nil && first != nil {
		last, err = c.edge(to, "DESC")
	}
	return first, last, err
}

// between cuts a range whose first and last row are known. Values that its rows share in the first columns stand in all
// its borders as they were found once: equal values need not be the same text.
func (c *cutter) between(in partRange, shared border, first, last []string) ([]border, error) {
	c.patience--
	rows, err := c.estimate(in)
	if err != nil || rows <= c.limit || c.patience < 0 {
		return nil, err
	}
	for i := len(shared); i < len(c.key); i++ {
		column := c.key[i]
		low, high, at := column.span(first[i], last[i])
		for low != nil && high != nil && low.Cmp(high) < 0 {
			middle := rounder(low, high)
			parting := append(slices.Clone(shared), column.literal(at(middle)))
			left, right := partRange{From: in.From, To: parting}, partRange{From: parting, To: in.To}
			after, before, err := c.edges(right, left)
			switch {
			case err != nil:
				return nil, err
			case after == nil: // nor would it part them later: the server has an order of its own
				high = middle.Sub(middle, big.NewInt(1))
				continue
			case before == nil:
				low = middle
				continue
			}
			lower, err := c.between(left, shared, first, before)
			if err != nil {
				return nil, err
			}
			upper, err := c.between(right, shared, after, last)
			return slices.Concat(lower, []border{parting}, upper), err
		}
		if high == nil || first[i] != last[i] && column.domain() != characters { // texts may be equal for the server all the same
			return nil, nil
		}
		shared = append(slices.Clone(shared), column.literal(first[i]))
	}
	return nil, nil
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
		return fmt.Sprintf("_utf8mb4 X'%X'", strings.ToValidUTF8(value, "?"))
	case moments:
		return "'" + value + "'"
	default:
		return value
	}
}

// span maps two values to numbers of the same order, and numbers between them to values; to nil what it cannot map.
func (c column) span(a, b string) (low, high *big.Int, at func(*big.Int) string) {
	switch c.domain() {
	case numbers:
		return floor(a), floor(b), (*big.Int).String
	case moments:
		return spanMoments(a, b)
	case octets:
		return c.spanOctets(a, b)
	default:
		in := asWords
		if c.exact {
			in = byCode
		}
		low, high, text := in.span([]rune(a), []rune(b))
		return low, high, func(n *big.Int) string { return string(text(n)) }
	}
}

// floor is the whole part of a number, nil if it is none.
func floor(text string) *big.Int {
	if n, ok := new(big.Rat).SetString(text); ok {
		return new(big.Int).Div(n.Num(), n.Denom())
	}
	return nil
}

// spanMoments counts days, or seconds from the first one that a TIMESTAMP can have: before it, MariaDB would not look into
// the index. A date that no calendar has comes before all others.
func spanMoments(a, b string) (low, high *big.Int, at func(*big.Int) string) {
	layout, unit, zero := time.DateTime, int64(1), int64(1)
	if len(b) == len(time.DateOnly) {
		layout, unit, zero = time.DateOnly, 24*60*60, 0
	}
	from, _ := time.Parse(layout, a)
	to, err := time.Parse(layout, b)
	if err != nil {
		return nil, nil, nil
	}
	return big.NewInt((from.Unix() - zero) / unit), big.NewInt((to.Unix() - zero) / unit), func(n *big.Int) string {
		return time.Unix(n.Int64()*unit+zero, 0).UTC().Format(layout)
	}
}

// spanOctets knows that MariaDB orders a UUID of the versions 1 to 5 by its last group first, then by the one before it,
// and so on.
func (c column) spanOctets(a, b string) (low, high *big.Int, at func(*big.Int) string) {
	size := octetsOf[c.Type]
	backwards := func(s string) bool { return c.Type == "uuid" && s[6] >= 0x10 && s[6] < 0x60 && s[8] >= 0x80 }
	turned := backwards(b)
	if turned != backwards(a) {
		return nil, nil, nil
	}
	if turned {
		a, b = a[10:]+a[8:10]+a[6:8]+a[4:6]+a[:4], b[10:]+b[8:10]+b[6:8]+b[4:6]+b[:4]
	}
	runes := func(s string) []rune { return mapped([]byte(s), func(o byte) rune { return rune(o) }) }
	low, high, text := anyOctet.span(runes(a), runes(b))
	return low, high, func(n *big.Int) string {
		octets := mapped(text(n), func(r rune) byte { return byte(r) })
		octets = append(octets, make([]byte, max(size-len(octets), 0))...)
		if turned {
			octets = slices.Concat(octets[12:], octets[10:12], octets[8:10], octets[6:8], octets[:6])
			octets[6], octets[8] = max(octets[6], 0x10), octets[8]|0x80
		}
		return string(octets)
	}
}

// alphabet numbers characters: by their code, or for words digits before letters. The end of a text is the least of them.
type alphabet struct {
	least, most rune
	words       bool
}

var (
	anyOctet = alphabet{-1, 0xff, false}
	byCode   = alphabet{' ', 0x7f, false}
	asWords  = alphabet{digitsAt - 1, lettersAt + 'z' - 'a', true}
)

// digitsAt and lettersAt are the numbers of 0 and of a in words; hexadecimal digits are together so.
const digitsAt, lettersAt = 16, 26

// span numbers the first characters in which two texts differ. What words have besides digits and letters comes where
// each language wants it, so it spans them all.
func (of alphabet) span(a, b []rune) (low, high *big.Int, at func(*big.Int) []rune) {
	n := 0
	for n < min(len(a), len(b)) && (a[n] == b[n] || of.words && unicode.ToLower(a[n]) == unicode.ToLower(b[n])) {
		n++
	}
	number := func(text []rune, unknown rune) *big.Int {
		switch {
		case n == len(text):
			unknown = of.least
		case !of.words:
			unknown = min(max(text[n], of.least), of.most)
		case text[n] >= '0' && text[n] <= '9':
			unknown = digitsAt + text[n] - '0'
		case (text[n]|0x20) >= 'a' && (text[n]|0x20) <= 'z':
			unknown = lettersAt + (text[n] | 0x20) - 'a'
		}
		return big.NewInt(int64(unknown))
	}
	return number(a, of.least), number(b, of.most), func(number *big.Int) []rune {
		char := rune(number.Int64())
		switch {
		case of.words && char < lettersAt:
			char += '0' - digitsAt
		case of.words:
			char += 'a' - lettersAt
		}
		return append(slices.Clone(b[:n]), char)
	}
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
	if len(key) == 0 || len(from)+len(to) == 0 {
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
// DOUBLE, whose text is exact (adding zero would lose the sign of -0). JSON that comes back as another text is selected as
// that.
func (c column) read() string {
	switch {
	case c.Type == "float", c.Type == "double" && c.Decimals:
		return quote(c.Name) + " * 1e0"
	case c.Indexed:
		return quote(c.Name) + " + 0"
	case c.Reparsed:
		return "CAST(CONVERT(" + quote(c.Name) + " USING utf8mb4) AS JSON)"
	default:
		return quote(c.Name)
	}
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
