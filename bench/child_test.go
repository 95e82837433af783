package bench

import (
	"bufio"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	protocol "github.com/go-mysql-org/go-mysql/mysql"
	sqldriver "github.com/go-sql-driver/mysql"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/remora-backup/remora/internal/mysql"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// childVariable names the file of the order of a process that was started to be measured.
const childVariable = "REMORA_BENCH_CHILD"

// order is what a child is told.
type order struct {
	Do         string
	Address    string
	Schema     string
	Sessions   int
	Repository string // its directory
	Run        string
	Backup     string   // of which to stage or to compare
	Statements []string // to replay, on Sessions connections: Before first, one after the other
	Before     []string
	After      []string // one after the other, once the others are done
	Files      string   // a directory of rows
}

// answer is what it says, beside what is measured from the outside.
type answer struct {
	Backup string
	Stage  string // its schema
	Added  int64  // bytes
	Bytes  int64  // of text
	Rows   int64
	Phases map[string]time.Duration
	CPU    time.Duration // of what is measured alone
}

func runChild(file string) error {
	var o order
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if err != nil {
		return err
	}
	if dir := os.Getenv("REMORA_BENCH_PROFILE"); dir != "" {
		file, err := os.Create(filepath.Join(dir, o.Do+".pprof"))
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	work := map[string]func(context.Context, order, *answer) error{
		"create": create, "backup": backup, "verify": verify, "stage": stage, "compare": compare, "discard": discard, "export": export, "preview": preview,
		"read": read, "load": loadBare, "squeeze": squeeze,
	}[o.Do]
	said := answer{Phases: map[string]time.Duration{}}
	if err := work(context.Background(), o, &said); err != nil {
		return fmt.Errorf("%s: %w", o.Do, err)
	}
	return json.NewEncoder(os.Stdout).Encode(said)
}

func (a *answer) phase(name string, since time.Time) { a.Phases[name] = time.Since(since) }

// --- our side: what the activities of a backup and of a restore do ---

func (o order) repository() repository.Config {
	return repository.Config{
		Path: o.Repository, State: o.Repository + ".state",
		Password: func() (remora.Secret, error) { return "bench", nil },
	}
}

func (o order) database() (*mysql.Database, error) {
	return mysql.New(mysql.Config{
		Source: "shop", Installation: "0123456789abcdef", Address: o.Address, User: "root", Schemas: []string{o.Schema}, Sessions: o.Sessions,
		Password: func() (remora.Secret, error) { return "", nil },
	})
}

func create(ctx context.Context, o order, _ *answer) error {
	return repository.Create(ctx, o.repository())
}

func backup(ctx context.Context, o order, said *answer) error {
	began := time.Now()
	d, err := o.database()
	if err != nil {
		return err
	}
	r, err := repository.Open(ctx, o.repository())
	if err != nil {
		return err
	}
	m := remora.Manifest{
		ID: remora.BackupID("shop", o.Run, "", began), Run: o.Run, Source: "shop", Purpose: remora.Regular, RequestedBy: "bench", Tool: "bench", Started: began,
	}
	p, err := r.Begin(ctx, repository.Spec{Source: "shop", Run: o.Run, Backup: m.ID, Kind: remora.Database})
	if err != nil {
		return err
	}
	said.phase("open", began)
	began = time.Now()
	sum, err := d.Capture(ctx, remora.Job{Run: o.Run}, remora.Subject{}, p)
	if err != nil {
		return err
	}
	said.phase("capture", began)
	began = time.Now()
	root, added, err := p.Finish(ctx)
	if err != nil {
		return err
	}
	said.phase("finish", began)
	began = time.Now()
	m.Parts = []remora.PartRef{{Kind: remora.Database, Root: root, Added: added, Summary: sum, Started: m.Started, Ended: time.Now()}}
	m.Kind = remora.BackupKindOf([]remora.Kind{remora.Database})
	if m, err = r.Commit(ctx, m); err != nil {
		return err
	}
	said.phase("commit", began)
	said.Backup, said.Added, said.Bytes, said.Rows = m.ID, added, sum.Bytes, sum.Entries
	return r.Close(ctx)
}

func verify(ctx context.Context, o order, _ *answer) error {
	r, err := repository.Open(ctx, o.repository())
	if err != nil {
		return err
	}
	_, err = r.Verify(ctx, o.Backup, nil)
	return errors.Join(err, r.Close(ctx))
}

// withPart works on the part of a backup.
func withPart(ctx context.Context, o order, work func(*mysql.Database, fs.FS) error) error {
	d, err := o.database()
	if err != nil {
		return err
	}
	r, err := repository.Open(ctx, o.repository())
	if err != nil {
		return err
	}
	part, err := r.Part(ctx, o.Backup, remora.Database)
	if err == nil {
		err = work(d, part)
	}
	return errors.Join(err, r.Close(ctx))
}

func stage(ctx context.Context, o order, said *answer) error {
	return withPart(ctx, o, func(d *mysql.Database, part fs.FS) error {
		sum, err := d.Stage(ctx, remora.Job{Run: o.Run}, part)
		said.Stage, said.Bytes = sum.Facts["stage"], sum.Bytes
		return err
	})
}

func compare(ctx context.Context, o order, _ *answer) error {
	return withPart(ctx, o, func(d *mysql.Database, part fs.FS) error {
		diff, err := d.Compare(ctx, remora.Job{Run: o.Run}, part)
		if err == nil && !diff.Equal() {
			err = fmt.Errorf("differences: %v", diff.Differences)
		}
		return err
	})
}

func preview(ctx context.Context, o order, said *answer) error {
	return withPart(ctx, o, func(d *mysql.Database, part fs.FS) error {
		differs, err := d.Preview(ctx, remora.Job{Run: o.Run}, part)
		if err == nil && len(differs.Tables) > 0 {
			err = fmt.Errorf("differences: %v", differs.Tables)
		}
		said.Bytes, said.Rows = differs.Compared.Bytes, differs.Compared.Entries
		return err
	})
}

func discard(ctx context.Context, o order, _ *answer) error {
	d, err := o.database()
	if err != nil {
		return err
	}
	return d.Discard(ctx, remora.Job{Run: o.Run}, "")
}

// export copies the files of a part into a directory.
func export(ctx context.Context, o order, _ *answer) error {
	return withPart(ctx, o, func(_ *mysql.Database, part fs.FS) error { return os.CopyFS(o.Files, part) })
}

// --- what the machine can do ---

// open connects as a driver does, with settings for every session.
func open(address string, settings ...string) (*sql.DB, error) {
	cfg := sqldriver.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.AllowAllFiles, cfg.MultiStatements = "root", "tcp", address, true, true
	cfg.MaxAllowedPacket = 0
	cfg.Params = map[string]string{}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		cfg.Params[name] = value
	}
	connector, err := sqldriver.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// each has sessions take items in turn.
func each[T any](sessions int, items []T, work func(session int, item T) error) error {
	var group errgroup.Group
	var next atomic.Int64
	for s := range sessions {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(items) {
					return nil
				}
				if err := work(s, items[i]); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// read sends SELECTs and throws away what comes, without looking at it.
func read(_ context.Context, o order, said *answer) error {
	var conns []*client.Conn
	for range o.Sessions {
		conn, err := client.Connect(o.Address, "root", "", "")
		if err != nil {
			return err
		}
		for _, statement := range o.Before {
			if _, err := conn.Execute(statement); err != nil {
				return err
			}
		}
		conns = append(conns, conn)
	}
	var total atomic.Int64
	err := each(o.Sessions, o.Statements, func(s int, query string) error {
		n, err := throwAway(conns[s], query)
		total.Add(n)
		return err
	})
	said.Bytes = total.Load()
	return err
}

func throwAway(conn *client.Conn, query string) (bytes int64, err error) {
	packet := []byte{0, 0, 0, 0, protocol.COM_QUERY}
	if strings.Contains(conn.CapabilityString(), "CLIENT_QUERY_ATTRIBUTES") {
		packet = append(packet, 0, 1)
	}
	conn.ResetSequence()
	if err := conn.WritePacket(append(packet, query...)); err != nil {
		return 0, err
	}
	in := bufio.NewReaderSize(conn.Conn.Conn, 256<<10)
	for ends := 0; ends < 2; { // after the columns, and after the rows
		head, err := in.Peek(5)
		if err != nil {
			return bytes, err
		}
		size := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
		switch {
		case head[4] == protocol.EOF_HEADER && size < 9:
			ends++
		case head[4] == protocol.ERR_HEADER && bytes == 0:
			text, _ := in.Peek(4 + size)
			return 0, fmt.Errorf("%q: %s", query, text)
		}
		bytes += int64(size)
		if _, err := in.Discard(4 + size); err != nil {
			return bytes, err
		}
	}
	return bytes, nil
}

// loadBare runs the statements of a stage without anything around them; the rows come from plain files.
func loadBare(ctx context.Context, o order, said *answer) error {
	db, err := open(o.Address, "foreign_key_checks=0", "sql_mode='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'")
	if err != nil {
		return err
	}
	exec := func(_ int, statement string) error {
		_, err := db.ExecContext(ctx, statement)
		return err
	}
	loads, alters := o.Statements, []string(nil)
	for i, s := range o.Statements {
		if strings.HasPrefix(s, "ALTER") {
			loads, alters = o.Statements[:i], o.Statements[i:]
			break
		}
	}
	began := time.Now()
	for _, step := range []struct {
		name       string
		sessions   int
		statements []string
	}{{"create", 1, o.Before}, {"rows", o.Sessions, loads}, {"keys", o.Sessions, alters}, {"foreign keys", 1, o.After}} {
		if err := each(step.sessions, step.statements, exec); err != nil {
			return err
		}
		said.phase(step.name, began)
		began = time.Now()
	}
	return nil
}

// squeeze compresses and encrypts files in blocks of 2 MiB, as the repository does, and throws the result away. What it
// took is counted without the reading of the files.
func squeeze(_ context.Context, o order, said *answer) error {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		return err
	}
	seal, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(o.Files, "*", "*.tsv"))
	if err != nil {
		return err
	}
	const batch = 32
	var blocks [][]byte
	var stored atomic.Int64
	encoders := sync.Pool{New: func() any {
		e, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		return e
	}}
	squeezeAll := func() error {
		began, before := time.Now(), spent()
		err := each(runtime.GOMAXPROCS(0), blocks, func(_ int, b []byte) error {
			e := encoders.Get().(*zstd.Encoder)
			defer encoders.Put(e)
			small := e.EncodeAll(b, make([]byte, 0, len(b)))
			if len(small) > len(b) {
				small = b
			}
			nonce := binary.LittleEndian.AppendUint64(make([]byte, 4, 12), uint64(stored.Add(int64(len(small)))))
			seal.Seal(small[:0], nonce, small, nil)
			return nil
		})
		said.CPU += spent() - before
		said.Phases["squeeze"] += time.Since(began)
		blocks = blocks[:0]
		return err
	}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		for {
			b := make([]byte, 2<<20)
			n, err := io.ReadFull(file, b)
			said.Bytes += int64(n)
			if blocks = append(blocks, b[:n]); len(blocks) == batch {
				if err := squeezeAll(); err != nil {
					return err
				}
			}
			if err != nil {
				break
			}
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	err = squeezeAll()
	said.Added = stored.Load()
	return err
}

// spent is the CPU that this process has used.
func spent() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
