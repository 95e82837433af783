package workflows

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/remora-backup/remora/internal/remora"
)

// oneLook is for a person who waits for the answer: what does not answer now is the answer.
func oneLook() workflow.ActivityOptions { return bounded(30*time.Second, 1, time.Second) }

// Check looks at everything that only a worker can see: the repository, and for each source whether a backup, and a
// restore of its newest backup, could be made now. It changes nothing and holds no lane; what is wrong is a finding.
func Check(ctx workflow.Context, req remora.FindingsRequest) ([]remora.Finding, error) {
	repository, err := take[[]remora.Finding](ctx, oneLook, step{remora.CheckRepositoryActivity, remora.Queue, "check the repository"}, nothing{})
	if err != nil {
		repository = []remora.Finding{remora.FoundProblem("repository", problemOf("check the repository", err))}
	}
	found := make([][]remora.Finding, len(req.Sources))
	looking := workflow.NewWaitGroup(ctx)
	for i, source := range req.Sources {
		looking.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer looking.Done()
			op := &operation{source: source.Name, run: firstRun(workflow.GetInfo(ctx)), short: oneLook, look: oneLook}
			found[i] = op.findings(ctx, source.Kinds, err == nil)
		})
	}
	looking.Wait(ctx)
	return slices.Concat(repository, slices.Concat(found...)), nil
}

// findings are those of one source. Without its repository nothing can be restored.
func (op *operation) findings(ctx workflow.Context, kinds []remora.Kind, stored bool) (found []remora.Finding) {
	for _, kind := range kinds {
		found = append(found, op.preflightFindings(ctx, kind, "")...)
	}
	var newest remora.Backup
	var err error
	if stored {
		newest, err = op.describe(ctx, "latest", "")
		op.from = newest.Location
	}
	switch p := problemOf("look up the newest backup", err); {
	case !stored:
		found = append(found, remora.Found(remora.Warning, op.source+" restore", "not tried: the repository cannot be read"))
	case err != nil && p.Kind == remora.NotFound:
		found = append(found, remora.Finding{
			Level: remora.Warning, Subject: op.source + " restore", Said: "not tried: there is no backup yet", Hint: "remora backup " + op.source,
		})
	case err != nil:
		found = append(found, remora.FoundProblem(op.source+" restore", p))
	}
	for _, kind := range kinds {
		if _, ok := newest.Part(kind); ok {
			found = append(found, op.preflightFindings(ctx, kind, newest.ID)...)
		}
	}
	mode, err := op.lookOffline(ctx)
	subject := op.source + " maintenance"
	switch {
	case err != nil:
		found = append(found, remora.FoundProblem(subject, problemOf("ask whether "+op.source+" is offline", err)))
	case mode.Theirs:
		found = append(found, remora.Found(remora.Warning, subject, "%s: the application is offline now", mode.Mode))
	default:
		found = append(found, remora.Found(remora.Fine, subject, "%s", cmp.Or(mode.Mode, "none is configured: a restore is switched in while the application is online")))
	}
	return found
}

// preflightFindings asks whether a backup of a component could be made, or a restore of it from a backup.
func (op *operation) preflightFindings(ctx workflow.Context, kind remora.Kind, backup string) []remora.Finding {
	subject, can := op.source+" "+string(kind), "can be backed up"
	if backup != "" {
		subject, can = op.source+" restore of "+string(kind), "can be restored from "+backup
	}
	live, err := op.preflight(ctx, kind, backup)
	if err == nil && live.Empty && backup == "" {
		err = remora.Fail(remora.NotFound, "check "+subject, live.Identity,
			"see that the configuration names the right server and directories", "there is nothing to back up")
	}
	if err != nil {
		f := remora.FoundProblem(subject, problemOf("check "+subject, err))
		if backup != "" && strings.Contains(f.Said, "is not settled") { // an open undo window is no fault
			f.Level = remora.Warning
		}
		return []remora.Finding{f}
	}
	size := fmt.Sprintf("directories: %d, files: %d", live.Summary.Objects, live.Summary.Entries)
	if kind == remora.Database {
		size = fmt.Sprintf("tables: %d, rows: about %d", live.Summary.Objects, live.Summary.Entries)
	}
	found := []remora.Finding{remora.Found(remora.Fine, subject, "%s; %s; %s", live.Identity, can, size)}
	switch {
	case backup != "":
		found[0].Said = can
	case kind == remora.Database:
		found = append(found, remora.FoundSkew(subject+" clock", live.Skew))
	}
	for _, w := range live.Warnings {
		found = append(found, remora.Found(remora.Warning, subject, "%s", w))
	}
	return found
}
