package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
	"github.com/remora-backup/remora/internal/remora"
	"golang.org/x/sync/errgroup"
)

const (
	verifyOp = "verify the backup"
	// clocks is how far the clock that began a run may be ahead of the one that wrote its blocks.
	clocks = 15 * time.Minute
	// parallelReads is how many blocks are read back at once.
	parallelReads = 3
	// shownDamage bounds how many damaged files a problem names.
	shownDamage = 5
)

// Verify walks a backup: every block that its run wrote is read back, decrypted and authenticated, and so is what
// earlier runs left that no verification has seen since; every other block must be in the index, and its pack there in
// full length. The result is recorded, also when it is bad; then it is returned with a Corrupt problem that names what
// is damaged. report is called by one goroutine at a time; it may be nil.
func (r *Repository) Verify(ctx context.Context, id string, report func(remora.Progress)) (remora.Verification, error) {
	c, err := r.exactly(ctx, verifyOp, id)
	if err != nil {
		return remora.Verification{}, err
	}
	v := &verifier{r: r, report: report, began: time.Now(), blocks: map[content.ID]block{}}
	if v.unseen, err = r.unseen(ctx, c.Manifest); err == nil {
		err = v.run(ctx, c)
	}
	if err != nil {
		return remora.Verification{}, problem(verifyOp, id, err)
	}
	result := remora.Verification{
		At: time.Now().UTC(), Contents: v.read.Load(), Present: v.present, Bytes: v.bytes.Load(), Problem: v.verdict(),
	}
	labels := map[string]string{manifest.TypeLabelKey: verificationType, labelBackup: id}
	err = r.write(ctx, "verification", func(ctx context.Context, w repo.RepositoryWriter) error {
		return replace(ctx, w, labels, labelBackup, result)
	})
	if result.Problem != "" {
		return result, errors.Join(&remora.Problem{
			Op: verifyOp, Kind: remora.Corrupt, Subject: id, Err: errors.New(result.Problem),
			Hint: "take a new backup now with: remora backup " + c.Manifest.Source + "; check the repository's disk, and restore from a backup that verifies",
		}, problem(verifyOp, id, err))
	}
	return result, problem(verifyOp, id, err)
}

// block is a piece of stored data, and the first file in which it was met.
type block struct {
	info content.Info
	file string
}

// window is a time in which blocks were written that nobody has read back yet.
type window struct{ from, to time.Time }

// unseen lists when this backup was written, and the runs before it that were not verified, back to the last of the
// source's backups that was.
func (r *Repository) unseen(ctx context.Context, m remora.Manifest) ([]window, error) {
	all, err := r.List(ctx, Filter{Source: m.Source, Until: m.Started})
	if err != nil {
		return nil, err
	}
	windows := []window{{from: m.Started.Add(-clocks), to: time.Now().Add(clocks)}}
	for _, b := range all {
		if b.Status == remora.Completed {
			break
		}
		windows = append(windows, window{from: b.Started.Add(-clocks), to: b.Ended.Add(clocks)})
	}
	return windows, nil
}

type verifier struct {
	r       *Repository
	unseen  []window
	report  func(remora.Progress)
	began   time.Time
	blocks  map[content.ID]block
	present int64
	read    atomic.Int64
	bytes   atomic.Int64

	mu      sync.Mutex
	damage  []string
	damaged map[string]bool
}

// run returns an error only when it could not find out.
func (v *verifier) run(ctx context.Context, c committed) error {
	packs, err := blob.ReadBlobMap(ctx, v.r.rep.BlobReader())
	if err != nil {
		return err
	}
	root, err := v.r.root(ctx, c)
	if err != nil {
		return v.damages(".", err)
	}
	if err := v.walk(ctx, ".", root); err != nil {
		return err
	}
	return v.check(ctx, packs)
}

// walk collects the blocks of an entry and of everything below it.
func (v *verifier) walk(ctx context.Context, name string, entry *snapshot.DirEntry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := v.collect(ctx, name, entry); err != nil {
		return v.damages(name, err)
	}
	children, err := v.r.children(ctx, entry)
	if err != nil {
		return v.damages(name, err)
	}
	if entry.Type == snapshot.EntryTypeDirectory {
		v.tell(remora.Progress{Item: name})
	}
	for _, child := range children {
		if err := v.walk(ctx, path.Join(name, child.Name), child); err != nil {
			return err
		}
	}
	return nil
}

// collect finds the blocks of one object, and checks that together they are as long as the file.
func (v *verifier) collect(ctx context.Context, name string, entry *snapshot.DirEntry) error {
	contents, err := v.r.rep.VerifyObject(ctx, entry.ObjectID)
	if err != nil {
		return err
	}
	var length int64
	for _, id := range contents {
		info, err := v.r.rep.ContentInfo(ctx, id)
		if err != nil {
			return err
		}
		length += int64(info.OriginalLength)
		if _, known := v.blocks[id]; !known {
			v.blocks[id] = block{info: info, file: name}
		}
	}
	if _, indirect := entry.ObjectID.IndexObjectID(); indirect {
		if length, err = v.length(ctx, entry.ObjectID); err != nil {
			return err
		}
	}
	if entry.Type != snapshot.EntryTypeDirectory && length != entry.FileSize {
		return fmt.Errorf("malformed file: %d bytes are stored of %d", length, entry.FileSize)
	}
	return nil
}

func (v *verifier) length(ctx context.Context, id object.ID) (int64, error) {
	from, err := v.r.rep.OpenObject(ctx, id)
	if err != nil {
		return 0, err
	}
	defer func() { _ = from.Close() }()
	return from.Length(), nil
}

// check looks at every block, in the order in which they lie in their packs.
func (v *verifier) check(ctx context.Context, packs map[blob.ID]blob.Metadata) error {
	all := make([]block, 0, len(v.blocks))
	var total int64
	for _, b := range v.blocks {
		all = append(all, b)
		if v.fresh(b) {
			total += int64(b.info.PackedLength)
		}
	}
	slices.SortFunc(all, func(a, b block) int {
		return cmp.Or(cmp.Compare(a.info.PackBlobID, b.info.PackBlobID), cmp.Compare(a.info.PackOffset, b.info.PackOffset))
	})
	readers, inner := errgroup.WithContext(ctx)
	readers.SetLimit(parallelReads)
	for _, b := range all {
		if inner.Err() != nil {
			break
		}
		pack, there := packs[b.info.PackBlobID]
		if !there { // moved since the listing, perhaps
			if found, err := v.r.rep.BlobReader().GetMetadata(inner, b.info.PackBlobID); err == nil {
				pack, there = found, true
				packs[b.info.PackBlobID] = found
			}
		}
		end := int64(b.info.PackOffset) + int64(b.info.PackedLength)
		switch {
		case !there:
			v.damages(b.file, fmt.Errorf("%w: pack %s", blob.ErrBlobNotFound, b.info.PackBlobID)) //nolint:errcheck // damage it is
		case end > pack.Length:
			v.damages(b.file, fmt.Errorf("invalid length: pack %s is cut off", b.info.PackBlobID)) //nolint:errcheck // damage it is
		case v.fresh(b):
			readers.Go(func() error {
				if _, err := v.r.rep.ContentReader().GetContent(inner, b.info.ContentID); err != nil {
					return v.damages(b.file, err)
				}
				v.read.Add(1)
				done := v.bytes.Add(int64(b.info.PackedLength))
				v.tell(remora.Progress{Done: done, Total: total, Unit: "bytes", Item: b.file})
				return nil
			})
		default:
			v.present++
		}
	}
	return errors.Join(readers.Wait(), ctx.Err())
}

// fresh tells whether the block may have been written since somebody last looked.
func (v *verifier) fresh(b block) bool {
	at := b.info.Timestamp()
	return slices.ContainsFunc(v.unseen, func(w window) bool { return !at.Before(w.from) && !at.After(w.to) })
}

func (v *verifier) tell(p remora.Progress) {
	if v.report == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	p.Phase, p.Since = "verify", v.began
	v.report(p)
}

// damages notes that a file is damaged; it hands back an error that says nothing about the file, such as a cancel.
func (v *verifier) damages(file string, err error) error {
	if kind := kindOf(err); kind == remora.Denied || kind == remora.Unavailable || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.damaged == nil {
		v.damaged = map[string]bool{}
	}
	if !v.damaged[file] {
		v.damaged[file] = true
		v.damage = append(v.damage, fmt.Sprintf("%s (%v)", quote(file), err))
	}
	return nil
}

// verdict is empty when nothing is damaged.
func (v *verifier) verdict() string {
	if len(v.damage) == 0 {
		return ""
	}
	slices.Sort(v.damage)
	text := "damaged: " + strings.Join(v.damage[:min(len(v.damage), shownDamage)], "; ")
	if n := len(v.damage) - shownDamage; n > 0 {
		text += fmt.Sprintf("; and %d more", n)
	}
	return remora.OneLine(text)
}
