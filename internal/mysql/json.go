package mysql

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"
)

// errReprinted is the error of a copy that met numbers which come back as another text: a DECIMAL inside JSON prints as
// 1.50 and is read back as 1.5.
var errReprinted = errors.New("json values have types that text cannot carry")

// jsonText looks for such numbers in JSON as MySQL prints it, in one pass over the pieces of a text. To ask the server,
// which would print and parse all of a column, takes as long as reading the table.
type jsonText struct {
	number          []byte
	quoted, escaped bool
	differs         bool
}

// feed takes the next piece of the text.
func (j *jsonText) feed(piece []byte, last bool) {
	if last {
		defer j.end()
	}
	for len(piece) > 0 {
		if !j.quoted {
			piece = j.outside(piece)
			continue
		}
		if j.escaped {
			j.escaped, piece = false, piece[1:]
			continue
		}
		end := bytes.IndexByte(piece, '"')
		text := piece
		if end >= 0 {
			text = piece[:end]
		}
		if i := bytes.IndexByte(text, '\\'); i >= 0 {
			j.escaped, piece = true, piece[i+1:]
			continue
		}
		j.quoted = end < 0
		piece = piece[len(text):]
		if end >= 0 {
			piece = piece[1:]
		}
	}
}

// outside takes what is in no string, up to where one begins.
func (j *jsonText) outside(piece []byte) (rest []byte) {
	for i, c := range piece {
		if c >= '0' && c <= '9' || c == '.' || c == 'e' || c == '-' || c == '+' {
			j.number = append(j.number, c) // or letters of true and false, which make no number
			continue
		}
		j.end()
		if c == '"' {
			j.quoted = true
			return piece[i+1:]
		}
	}
	return nil
}

// end ends a number, and the text.
func (j *jsonText) end() {
	if len(j.number) > 2 {
		j.differs = j.differs || reprinted(string(j.number)) != string(j.number)
	}
	j.number = j.number[:0]
}

// reprinted is the text of a number after it was parsed: whole numbers of 64 bits stay what they are, and all else
// becomes a DOUBLE, which is printed in as few digits as tell it from others, without an exponent where that is short.
func reprinted(number string) string {
	whole, fraction, point := strings.Cut(number, ".")
	if strings.Contains(number, "e") || !point && len(whole) < 19 || point && len(number) < 16 && (len(fraction) == 1 || !strings.HasSuffix(fraction, "0")) {
		return number // it is a DOUBLE already, or short
	}
	if !point {
		if _, err := strconv.ParseInt(number, 10, 64); err == nil {
			return number
		}
		if _, err := strconv.ParseUint(number, 10, 64); err == nil {
			return number
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	text := strconv.FormatFloat(v, 'f', -1, 64)
	switch whole := !strings.Contains(text, "."); {
	case err != nil || math.Abs(v) < 1e-15 || whole && math.Abs(v) >= 1e15:
		return strconv.FormatFloat(v, 'e', -1, 64)
	case whole:
		return text + ".0"
	default:
		return text
	}
}
