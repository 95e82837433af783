package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// tableLock keeps writers away from tables that no transaction holds (MyISAM and the like), from before the moment of
// the snapshot until they have been read. Everybody may still read them.
type tableLock struct {
	tables []string // qualified

	mu      sync.Mutex
	s       *session // nil when the lock has been given back
	since   time.Time
	waiting int // tables that are not read yet
}

// lockTables locks the tables of these schemas that the transactions of the readers will not hold.
func (s *snapshot) lockTables(ctx context.Context, who account, of []place) (err error) {
	var names []string
	for _, p := range of {
		found, err := s.control.strings(ctx, `SELECT table_name FROM information_schema.tables
			WHERE table_schema = ? AND table_type <> 'VIEW' AND engine <> 'InnoDB' ORDER BY table_name`, p.schema)
		if err != nil {
			return err
		}
		names = append(names, mapped(found, func(name string) string { return qualified(p.schema, name) })...)
	}
	if len(names) == 0 {
		return nil
	}
	// A worker that froze must not keep the writers out (S17).
	locker, err := s.d.connect(ctx, who, fmt.Sprintf("wait_timeout = %d", holderTimeout), "lock_wait_timeout = 5")
	if err != nil {
		return err
	}
	s.locked = &tableLock{tables: names, s: locker, since: time.Now(), waiting: len(names)}
	err = locker.exec(ctx, "LOCK TABLES "+strings.Join(names, " READ, ")+" READ")
	if isCode(err, codeLockWait) {
		return remora.Fail(remora.Busy, "take a snapshot", strings.Join(names, ", "), "try again when nobody writes for long, or convert them: ALTER TABLE … ENGINE=InnoDB",
			"these tables are not InnoDB and must be locked while they are read, but the lock was not to be had in 5 seconds")
	}
	return err
}

// holdsAll refuses when there are tables that nothing holds.
func (s *snapshot) holdsAll(found []census) error {
	for _, c := range found {
		for _, t := range c.tables {
			if t.Engine != "" && (s.locked == nil || !slices.Contains(s.locked.tables, qualified(c.schema, t.Name))) {
				return remora.Fail(remora.Busy, "take a snapshot", tableName(c.name, t.Name), "a migration ran at the same moment: try again when it is over", "it is not InnoDB, and was not locked")
			}
		}
	}
	return nil
}

// reads are the tasks that read a table: in one piece where no snapshot holds it, since writers wait for the end.
func (s *snapshot) reads(m *meter, t table, work []task) []task {
	if t.Engine == "" {
		return work
	}
	return []task{func(ctx context.Context, r *reader) error {
		defer s.done()
		return perform(ctx, m, []*reader{r}, work)
	}}
}

// done says that one of the locked tables has been read. After the last one, the lock is given back, and it is said how
// long it was held.
func (s *snapshot) done() {
	l := s.locked
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting--; l.waiting > 0 {
		return
	}
	l.s.close()
	l.s = nil
	s.meter.urgent.Store(s.all != nil)
	s.facts["locked_tables"] = fmt.Sprintf("%s: not InnoDB, so nobody could write to them for %s", strings.Join(l.tables, ", "), time.Since(l.since).Round(time.Millisecond))
}

// ping keeps the lock.
func (l *tableLock) ping(ctx context.Context) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.s == nil {
		return nil
	}
	return l.s.exec(ctx, "DO 1")
}

func (l *tableLock) close() {
	if l != nil && l.s != nil {
		l.s.close()
	}
}

// lockAll takes the global read lock for as long as the snapshot lives: nobody writes to any schema of the server. It is
// what DB_BACKUP_SINGLE_TRANSACTION=false asks for, and of use where tables are not InnoDB and must agree with each other.
func (s *snapshot) lockAll(ctx context.Context, who account) (err error) {
	const op = "hold the read lock"
	if s.all, err = s.d.connect(ctx, who, fmt.Sprintf("wait_timeout = %d", holderTimeout), "lock_wait_timeout = 5"); err != nil {
		return err
	}
	blockers, err := s.waitForStatements(ctx)
	if blockers != "" { // S16: everybody would queue behind them
		return remora.Fail(remora.Busy, op, s.d.cfg.Address, "the backup is tried again; DB_BACKUP_SINGLE_TRANSACTION=true needs no such lock", "it would make everybody wait for %s", blockers)
	}
	s.allSince = time.Now()
	if err == nil {
		err = s.all.exec(ctx, "FLUSH TABLES WITH READ LOCK")
	}
	return s.d.problem(ctx, op, s.d.cfg.Address, err)
}

// unlockAll gives it back, and says for how long nobody could write.
func (s *snapshot) unlockAll(ctx context.Context) error {
	if s.all == nil {
		return nil
	}
	s.warnings = append(s.warnings, fmt.Sprintf("nobody could write to the server for %s: DB_BACKUP_SINGLE_TRANSACTION is false", time.Since(s.allSince).Round(time.Millisecond)))
	if err := s.all.exec(ctx, "UNLOCK TABLES"); err != nil {
		return fmt.Errorf("the lock was lost: %w", err)
	}
	return nil
}
