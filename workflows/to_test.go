package workflows

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// places are those of copies, by what is built there.
var places = map[remora.Kind]string{remora.Database: "shop_copy", remora.Files: "/srv/look"}

func copyElsewhere(kind remora.Kind) remora.ApplyRequest {
	req := applyRequest()
	req.To, req.Kinds = places[kind], []remora.Kind{kind}
	return req
}

func TestStoryOfACopyElsewhere(t *testing.T) {
	for kind := range places {
		w := newWorld(t)
		s := newStage(t, w, "op/shop")
		s.ExecuteWorkflow(remora.ApplyWorkflow, copyElsewhere(kind))
		require.NoError(t, s.GetWorkflowError())
		want := []string{"repository.Describe"}
		for _, verb := range []string{"Preflight", "Stage", "Compare", "Switch", "Leftovers", "Discard"} {
			want = append(want, kind.Activity(verb))
		}
		require.Equal(t, want, w.calls, "no safety backup, no maintenance, no checks, nothing of the other half")
		checkCopy(t, w, nil)
	}
}

// checkCopy holds the promise of a copy: it is there as a whole, or nothing of it is, and what is live was not touched.
func checkCopy(t *testing.T, w *world, err error) {
	t.Helper()
	w.lives(original)
	w.tidy()
	require.Len(t, w.backups, 1)
	if err == nil {
		require.Equal(t, saved, w.elsewhere.live)
	} else {
		require.Empty(t, w.elsewhere.live)
	}
}

func TestRestoreElsewhereEndsWithoutAWindow(t *testing.T) {
	for kind, chosen := range map[remora.Kind]remora.Selection{
		remora.Database: {Tables: []string{"orders"}, To: "shop_copy"},
		remora.Files:    {Paths: []string{"receipts/2026"}, To: "/srv/look"},
	} {
		w := newWorld(t)
		s := newStage(t, w, "restore/shop")
		req := request()
		req.Selection = chosen
		s.ExecuteWorkflow(remora.RestoreWorkflow, req)
		require.NoError(t, s.GetWorkflowError())
		var r remora.Restore
		require.NoError(t, s.GetWorkflowResult(&r))
		require.Equal(t, remora.OutcomeCopied, r.Outcome)
		require.NotEmpty(t, r.Phases)
		require.Equal(t, req.Selection, r.Selection)
		require.Equal(t, []remora.Kind{kind}, r.Kinds)
		require.Empty(t, r.Live)
		require.Zero(t, r.KeepUntil)
		require.NotZero(t, r.Ended)
		require.Equal(t, r, w.restores[r.ID])
		require.Equal(t, remora.OutcomeCopied, w.notices[len(w.notices)-1].Outcome)
		checkCopy(t, w, nil)

		req.Kinds = both
		s = newStage(t, newWorld(t), "restore/shop")
		s.ExecuteWorkflow(remora.RestoreWorkflow, req)
		require.ErrorContains(t, s.GetWorkflowError(), "is for the "+string(kind)+" alone")
	}
}

func TestTablesAndPathsOfOneBackupShareOneFate(t *testing.T) {
	w := newWorld(t)
	s := newStage(t, w, "op/shop")
	req := applyRequest()
	req.Kinds, req.Selection = nil, remora.Selection{Tables: []string{"orders"}, Paths: []string{"receipts/2026"}}
	s.ExecuteWorkflow(remora.ApplyWorkflow, req)
	require.NoError(t, s.GetWorkflowError())
	w.lives(saved)
	i := slices.Index(w.calls, remora.EnterActivity)
	require.Equal(t, []string{remora.EnterActivity, "database.Switch", "files.Switch"}, w.calls[i:i+3], "one maintenance for both: %v", w.calls)
	require.Equal(t, 1, w.count(remora.EnterActivity))
}

// Each choice brings its component, whose tables and paths then share one fate; a place of its own takes one component.
func TestWhatAChoiceOfABackupMeans(t *testing.T) {
	for name, c := range map[string]struct {
		asked []remora.Kind
		sel   remora.Selection
		want  []remora.Kind
		says  string
	}{
		"all":                          {nil, remora.Selection{}, both, ""},
		"tables":                       {nil, remora.Selection{Tables: []string{"a"}}, both[:1], ""},
		"paths":                        {nil, remora.Selection{Paths: []string{"a"}}, both[1:], ""},
		"tables and paths":             {nil, remora.Selection{Tables: []string{"a"}, Paths: []string{"b"}}, both, ""},
		"tables and all files":         {both[1:], remora.Selection{Tables: []string{"a"}}, both, ""},
		"the database and paths":       {both[:1], remora.Selection{Paths: []string{"a"}}, both, ""},
		"a schema":                     {nil, remora.Selection{To: "a"}, both[:1], ""},
		"a directory":                  {nil, remora.Selection{To: "/a"}, nil, "holds more than files"},
		"a directory for the files":    {both[1:], remora.Selection{To: "/a"}, both[1:], ""},
		"a directory for paths":        {nil, remora.Selection{To: "/a", Paths: []string{"b"}}, both[1:], ""},
		"a directory for tables":       {nil, remora.Selection{To: "/a", Tables: []string{"b"}}, nil, "a directory is for the files alone"},
		"a schema for paths":           {nil, remora.Selection{To: "a", Paths: []string{"b"}}, nil, "a schema is for the database alone"},
		"a directory for the database": {both[:1], remora.Selection{To: "/a"}, nil, "a directory is for the files alone"},
	} {
		t.Run(name, func(t *testing.T) {
			b := remora.Backup{Manifest: newWorld(t).backups["good"].manifest, Status: remora.Completed}
			kinds, err := restorable(b, remora.PlanRequest{Source: "shop", Kinds: c.asked, Selection: c.sel})
			require.Equal(t, c.want, kinds)
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
			}
		})
	}
	b := remora.Backup{Manifest: newWorld(t).backups["good"].manifest, Status: remora.Completed}
	b.Parts = b.Parts[1:]
	kinds, err := restorable(b, remora.PlanRequest{Source: "shop", Selection: remora.Selection{To: "/a"}})
	require.NoError(t, err, "there is nothing else in it")
	require.Equal(t, both[1:], kinds)
}

// S20: what a terminated copy left is settled by the journal: one that is in its place stays, any other is removed.
func TestS20ACopyThatLostItsWorkflowIsSettled(t *testing.T) {
	for kind := range places {
		t.Run(string(kind), func(t *testing.T) { lostCopies(t, kind) })
	}
}

func lostCopies(t *testing.T, kind remora.Kind) {
	for name, c := range map[string]struct {
		left *entry
		live string
		how  remora.Outcome
	}{
		"staged":           {&entry{kind: kind, stage: saved, live: remora.Replaced}, "", remora.OutcomeRolledBack},
		"switched":         {&entry{kind: kind, seq: 1, switched: true, live: remora.Restored}, saved, remora.OutcomeCopied},
		"on its way back":  {&entry{kind: kind, seq: 2, switched: true, away: saved, live: remora.Replaced}, "", remora.OutcomeRolledBack},
		"nothing was left": {nil, "", remora.OutcomeRolledBack},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.restores["r"] = remora.Restore{
				ID: "r", Run: "lost", Source: "shop", Backup: "good", Outcome: remora.OutcomeRunning, Selection: remora.Selection{To: places[kind]},
			}
			if c.left != nil {
				w.elsewhere.journal["lost"], w.elsewhere.live = c.left, c.live
				if name == "switched" && kind == remora.Database { // and the record was lost with it
					delete(w.restores, "r")
				}
			}
			s := newStage(t, w, "restore/shop")
			s.ExecuteWorkflow(remora.RestoreWorkflow, remora.RestoreRequest{PlanRequest: remora.PlanRequest{Source: "shop"}, RequestedBy: "ada", Adopt: true})
			require.NoError(t, s.GetWorkflowError())
			var r remora.Restore
			require.NoError(t, s.GetWorkflowResult(&r))
			require.Equal(t, c.how, r.Outcome)
			require.Equal(t, places[kind], r.To)
			require.Equal(t, c.live, w.elsewhere.live)
			w.lives(original)
			w.tidy()
		})
	}
}
