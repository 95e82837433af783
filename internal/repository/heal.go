package repository

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
	"github.com/remora-backup/remora/internal/remora"
)

// giveUp marks blocks as deleted that are in the index and cannot be read, now that they are tried once more. A backup
// that has their content then stores it again, and whatever refers to it is good again; without the mark it would be
// taken for stored already, for ever. A mark loses nothing: what can be read after all is kept by the collector while
// anything refers to it.
func (r *Repository) giveUp(ctx context.Context, doubts map[content.ID]bool) error {
	return r.write(ctx, "give up what cannot be read", func(ctx context.Context, w repo.RepositoryWriter) error {
		contents := w.(repo.DirectRepositoryWriter).ContentManager() // as for every repository that is opened with a storage
		for id := range doubts {
			info, err := contents.ContentInfo(ctx, id)
			if errors.Is(err, content.ErrContentNotFound) || err == nil && info.Deleted {
				continue // it is stored again anyway
			}
			if err == nil {
				_, err = contents.GetContent(ctx, id)
			}
			switch {
			case err == nil: // stored again meanwhile
			case ctx.Err() != nil || !damaged(err):
				return err
			default:
				if err := contents.DeleteContent(ctx, id); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// intact tells whether all blocks of an object are in the index, and none was given up.
func (r *Repository) intact(ctx context.Context, id object.ID) bool {
	blocks, err := r.rep.VerifyObject(ctx, id)
	return err == nil && !slices.ContainsFunc(blocks, func(b content.ID) bool {
		info, err := r.rep.ContentInfo(ctx, b)
		return err != nil || info.Deleted
	})
}

// miss takes down what may be why the blocks of a file or directory cannot be told: the list of them, or the directory.
func (v *verifier) miss(ctx context.Context, name string, entry *snapshot.DirEntry, err error) error {
	id := entry.ObjectID
	v.broken = append(v.broken, id)
	if entry.Type == snapshot.EntryTypeDirectory {
		blocks, _ := v.r.rep.VerifyObject(ctx, id) // none where the list is what is lost
		for _, b := range blocks {
			v.doubts[b] = true
		}
	}
	for list, indirect := id.IndexObjectID(); indirect; list, indirect = id.IndexObjectID() {
		id = list
	}
	if b, _, ok := id.ContentID(); ok {
		v.doubts[b] = true
	}
	return v.damages(name, err)
}

// readOnce are the blocks that the latest run which verifies several backups has read. It is safe for concurrent use.
type readOnce struct {
	mu  sync.Mutex
	run string
	ids map[content.ID]struct{}
}

// most bounds a readOnce: about 100 MB, for what is 2 TB of data. Further blocks are read again.
const most = 1 << 20

func (o *readOnce) has(run string, id content.ID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.ids[id]
	return ok && run == o.run
}

// add remembers a block of a named run, and nothing any more of another one.
func (o *readOnce) add(run string, id content.ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if run == "" || run == o.run && len(o.ids) >= most {
		return
	}
	if run != o.run {
		o.run, o.ids = run, map[content.ID]struct{}{}
	}
	o.ids[id] = struct{}{}
}

// pastDamage shows the collector a repository without what is lost in backups that are known to be corrupt: it would
// end at the first such thing, and no space would ever come back. What can be read of such backups is kept.
func (r *Repository) pastDamage(ctx context.Context, w repo.DirectRepositoryWriter) (repo.DirectRepositoryWriter, error) {
	all, err := r.all(ctx)
	if err != nil {
		return nil, err
	}
	lost := &pastDamage{DirectRepositoryWriter: w, blocks: map[content.ID]bool{}, objects: map[object.ID]bool{}}
	for _, b := range all {
		if b.Status != remora.Corrupted {
			continue
		}
		v := newVerifier(r, nil)
		root, err := r.root(ctx, b)
		if err == nil {
			err = r.walk(ctx, ".", root, v)
		}
		if err != nil {
			return nil, err
		}
		for _, o := range v.broken {
			lost.objects[o] = true
		}
		for id, block := range v.blocks {
			if block.info.Deleted {
				if _, err := r.rep.ContentReader().GetContent(ctx, id); err != nil {
					lost.blocks[id] = true
				}
			}
		}
	}
	if len(lost.objects)+len(lost.blocks) == 0 {
		return w, nil
	}
	r.log.Warn("space is reclaimed although backups are corrupt", "repository", r.Where(), "lost", len(lost.blocks)+len(lost.objects))
	return lost, nil
}

type pastDamage struct {
	repo.DirectRepositoryWriter
	blocks  map[content.ID]bool
	objects map[object.ID]bool
}

func (p *pastDamage) VerifyObject(ctx context.Context, id object.ID) ([]content.ID, error) {
	blocks, err := p.DirectRepositoryWriter.VerifyObject(ctx, id)
	if p.objects[id] {
		return blocks, nil // it is known to be lost
	}
	return blocks, err
}

// OpenObject opens a lost directory as an empty one.
func (p *pastDamage) OpenObject(ctx context.Context, id object.ID) (object.Reader, error) {
	if p.objects[id] {
		return emptyDirectory{strings.NewReader(`{"stream":"kopia:directory","entries":[]}`)}, nil
	}
	return p.DirectRepositoryWriter.OpenObject(ctx, id)
}

type emptyDirectory struct{ *strings.Reader }

func (emptyDirectory) Close() error    { return nil }
func (e emptyDirectory) Length() int64 { return e.Size() }

func (p *pastDamage) ContentReader() content.Reader {
	return pastBlocks{p.DirectRepositoryWriter.ContentReader(), p.blocks}
}

type pastBlocks struct {
	content.Reader
	lost map[content.ID]bool
}

func (p pastBlocks) IterateContents(ctx context.Context, o content.IterateOptions, visit content.IterateCallback) error {
	return p.Reader.IterateContents(ctx, o, func(i content.Info) error {
		if p.lost[i.ContentID] {
			return nil
		}
		return visit(i)
	})
}

func (p pastBlocks) IteratePacks(ctx context.Context, o content.IteratePackOptions, visit content.IteratePacksCallback) error {
	return p.Reader.IteratePacks(ctx, o, func(pack content.PackInfo) error {
		pack.ContentInfos = slices.DeleteFunc(pack.ContentInfos, func(i content.Info) bool { return p.lost[i.ContentID] })
		return visit(pack)
	})
}
