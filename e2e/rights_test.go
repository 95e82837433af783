package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// TestTheRightsThatInitAsksForSuffice for all that is done with some tables, which have foreign keys from and to others: a
// preview, a restore and both its ways, and, once its plan has asked for rights on the new schema, a copy.
func TestTheRightsThatInitAsksForSuffice(t *testing.T) {
	at := small
	at.user = "e2e_rights"
	s := newSite(t, at)
	to := s.schema + "_copy"
	t.Cleanup(func() {
		s.exec("DROP DATABASE IF EXISTS `"+to+"`", "SET GLOBAL log_bin_trust_function_creators = OFF", "RESET PERSIST")
	})
	s.exec("CREATE TABLE notes (id INT PRIMARY KEY, order_id BIGINT UNSIGNED, CONSTRAINT note_of FOREIGN KEY (order_id) REFERENCES orders (id))")
	before := s.read()
	require.NotContains(t, s.must("backup", s.source()), "lacks")
	s.exec("DELETE FROM orders WHERE id > 900", "UPDATE orders SET note = 'changed' WHERE id = 7")
	damaged := s.read()

	preview := []string{"restore", "latest", "--source", s.source(), "--table", "orders", "--preview"}
	s.grant(s.must(preview...)) // the trigger was defined by somebody who may do anything: a plan asks for SYSTEM_USER
	out := s.must(preview...)
	require.Regexp(t, `orders\s+900\s+1,000\s+100\s+0\s+1\s`, out)
	require.NotContains(t, out, "would be refused")
	s.requireEqual(damaged, s.read(), "after the preview")

	out = s.must("restore", "latest", "--source", s.source(), "--table", "orders", "--force")
	require.Contains(t, out, "order_user of "+s.schema+".orders to "+s.schema+".users")
	require.Contains(t, out, "note_of of "+s.schema+".notes to "+s.schema+".orders")
	s.requireEqual(before, s.read(), "restored")
	s.must("rollback", s.source())
	s.requireEqual(damaged, s.read(), "rolled back")
	s.must("rollback", s.source())
	s.must("accept", s.source())
	s.requireEqual(before, s.read(), "restored again, and for good")

	copying := []string{"restore", "latest", "--source", s.source(), "--table", "orders", "--to", to}
	out, code := s.remora(copying...)
	require.NotZero(t, code, out)
	s.grant(out)
	s.must(copying...)
	var rows int
	require.NoError(t, s.db().QueryRow("SELECT COUNT(*) FROM `"+to+"`.orders").Scan(&rows))
	require.Equal(t, small.orders, rows)
	require.Equal(t, remora.OutcomeCopied, list[remora.Restore](s, "restores", s.source())[0].Outcome)
	s.requireNothingLeft()
}
