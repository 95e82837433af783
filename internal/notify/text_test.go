package notify

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

var keep = flag.String("mails", "", "a directory to keep the mails in, to look at them")

var at = time.Date(2026, 11, 27, 1, 42, 10, 0, time.UTC)

// Whoever reads golden files reads what people get: one of each event and variant.
func examples() map[string]remora.Notice {
	const (
		backup  = "shop-20261127-023000-4f1c"
		restore = "shop-r-20261127-021003-9b2e"
	)
	started := at.Add(-12*time.Minute - 10*time.Second)
	window := at.Add(24 * time.Hour)
	restored := func(how remora.Outcome) remora.Notice {
		return remora.Notice{Event: remora.RestoreEvent, Source: "shop", Subject: restore, Backup: backup, Outcome: how, By: "ada@ops1", Started: started}
	}
	with := func(n remora.Notice, change func(*remora.Notice)) remora.Notice {
		change(&n)
		return n
	}
	overdue := remora.Notice{
		Source: "shop", Since: at.Add(-3 * time.Hour),
		Problem: "the newest good backup is 29 h old, and may be 26 h old", Hint: "Take one now, and see why the schedule did not: remora backup shop",
	}
	alert := func(e remora.Event) remora.Notice { return with(overdue, func(n *remora.Notice) { n.Event = e }) }
	return map[string]remora.Notice{
		"backup-failed": {
			Event: remora.BackupFailed, Source: "shop", Subject: backup, By: "schedule", Phase: "dump database of shop", Started: started, Due: started,
			Problem: "dump database of shop (127.0.0.1:3306): the server refused the user remora", Hint: "Correct the password in /etc/remora/shop.password, then run: remora check\nGRANT SELECT, RELOAD, BACKUP_ADMIN ON *.* TO 'remora'@'%';",
		},
		"backup-completed":          {Event: remora.BackupCompleted, Source: "shop", Subject: backup, By: "schedule", Started: started, Bytes: 48_200_000_000, Added: 310_000_000},
		"backup-completed-warnings": {Event: remora.BackupCompleted, Source: "shop", Subject: backup, By: "ada@ops1", Started: started, Bytes: 48_200_000_000, Added: 310_000_000, Warnings: []string{"receipts/2026/11/0042.pdf was removed while it was read", "table shop.sessions has no primary key"}},
		"slot-skipped":              {Event: remora.SlotSkipped, Source: "shop", Subject: "nightly", Due: started, Problem: "the source was busy for 1h0m0s: a restore that ada@ops1 asked for holds it", Hint: "See whether that restore moves: remora watch shop"},
		"restore-applied":           with(restored(remora.OutcomeApplied), func(n *remora.Notice) { n.KeepUntil = window }),
		"restore-applied-warnings": with(restored(remora.OutcomeApplied), func(n *remora.Notice) {
			n.Warnings = []string{"sources.shop.checks[1]: https://shop.example/up answered 500"}
		}),
		"restore-undone":   with(restored(remora.OutcomeUndone), func(n *remora.Notice) { n.KeepUntil = window }),
		"restore-extended": with(restored(remora.OutcomeApplied), func(n *remora.Notice) { n.Event, n.KeepUntil = remora.RestoreExtended, window }),
		"restore-rolled-back": with(restored(remora.OutcomeRolledBack), func(n *remora.Notice) {
			n.Problem, n.Hint = "compare staged database of shop: 2 rows of shop.orders differ from the backup", "Verify the backup: remora verify "+backup
		}),
		"restore-refused": with(restored(remora.OutcomeRefused), func(n *remora.Notice) {
			n.Problem, n.Hint = "check files of shop (/var/www/shop/storage): 31 GB are needed and 12 GB are free", "Make room on that disk."
		}),
		"restore-accepted": restored(remora.OutcomeAccepted),
		"restore-copied":   restored(remora.OutcomeCopied),
		"restore-expired":  with(restored(remora.OutcomeExpired), func(n *remora.Notice) { n.By = "" }),
		"restore-running":  restored(remora.OutcomeRunning),
		"needs-person":     {Event: remora.NeedsPerson, Source: "shop", Subject: restore, Phase: "maintenance off for shop", Problem: "bring the application back (http://127.0.0.1/up): it answered 500 Internal Server Error", Hint: "See whether http://127.0.0.1 is up."},
		"needs-person-window": {
			Event: remora.NeedsPerson, Source: "shop", Subject: restore, Outcome: remora.OutcomeApplied, Problem: "end the undo window of " + restore + ": no space left on device; nothing was discarded and the undo window stays open",
			Hint: "Make room on that disk.",
		},
		"retention-refused": {Event: remora.RetentionRefused, Source: "shop", Problem: "18 of 22 backups would be deleted, more than half", Hint: "If that is meant, type what `remora cleanup shop --dry-run` says at its end."},
		"backup-corrupt":    {Event: remora.BackupCorrupt, Source: "shop", Subject: backup, Problem: "verify (" + backup + "): database/orders.tsv: the blob p3f1 is missing"},
		"copy-failed":       {Event: remora.CopyFailed, Source: "shop", Subject: "offsite", Backup: backup, Problem: "open the repository (s3:https://s3.example/remora): no answer within 1m0s", Hint: "See whether it can be reached from the worker."},
		"drill-failed": {
			Event: remora.DrillFailed, Source: "shop", Subject: "shop-drill-20261127T013000Z-9b2e", Backup: backup, By: "schedule weekly", Started: started, Phase: "check staged database of shop",
			Problem: "check staged database of shop (backup " + backup + "): sources.shop.checks[0]: its first column is not true", Hint: "Correct the check, or prove another backup: remora drill shop --backup BACKUP",
		},
		"drill-error": {
			Event: remora.DrillError, Source: "shop", Subject: "shop-drill-20261127T013000Z-9b2e", Backup: backup, By: "schedule weekly", Started: started, Phase: "stage database of shop",
			Problem: "load shop (table shop.orders): the disk of the server is full", Hint: "Make room on that disk.",
		},
		"copy-all-failed": {Event: remora.CopyFailed, Subject: "offsite", Problem: "open the repository (/mnt/nas/remora): it is not there any more", Hint: "see that its disk is mounted"},
		"alert-raised":    alert(remora.AlertRaised),
		"alert-reminder":  alert(remora.AlertReminder),
		"alert-cleared":   with(alert(remora.AlertCleared), func(n *remora.Notice) { n.Hint = "" }),
		"alert-worker":    {Event: remora.AlertRaised, Problem: "no worker takes work from the queue remora-data", Hint: "Start one: remora-worker", Since: at.Add(-10 * time.Minute)},
		"test":            {Event: remora.TestEvent, By: "ada@ops1"},
	}
}

func inBerlin(t *testing.T) *Sender {
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	return New(Config{Host: "ops1", Zone: berlin})
}

func TestTexts(t *testing.T) {
	s, told := inBerlin(t), map[remora.Event]bool{}
	for name, n := range examples() {
		t.Run(name, func(t *testing.T) {
			n.ID, n.At = "4f1c/"+name, at
			m, err := s.write(n)
			require.NoError(t, err)
			require.NotEmpty(t, m.Title)
			require.Contains(t, []string{"good", "warn", "bad"}, m.Tone)
			require.NotEmpty(t, m.Said)
			require.NotEmpty(t, m.Todo)
			html, err := m.html()
			require.NoError(t, err)
			require.NotRegexp(t, regexp.MustCompile(`(?i)<(img|script|link|style|a)\b|url\(|https?://[^<]*"`), html, "a mail needs nothing from elsewhere")
			if *keep != "" {
				require.NoError(t, os.WriteFile(filepath.Join(*keep, name+".html"), []byte(html), 0o600))
			}
			told[n.Event] = true
			golden(t, filepath.Join("testdata", name+".txt"), "Subject: "+m.Subject+"\n\n"+m.text())
			if name == "backup-failed" { // the others differ in their words alone
				golden(t, filepath.Join("testdata", name+".html"), html)
			}
		})
	}
	for _, e := range []remora.Event{
		remora.BackupFailed, remora.BackupCompleted, remora.SlotSkipped, remora.RestoreEvent, remora.RestoreExtended, remora.NeedsPerson, remora.RetentionRefused,
		remora.BackupCorrupt, remora.CopyFailed, remora.DrillFailed, remora.DrillError, remora.AlertRaised, remora.AlertReminder, remora.AlertCleared, remora.TestEvent,
	} {
		require.True(t, told[e], "an example of %s", e)
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "UPDATE_GOLDEN=1 go test ./internal/notify writes it")
	require.Equal(t, string(want), got)
}

// Whatever a source, a table or a file is called, it stays a name.
func TestHostileNames(t *testing.T) {
	for name, hostile := range map[string]string{
		"header":       "shop\r\nBcc: eve@example.com\r\n\r\nrun: rm -rf /",
		"html":         `<img src=x onerror="alert(1)"><script>alert(1)</script>`,
		"attribute":    `" onmouseover="alert(1)`,
		"template":     `{{.Host}} {{template "test" .}} ${7*7} <%= 7 %>`,
		"backwards":    "gpj.\u202eexe\u2066",
		"shell":        "shop'; rm -rf / #",
		"line":         "shop\nrun: rm -rf /\ntone: good\u2028means: all is well",
		"long":         strings.Repeat("x{{<\r\n", 2000),
		"not UTF-8":    "shop\xff\xfe",
		"only control": "\x00\x1b[31m\x7f",
	} {
		t.Run(name, func(t *testing.T) {
			s := inBerlin(t)
			for kind, n := range examples() {
				n.ID, n.At = kind, at
				m, err := s.write(n)
				require.NoError(t, err)
				for _, to := range []*string{&n.Source, &n.Subject, &n.Backup, &n.By, &n.Phase, &n.Problem, &n.Hint, &n.ID} {
					*to = hostile
				}
				n.Warnings = []string{hostile}
				h, err := s.write(n)
				require.NoError(t, err)
				require.Equal(t, m.Tone == "good", h.Tone == "good" || kind == "backup-completed" || kind == "restore-applied")
				require.NotRegexp(t, `[\r\n\x00-\x1f\x7f\x{202e}\x{2066}\x{2028}]`, h.Subject)
				require.LessOrEqual(t, len(h.Subject), maxSubject+len("[remora] "))
				for _, todo := range h.Todo {
					if todo.Command != "" {
						require.True(t, strings.HasPrefix(todo.Command, "remora "), todo.Command)
						require.NotContains(t, strings.ReplaceAll(todo.Command, `'\''`, ""), `'; rm`)
					}
					require.NotContains(t, todo.Text+todo.Command, "\n")
				}
				html, err := h.html()
				require.NoError(t, err)
				require.NotContains(t, html, "<img")
				require.NotContains(t, html, "<script")
				require.NotContains(t, html, `" onmouseover`)
				require.NotContains(t, html, "\u202e")
				require.Less(t, len(html), 64<<10)
				for _, line := range strings.Split(h.text(), "\n") {
					require.False(t, strings.HasPrefix(line, "Bcc:"), line)
				}
				if name == "template" {
					require.Contains(t, h.text(), "{{.Host}}", "it is told as it is")
				}
			}
		})
	}
}
