package repository

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"text/template"
	"time"

	kopiafs "github.com/kopia/kopia/fs"
	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
	"github.com/kopia/kopia/snapshot/snapshotfs"
	"github.com/remora-backup/remora/internal/remora"
)

// The tags of snapshots. The prefix makes them visible to the stock command: kopia snapshot list --tags=backup:ID.
const (
	tagBackup     = "tag:backup"
	tagRun        = "tag:run"
	tagCheckpoint = "tag:checkpoint"
)

// The files of a backup beside its parts.
const (
	manifestFile = "backup.json"
	guideFile    = "RESTORE.md"
)

const commitOp = "commit the backup"

// origin is the snapshot source of everything that belongs to a source of ours.
func (r *Repository) origin(source string) snapshot.SourceInfo {
	return snapshot.SourceInfo{Host: r.installation, UserName: owner, Path: "/" + source}
}

// committed is the record that makes a list of backups cheap: the manifest, and the snapshot that holds the backup.
type committed struct {
	Snapshot manifest.ID     `json:"snapshot"`
	Manifest remora.Manifest `json:"manifest"`
}

// Commit makes the captured parts a backup. The manifest comes last: before it, the backup does not exist for anyone.
// Repeating a Commit, from here or from another process, returns the manifest of the first one.
func (r *Repository) Commit(ctx context.Context, m remora.Manifest) (remora.Manifest, error) {
	if err := checkManifest(m); err != nil {
		return remora.Manifest{}, err
	}
	if m.Ended.IsZero() {
		m.Ended = time.Now().UTC()
	}
	m.Format = remora.ManifestFormat
	if first, done, err := r.sameCommit(ctx, m); err != nil || done {
		return first, err
	}
	err := r.write(ctx, "commit", func(ctx context.Context, w repo.RepositoryWriter) error {
		root, err := r.writeRoot(ctx, w, m)
		if err != nil {
			return err
		}
		if err := r.saveBackup(ctx, w, m, root); err != nil {
			return err
		}
		return dropCheckpoints(ctx, w, m.Run)
	})
	if err != nil {
		return remora.Manifest{}, problem(commitOp, m.ID, err)
	}
	r.swept.Do(func() {
		if err := r.at.sweep(); err != nil {
			r.log.Warn("temporary files were not swept", "repository", r.Where(), "error", err)
		}
	})
	first, done, err := r.sameCommit(ctx, m)
	if err == nil && !done {
		err = remora.Fail(remora.Internal, commitOp, m.ID, "", "the backup was written and cannot be found")
	}
	return first, err
}

func checkManifest(m remora.Manifest) error {
	wrong := remora.CheckSourceName(m.Source)
	switch {
	case wrong != nil:
	case !backupID.MatchString(m.ID) || m.Run == "" || m.Started.IsZero():
		wrong = errors.New("it needs an id, a run and a start")
	case m.Format > remora.ManifestFormat:
		wrong = fmt.Errorf("format %d is newer than this program's %d", m.Format, remora.ManifestFormat)
	}
	if wrong != nil {
		return &remora.Problem{Op: commitOp, Kind: remora.Internal, Subject: quote(m.ID), Err: wrong}
	}
	return nil
}

// sameCommit finds what has been committed under this id. Should several processes have done so at once, all of them
// keep the same one.
func (r *Repository) sameCommit(ctx context.Context, m remora.Manifest) (first remora.Manifest, done bool, err error) {
	found, err := r.commits(ctx, map[string]string{labelBackup: m.ID})
	if err != nil || len(found) == 0 {
		return first, false, problem(commitOp, m.ID, err)
	}
	first = found[0].Value.Manifest
	if first.Run != m.Run {
		return remora.Manifest{}, false, remora.Fail(remora.Invalid, commitOp, m.ID, "start the backup again: it will get another id", "the id belongs to run %s", first.Run)
	}
	if len(found) > 1 {
		err = r.write(ctx, "commit", func(ctx context.Context, w repo.RepositoryWriter) error { return dropCommits(ctx, w, found[1:]) })
	}
	return first, true, problem(commitOp, m.ID, err)
}

// dropCommits deletes the records of backups, and the snapshots that hold them.
func dropCommits(ctx context.Context, w repo.RepositoryWriter, all []record[committed]) error {
	for _, c := range all {
		if err := errors.Join(w.DeleteManifest(ctx, c.ID), w.DeleteManifest(ctx, c.Value.Snapshot)); err != nil {
			return err
		}
	}
	return nil
}

// commits reads the records of backups whose snapshot is there, the one to keep first where several have one id.
func (r *Repository) commits(ctx context.Context, labels map[string]string) ([]record[committed], error) {
	if err := bounded(ctx, r.refresh); err != nil {
		return nil, err
	}
	snapshots, err := snapshot.ListSnapshotManifests(ctx, r.rep, nil, nil)
	if err != nil {
		return nil, err
	}
	present := make(map[manifest.ID]bool, len(snapshots))
	for _, id := range snapshots {
		present[id] = true
	}
	want := map[string]string{manifest.TypeLabelKey: backupType}
	maps.Copy(want, labels)
	found, err := records[committed](ctx, r.rep, want)
	found = slices.DeleteFunc(found, func(c record[committed]) bool { return !present[c.Value.Snapshot] })
	slices.SortFunc(found, func(a, b record[committed]) int {
		return cmp.Or(a.ModTime.Compare(b.ModTime), cmp.Compare(a.ID, b.ID))
	})
	return found, err
}

// writeRoot writes the backup's root directory: what it is, how to rebuild it, and the parts.
func (r *Repository) writeRoot(ctx context.Context, w repo.RepositoryWriter, m remora.Manifest) (*snapshot.DirEntry, error) {
	root := &snapshotfs.DirManifestBuilder{}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	guide, err := restoreGuide(m, r.Where())
	if err != nil {
		return nil, err
	}
	for name, text := range map[string][]byte{manifestFile: append(text, '\n'), guideFile: guide} {
		entry, err := writeFile(ctx, w, name, text)
		if err != nil {
			return nil, err
		}
		root.AddEntry(entry)
	}
	for _, part := range m.Parts {
		entry, err := r.partEntry(ctx, part)
		if err != nil {
			return nil, err
		}
		root.AddEntry(entry)
	}
	return writeDir(ctx, w, root, plain(m.ID, snapshot.EntryTypeDirectory))
}

// writeFile stores a small file.
func writeFile(ctx context.Context, w repo.RepositoryWriter, name string, text []byte) (*snapshot.DirEntry, error) {
	to := w.NewObjectWriter(ctx, object.WriterOptions{Description: name, Compressor: compressor, MetadataCompressor: compressor})
	defer func() { _ = to.Close() }()
	if _, err := to.Write(text); err != nil {
		return nil, err
	}
	entry := plain(name, snapshot.EntryTypeFile)
	var err error
	entry.ObjectID, err = to.Result()
	entry.FileSize = int64(len(text))
	return &entry, err
}

// partEntry is the directory entry of a captured part. It proves that the part is still there.
func (r *Repository) partEntry(ctx context.Context, part remora.PartRef) (*snapshot.DirEntry, error) {
	entry := plain(string(part.Kind), snapshot.EntryTypeDirectory)
	if !part.Ended.IsZero() {
		entry.ModTime = kopiafs.UTCTimestampFromTime(part.Ended)
	}
	var err error
	entry.ObjectID, err = object.ParseID(part.Root)
	if err == nil && !snapshotfs.IsDirectoryID(entry.ObjectID) {
		err = errors.New("not a directory")
	}
	if err != nil {
		return nil, remora.Fail(remora.Internal, commitOp, string(part.Kind), "", "part %s: %w", quote(part.Root), err)
	}
	stored, err := r.directory(ctx, entry.ObjectID)
	if err != nil {
		return nil, problem(commitOp, string(part.Kind)+" part", err)
	}
	entry.DirSummary = stored.Summary
	return &entry, nil
}

// saveBackup adds the snapshot and its record to the session; they appear together.
func (r *Repository) saveBackup(ctx context.Context, w repo.RepositoryWriter, m remora.Manifest, root *snapshot.DirEntry) error {
	tags := map[string]string{
		tagBackup: m.ID, tagRun: m.Run, "tag:source": m.Source, "tag:kind": string(m.Kind), "tag:purpose": string(m.Purpose),
	}
	if m.Name != "" {
		tags["tag:name"] = m.Name
	}
	id, err := snapshot.SaveSnapshot(ctx, w, &snapshot.Manifest{
		Source: r.origin(m.Source), Description: m.ID, Tags: tags, RootEntry: root,
		StartTime: kopiafs.UTCTimestampFromTime(m.Started), EndTime: kopiafs.UTCTimestampFromTime(m.Ended),
	})
	if err != nil {
		return err
	}
	labels := map[string]string{
		manifest.TypeLabelKey: backupType, labelBackup: m.ID, labelSource: m.Source, labelFormat: strconv.Itoa(m.Format),
	}
	if m.Slot.Schedule != "" {
		labels[labelSlot] = slotOf(m.Source, m.Slot)
		if err := dropSlot(ctx, w, m.Source, m.Slot); err != nil {
			return err
		}
	}
	_, err = w.PutManifest(ctx, labels, committed{Snapshot: id, Manifest: m})
	return err
}

// dropCheckpoints deletes what kept the parts of a run from the collector.
func dropCheckpoints(ctx context.Context, w repo.RepositoryWriter, run string) error {
	found, err := w.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: snapshot.ManifestType, tagRun: run})
	if err != nil {
		return err
	}
	return forget(ctx, w, keep(found, func(f *manifest.EntryMetadata) bool { return f.Labels[tagCheckpoint] != "" }))
}

//go:embed RESTORE.md
var guideText string

// restoreGuide tells how to rebuild a backup by hand, without this program.
func restoreGuide(m remora.Manifest, where string) ([]byte, error) {
	t, err := template.New(guideFile).Parse(guideText)
	if err != nil {
		return nil, err
	}
	_, database := m.Part(remora.Database)
	_, files := m.Part(remora.Files)
	var text bytes.Buffer
	err = t.Execute(&text, map[string]any{
		"ID": m.ID, "Source": m.Source, "Where": where, "Started": m.Started.UTC().Format(time.RFC3339), "Database": database, "Files": files,
	})
	return text.Bytes(), err
}
