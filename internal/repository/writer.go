package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
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
	saving  sync.Mutex // one checkpoint at a time

	mu      sync.Mutex
	claimed map[string]bool // the paths given to Put and PutTree
	implied map[string]bool // the directories above them
	entries map[string]*snapshot.DirEntry
	streams map[string]object.Writer // unfinished files
	saved   manifest.ID              // the last checkpoint
	failed  error
	ended   bool

	previous sync.Once
	before   *snapshot.DirEntry // the same part of an earlier backup
}

var _ remora.PartWriter = (*PartWriter)(nil)

const writeOp = "write to the repository"

// Begin starts a part. Several parts, of this or other backups, may be written at once.
func (r *Repository) Begin(ctx context.Context, spec Spec) (*PartWriter, error) {
	if err := remora.CheckSourceName(spec.Source); err != nil || spec.Run == "" || spec.Kind == "" {
		return nil, &remora.Problem{Op: writeOp, Kind: remora.Internal, Subject: spec.Backup, Err: fmt.Errorf("a part needs a source, a run and a kind, not %+v", spec)}
	}
	if err := r.Refresh(ctx); err != nil {
		return nil, err
	}
	p := &PartWriter{
		r: r, spec: spec, stopped: make(chan struct{}),
		claimed: map[string]bool{}, implied: map[string]bool{".": true},
		entries: map[string]*snapshot.DirEntry{}, streams: map[string]object.Writer{},
	}
	_, w, err := r.rep.NewWriter(ctx, repo.WriteSessionOptions{Purpose: "part", OnUpload: func(n int64) { p.added.Add(n) }})
	if err != nil {
		return nil, problem(writeOp, r.cfg.Path, err)
	}
	p.w = w
	background, stop := context.WithCancel(ctx)
	p.stop = stop
	go p.keep(background)
	return p, nil
}

// Put stores what write writes under name. Only when write returns nil is it kept.
func (p *PartWriter) Put(ctx context.Context, name string, write func(io.Writer) error) error {
	if err := p.claim(name); err != nil {
		return err
	}
	entry, err := p.stream(ctx, name, write)
	if err != nil {
		p.release(name)
		return err
	}
	p.keepEntry(name, entry)
	return nil
}

func (p *PartWriter) stream(ctx context.Context, name string, write func(io.Writer) error) (*snapshot.DirEntry, error) {
	to := p.open(ctx, name)
	defer p.close(name, to)
	counted := &stream{ctx: ctx, p: p, to: to}
	if err := write(counted); err != nil {
		return nil, err
	}
	id, err := to.Result()
	if err := errors.Join(ctx.Err(), err); err != nil {
		return nil, problem(writeOp, name, err)
	}
	return &snapshot.DirEntry{
		Name: path.Base(name), Type: snapshot.EntryTypeFile, Permissions: 0o600, FileSize: counted.n, ObjectID: id,
		ModTime: kopiafs.UTCTimestampFromTime(time.Now()), UserID: uint32(os.Geteuid()), GroupID: uint32(os.Getegid()),
	}, nil
}

// stream counts, and ends early when the caller or the background work did.
type stream struct {
	ctx context.Context
	p   *PartWriter
	to  io.Writer
	n   int64
}

func (s *stream) Write(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	if err := s.p.trouble(); err != nil {
		return 0, err
	}
	n, err := s.to.Write(b)
	s.n += int64(n)
	return n, problem(writeOp, s.p.r.cfg.Path, err)
}

// open begins a file whose finished blocks a checkpoint can protect.
func (p *PartWriter) open(ctx context.Context, name string) object.Writer {
	to := p.w.NewObjectWriter(ctx, object.WriterOptions{Description: name, Compressor: compressor, MetadataCompressor: compressor})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams[name] = to
	return to
}

func (p *PartWriter) close(name string, to object.Writer) {
	p.mu.Lock()
	delete(p.streams, name)
	p.mu.Unlock()
	_ = to.Close() // it only releases memory
}

func (p *PartWriter) keepEntry(name string, entry *snapshot.DirEntry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.entries[name] = entry
}

// claim takes a path, once.
func (p *PartWriter) claim(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var wrong string
	switch {
	case p.ended:
		wrong = "the part has ended"
	case !fs.ValidPath(name) || name == "." || strings.ContainsRune(name, 0):
		wrong = "not a path inside a part"
	case p.claimed[name] || p.implied[name]:
		wrong = "put twice"
	case p.failed != nil:
		return p.failed
	}
	for dir := path.Dir(name); dir != "." && wrong == ""; dir = path.Dir(dir) {
		if p.claimed[dir] {
			wrong = "put below a path that was put"
		}
	}
	if wrong != "" {
		return &remora.Problem{Op: writeOp, Kind: remora.Internal, Subject: quote(name), Err: errors.New(wrong)}
	}
	p.claimed[name] = true
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		p.implied[dir] = true
	}
	return nil
}

// release gives a path back, with everything that was stored under it.
func (p *PartWriter) release(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.claimed, name)
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
			p.failed = problem(writeOp, p.r.cfg.Path, err)
			p.mu.Unlock()
			return
		}
	}
}

func (p *PartWriter) flush(ctx context.Context) error {
	if err := p.w.Flush(ctx); err != nil {
		return err
	}
	return p.r.settle()
}

// checkpoint saves an incomplete snapshot that refers to everything stored so far, in place of the one before it.
func (p *PartWriter) checkpoint(ctx context.Context) (*snapshot.DirEntry, error) {
	p.saving.Lock()
	defer p.saving.Unlock()
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
	all := make(map[string]*snapshot.DirEntry, len(p.entries)+len(p.streams))
	for name, entry := range p.entries {
		all[name] = entry
	}
	for name, to := range p.streams {
		id, err := to.Checkpoint()
		if err != nil {
			return nil, err
		}
		if id != object.EmptyID {
			all[name] = &snapshot.DirEntry{Name: path.Base(name), Type: snapshot.EntryTypeFile, Permissions: 0o600, ObjectID: id}
		}
	}
	return all, nil
}

// Finish writes the part's directories and makes everything durable. It returns the id of the part's root, for Commit,
// and how many bytes the part added to the repository. Until Commit, a checkpoint keeps the part from the collector.
func (p *PartWriter) Finish(ctx context.Context) (root string, added int64, err error) {
	p.mu.Lock()
	ended, unfinished, failed := p.ended, len(p.claimed) != len(p.finished()), p.failed
	p.mu.Unlock()
	switch {
	case failed != nil:
		return "", 0, failed
	case ended || unfinished:
		return "", 0, &remora.Problem{Op: writeOp, Kind: remora.Internal, Subject: p.spec.Backup, Err: errors.New("a part is finished once, after the last Put")}
	}
	p.halt()
	entry, err := p.checkpoint(ctx)
	if err != nil {
		return "", 0, errors.Join(problem(writeOp, p.r.cfg.Path, err), p.Abort(ctx))
	}
	return entry.ObjectID.String(), p.added.Load(), p.end(ctx)
}

// finished lists the claimed paths that are stored.
func (p *PartWriter) finished() []string {
	var done []string
	for name := range p.claimed {
		if p.entries[name] != nil {
			done = append(done, name)
		}
	}
	return done
}

// Abort gives the part up. What it stored is left for the collector, and for a retry to find. It may be called after
// Finish, and again.
func (p *PartWriter) Abort(ctx context.Context) error {
	p.halt()
	return p.end(ctx)
}

// halt ends the background work and waits for it.
func (p *PartWriter) halt() {
	p.stop()
	<-p.stopped
}

func (p *PartWriter) end(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	p.ended = true
	return problem(writeOp, p.r.cfg.Path, p.w.Close(ctx))
}

// assemble writes the directories that the paths imply and returns the root's entry.
func assemble(ctx context.Context, w repo.RepositoryWriter, name string, entries map[string]*snapshot.DirEntry) (*snapshot.DirEntry, error) {
	builders := map[string]*snapshotfs.DirManifestBuilder{".": {}}
	var dirs []string
	for p, entry := range entries {
		for dir := path.Dir(p); builders[dir] == nil; dir = path.Dir(dir) {
			builders[dir] = &snapshotfs.DirManifestBuilder{}
			dirs = append(dirs, dir)
		}
		builders[path.Dir(p)].AddEntry(entry)
	}
	slices.SortFunc(dirs, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	for _, dir := range dirs { // the deepest first
		entry, err := writeDir(ctx, w, builders[dir], plainDir(path.Base(dir)))
		if err != nil {
			return nil, err
		}
		builders[path.Dir(dir)].AddEntry(entry)
	}
	return writeDir(ctx, w, builders["."], plainDir(name))
}

// plainDir is the entry of a directory that Remora made up.
func plainDir(name string) snapshot.DirEntry {
	return snapshot.DirEntry{
		Name: name, Type: snapshot.EntryTypeDirectory, Permissions: 0o700, ModTime: kopiafs.UTCTimestampFromTime(time.Now()),
		UserID: uint32(os.Geteuid()), GroupID: uint32(os.Getegid()),
	}
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
