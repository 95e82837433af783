package mysql

import (
	"context"
	"fmt"
	"slices"

	"github.com/remora-backup/remora/internal/remora"
)

// queues are the tables that frameworks keep work and visitors in: as of the backup, work that was done since would be
// done again.
var queues = []string{"jobs", "job_batches", "sessions"}

// comesEmpty tells whether a table is restored without its rows, as the configuration wants it.
func (d *Database) comesEmpty(schema, table string) bool {
	return slices.Contains(d.cfg.Empty, table) || slices.Contains(d.cfg.Empty, schema+"."+table)
}

// emptyStage empties, in what was staged and compared, the tables that are not to come back with rows (S24). Their next
// numbers stay.
func (sw *switcher) emptyStage(ctx context.Context) error {
	if sw.entry.Switched || sw.turn.Live != remora.Restored {
		return nil
	}
	for _, c := range sw.incoming {
		for _, t := range c.tables {
			if !sw.d.comesEmpty(c.name, t.Name) {
				continue
			}
			statements := []string{"TRUNCATE TABLE " + qualified(c.schema, t.Name)}
			if next := nextNumber(t.Definition); next != "" {
				statements = append(statements, "ALTER TABLE "+qualified(c.schema, t.Name)+" AUTO_INCREMENT = "+next)
			}
			if err := sw.s.all(ctx, statements...); err != nil {
				return err
			}
		}
	}
	return nil
}

// emptyWarnings says which tables come back empty, and which others hold work that would be done again.
func (d *Database) emptyWarnings(p part) (warnings []string) {
	for _, t := range p.tables() {
		switch {
		case d.comesEmpty(t.schema, t.Name):
			warnings = append(warnings, tableName(t.schema, t.Name)+" comes back empty, as configured")
		case t.Rows > 0 && slices.Contains(queues, t.Name):
			warnings = append(warnings, fmt.Sprintf("%s comes back with %d rows as of the backup: what was done with them since is done again; restore: {empty: [%s]} brings it back empty", tableName(t.schema, t.Name), t.Rows, t.Name))
		}
	}
	return warnings
}
