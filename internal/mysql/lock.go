package mysql

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
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

// hold opens the one session that may act on the schema of this source: it holds the server's lock, and whoever of our
// installation held it before has been killed (S3). Release it with release.
func (d *Database) hold(ctx context.Context) (*session, error) {
	const op = "take the lock of the schema"
	s, err := d.connect(ctx, d.write, forever, "lock_wait_timeout = 5", "innodb_lock_wait_timeout = 5", "foreign_key_checks = 0")
	if err != nil {
		return nil, err
	}
	if err := d.take(ctx, s, lockName(s.server.UUID, d.schema)); err != nil {
		s.close()
		return nil, d.problem(ctx, op, "schema "+d.schema, err)
	}
	return s, nil
}

func (d *Database) take(ctx context.Context, s *session, name string) error {
	for deadline := time.Now().Add(takeOver); ; {
		var got sql.NullInt64
		if err := s.row(ctx, "SELECT GET_LOCK(?, 1)", name).Scan(&got); err != nil {
			return err
		}
		if got.Int64 == 1 {
			return d.recordHolder(ctx, s, name)
		}
		who, connection, err := holderOf(ctx, s, name)
		if err != nil {
			return err
		}
		if who == d.cfg.Installation {
			d.log.Warn("killing the session that held the lock", "schema", d.schema, "connection", connection)
			if err := kill(ctx, s, connection); err != nil {
				return err
			}
		}
		if time.Now().After(deadline) {
			if who == "" {
				who = "somebody unknown"
			}
			return fail(remora.Busy, "take the lock of the schema", "schema "+d.schema, "only one installation may act on a schema at a time: wait for the other, or stop it",
				"connection %d of installation %s holds it", connection, who)
		}
	}
}

// holderOf tells which installation's session holds a lock; "" when nobody has said so, or nobody holds it any more.
func holderOf(ctx context.Context, s *session, name string) (installation string, connection int64, err error) {
	var used sql.NullInt64
	if err := s.row(ctx, "SELECT IS_USED_LOCK(?)", name).Scan(&used); err != nil || !used.Valid {
		return "", 0, err
	}
	err = s.row(ctx, "SELECT installation FROM "+holderTable+" WHERE lock_name = ? AND connection = ?", name, used.Int64).Scan(&installation)
	if errors.Is(err, sql.ErrNoRows) || noJournal(err) {
		err = nil
	}
	return installation, used.Int64, err
}

// recordHolder says who we are. Without a journal there is nobody to say it to yet; begin says it then.
func (d *Database) recordHolder(ctx context.Context, s *session, name string) error {
	err := s.exec(ctx, "REPLACE INTO "+holderTable+" VALUES (?, ?, ?, ?, UTC_TIMESTAMP(6))", name, s.id, d.cfg.Installation, d.cfg.Source)
	if noJournal(err) {
		return nil
	}
	return err
}

// release gives the lock back and closes the session.
func release(ctx context.Context, s *session) {
	_ = within(ctx, connectTimeout, func(ctx context.Context) error { return s.exec(ctx, "DO RELEASE_ALL_LOCKS()") })
	s.close()
}

// withJournal creates the journal if need be and runs work while nobody can drop it.
func (d *Database) withJournal(ctx context.Context, s *session, work func() error) (err error) {
	name := lockName(s.server.UUID, "journal")
	var got sql.NullInt64
	if err := s.row(ctx, "SELECT GET_LOCK(?, 30)", name).Scan(&got); err != nil {
		return err
	}
	if got.Int64 != 1 {
		return fail(remora.Busy, "open the journal", d.cfg.Address, "", "another restore on this server held it for 30 seconds")
	}
	defer func() { err = errors.Join(err, s.exec(context.WithoutCancel(ctx), "DO RELEASE_LOCK(?)", name)) }()
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
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
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
			return fail(remora.Busy, "end an earlier attempt", "run "+e.Run, "the server is rolling back what it had loaded: try again", "%d of its sessions are still there", alive)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
