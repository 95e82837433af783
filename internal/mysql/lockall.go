package mysql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// LockAll is the database for those who trust no transaction: while the live data is captured, the global read lock is
// held, and nobody writes to any schema of the server. It is what DB_BACKUP_SINGLE_TRANSACTION=false asks for, and of
// use where tables are not InnoDB and must agree with each other.
func LockAll(d *Database) *Locked { return &Locked{d} }

// Locked is a Database that is captured under the global read lock.
type Locked struct{ *Database }

var (
	_ remora.Component = (*Locked)(nil)
	_ remora.Checker   = (*Locked)(nil)
)

// Capture holds the lock for as long as the capture takes.
func (l *Locked) Capture(ctx context.Context, job remora.Job, of remora.Subject, to remora.PartWriter) (sum remora.Summary, err error) {
	if of.PutAway != "" { // nobody writes there
		return l.Database.Capture(ctx, job, of, to)
	}
	const op = "hold the read lock"
	d := l.Database
	s, err := d.connect(ctx, d.read, fmt.Sprintf("wait_timeout = %d", holderTimeout), "lock_wait_timeout = 5")
	if err != nil {
		return sum, err
	}
	defer s.close()
	if blockers, err := (&snapshot{d: d, control: s}).waitForStatements(ctx); err != nil {
		return sum, d.problem(ctx, op, d.cfg.Address, err)
	} else if blockers != "" { // S16: everybody would queue behind them
		return sum, remora.Fail(remora.Busy, op, d.cfg.Address, "the backup is tried again; DB_BACKUP_SINGLE_TRANSACTION=true needs no such lock", "it would make everybody wait for %s", blockers)
	}
	if err := s.exec(ctx, "FLUSH TABLES WITH READ LOCK"); err != nil {
		return sum, d.problem(ctx, op, d.cfg.Address, err)
	}
	began := time.Now()
	kept, stop := guarded(ctx, pingEvery, func(ctx context.Context) error {
		return d.problem(ctx, op, d.cfg.Address, s.exec(ctx, "DO 1"))
	})
	sum, err = d.Capture(kept, job, of, to)
	lost := s.exec(context.WithoutCancel(ctx), "UNLOCK TABLES")
	stop()
	if err == nil && lost != nil {
		err = d.problem(ctx, op, d.cfg.Address, errors.Join(errors.New("the lock was lost"), lost))
	}
	sum.Warnings = append(sum.Warnings, fmt.Sprintf("nobody could write to the server for %s: DB_BACKUP_SINGLE_TRANSACTION is false", time.Since(began).Round(time.Millisecond)))
	return sum, err
}
