package mysql

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// bordered is a world with another schema beside it: keys lead out, in, in a circle, and to their own table. The indexes of
// some were made by the server itself, under a name that is not that of the key, and before other indexes.
func bordered(t *testing.T, on *testenv.MySQLServer) (w *world, crm string) {
	w = newWorld(t, on)
	crm = w.schema + "-c.r`m" // MariaDB lists foreign keys by names as files have them
	t.Cleanup(func() { _, _ = w.root.Exec("SET foreign_key_checks = 0; DROP DATABASE IF EXISTS " + quote(crm)) })
	w.exec(strings.NewReplacer("CRM", quote(crm), "SHOP", w.schema).Replace(`CREATE DATABASE CRM;
		CREATE TABLE CRM.accounts (id INT PRIMARY KEY, owner INT, note VARCHAR(20), KEY by_note (note));
		CREATE TABLE users (id INT PRIMARY KEY AUTO_INCREMENT, account INT, boss INT, name VARCHAR(20), FOREIGN KEY (account) REFERENCES CRM.accounts (id) ON DELETE CASCADE, FOREIGN KEY (boss) REFERENCES users (id), KEY by_name (name));
		CREATE TABLE CRM.regions (id INT PRIMARY KEY);
		CREATE TABLE orders (id INT PRIMARY KEY AUTO_INCREMENT, user INT, note VARCHAR(20), region INT, CONSTRAINT in_region FOREIGN KEY (region) REFERENCES CRM.regions (id), CONSTRAINT of_user FOREIGN KEY (user) REFERENCES users (id) ON DELETE CASCADE ON UPDATE CASCADE);
		CREATE TABLE items (id INT PRIMARY KEY, order_id INT, FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE SET NULL, KEY third (id, order_id));
		CREATE TABLE CRM.visits (id INT PRIMARY KEY, user INT, account INT, FOREIGN KEY (user) REFERENCES SHOP.users (id) ON DELETE SET NULL, FOREIGN KEY (account) REFERENCES CRM.accounts (id), KEY last (id, user));
		INSERT INTO CRM.accounts VALUES (1, NULL, 'one'), (2, NULL, 'two'); INSERT INTO users VALUES (1, 1, NULL, 'ann'), (2, 2, 1, 'bob'), (3, NULL, NULL, 'eve');
		ALTER TABLE CRM.accounts ADD CONSTRAINT owned FOREIGN KEY (owner) REFERENCES SHOP.users (id);
		INSERT INTO orders VALUES (1, 1, 'a', NULL), (2, 3, 'b', NULL); INSERT INTO items VALUES (1, 1), (2, 2); INSERT INTO CRM.visits VALUES (1, 3, 1)`))
	return w, crm
}

// both is all there is in both schemas.
func (w *world) both(crm string) string { return w.reading() + w.server.Dump(w.T, crm) }

func (w *world) keysIn(schema string) []string {
	return w.column("SELECT CONCAT(table_name, '.', constraint_name) FROM information_schema.referential_constraints WHERE constraint_schema = ? ORDER BY 1", schema)
}

// A key to a table that somebody has dropped would find the restored one, from the side that was put away (S6).
func TestS6AKeyToATableThatIsGoneStaysWithItsSide(t *testing.T) {
	testenv.EachServer(t, testS6AKeyToATableThatIsGoneStaysWithItsSide)
}

func testS6AKeyToATableThatIsGoneStaysWithItsSide(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(`CREATE TABLE parents (id INT PRIMARY KEY); CREATE TABLE children (id INT PRIMARY KEY, parent INT, KEY (parent), CONSTRAINT of_parent FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE);
		INSERT INTO parents VALUES (1), (2); INSERT INTO children VALUES (1, 1), (2, 2)`)
	good, part := w.reading(), w.capture()
	w.exec("SET foreign_key_checks = 0; DROP TABLE parents; SET foreign_key_checks = 1")
	damaged := w.reading()
	w.staged("r", part)
	for i, side := range []remora.Side{remora.Restored, remora.Replaced, remora.Restored} {
		require.NoError(t, w.turn("r", i+1, side))
		if side == remora.Replaced {
			require.Equal(t, damaged, w.reading())
			continue
		}
		require.Equal(t, good, w.reading())
		require.Empty(t, w.keysIn(putAwaySchema("r", 1)))
		w.exec("DELETE FROM parents WHERE id = 1")
		require.Equal(t, []string{"1", "2"}, w.column("SELECT id FROM "+qualified(putAwaySchema("r", 1), "children")+" ORDER BY id"), "no cascade reaches what is kept")
		w.exec("INSERT INTO parents VALUES (1); INSERT INTO children VALUES (1, 1)")
	}
	replaced, _ := w.captureOf(remora.Subject{PutAway: "r"})
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))
	w.staged("r2", replaced)
	require.NoError(t, w.turn("r2", 1, remora.Restored))
	require.Equal(t, damaged, w.reading())
}

// Keys across the border act between live tables alone, and are the same as ever there, on every turn (S6).
func TestS6KeysAcrossTheBorderActBetweenLiveTablesAlone(t *testing.T) {
	testenv.EachServer(t, testS6KeysAcrossTheBorderActBetweenLiveTablesAlone)
}

func testS6KeysAcrossTheBorderActBetweenLiveTablesAlone(t *testing.T, on *testenv.MySQLServer) {
	w, crm := bordered(t, on)
	before := w.both(crm)
	part := w.capture()
	w.exec("UPDATE users SET name = 'damaged'; DELETE FROM orders WHERE id = 2; ALTER TABLE users ADD COLUMN more INT; CREATE TABLE later (id INT PRIMARY KEY, a INT, CONSTRAINT later_out FOREIGN KEY (a) REFERENCES " + quote(crm) + ".accounts (id)); INSERT INTO later VALUES (1, 2)")
	live := w.both(crm)

	est, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	warned := strings.Join(est.Warnings, "\n")
	require.Contains(t, warned, "users_ibfk_1 of "+w.schema+".users to "+crm+".accounts")
	require.Contains(t, warned, "owned of "+crm+".accounts to "+w.schema+".users")
	require.Contains(t, warned, "visits_ibfk_1 of "+crm+".visits to "+w.schema+".users")
	require.Equal(t, live, w.both(crm), "a plan changes nothing")

	w.staged("r", part)
	require.Equal(t, []string{"items.items_ibfk_1", "orders.of_user", "users.users_ibfk_2"}, w.keysIn(stageSchema("r", 1, 1)))
	require.Equal(t, live, w.both(crm), "nor does a stage")

	a, b := putAwaySchema("r", 1), stageSchema("r", 1, 1)
	require.NoError(t, w.turn("r", 1, remora.Restored))
	require.Equal(t, before, w.both(crm))
	require.Equal(t, []string{"items.items_ibfk_1", "orders.of_user", "users.users_ibfk_2"}, w.keysIn(a))

	w.exec("DELETE FROM " + quote(crm) + ".visits; DELETE FROM " + quote(crm) + ".accounts WHERE id = 2")
	require.Equal(t, "2", w.ask("SELECT COUNT(*) FROM "+w.schema+".users"), "the key is live")
	require.Equal(t, "3", w.ask("SELECT COUNT(*) FROM "+a+".users"), "but not on the side that was put away")
	_, err = w.root.ExecContext(t.Context(), "INSERT INTO "+quote(crm)+".visits VALUES (2, 77, 1)")
	require.Error(t, err, "what leads in is live too")
	aside, _ := w.captureOf(remora.Subject{PutAway: "r"})

	w.exec("INSERT INTO " + quote(crm) + ".accounts VALUES (2, NULL, 'two'); INSERT INTO " + quote(crm) + ".visits VALUES (1, 3, 1)")
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	require.Equal(t, live, w.both(crm))
	w.exec("DELETE FROM later; DELETE FROM " + quote(crm) + ".accounts WHERE id = 2")
	require.Equal(t, "2", w.ask("SELECT COUNT(*) FROM "+b+".users"), "nothing acts on what was put away")
	w.exec("INSERT INTO " + quote(crm) + ".accounts VALUES (2, NULL, 'two'); INSERT INTO later VALUES (1, 2); INSERT INTO users (id, account, boss, name) VALUES (2, 2, 1, 'damaged')")
	require.Equal(t, live, w.both(crm))

	require.NoError(t, w.turn("r", 3, remora.Restored))
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))
	require.Empty(t, w.leftovers())

	// What was put away comes back with its keys.
	w.staged("again", aside)
	require.NoError(t, w.turn("again", 1, remora.Restored))
	require.Equal(t, live, w.both(crm))
}

// Wherever a switch was cut off, no key is lost, whatever comes next (S4).
func TestS4ACutOffSwitchLosesNoKey(t *testing.T) {
	testenv.EachServer(t, testS4ACutOffSwitchLosesNoKey)
}

func testS4ACutOffSwitchLosesNoKey(t *testing.T, on *testenv.MySQLServer) {
	w, crm := bordered(t, on)
	before := w.both(crm)
	part := w.capture()
	w.exec("UPDATE users SET name = 'damaged'")
	live := w.both(crm)
	next := map[string]func(){
		"again":      func() { require.NoError(t, w.turn("r", 1, remora.Restored)); require.Equal(t, before, w.both(crm)) },
		"back":       func() { require.NoError(t, w.turn("r", 2, remora.Replaced)); require.Equal(t, live, w.both(crm)) },
		"there":      func() { require.NoError(t, w.turn("r", 3, remora.Restored)); require.Equal(t, before, w.both(crm)) },
		"discarded":  func() { require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held")) },
		"as it was":  func() { require.Equal(t, live, w.both(crm)) },
		"the result": func() { require.Equal(t, before, w.both(crm)) },
	}
	// blocked cuts a switch off while it waits for a table: what it dropped before is dropped.
	blocked := func() {
		tx, err := w.root.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), "SELECT * FROM "+w.schema+".orders")
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- w.turn("r", 1, remora.Restored) }()
		testenv.Wait(t, 10*time.Second, "the switch waits", func() error {
			waiting := w.column("SELECT CONCAT('KILL ', id) FROM information_schema.processlist WHERE state = 'Waiting for table metadata lock' AND info LIKE '%in_region%'")
			if len(waiting) == 0 {
				select {
				case err := <-done:
					t.Fatalf("it did not wait: %v", err)
				default:
				}
				return errors.New("not yet")
			}
			_, err := w.root.ExecContext(t.Context(), waiting[0])
			return err
		})
		require.Error(t, <-done)
		require.NoError(t, tx.Rollback())
		require.NotContains(t, w.keysIn(crm), "visits.visits_ibfk_1")
	}
	// moved ends a switch right after the RENAME.
	moved := func() {
		s, err := w.d.hold(t.Context())
		require.NoError(t, err)
		defer release(t.Context(), s)
		sw := switcher{d: w.d, op: "switch", s: s, turn: remora.Turn{Run: "r", Seq: 1, Live: remora.Restored}}
		require.NoError(t, sw.accept(t.Context()))
		require.NoError(t, sw.look(t.Context()))
		require.NoError(t, sw.intend(t.Context()))
		require.NoError(t, sw.makeAside(t.Context()))
		require.NoError(t, sw.exchange(t.Context()))
		require.NotContains(t, w.keysIn(crm), "visits.visits_ibfk_1")
	}
	for _, c := range []struct {
		cut   func()
		steps string
	}{
		{blocked, "again, back, discarded, as it was"},
		{blocked, "discarded, as it was"},
		{moved, "back, there, discarded, the result"},
	} {
		w.staged("r", part)
		c.cut()
		for step := range strings.SplitSeq(c.steps, ", ") {
			next[step]()
		}
		require.Empty(t, w.leftovers())
	}
}

// only is a job that means some tables.
func only(run string, tables ...string) remora.Job {
	return remora.Job{Run: run, Selection: remora.Selection{Tables: tables}}
}

func (w *world) stagedOnly(part folder, run string, tables ...string) []string {
	w.Helper()
	_, err := w.d.Stage(w.Context(), only(run, tables...), part.fs())
	require.NoError(w, err)
	diff, err := w.d.Compare(w.Context(), only(run, tables...), part.fs())
	require.NoError(w, err)
	require.Empty(w, diff.Differences)
	return diff.Compared.Warnings
}

// things are what is in schemas, by name: tables with their definitions, rows and triggers, and what is no table.
func (w *world) things(schemas ...string) map[string]string {
	all := map[string]string{}
	for _, schema := range schemas {
		s, err := w.d.connect(w.Context(), w.d.read)
		require.NoError(w, err)
		defer s.close()
		found, err := takeCensuses(w.Context(), s, []place{{schema, schema}}, nil)
		require.NoError(w, err)
		all[schema] = found[0].options.clause()
		for _, t := range found[0].tables {
			all[schema+"."+t.Name] = autoIncrement.ReplaceAllString(t.Definition, "") + w.ask("SELECT CONCAT(COUNT(*), ' rows') FROM "+t.from(schema))
			if !t.Sequence {
				var sum string
				require.NoError(w, s.row(w.Context(), "CHECKSUM TABLE "+qualified(schema, t.Name)).Scan(new(string), &sum))
				all[schema+"."+t.Name] += " " + sum
			}
		}
		for _, o := range found[0].objects {
			at := schema + "." + o.Table
			if o.Table == "" {
				at = o.String()
			}
			all[at] += string(o.Create)
		}
	}
	return all
}

// Of a schema, some tables are restored, and nothing else is touched.
func TestOnlyTheTablesThatWereChosenAreRestored(t *testing.T) {
	testenv.EachServer(t, testOnlyTheTablesThatWereChosenAreRestored)
}

func testOnlyTheTablesThatWereChosenAreRestored(t *testing.T, on *testenv.MySQLServer) {
	w, crm := bordered(t, on)
	orders, users := w.schema+".orders", w.schema+".users"
	w.exec("CREATE TRIGGER loud BEFORE INSERT ON orders FOR EACH ROW SET NEW.note = UPPER(NEW.note); CREATE TRIGGER calm BEFORE INSERT ON users FOR EACH ROW SET NEW.name = LOWER(NEW.name); CREATE VIEW seen AS SELECT id FROM orders; CREATE EVENT daily ON SCHEDULE EVERY 1 DAY DO SET @a = 1; ALTER DATABASE " + w.schema + " COLLATE utf8mb4_bin")
	if on.MariaDB() {
		w.exec("CREATE SEQUENCE numbers; ALTER TABLE orders ADD COLUMN number BIGINT DEFAULT NEXT VALUE FOR numbers")
	}
	before := w.things(w.schema)[orders]
	part := w.capture()
	w.exec("DELETE FROM users WHERE id = 3; UPDATE orders SET note = 'damaged'; INSERT INTO orders (id, note) VALUES (40, 'new'); UPDATE items SET order_id = 40 WHERE id = 1; DROP TRIGGER loud; ALTER TABLE users ADD COLUMN more INT; ALTER DATABASE " + w.schema + " COLLATE utf8mb4_general_ci; DROP EVENT daily; CREATE TABLE merged (id INT PRIMARY KEY)")
	live := w.things(w.schema, crm)
	restored := maps.Clone(live)
	restored[orders] = before

	_, err := w.d.Preflight(t.Context(), only("r", "orders", "nothing"), remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.NotFound, "table nothing", orders, users)
	est, err := w.d.Preflight(t.Context(), only("r", "orders"), remora.Intent{From: part.fs()})
	require.NoError(t, err)
	require.Len(t, est.Replaces, 1)
	require.Contains(t, est.Replaces[0], "table "+orders+" (about ")
	require.Contains(t, strings.Join(est.Warnings, "\n"), "of_user of "+orders+" to "+users)
	require.Contains(t, strings.Join(est.Warnings, "\n"), "items_ibfk_1 of "+w.schema+".items to "+orders)

	warnings := strings.Join(w.stagedOnly(part, "r", "orders"), "\n")
	require.Contains(t, warnings, "foreign key of_user of "+orders+" to "+users+": 1 rows name others that are not there")
	require.Contains(t, warnings, "foreign key items_ibfk_1 of "+w.schema+".items to "+orders+": 1 rows name others that are not there")
	require.Equal(t, live, w.things(w.schema, crm))
	w.exec("DROP TABLE merged; CREATE TABLE merged (id INT) ENGINE = MERGE UNION = ()") // no business of ours
	delete(live, w.schema+".merged")
	delete(restored, w.schema+".merged")

	require.NoError(t, w.turn("r", 1, remora.Restored))
	require.Equal(t, restored, w.things(w.schema, crm))
	require.Equal(t, "41", w.ask("SELECT auto_increment FROM information_schema.tables WHERE table_schema = ? AND table_name = 'orders'", w.schema), "no number is given twice")
	_, err = w.root.ExecContext(t.Context(), "INSERT INTO "+w.schema+".items VALUES (9, 99)")
	require.Error(t, err, "what leads in is live")
	_, err = w.root.ExecContext(t.Context(), "INSERT INTO "+orders+" (user) VALUES (99)")
	require.Error(t, err, "and what leads out")
	w.exec("INSERT INTO users (id, name) VALUES (50, 'LATER'); DELETE FROM items WHERE id = 2; CREATE TABLE deployed (id INT PRIMARY KEY, o INT, CONSTRAINT deployed_in FOREIGN KEY (o) REFERENCES orders (id)); INSERT INTO deployed VALUES (1, 1)")
	later := w.things(w.schema, crm)
	for _, table := range []string{"users", "items", "deployed"} { // whatever is written there stays, also after a rollback
		live[w.schema+"."+table] = later[w.schema+"."+table]
	}

	left, err := w.d.Leftovers(t.Context())
	require.NoError(t, err)
	require.Contains(t, left[0].What, "only table "+orders)
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	require.Equal(t, live, w.things(w.schema, crm))
	require.NoError(t, w.turn("r", 3, remora.Restored))
	require.Equal(t, later, w.things(w.schema, crm))
	aside, sum := w.captureOf(remora.Subject{PutAway: "r"})
	require.Equal(t, int64(1), sum.Objects)
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))
	require.Equal(t, later, w.things(w.schema, crm))
	require.Empty(t, w.leftovers())

	// What was put away is some tables alone, and never taken for all there are.
	w.exec("DROP TABLE merged")
	_, err = w.d.Preflight(t.Context(), remora.Job{Run: "all"}, remora.Intent{From: aside.fs()})
	requireProblem(t, err, remora.Invalid, orders, "--table")
	w.stagedOnly(aside, "again", orders)
	require.NoError(t, w.turn("again", 1, remora.Restored))
	require.Equal(t, live, w.things(w.schema, crm))
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "again"}, "held"))

	// A table that is gone comes back, and goes again.
	w.exec("SET foreign_key_checks = 0; DROP TABLE orders")
	gone := w.things(w.schema, crm)
	w.stagedOnly(part, "back", "orders")
	require.NoError(t, w.turn("back", 1, remora.Restored))
	require.Equal(t, before, w.things(w.schema)[orders])
	require.Contains(t, w.keysIn(w.schema), "items.items_ibfk_1")
	require.NoError(t, w.turn("back", 2, remora.Replaced))
	require.Equal(t, gone, w.things(w.schema, crm))
	require.NoError(t, w.turn("back", 3, remora.Restored))
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "back"}, ""), "nothing was put away")
	require.Equal(t, before, w.things(w.schema)[orders])
}

// An account that has every right of a restore, but none on the other schemas that foreign keys lead to and come from, is
// told what it needs; with that, it restores.
func TestS6TheRightsOnOtherSchemasAreAskedFor(t *testing.T) {
	testenv.EachServer(t, testS6TheRightsOnOtherSchemasAreAskedFor)
}

func testS6TheRightsOnOtherSchemasAreAskedFor(t *testing.T, on *testenv.MySQLServer) {
	w, crm := bordered(t, on)
	part := w.capture()
	before := w.both(crm)
	user := w.schema + "_r"
	w.exec("CREATE USER " + user)
	t.Cleanup(func() { _, _ = w.root.Exec("DROP USER IF EXISTS " + user) })
	for _, need := range w.d.restoreNeeds(w.serverFound()) {
		w.exec("GRANT " + strings.Join(need.privileges, ", ") + " ON " + grants{}.target(need.scope) + " TO " + user)
	}
	w.d = w.database(withUser(user))
	_, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Denied, "ALTER on "+crm, "REFERENCES on "+crm, "REFERENCES on "+w.schema)
	var denied *remora.Problem
	require.ErrorAs(t, err, &denied)
	w.exec(strings.TrimSuffix(denied.Hint, ";"))
	_, err = w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	w.exec("UPDATE users SET name = 'damaged'")
	live := w.both(crm)
	w.staged("r", part)
	require.NoError(t, w.turn("r", 1, remora.Restored))
	require.Equal(t, before, w.both(crm))
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	require.Equal(t, live, w.both(crm))
}

// A key that could not be put back ends the restore in the plan (S5).
func TestS5AKeyThatDoesNotFitIsRefusedInThePlan(t *testing.T) {
	testenv.EachMaker(t, func(t *testing.T, on *testenv.MySQLServer) {
		w, crm := bordered(t, on)
		part := w.capture()
		w.exec("SET foreign_key_checks = 0; ALTER TABLE items DROP FOREIGN KEY items_ibfk_1; ALTER TABLE orders MODIFY id BIGINT AUTO_INCREMENT; ALTER TABLE items MODIFY order_id BIGINT, ADD CONSTRAINT in_order FOREIGN KEY (order_id) REFERENCES orders (id)")
		live := w.both(crm)
		_, err := w.d.Preflight(t.Context(), only("r", "orders"), remora.Intent{From: part.fs()})
		requireProblem(t, err, remora.Unsupported, "foreign key in_order of "+w.schema+".items to "+w.schema+".orders", "could not be put back")
		_, err = w.d.Preflight(t.Context(), only("r", "orders", "items"), remora.Intent{From: part.fs()})
		require.NoError(t, err)
		require.Equal(t, live, w.both(crm))
	})
}

func TestATableWhoseNameIsTakenIsRefusedInThePlan(t *testing.T) {
	w, _ := bordered(t, testenv.MySQL(t))
	w.exec("CREATE TRIGGER loud BEFORE INSERT ON orders FOR EACH ROW SET NEW.note = UPPER(NEW.note)")
	part := w.capture()
	w.exec("DROP TRIGGER loud; CREATE TRIGGER loud BEFORE INSERT ON users FOR EACH ROW SET NEW.name = UPPER(NEW.name)")
	plan := func(tables ...string) error {
		_, err := w.d.Preflight(t.Context(), only("r", tables...), remora.Intent{From: part.fs()})
		return err
	}
	requireProblem(t, plan("orders"), remora.Changed, "trigger loud on users")
	require.NoError(t, plan("orders", "users"))
	require.NoError(t, plan("items"))
	w.exec("RENAME TABLE items TO elsewhere; CREATE VIEW items AS SELECT 1")
	requireProblem(t, plan("items"), remora.Changed, "view items")
}

// A key that somebody adds in the very moment of a switch follows the table that goes out: it is brought back.
func TestS23AKeyThatCameMeanwhileIsNotLedAstray(t *testing.T) {
	w, crm := bordered(t, testenv.MySQL(t))
	w.staged("r", w.capture())
	s, err := w.d.hold(t.Context())
	require.NoError(t, err)
	sw := switcher{d: w.d, op: "switch", s: s, turn: remora.Turn{Run: "r", Seq: 1, Live: remora.Restored}}
	for _, step := range []func(context.Context) error{sw.accept, sw.look, sw.intend, sw.makeAside} {
		require.NoError(t, step(t.Context()))
	}
	w.exec("ALTER TABLE " + quote(crm) + ".regions ADD COLUMN late INT, ADD CONSTRAINT late FOREIGN KEY (late) REFERENCES " + w.schema + ".orders (id)")
	require.NoError(t, sw.exchange(t.Context()))
	release(t.Context(), s)
	leads := func() string {
		return w.ask("SELECT unique_constraint_schema FROM information_schema.referential_constraints WHERE constraint_name = 'late'")
	}
	require.Equal(t, putAwaySchema("r", 1), leads())
	require.NoError(t, w.turn("r", 1, remora.Restored))
	require.Equal(t, w.schema, leads())
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	require.Equal(t, w.schema, leads())
}
