package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
)

// restoreFlags are what the command line says about a restore.
type restoreFlags struct {
	database, files bool
	source, from    string
	undo            string
	withoutSafety   string
	force, detach   bool
}

func newRestoreCommand(a *app) *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore BACKUP",
		Short: "Bring a backup back, so that it can be undone",
		Long: `Shows what a restore would replace, and asks for the source's name. Then it saves what is live as a safety backup, loads the
backup beside the live data, compares every row and file with the backup, and switches in a moment. Until the switch the
live data is not touched; after any failure it is what it was. What was replaced is kept for the undo window.
` + refHelp + `

Ctrl-C stops watching, not the restore.`,
		Example: "  remora restore latest --source shop\n  remora restore shop-20261123T023000Z-1f2e --files --undo-window 72h",
		Args:    exactly(1, "one BACKUP"),
		PreRunE: func(cmd *cobra.Command, _ []string) error { return a.checkRestore(cmd, f) },
		RunE: a.with(needRepository|needControl, func(ctx context.Context, s *session, args []string) error {
			b, err := s.backup(ctx, args[0], f.source, f.from)
			if err != nil {
				return err
			}
			req, err := s.planRequest(b, f)
			if err != nil {
				return err
			}
			return s.restore(ctx, req, f)
		}),
	}
	cmd.Flags().BoolVar(&f.database, "database", false, "restore the database alone")
	cmd.Flags().BoolVar(&f.files, "files", false, "restore the files alone")
	cmd.Flags().StringVar(&f.source, "source", "", "the `source` that latest, or a name, is looked for in")
	cmd.Flags().StringVar(&f.from, "from", "", "read it from this `copy` (default: from the repository, or else from the copy that has it)")
	cmd.Flags().StringVar(&f.undo, "undo-window", "", "the `length` of time that the restore can be undone, such as 72h or 7d (default: as configured)")
	cmd.Flags().StringVar(&f.withoutSafety, "without-safety-backup", "", "do without, for this `reason`: only when what is live cannot be read")
	cmd.Flags().BoolVar(&f.force, "force", false, "do not ask; everything else stays as safe as without")
	cmd.Flags().BoolVar(&f.detach, "detach", false, "start it and do not wait")
	return cmd
}

// checkRestore refuses, before anything is opened, what nobody could answer.
func (a *app) checkRestore(cmd *cobra.Command, f restoreFlags) error {
	if cmd.Flags().Changed("without-safety-backup") && strings.TrimSpace(f.withoutSafety) == "" {
		return badFlag("--without-safety-backup", "say why in a few words; they are recorded")
	}
	if f.force || a.Interactive && !a.json() {
		return nil
	}
	return invalid("restore", "", "a restore asks before it replaces live data, and there is nobody to answer",
		"run it on a terminal, or add --force: it skips the question and nothing else")
}

// planRequest refuses what no worker needs to be asked about.
func (s *session) planRequest(b remora.Backup, f restoreFlags) (remora.PlanRequest, error) {
	if err := restorable(b); err != nil {
		return remora.PlanRequest{}, err
	}
	src, err := s.cfg.Source(b.Source)
	if err != nil {
		return remora.PlanRequest{}, err
	}
	kinds := chosen(f.database, f.files)
	if err := missing("restore", src, kinds); err != nil {
		return remora.PlanRequest{}, err
	}
	undo, err := undoWindow(src, f.undo)
	if err != nil {
		return remora.PlanRequest{}, err
	}
	return remora.PlanRequest{Source: src.Name, Backup: b.ID, Kinds: kinds, Undo: undo, From: f.from}, nil
}

// restorable refuses a backup that is not completed: what was not read back may not be what was stored.
func restorable(b remora.Backup) error {
	switch b.Status {
	case remora.Completed:
		return nil
	case remora.Corrupted: // scripts are told by the same exit code as by a verification
		return remora.Fail(remora.Corrupt, "restore", b.ID,
			"choose another one: remora history "+b.Source+" --status completed", "it is %s: what is stored is not what it should be", b.Status)
	default:
		return invalid("restore", b.ID, fmt.Sprintf("it is %s; only completed backups can be restored", b.Status),
			"choose another one: remora history "+b.Source+" --status completed")
	}
}

// longestUndo bounds what may be asked for: the replaced data lies beside the live data all that time.
const longestUndo = 90 * 24 * time.Hour

func undoWindow(src *config.Source, text string) (time.Duration, error) {
	if text == "" {
		return src.UndoWindow, nil
	}
	d, err := parseAge(text)
	if err != nil || d < time.Minute || d > longestUndo {
		return 0, badFlag("--undo-window "+text, "use a length from 1m to 90d, such as 72h or 7d")
	}
	return d, nil
}

// restore plans, asks, starts and follows.
func (s *session) restore(ctx context.Context, asked remora.PlanRequest, f restoreFlags) error {
	t := newTeller(s.app)
	plan, err := s.control.Plan(ctx, asked, func(u control.Update) {
		if u.Event == control.Noticed || u.Event == control.Retrying {
			t.tell(u) // the phases of a plan take no time worth a line
		}
	})
	if err != nil {
		return err
	}
	maintenance := s.cfg.Sources[asked.Source].Maintenance.String()
	if err := s.app.printPlan(plan, maintenance, f.withoutSafety); err != nil {
		return err
	}
	req := remora.RestoreRequest{PlanRequest: asked, WithoutSafety: f.withoutSafety}
	if !f.force {
		if err := s.app.confirm(ctx, plan.Source); err != nil {
			return err
		}
		req.PlanHash = plan.Hash
	}
	run, err := s.control.Restore(ctx, req)
	if err != nil {
		return err
	}
	if f.detach {
		return s.started(ctx, run, "The restore")
	}
	end, err := s.follow(ctx, run)
	if err != nil {
		return err
	}
	if end.Restore == nil { // it ended before it could say anything of itself
		end.Restore = &remora.Restore{ID: run.RunID, Source: run.Source, Outcome: "over"}
	}
	return s.app.printRestored(*end.Restore)
}

// confirm asks for the name of the source.
func (a *app) confirm(ctx context.Context, source string) error {
	_, _ = fmt.Fprintf(a.Out, "\nType %s to go on: ", source)
	name, err := typed(ctx, a.readLine)
	switch {
	case ctx.Err() != nil:
		a.say("")
		return ctx.Err()
	case err == nil && strings.TrimSpace(name) == source:
		return nil
	}
	return invalid("restore", source, "the name was not typed", "nothing was touched; ask again and type the name as it stands")
}

// typed waits for what a person types, which read reads, or for ctx to end.
func typed(ctx context.Context, read func() (string, error)) (string, error) {
	done := make(chan struct{})
	var line string
	var failed error
	go func() { // ends with the process at the latest: a read from a terminal cannot be called off
		line, failed = read()
		close(done)
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-done:
		return line, failed
	}
}

func (a *app) readLine() (string, error) {
	line, err := bufio.NewReader(a.In).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}

// printPlan says what is going to happen, before it does. maintenance names what takes the application offline.
func (a *app) printPlan(p remora.Plan, maintenance, withoutSafety string) error {
	return a.answer(planJSON{Event: "plan", At: a.Now(), Plan: p}, func() {
		title := p.Backup.ID
		if p.Backup.Name != "" {
			title += " (" + p.Backup.Name + ")"
		}
		a.say("Restore of %s", p.Source)
		a.fields(
			[2]string{"  backup", title + ", " + a.moment(p.Backup.Started)},
			[2]string{"  read from", readFrom(p.Backup)},
			[2]string{"  restores", both(p.Kinds)},
		)
		for _, t := range p.Targets {
			a.planTarget(t)
		}
		a.planSteps(p, maintenance, withoutSafety)
	})
}

func (a *app) planSteps(p remora.Plan, maintenance, withoutSafety string) {
	a.say("\nWhat happens")
	a.say("  1. %s", safety(p, withoutSafety))
	a.say("  2. The backup is loaded beside the live data and compared with it row by row and file by file.")
	a.say("     %s stays in use meanwhile.", p.Source)
	switch {
	case maintenance != "":
		a.say("  3. The application is taken offline (%s), the backup is switched in, and it is taken back.", remora.OneLine(maintenance))
		a.say("     That is the only interruption: usually seconds.")
	case len(p.Kinds) > 1:
		a.say("  3. It is switched in, usually within a second. No maintenance mode is configured: for that moment the application")
		a.say("     may see the restored database beside the old files.")
	default:
		a.say("  3. It is switched in at once. No maintenance mode is configured, so the application stays online.")
	}
	until := "for " + control.Span(p.Undo)
	if withoutSafety != "" {
		until = "until somebody ends it with remora accept"
	}
	a.say("  4. What was replaced is kept %s; remora rollback %s brings it back in seconds.", until, p.Source)
	a.say("     If anything fails before that, %s is as it was before.", p.Source)
}

type planJSON struct {
	Event string      `json:"event"`
	At    time.Time   `json:"at"`
	Plan  remora.Plan `json:"plan"`
}

func (a *app) planTarget(t remora.Target) {
	a.say("\n%s on %s", t.Kind, remora.OneLine(t.Live.Identity))
	a.say("  brings back: %s", counts(t.Kind, t.Restores))
	if t.Live.Empty {
		a.say("  replaces:    nothing: nothing is live there")
	} else {
		a.say("  replaces:    about %s", counts(t.Kind, t.Live.Summary))
	}
	const shown = 20
	for i, r := range t.Live.Replaces {
		if i == shown {
			a.say("    ... and %d more", len(t.Live.Replaces)-shown)
			break
		}
		a.say("    %s", remora.OneLine(r))
	}
	a.notes("  ", t.Live.Warnings)
	a.notes("  ", t.Restores.Warnings)
}

// safety says how what is live is saved before it is replaced.
func safety(p remora.Plan, without string) string {
	var live []remora.Kind
	for _, t := range p.Targets {
		if !t.Live.Empty {
			live = append(live, t.Kind)
		}
	}
	switch {
	case without != "":
		return "NO safety backup is taken (" + remora.OneLine(without) + ")."
	case len(live) == 0:
		return "No safety backup: nothing is live that could be saved."
	default:
		return "What is live (" + both(live) + ") is saved as a safety backup."
	}
}

// printRestored says what a restore came to.
func (a *app) printRestored(r remora.Restore) error {
	return a.answerRestore(r, func() {
		switch r.Outcome {
		case remora.OutcomeApplied:
			a.say("%s is restored from %s (restore %s).", r.Source, r.Backup, r.ID)
		case remora.OutcomeUndone:
			a.say("The restore %s is rolled back: %s is as it was before it.", r.ID, r.Source)
		default:
			a.say("The restore %s is %s.", r.ID, r.Outcome)
			return
		}
		if r.SafetyBackup != "" {
			a.say("What was live before is also in backup %s.", r.SafetyBackup)
		}
		if r.Hint != "" {
			a.notes("", []string{r.Hint})
		}
		a.notes("", r.Warnings)
		a.say("Kept for undo %s. Go back: remora rollback %s   Keep this: remora accept %[2]s", a.until(r.KeepUntil), r.Source)
	})
}
