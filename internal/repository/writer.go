package repository

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	kopiafs "github.com/kopia/kopia/fs"
	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
	"github.com/kopia/kopia/snapshot/snapshotfs"
	"github.com/kopia/kopia/snapshot/upload"
	"github.com/remora-backup/remora/internal/remora"
)

// Spec says what a part is written for.
type Spec struct {
	Source string
	// Run and Backup are the run, and the id of the backup, that the part will belong to.
	Run, Backup string
	Kind        remora.Kind
}

// PartWriter takes the content of one part. It is safe for concurrent use: every Put is one stream in its caller's
// goroutine. In the background it makes what it has durable, so that a retry finds it, and protects it from the
// collector; trouble with that is reported by the next call. It ends with Finish or Abort.
type PartWriter struct {
	r     *Repository
	spec  Spec
	w     repo.RepositoryWriter
	added atomic.Int64

	stop    context.CancelFunc
	stopped chan struct{}
	saved   manifest.ID // the last checkpoint: of the background work, and of Finish once that has stopped

	mu      sync.Mutex
	taken   map[string]bool               // the paths given to Put and PutTree; false: a directory above one
	entries map[string]*snapshot.DirEntry // what is stored
	streams map[string]object.Writer      // what is being stored
	failed  error
	ended   bool
}

var _ remora.PartWriter = (*PartWriter)(nil)

const writeOp = "write to the repository"

// Begin starts a part. Several parts, of this or other backups, may be written at once.
func (r *Repository) Begin(ctx context.Context, spec Spec) (*PartWriter, error) {
	if err := remora.CheckSourceName(spec.Source); err != nil || spec.Run == "" || spec.Kind == "" {
		return nil, remora.Fail(remora.Internal, writeOp, spec.Backup, "", "a part needs a source, a run and a kind, not %+v", spec)
	}
	if err := r.Refresh(ctx); err != nil {
		return nil, err
	}
	p := &PartWriter{
		r: r, spec: spec, stopped: make(chan struct{}),
		taken: map[string]bool{}, entries: map[string]*snapshot.DirEntry{}, streams: map[string]object.Writer{},
	}
	var err error
	if _, p.w, err = r.rep.NewWriter(ctx, repo.WriteSessionOptions{Purpose: "part", OnUpload: func(n int64) { p.added.Add(n) }}); err != nil {
		return nil, p.problem(err)
	}
	background, stop := context.WithCancel(ctx)
	p.stop = stop
	go p.keep(background)
	return p, nil
}

func (p *PartWriter) problem(err error) error { return problem(writeOp, p.r.Where(), err) }

// Put stores what write writes under name. Only when write returns nil is it kept.
func (p *PartWriter) Put(ctx context.Context, name string, write func(io.Writer) error) error {
	if err := p.claim(name); err != nil {
		return err
	}
	entry := plain(path.Base(name), snapshot.EntryTypeFile)
	if err := p.store(ctx, name, &entry, write); err != nil {
		p.release(name)
		return err
	}
	p.keepEntry(name, &entry, nil)
	return nil
}

// store writes the content of a file, and completes its entry. A checkpoint protects the blocks that are finished.
func (p *PartWriter) store(ctx context.Context, name string, entry *snapshot.DirEntry, write func(io.Writer) error) error {
	err := bounded(ctx, func(ctx context.Context) error { return p.stream(ctx, name, entry, write) })
	if errors.As(err, new(*refusal)) {
		return p.problem(err)
	}
	return err
}

func (p *PartWriter) stream(ctx context.Context, name string, entry *snapshot.DirEntry, write func(io.Writer) error) error {
	to := p.w.NewObjectWriter(ctx, object.WriterOptions{Description: name, Compressor: compressors[p.r.cfg.Compression], MetadataCompressor: compressor})
	p.mu.Lock()
	p.streams[name] = to
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.streams, name)
		p.mu.Unlock()
		_ = to.Close() // it only releases memory
	}()
	counted := &stream{ctx: ctx, p: p, to: to}
	if err := write(counted); err != nil {
		return err
	}
	id, err := to.Result()
	entry.ObjectID, entry.FileSize = id, counted.n
	return p.problem(errors.Join(ctx.Err(), err))
}

// stream counts, and ends early when the caller or the background work did.
type stream struct {
	ctx context.Context
	p   *PartWriter
	to  io.Writer
	n   int64
}

func (s *stream) Write(b []byte) (int, error) {
	if err := errors.Join(s.ctx.Err(), s.p.trouble()); err != nil {
		return 0, err
	}
	n, err := s.to.Write(b)
	s.n += int64(n)
	return n, s.p.problem(err)
}

// keepEntry takes what is stored under name. A directory takes the place of its content.
func (p *PartWriter) keepEntry(name string, entry *snapshot.DirEntry, content []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range content {
		delete(p.entries, path.Join(name, c))
	}
	p.entries[name] = entry
}

// claim takes a path, once.
func (p *PartWriter) claim(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		return p.failed
	}
	var wrong string
	_, twice := p.taken[name]
	switch {
	case p.ended:
		wrong = "the part has ended"
	case !fs.ValidPath(name) || name == "." || strings.ContainsRune(name, 0):
		wrong = "not a path inside a part"
	case twice:
		wrong = "put twice"
	}
	for dir := path.Dir(name); dir != "." && wrong == ""; dir = path.Dir(dir) {
		if p.taken[dir] {
			wrong = "put below a path that was put"
		}
	}
	if wrong != "" {
		return remora.Fail(remora.Internal, writeOp, quote(name), "", "%s", wrong)
	}
	p.taken[name] = true
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		p.taken[dir] = false
	}
	return nil
}

// release gives a path back, with everything that was stored under it.
func (p *PartWriter) release(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, name)
	for other := range p.entries {
		if other == name || strings.HasPrefix(other, name+"/") {
			delete(p.entries, other)
		}
	}
}

func (p *PartWriter) trouble() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// keep flushes and checkpoints until ctx ends. A flush writes the index of what is stored, without which a retry would
// store it again; a checkpoint refers to it, without which the collector would take it for garbage in a long backup.
func (p *PartWriter) keep(ctx context.Context) {
	defer close(p.stopped)
	flush, checkpoint := time.NewTicker(p.r.pace.flush), time.NewTicker(p.r.pace.checkpoint)
	defer flush.Stop()
	defer checkpoint.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-checkpoint.C:
			_, err = p.checkpoint(ctx)
		case <-flush.C:
			err = p.flush(ctx)
		}
		if err != nil && ctx.Err() == nil {
			p.r.log.Warn("keeping a part failed", "backup", p.spec.Backup, "kind", p.spec.Kind, "error", err)
			p.mu.Lock()
			p.failed = p.problem(err)
			p.mu.Unlock()
			return
		}
	}
}

func (p *PartWriter) flush(ctx context.Context) error {
	if err := bounded(ctx, p.w.Flush); err != nil {
		return err
	}
	return p.r.settle()
}

// checkpoint saves an incomplete snapshot that refers to everything stored so far, in place of the one before it.
func (p *PartWriter) checkpoint(ctx context.Context) (root *snapshot.DirEntry, err error) {
	err = bounded(ctx, func(ctx context.Context) error {
		root, err = p.saveCheckpoint(ctx)
		return err
	})
	return root, err
}

func (p *PartWriter) saveCheckpoint(ctx context.Context) (*snapshot.DirEntry, error) {
	if err := p.r.present(ctx); err != nil {
		return nil, err
	}
	if err := p.w.Refresh(ctx); err != nil {
		return nil, err
	}
	entries, err := p.stored()
	if err != nil {
		return nil, err
	}
	root, err := assemble(ctx, p.w, string(p.spec.Kind), entries)
	if err != nil {
		return nil, err
	}
	now := kopiafs.UTCTimestampFromTime(time.Now())
	id, err := snapshot.SaveSnapshot(ctx, p.w, &snapshot.Manifest{
		Source: p.r.origin(p.spec.Source), Description: p.spec.Backup, StartTime: now, EndTime: now,
		IncompleteReason: upload.IncompleteReasonCheckpoint, RootEntry: root,
		Tags: map[string]string{tagCheckpoint: string(p.spec.Kind), tagRun: p.spec.Run},
	})
	if err != nil {
		return nil, err
	}
	if p.saved != "" {
		if err := p.w.DeleteManifest(ctx, p.saved); err != nil {
			return nil, err
		}
	}
	p.saved = id
	return root, p.flush(ctx)
}

// stored lists the finished entries and what is already stored of the unfinished files.
func (p *PartWriter) stored() (map[string]*snapshot.DirEntry, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := maps.Clone(p.entries)
	for name, to := range p.streams {
		id, err := to.Checkpoint()
		if err != nil {
			return nil, err
		}
		if id != object.EmptyID {
			entry := plain(path.Base(name), snapshot.EntryTypeFile)
			entry.ObjectID = id
			all[name] = &entry
		}
	}
	return all, nil
}

// Finish writes the part's directories and makes everything durable. It returns the id of the part's root, for Commit,
// and how many bytes the part added to the repository. Until Commit, a checkpoint keeps the part from the collector.
func (p *PartWriter) Finish(ctx context.Context) (root string, added int64, err error) {
	if err := p.complete(); err != nil {
		return "", 0, err
	}
	p.halt()
	entry, err := p.checkpoint(ctx)
	if err := errors.Join(p.problem(err), p.Abort(ctx)); err != nil { // Abort closes it; what is stored stays
		return "", 0, err
	}
	return entry.ObjectID.String(), p.added.Load(), nil
}

// complete tells whether every Put succeeded, and nothing else went wrong.
func (p *PartWriter) complete() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		return p.failed
	}
	early := p.ended
	for name, put := range p.taken {
		early = early || put && p.entries[name] == nil
	}
	if early {
		return remora.Fail(remora.Internal, writeOp, p.spec.Backup, "", "a part is finished once, after the last Put")
	}
	return nil
}

// Abort gives the part up. What it stored is left for the collector, and for a retry to find. It may be called after
// Finish, and again.
func (p *PartWriter) Abort(ctx context.Context) error {
	p.halt()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	p.ended = true
	return p.problem(p.w.Close(ctx))
}

// halt ends the background work and waits for it.
func (p *PartWriter) halt() {
	p.stop()
	<-p.stopped
}

// assemble writes a directory with these entries, and the directories that their paths imply.
func assemble(ctx context.Context, w repo.RepositoryWriter, name string, entries map[string]*snapshot.DirEntry) (*snapshot.DirEntry, error) {
	builder := &snapshotfs.DirManifestBuilder{}
	implied := map[string]map[string]*snapshot.DirEntry{}
	for p, entry := range entries {
		dir, rest, deeper := strings.Cut(p, "/")
		if !deeper {
			builder.AddEntry(entry)
			continue
		}
		if implied[dir] == nil {
			implied[dir] = map[string]*snapshot.DirEntry{}
		}
		implied[dir][rest] = entry
	}
	for dir, inside := range implied {
		entry, err := assemble(ctx, w, dir, inside)
		if err != nil {
			return nil, err
		}
		builder.AddEntry(entry)
	}
	return writeDir(ctx, w, builder, plain(name, snapshot.EntryTypeDirectory))
}

// plain is the entry of a file or directory that Remora made up.
func plain(name string, kind snapshot.EntryType) snapshot.DirEntry {
	entry := snapshot.DirEntry{
		Name: name, Type: kind, Permissions: 0o600, ModTime: kopiafs.UTCTimestampFromTime(time.Now()),
		UserID: uint32(os.Geteuid()), GroupID: uint32(os.Getegid()),
	}
	if kind == snapshot.EntryTypeDirectory {
		entry.Permissions = 0o700
	}
	return entry
}

// writeDir stores a directory and completes its entry.
func writeDir(ctx context.Context, w repo.RepositoryWriter, b *snapshotfs.DirManifestBuilder, entry snapshot.DirEntry) (*snapshot.DirEntry, error) {
	dir := b.Build(entry.ModTime, "")
	id, err := snapshotfs.WriteDirManifest(ctx, w, entry.Name, dir, compressor)
	if err != nil {
		return nil, err
	}
	entry.ObjectID, entry.DirSummary = id, dir.Summary
	return &entry, nil
}
