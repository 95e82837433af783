package mysql

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/client"
	protocol "github.com/go-mysql-org/go-mysql/mysql"
)

// readBuffer is what a reader holds of the stream of rows, in bytes; flushAt is how much text it collects before it
// passes it on. A row that fits into readBuffer is taken from it in place, a longer one is streamed through it, so a
// reader's memory does not depend on the data.
const (
	readBuffer = 256 << 10
	flushAt    = 128 << 10
)

var errMalformed = errors.New("the server sent a packet that is none")

// reader reads rows on a connection of its own and turns them into the text that LOAD DATA reads. Drivers parse numbers
// and print them again; the reader passes on the server's own bytes. Not safe for concurrent use.
type reader struct {
	conn *client.Conn
	// in reads the connection past the client's own buffer, which is empty between a whole answer and the next
	// question.
	in   *bufio.Reader
	line []byte
	// json looks at the values of columns that are JSON, while that is wanted.
	json map[int]*jsonText
	// command begins every query: its code, and a count of no attributes where the server expects one.
	command []byte
}

// openReader connects a reader as s is connected; settings are assignments for SET SESSION beside the pinned ones.
func (d *Database) openReader(ctx context.Context, who account, s *session, settings ...string) (*reader, error) {
	conn, err := d.dial(ctx, who, s.encrypted)
	if err != nil {
		return nil, err
	}
	r := &reader{conn: conn, in: bufio.NewReaderSize(conn.Conn.Conn, readBuffer), line: make([]byte, 0, 2*readBuffer)}
	r.command = []byte{protocol.COM_QUERY}
	if strings.Contains(conn.CapabilityString(), "CLIENT_QUERY_ATTRIBUTES") {
		r.command = append(r.command, 0, 1)
	}
	statements := append([]string{
		s.server.role, s.server.pinned(), "SET NAMES utf8mb4", "SET SESSION character_set_results = NULL",
		"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
	}, assignments(settings)...)
	for _, statement := range statements {
		if err := r.exec(ctx, statement); err != nil {
			r.close()
			return nil, d.problem(ctx, "prepare a reading session", d.cfg.Address, err)
		}
	}
	return r, nil
}

// openReaders connects several readers for a copy.
func (d *Database) openReaders(ctx context.Context, who account, sessions int, s *session, settings ...string) (all []*reader, err error) {
	settings = append(settings, "lock_wait_timeout = 60", "net_write_timeout = "+d.patience())
	for range sessions {
		r, err := d.openReader(ctx, who, s, settings...)
		if err != nil {
			closeReaders(all)
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

func closeReaders(all []*reader) {
	for _, r := range all {
		r.close()
	}
}

func (r *reader) close() { _ = r.conn.Close() }

// guard ends whatever the connection waits for when ctx ends. The connection is of no use afterwards.
func (r *reader) guard(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, r.close)
}

// exec runs a statement that answers without rows.
func (r *reader) exec(ctx context.Context, statement string) error {
	defer r.guard(ctx)()
	result, err := r.conn.Execute(statement)
	if err == nil {
		result.Close()
	}
	return err
}

// value runs a query that answers with one row, and returns one of its columns as text; "" for NULL and for no row.
func (r *reader) value(ctx context.Context, query string, column int) (string, error) {
	row, err := r.values(ctx, query)
	if err != nil || row == nil {
		return "", err
	}
	return row[column], nil
}

// values is value for all columns; nil for no row.
func (r *reader) values(ctx context.Context, query string) ([]string, error) {
	defer r.guard(ctx)()
	result, err := r.conn.Execute(query)
	if err != nil {
		return nil, err
	}
	defer result.Close()
	if result.RowNumber() == 0 {
		return nil, nil
	}
	row := make([]string, result.ColumnNumber())
	for i := range row {
		value, err := result.GetString(0, i)
		if err != nil {
			return nil, err
		}
		row[i] = strings.Clone(value) // it lies in a buffer that the client uses again
	}
	return row, nil
}

// copy writes the rows of a query to w, one line each, and counts them. The server must have sent as many.
func (r *reader) copy(ctx context.Context, query string, columns int, w io.Writer) (rows int64, err error) {
	defer r.guard(ctx)()
	r.conn.ResetSequence()
	packet := append(make([]byte, 4, 4+len(r.command)+len(query)), r.command...) // its header is written in place
	if err := r.conn.WritePacket(append(packet, query...)); err != nil {
		return 0, err
	}
	if err := r.header(columns); err != nil {
		return 0, err
	}
	r.line = r.line[:0]
	for {
		more, err := r.row(columns, w)
		if err != nil {
			return rows, err
		}
		if len(r.line) >= flushAt || !more {
			if err := r.flush(w); err != nil {
				return rows, err
			}
		}
		if !more {
			break
		}
		rows++
	}
	// What it costs a server to count a table again is a tenth of reading it; to say what it sent costs nothing.
	sent, err := r.value(ctx, "SELECT FOUND_ROWS()", 0)
	if codeOf(err) == codeNoFunction {
		return rows, nil
	}
	if err == nil && sent != strconv.FormatInt(rows, 10) {
		err = fmt.Errorf("%w: %d rows came, but the server sent %s", errMalformed, rows, sent)
	}
	return rows, err
}

// watch has the next copies look at what is JSON in these columns.
func (r *reader) watch(columns []column) {
	r.json = map[int]*jsonText{}
	for i, c := range columns {
		if c.Type == "json" && !c.Reparsed {
			r.json[i] = &jsonText{}
		}
	}
}

// reprinted is errReprinted when watch met such numbers.
func (r *reader) reprinted() error {
	for _, j := range r.json {
		if j.differs {
			return errReprinted
		}
	}
	return nil
}

// append appends a value, or a piece of one, to the line.
func (r *reader) append(column int, value []byte, last bool) {
	if len(r.json) > 0 {
		if j := r.json[column]; j != nil {
			j.feed(value, last)
		}
	}
	r.line = appendEscaped(r.line, value)
}

func (r *reader) flush(w io.Writer) error {
	_, err := w.Write(r.line)
	r.line = r.line[:0]
	return err
}

// header reads what comes before the rows: the number of columns, a definition for each, and an end.
func (r *reader) header(columns int) error {
	first, err := r.small()
	if err != nil {
		return err
	}
	if n, size, _ := lengthOf(first); size == 0 || n != uint64(columns) {
		return errMalformed
	}
	for range columns + 1 {
		if _, err := r.small(); err != nil {
			return err
		}
	}
	return nil
}

// small reads a packet that fits into the buffer: anything but a row. It is valid until the next read.
func (r *reader) small() ([]byte, error) {
	size, err := r.peekSize()
	if err != nil {
		return nil, err
	}
	if size == 0 || size+4 > readBuffer {
		return nil, errMalformed
	}
	packet, err := r.in.Peek(4 + size)
	if err != nil {
		return nil, err
	}
	_, _ = r.in.Discard(4 + size) // cannot fail: it was just peeked, and stays in place until the next read
	if packet[4] == protocol.ERR_HEADER {
		return nil, serverError(packet[4:])
	}
	return packet[4:], nil
}

// peekSize is the size of the packet that comes next.
func (r *reader) peekSize() (int, error) {
	head, err := r.in.Peek(4)
	if err != nil {
		return 0, err
	}
	return sizeOf(head), nil
}

// row reads the next row into the line, or the end of rows: then more is false.
func (r *reader) row(columns int, w io.Writer) (more bool, err error) {
	size, err := r.peekSize()
	if err != nil {
		return false, err
	}
	if size+4 > readBuffer {
		return true, r.longRow(columns, w)
	}
	packet, err := r.small()
	if err != nil {
		return false, err
	}
	if packet[0] == protocol.EOF_HEADER && len(packet) < 9 {
		return false, nil
	}
	for i := range columns {
		if i > 0 {
			r.line = append(r.line, '\t')
		}
		length, n, isNull := lengthOf(packet)
		if n == 0 || length > uint64(len(packet)-n) {
			return false, errMalformed
		}
		packet = packet[n:]
		if isNull {
			r.line = append(r.line, null...)
			continue
		}
		r.append(i, packet[:length], true)
		packet = packet[length:]
	}
	r.line = append(r.line, '\n')
	return true, nil
}

// longRow streams a row that does not fit into the buffer.
func (r *reader) longRow(columns int, w io.Writer) error {
	body := payload{in: r.in}
	for i := range columns {
		if i > 0 {
			r.line = append(r.line, '\t')
		}
		length, isNull, err := body.length()
		if err != nil {
			return err
		}
		if isNull {
			r.line = append(r.line, null...)
			continue
		}
		for length > 0 {
			piece, err := body.next(length)
			if err != nil {
				return err
			}
			length -= uint64(len(piece))
			r.append(i, piece, length == 0)
			if len(r.line) >= flushAt {
				if err := r.flush(w); err != nil {
					return err
				}
			}
		}
	}
	r.line = append(r.line, '\n')
	return body.end()
}

// payload reads the content of a row that may span several packets: each of the largest possible size is followed by
// another one, which may be empty.
type payload struct {
	in   *bufio.Reader
	left int
	last bool
}

// fill steps into the next packet once the current one is used up.
func (p *payload) fill() error {
	for p.left == 0 && !p.last {
		head, err := p.in.Peek(4)
		if err != nil {
			return err
		}
		p.left = sizeOf(head)
		p.last = p.left < protocol.MaxPayloadLen
		_, _ = p.in.Discard(4) // cannot fail: it was just peeked
	}
	return nil
}

// next is up to n bytes, valid until the next read.
func (p *payload) next(n uint64) ([]byte, error) {
	if err := p.fill(); err != nil {
		return nil, err
	}
	want := min(int(min(n, flushAt)), p.left)
	if want == 0 {
		return nil, errMalformed
	}
	piece, err := p.in.Peek(want)
	if err != nil {
		return nil, err
	}
	p.left -= want
	_, err = p.in.Discard(want)
	return piece, err
}

// length reads the length of a value.
func (p *payload) length() (n uint64, isNull bool, err error) {
	var encoded []byte
	for len(encoded) < 9 {
		piece, err := p.next(1)
		if err != nil {
			return 0, false, err
		}
		encoded = append(encoded, piece[0])
		if length, size, isNull := lengthOf(encoded); size > 0 {
			return length, isNull, nil
		}
	}
	return 0, false, errMalformed
}

// end makes sure that nothing is left.
func (p *payload) end() error {
	if err := p.fill(); err != nil {
		return err
	}
	if p.left != 0 {
		return errMalformed
	}
	return nil
}

// sizeOf decodes the size of the packet in front of it.
func sizeOf(head []byte) int { return int(head[0]) | int(head[1])<<8 | int(head[2])<<16 }

// lengthOf decodes the length in front of a value: its number of bytes, and NULL. size is 0 while b is too short.
func lengthOf(b []byte) (n uint64, size int, isNull bool) {
	if len(b) == 0 {
		return 0, 0, false
	}
	switch c := b[0]; {
	case c < 0xfb:
		return uint64(c), 1, false
	case c == 0xfb:
		return 0, 1, true
	case c == 0xfc && len(b) >= 3:
		return uint64(binary.LittleEndian.Uint16(b[1:])), 3, false
	case c == 0xfd && len(b) >= 4:
		return uint64(b[1]) | uint64(b[2])<<8 | uint64(b[3])<<16, 4, false
	case c == 0xfe && len(b) >= 9:
		return binary.LittleEndian.Uint64(b[1:]), 9, false
	}
	return 0, 0, false
}

// serverError decodes an error packet: its mark, a code, # and a state of five letters, and the text.
func serverError(packet []byte) error {
	if len(packet) < 3 {
		return errMalformed
	}
	code, message := binary.LittleEndian.Uint16(packet[1:3]), packet[3:]
	if len(message) >= 6 && message[0] == '#' {
		return &protocol.MyError{Code: code, State: string(message[1:6]), Message: string(message[6:])}
	}
	return &protocol.MyError{Code: code, Message: string(message)}
}

// loadFormat is how LOAD DATA is told to read what the reader writes. CHARACTER SET binary keeps every byte: the text
// is in the character set of each column, as the server stores it.
const loadFormat = `CHARACTER SET binary FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES TERMINATED BY '\n'`

// null is a NULL in a field; the text \N itself has its backslash doubled.
const null = `\N`

// appendEscaped appends a value, or a piece of one, to a line.
func appendEscaped(line, value []byte) []byte {
	for {
		n := plainLength(value)
		line = append(line, value[:n]...)
		if n == len(value) {
			return line
		}
		letter := value[n]
		switch letter {
		case '\t':
			letter = 't'
		case '\n':
			letter = 'n'
		case 0:
			letter = '0'
		}
		line = append(line, '\\', letter)
		value = value[n+1:]
	}
}

// plainLength is how many bytes there are before one that is escaped. It looks at eight at a time: of a word, the least of
// the highest bits that are set by zeros stands for the first byte that is zero.
func plainLength(b []byte) (n int) {
	const ones, highest = 0x0101010101010101, 0x8080808080808080
	zeros := func(word uint64) uint64 { return (word - ones) &^ word & highest }
	for ; n+8 <= len(b); n += 8 {
		word := binary.LittleEndian.Uint64(b[n:])
		if found := zeros(word) | zeros(word^'\t'*ones) | zeros(word^'\n'*ones) | zeros(word^'\\'*ones); found != 0 {
			return n + bits.TrailingZeros64(found)/8
		}
	}
	for n < len(b) && b[n] != 0 && b[n] != '\t' && b[n] != '\n' && b[n] != '\\' {
		n++
	}
	return n
}
