package bench

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/remora-backup/remora/internal/testenv"
)

// shopTable is a table of the shop: how it is created, the keys that are added when it is full, how many rows it has in a
// shop of 1.5 GB, and how its row i is written. Rows of one table always come out the same.
type shopTable struct {
	name, create, keys string
	rows               int
	row                func(w *words, line []byte, i int) []byte
}

// shop is 1.5 GB of tab-separated text: a third is small rows, a fourth JSON, a fourth text, and the rest blobs of which
// a half does not compress.
var shop = []shopTable{
	{
		"users", `CREATE TABLE users (id INT UNSIGNED PRIMARY KEY AUTO_INCREMENT, email VARCHAR(190) NOT NULL, name VARCHAR(120) NOT NULL,
			password CHAR(60) NOT NULL, country CHAR(2) NOT NULL, created_at DATETIME NOT NULL, seen_at TIMESTAMP NULL, balance DECIMAL(12,2) NOT NULL, settings JSON)`,
		"ADD UNIQUE KEY (email), ADD KEY (created_at)", 200_000,
		func(w *words, line []byte, i int) []byte {
			line = fmt.Appendf(line, "%d\t%s.%s.%d@example.com\t%s %s\t$2y$10$", i, w.word(), w.word(), i, w.word(), w.word())
			line = w.letters(line, 53)
			line = fmt.Appendf(line, "\t%s\t%s\t%s\t%d.%02d\t", w.oneOf("DE", "AT", "CH", "FR", "US"), w.time(i, 200_000), w.time(i, 200_000), w.IntN(5000), w.IntN(100))
			return fmt.Appendf(line, `{"news": %t, "theme": "%s", "pages": [%d, %d], "language": "%s"}`, w.IntN(2) == 0, w.oneOf("dark", "light", "auto"), w.IntN(90), w.IntN(90), w.oneOf("de", "en", "fr"))
		},
	},
	{
		"orders", `CREATE TABLE orders (id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT, user_id INT UNSIGNED NOT NULL, status ENUM('new','paid','sent','back') NOT NULL,
			total DECIMAL(10,2) NOT NULL, currency CHAR(3) NOT NULL, placed_at DATETIME(3) NOT NULL, sent_at DATETIME NULL, address VARCHAR(200) NOT NULL)`,
		"ADD KEY (user_id), ADD KEY (status, placed_at), ADD CONSTRAINT order_of FOREIGN KEY (user_id) REFERENCES users (id)", 1_500_000,
		func(w *words, line []byte, i int) []byte {
			line = w.number(line, i)
			line = w.number(append(line, '\t'), 1+w.IntN(w.users))
			line = append(append(append(line, '\t'), w.oneOf("new", "paid", "paid", "sent", "sent", "sent", "back")...), '\t')
			line = append(w.number(line, w.IntN(900)), '.')
			line = w.number(line, 10+w.IntN(90))
			line = append(append(line, "\tEUR\t"...), w.time(i, 1_500_000)...)
			line = append(w.number(append(line, '.'), 100+w.IntN(900)), '\t')
			if w.IntN(4) == 0 {
				line = append(line, `\N`...)
			} else {
				line = append(line, w.time(i, 1_500_000)...)
			}
			line = append(append(append(line, '\t'), w.word()...), " street "...)
			line = append(w.number(line, 1+w.IntN(200)), ", "...)
			line = append(w.number(line, 10000+w.IntN(80000)), ' ')
			return append(append(append(line, w.word()...), " upon "...), w.word()...)
		},
	},
	{
		"order_items", `CREATE TABLE order_items (id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT, order_id BIGINT UNSIGNED NOT NULL, product_id INT UNSIGNED NOT NULL,
			sku VARCHAR(24) NOT NULL, quantity SMALLINT NOT NULL, price DECIMAL(10,2) NOT NULL, discount FLOAT NOT NULL)`,
		"ADD KEY (order_id), ADD KEY (product_id), ADD CONSTRAINT item_of FOREIGN KEY (order_id) REFERENCES orders (id)", 4_000_000,
		func(w *words, line []byte, i int) []byte {
			product := 1 + w.IntN(20000)
			line = append(w.number(line, i), '\t')
			line = append(w.number(line, 1+i*3/8), '\t')
			line = append(w.number(line, product), "\tSKU-"...)
			line = append(w.number(line, 100000+product*37%900000), '-')
			line = append(w.letters(line, 4), '\t')
			line = append(w.number(line, 1+w.IntN(5)), '\t')
			line = append(w.number(line, product%300), '.')
			line = append(w.number(line, 10+product%90), "\t0."...)
			return w.number(line, w.IntN(4)*5)
		},
	},
	{
		"audit_log", `CREATE TABLE audit_log (id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT, at DATETIME(6) NOT NULL, actor INT UNSIGNED, action VARCHAR(40) NOT NULL, detail JSON NOT NULL)`,
		"ADD KEY (actor), ADD KEY (action, at)", 1_200_000,
		func(w *words, line []byte, i int) []byte {
			line = append(append(w.number(line, i), '\t'), w.time(i, 1_200_000)...)
			line = append(w.number(append(line, '.'), 100000+w.IntN(900000)), '\t')
			line = append(w.number(line, 1+w.IntN(w.users)), '\t')
			line = append(append(line, w.oneOf("order.created", "order.paid", "user.login", "cart.changed", "mail.sent")...), "\t{\"ip\": \"10."...)
			line = append(w.number(append(w.number(line, w.IntN(250)), '.'), w.IntN(250)), ".7.1\", \"request\": \""...)
			line = hex.AppendEncode(line, w.bytes(16))
			line = append(append(line, "\", \"path\": \"/shop/"...), w.word()...)
			line = append(append(append(append(line, '/'), w.word()...), "\", \"agent\": \"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/"...), w.oneOf("120", "121", "131")...)
			line = append(w.number(append(line, "\", \"took_ms\": "...), w.IntN(900)), ", \"changes\": [{\"field\": \""...)
			line = append(append(append(append(append(line, w.word()...), "\", \"from\": \""...), w.word()...), "\", \"to\": \""...), w.word()...)
			return append(line, "\"}]}"...)
		},
	},
	{
		"articles", `CREATE TABLE articles (id INT UNSIGNED PRIMARY KEY AUTO_INCREMENT, slug VARCHAR(190) NOT NULL, title VARCHAR(250) NOT NULL, body MEDIUMTEXT NOT NULL, changed_at DATETIME NOT NULL)`,
		"ADD UNIQUE KEY (slug)", 70_000,
		func(w *words, line []byte, i int) []byte {
			line = fmt.Appendf(line, "%d\t%s-%s-%d\t%s %s %s\t", i, w.word(), w.word(), i, w.word(), w.word(), w.word())
			for end := len(line) + 2000 + w.IntN(6500); len(line) < end; {
				line = append(line, w.word()...)
				switch w.IntN(14) {
				case 0:
					line = append(line, ". "...)
				case 1:
					line = append(line, ",\\n"...)
				default:
					line = append(line, ' ')
				}
			}
			return append(append(line, '\t'), w.time(i, 70_000)...)
		},
	},
	{
		"attachments", `CREATE TABLE attachments (id INT UNSIGNED PRIMARY KEY AUTO_INCREMENT, name VARCHAR(120) NOT NULL, mime VARCHAR(60) NOT NULL, content LONGBLOB NOT NULL)`,
		"ADD KEY (name)", 4_500,
		func(w *words, line []byte, i int) []byte {
			n := 10_000 + w.IntN(96_000)
			if i%2 == 0 {
				return escape(fmt.Appendf(line, "%d\t%s.jpg\timage/jpeg\t", i, w.word()), w.bytes(n))
			}
			line = fmt.Appendf(line, "%d\t%s.svg\timage/svg+xml\t", i, w.word())
			for end := len(line) + n; len(line) < end; {
				line = fmt.Appendf(line, `<path d="M%d %dL%d %d" class="%s"/>\n`, w.IntN(999), w.IntN(999), w.IntN(999), w.IntN(999), w.word())
			}
			return line
		},
	},
}

// escape appends a value as LOAD DATA reads it.
func escape(line, value []byte) []byte {
	for _, c := range value {
		switch c {
		case '\\', '\t', '\n':
			line = append(line, '\\')
		case 0:
			line, c = append(line, '\\'), '0'
		}
		line = append(line, c)
	}
	return line
}

// words is a source of chance and of words.
type words struct {
	*rand.Rand
	users int
	list  []string
	noise []byte
}

func newWords(seed uint64, users int) *words {
	w := &words{Rand: rand.New(rand.NewPCG(seed, 7)), users: max(users, 1)}
	common := rand.New(rand.NewPCG(1, 1)) // every table has the same words
	for range 3000 {
		word := make([]byte, 2+common.IntN(5)+common.IntN(6))
		for i := range word {
			word[i] = "eaionrtlsudcmphgbfvkwzyxjq"[min(common.IntN(26), common.IntN(26))]
		}
		w.list = append(w.list, string(word))
	}
	return w
}

// word is often one of few.
func (w *words) word() string {
	return w.list[min(w.IntN(len(w.list)), w.IntN(len(w.list)), w.IntN(len(w.list)))]
}

func (w *words) oneOf(all ...string) string { return all[w.IntN(len(all))] }

func (*words) number(line []byte, n int) []byte { return strconv.AppendInt(line, int64(n), 10) }

// time grows with the row's number, over two years.
func (w *words) time(i, of int) string {
	return time.Unix(1_700_000_000+int64(i)*63_000_000/int64(of)+int64(w.IntN(60)), 0).UTC().Format(time.DateTime)
}

func (w *words) letters(line []byte, n int) []byte {
	for range n {
		line = append(line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./"[w.IntN(64)])
	}
	return line
}

// bytes are n bytes without any order, valid until the next call.
func (w *words) bytes(n int) []byte {
	w.noise = w.noise[:0]
	for len(w.noise) < n {
		w.noise = binary.LittleEndian.AppendUint64(w.noise, w.Uint64())
	}
	return w.noise[:n]
}

// fill makes a schema with a shop of about that many bytes of text, and reads it once, so that the server has it in
// memory.
func fill(t testing.TB, s *testenv.MySQLServer, schema string, bytes int64) {
	t.Helper()
	db := s.DB(t)
	exec := func(statement string) {
		t.Helper()
		_, err := db.ExecContext(t.Context(), "SET sql_log_bin = 0, foreign_key_checks = 0; USE "+schema+"; "+statement)
		require.NoError(t, err, statement)
	}
	_, err := db.ExecContext(t.Context(), "CREATE SCHEMA "+schema)
	require.NoError(t, err)
	scaled := func(rows int) int { return max(1, int(float64(rows)*float64(bytes)/1.5e9)) }
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(2)
	for n, table := range shop {
		group.Go(func() error {
			w := newWords(uint64(n), scaled(shop[0].rows))
			if _, err := db.ExecContext(ctx, "USE "+schema+"; "+table.create); err != nil {
				return err
			}
			const piece = 500_000
			for from, rows := 1, scaled(table.rows); from <= rows; from += piece {
				err := load(ctx, s, schema, table.name, func(out io.Writer) error {
					return lines(out, from, min(rows, from+piece-1), func(line []byte, i int) []byte { return table.row(w, line, i) })
				})
				if err != nil {
					return fmt.Errorf("fill %s: %w", table.name, err)
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	for _, table := range shop {
		exec("ALTER TABLE " + table.name + " " + table.keys)
	}
	for _, table := range shop {
		exec("ANALYZE TABLE " + table.name + "; SELECT COUNT(*) FROM " + table.name)
	}
}

func lines(out io.Writer, from, to int, row func([]byte, int) []byte) error {
	var line []byte
	for i := from; i <= to; i++ {
		if line = append(row(line, i), '\n'); len(line) > 1<<20 || i == to {
			if _, err := out.Write(line); err != nil {
				return err
			}
			line = line[:0]
		}
	}
	return nil
}

// load loads what write writes into a table.
func load(ctx context.Context, s *testenv.MySQLServer, schema, table string, write func(io.Writer) error) error {
	db, err := open(s.Address, "sql_log_bin=0", "foreign_key_checks=0")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	from, to := io.Pipe()
	go func() { _ = to.CloseWithError(write(to)) }()
	name := fmt.Sprintf("%s.%d", table, time.Now().UnixNano())
	mysql.RegisterReaderHandler(name, func() io.Reader { return from })
	defer mysql.DeregisterReaderHandler(name)
	charset := "utf8mb4"
	if table == "attachments" { // the bytes of others are text
		charset = "binary"
	}
	_, err = db.ExecContext(ctx, fmt.Sprintf("LOAD DATA LOCAL INFILE 'Reader::%s' INTO TABLE %s.%s CHARACTER SET %s", name, schema, table, charset))
	_ = from.CloseWithError(err) // ends the writing, should the server have ended first
	return err
}
