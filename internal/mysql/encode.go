package mysql

// loadFormat is how LOAD DATA is told to read what the reader writes. CHARACTER SET binary keeps every byte: the text
// is in the character set of each column, as the server stores it.
const loadFormat = `CHARACTER SET binary FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES TERMINATED BY '\n'`

// null is a NULL in a field; the text \N itself has its backslash doubled.
const null = `\N`

// appendEscaped appends a value, or a piece of one, to a line.
func appendEscaped(line, value []byte) []byte {
	start := 0
	for i, c := range value {
		var letter byte
		switch c {
		case '\\':
			letter = '\\'
		case '\t':
			letter = 't'
		case '\n':
			letter = 'n'
		case 0:
			letter = '0'
		default:
			continue
		}
		line = append(line, value[start:i]...)
		line = append(line, '\\', letter)
		start = i + 1
	}
	return append(line, value[start:]...)
}
