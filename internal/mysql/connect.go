package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	sqldriver "github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"

	"github.com/remora-backup/remora/internal/remora"
)

// account is a user and the way to its password.
type account struct {
	user     string
	password remora.SecretFunc
}

// secret reads the password: for each connection again, since it may have been rotated (S21).
func (a account) secret() (remora.Secret, error) {
	secret, err := a.password()
	if err != nil {
		return "", remora.Fail(remora.Denied, "read the database password", "user "+a.user, "check password_file in the configuration", "%w", err)
	}
	return secret, nil
}

// session is one connection that is never replaced behind our back: once it breaks, every statement on it fails (S3).
type session struct {
	db     *sql.DB
	conn   *sql.Conn
	mu     sync.Mutex // of conn: who looks after a session does so while it reads
	server server
	// encrypted tells whether this session is, so that the row readers beside it are too.
	encrypted bool
}

const connectTimeout = 10 * time.Second

// connect opens a session. settings are further assignments for SET SESSION.
func (d *Database) connect(ctx context.Context, who account, settings ...string) (*session, error) {
	const op = "connect to the database"
	cfg, err := d.driverConfig(who)
	if err != nil {
		return nil, err
	}
	connector, err := sqldriver.NewConnector(cfg)
	if err != nil {
		return nil, remora.Fail(remora.Invalid, op, d.cfg.Address, "set address to host:port", "%w", err)
	}
	s := &session{db: sql.OpenDB(connector)}
	s.db.SetMaxOpenConns(1)
	if s.conn, err = s.db.Conn(ctx); err != nil {
		_ = s.db.Close()
		return nil, d.problem(ctx, op, who.user+" at "+d.cfg.Address, unreachable(err))
	}
	if err := s.prepare(ctx, settings); err != nil {
		s.close()
		return nil, d.problem(ctx, op, who.user+" at "+d.cfg.Address, err)
	}
	return s, nil
}

// with runs work on a session of its own, and says of its errors what was being done.
func (d *Database) with(ctx context.Context, who account, op, subject string, work func(*session) error) error {
	s, err := d.connect(ctx, who)
	if err != nil {
		return err
	}
	defer s.close()
	return d.problem(ctx, op, subject, work(s))
}

// patience is how long, in seconds, a server may wait for us before it gives up a copy: longer than we do (S22), and
// longer than we pause.
func (d *Database) patience() string {
	return strconv.Itoa(int((max(d.cfg.Stall, d.pauseLimit) + time.Minute).Seconds()))
}

// unreachable keeps a failed dial recognisable as such: the driver's text alone would do for people, not for kinds.
func unreachable(err error) error {
	if codeOf(err) == 0 && !lost(err) {
		return fmt.Errorf("%w: %w", sqldriver.ErrInvalidConn, err)
	}
	return err
}

func (d *Database) driverConfig(who account) (*sqldriver.Config, error) {
	secret, err := who.secret()
	if err != nil {
		return nil, err
	}
	cfg := sqldriver.NewConfig()
	cfg.User, cfg.Passwd = who.user, secret.Reveal()
	cfg.Net, cfg.Addr = d.network(), d.cfg.Address
	cfg.Timeout, cfg.DialFunc = connectTimeout, d.dialer().DialContext
	cfg.InterpolateParams = true
	cfg.ParseTime = true     // in UTC, as every session is
	cfg.MaxAllowedPacket = 0 // ask the server, so that a long definition comes whole
	cfg.Logger = &sqldriver.NopLogger{}
	cfg.ConnectionAttributes = "program_name:remora"
	if !d.local() {
		cfg.TLSConfig = "preferred"
	}
	return cfg, nil
}

// dialer makes connections that break when the other end has been silent for as long as a copy may stand still: not even its
// kernel answers. Else one that was lost on the way, in a firewall or with a machine, is waited for until the step is over.
func (d *Database) dialer() *net.Dialer {
	ask := min(15*time.Second, d.cfg.Stall/2)
	return &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: ask, Interval: ask}, Control: func(network, _ string, c syscall.RawConn) (err error) {
		if network == "unix" {
			return nil
		}
		return errors.Join(c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.cfg.Stall.Milliseconds()))
		}), err)
	}}
}

func (d *Database) network() string {
	if strings.HasPrefix(d.cfg.Address, "/") {
		return "unix"
	}
	return "tcp"
}

// local tells whether the way to the server leaves this machine: only then is it worth encrypting.
func (d *Database) local() bool {
	host, _, err := net.SplitHostPort(d.cfg.Address)
	if d.network() == "unix" || err != nil || host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// prepare finds out what server this is, refuses what this component does not know, and pins the session.
func (s *session) prepare(ctx context.Context, settings []string) error {
	if err := s.recognise(ctx); err != nil {
		return err
	}
	var cipher string
	if err := s.row(ctx, "SHOW SESSION STATUS LIKE 'Ssl_cipher'").Scan(new(string), &cipher); err != nil {
		return err
	}
	s.encrypted = cipher != ""
	// Roles that are granted but not active would hide what the account may see.
	return s.all(ctx, append([]string{s.server.role, s.server.pinned()}, assignments(settings)...)...)
}

func assignments(settings []string) []string {
	if len(settings) == 0 {
		return nil
	}
	return []string{"SET SESSION " + strings.Join(settings, ", ")}
}

func (s *session) close() {
	if s.conn != nil {
		_ = s.conn.Close()
	}
	_ = s.db.Close()
}

func (s *session) exec(ctx context.Context, query string, args ...any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.conn.ExecContext(ctx, query, args...)
	return err
}

// all executes statements, up to the first that fails.
func (s *session) all(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		if err := s.exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// row is a query of one row, which Scan runs.
func (s *session) row(ctx context.Context, query string, args ...any) oneRow {
	return func(into ...any) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.conn.QueryRowContext(ctx, query, args...).Scan(into...)
	}
}

type oneRow func(into ...any) error

// Scan asks, and reads the answer.
func (r oneRow) Scan(into ...any) error { return r(into...) }

// each runs scan for every row of a query.
func (s *session) each(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows, err := s.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// strings reads a query of one text column.
func (s *session) strings(ctx context.Context, query string, args ...any) (all []string, err error) {
	err = s.each(ctx, func(rows *sql.Rows) error {
		var one string
		err := rows.Scan(&one)
		all = append(all, one)
		return err
	}, query, args...)
	return all, err
}

// records reads a query whose columns differ from server to server, by their names in small letters. NULL is "".
func (s *session) records(ctx context.Context, query string) (all []map[string]string, err error) {
	err = s.each(ctx, func(rows *sql.Rows) error {
		names, err := rows.Columns()
		if err != nil {
			return err
		}
		values, into := make([]sql.NullString, len(names)), make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		err = rows.Scan(into...)
		one := map[string]string{}
		for i, name := range names {
			one[strings.ToLower(name)] = values[i].String
		}
		all = append(all, one)
		return err
	}, query)
	return all, err
}

// warned tells whether the last statement was warned about with this code and name, however either is quoted.
func (s *session) warned(ctx context.Context, code int, name string) (bool, error) {
	bare := strings.NewReplacer("`", "", "'", "", `"`, "").Replace
	all, err := s.records(ctx, "SHOW WARNINGS")
	return slices.ContainsFunc(all, func(r map[string]string) bool {
		return r["code"] == strconv.Itoa(code) && strings.Contains(bare(r["message"]), bare(name))
	}), err
}

// asWritten has the session answer in the character sets in which things were written.
func (s *session) asWritten(ctx context.Context, work func() error) error {
	if err := s.exec(ctx, "SET SESSION character_set_results = NULL"); err != nil {
		return err
	}
	err := work()
	return errors.Join(err, s.exec(context.WithoutCancel(ctx), "SET SESSION character_set_results = utf8mb4"))
}

// variables reads global variables that may not exist on this server; missing ones are "".
func (s *session) variables(ctx context.Context, names ...string) (map[string]string, error) {
	values := make(map[string]string, len(names))
	all, err := s.records(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ("+strings.Join(mapped(names, text), ", ")+")")
	for _, r := range all {
		values[r["variable_name"]] = r["value"]
	}
	return values, err
}

// status is a number that the server counts.
func (s *session) status(ctx context.Context, name string) (n int64, err error) {
	err = s.row(ctx, "SHOW GLOBAL STATUS WHERE Variable_name = ?", name).Scan(new(string), &n)
	return n, err
}

// dial opens a connection for a row reader.
func (d *Database) dial(ctx context.Context, who account, encrypted bool) (*client.Conn, error) {
	secret, err := who.secret()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	stop := func() bool { return false }
	dialer := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.dialer().DialContext(ctx, network, address)
		if err == nil { // the handshake knows no context: it ends when its connection does
			stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
		}
		return conn, err
	}
	conn, err := client.ConnectWithDialer(ctx, d.network(), d.cfg.Address, who.user, secret.Reveal(), "", dialer, func(c *client.Conn) error {
		if encrypted && d.network() == "tcp" {
			c.UseSSL(true)
		}
		return nil
	})
	stop()
	if err != nil {
		return nil, d.problem(ctx, "connect to the database", who.user+" at "+d.cfg.Address, unreachable(err))
	}
	return conn, nil
}
