package mysql

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// forged is a part that somebody changed.
func (w *world) forged(of folder, change func(*part)) folder {
	w.Helper()
	var p part
	raw, err := os.ReadFile(filepath.Join(of.dir, remora.PartFile))
	require.NoError(w, err)
	require.NoError(w, json.Unmarshal(raw, &p))
	change(&p)
	raw, err = json.Marshal(p)
	require.NoError(w, err)
	forged := folder{w.TempDir()}
	require.NoError(w, os.CopyFS(forged.dir, of.fs()))
	require.NoError(w, os.WriteFile(filepath.Join(forged.dir, remora.PartFile), raw, 0o600))
	return forged
}

// A backup that somebody forged, who has the password of the repository, runs nothing outside what a restore makes.
func TestAForgedPartRunsNothing(t *testing.T) {
	testenv.EachMaker(t, testAForgedPartRunsNothing)
}

func testAForgedPartRunsNothing(t *testing.T, on *testenv.MySQLServer) {
	w := newWorld(t, on)
	w.exec(objectsZoo + `CREATE TABLE secret (id INT PRIMARY KEY) ENGINE = MyISAM; CREATE FUNCTION act() RETURNS INT DETERMINISTIC BEGIN INSERT INTO log (what) VALUES ('acted'); RETURN 1; END`)
	part0 := w.capture()
	victim := on.Schema(t)
	w.exec("CREATE TABLE " + victim + ".t (id INT PRIMARY KEY) ENGINE = MyISAM")
	before := w.reading() + on.Dump(t, victim)
	first := func(p *part, kind string) *object {
		for i := range p.Schemas[0].Objects {
			if p.Schemas[0].Objects[i].Kind == kind {
				return &p.Schemas[0].Objects[i]
			}
		}
		panic(kind)
	}
	users := func(p *part) *partTable { return &p.Schemas[0].Tables[len(p.Schemas[0].Tables)-1] }
	attacks := map[string]func(*part){
		"another statement": func(p *part) { first(p, kindProcedure).Create = sqlText("DROP DATABASE " + victim) },
		"a view elsewhere":  func(p *part) { first(p, kindView).Create = sqlText("CREATE VIEW " + victim + ".v AS SELECT 1") },
		"quoted elsewhere":  func(p *part) { first(p, kindView).Create = sqlText("CREATE VIEW `" + victim + "`.`v` AS SELECT 1") },
		"replacing elsewhere": func(p *part) {
			first(p, kindView).Create = sqlText("CREATE OR REPLACE VIEW `" + victim + "`.`v` AS SELECT 1")
		},
		"behind a comment": func(p *part) {
			first(p, kindView).Create = sqlText("CREATE VIEW /* ` VIEW `v` AS */ `" + victim + "`/**/.`v` AS SELECT 1")
		},
		"behind a user's name": func(p *part) {
			first(p, kindView).Create = sqlText("CREATE DEFINER=\"\\\"@`% VIEW `v` AS SELECT `@\" VIEW `" + victim + "`.v AS SELECT 1 /*`*/")
		},
		"a body in two bytes": func(p *part) {
			o := first(p, kindView)
			o.Client, o.Connection = "gbk", "gbk_chinese_ci"
			o.Create = sqlText("CREATE DEFINER=`a\xbf`@`@h SQL SECURITY INVOKER VIEW " + victim + ".v AS SELECT 1 -- ` VIEW `v` AS SELECT 1")
		},
		"a procedure elsewhere": func(p *part) {
			first(p, kindProcedure).Create = sqlText("CREATE PROCEDURE `" + victim + "`.`p`() SELECT 1")
		},
		"a library": func(p *part) { first(p, kindFunction).Create = "CREATE FUNCTION shout RETURNS STRING SONAME 'evil.so'" },
		"an event that acts at once": func(p *part) {
			e := first(p, kindEvent)
			e.Create = sqlText("CREATE EVENT `" + e.Name + "` ON SCHEDULE EVERY 1 SECOND ON COMPLETION PRESERVE ENABLE /* */ DO BEGIN /* ON COMPLETION PRESERVE ENABLE DO */ DROP TABLE " + victim + ".t; END")
		},
		"an event with a strange definer": func(p *part) {
			e := first(p, kindEvent)
			e.Create = sqlText("CREATE DEFINER=`x EVENT ``y`@`%` EVENT `" + e.Name + "` ON SCHEDULE EVERY 1 SECOND ON COMPLETION PRESERVE ENABLE DO DROP TABLE " + victim + ".t")
		},
		"a table of a function's making": func(p *part) {
			users(p).Definition = strings.Replace(users(p).Definition, "ENGINE=", "SELECT "+w.schema+".act() AS id /* ENGINE=", 1) + "*/"
		},
		"a table over others": func(p *part) {
			t := users(p)
			t.Definition = "CREATE TABLE `users` (`id` int NOT NULL, PRIMARY KEY (`id`)) ENGINE=MRG_MyISAM INSERT_METHOD=LAST UNION=(`" + w.schema + "`.`secret`)"
		},
		"a table of another server": func(p *part) {
			users(p).Definition = "CREATE TABLE `users` (`id` int NOT NULL, PRIMARY KEY (`id`)) ENGINE=FEDERATED CONNECTION='mysql://root@127.0.0.1/x/t'"
		},
		"files elsewhere": func(p *part) {
			users(p).Definition = "CREATE TABLE `users` (`id` int NOT NULL, PRIMARY KEY (`id`)) ENGINE=MyISAM DATA DIRECTORY='/tmp/'"
		},
		"a key that is more": func(p *part) {
			t := users(p)
			t.Definition = strings.Replace(t.Definition, "UNIQUE KEY `name` (`name`)", "UNIQUE KEY `name` (`name`) /*'*/, RENAME TO `"+victim+"`.`stolen` /*'*/", 1)
		},
		"a range that is more": func(p *part) {
			users(p).Ranges[0].From, users(p).Ranges[0].To = border{"1"}, border{"9 OR " + w.schema + ".act()"}
		},
		"a routine that is not rehearsed": func(p *part) {
			o := first(p, kindProcedure)
			o.Broken, o.Create = true, sqlText("CREATE PROCEDURE `"+o.Name+"`() SELEC 1")
		},
		"a fence": func(p *part) { users(p).Name = fenceName(7) },
	}
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.T = t
			forged := w.forged(part0, attack)
			_, err := w.d.Preflight(t.Context(), remora.Job{Run: "r"}, remora.Intent{From: forged.fs()})
			t.Log("preflight:", err)
			_, err2 := w.d.Stage(t.Context(), remora.Job{Run: "r"}, forged.fs())
			t.Log("stage:", err2)
			if err2 == nil {
				diff, err3 := w.d.Compare(t.Context(), remora.Job{Run: "r"}, forged.fs())
				t.Log("compare:", diff.Differences, err3)
			}
			require.NoError(t, w.d.Discard(t.Context(), remora.Job{Run: "r"}, ""))
			require.Empty(t, w.leftovers())
			require.Equal(t, before, w.reading()+on.Dump(t, victim))
			require.Error(t, err)
		})
	}
}
