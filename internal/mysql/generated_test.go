package mysql

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// generated are types of columns with values at their ends; both are SQL. What may be a key is marked.
var generated = []struct {
	kind   string
	key    bool
	values []string
}{
	{"TINYINT", true, []string{"-128", "127", "0"}},
	{"BIGINT", true, []string{"-9223372036854775808", "9223372036854775807", "0", "1"}},
	{"BIGINT UNSIGNED", true, []string{"18446744073709551615", "0", "9223372036854775808"}},
	{"INT(8) ZEROFILL", true, []string{"0", "7", "4294967295"}},
	{"DECIMAL(65,30)", true, []string{"-0.000000000000000000000000000001", "99999999999999999999999999999999999.9", "0"}},
	{"FLOAT", false, []string{"16777217", "-0e0", "3.4028234e38", "1e-45", "0.1"}},
	{"DOUBLE", false, []string{"-0e0", "1.7976931348623157e308", "5e-324", "0.1"}},
	{"BIT(64)", true, []string{"0", "x'ffffffffffffffff'", "x'5c090a00'"}},
	{"YEAR", true, []string{"0", "1901", "2155"}},
	{"DATE", true, []string{"'0000-00-00'", "'2024-02-30'", "'9999-12-31'"}},
	{"TIME(6)", true, []string{"'-838:59:59.999999'", "'838:59:59'", "'-00:00:00.000001'"}},
	{"DATETIME(6)", true, []string{"'0000-00-00'", "'9999-12-31 23:59:59.999999'", "'2026-03-29 02:30:00'"}},
	{"TIMESTAMP(3)", true, []string{"'1970-01-01 00:00:01'", "'2038-01-19 03:14:07.999'", "'2026-10-25 00:30:00'"}},
	{"CHAR(9) CHARACTER SET latin1", true, []string{"x'80819fe9'", "'a '", "''", "'\\\\'"}},
	{"VARCHAR(40) CHARACTER SET utf8mb4", true, []string{"'😀é'", "'\\\\N'", "'NULL'", "'\\t\\n\\r\\0'", "''"}},
	{"VARCHAR(20) CHARACTER SET sjis", true, []string{"x'955c'", "x'835c5c'", "'\\n'"}},
	{"VARCHAR(20) CHARACTER SET utf16", false, []string{"'表\\n'", "''", "'😀'"}},
	{"BINARY(6)", true, []string{"x'00'", "x'5c4e0a0d1aff'", "''"}},
	{"VARBINARY(20)", true, []string{"''", "x'00'", "x'5c'", "x'5c4e'", "x'0a'"}},
	{"LONGBLOB", false, []string{"REPEAT(x'005c090aff', 60000)", "''", "x'00'"}},
	{"LONGTEXT", false, []string{"REPEAT('é\\\\\\n', 50000)", "''", "'x'"}},
	{"ENUM('a','','b''c','1')", true, []string{"'a'", "''", "4", "3"}},
	{"SET('x','y;)','z')", true, []string{"''", "7", "'x'"}},
	{"JSON", false, []string{"'null'", "'{\"b\": [1, 2.5, \"\\\\\\\\n\"], \"a\": {}}'", "'1e100'", "'\"\"'"}},
	{"GEOMETRY", false, []string{"ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('LINESTRING(0 0,1 1)', 4326)"}},
}

// drawTable draws a table with a name of its own, and its rows.
func drawTable(t *rapid.T, name string, parents []string) string {
	pick := func(most int, what string) int { return rapid.IntRange(0, most).Draw(t, what) }
	var columns, names, elements []string
	var keyed []int
	kinds := make([]int, 1+pick(7, "columns"))
	for i := range kinds {
		kinds[i] = pick(len(generated)-1, "type")
		kind := generated[kinds[i]]
		column := fmt.Sprintf("`c%d%s` %s", i, []string{"", "``", " '", ",(", "é\""}[pick(4, "name")], kind.kind)
		names = append(names, column[:strings.Index(column, "` ")+1])
		if kind.key && pick(1, "in key") == 1 && len(keyed) < 4 {
			keyed = append(keyed, i)
		}
		columns = append(columns, column+" NULL")
	}
	elements = append(elements, columns...)
	partition := ""
	if len(keyed) > 0 {
		var list []string
		for _, i := range keyed {
			elements[i] = strings.TrimSuffix(elements[i], " NULL") + " NOT NULL"
			list = append(list, names[i]+[]string{"", " DESC"}[pick(1, "order")])
		}
		shape := []string{"PRIMARY KEY (%s)", "PRIMARY KEY (%s)", "UNIQUE KEY (%s)", "KEY (%s)"}[pick(3, "shape")]
		elements = append(elements, fmt.Sprintf(shape, strings.Join(list, ", ")))
		if strings.HasPrefix(shape, "PRIMARY") && pick(2, "parts") == 0 {
			partition = fmt.Sprintf(" PARTITION BY KEY (%s) PARTITIONS %d", names[keyed[0]], 1+pick(3, "parts"))
		}
	}
	if pick(1, "computed") == 1 {
		elements = append(elements, "`g` INT AS (LENGTH("+names[0]+")) "+[]string{"STORED", "VIRTUAL"}[pick(1, "stored")], "KEY (`g`)")
	}
	if len(parents) > 0 && partition == "" && pick(1, "points") == 1 {
		elements = append(elements, fmt.Sprintf("`up` INT, FOREIGN KEY (`up`) REFERENCES %s (`id`) ON DELETE CASCADE", parents[pick(len(parents)-1, "parent")]))
	}
	sql := fmt.Sprintf("CREATE TABLE %s (%s)%s;", name, strings.Join(elements, ", "), partition)
	for range pick(12, "rows") {
		var values []string
		for i, kind := range kinds {
			all := generated[kind].values
			value := all[pick(len(all)-1, "value")]
			if strings.HasSuffix(elements[i], " NULL") && !strings.HasSuffix(elements[i], "NOT NULL") && pick(4, "null") == 0 {
				value = "NULL"
			}
			values = append(values, value)
		}
		sql += fmt.Sprintf("INSERT IGNORE INTO %s (%s) VALUES (%s);", name, strings.Join(names, ", "), strings.Join(values, ", "))
	}
	return sql
}

// try runs statements that the server may refuse, with the schema as default.
func (w *world) try(statements string) error {
	conn, err := w.root.Conn(w.Context())
	require.NoError(w, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.ExecContext(w.Context(), "USE "+quote(w.schema)+"; "+statements)
	return err
}

// Whatever tables people think of come back; -rapid.checks asks for more of them than are tried by default.
func TestGeneratedSchemasComeBackIdentical(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		require.NoError(t, checks.Value.Set("2"))
		defer func() { _ = checks.Value.Set(checks.DefValue) }()
	}
	testenv.EachServer(t, func(t *testing.T, on *testenv.MySQLServer) {
		n := 0
		check := func(r *rapid.T) {
			n++
			w := newWorld(t, on)
			defer func() { _ = w.root.Close() }() // there may be hundreds
			sql := "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone = '+00:00';"
			var parents []string
			for i := range 3 {
				parents = append(parents, fmt.Sprintf("parent%d", i))
				sql += fmt.Sprintf("CREATE TABLE IF NOT EXISTS parent%d (id INT PRIMARY KEY);", i)
			}
			w.exec(sql)
			tables := 0
			for i := range rapid.IntRange(3, 8).Draw(r, "tables") {
				one := drawTable(r, fmt.Sprintf("`t%d`", i), parents)
				r.Log(one)
				if err := w.try(sql + one); err == nil { // no server takes a GEOMETRY in parts, or that many bytes in a key
					tables++
				}
			}
			require.Positive(r, tables)
			before := w.witness(w.schema)
			part := w.capture()
			w.exec("SET foreign_key_checks = 0; DROP DATABASE " + quote(w.schema))
			run := fmt.Sprintf("g%d", n)
			w.staged(run, part)
			require.NoError(r, w.turn(run, 1, remora.Restored))
			requireSame(t, before, w.witness(w.schema), "restored")
			require.NoError(r, w.d.Discard(w.Context(), remora.Job{Run: run}, "held"))
		}
		rapid.Check(t, check)
	})
}
