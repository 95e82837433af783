package mysql

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// quote makes an identifier of any name: the one way in which names enter SQL text.
func quote(name string) string {
	return "`" + strings.ReplaceAll(name, "`", "``") + "`"
}

// qualified quotes a table with its schema.
func qualified(schema, table string) string { return quote(schema) + "." + quote(table) }

// mapped makes something of each of several things.
func mapped[T, U any](all []T, of func(T) U) []U {
	made := make([]U, len(all))
	for i, one := range all {
		made[i] = of(one)
	}
	return made
}

// text makes a string literal, for the few statements that take no placeholder. It holds for sql_mode without
// NO_BACKSLASH_ESCAPES, which every connection pins.
func text(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`, "\n", `\n`, "\x00", `\0`).Replace(s) + "'"
}

// grantPattern writes a schema as GRANT wants it: _ and % are wildcards there unless they are escaped.
func grantPattern(schema string) string {
	return quote(strings.NewReplacer(`_`, `\_`, `%`, `\%`).Replace(schema))
}

// maxFileName bounds the encoded name of a table in a part, in bytes, so that number and suffix still fit into the
// 255 bytes of a file name.
const maxFileName = 200

// misread is a character that some file system or shell may misread in a name.
var misread = regexp.MustCompile(`[^\pL\p{Nd}_$-]`)

// fileName turns the name of a schema or table into one path element that no file system and no shell misreads:
// letters, digits, _, - and $ stay, every other byte becomes %XX. A name that grows too long keeps its beginning and
// gets a digest, since part.json holds the true name anyway.
func fileName(name string) string {
	encoded := misread.ReplaceAllStringFunc(name, func(char string) string {
		return "%" + strings.ReplaceAll(fmt.Sprintf("% X", char), " ", "%")
	})
	if len(encoded) <= maxFileName {
		return encoded
	}
	sum := sha256.Sum256([]byte(encoded))
	short := strings.ToValidUTF8(encoded[:maxFileName-20], "")
	return short + "%~" + hex.EncodeToString(sum[:8])
}
