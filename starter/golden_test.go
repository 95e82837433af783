package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
)

// printed runs a printer with a fixed clock and gives what it wrote.
func printed(t *testing.T, output string, do func(a *app) error) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, do(&app{Out: &out, Err: &out, Now: now, Output: output, Width: func() int { return 80 }}))
	return out.String()
}

func ago(d time.Duration) time.Time { return now().Add(-d) }

func goodBackup() remora.Backup {
	started := ago(3 * time.Hour)
	return remora.Backup{
		Manifest: remora.Manifest{
			Format: 1, ID: "shop-20261123T090000Z-1f2e", Run: "run", Source: "shop", Name: "before migration", Kind: remora.FullBackup,
			Purpose: remora.Regular, RequestedBy: "alice@desk", Tool: "remora 1.0.0", Started: started, Ended: started.Add(95 * time.Second),
			Parts: []remora.PartRef{
				{
					Kind: remora.Database, Started: started, Ended: started.Add(time.Minute), Added: 1_200_000,
					Summary: remora.Summary{Objects: 3, Entries: 123_456, Bytes: 45_000_000, Facts: map[string]string{"server": "MySQL 9.7.0", "position": "binlog.000003:157"}},
				},
				{
					Kind: remora.Files, Started: started.Add(time.Minute), Ended: started.Add(90 * time.Second), Added: 800_000,
					Summary: remora.Summary{Objects: 2, Entries: 1, Bytes: 1_000, Warnings: []string{"receipts/x.sock: a socket is not stored"}},
				},
			},
		},
		Status: remora.Completed, Verification: &remora.Verification{At: started.Add(95 * time.Second), Bytes: 2_000_000},
	}
}

func failedBackup() remora.Backup {
	started := ago(26 * time.Hour)
	return remora.Backup{
		Manifest: remora.Manifest{
			ID: "shop-20261122T100000Z-00aa", Source: "shop", Kind: remora.FullBackup, Purpose: remora.Regular,
			RequestedBy: "alice@desk", Started: started, Ended: started.Add(4 * time.Second),
		},
		Status: remora.Failed, Phase: "check database of shop", Problem: "check the rights (remora@127.0.0.1): TRIGGER is missing\n\x1b[31m",
		Hint: "GRANT TRIGGER ON `shop`.* TO 'remora'@'127.0.0.1'",
	}
}

// scheduledBackups are a backup and slots without one, as the repository lists them.
func scheduledBackups() []remora.Backup {
	nightly := remora.Schedule{Source: "shop", Name: "nightly", Kinds: []remora.Kind{remora.Database}}
	good := goodBackup()
	good.Name, good.Slot, good.RequestedBy = "", remora.Slot{Schedule: "nightly", Due: good.Started.Add(-time.Minute)}, nightly.Actor()
	all := []remora.Backup{good}
	for i, f := range []remora.FailedRun{
		nightly.Without(remora.Skipped, ago(27*time.Hour), "the source was busy until the deadline: a restore by alice@host, since 2026-11-22 08:00 UTC", "Take a backup once it is over: remora backup shop"),
		nightly.Without(remora.Missed, ago(51*time.Hour), "nobody was there to begin it: Temporal or every worker was away", "See that Temporal and a remora-worker are running: remora check."),
	} {
		b := remora.Backup{Status: f.Status, Problem: f.Problem, Hint: f.Hint}
		b.ID, b.Source, b.Slot, b.Kind, b.Purpose, b.RequestedBy = f.ID, f.Source, f.Slot, f.Kind, f.Purpose, f.RequestedBy
		b.Started, b.Ended = f.Started, f.Ended.Add(time.Duration(i)*time.Hour)
		all = append(all, b)
	}
	return all
}

func safetyBackup() remora.Backup {
	b := goodBackup()
	b.ID, b.Name, b.Purpose, b.OfRestore = "shop-20261123T093000Z-77ab", "", remora.Safety, "shop-restore-20261123T093000Z-0c0c"
	b.Started = ago(150 * time.Minute)
	b.Status, b.Verification = remora.Pending, nil
	return b
}

func openRestore() remora.Restore {
	return remora.Restore{
		ID: "shop-restore-20261123T093000Z-0c0c", Run: "run", Source: "shop", Backup: goodBackup().ID,
		Kinds: []remora.Kind{remora.Database, remora.Files}, RequestedBy: "alice@desk", Outcome: remora.OutcomeApplied,
		Live: remora.Restored, Started: ago(150 * time.Minute), KeepUntil: now().Add(21 * time.Hour), SafetyBackup: safetyBackup().ID,
		Phases: []remora.Phase{{Name: "stage database of shop", Took: 42 * time.Second}, {Name: "switch database of shop", Took: 250 * time.Millisecond}},
	}
}

func overRestore() remora.Restore {
	r := openRestore()
	r.ID, r.Outcome, r.Started, r.Ended = "shop-restore-20261101T093000Z-0d0d", remora.OutcomeAccepted, ago(22*24*time.Hour), ago(21*24*time.Hour)
	r.PutAwayBackup = "shop-20261102T120000Z-9f9f"
	return r
}

// everyRestore is one restore of each outcome.
func everyRestore() (all []remora.Restore) {
	loaded := remora.Summary{Objects: 3, Entries: 123_456, Bytes: 45_000_000}
	before := []remora.Phase{
		{Name: "look up backup " + goodBackup().ID, Took: 3 * time.Millisecond},
		{Name: "check database of shop", Took: 40 * time.Millisecond, Summary: &loaded},
		{Name: "dump database of shop", Took: 4 * time.Second, Summary: &loaded},
		{Name: "verify", Took: time.Second, Summary: &remora.Summary{Bytes: 2_000_000}},
		{Name: "stage database of shop", Took: 9 * time.Second, Summary: &loaded},
	}
	switched := append(slices.Clone(before), remora.Phase{Name: "maintenance on", Took: 20 * time.Millisecond},
		remora.Phase{Name: "switch database of shop", Took: 250 * time.Millisecond}, remora.Phase{Name: "maintenance off", Took: 30 * time.Millisecond})
	for i, one := range []remora.Restore{
		{Outcome: remora.OutcomeRunning, Hint: "It waits for the running operation on shop, which was asked to stop."},
		{Outcome: remora.OutcomeApplied, Live: remora.Restored, Phases: append(slices.Clone(switched), remora.Phase{Name: "extend the undo window until 2026-11-24T09:00:00Z", Took: 40 * time.Millisecond, RequestedBy: "grace@desk"})},
		{Outcome: remora.OutcomeUndone, Live: remora.Replaced, Phases: append(slices.Clone(switched), remora.Phase{Name: "make the replaced side live", Took: time.Second, RequestedBy: "grace@desk"})},
		{Outcome: remora.OutcomeAccepted, Live: remora.Restored, PutAwayBackup: "shop-20261123T120000Z-9f9f", Phases: append(slices.Clone(switched), remora.Phase{Name: "save and discard what was put away", Took: 6 * time.Second, RequestedBy: "grace@desk"})},
		{Outcome: remora.OutcomeExpired, Live: remora.Restored, PutAwayBackup: "shop-20261123T120000Z-9f9f", Phases: append(slices.Clone(switched), remora.Phase{Name: "save and discard what was put away", Took: 6 * time.Second})},
		{
			Outcome: remora.OutcomeRolledBack, Problem: "switch database of shop (schema shop): its tables are in use by connection 12 of web (340 s); nothing was changed; the source is as it was before", Hint: "end them, for instance with KILL 12",
			Phases: append(slices.Clone(before), remora.Phase{Name: "maintenance on", Took: 20 * time.Millisecond}, remora.Phase{Name: "switch database of shop", Took: 15 * time.Second, Failed: true},
				remora.Phase{Name: "way back: switch database back", Took: 90 * time.Millisecond}, remora.Phase{Name: "way back: leave maintenance", Took: 30 * time.Millisecond}, remora.Phase{Name: "way back: discard what was staged", Took: time.Second}),
		},
		{Outcome: remora.OutcomeCopied, Selection: remora.Selection{To: "shop_copy"}, Phases: append(slices.Clone(before), remora.Phase{Name: "build schema shop_copy", Took: time.Second})},
		{
			Outcome: remora.OutcomeRefused, Problem: "plan the restore of shop (127.0.0.1:3306): the server does not take rows from a client: local_infile is OFF", Hint: "SET PERSIST local_infile = ON; on the server, as an administrator",
			Phases: []remora.Phase{before[0], {Name: "check database of shop", Took: 40 * time.Millisecond, Failed: true}},
		},
	} {
		r := openRestore()
		r.ID = strings.Replace(r.ID, "0c0c", fmt.Sprintf("000%d", i), 1)
		r.Outcome, r.Live, r.Selection, r.PutAwayBackup, r.Phases, r.Problem, r.Hint = one.Outcome, one.Live, one.Selection, one.PutAwayBackup, one.Phases, one.Problem, one.Hint
		if r.Kinds = r.Kinds[:1]; !r.Outcome.Unsettled() {
			r.Ended = ago(2 * time.Hour)
		}
		if r.Outcome == remora.OutcomeRunning || r.Outcome == remora.OutcomeCopied || r.Outcome == remora.OutcomeRefused {
			r.SafetyBackup = ""
		}
		all = append(all, r)
	}
	return all
}

func plan() remora.Plan {
	b := goodBackup()
	return remora.Plan{
		Source: "shop", Backup: b, Kinds: []remora.Kind{remora.Database, remora.Files}, Undo: 24 * time.Hour, Hash: "h",
		Times: remora.Times{Prepare: 42 * time.Second, Interruption: 2300 * time.Millisecond, By: overRestore().ID},
		Targets: []remora.Target{
			{
				Kind: remora.Database, Restores: b.Parts[0].Summary,
				Live: remora.Estimate{
					Identity: "MySQL 9.7.0 at 127.0.0.1:3306", Summary: remora.Summary{Objects: 2, Entries: 99_000, Bytes: 40_000_000},
					Replaces: []string{"table shop.orders (about 1,200 rows)", "table shop.users (about 97,800 rows)"},
					Warnings: []string{"the safety backup may not fit: see that there is room (/var/backups): need 40 MB, have 1 MB", "table shop.orders_new is not in the backup and will be put away"},
					Shape: remora.Shape{
						Creates: []string{"view shop.sales"}, Replaces: []string{"table shop.users"}, Drops: []string{"table shop.orders_new", "event shop.e1", "event shop.e2", "event shop.e3", "event shop.e4", "event shop.e5"},
						Schema: "table shop.users\n@@ -1,3 +1,2 @@\n `id` int NOT NULL,\n-`oops` varchar(9) DEFAULT NULL,\n PRIMARY KEY (`id`)",
					},
					Space: []remora.Space{{At: "/var/lib/mysql", For: "the stage, the binary log", Need: 90_000_000, Free: new(int64(30_000_000_000))}, {At: "/tmp", For: "sorting keys", Need: 9_000_000}},
				},
			},
			{Kind: remora.Files, Restores: b.Parts[1].Summary, Live: remora.Estimate{Identity: "/srv/shop/storage", Empty: true}},
		},
	}
}

func TestTextsForPeople(t *testing.T) {
	backups := []remora.Backup{goodBackup(), safetyBackup(), failedBackup()}
	for name, do := range map[string]func(a *app) error{
		"history":      func(a *app) error { return a.printHistory(backups) },
		"history-none": func(a *app) error { return a.printHistory(nil) },
		"show-good":    func(a *app) error { return a.printBackup(goodBackup()) },
		"show-copied": func(a *app) error {
			b := goodBackup()
			b.Copies, b.Location, b.Because = []string{"cloud", "offsite"}, "offsite", "the repository at /b does not hold it"
			return errors.Join(a.printBackup(b), a.printHistory([]remora.Backup{b}))
		},
		"show-proven": func(a *app) error {
			b, failed := goodBackup(), goodBackup()
			b.Proof = &remora.Proof{Backup: b.ID, Outcome: remora.Proven, Started: ago(3 * 24 * time.Hour), Took: 6*time.Minute + 40*time.Second, Rows: 123_456, Files: 1, Bytes: 46_000_000, Checks: 2}
			failed.Proof = &remora.Proof{Outcome: remora.DrillFailing, Started: ago(time.Hour), Problem: "check staged database of shop (backup " + b.ID + "): sources.shop.checks[0]: it gives no row"}
			o := control.Overview{Sentence: "shop is protected.", Worker: true, Sources: []control.SourceStatus{{Source: "shop", Newest: &b, Last: &b, Proof: b.Proof}}}
			return errors.Join(a.printEnded(control.Ended{Proof: b.Proof}), a.printStatus(o), a.printBackup(b), a.printBackup(failed), a.printHistory([]remora.Backup{b, failed}))
		},
		"plan-copy": func(a *app) error {
			p := plan()
			p.Backup.Location, p.Backup.Because = "offsite", "the repository at /var/backups/remora cannot be opened: there is no repository"
			return a.printPlan(p, "", "")
		},
		"plan-to": func(a *app) error {
			p := plan()
			p.Kinds, p.Targets = p.Kinds[:1], p.Targets[:1]
			p.Selection = remora.Selection{Tables: []string{"orders", "order_items"}, To: "shop_copy"}
			p.Targets[0].Live.Empty, p.Targets[0].Live.Replaces = true, nil
			p.Targets[0].Live.Warnings = []string{"foreign keys are left out, because what they lead to is not built with them: orders to users"}
			return a.printPlan(p, "/srv/shop/storage/framework/down", "")
		},
		"plan-paths": func(a *app) error {
			p := plan()
			p.Selection = remora.Selection{Tables: []string{"orders"}, Paths: []string{"receipts/2026", "pre-alerts/a\nb.pdf"}}
			return a.printPlan(p, "", "")
		},
		"plan-directory": func(a *app) error {
			p := plan()
			p.Kinds, p.Targets = p.Kinds[1:], p.Targets[1:]
			p.Selection = remora.Selection{To: "/srv/look"}
			r := openRestore()
			r.Outcome, r.Selection = remora.OutcomeCopied, p.Selection
			return errors.Join(a.printPlan(p, "", ""), a.printEnded(control.Ended{Restore: &r}))
		},
		"history-slots":  func(a *app) error { return a.printHistory(scheduledBackups()) },
		"show-slot":      func(a *app) error { return a.printBackup(scheduledBackups()[0]) },
		"show-skipped":   func(a *app) error { return a.printBackup(scheduledBackups()[1]) },
		"show-failed":    func(a *app) error { return a.printBackup(failedBackup()) },
		"show-safety":    func(a *app) error { return a.printBackup(safetyBackup()) },
		"show-restore":   func(a *app) error { return a.printRestore(openRestore()) },
		"show-over":      func(a *app) error { return a.printRestore(overRestore()) },
		"show-restores":  func(a *app) error { return errors.Join(each(everyRestore(), a.printRestore)...) },
		"restores-ended": func(a *app) error { return a.printRestores(everyRestore()) },
		"extended":       func(a *app) error { return a.answer(nil, a.text("extended", openRestore())) },
		"restores":       func(a *app) error { return a.printRestores([]remora.Restore{openRestore(), overRestore()}) },
		"plan":           func(a *app) error { return a.printPlan(plan(), "/srv/shop/storage/framework/down", "") },
		"plan-no-safety": func(a *app) error { return a.printPlan(plan(), "", "the disk is\nfull") },
		"plan-nothing": func(a *app) error {
			p := plan()
			p.Kinds, p.Targets = p.Kinds[1:], p.Targets[1:]
			return a.printPlan(p, "", "")
		},
		"plan-preview": func(a *app) error {
			p := plan()
			p.Targets[1].Preview = &remora.Preview{
				Directories: []remora.DirectoryPreview{{Name: "pre-alerts", Now: 40, Then: 40}, {Name: "receipts", Now: 12_345, Then: 12_344, Added: 1, Removed: 2, Changed: 130}},
				Names:       []string{"+ receipts/2026/7.pdf", "~ receipts/a\\nb.pdf", "- receipts/virus.exe"},
			}
			p.Targets[0].Live.Warnings = []string{"a restore would be refused now: plan the restore of shop (schema shop): the restore with run r1 is not settled"}
			p.Targets[0].Preview = &remora.Preview{
				Tables: []remora.TablePreview{
					{Name: "shop.orders", Now: 1_234_567, Then: 1_234_321, Ranges: 12, Differ: 2, Added: 4, Removed: 250, Changed: 17},
					{Name: "shop.orders_new", Now: 3, Removed: 3},
					{Name: "shop.users", Now: 97_800, Then: 97_799, Counted: true},
				},
				Equal: 12, More: 1, Shape: remora.Shape{
					Creates: []string{"view shop.sales"}, Replaces: []string{"table shop.users"}, Drops: []string{"table shop.orders_new"},
					Schema: "table shop.users\n@@ -1,3 +1,2 @@\n `id` int NOT NULL,\n-`oops` varchar(9) DEFAULT '\t\x1b',\n PRIMARY KEY (`id`)\nview shop.sales\n@@ -0,0 +1,1 @@\n+CREATE VIEW `sales` AS select 1\n",
				},
			}
			return a.printPlan(p, "", "")
		},
		"preview-equal": func(a *app) error {
			p := plan()
			p.Targets = []remora.Target{{Kind: remora.Database, Preview: &remora.Preview{Equal: 3}}}
			return a.printPlan(p, "", "")
		},
		"restored": func(a *app) error { return a.printEnded(control.Ended{Restore: new(openRestore())}) },
		"copied": func(a *app) error {
			r := overRestore()
			r.Outcome, r.Selection, r.PutAwayBackup, r.SafetyBackup, r.Live = remora.OutcomeCopied, remora.Selection{Tables: []string{"orders"}, To: "shop_copy"}, "", "", ""
			r.Kinds = r.Kinds[:1]
			return errors.Join(a.printEnded(control.Ended{Restore: &r}), a.printRestore(r), a.printRestores([]remora.Restore{r}))
		},
		"turned": func(a *app) error {
			r := openRestore()
			r.Outcome = remora.OutcomeUndone
			return errors.Join(a.answer(nil, a.text("turned", r)), a.answer(nil, a.text("turned", openRestore())))
		},
		"accepted": func(a *app) error { return a.answer(nil, a.text("accepted", overRestore())) },
		"status":   func(a *app) error { return a.printStatus(overview()) },
		"findings": func(a *app) error {
			failing := remora.Finding{Level: remora.Failing, Subject: "database of shop", Said: "no\nway", Hint: "GRANT SELECT"}
			require.Error(t, a.printFindings([]remora.Finding{failing}))
			return a.printFindings([]remora.Finding{remora.Found(remora.Fine, "clock", "it is right"), remora.Found(remora.Warning, "repository", "little space")})
		},
		"ended": func(a *app) error {
			return errors.Join(
				a.printEnded(control.Ended{Backup: &remora.BackupResult{ID: "shop-1", Bytes: 45_000_000, Added: 2_000_000, Copying: []string{"cloud", "offsite"}, Warnings: []string{"a\tb\nc"}}}),
				a.printEnded(control.Ended{Copied: &remora.Copied{To: "offsite", Backups: 1, Bytes: 45_000_000, Added: 2_000_000, Removed: 2}}),
				a.printEnded(control.Ended{Copied: &remora.Copied{To: "offsite"}}),
				a.printEnded(control.Ended{Retention: &remora.RetentionResult{Kept: 5, Deleted: 2, Spared: 1, Freed: 1_000_000, Later: 3_000_000, Owed: 5_000_000}}),
				a.answer(nil, a.text("notified", remora.Notified{Delivered: []string{"ada@example.com"}, Undelivered: []remora.Undelivered{{To: "webhook", Problem: "it answered\n404"}}})),
			)
		},
		"over": func(a *app) error {
			s := &session{app: a}
			a.printError(s.over("roll back", overRestore()))
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := printed(t, textOutput, do)
			require.NotContains(t, got, "\x1b")
			golden(t, "testdata/"+name+".txt", got)
		})
	}
}

func overview() control.Overview {
	good, failed, window := goodBackup(), failedBackup(), openRestore()
	failed.Started = ago(time.Hour)
	window.Problem, window.Hint = "end the undo window: no space", "Free some space, then ask again."
	return control.Overview{
		Sentence: "3 of 4 sources need a look: blog has no backup yet; shop has had no good backup of its files for 2 days (objective 26 h); wiki is protected, but 2 slots passed without a backup.", Worker: true,
		Monitored: ago(5 * time.Hour),
		Alerts:    []remora.Alert{{Key: "queue/remora-data", Problem: "no worker takes work from the queue remora-data", Hint: "start one with: remora up, or remora-worker", Since: ago(20 * time.Minute)}},
		Sources: []control.SourceStatus{
			{Source: "blog"},
			{
				Source: "shop", Newest: &good, Last: &failed, FailedSince: 1, Window: &window, Objective: 26 * time.Hour, Overdue: 50 * time.Hour, Late: remora.Files,
				Stored: 1_234_567_890, Next: now().Add(5 * time.Hour),
			},
			{
				Source: "wiki", Newest: &good, Last: &good, Objective: 26 * time.Hour, Stored: 45_000_000, Next: now().Add(40 * time.Minute),
				Alerts: []remora.Alert{{Key: "missed/wiki", Problem: "2 slots passed without a backup; the last one, nightly of 2026-11-23 02:30: nobody was there to begin it: Temporal or every worker was away", Hint: "take one now: remora backup wiki", Since: ago(2 * time.Hour)}},
				Behind: []control.Behind{{Copy: "offsite", Backups: 3, Since: ago(50 * time.Hour)}}, Running: &control.Running{
					Operation: "a backup", By: "bob@desk", Since: ago(4 * time.Minute), Phase: "dump wiki", Attempt: 2, Problem: "connection lost",
					Progress: &remora.Progress{Phase: "dump wiki", Done: 1_200_000_000, Total: 2_800_000_000, Unit: "bytes"},
				},
			},
			{Source: "a-source-with-a-name-of-forty-letters-ok", Newest: &good, Last: &good, Objective: 26 * time.Hour, Stored: 999_000_000_000, Next: now().Add(40 * time.Hour)},
		},
	}
}

// Lists are one object a line, each of which is the record itself.
func TestJSONOfListsIsOneRecordALine(t *testing.T) {
	out := printed(t, jsonOutput, func(a *app) error { return a.printHistory([]remora.Backup{goodBackup(), failedBackup()}) })
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 2)
	var b remora.Backup
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &b))
	require.Equal(t, goodBackup(), b)
	require.Contains(t, lines[0], `"started":"2026-11-23T09:00:00Z"`, "times are RFC 3339")

	out = printed(t, jsonOutput, func(a *app) error { return a.printRestores([]remora.Restore{openRestore()}) })
	var r remora.Restore
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.Equal(t, openRestore(), r)
	require.Empty(t, printed(t, jsonOutput, func(a *app) error { return a.printHistory(nil) }))
}

func run1() []control.Update {
	at := ago(time.Minute)
	p := func(done int64) *remora.Progress {
		return &remora.Progress{Phase: "dump shop", Done: done, Total: 2_800_000_000, Unit: "bytes", Item: "orders", Since: ago(10 * time.Second)}
	}
	return []control.Update{
		{Event: control.PhaseStarted, At: at, Phase: "dump database of shop"},
		{Event: control.Progressed, At: at.Add(3 * time.Second), Phase: "dump database of shop", Progress: p(1_200_000_000)},
		{Event: control.Retrying, At: at, Phase: "dump database of shop", Attempt: 2, Problem: "connection lost", Next: now().Add(4 * time.Second)},
		{Event: control.Progressed, At: at, Phase: "dump database of shop", Progress: p(2_400_000_000), Attempt: 2},
		{Event: control.Noticed, At: at, Message: control.NoWorker},
		{Event: control.PhaseEnded, At: at, Phase: "dump database of shop", Took: 4200 * time.Millisecond, Kind: remora.Database, Summary: &remora.Summary{Objects: 3, Entries: 1200, Bytes: 3_100_000}},
		{Event: control.PhaseStarted, At: at, Phase: "maintenance on for shop"},
		{Event: control.PhaseEnded, At: at, Phase: "maintenance on for shop", Skipped: "no maintenance mode is configured"},
		{Event: control.PhaseStarted, At: at, Phase: "verify"},
		{Event: control.PhaseEnded, At: at, Phase: "verify", Took: time.Second, Problem: "read block (p123): damaged"},
	}
}

func TestAPipeGetsALineForEachEndAndForALongBeginning(t *testing.T) {
	golden(t, "testdata/follow-pipe.txt", printed(t, textOutput, func(a *app) error {
		teller := newTeller(a)
		for _, u := range run1() {
			teller.tell(u)
		}
		return nil
	}))
}

func TestATerminalGetsOneLineThatIsRewritten(t *testing.T) {
	out := printed(t, textOutput, func(a *app) error {
		a.Live = true
		teller := newTeller(a)
		for _, u := range run1() {
			teller.tell(u)
		}
		teller.clear()
		return nil
	})
	golden(t, "testdata/follow-terminal.txt", strings.ReplaceAll(out, "\r", "<CR>"))
	for _, line := range strings.FieldsFunc(out, func(r rune) bool { return r == '\r' || r == '\n' }) {
		if !strings.Contains(line, ":") { // lines that stay may wrap; the rewritten one may not
			require.Less(t, len([]rune(line)), 80, line)
		}
	}
}

func TestJSONOfARunIsOneUpdateALine(t *testing.T) {
	out := printed(t, jsonOutput, func(a *app) error {
		teller := newTeller(a)
		for _, u := range run1() {
			teller.tell(u)
		}
		return nil
	})
	var events []string
	dec := json.NewDecoder(strings.NewReader(out))
	for dec.More() {
		var u struct{ Event string }
		require.NoError(t, dec.Decode(&u))
		events = append(events, u.Event)
	}
	require.Equal(t, []string{"phase_started", "progress", "retry", "progress", "notice", "phase_ended", "phase_started", "phase_ended", "phase_started", "phase_ended"}, events)
}
