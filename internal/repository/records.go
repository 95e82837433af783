package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"
	"github.com/remora-backup/remora/internal/remora"
)

// The types of our records, and their labels.
const (
	backupType       = "remora-backup"
	verificationType = "remora-verification"
	failureType      = "remora-failure"
	restoreType      = "remora-restore"

	labelBackup  = "backup"
	labelRestore = "restore"
	labelSource  = "source"
	labelFormat  = "format"
)

const findOp = "find the backup"

var backupID = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,120}$`)

// Filter chooses backups. Its zero value chooses all.
type Filter struct {
	Source string
	Kind   remora.BackupKind
	Status remora.Status
	// Since and Until bound the start of a backup: not before Since, and before Until.
	Since, Until time.Time
	// Limit bounds how many are returned, the newest of those chosen; 0 means all.
	Limit int
}

func (f Filter) matches(b remora.Backup) bool {
	return (f.Source == "" || f.Source == b.Source) && (f.Kind == "" || f.Kind == b.Kind) && (f.Status == "" || f.Status == b.Status) &&
		!b.Started.Before(f.Since) && (f.Until.IsZero() || b.Started.Before(f.Until))
}

// List returns backups and failed runs, newest first. A backup in a format that a newer program wrote is listed with
// that as its problem.
func (r *Repository) List(ctx context.Context, f Filter) ([]remora.Backup, error) {
	all, err := r.all(ctx)
	if err != nil {
		return nil, problem("list the backups", r.cfg.Path, err)
	}
	all = slices.DeleteFunc(all, func(b remora.Backup) bool { return !f.matches(b) })
	if f.Limit > 0 && len(all) > f.Limit {
		all = all[:f.Limit]
	}
	return all, nil
}

// all puts together what the records say, newest first.
func (r *Repository) all(ctx context.Context) ([]remora.Backup, error) {
	if err := r.rep.Refresh(ctx); err != nil {
		return nil, err
	}
	commits, err := r.commits(ctx, nil)
	if err != nil {
		return nil, err
	}
	checks, err := r.verifications(ctx)
	if err != nil {
		return nil, err
	}
	failures, err := records[remora.FailedRun](ctx, r.rep, map[string]string{manifest.TypeLabelKey: failureType})
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	var all []remora.Backup
	for _, c := range commits {
		if b := backupOf(c, checks); !known[b.ID] {
			known[b.ID] = true
			all = append(all, b)
		}
	}
	slices.Reverse(failures) // the newest record of a run wins
	for _, f := range failures {
		if b := failedBackup(f.Value); !known[b.ID] {
			known[b.ID] = true
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b remora.Backup) int { return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(b.ID, a.ID)) })
	return all, nil
}

// verifications finds the newest verification of each backup.
func (r *Repository) verifications(ctx context.Context) (map[string]remora.Verification, error) {
	found, err := records[remora.Verification](ctx, r.rep, map[string]string{manifest.TypeLabelKey: verificationType})
	if err != nil {
		return nil, err
	}
	newest := make(map[string]remora.Verification, len(found))
	for _, v := range found {
		id := v.Labels[labelBackup]
		if old, ok := newest[id]; !ok || !v.Value.At.Before(old.At) {
			newest[id] = v.Value
		}
	}
	return newest, nil
}

func backupOf(c record[committed], checks map[string]remora.Verification) remora.Backup {
	if format, _ := strconv.Atoi(c.Labels[labelFormat]); format > remora.ManifestFormat {
		return remora.Backup{
			Manifest: remora.Manifest{Format: format, ID: c.Labels[labelBackup], Source: c.Labels[labelSource], Started: c.Time},
			Status:   remora.Pending, Problem: newer(format).Error(), Hint: newerHint,
		}
	}
	b := remora.Backup{Manifest: c.Value.Manifest, Status: remora.Pending}
	v, checked := checks[b.ID]
	if !checked {
		return b
	}
	b.Verification, b.Status = &v, remora.Completed
	if v.Problem != "" {
		b.Status, b.Problem = remora.Corrupted, v.Problem
	}
	return b
}

const newerHint = "use a newer version of remora"

func newer(format int) error {
	return fmt.Errorf("a newer remora wrote it: its format is %d, and this program reads up to %d", format, remora.ManifestFormat)
}

func failedBackup(f remora.FailedRun) remora.Backup {
	return remora.Backup{
		Manifest: remora.Manifest{
			Format: remora.ManifestFormat, ID: f.ID, Run: f.Run, Source: f.Source, Name: f.Name, Kind: f.Kind,
			Purpose: f.Purpose, RequestedBy: f.RequestedBy, Started: f.Started, Ended: f.Ended,
		},
		Status: remora.Failed, Problem: f.Problem, Hint: f.Hint, Phase: f.Phase,
	}
}

// Find finds a backup, or a failed run, by its id, a unique beginning of it, or its name (the newest with that name);
// "latest" is the newest completed regular backup. A source narrows the search; without one, "latest" and names must
// point to one source.
func (r *Repository) Find(ctx context.Context, ref, source string) (remora.Backup, error) {
	all, err := r.List(ctx, Filter{Source: source})
	if err != nil {
		return remora.Backup{}, err
	}
	b, err := choose(all, ref)
	if err != nil {
		return remora.Backup{}, err
	}
	if b.Format > remora.ManifestFormat {
		return remora.Backup{}, &remora.Problem{Op: findOp, Kind: remora.Unsupported, Subject: b.ID, Hint: newerHint, Err: newer(b.Format)}
	}
	return b, nil
}

// choose picks from all, which is sorted newest first.
func choose(all []remora.Backup, ref string) (remora.Backup, error) {
	if ref == "latest" {
		good := keep(all, func(b remora.Backup) bool { return b.Status == remora.Completed && b.Purpose == remora.Regular })
		return oneSource(ref, good)
	}
	if exact := keep(all, func(b remora.Backup) bool { return b.ID == ref }); len(exact) > 0 {
		return exact[0], nil
	}
	named := keep(all, func(b remora.Backup) bool { return ref != "" && b.Name == ref })
	if kept := keep(named, func(b remora.Backup) bool { return b.Status != remora.Failed }); len(kept) > 0 {
		named = kept
	}
	if len(named) > 0 {
		return oneSource(ref, named)
	}
	begins := keep(all, func(b remora.Backup) bool { return ref != "" && strings.HasPrefix(b.ID, ref) })
	switch len(begins) {
	case 0:
		return remora.Backup{}, noBackup(ref)
	case 1:
		return begins[0], nil
	default:
		return remora.Backup{}, ambiguous(findOp, ref, ids(begins))
	}
}

func oneSource(ref string, from []remora.Backup) (remora.Backup, error) {
	if len(from) == 0 {
		return remora.Backup{}, noBackup(ref)
	}
	for _, b := range from {
		if b.Source == from[0].Source {
			continue
		}
		var newest []remora.Backup
		for _, b := range from {
			if !slices.ContainsFunc(newest, func(n remora.Backup) bool { return n.Source == b.Source }) {
				newest = append(newest, b)
			}
		}
		return remora.Backup{}, ambiguous(findOp, ref, ids(newest))
	}
	return from[0], nil
}

func keep(all []remora.Backup, want func(remora.Backup) bool) []remora.Backup {
	var some []remora.Backup
	for _, b := range all {
		if want(b) {
			some = append(some, b)
		}
	}
	return some
}

func ids(all []remora.Backup) []string {
	names := make([]string, len(all))
	for i, b := range all {
		names[i] = b.ID
	}
	return names
}

func noBackup(ref string) error {
	why := errors.New("there is no such backup")
	if ref == "latest" {
		why = errors.New("there is no completed backup")
	}
	return &remora.Problem{Op: findOp, Kind: remora.NotFound, Subject: quote(ref), Hint: "see what there is with: remora history", Err: why}
}

func ambiguous(op, ref string, candidates []string) error {
	const shown = 5
	more := ""
	if n := len(candidates) - shown; n > 0 {
		candidates, more = candidates[:shown], fmt.Sprintf(" and %d more", n)
	}
	return &remora.Problem{
		Op: op, Kind: remora.Invalid, Subject: quote(ref), Hint: "give a longer beginning of the id, or name the source",
		Err: fmt.Errorf("it could be %s%s", strings.Join(candidates, ", "), more),
	}
}

// quote makes what somebody typed, or stored, safe and short enough for a line.
func quote(s string) string {
	const most = 100
	if len(s) > most {
		return fmt.Sprintf("%q… (%d bytes)", s[:most], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// exactly finds the record of a committed backup by its full id.
func (r *Repository) exactly(ctx context.Context, op, id string) (committed, error) {
	if !backupID.MatchString(id) {
		return committed{}, noBackup(id)
	}
	if err := r.rep.Refresh(ctx); err != nil {
		return committed{}, problem(op, r.cfg.Path, err)
	}
	found, err := r.commits(ctx, map[string]string{labelBackup: id})
	if err != nil {
		return committed{}, problem(op, r.cfg.Path, err)
	}
	if len(found) > 0 {
		if format, _ := strconv.Atoi(found[0].Labels[labelFormat]); format > remora.ManifestFormat {
			return committed{}, &remora.Problem{Op: op, Kind: remora.Unsupported, Subject: id, Hint: newerHint, Err: newer(format)}
		}
		return found[0].Value, nil
	}
	failed, err := r.rep.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: failureType, labelBackup: id})
	if err != nil || len(failed) == 0 {
		return committed{}, errors.Join(problem(op, r.cfg.Path, err), noBackup(id))
	}
	return committed{}, &remora.Problem{Op: op, Kind: remora.NotFound, Subject: id, Hint: "choose a backup that completed: remora history --status completed", Err: errors.New("this run failed and left no backup")}
}

// root is the root directory of a committed backup.
func (r *Repository) root(ctx context.Context, c committed) (*snapshot.DirEntry, error) {
	stored, err := snapshot.LoadSnapshot(ctx, r.rep, c.Snapshot)
	if err != nil {
		return nil, err
	}
	if stored.RootEntry == nil || stored.RootEntry.Type != snapshot.EntryTypeDirectory {
		return nil, fmt.Errorf("malformed snapshot %s: it has no root directory", c.Snapshot)
	}
	return stored.RootEntry, nil
}

// newestPart is the part of the newest backup of a source that is not known to be damaged; nil when there is none.
func (r *Repository) newestPart(ctx context.Context, source string, kind remora.Kind) (*snapshot.DirEntry, error) {
	all, err := r.List(ctx, Filter{Source: source})
	if err != nil {
		return nil, err
	}
	for _, b := range all {
		if _, ok := b.Part(kind); ok && b.Status != remora.Corrupted && b.Status != remora.Failed {
			return r.partOf(ctx, b.ID, kind)
		}
	}
	return nil, nil
}

const openOp = "open the backup"

func (r *Repository) partOf(ctx context.Context, id string, kind remora.Kind) (*snapshot.DirEntry, error) {
	c, err := r.exactly(ctx, openOp, id)
	if err != nil {
		return nil, err
	}
	root, err := r.root(ctx, c)
	if err != nil {
		return nil, problem(openOp, id, err)
	}
	if kind == "" {
		return root, nil
	}
	entries, err := r.children(ctx, root)
	if err != nil {
		return nil, problem(openOp, id, err)
	}
	part := entries[string(kind)]
	if part == nil || part.Type != snapshot.EntryTypeDirectory {
		return nil, &remora.Problem{Op: openOp, Kind: remora.NotFound, Subject: id, Hint: "see what it holds with: remora show " + id, Err: fmt.Errorf("the backup has no part %q", kind)}
	}
	return part, nil
}

// RecordFailure leaves the small record of a run that did not become a backup, and lets go of what it had stored.
func (r *Repository) RecordFailure(ctx context.Context, f remora.FailedRun) error {
	labels := map[string]string{manifest.TypeLabelKey: failureType, labelBackup: f.ID, labelSource: f.Source}
	err := r.rep.Refresh(ctx)
	if err == nil {
		err = r.write(ctx, "failure", func(ctx context.Context, w repo.RepositoryWriter) error {
			if err := dropCheckpoints(ctx, w, f.Run); err != nil {
				return err
			}
			return replace(ctx, w, labels, labelBackup, f)
		})
	}
	return problem("record the failed run", f.ID, err)
}

// replace puts a record in the place of those of the same type and key.
func replace(ctx context.Context, w repo.RepositoryWriter, labels map[string]string, key string, value any) error {
	old, err := w.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: labels[manifest.TypeLabelKey], key: labels[key]})
	if err != nil {
		return err
	}
	if _, err := w.PutManifest(ctx, labels, value); err != nil {
		return err
	}
	for _, o := range old {
		if err := w.DeleteManifest(ctx, o.ID); err != nil {
			return err
		}
	}
	return nil
}

// RecordRestore records how a restore stands; the latest state wins.
func (r *Repository) RecordRestore(ctx context.Context, s remora.Restore) error {
	labels := map[string]string{manifest.TypeLabelKey: restoreType, labelRestore: s.ID, labelSource: s.Source}
	err := r.rep.Refresh(ctx)
	if err == nil {
		err = r.write(ctx, "restore", func(ctx context.Context, w repo.RepositoryWriter) error {
			return replace(ctx, w, labels, labelRestore, s)
		})
	}
	return problem("record the restore", s.ID, err)
}

// Restores lists the restores of a source, or of all, newest first.
func (r *Repository) Restores(ctx context.Context, source string) ([]remora.Restore, error) {
	labels := map[string]string{manifest.TypeLabelKey: restoreType}
	if source != "" {
		labels[labelSource] = source
	}
	err := r.rep.Refresh(ctx)
	if err != nil {
		return nil, problem("list the restores", r.cfg.Path, err)
	}
	found, err := records[remora.Restore](ctx, r.rep, labels)
	if err != nil {
		return nil, problem("list the restores", r.cfg.Path, err)
	}
	latest := map[string]remora.Restore{}
	for _, f := range found { // oldest record first
		latest[f.Value.ID] = f.Value
	}
	all := make([]remora.Restore, 0, len(latest))
	for _, s := range latest {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b remora.Restore) int { return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(b.ID, a.ID)) })
	return all, nil
}

// FindRestore finds a restore by its id or a unique beginning of it.
func (r *Repository) FindRestore(ctx context.Context, ref string) (remora.Restore, error) {
	const op = "find the restore"
	all, err := r.Restores(ctx, "")
	if err != nil {
		return remora.Restore{}, err
	}
	var found []remora.Restore
	var names []string
	for _, s := range all {
		if s.ID == ref {
			return s, nil
		}
		if ref != "" && strings.HasPrefix(s.ID, ref) {
			found, names = append(found, s), append(names, s.ID)
		}
	}
	switch len(found) {
	case 0:
		return remora.Restore{}, &remora.Problem{Op: op, Kind: remora.NotFound, Subject: quote(ref), Hint: "see what there is with: remora restores", Err: errors.New("there is no such restore")}
	case 1:
		return found[0], nil
	default:
		return remora.Restore{}, ambiguous(op, ref, names)
	}
}
