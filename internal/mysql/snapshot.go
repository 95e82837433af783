package mysql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/remora-backup/remora/internal/remora"
)

const (
	// holderTimeout is after how many idle seconds the server closes a session that holds a lock others wait for: a
	// worker that froze must not freeze them (S17). A living one pings.
	holderTimeout = 10
	pingEvery     = 2 * time.Second

	// statementPatience is the age in seconds beyond which a running statement keeps us from taking the global read
	// lock, which would queue everybody behind it (S16), and beyond which one that waits for us has waited long enough;
	// lockPatience is how long we wait for such statements to end.
	statementPatience = 2
	lockPatience      = 30 * time.Second

	// migrationPatience is for how many seconds somebody's DDL may wait for our snapshot when nothing else keeps it out
	// (S18).
	migrationPatience = 10
)

// snapshot is a set of readers that all see the same moment of a server.
type snapshot struct {
	d *Database
	// control holds the backup lock, if anything does.
	control *session
	meter   *meter
	// all holds the global read lock where that is asked for; nil where not.
	all *tableLock
	// locked holds the tables that no transaction holds; nil where there are none.
	locked  *tableLock
	readers []*reader
	grants  grants
	// sealed tells that no definition can change while control lives, since is when that began.
	sealed   atomic.Bool
	since    time.Time
	position *position
	facts    map[string]string
	warnings []string
}

// begin opens a snapshot for a copy, at a moment in which that disturbs nobody, and keeps it until stop. The context that
// it returns is the copy's.
func (d *Database) begin(ctx context.Context, m *meter, who account, of []place, awaited bool) (s *snapshot, kept context.Context, stop func(), err error) {
	kept, end, err := m.watch(ctx, who)
	if err != nil {
		return nil, ctx, nil, err
	}
	if err = m.mayBegin(kept, awaited); err == nil {
		s, err = d.openSnapshot(kept, who, of)
	}
	if err != nil {
		end()
		return nil, kept, nil, err
	}
	s.meter = m
	m.urgent.Store(s.all != nil || s.locked != nil)
	kept, leave := guarded(kept, pingEvery, s.ping)
	return s, kept, func() {
		leave()
		s.close()
		end()
	}, nil
}

// openSnapshot takes the moment: with all sessions under a read lock held for milliseconds where rights and traffic
// allow, else with one session.
func (d *Database) openSnapshot(ctx context.Context, who account, of []place) (*snapshot, error) {
	control, err := d.connect(ctx, who, fmt.Sprintf("wait_timeout = %d", holderTimeout), "lock_wait_timeout = 5")
	if err != nil {
		return nil, err
	}
	s := &snapshot{d: d, control: control, facts: map[string]string{"server": control.server.String()}}
	if err := s.open(ctx, who, of); err != nil {
		s.close()
		return nil, d.problem(ctx, "take a snapshot", d.cfg.Address, err)
	}
	return s, nil
}

// keep lets the sessions go that so little would not keep busy.
func (s *snapshot) keep(ctx context.Context, found []census) error {
	tables := 0
	for _, c := range found {
		tables += len(c.tables)
	}
	_, bytes := estimates(found)
	s.meter.total.Store(bytes)
	n, why, err := s.d.sessions(ctx, s.control, s.d.cfg.Sessions, tables, bytes)
	if n > len(s.readers) {
		n, why = len(s.readers), "more could not begin at one moment"
	}
	closeReaders(s.readers[n:])
	s.readers = s.readers[:n]
	s.facts["consistency"], s.facts["sessions"] = fmt.Sprintf("%d sessions, one moment", n), fmt.Sprintf("%d: %s", n, why)
	if n == 1 {
		s.facts["consistency"] = "one session, one moment"
	}
	s.d.log.Info("sessions chosen", "sessions", n, "why", why)
	return err
}

// locks says of the locks on the whole server how long they were waited for and held.
func (s *snapshot) locks(waited, held time.Duration) {
	s.facts["read_lock"] = fmt.Sprintf("waited %s, held %s", waited.Round(time.Millisecond), held.Round(100*time.Microsecond))
	if max(waited, held) > time.Second {
		s.warnings = append(s.warnings, fmt.Sprintf("for the moment of the snapshot nobody could commit: %s", s.facts["read_lock"]))
	}
}

func (s *snapshot) open(ctx context.Context, who account, of []place) (err error) {
	if s.grants, err = readGrants(ctx, s.control); err != nil {
		return err
	}
	if s.d.cfg.LockAll && !ours(of[0].schema) {
		if err := s.lockAll(ctx, who); err != nil {
			return err
		}
	}
	together := !slices.ContainsFunc(s.control.server.sealing(), func(right string) bool { return !s.grants.everywhere(right) })
	if together {
		if together, err = s.seal(ctx); err != nil {
			return err
		}
	}
	if together {
		n, _, err := s.d.sessions(ctx, s.control, s.d.cfg.Sessions, math.MaxInt32, math.MaxInt64)
		if err != nil {
			return err
		}
		if err := s.dial(ctx, who, n); err != nil {
			return err
		}
		if together, err = s.startTogether(ctx, who, of); err != nil || together {
			return err
		}
	}
	if len(s.readers) == 0 {
		if err := s.dial(ctx, who, 1); err != nil {
			return err
		}
	}
	closeReaders(s.readers[1:])
	s.readers = s.readers[:1]
	if err := s.lockTables(ctx, who, of); err != nil {
		return err
	}
	return s.start(ctx)
}

// look takes the census of what the snapshot holds, and refuses what cannot be told or is not held. Rights that would make
// the work less weak are told.
func (s *snapshot) look(ctx context.Context, op string, of []place, needs []need) (found []census, weaker []string, err error) {
	if weaker, err = s.grants.checkRights(op, needs); err != nil {
		return nil, nil, err
	}
	if found, err = takeCensuses(ctx, s.control, of, nil); err != nil {
		return nil, nil, err
	}
	return found, weaker, cmp.Or(refusals(found, op), s.holdsAll(found))
}

// seal keeps definitions as they are for as long as control lives.
func (s *snapshot) seal(ctx context.Context) (bool, error) {
	err := s.control.all(ctx, s.control.server.dialect().seal...)
	if isCode(err, codeLockWait) {
		s.warnings = append(s.warnings, "the backup lock was not to be had because of a running migration")
		return false, s.unseal(ctx)
	}
	s.sealed.Store(err == nil)
	s.since = time.Now()
	return err == nil, err
}

// unseal lets definitions change again.
func (s *snapshot) unseal(ctx context.Context) error {
	s.sealed.Store(false)
	return s.control.exec(ctx, s.control.server.dialect().unseal)
}

func (s *snapshot) dial(ctx context.Context, who account, sessions int) (err error) {
	s.readers, err = s.d.openReaders(ctx, who, sessions, s.control, "wait_timeout = "+s.d.patience())
	return err
}

// start begins the transaction of every reader.
func (s *snapshot) start(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, r := range s.readers {
		group.Go(func() error {
			if err := r.exec(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"); err != nil {
				return err
			}
			return r.exec(ctx, "SAVEPOINT remora")
		})
	}
	return group.Wait()
}

// startTogether begins all transactions while nothing is committed. It answers false when that is not to be had without
// making others wait.
func (s *snapshot) startTogether(ctx context.Context, who account, of []place) (bool, error) {
	hold, free := "FLUSH TABLES WITH READ LOCK", func(ctx context.Context) error { return s.control.exec(ctx, "UNLOCK TABLES") }
	if s.control.server.mariadb() {
		// It waits for nothing but commits. What it began can only end as a whole, so definitions are sealed anew: one that
		// changes in between is the one that the snapshot reads by, or an error.
		hold, free = "BACKUP STAGE BLOCK_COMMIT", s.unseal
	} else if blockers, err := s.waitForStatements(ctx); err != nil || blockers != "" {
		if blockers != "" {
			s.warnings = append(s.warnings, "one session read everything, because the read lock would have made others wait for "+blockers)
		}
		return false, err
	}
	asked := time.Now()
	if err := s.control.exec(ctx, hold); err != nil {
		if isCode(err, codeLockWait) {
			s.warnings = append(s.warnings, "one session read everything, because the read lock was not to be had in 5 seconds")
			return false, nil
		}
		return false, err
	}
	taken := time.Now()
	err := s.lockTables(ctx, who, of)
	if err == nil {
		err = s.start(ctx)
	}
	if err == nil {
		err = s.readPosition(ctx)
	}
	err = errors.Join(err, free(context.WithoutCancel(ctx)))
	s.locks(taken.Sub(asked), time.Since(taken))
	if err == nil && !s.sealed.Load() && s.locked == nil { // it would go on to keep writers from tables that have been read
		_, err = s.seal(ctx)
	}
	return err == nil, err
}

// waitForStatements waits until no statement is so old that the read lock would queue everybody behind it, and names
// those that did not end.
func (s *snapshot) waitForStatements(ctx context.Context) (string, error) {
	for begun := time.Now(); ; {
		old, err := s.control.strings(ctx, `SELECT CONCAT('connection ', id, ' of ', user, ' (', time, ' s)') FROM `+s.control.server.processes+`
			WHERE command IN ('Query', 'Execute') AND user NOT IN ('system user', 'event_scheduler') AND time > ? AND id <> CONNECTION_ID()`, statementPatience)
		if err != nil || len(old) == 0 {
			return "", err
		}
		if time.Since(begun) > lockPatience {
			return listed(old), nil
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return "", err
		}
	}
}

// readPosition records where in the binary log the moment lies. Under the read lock it stands still.
func (s *snapshot) readPosition(ctx context.Context) error {
	if !s.grants.everywhere(s.control.server.dialect().logRight) {
		return nil
	}
	l, err := s.control.logStatus(ctx)
	if err != nil || l.File == "" {
		return err
	}
	s.position = &l.position
	s.facts["position"] = fmt.Sprintf("%s:%d", l.File, l.Offset)
	if len(l.GTID) < 200 {
		s.facts["gtid"] = l.GTID
	}
	return nil
}

// ping keeps the sessions that hold the snapshot. It fails when one is lost, or when somebody's DDL waits for us.
func (s *snapshot) ping(ctx context.Context) error {
	const op = "hold the snapshot"
	if err := cmp.Or(s.locked.ping(ctx), s.all.ping(ctx)); err != nil {
		return s.d.problem(ctx, op, s.d.cfg.Address, err)
	}
	if !s.grants.everywhere("PROCESS") || s.sealed.Load() && !s.control.server.mariadb() {
		err := s.control.exec(ctx, "DO 1")
		return s.d.problem(ctx, op, s.d.cfg.Address, err)
	}
	// MariaDB's seal keeps writes from tables without transactions, too, of whatever schema: they go before it.
	state, patience, whose := "Waiting for table metadata lock", migrationPatience, ""
	if s.sealed.Load() {
		state, patience, whose = "Waiting for backup lock", statementPatience, "AND info REGEXP '^[[:space:]]*(INSERT|REPLACE|UPDATE|DELETE|LOAD|CALL)'"
	}
	waiting, err := s.control.strings(ctx, `SELECT CONCAT('connection ', id, ' of ', user, ' (', time, ' s)') FROM `+s.control.server.processes+`
		WHERE state = ? AND time > ? `+whose, state, patience)
	switch {
	case err != nil || len(waiting) == 0:
	case s.sealed.Load():
		s.d.log.Warn("giving the backup lock up, since it keeps others from writing", "waiting", listed(waiting))
		err = s.unseal(ctx)
	default:
		return remora.Fail(remora.Busy, op, s.d.subject(), "the backup is tried again; grant "+strings.Join(s.control.server.sealing(), ", ")+" to keep migrations apart",
			"a migration waits for the backup: %s", listed(waiting))
	}
	return s.d.problem(ctx, op, s.d.cfg.Address, err)
}

func (s *snapshot) close() {
	closeReaders(s.readers)
	s.locked.close()
	s.all.close()
	s.control.close()
}

// tableLock keeps writers away from all tables, or from those that no transaction holds (MyISAM and the like): these from
// before the moment of the snapshot until they have been read. Everybody may still read them.
type tableLock struct {
	tables []string // qualified; none stands for all

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
	locker, err := s.d.connect(ctx, who, fmt.Sprintf("wait_timeout = %d", holderTimeout), "lock_wait_timeout = 5")
	if err != nil {
		return err
	}
	s.all = &tableLock{s: locker}
	blockers, err := s.waitForStatements(ctx)
	if blockers != "" { // S16: everybody would queue behind them
		return remora.Fail(remora.Busy, op, s.d.cfg.Address, "the backup is tried again; DB_BACKUP_SINGLE_TRANSACTION=true needs no such lock", "it would make everybody wait for %s", blockers)
	}
	s.all.since = time.Now()
	if err == nil {
		err = locker.exec(ctx, "FLUSH TABLES WITH READ LOCK")
	}
	return s.d.problem(ctx, op, s.d.cfg.Address, err)
}

// unlockAll gives it back, and says for how long nobody could write.
func (s *snapshot) unlockAll(ctx context.Context) error {
	if s.all == nil {
		return nil
	}
	s.warnings = append(s.warnings, fmt.Sprintf("nobody could write to the server for %s: DB_BACKUP_SINGLE_TRANSACTION is false", time.Since(s.all.since).Round(time.Millisecond)))
	if err := s.all.s.exec(ctx, "UNLOCK TABLES"); err != nil {
		return fmt.Errorf("the lock was lost: %w", err)
	}
	return nil
}
