package mysql

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// A drill of several schemas is asked what the backup says, whatever is live by then: tables, views, functions, and what
// leads from one schema to another. Nothing in it acts, whoever had defined it may not even be there, and nothing is left.
func TestS28ADrillAnswersForTheBackup(t *testing.T) {
	testenv.EachMaker(t, testS28ADrillAnswersForTheBackup)
}

func testS28ADrillAnswersForTheBackup(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	crm, gone := on.Schema(t), "gone"+strings.TrimPrefix(w.schema, "shop")
	w.exec("SET GLOBAL event_scheduler = ON; CREATE USER " + gone + "; GRANT ALL ON `" + w.schema + "%`.* TO " + gone + ";" + objectsZoo +
		"CREATE DEFINER = " + gone + " VIEW theirs AS SELECT COUNT(*) AS n FROM users; CREATE DEFINER = " + gone + " FUNCTION counted() RETURNS INT READS SQL DATA RETURN (SELECT COUNT(*) FROM users);" +
		"CREATE FUNCTION named() RETURNS INT READS SQL DATA RETURN (SELECT COUNT(*) FROM " + w.schema + ".users);" +
		"CREATE EVENT busy ON SCHEDULE EVERY 1 SECOND DO INSERT INTO log (what) VALUES ('acts');" +
		"CREATE TABLE " + crm + ".calls (id INT PRIMARY KEY, user INT UNSIGNED, KEY (user), CONSTRAINT of_user FOREIGN KEY (user) REFERENCES " + w.schema + ".users (id));" +
		"INSERT INTO " + crm + ".calls VALUES (1, 1); CREATE VIEW " + crm + ".of_shop AS SELECT u.id FROM " + w.schema + ".users u JOIN " + crm + ".calls c ON c.user = u.id;" +
		"ALTER EVENT busy DISABLE; DELETE FROM log")
	w.d = w.database(func(c *Config) { c.Schemas = append(c.Schemas, crm) })
	w.exec("ALTER EVENT busy ENABLE")
	part := w.capture()
	captured, err := w.d.readPart(part.fs())
	require.NoError(t, err)
	acted := captured.Schemas[0].Tables[slices.IndexFunc(captured.Schemas[0].Tables, func(t partTable) bool { return t.Name == "log" })].Rows
	n := w.ask("SELECT COUNT(*) FROM " + w.schema + ".users")
	w.exec("DROP EVENT busy; DELETE FROM log; DELETE FROM " + crm + ".calls; SET foreign_key_checks = 0; DELETE FROM users; DROP VIEW theirs; DROP FUNCTION counted; DROP USER " + gone)
	live := w.both(crm)

	run := remora.DrillRun("1")
	_, err = w.d.Preflight(t.Context(), remora.Job{Run: run}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	_, err = w.d.Stage(t.Context(), remora.Job{Run: run}, part.fs())
	require.NoError(t, err)
	_, _, err = w.d.Staged(t.Context(), run)
	requireProblem(t, err, remora.Fenced, "compared")
	w.staged(run, part)
	_, _, err = w.d.Staged(t.Context(), run)
	require.NoError(t, err)
	asked, notes, err := w.d.Staged(t.Context(), run)
	require.NoError(t, err, "it may be repeated")
	require.Contains(t, notes, "function named names the schema "+w.schema+" in its text: a check that uses it is answered by what is live there")
	for query, want := range map[string]string{
		"SELECT COUNT(*) = " + n + " FROM users":                      "",
		"SELECT COUNT(*) = " + n + " FROM {{" + w.schema + "}}.users": "",
		"SELECT COUNT(*) = 1 FROM {{" + crm + "}}.calls":              "",
		"SELECT COUNT(*) = 1 FROM {{" + crm + "}}.of_shop":            "",
		"SELECT n = " + n + " FROM theirs":                            "",
		"SELECT counted() = " + n:                                     "",
		"SELECT COUNT(*) > 0 FROM a_top":                              "",
		"SELECT named() = 0":                                          "", // as the note says
		"SELECT COUNT(*) = 77 FROM users":                             "its first column is not true",
		"DELETE FROM users":                                           "it would change something",
		fmt.Sprintf("SELECT COUNT(*) = %d FROM log", acted):           "", // it may have acted before the backup
		"SELECT DATABASE() LIKE '\\_remora\\_%'":                      "",
	} {
		why, err := asked.Check(t.Context(), query)
		require.NoError(t, err, query)
		if want == "" {
			require.Empty(t, why, query)
		}
		require.Contains(t, why, want, query)
	}
	require.Equal(t, []string{}, append([]string{}, w.column(`SELECT event_name FROM information_schema.events WHERE event_schema LIKE '\_remora%' AND status = 'ENABLED'`)...), "S24")

	// Neither is kept waiting by what the other has there, and neither removes what is the other's.
	_, err = w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	w.staged("r", part)
	_, err = w.d.Preflight(t.Context(), remora.Job{Run: remora.DrillRun("2")}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	left, err := w.d.Leftovers(t.Context())
	require.NoError(t, err)
	require.Len(t, left, 2)
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: run}, ""))
	_, err = w.d.Compare(t.Context(), remora.Job{Run: "r"}, part.fs())
	require.NoError(t, err)
	_, _, err = w.d.Staged(t.Context(), "r")
	requireProblem(t, err, remora.Fenced, "no stage of a drill")
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, ""))
	require.Empty(t, w.leftovers())
	require.Equal(t, live, w.both(crm))
}
