package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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

// The type of the record of a backup, and the labels of records.
const (
	backupType = "remora-backup"

	labelBackup = "backup"
	labelSource = "source"
	labelFormat = "format"
	labelSlot   = "slot"
	labelNotice = "notice"
)

const (
	findOp = "find the backup"
	openOp = "open the backup"
)

var backupID = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,120}$`)

// record is a labelled manifest beside the backups.
type record[T any] struct {
	*manifest.EntryMetadata
	Value T
}

// records reads the records with these labels, oldest first. One that another process has just deleted is left out.
func records[T any](ctx context.Context, rep repo.Repository, labels map[string]string) ([]record[T], error) {
	found, err := rep.FindManifests(ctx, labels)
	if err != nil {
		return nil, err
	}
	all := make([]record[T], 0, len(found))
	for _, f := range found {
		one := record[T]{EntryMetadata: f}
		if _, err := rep.GetManifest(ctx, f.ID, &one.Value); err == nil {
			all = append(all, one)
		} else if !errors.Is(err, manifest.ErrNotFound) {
			return nil, err
		}
	}
	return all, nil
}

// keyed are the small records of one type, of which the newest for each value of their label, the key, counts. What says,
// in problems, what they are about.
type keyed[T any] struct{ kind, label, what string }

// The records beside the backups. Types and labels are in every repository: they are never changed.
var (
	verifications = keyed[remora.Verification]{"remora-verification", labelBackup, "verification"}
	failures      = keyed[remora.FailedRun]{"remora-failure", labelBackup, "failed run"}
	holds         = keyed[remora.Hold]{"remora-hold", labelBackup, "hold"}
	leases        = keyed[remora.Lease]{"remora-lease", "lease", "lease"}
	restores      = keyed[remora.Restore]{"remora-restore", "restore", "restore"}
	proofs        = keyed[remora.Proof]{"remora-proof", "drill", "drill"}
	copies        = keyed[held]{"remora-copy", "copy", "copy"}
	schedules     = keyed[remora.ScheduleRecord]{"remora-schedule", "schedule", "schedule"}
	undelivered   = keyed[remora.Undelivered]{"remora-undelivered", "to", "notice that was not delivered"} // several for each key
	// There is one of each of these: its key is its type.
	monitored  = keyed[remora.MonitorState]{"remora-monitor", "monitor", "monitor"}
	plans      = keyed[remora.RetentionPlan]{"remora-retention-plan", "only", "retention plan"}
	promises   = keyed[[]owed]{"remora-owed", "only", "space that is owed"}
	owners     = keyed[Owner]{"remora-owner", "only", "owner"}
	recoveries = keyed[recovery]{"remora-recovery", "only", "recovery copy"}
)

// labels are those of the record with that key.
func (k keyed[T]) labels(key string) map[string]string {
	return map[string]string{manifest.TypeLabelKey: k.kind, k.label: key}
}

// newest reads the newest record of each key.
func (k keyed[T]) newest(ctx context.Context, rep repo.Repository) (map[string]T, error) {
	found, err := records[T](ctx, rep, map[string]string{manifest.TypeLabelKey: k.kind})
	all := make(map[string]T, len(found))
	for _, f := range found { // oldest first
		all[f.Labels[k.label]] = f.Value
	}
	return all, err
}

// list reads the newest record of each key, once it sees what other processes wrote.
func (k keyed[T]) list(ctx context.Context, r *Repository) (map[string]T, error) {
	if err := r.Refresh(ctx); err != nil {
		return nil, err
	}
	all, err := k.newest(ctx, r.rep)
	return all, problem("read the record of the "+k.what, r.Where(), err)
}

// put writes a record in the place of those with its key.
func (k keyed[T]) put(ctx context.Context, r *Repository, key string, value T) error {
	err := r.write(ctx, k.kind, func(ctx context.Context, w repo.RepositoryWriter) error {
		return replace(ctx, w, k.labels(key), value)
	})
	return problem("record the "+k.what, key, err)
}

// drop deletes the records with a key.
func (k keyed[T]) drop(ctx context.Context, r *Repository, key string) error {
	err := r.write(ctx, k.kind, func(ctx context.Context, w repo.RepositoryWriter) error { return forgetAll(ctx, w, k.labels(key)) })
	return problem("forget the "+k.what, key, err)
}

// replace puts a record in the place of those with the same labels.
func replace(ctx context.Context, w repo.RepositoryWriter, labels map[string]string, value any) error {
	old, err := w.FindManifests(ctx, labels)
	if err != nil {
		return err
	}
	if _, err := w.PutManifest(ctx, labels, value); err != nil {
		return err
	}
	return forget(ctx, w, old)
}

// forget deletes records.
func forget(ctx context.Context, w repo.RepositoryWriter, old []*manifest.EntryMetadata) error {
	for _, o := range old {
		if err := w.DeleteManifest(ctx, o.ID); err != nil {
			return err
		}
	}
	return nil
}

// forgetAll deletes the records with these labels.
func forgetAll(ctx context.Context, w repo.RepositoryWriter, labels map[string]string) error {
	old, err := w.FindManifests(ctx, labels)
	if err != nil {
		return err
	}
	return forget(ctx, w, old)
}

// RecordFailure leaves the small record of a run that did not become a backup, and lets go of what it had stored. For a
// slot of a schedule that has an outcome already, nothing more is recorded (see the package's comment).
func (r *Repository) RecordFailure(ctx context.Context, f remora.FailedRun) error {
	f.Status = cmp.Or(f.Status, remora.Failed)
	err := r.write(ctx, "failure", func(ctx context.Context, w repo.RepositoryWriter) error {
		if f.Drill {
			p := f.Proof()
			known, err := records[remora.Proof](ctx, w, proofs.labels(proofKey(p)))
			if err != nil || slices.ContainsFunc(known, func(k record[remora.Proof]) bool { return k.Value.Outcome != remora.DrillMissed }) {
				return err
			}
			return replace(ctx, w, proofs.labels(proofKey(p)), p)
		}
		if err := dropCheckpoints(ctx, w, f.Run); err != nil {
			return err
		}
		labels := failures.labels(f.ID)
		if f.Slot.Schedule == "" {
			return replace(ctx, w, labels, f)
		}
		known, err := outcomes(ctx, w, f.Source, f.Slot)
		if slices.ContainsFunc(known, func(o remora.Status) bool { return !f.Status.Outranks(o) }) || err != nil {
			return err
		}
		if err := dropSlot(ctx, w, f.Source, f.Slot); err != nil {
			return err
		}
		labels[labelSlot] = slotOf(f.Source, f.Slot)
		_, err = w.PutManifest(ctx, labels, f)
		return err
	})
	return problem("record the failed run", f.ID, err)
}

// slotOf is the label of a slot.
func slotOf(source string, s remora.Slot) string {
	return source + "/" + s.Schedule + "/" + s.Due.UTC().Format(time.RFC3339)
}

// outcomes are what has been recorded of a slot.
func outcomes(ctx context.Context, rep repo.Repository, source string, s remora.Slot) (all []remora.Status, err error) {
	labels := map[string]string{manifest.TypeLabelKey: backupType, labelSlot: slotOf(source, s)}
	backups, err := rep.FindManifests(ctx, labels)
	if err != nil {
		return nil, err
	}
	for range backups {
		all = append(all, remora.Pending)
	}
	labels[manifest.TypeLabelKey] = failures.kind
	others, err := records[remora.FailedRun](ctx, rep, labels)
	for _, o := range others {
		all = append(all, o.Value.Status)
	}
	return all, err
}

// dropSlot deletes the records that a slot left no backup: something better is known now.
func dropSlot(ctx context.Context, w repo.RepositoryWriter, source string, s remora.Slot) error {
	return forgetAll(ctx, w, map[string]string{manifest.TypeLabelKey: failures.kind, labelSlot: slotOf(source, s)})
}

// RecordRestore records how a restore stands; the latest state wins.
func (r *Repository) RecordRestore(ctx context.Context, s remora.Restore) error {
	return restores.put(ctx, r, s.ID, s)
}

// RecordProof records what a drill came to. It stays when its backup is deleted: that the source could be brought back
// then is still true.
func (r *Repository) RecordProof(ctx context.Context, p remora.Proof) error {
	return proofs.put(ctx, r, proofKey(p), p)
}

// proofKey is one for all that becomes known of a slot.
func proofKey(p remora.Proof) string {
	if p.Slot.Schedule != "" {
		return slotOf(p.Source, p.Slot)
	}
	return p.ID
}

// Proofs are the records of the drills of a source, or of all, newest first.
func (r *Repository) Proofs(ctx context.Context, source string) ([]remora.Proof, error) {
	byID, err := proofs.list(ctx, r)
	all := slices.SortedFunc(maps.Values(byID), func(a, b remora.Proof) int {
		return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(b.ID, a.ID))
	})
	return keep(all, func(p remora.Proof) bool { return source == "" || source == p.Source }), err
}

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
		return nil, problem("list the backups", r.Where(), err)
	}
	some := []remora.Backup{}
	for _, b := range all {
		if f.matches(b.Backup) && (f.Limit <= 0 || len(some) < f.Limit) {
			some = append(some, b.Backup)
		}
	}
	return some, nil
}

// known is what the records say of a backup or a failed run, and the snapshot that holds it.
type known struct {
	remora.Backup
	snapshot manifest.ID
}

// all puts together what the records say, newest first.
func (r *Repository) all(ctx context.Context) ([]known, error) {
	commits, err := r.commits(ctx, nil)
	checks, err1 := verifications.newest(ctx, r.rep)
	failed, err2 := failures.newest(ctx, r.rep)
	copied, err3 := copies.newest(ctx, r.rep)
	holding, err4 := holds.newest(ctx, r.rep)
	drilled, err5 := proofs.newest(ctx, r.rep)
	if err := cmp.Or(err, err1, err2, err3, err4, err5); err != nil {
		return nil, err
	}
	byID := make(map[string]known, len(commits)+len(failed))
	for id, f := range failed {
		byID[id] = known{Backup: failedBackup(f)}
	}
	for _, c := range slices.Backward(commits) { // the first one of an id counts
		b := known{Backup: backupOf(c, checks), snapshot: c.Value.Snapshot}
		if h, ok := holding[b.ID]; ok {
			b.Hold = &h
		}
		for _, name := range slices.Sorted(maps.Keys(copied)) {
			if slices.Contains(copied[name].Backups, b.ID) {
				b.Copies = append(b.Copies, name)
			}
		}
		byID[b.ID] = b
	}
	for _, p := range drilled {
		b, known := byID[p.Backup]
		if known && p.Outcome != remora.DrillNotMade && (b.Proof == nil || p.Started.After(b.Proof.Started)) {
			b.Proof = &p
			byID[p.Backup] = b
		}
	}
	return oneOfEachSlot(slices.SortedFunc(maps.Values(byID), func(a, b known) int {
		return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(b.ID, a.ID))
	})), nil
}

// oneOfEachSlot leaves one outcome for each slot, where several processes have recorded theirs at the same moment.
func oneOfEachSlot(newestFirst []known) []known {
	best := map[string]known{}
	for _, b := range newestFirst {
		key := slotOf(b.Source, b.Slot)
		if o, met := best[key]; !met || !o.Status.Outranks(b.Status) {
			best[key] = b
		}
	}
	return keep(newestFirst, func(b known) bool {
		return b.Slot.Schedule == "" || !b.Status.NoBackup() || best[slotOf(b.Source, b.Slot)].ID == b.ID
	})
}

// held is the record of what a copy held when it was last looked at.
type held struct {
	At      time.Time `json:"at"`
	Backups []string  `json:"backups"`
}

// verified lists the backups of a source that were verified and found well, newest first.
func (r *Repository) verified(ctx context.Context, source string) ([]known, error) {
	all, err := r.all(ctx)
	return keep(all, func(b known) bool {
		return b.Source == source && b.Status == remora.Completed && b.Format <= remora.ManifestFormat
	}), err
}

func backupOf(c record[committed], checks map[string]remora.Verification) remora.Backup {
	id := c.Labels[labelBackup]
	if format, _ := strconv.Atoi(c.Labels[labelFormat]); format > remora.ManifestFormat {
		p := newer(findOp, id, format)
		return remora.Backup{
			Manifest: remora.Manifest{Format: format, ID: id, Source: c.Labels[labelSource], Started: c.ModTime},
			Status:   remora.Pending, Problem: p.Err.Error(), Hint: p.Hint,
		}
	}
	b := remora.Backup{Manifest: c.Value.Manifest, Status: remora.Pending}
	if v, checked := checks[id]; checked {
		b.Verification, b.Status, b.Problem = &v, remora.Completed, v.Problem
	}
	if b.Problem != "" {
		b.Status = remora.Corrupted
	}
	return b
}

func failedBackup(f remora.FailedRun) remora.Backup {
	return remora.Backup{
		Manifest: remora.Manifest{
			Format: remora.ManifestFormat, ID: f.ID, Run: f.Run, Source: f.Source, Name: f.Name, Kind: f.Kind,
			Purpose: f.Purpose, RequestedBy: f.RequestedBy, Started: f.Started, Ended: f.Ended, Slot: f.Slot,
		},
		Status: cmp.Or(f.Status, remora.Failed), Problem: f.Problem, Hint: f.Hint, Phase: f.Phase,
	}
}

func newer(op, id string, format int) *remora.Problem {
	return remora.Fail(remora.Unsupported, op, id,
		"use a newer version of remora", "a newer remora wrote it: its format is %d, and this program reads up to %d", format, remora.ManifestFormat)
}

// Find finds a backup, or a failed run, by its id, a unique beginning of it, or its name (the newest with that name);
// "latest" is the newest completed regular backup. A source narrows the search; without one, "latest" and names must
// point to one source.
func (r *Repository) Find(ctx context.Context, ref, source string) (remora.Backup, error) {
	all, err := r.List(ctx, Filter{Source: source})
	if err != nil {
		return remora.Backup{}, err
	}
	b, err := only(findOp, ref, candidates(all, ref), func(b remora.Backup) string { return b.ID }, noBackup(ref))
	if err == nil && b.Format > remora.ManifestFormat {
		return remora.Backup{}, newer(findOp, b.ID, b.Format)
	}
	return b, err
}

// candidates are the backups that ref may mean. They are sorted newest first, and so is all.
func candidates(all []remora.Backup, ref string) []remora.Backup {
	if ref == "latest" {
		return newestOfEachSource(keep(all, func(b remora.Backup) bool { return b.Status == remora.Completed && b.Purpose == remora.Regular }))
	}
	if exact := keep(all, func(b remora.Backup) bool { return b.ID == ref }); len(exact) > 0 {
		return exact
	}
	named := keep(all, func(b remora.Backup) bool { return ref != "" && b.Name == ref })
	if kept := keep(named, func(b remora.Backup) bool { return !b.Status.NoBackup() }); len(kept) > 0 {
		named = kept
	}
	if len(named) > 0 {
		return newestOfEachSource(named)
	}
	return keep(all, func(b remora.Backup) bool { return ref != "" && strings.HasPrefix(b.ID, ref) })
}

func newestOfEachSource(all []remora.Backup) []remora.Backup {
	met := map[string]bool{}
	return keep(all, func(b remora.Backup) bool {
		first := !met[b.Source]
		met[b.Source] = true
		return first
	})
}

func keep[T any](all []T, want func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(all), func(one T) bool { return !want(one) })
}

// only is the one that was found; several make ref ambiguous.
func only[T any](op, ref string, found []T, id func(T) string, none error) (one T, err error) {
	switch len(found) {
	case 0:
		return one, none
	case 1:
		return found[0], nil
	}
	return one, remora.Fail(remora.Invalid, op, quote(ref),
		"give a longer beginning of the id, or name the source", "it could be %s", remora.Few(remora.Each(found, id)))
}

func noBackup(ref string) error {
	why := errors.New("there is no such backup")
	if ref == "latest" {
		why = errors.New("there is no completed backup")
	}
	return &remora.Problem{Op: findOp, Kind: remora.NotFound, Subject: quote(ref), Hint: "see what there is with: remora history", Err: why}
}

// exactly finds a committed backup by its full id.
func (r *Repository) exactly(ctx context.Context, op, id string) (known, error) {
	all, err := r.all(ctx)
	if err != nil {
		return known{}, problem(op, r.Where(), err)
	}
	at := slices.IndexFunc(all, func(b known) bool { return b.ID == id })
	switch {
	case at < 0:
		return known{}, noBackup(id)
	case all[at].Status.NoBackup():
		return known{}, remora.Fail(remora.NotFound, op, id, "choose a backup that completed: remora history --status completed", "this run %s and left no backup", all[at].Status.Verb())
	case all[at].Format > remora.ManifestFormat:
		return known{}, newer(op, id, all[at].Format)
	}
	return all[at], nil
}

// root is the root directory of a committed backup.
func (r *Repository) root(ctx context.Context, b known) (*snapshot.DirEntry, error) {
	stored, err := snapshot.LoadSnapshot(ctx, r.rep, b.snapshot)
	if err != nil {
		return nil, err
	}
	if stored.RootEntry == nil || stored.RootEntry.Type != snapshot.EntryTypeDirectory {
		return nil, fmt.Errorf("malformed snapshot %s: it has no root directory", b.snapshot)
	}
	return stored.RootEntry, nil
}

// partOf is the root directory of one part of a backup, or of all of it where no kind is given.
func (r *Repository) partOf(ctx context.Context, id string, kind remora.Kind) (*snapshot.DirEntry, error) {
	b, err := r.exactly(ctx, openOp, id)
	if err != nil {
		return nil, err
	}
	root, err := r.root(ctx, b)
	if err != nil || kind == "" {
		return root, problem(openOp, id, err)
	}
	entries, err := r.children(ctx, root)
	if err != nil {
		return nil, problem(openOp, id, err)
	}
	part := entries[string(kind)]
	if part == nil || part.Type != snapshot.EntryTypeDirectory {
		return nil, remora.Fail(remora.NotFound, openOp, id, "see what it holds with: remora show "+id, "the backup has no part %q", kind)
	}
	return part, nil
}

// Restores lists the restores of a source, or of all, newest first.
func (r *Repository) Restores(ctx context.Context, source string) ([]remora.Restore, error) {
	byID, err := restores.list(ctx, r)
	all := slices.SortedFunc(maps.Values(byID), func(a, b remora.Restore) int {
		return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(b.ID, a.ID))
	})
	return keep(all, func(s remora.Restore) bool { return source == "" || source == s.Source }), err
}

// FindRestore finds a restore by its id or a unique beginning of it.
func (r *Repository) FindRestore(ctx context.Context, ref string) (remora.Restore, error) {
	const op = "find the restore"
	all, err := r.Restores(ctx, "")
	if err != nil {
		return remora.Restore{}, err
	}
	found := keep(all, func(s remora.Restore) bool { return s.ID == ref })
	if len(found) == 0 {
		found = keep(all, func(s remora.Restore) bool { return ref != "" && strings.HasPrefix(s.ID, ref) })
	}
	none := remora.Fail(remora.NotFound, op, quote(ref), "see what there is with: remora restores", "there is no such restore")
	return only(op, ref, found, func(s remora.Restore) string { return s.ID }, none)
}

// RecordSchedule remembers of a schedule what the configuration does not say; the latest record wins.
func (r *Repository) RecordSchedule(ctx context.Context, s remora.ScheduleRecord) error {
	return schedules.put(ctx, r, s.ID, s)
}

// Schedules are the records of schedules, also of those that were deleted, by their ids.
func (r *Repository) Schedules(ctx context.Context) ([]remora.ScheduleRecord, error) {
	byID, err := schedules.list(ctx, r)
	return slices.SortedFunc(maps.Values(byID), func(a, b remora.ScheduleRecord) int { return cmp.Compare(a.ID, b.ID) }), err
}

// MonitorState is what the monitor remembers; the zero value, when it has not looked yet.
func (r *Repository) MonitorState(ctx context.Context) (remora.MonitorState, error) {
	found, err := monitored.list(ctx, r)
	return found[monitored.kind], err
}

// RecordMonitorState replaces what the monitor remembers.
func (r *Repository) RecordMonitorState(ctx context.Context, s remora.MonitorState) error {
	return monitored.put(ctx, r, monitored.kind, s)
}

// maxUndelivered is how many of the newest are kept.
const maxUndelivered = 20

// RecordUndelivered leaves the record of a notice that could not be told.
func (r *Repository) RecordUndelivered(ctx context.Context, u remora.Undelivered) error {
	err := r.write(ctx, "undelivered", func(ctx context.Context, w repo.RepositoryWriter) error {
		labels := undelivered.labels(u.To)
		labels[labelNotice] = u.Notice.ID
		if err := replace(ctx, w, labels, u); err != nil {
			return err
		}
		all, err := w.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: undelivered.kind}) // oldest first
		if err != nil {
			return err
		}
		return forget(ctx, w, all[:max(0, len(all)-maxUndelivered)])
	})
	return problem("record what was not delivered", u.To, err)
}

// Undelivered are the notices that could not be told since their channel last worked, newest first.
func (r *Repository) Undelivered(ctx context.Context) (all []remora.Undelivered, err error) {
	if err := r.Refresh(ctx); err != nil {
		return nil, err
	}
	found, err := records[remora.Undelivered](ctx, r.rep, map[string]string{manifest.TypeLabelKey: undelivered.kind})
	for _, f := range slices.Backward(found) {
		all = append(all, f.Value)
	}
	return all, problem("list what was not delivered", r.Where(), err)
}

// RecordDelivered forgets what could not be told to a channel: it works again.
func (r *Repository) RecordDelivered(ctx context.Context, to string) error {
	return undelivered.drop(ctx, r, to)
}
