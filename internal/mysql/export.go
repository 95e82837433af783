package mysql

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/remora-backup/remora/internal/remora"
)

// statementSize is how long an INSERT may be for another row to be added, in bytes.
const statementSize = 256 << 10

const exportOp = "export the database"

// Export writes a part, or some of its tables, in forms that the stock client loads. No server is needed for that.
type Export struct {
	from fs.FS
	part part
}

// NewExport reads the part that lies in from. Where tables are named, "orders" or "shop.orders", only these are exported,
// with their triggers and with all sequences, since their columns may take numbers from them.
func NewExport(from fs.FS, tables []string) (*Export, error) {
	p, err := openPart(from)
	missing := slices.Clone(tables)
	for i := range p.Schemas {
		if s := &p.Schemas[i]; len(tables) > 0 {
			s.Tables = slices.DeleteFunc(s.Tables, func(t partTable) bool {
				is := func(name string) bool { return name == t.Name || name == t.schema+"."+t.Name }
				missing = slices.DeleteFunc(missing, is)
				return !t.Sequence && !slices.ContainsFunc(tables, is)
			})
			s.Objects = slices.DeleteFunc(s.Objects, func(o object) bool {
				return !slices.ContainsFunc(s.Tables, func(t partTable) bool { return t.Name == o.Table })
			})
		}
	}
	if err == nil && len(missing) > 0 {
		err = remora.Fail(remora.NotFound, exportOp, "table "+missing[0], "name it as it is in the backup: orders, or shop.orders", "the backup holds no such table")
	}
	return &Export{from: from, part: p}, err
}

// Summary counts what is exported: tables, rows, and the bytes of these in the backup.
func (e *Export) Summary() (s remora.Summary) {
	s.Objects, s.Entries, s.Bytes = e.part.counts()
	return s
}

// The first and the last line of a dump, and what ends one that is not whole: whatever stands before it, no server takes
// it for the end of a statement.
const (
	wholeIf  = "-- This dump is whole if its last line is: "
	complete = "-- complete"
	notWhole = "\nTHE EXPORT FAILED HERE: this dump is not whole\n"
)

// SQL writes statements alone, and says how long the longest of them is, in bytes. What is wrong in the backup is found
// while it is written; the text then ends in a way that fails when it is loaded.
func (e *Export) SQL(to io.Writer) (longest int64, err error) {
	var x inserts
	x.b = bufio.NewWriterSize(io.MultiWriter(to, &x.written), flushAt)
	fmt.Fprintf(x.b, "%s%s\n-- Load it with: %s --default-character-set=utf8mb4 -h HOST -u USER -p < FILE\n", wholeIf, complete, e.part.Server.client())
	if err = e.part.script(x.b, func(t partTable) error { return e.insert(&x, t) }); err == nil {
		fmt.Fprintln(x.b, complete)
	} else {
		fmt.Fprint(x.b, notWhole)
	}
	return x.longest, cmp.Or(err, x.b.Flush())
}

// TSV has put store the rows as they are in the backup, and load.sql, which loads them.
func (e *Export) TSV(put func(name string, content io.Reader) error) error {
	for _, t := range e.part.tables() {
		for _, r := range t.Ranges {
			if r.File == "" {
				continue
			}
			if err := e.read(t, r, func(rows io.Reader) error { return put(r.File, rows) }); err != nil {
				return err
			}
		}
	}
	return put(loadFile, bytes.NewReader(loadSQL(e.part)))
}

// read has do read a range of a table, and sees that it is the one that was stored.
func (e *Export) read(t partTable, r partRange, do func(rows io.Reader) error) error {
	sum := sha256.New()
	file, err := e.from.Open(r.File)
	if err == nil {
		defer func() { _ = file.Close() }()
		err = do(io.TeeReader(file, sum))
	}
	if err == nil && hex.EncodeToString(sum.Sum(nil)) != r.SHA256 || errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) {
		return remora.Fail(remora.Corrupt, exportOp, tableName(t.schema, t.Name)+", range "+r.File, "verify the backup, and export another one", "it is not what was written")
	}
	return err
}

// insert writes the rows of a table, those of a range in one transaction. Quoted text goes into a column byte by byte, as a
// binary string does. The server is to refuse what it cannot store as it is; but the error value of an ENUM it only stores
// where it forgives everything.
func (e *Export) insert(x *inserts, t partTable) error {
	mode := loadMode
	if !slices.ContainsFunc(t.Columns, func(c column) bool { return c.Type == "enum" }) {
		mode += ",STRICT_ALL_TABLES"
	}
	fmt.Fprintf(x.b, "SET SESSION sql_mode = '%s', collation_connection = binary;\n", mode)
	names := mapped(t.Columns, func(c column) string { return quote(c.Name) })
	x.begin, x.forms = "INSERT INTO "+quote(t.Name)+" ("+strings.Join(names, ", ")+") VALUES\n", mapped(t.Columns, column.form)
	for _, r := range t.Ranges {
		if r.Rows > 0 {
			fmt.Fprint(x.b, "START TRANSACTION;\n")
			if err := e.read(t, r, x.rows); err != nil {
				return err
			}
			fmt.Fprint(x.b, "COMMIT;\n")
		}
	}
	fmt.Fprintf(x.b, "SET SESSION sql_mode = '%s', collation_connection = utf8mb4_general_ci;\n", loadMode)
	return nil
}

// form is how the values of a column are written: what stands before them.
type form string

const (
	inQuotes form = "'"
	inUTF8   form = "_utf8mb4'" // for what takes no binary text
	inHex    form = "X'"
	inDigits form = ""
)

// form finds the form of a column. A FLOAT is in quotes since the server takes bare digits for a DECIMAL, which has no -0.
func (c column) form() form {
	switch c.Type {
	case "tinyint", "smallint", "mediumint", "int", "bigint", "decimal":
		return inDigits
	case "json", "uuid", "inet4", "inet6":
		return inUTF8
	case "enum", "set", "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "float", "double", "date", "time", "datetime", "timestamp", "year":
		if c.Indexed {
			return inDigits
		}
		return inQuotes
	}
	return inHex
}

// inserts makes INSERT statements of rows, holding little of them. Whatever these are, all that can come of them is values.
type inserts struct {
	b       *bufio.Writer
	written counter // by b
	begin   string
	forms   []form
	// longest is how long the longest statement was, in bytes.
	longest int64
}

func (x *inserts) rows(from io.Reader) error {
	position := func() int64 { return int64(x.written) + int64(x.b.Buffered()) }
	in := bufio.NewReaderSize(from, readBuffer)
	for start, lead := position(), x.begin; ; lead = ",\n" {
		if _, err := in.Peek(1); errors.Is(err, io.EOF) {
			_, err = x.b.WriteString(";\n")
			return err
		}
		if position()-start > statementSize {
			lead, start = ";\n"+x.begin, position()
		}
		fmt.Fprint(x.b, lead)
		for i, form := range x.forms {
			_ = x.b.WriteByte("(,"[min(i, 1)])
			if err := x.value(in, "\t\n"[(i+1)/len(x.forms)], form); err != nil {
				return err
			}
		}
		_ = x.b.WriteByte(')')
		x.longest = max(x.longest, position()-start)
	}
}

// The escapes of the file mean the same in a statement, but there is more that must not stand in a literal as it is.
var (
	escaped   = strings.NewReplacer(`\\`, `\\`, `\t`, `\t`, `\n`, `\n`, `\0`, `\0`, `\`, `\\`, `'`, `\'`, "\r", `\r`, "\n", `\n`, "\x00", `\0`)
	unescaped = strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\0`, "\x00")
)

// value turns a value into a literal, a long one piece by piece.
func (x *inserts) value(in *bufio.Reader, delim byte, form form) error {
	for first, more := true, true; more; first = false {
		raw, err := in.ReadSlice(delim)
		if more = errors.Is(err, bufio.ErrBufferFull); err != nil && !more {
			return err
		}
		if half := len(raw) - len(bytes.TrimRight(raw, `\`)); more && half%2 == 1 {
			_ = in.UnreadByte() // it comes again with what it escapes
			raw = raw[:len(raw)-1]
		} else if !more {
			raw = raw[:len(raw)-1]
		}
		if first && string(raw) == null {
			_, err = x.b.WriteString("NULL")
			return err
		}
		if first && form == inDigits && (more || len(bytes.Trim(raw, "0123456789+-.")) > 0) {
			form = inQuotes
		}
		if first {
			_, _ = x.b.WriteString(string(form))
		}
		switch {
		case form == inHex:
			_, err = fmt.Fprintf(x.b, "%x", unescaped.Replace(string(raw)))
		case bytes.ContainsAny(raw, "\\'\r\n\x00"):
			_, err = escaped.WriteString(x.b, string(raw))
		default:
			_, err = x.b.Write(raw)
		}
		if err != nil {
			return err
		}
	}
	if form != inDigits {
		return x.b.WriteByte('\'')
	}
	return nil
}
