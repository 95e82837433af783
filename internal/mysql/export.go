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
	// Summary counts what is exported: tables, rows, and the bytes of these in the backup.
	remora.Summary
	from fs.FS
	part part
}

// NewExport reads the part that lies in from. Where tables are named, "orders" or "shop.orders", only these are exported,
// with their triggers.
func NewExport(from fs.FS, tables []string) (*Export, error) {
	p, err := openPart(from)
	if err == nil {
		err = p.only(exportOp, tables)
	}
	e := &Export{from: from, part: p}
	e.Objects, e.Entries, e.Bytes = p.counts()
	return e, err
}

// complete is the last line of a dump that is whole. notWhole ends one that is not: no server takes it for a statement,
// or for the end of one.
const (
	complete = "-- complete\n"
	notWhole = "\nTHE EXPORT FAILED HERE: this dump is not whole\n"
)

// SQL writes statements alone. What is wrong in the backup is found while it is written; the text then ends in a way that
// fails when it is loaded.
func (e *Export) SQL(to io.Writer) error {
	b := bufio.NewWriterSize(to, flushAt)
	fmt.Fprintf(b, `-- Load this with:
--   %s --default-character-set=utf8mb4 --max-allowed-packet=1G -h HOST -u USER -p < FILE
-- Where a row is longer than the max_allowed_packet of the server, raise that.
-- This is whole if its last line is: %s`, e.part.Server.client(), complete)
	err := e.part.script(b, func(t partTable) error { return e.insert(b, t) })
	fmt.Fprint(b, map[bool]string{true: complete, false: notWhole}[err == nil])
	return cmp.Or(err, b.Flush())
}

// TSV has put store the rows as they are in the backup, and load.sql, which loads them.
func (e *Export) TSV(put func(name string, write func(io.Writer) error) error) error {
	for _, t := range e.part.tables() {
		for _, r := range t.Ranges {
			if r.Rows == 0 { // there may be no file
				continue
			}
			err := put(r.File, func(w io.Writer) error {
				return e.read(t, r, func(rows io.Reader) error {
					_, err := io.Copy(w, rows)
					return err
				})
			})
			if err != nil {
				return err
			}
		}
	}
	return put(loadFile, e.part.loadSQL)
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
func (e *Export) insert(b *bufio.Writer, t partTable) error {
	mode := loadMode
	if !slices.ContainsFunc(t.Columns, func(c column) bool { return c.Type == "enum" }) {
		mode += ",STRICT_ALL_TABLES"
	}
	fmt.Fprintf(b, "SET SESSION sql_mode = '%s', collation_connection = binary;\n", mode)
	names := mapped(t.Columns, func(c column) string { return quote(c.Name) })
	x := inserts{b, "INSERT INTO " + quote(t.Name) + " (" + strings.Join(names, ", ") + ") VALUES\n", mapped(t.Columns, column.form)}
	for _, r := range t.Ranges {
		if r.Rows > 0 {
			fmt.Fprint(b, "START TRANSACTION;\n")
			if err := e.read(t, r, x.rows); err != nil {
				return err
			}
			fmt.Fprint(b, "COMMIT;\n")
		}
	}
	fmt.Fprintf(b, "SET SESSION sql_mode = '%s', collation_connection = utf8mb4_general_ci;\n", loadMode)
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
	*bufio.Writer
	begin string
	forms []form
}

func (x inserts) rows(from io.Reader) error {
	in := bufio.NewReaderSize(from, readBuffer)
	for size, lead := 0, x.begin; ; lead = ",\n" {
		if _, err := in.Peek(1); errors.Is(err, io.EOF) {
			_, err = x.WriteString(";\n")
			return err
		}
		if size > statementSize {
			size, lead = 0, ";\n"+x.begin
		}
		_, _ = x.WriteString(lead)
		for i, form := range x.forms {
			_ = x.WriteByte("(,"[min(i, 1)])
			n, err := x.value(in, "\t\n"[(i+1)/len(x.forms)], form)
			if err != nil {
				return err
			}
			size += n
		}
		_ = x.WriteByte(')')
	}
}

// The escapes of the file mean the same in a statement, but there is more that must not stand in a literal as it is.
var (
	escaped   = strings.NewReplacer(`\\`, `\\`, `\t`, `\t`, `\n`, `\n`, `\0`, `\0`, `\`, `\\`, `'`, `\'`, "\r", `\r`, "\n", `\n`, "\x00", `\0`)
	unescaped = strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\0`, "\x00")
)

// value turns a value into a literal, a long one piece by piece, and tells how long it was in the file.
func (x inserts) value(in *bufio.Reader, delim byte, form form) (size int, err error) {
	for more := true; more; {
		raw, err := in.ReadSlice(delim)
		if more = errors.Is(err, bufio.ErrBufferFull); err != nil && !more {
			return size, err
		}
		if end := len(raw) - len(bytes.TrimRight(raw, `\`)); !more || end%2 == 1 {
			raw = raw[:len(raw)-1]
			if more {
				_ = in.UnreadByte() // a backslash comes again with what it escapes
			}
		}
		switch begins := size == 0; {
		case begins && string(raw) == null:
			_, err = x.WriteString("NULL")
			return len(raw), err
		case begins && form == inDigits && (more || len(bytes.Trim(raw, "0123456789+-.")) > 0):
			form = inQuotes
			fallthrough
		case begins:
			_, _ = x.WriteString(string(form))
		}
		size += len(raw)
		switch {
		case form == inHex:
			_, err = fmt.Fprintf(x, "%x", unescaped.Replace(string(raw)))
		case bytes.ContainsAny(raw, "\\'\r\n\x00"):
			_, err = escaped.WriteString(x, string(raw))
		default:
			_, err = x.Write(raw)
		}
		if err != nil {
			return size, err
		}
	}
	if form != inDigits {
		err = x.WriteByte('\'')
	}
	return size, err
}

// loadFile is the name of the file that says it.
const loadFile = "load.sql"

// loadSQL writes how a part is loaded by hand, with nothing but the server's own client.
func (p part) loadSQL(to io.Writer) error {
	b := bufio.NewWriter(to)
	fmt.Fprintf(b, `-- How to rebuild this database with the stock client, without Remora:
--   cd into the directory of this file, then
--   %s --local-infile=1 --comments --default-character-set=utf8mb4 -h HOST -u USER -p < %s
-- The server must have local_infile = ON.
`, p.Server.client(), loadFile)
	err := p.script(b, func(t partTable) error {
		for _, r := range t.Ranges {
			if r.Rows > 0 {
				fmt.Fprintf(b, "LOAD DATA LOCAL INFILE %s INTO TABLE %s %s %s;\n", text(r.File), quote(t.Name), loadFormat, t.loads())
			}
		}
		return nil
	})
	return cmp.Or(err, b.Flush())
}

// script writes the statements that rebuild a part, for the stock client; rows writes those that fill a table. The
// writer keeps the first error for itself until it is flushed.
func (p part) script(b *bufio.Writer, rows func(partTable) error) error {
	fmt.Fprintf(b, `-- Existing tables are never touched: the first one that exists ends the load.
%s-- Taken %s from %s (%s).

SET NAMES utf8mb4;
SET SESSION time_zone = '+00:00';
`, p.Server.dialect().keyHint, p.Taken.Format("2006-01-02 15:04:05 UTC"), remora.OneLine(p.Server.String()), remora.OneLine(p.Consistency))
	for _, setting := range assignments(p.Server.loading()) {
		fmt.Fprint(b, setting+";\n")
	}
	for _, s := range p.Schemas {
		fmt.Fprintf(b, "\nCREATE DATABASE IF NOT EXISTS %s %s;\n", quote(s.Name), s.clause())
	}
	for _, t := range inSequence(p.tables()) {
		fmt.Fprintf(b, "\n-- %d rows\nUSE %s;\n%s;\n", t.Rows, quote(t.schema), recreate(t.Name, t.Definition, true))
		if err := rows(t); err != nil {
			return err
		}
	}
	whole := mapped(p.Schemas, func(s partSchema) census {
		return census{place: place{s.Name, s.Name}, options: s.schemaOptions, objects: s.Objects}
	})
	now := collationsOf(whole)
	for _, kind := range objectKinds { // of all schemas, since those of one may need those of another
		objects := ofKindIn(whole, kind)
		if kind == kindView {
			objects = ordered(objects)
		}
		for _, o := range objects {
			loadObject(b, o, now)
		}
	}
	for _, statement := range now.after(whole) {
		fmt.Fprint(b, statement+";\n")
	}
	fmt.Fprint(b, "\nSET SESSION foreign_key_checks = 1;\n")
	return nil
}

// loadObject writes an object, with a delimiter that it does not hold.
func loadObject(b *bufio.Writer, o shapedObject, now collations) {
	if o.Broken {
		fmt.Fprintf(b, "\nUSE %s;\n-- %s was invalid, and so cannot be created:\n-- %s\n", quote(o.in.schema), strings.ReplaceAll(o.String(), "\n", " "), strings.ReplaceAll(string(o.Create), "\n", "\n-- "))
		return
	}
	delimiter := "$$"
	for strings.Contains(string(o.Create), delimiter) {
		delimiter += "$"
	}
	fmt.Fprintf(b, "\n%s;\nDELIMITER %s\n%s\n%s\nDELIMITER ;\n%s;\n", strings.Join(now.before(o), ";\n"), delimiter, o.statement(), delimiter, unset)
}
