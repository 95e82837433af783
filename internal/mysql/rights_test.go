package mysql

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

func TestGrantsAreReadAsTheServerMeansThem(t *testing.T) {
	for name, c := range map[string]struct {
		lines   []string
		literal bool
		schema  string
		want    bool
	}{
		"everywhere":                     {lines: []string{"GRANT SELECT, TRIGGER ON *.* TO `u`@`%`"}, schema: "shop", want: true},
		"all on the schema":              {lines: []string{"GRANT ALL PRIVILEGES ON `shop`.* TO `u`@`%` WITH GRANT OPTION"}, schema: "shop", want: true},
		"an escaped underscore":          {lines: []string{"GRANT TRIGGER ON `my\\_shop`.* TO `u`@`%`"}, schema: "my_shop", want: true},
		"an escaped underscore is no x":  {lines: []string{"GRANT TRIGGER ON `my\\_shop`.* TO `u`@`%`"}, schema: "myxshop"},
		"a wildcard":                     {lines: []string{"GRANT TRIGGER ON `my_shop`.* TO `u`@`%`"}, schema: "myxshop", want: true},
		"no wildcards":                   {lines: []string{"GRANT TRIGGER ON `my_shop`.* TO `u`@`%`"}, literal: true, schema: "myxshop"},
		"a percent sign":                 {lines: []string{"GRANT TRIGGER ON `my%`.* TO `u`@`%`"}, schema: "my\nshop", want: true},
		"one table is not enough":        {lines: []string{"GRANT TRIGGER ON `shop`.`users` TO `u`@`%`"}, schema: "shop"},
		"one column is not enough":       {lines: []string{"GRANT TRIGGER (`a`) ON `shop`.* TO `u`@`%`"}, schema: "shop"},
		"a routine of that name":         {lines: []string{"GRANT EXECUTE ON PROCEDURE `shop`.`trigger` TO `u`@`%`"}, schema: "shop"},
		"revoked for the schema":         {lines: []string{"GRANT TRIGGER ON *.* TO `u`@`%`", "REVOKE TRIGGER ON `shop`.* FROM `u`@`%`"}, literal: true, schema: "shop"},
		"a backtick in the name":         {lines: []string{"GRANT TRIGGER ON `sh``op`.* TO `u`@`%`"}, schema: "sh`op", want: true},
		"through a role of MariaDB":      {lines: []string{"GRANT `dumper` TO `u`@`%`", "GRANT TRIGGER ON `shop`.* TO `dumper`"}, schema: "shop", want: true},
		"the words of a grant in a name": {lines: []string{"GRANT USAGE ON *.* TO `GRANT TRIGGER ON *.* TO `@`%`"}, schema: "shop"},
	} {
		t.Run(name, func(t *testing.T) {
			g := grants{global: map[string]bool{}, literal: c.literal}
			for _, line := range c.lines {
				g.add(line)
			}
			require.Equal(t, c.want, g.in(c.schema, "TRIGGER"))
		})
	}
}

// Every right that is missing is named, with a statement that gives it when it is run.
func TestEveryMissingRightIsNamedWithItsGrant(t *testing.T) {
	testenv.EachServer(t, testEveryMissingRightIsNamedWithItsGrant)
}

func testEveryMissingRightIsNamedWithItsGrant(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop + "DROP USER IF EXISTS poor@'%'; CREATE USER poor@'%'")
	defer w.exec("DROP USER poor@'%'")
	part := w.capture()
	poor := w.database(withUser("poor"))

	routines, weaker := "GRANT SHOW_ROUTINE ON *.* TO 'poor'@'%';", 6
	if on.MariaDB() {
		routines, weaker = "GRANT SELECT ON mysql.proc TO 'poor'@'%';", 5
		if found := w.serverFound(); found.since(11, 3) {
			routines = "GRANT SHOW CREATE ROUTINE ON `" + strings.ReplaceAll(w.schema, "_", `\_`) + "`.* TO 'poor'@'%';"
		}
	}
	if w.ask("SELECT @@log_bin") == "1" {
		weaker++
	}
	_, err := poor.Preflight(t.Context(), remora.Job{}, remora.Intent{})
	requireProblem(t, err, remora.Denied, "TRIGGER", "EVENT", routines, "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON `"+strings.ReplaceAll(w.schema, "_", `\_`)+"`.* TO 'poor'@'%';")
	_, err = poor.Preflight(t.Context(), remora.Job{}, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Denied, "PROCESS", "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, SHOW VIEW, CREATE VIEW, TRIGGER, EVENT, CREATE ROUTINE, ALTER ROUTINE, EXECUTE, LOCK TABLES ON `\\_remora%`.* TO 'poor'@'%';")

	missing, err := poor.Rights(t.Context())
	require.NoError(t, err)
	for i, r := range missing {
		require.NotEmpty(t, r.Why)
		require.Equal(t, i < len(missing)-weaker, r.Required, "the required ones come first")
		if r.Required {
			w.exec(r.Grant)
		}
	}
	missing, err = poor.Rights(t.Context())
	require.NoError(t, err)
	require.Len(t, missing, weaker-1, "LOCK TABLES came with what a restore needs")

	// With just the required ones, everything works, if in a weaker way.
	before := w.dumps(w.schema)
	w.d = poor
	est, err := poor.Preflight(t.Context(), remora.Job{}, remora.Intent{})
	require.NoError(t, err)
	require.NotEmpty(t, est.Warnings)
	part = w.capture()
	w.exec("DELETE FROM orders")
	_, err = poor.Preflight(t.Context(), remora.Job{}, remora.Intent{From: part.fs()})
	require.NoError(t, err)
	w.staged("r", part)
	require.NoError(t, w.turn("r", 1, remora.Restored))
	require.Equal(t, before, w.dumps(w.schema))
	aside, _ := w.captureOf(remora.Subject{PutAway: "r"})
	require.Equal(t, w.schema, aside.part(t).Schemas[0].Name)
	require.NoError(t, w.turn("r", 2, remora.Replaced))
	require.NoError(t, w.turn("r", 3, remora.Restored))
	require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, "held"))
	require.Empty(t, w.leftovers())
	defer w.exec("SET GLOBAL log_bin_trust_function_creators = OFF")
	for _, r := range missing {
		w.exec(strings.Replace(r.Grant, "SET PERSIST", "SET GLOBAL", 1))
	}
	missing, err = poor.Rights(t.Context())
	require.NoError(t, err)
	require.Empty(t, missing)
	w.exec("SET GLOBAL local_infile = OFF")
	defer w.exec("SET GLOBAL local_infile = ON")
	missing, err = poor.Rights(t.Context())
	require.NoError(t, err)
	require.Len(t, missing, 1)
	require.Equal(t, "local_infile", missing[0].Name)
}

// Each right is missed when it alone is gone, whatever it is needed for: the refusal names it, and its GRANT is all that is
// missing.
func TestEachRightIsMissedWhenItAloneIsGone(t *testing.T) {
	testenv.EachServer(t, testEachRightIsMissedWhenItAloneIsGone)
}

func testEachRightIsMissedWhenItAloneIsGone(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	other, copied := w.schema+"_other", w.schema+"_copy"
	w.exec(shop + "DROP USER IF EXISTS poor@'%'; CREATE USER poor@'%'; CREATE DATABASE " + other + "; CREATE TABLE " + other + ".visits (id INT PRIMARY KEY, user INT UNSIGNED, CONSTRAINT of_user FOREIGN KEY (user) REFERENCES " + w.schema + ".users (id))")
	t.Cleanup(func() { _, _ = w.root.Exec("DROP DATABASE IF EXISTS " + other + "; DROP USER poor@'%'") })
	part := w.capture()
	poor := w.database(withUser("poor"))
	into := poor.Into(remora.Selection{To: copied, Tables: []string{"orders"}}).(*Database)
	preflight := func(d *Database, tables ...string) func() error {
		return func() error {
			_, err := d.Preflight(t.Context(), remora.Job{Run: "r", Selection: remora.Selection{Tables: tables}}, remora.Intent{From: part.fs()})
			return err
		}
	}
	found := w.serverFound()
	across := func(schema, right string) []need {
		return []need{{forRestore, []string{right}, scope(schema), true, ""}}
	}
	for _, way := range []struct {
		name  string
		needs []need
		try   func() error
	}{
		{"backup", poor.backupNeeds(found), func() error {
			_, err := poor.Preflight(t.Context(), remora.Job{}, remora.Intent{})
			return err
		}},
		{"capture", poor.backupNeeds(found), func() error {
			_, err := poor.Capture(t.Context(), remora.Job{}, remora.Subject{}, folder{t.TempDir()})
			return err
		}},
		{"preview", poor.backupNeeds(found), func() error {
			_, err := poor.Preview(t.Context(), remora.Job{}, part.fs())
			return err
		}},
		{"restore", slices.Concat(poor.restoreNeeds(found), across(other, "ALTER"), across(w.schema, "REFERENCES")), preflight(poor)},
		{"restore --table orders", across(w.schema, "REFERENCES"), preflight(poor, "orders")},
		{"restore --to", into.restoreNeeds(found), preflight(into)},
	} {
		var hints []string
		for range 3 { // the other schema is looked at when all else is there
			var p *remora.Problem
			if errors.As(way.try(), &p) && p.Kind == remora.Denied {
				hints = append(hints, p.Hint)
				w.exec(p.Hint)
			}
		}
		require.NoError(t, way.try(), "%s after %q", way.name, hints)
		for _, n := range way.needs {
			for _, right := range n.privileges {
				if !n.required {
					continue
				}
				target := (grants{}).target(n.scope)
				w.exec("GRANT " + right + " ON " + target + " TO poor@'%'; REVOKE " + right + " ON " + target + " FROM poor@'%'")
				err := way.try()
				requireProblem(t, err, remora.Denied, right+" on "+n.scope.String(), "GRANT "+right+" ON "+target+" TO 'poor'@'%';")
				var p *remora.Problem
				require.ErrorAs(t, err, &p)
				require.Equal(t, 1, strings.Count(p.Hint, "GRANT"), "nothing else is missing: %s", p.Hint)
				w.exec(p.Hint)
			}
		}
		require.NoError(t, way.try(), way.name)
	}
}

// Of several grants whose patterns match a schema a server takes one, and hides what that does not give. What is read from
// the grants is what it shows, and the GRANTs that are asked for put none out of force.
func TestOfSeveralGrantsForASchemaOneIsInForce(t *testing.T) {
	testenv.EachServer(t, testOfSeveralGrantsForASchemaOneIsInForce)
}

func testOfSeveralGrantsForASchemaOneIsInForce(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop + "CREATE VIEW v AS SELECT 1 AS one; CREATE TRIGGER acts BEFORE INSERT ON users FOR EACH ROW SET @x = 1; CREATE EVENT daily ON SCHEDULE EVERY 1 DAY DO DO 1; CREATE ROLE role1; CREATE ROLE role2")
	t.Cleanup(func() { _, _ = w.root.Exec("DROP USER IF EXISTS poor@'%'; DROP ROLE role1; DROP ROLE role2") })
	d := w.database(withUser("poor"))
	words := strings.NewReplacer(
		"REST", "TRIGGER, EVENT, SHOW VIEW", "ME", "poor@'%'", "EXACT", grantPattern(w.schema)+".*", "LOOSE", "`"+w.schema+"`.*", "WIDE", "`"+w.schema[:5]+"%`.*",
		"NARROW", "`"+grantPattern(w.schema)[1:9]+"%`.*", "ANY", "`%`.*", "TABLE", qualified(w.schema, "users"), "SHOP", w.schema,
	)
	cases := []struct{ grants, missing string }{
		{"GRANT SELECT, REST ON WIDE TO ME", ""},
		{"GRANT SELECT, REST ON LOOSE TO ME", ""},
		{"GRANT SELECT ON EXACT TO ME; GRANT REST ON WIDE TO ME", "TRIGGER, EVENT"},
		{"GRANT REST ON EXACT TO ME; GRANT SELECT ON WIDE TO ME", "SELECT"},
		{"GRANT REST ON NARROW TO ME; GRANT SELECT ON WIDE TO ME", "SELECT"},
		{"GRANT REST ON WIDE TO ME; GRANT SELECT ON ANY TO ME", "SELECT"},
		{"GRANT SELECT ON *.* TO ME; GRANT EVENT ON EXACT TO ME; GRANT TRIGGER, SHOW VIEW ON WIDE TO ME", "TRIGGER"},
		{"GRANT SELECT ON WIDE TO ME; GRANT SELECT, REST ON LOOSE TO ME", "TRIGGER, EVENT"}, // which of them is not to be told
		{"GRANT SELECT ON TABLE TO ME; GRANT REST ON EXACT TO ME", "SELECT"},
		{"GRANT SELECT (id), TRIGGER ON TABLE TO ME; GRANT EVENT, SHOW VIEW ON EXACT TO ME", "SELECT, TRIGGER"},
		{"GRANT SELECT, REST ON WIDE TO role1; GRANT role1 TO ME", ""},
		{"GRANT SELECT, REST ON EXACT TO role2; GRANT role2 TO role1; GRANT role1 TO ME", ""},
		{"GRANT SELECT ON EXACT TO ME; GRANT REST ON WIDE TO role1; GRANT role1 TO ME", "?"},
		{"GRANT SELECT ON EXACT TO role1; GRANT REST ON WIDE TO role1; GRANT role1 TO ME", "?"},
		{"GRANT SELECT ON WIDE TO role1; GRANT REST ON EXACT TO role2; GRANT role2 TO role1; GRANT role1 TO ME", "?"},
		{"GRANT SELECT, SHOW VIEW ON EXACT TO ME; GRANT TRIGGER ON EXACT TO role1; GRANT EVENT ON EXACT TO role2; GRANT role2 TO role1; GRANT role1 TO ME", ""},
		{"GRANT SELECT, SHOW VIEW ON EXACT TO ME; GRANT TRIGGER, EVENT ON EXACT TO role1; GRANT role1 TO ME; GRANT role2 TO ME; SET DEFAULT ROLE NONE TO ME", "?"},
	}
	if on.MariaDB() {
		cases = append(cases, struct{ grants, missing string }{"GRANT SELECT, SHOW VIEW, EVENT ON EXACT TO ME; GRANT TRIGGER ON WIDE TO PUBLIC", ""})
		t.Cleanup(func() { _, _ = w.root.Exec(words.Replace("REVOKE TRIGGER ON WIDE FROM PUBLIC")) })
	}
	for _, c := range cases {
		w.exec("DROP USER IF EXISTS poor@'%'; DROP ROLE role1; DROP ROLE role2; CREATE USER poor@'%'; CREATE ROLE role1; CREATE ROLE role2")
		given := words.Replace(c.grants)
		if on.MariaDB() {
			given = strings.Replace(given, "SET DEFAULT ROLE NONE TO", "SET DEFAULT ROLE NONE FOR", 1)
		}
		w.exec(given)
		hidden, missing := w.hidden(d)
		require.Subset(t, missing, hidden, c.grants)
		if c.missing != "?" {
			require.Equal(t, c.missing, strings.Join(missing, ", "), c.grants)
		}
		s, err := d.connect(t.Context(), d.read)
		require.NoError(t, err)
		g, err := readGrants(t.Context(), s)
		require.NoError(t, err)
		s.close()
		for _, r := range g.missing(d.backupNeeds(w.serverFound())) {
			if r.Required {
				w.exec(r.Grant)
			}
		}
		hidden, missing = w.hidden(d)
		require.Empty(t, hidden, c.grants)
		require.Empty(t, missing, c.grants)
	}
}

// hidden are the rights that an account turns out not to have on the schema, and those that its grants say are missing.
func (w *world) hidden(d *Database) (hidden, missing []string) {
	w.Helper()
	s, err := d.connect(w.Context(), d.read)
	require.NoError(w, err)
	defer s.close()
	g, err := readGrants(w.Context(), s)
	require.NoError(w, err)
	for _, right := range []struct{ name, query string }{
		{"SELECT", "SELECT COUNT(*) > 0 FROM " + w.schema + ".users"},
		{"TRIGGER", "SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_schema = '" + w.schema + "'"},
		{"EVENT", "SELECT COUNT(*) FROM information_schema.events WHERE event_schema = '" + w.schema + "'"},
	} {
		var seen int
		if err := s.row(w.Context(), right.query).Scan(&seen); err != nil || seen == 0 {
			hidden = append(hidden, right.name)
		}
		if !g.in(w.schema, right.name) {
			missing = append(missing, right.name)
		}
	}
	return hidden, missing
}

// With partial_revokes a wildcard is a letter, so what covers our schemas is given for all; and what was taken away for one
// schema is missed there.
func TestS26PartialRevokesAreRead(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(shop + "DROP USER IF EXISTS poor@'%'; CREATE USER poor@'%'; SET GLOBAL partial_revokes = ON")
	defer w.exec("DROP USER poor@'%'; SET GLOBAL partial_revokes = OFF")
	part, poor := w.capture(), w.database(withUser("poor"))
	plan := func() error {
		_, err := poor.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: part.fs()})
		return err
	}
	w.exec("GRANT ALL ON `\\_remora%`.* TO poor@'%'; GRANT ALL ON " + quote(w.schema[:4]+"%") + ".* TO poor@'%'")
	requireProblem(t, plan(), remora.Denied, "TRIGGER", "GRANT SELECT", " ON "+quote(w.schema)+".* TO", " ON *.* TO 'poor'@'%';")
	missing, err := poor.Rights(t.Context())
	require.NoError(t, err)
	for _, r := range missing {
		if !strings.HasPrefix(r.Grant, "SET") {
			w.exec(r.Grant)
		}
	}
	require.NoError(t, plan())
	revoke := "REVOKE TRIGGER ON " + quote(w.schema) + ".* FROM poor@'%';"
	w.exec("GRANT TRIGGER, EVENT ON *.* TO poor@'%';" + revoke + revoke) // what was given for the schema, and what is given for all
	for _, err := range []error{plan(), func() error {
		_, err := poor.Capture(t.Context(), remora.Job{}, remora.Subject{}, folder{t.TempDir()})
		return err
	}()} {
		requireProblem(t, err, remora.Denied, "TRIGGER on "+w.schema, "GRANT TRIGGER ON "+quote(w.schema)+".* TO 'poor'@'%';")
	}
	w.exec("GRANT TRIGGER ON " + quote(w.schema) + ".* TO 'poor'@'%'")
	require.NoError(t, plan())
}

func TestRightsThroughARoleCount(t *testing.T) { testenv.EachServer(t, testRightsThroughARoleCount) }

func testRightsThroughARoleCount(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop + "DROP USER IF EXISTS poor@'%'; CREATE USER poor@'%'; CREATE ROLE dumper; CREATE ROLE reader; GRANT reader TO dumper; GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON " + grantPattern(w.schema) + ".* TO reader; GRANT dumper TO poor@'%'")
	right := w.serverFound().routines(forBackup, scope(w.schema))[0]
	w.exec("GRANT " + right.privileges[0] + " ON " + grants{}.target(right.scope) + " TO dumper")
	defer w.exec("DROP USER poor@'%'; DROP ROLE dumper; DROP ROLE reader")
	w.d = w.database(withUser("poor"))
	_, err := w.d.Preflight(t.Context(), remora.Job{}, remora.Intent{})
	require.NoError(t, err)
	_, summary := w.captureOf(remora.Subject{})
	require.Equal(t, []int64{2, 6}, []int64{summary.Objects, summary.Entries})
}

// What cannot be brought back is refused by name, for a backup and for a restore, and never skipped.
func TestWhatCannotBeBroughtBackIsRefusedByName(t *testing.T) {
	for object, names := range map[string][]string{
		"CREATE TABLE both_of (id INT) ENGINE = MERGE UNION = ()": {"table both_of", "MRG_MYISAM"},
		"CREATE TABLE made (a INT AS (1))":                        {"table made"},
	} {
		t.Run(names[0], func(t *testing.T) { refusedByName(t, object, names) })
	}
}

func refusedByName(t *testing.T, object string, names []string) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(shop + "DROP DATABASE IF EXISTS other_shop; CREATE DATABASE other_shop; CREATE TABLE other_shop.users (id INT UNSIGNED PRIMARY KEY)")
	defer w.exec("SET foreign_key_checks = 0; DROP DATABASE IF EXISTS other_shop")
	part := w.capture()
	w.exec(strings.ReplaceAll(object, "SHOP", w.schema))
	_, err := w.d.Preflight(t.Context(), remora.Job{}, remora.Intent{})
	requireProblem(t, err, remora.Unsupported, names...)
	_, err = w.d.Capture(t.Context(), remora.Job{}, remora.Subject{}, folder{t.TempDir()})
	requireProblem(t, err, remora.Unsupported, names...)
	_, err = w.d.Preflight(t.Context(), remora.Job{}, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Unsupported, names...)
}

func TestOtherServersAreRefusedByName(t *testing.T) {
	for version, name := range map[string]string{
		"10.5.29-MariaDB-deb11": "MariaDB 10.5",
		"8.0.11-TiDB-v8.5.0":    "TiDB",
		"5.7.44-log":            "MySQL 5.7",
	} {
		requireProblem(t, server{Version: version}.supported(), remora.Unsupported, name)
	}
	for _, version := range []string{"8.0.36-28", "8.4.2", "9.7.4", "12.0.0", "10.6.22-MariaDB", "11.8.9-MariaDB-log"} {
		require.NoError(t, server{Version: version}.supported())
	}
}

func TestNobodyIsLeftToGuessWhyThereIsNoConnection(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	password := func(s remora.Secret) func(*Config) {
		return func(c *Config) { c.Password = func() (remora.Secret, error) { return s, nil } }
	}
	_, err := w.database(password("wrong-secret")).Preflight(t.Context(), remora.Job{}, remora.Intent{})
	requireProblem(t, err, remora.Denied, "root at "+w.server.Address, "password")
	require.NotContains(t, err.Error(), "wrong-secret")

	_, err = w.database(func(c *Config) { c.Address = "127.0.0.1:1" }).Preflight(t.Context(), remora.Job{}, remora.Intent{})
	requireProblem(t, err, remora.Unavailable, "127.0.0.1:1", "is the server running")

	_, err = w.database(func(c *Config) { c.Schemas = []string{"no_such"} }).Capture(t.Context(), remora.Job{}, remora.Subject{}, folder{t.TempDir()})
	requireProblem(t, err, remora.NotFound, "no_such")
	est, err := w.database(func(c *Config) { c.Schemas = []string{"no_such"} }).Preflight(t.Context(), remora.Job{}, remora.Intent{})
	require.NoError(t, err)
	require.True(t, est.Empty)
}

func TestAServerThatTakesNoLocalRowsIsRefused(t *testing.T) {
	testenv.EachMaker(t, testAServerThatTakesNoLocalRowsIsRefused)
}

func testAServerThatTakesNoLocalRowsIsRefused(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	defer w.exec("SET GLOBAL local_infile = ON; SET GLOBAL read_only = OFF")
	w.exec(shop)
	part := w.capture()
	w.exec("SET GLOBAL local_infile = OFF")
	_, err := w.d.Preflight(t.Context(), remora.Job{}, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Denied, "local_infile", " local_infile = ON")
	w.exec("SET GLOBAL local_infile = ON; SET GLOBAL read_only = ON")
	_, err = w.d.Preflight(t.Context(), remora.Job{}, remora.Intent{From: part.fs()})
	requireProblem(t, err, remora.Denied, "read-only")
}

func TestTheFingerprintChangesWithTheShapeAlone(t *testing.T) {
	w := newWorld(t, testenv.MySQL(t))
	w.exec(shop)
	fingerprint := func() string {
		est, err := w.d.Preflight(t.Context(), remora.Job{}, remora.Intent{})
		require.NoError(t, err)
		return est.Fingerprint
	}
	first := fingerprint()
	w.exec("INSERT INTO users (name) VALUES ('new')")
	require.Equal(t, first, fingerprint())
	w.exec("ALTER TABLE users ADD COLUMN age INT")
	require.NotEqual(t, first, fingerprint())
}

// People see which server it is by version and address; another server at that address is another plan (S12).
func TestS12ThePlanNamesItsServer(t *testing.T) { testenv.EachServer(t, testS12ThePlanNamesItsServer) }

func testS12ThePlanNamesItsServer(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(shop)
	est, err := w.d.Preflight(t.Context(), remora.Job{}, remora.Intent{})
	require.NoError(t, err)
	version, _, _ := strings.Cut(w.ask("SELECT VERSION()"), "-MariaDB")
	require.Equal(t, w.serverFound().maker()+" "+version+" at "+w.server.Address+", schema "+w.schema, est.Identity)
	other := remora.Estimate{Identity: est.Identity}
	s, err := w.d.connect(t.Context(), w.d.read)
	require.NoError(t, err)
	defer s.close()
	found, err := takeCensuses(t.Context(), s, w.d.live(), nil)
	require.NoError(t, err)
	w.d.describe(found, s.server, &other)
	require.Equal(t, est.Fingerprint, other.Fingerprint)
	w.d.describe(found, server{UUID: "another"}, &other)
	require.NotEqual(t, est.Fingerprint, other.Fingerprint)
}

func TestConfigurationsThatMakeNoSenseAreRefused(t *testing.T) {
	secret := func() (remora.Secret, error) { return "", nil }
	for name, c := range map[string]Config{
		"no address":          {Source: "s", Installation: "i", User: "u", Password: secret, Schemas: []string{"shop"}},
		"no schema":           {Source: "s", Installation: "i", Address: "a:1", User: "u", Password: secret},
		"a schema twice":      {Source: "s", Installation: "i", Address: "a:1", User: "u", Password: secret, Schemas: []string{"a", "a"}},
		"a system schema":     {Source: "s", Installation: "i", Address: "a:1", User: "u", Password: secret, Schemas: []string{"MySQL"}},
		"one of ours":         {Source: "s", Installation: "i", Address: "a:1", User: "u", Password: secret, Schemas: []string{"_remora_x"}},
		"no password":         {Source: "s", Installation: "i", Address: "a:1", User: "u", Schemas: []string{"shop"}},
		"no restore password": {Source: "s", Installation: "i", Address: "a:1", User: "u", Password: secret, RestoreUser: "r", Schemas: []string{"shop"}},
		"a thousand sessions": {Source: "s", Installation: "i", Address: "a:1", User: "u", Password: secret, Schemas: []string{"shop"}, Sessions: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(c)
			require.False(t, remora.KindOf(err).Retryable())
			require.Error(t, err)
		})
	}
}
