package mysql

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

const (
	// takeOver is how long a successor tries to get the lock from whoever has it.
	takeOver = 10 * time.Second
	// rollbackPatience is how long we wait for a killed session to be gone: it may have megabytes to roll back.
	rollbackPatience = 30 * time.Second
	forever          = "wait_timeout = 2147483"
)

// lockName names a lock of the server. It is a digest because the server allows 64 characters.
func lockName(parts ...any) string {
	sum := sha256.Sum256(fmt.Appendln(nil, parts...))
	return "remora:" + hex.EncodeToString(sum[:16])
}

// holding runs work on the one session that may act, and says of its errors what was being done.
func (d *Database) holding(ctx context.Context, op string, work func(*session) error) error {
	s, err := d.hold(ctx)
	if err != nil {
		return err
	}
	defer release(ctx, s)
	return d.problem(ctx, op, d.subject(), work(s))
}

// hold opens the one session that may act on the schemas of this source: it holds the server's lock of each, and whoever of our
// installation held it before has been killed (S3). Release it with release.
func (d *Database) hold(ctx context.Context) (*session, error) {
	const op = "take the lock of the schema"
	s, err := d.connect(ctx, d.write, forever, "lock_wait_timeout = 5", "innodb_lock_wait_timeout = 5")
	if err != nil {
		return nil, err
	}
	if err := s.loose(ctx); err != nil {
		s.close()
		return nil, d.problem(ctx, op, d.subject(), err)
	}
	for _, schema := range slices.Sorted(slices.Values(d.cfg.Schemas)) { // in one order, so that no two wait for each other
		if err := d.take(ctx, s, schema); err != nil {
			s.close()
			return nil, d.problem(ctx, op, "schema "+schema, err)
		}
	}
	return s, nil
}

// take takes the lock, and with it one that bears the name of our installation: by that a successor of ours knows whom
// it may kill. Both are taken by one statement, so that no freeze comes between them, and both end with the session.
func (d *Database) take(ctx context.Context, s *session, schema string) error {
	lock, own := lockName(s.server.UUID, schema), lockName(s.server.UUID, schema, d.cfg.Installation)
	for deadline := time.Now().Add(takeOver); ; {
		var got, holder, ours sql.NullInt64
		if err := s.row(ctx, "SELECT IF(GET_LOCK(?, 1), GET_LOCK(?, 1), 0)", lock, own).Scan(&got); err != nil || got.Int64 == 1 {
			return err
		}
		if err := s.row(ctx, "SELECT IS_USED_LOCK(?), IS_USED_LOCK(?)", lock, own).Scan(&holder, &ours); err != nil {
			return err
		}
		if holder.Valid && holder == ours {
			d.log.Warn("killing the session that held the lock", "schema", schema, "connection", holder.Int64)
			if err := kill(ctx, s, holder.Int64); err != nil {
				return err
			}
		}
		if time.Now().After(deadline) {
			return d.heldByAnother(ctx, s, schema, holder.Int64)
		}
	}
}

// heldByAnother says who has the lock: the journal tells, once that installation has begun a restore.
func (d *Database) heldByAnother(ctx context.Context, s *session, schema string, connection int64) error {
	all, err := d.touching(ctx, s, "WHERE installation <> ?", d.cfg.Installation)
	if err != nil {
		return err
	}
	who := "somebody unknown"
	if len(all) > 0 {
		who = "installation " + all[0].Installation
	}
	return remora.Fail(remora.Busy, "take the lock of the schema", "schema "+schema, "only one installation may act on a schema at a time: wait for the other, or stop it",
		"connection %d of %s holds it", connection, who)
}

// release gives the lock back and closes the session.
func release(ctx context.Context, s *session) {
	_ = within(ctx, connectTimeout, func(ctx context.Context) error { return s.exec(ctx, "DO RELEASE_ALL_LOCKS()") })
	s.close()
}

// alone runs work while nobody else on the server works with the same: with the journal, to create or drop it, or with a
// scratch schema. Others wait for that, so the server takes it away from a worker that froze meanwhile (S17).
func (d *Database) alone(ctx context.Context, s *session, what string, work func() error) (err error) {
	if err := s.exec(ctx, fmt.Sprintf("SET @patience = @@SESSION.wait_timeout, SESSION wait_timeout = %d", holderTimeout)); err != nil {
		return err
	}
	name := lockName(s.server.UUID, what)
	var got sql.NullInt64
	if err := s.row(ctx, "SELECT GET_LOCK(?, 30)", name).Scan(&got); err != nil {
		return err
	}
	if got.Int64 != 1 {
		return remora.Fail(remora.Busy, "open the "+what, d.cfg.Address, "", "another restore on this server held it for 30 seconds")
	}
	defer func() {
		again := context.WithoutCancel(ctx)
		err = errors.Join(err, s.exec(again, "DO RELEASE_LOCK(?)", name), s.exec(again, "SET SESSION wait_timeout = @patience"))
	}()
	return work()
}

// kill ends a connection; one that is gone already is fine.
func kill(ctx context.Context, s *session, connection int64) error {
	const unknownThread = 1094
	err := s.exec(ctx, fmt.Sprintf("KILL %d", connection))
	if isCode(err, unknownThread) {
		return nil
	}
	return err
}

// loadLock is the lock that a loading session holds all its life. It is how a successor finds the session, whatever its
// connection id is called by then, and how it knows that the session is gone: the server frees the lock after it has
// rolled back (S2).
func loadLock(e *entry, attempt, number int) string {
	return lockName(e.ServerUUID, e.Run, attempt, number)
}

// endLoaders kills the loading sessions of all attempts of a run and proves them gone (S2).
func (d *Database) endLoaders(ctx context.Context, s *session, e *entry) error {
	for deadline := time.Now().Add(rollbackPatience); ; {
		alive := 0
		for attempt := 1; attempt <= e.Attempt; attempt++ {
			for number := range e.Detail.Sessions {
				var used sql.NullInt64
				if err := s.row(ctx, "SELECT IS_USED_LOCK(?)", loadLock(e, attempt, number)).Scan(&used); err != nil {
					return err
				}
				if !used.Valid {
					continue
				}
				alive++
				if err := kill(ctx, s, used.Int64); err != nil {
					return err
				}
			}
		}
		if alive == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return remora.Fail(remora.Busy, "end an earlier attempt", "run "+e.Run, "the server is rolling back what it had loaded: try again", "%d of its sessions are still there", alive)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, wait time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}

// users names the sessions that hold or wait for locks on the tables of a schema, and are at least that many seconds old.
func (s *session) users(ctx context.Context, schema string, seconds int) ([]string, error) {
	if s.server.mariadb() {
		return s.usersByTrial(ctx, schema, seconds)
	}
	return s.strings(ctx, `SELECT DISTINCT CONCAT('connection ', t.processlist_id, ' of ', COALESCE(t.processlist_user, '?'), COALESCE(CONCAT('@', t.processlist_host), ''), ' (', GREATEST(t.processlist_time, COALESCE(TIMESTAMPDIFF(SECOND, x.trx_started, NOW()), 0)), ' s)')
		FROM performance_schema.metadata_locks l
		JOIN performance_schema.threads t ON t.thread_id = l.owner_thread_id
		LEFT JOIN information_schema.innodb_trx x ON x.trx_mysql_thread_id = t.processlist_id
		WHERE l.object_type = 'TABLE' AND l.object_schema = ? AND t.processlist_id <> CONNECTION_ID()
			AND GREATEST(t.processlist_time, COALESCE(TIMESTAMPDIFF(SECOND, x.trx_started, NOW()), 0)) >= ?
		LIMIT 100`, schema, seconds)
}

// usersByTrial is for MariaDB, which as it is shipped does not tell who holds which lock. It tells whether anybody does,
// by refusing us one; who has been busy for so long is then who may be in the way.
func (s *session) usersByTrial(ctx context.Context, schema string, seconds int) ([]string, error) {
	tables, err := s.strings(ctx, "SELECT table_name FROM information_schema.tables WHERE table_schema = ? AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')", schema)
	if err != nil || len(tables) == 0 {
		return nil, err
	}
	locks := mapped(tables, func(t string) string { return qualified(schema, t) + " WRITE" })
	err = s.exec(ctx, "LOCK TABLES "+strings.Join(locks, ", ")+" NOWAIT")
	if err == nil {
		return nil, s.exec(ctx, "UNLOCK TABLES")
	}
	if !isCode(err, codeLockWait) {
		return nil, err
	}
	busy, err := s.strings(ctx, `SELECT CONCAT('connection ', id, ' of ', user, '@', host, ' (', age, ' s)') FROM (
			SELECT p.id, p.user, p.host, GREATEST(p.time, COALESCE(TIMESTAMPDIFF(SECOND, x.trx_started, NOW()), 0)) AS age
			FROM information_schema.processlist p LEFT JOIN information_schema.innodb_trx x ON x.trx_mysql_thread_id = p.id
			WHERE p.id <> CONNECTION_ID() AND (x.trx_id IS NOT NULL OR p.command IN ('Query', 'Execute'))) AS busy
		WHERE age >= ? ORDER BY id LIMIT 100`, seconds)
	if err == nil && len(busy) == 0 && seconds == 0 {
		busy = []string{"a connection that the server does not name"}
	}
	return busy, err
}
