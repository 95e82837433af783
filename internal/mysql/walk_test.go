package mysql

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

const shop = `
	CREATE TABLE users (id INT UNSIGNED PRIMARY KEY AUTO_INCREMENT, name VARCHAR(40) NOT NULL, UNIQUE KEY (name));
	CREATE TABLE orders (id BIGINT PRIMARY KEY AUTO_INCREMENT, user INT UNSIGNED NOT NULL, total DECIMAL(10,2),
		KEY (user), CONSTRAINT of_user FOREIGN KEY (user) REFERENCES users (id));
	INSERT INTO users (name) VALUES ('ann'), ('bob'), ('o''neil');
	INSERT INTO orders (user, total) VALUES (1, 9.99), (2, 100), (1, NULL);`

// The whole walk: back up, destroy, restore, undo, redo, accept.
func TestARestoreCanBeAppliedUndoneAndRedone(t *testing.T) {
	testenv.EachServer(t, testARestoreCanBeAppliedUndoneAndRedone)
}

func testARestoreCanBeAppliedUndoneAndRedone(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	options := w.ask("SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = ?", w.schema)
	before := w.server.Dump(t, w.schema)
	part := w.capture()

	w.exec("ALTER TABLE users DROP KEY name, ADD COLUMN oops INT; DELETE FROM orders WHERE id = 1; CREATE TABLE added (id INT PRIMARY KEY)")
	damaged := w.server.Dump(t, w.schema)

	est, err := w.d.Preflight(t.Context(), remora.Job{Run: "r1"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.Len(t, est.Replaces, 3)
	named := func(table string) []string { return []string{tableName(w.schema, table)} }
	require.Equal(t, named("users"), est.Shape.Replaces, "the plan tells of definitions without reading a row")
	require.Equal(t, named("added"), est.Shape.Drops)
	require.Contains(t, est.Shape.Schema, "\n-`oops` int")
	w.staged("r1", part)
	require.Equal(t, damaged, w.server.Dump(t, w.schema), "staging touches nothing live")

	require.NoError(t, w.turn("r1", 1, remora.Restored))
	require.Equal(t, before, w.server.Dump(t, w.schema))
	require.NoError(t, w.turn("r1", 1, remora.Restored), "a turn is a level")
	require.Equal(t, before, w.server.Dump(t, w.schema))

	require.NoError(t, w.turn("r1", 2, remora.Replaced))
	require.Equal(t, damaged, w.server.Dump(t, w.schema))
	require.ErrorIs(t, w.turn("r1", 1, remora.Restored), remora.ErrStaleTurn)
	require.Equal(t, damaged, w.server.Dump(t, w.schema))

	require.NoError(t, w.turn("r1", 3, remora.Restored))
	require.Equal(t, before, w.server.Dump(t, w.schema))

	left, err := w.d.Leftovers(t.Context())
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Equal(t, remora.Restored, left[0].Live)
	require.True(t, left[0].Switched)

	// S10: the journal knows for how long, and nothing moves; not even what people have changed since is set right.
	w.exec("ALTER DATABASE COLLATE utf8mb4_bin; CREATE TABLE since (id INT PRIMARY KEY)")
	changed := w.server.Dump(t, w.schema)
	longer := remora.Turn{Run: "r1", Seq: 4, Live: remora.Restored, KeepUntil: time.Now().Add(99 * time.Hour).UTC().Truncate(time.Second), Stay: true}
	require.NoError(t, w.d.Switch(t.Context(), longer))
	left, err = w.d.Leftovers(t.Context())
	require.NoError(t, err)
	require.True(t, longer.KeepUntil.Equal(left[0].KeepUntil), "%s", left[0].KeepUntil)
	require.Equal(t, 4, left[0].Seq)
	longer.Seq, longer.Live = 5, remora.Replaced
	requireProblem(t, w.d.Switch(t.Context(), longer), remora.Fenced, "the replaced side is not live")
	require.ErrorIs(t, w.turn("r1", 3, remora.Restored), remora.ErrStaleTurn)
	require.Equal(t, changed, w.server.Dump(t, w.schema))
	require.Equal(t, "utf8mb4_bin", w.ask("SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = ?", w.schema))
	w.exec("DROP TABLE since; ALTER DATABASE COLLATE " + options)

	requireProblem(t, w.d.Discard(t.Context(), remora.Job{Run: "r1"}, ""), remora.Fenced, "no backup is named")
	aside, _ := w.captureOf(remora.Subject{PutAway: "r1"})
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r1"}, "shop-backup"))
	require.Equal(t, before, w.server.Dump(t, w.schema))
	require.Empty(t, w.leftovers())
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r1"}, "shop-backup"), "nothing is left to discard")

	// What was put away restores like any other backup.
	w.staged("r2", aside)
	require.NoError(t, w.turn("r2", 1, remora.Restored))
	require.Equal(t, damaged, w.server.Dump(t, w.schema))
}
