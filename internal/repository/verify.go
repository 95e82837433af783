package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
	"github.com/remora-backup/remora/internal/remora"
	"golang.org/x/sync/errgroup"
)

const (
	verifyOp = "verify the backup"
	// parallelReads is how many blocks are read back at once.
	parallelReads = 3
	// shownDamage bounds how many damaged files a problem names.
	shownDamage = 5
)

// Verify walks a backup: every block is read back, decrypted and authenticated, but for those that it shares with the
// last earlier backup of the source that was verified; they must be in the index, and their packs there in full length.
// Once a backup was found damaged, all of it is read. The result is recorded, also when it is bad; then it is returned
// with a Corrupt problem that names what is damaged, and what is lost is stored anew by the next backup that has it.
// report is called by one goroutine at a time; it may be nil.
func (r *Repository) Verify(ctx context.Context, id string, report func(remora.Progress)) (remora.Verification, error) {
	return newVerifier(r, report).verify(ctx, id)
}

// VerifyBytes is Verify of all bytes, shared or not. A run, where it is named, that verifies several backups one after
// the other reads once what they share.
func (r *Repository) VerifyBytes(ctx context.Context, id, run string, report func(remora.Progress)) (remora.Verification, error) {
	v := newVerifier(r, report)
	v.full, v.once = true, run
	return v.verify(ctx, id)
}

func newVerifier(r *Repository, report func(remora.Progress)) *verifier {
	return &verifier{
		r: r, report: report, began: time.Now(),
		blocks: map[content.ID]block{}, damage: map[string]error{}, doubts: map[content.ID]bool{},
	}
}

func (v *verifier) verify(ctx context.Context, id string) (remora.Verification, error) {
	b, err := v.r.exactly(ctx, verifyOp, id)
	if err != nil {
		return remora.Verification{}, err
	}
	if b.Status == remora.Pending { // which nobody deletes, until somebody has had a week to verify it
		return v.leased(ctx, b)
	}
	lease, err := v.r.Lease(ctx, id, "", "a verification")
	if err != nil {
		return remora.Verification{}, err
	}
	sum, err := v.leased(ctx, b)
	return sum, lease.End(ctx, err)
}

func (v *verifier) leased(ctx context.Context, b known) (remora.Verification, error) {
	id := b.ID
	v.full = v.full || b.Status == remora.Corrupted
	err := v.run(ctx, b)
	if err == nil && len(v.damage) > 0 {
		err = v.confirm(ctx, id)
	}
	if err != nil {
		return remora.Verification{}, problem(verifyOp, id, err)
	}
	v.sum.At, v.sum.FullAt, v.sum.Problem = time.Now().UTC(), lastFull(b), v.verdict()
	if v.full {
		v.sum.FullAt = v.sum.At
	}
	err = verifications.put(ctx, v.r, id, v.sum)
	if v.sum.Problem != "" {
		err = errors.Join(remora.Fail(remora.Corrupt, verifyOp, id,
			"take a new backup now with: remora backup "+b.Source+", it stores what is lost again; check the repository's disk, and restore from a backup that verifies", "%s", v.sum.Problem), err)
	}
	return v.sum, err
}

// lastFull is when all bytes of a backup were last read.
func lastFull(b known) time.Time {
	if b.Verification == nil {
		return time.Time{}
	}
	return b.Verification.FullAt
}

// confirm looks again before a backup is called damaged: one that was deleted meanwhile is not, nor is one in a
// repository that went away.
func (v *verifier) confirm(ctx context.Context, id string) error {
	_, err := v.r.exactly(ctx, verifyOp, id)
	if remora.KindOf(err) == remora.NotFound {
		return remora.Fail(remora.NotFound, verifyOp, id, "choose another one: remora history", "it was deleted meanwhile")
	}
	if err == nil {
		err = v.r.giveUp(ctx, v.doubts)
	}
	return err
}

// block is a piece of stored data, and the first file in which it was met.
type block struct {
	info content.Info
	file string
	seen bool // has been read back by an earlier verification, or for another backup
}

type verifier struct {
	r      *Repository
	full   bool
	once   string // the run that reads once what several backups share; empty where nothing is remembered
	report func(remora.Progress)
	began  time.Time
	packs  map[blob.ID]blob.Metadata
	blocks map[content.ID]block
	total  int64 // the bytes to read

	mu     sync.Mutex
	sum    remora.Verification
	damage map[string]error // by file
	doubts map[content.ID]bool
	broken []object.ID // files and directories whose blocks cannot be told
}

// run returns an error only when it could not find out.
func (v *verifier) run(ctx context.Context, b known) error {
	var err error
	if v.packs, err = blob.ReadBlobMap(ctx, v.r.rep.BlobReader()); err != nil {
		return err
	}
	root, err := v.r.root(ctx, b)
	if err != nil {
		return v.damages(".", err)
	}
	if err := v.r.walk(ctx, ".", root, v); err != nil {
		return err
	}
	if !v.full {
		if err := v.spare(ctx, b.Manifest); err != nil {
			return err
		}
	}
	return v.check(ctx)
}

// spare marks the blocks that the last verified backup before this one refers to. It only saves reading: what cannot be found out there
// is read.
func (v *verifier) spare(ctx context.Context, m remora.Manifest) error {
	others, err := v.r.verified(ctx, m.Source)
	if err != nil {
		return err
	}
	others = slices.DeleteFunc(others, func(b known) bool { return !b.Started.Before(m.Started) })
	if len(others) == 0 {
		return nil
	}
	all, err := v.r.all(ctx)
	if err != nil || slices.ContainsFunc(all, func(b known) bool {
		return b.Status == remora.Corrupted && b.Verification.At.After(others[0].Verification.At)
	}) {
		return err // what was well before something was found lost is not taken for well any more
	}
	root, err := v.r.root(ctx, others[0])
	if err != nil {
		v.r.log.Warn("an earlier backup cannot be compared with", "backup", others[0].ID, "error", err)
		return nil
	}
	return v.r.walk(ctx, ".", root, spared{v})
}

// spared are the blocks of a backup that was verified.
type spared struct{ *verifier }

func (s spared) meet(_ context.Context, _ string, _ *snapshot.DirEntry, blocks []content.ID) (deeper bool, err error) {
	for _, id := range blocks {
		if b, known := s.blocks[id]; known {
			b.seen = !b.info.Deleted // given up, perhaps, after that
			s.blocks[id] = b
		}
	}
	return true, nil
}

func (spared) miss(context.Context, string, *snapshot.DirEntry, error) error { return nil }

// meet takes the blocks of one object down, and checks that together they are as long as the file.
func (v *verifier) meet(ctx context.Context, name string, entry *snapshot.DirEntry, blocks []content.ID) (deeper bool, err error) {
	var length int64
	for _, id := range blocks {
		info, err := v.r.rep.ContentInfo(ctx, id)
		if err != nil {
			return false, err
		}
		length += int64(info.OriginalLength)
		if _, known := v.blocks[id]; !known {
			v.blocks[id] = block{info: info, file: name, seen: !info.Deleted && v.r.readOnce.has(v.once, id)}
		}
	}
	if entry.Type == snapshot.EntryTypeDirectory {
		v.tell(remora.Progress{Item: name})
		return true, nil
	}
	if _, indirect := entry.ObjectID.IndexObjectID(); indirect { // the list of its blocks was counted, too
		from, err := v.r.rep.OpenObject(ctx, entry.ObjectID)
		if err != nil {
			return false, err
		}
		defer func() { _ = from.Close() }()
		length = from.Length()
	}
	if length != entry.FileSize {
		return false, fmt.Errorf("malformed file: %d bytes are stored of %d", length, entry.FileSize)
	}
	return false, nil
}

// check looks at every block, in the order in which they lie in their packs.
func (v *verifier) check(ctx context.Context) error {
	all := slices.SortedFunc(maps.Values(v.blocks), func(a, b block) int {
		return cmp.Or(cmp.Compare(a.info.PackBlobID, b.info.PackBlobID), cmp.Compare(a.info.PackOffset, b.info.PackOffset))
	})
	for _, b := range all {
		if !b.seen {
			v.total += int64(b.info.PackedLength)
		}
	}
	readers, inner := errgroup.WithContext(ctx)
	readers.SetLimit(parallelReads)
	for _, b := range all {
		if inner.Err() != nil {
			break
		}
		readers.Go(func() error {
			err := v.look(inner, b)
			if err != nil {
				v.mu.Lock()
				v.doubts[b.info.ContentID] = true
				v.mu.Unlock()
			}
			return v.damages(b.file, err)
		})
	}
	return errors.Join(readers.Wait(), ctx.Err())
}

// look sees that a block is in its place, and reads it back if nobody has yet.
func (v *verifier) look(ctx context.Context, b block) error {
	id := b.info.PackBlobID
	pack, listed := v.packs[id]
	if !listed { // moved since the listing, perhaps
		var err error
		if pack, err = v.r.rep.BlobReader().GetMetadata(ctx, id); err != nil {
			return fmt.Errorf("pack %s: %w", id, err)
		}
	}
	if int64(b.info.PackOffset)+int64(b.info.PackedLength) > pack.Length {
		return fmt.Errorf("invalid length: pack %s is cut off", id)
	}
	if !b.seen {
		if _, err := v.r.rep.ContentReader().GetContent(ctx, b.info.ContentID); err != nil {
			return err
		}
		v.r.readOnce.add(v.once, b.info.ContentID)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if b.seen {
		v.sum.Present++
		return nil
	}
	v.sum.Contents++
	v.sum.Bytes += int64(b.info.PackedLength)
	v.tell(remora.Progress{Done: v.sum.Bytes, Total: v.total, Unit: "bytes", Item: b.file})
	return nil
}

// tell reports how far it is, to one listener at a time: with the lock held, or before there are readers.
func (v *verifier) tell(p remora.Progress) {
	if v.report != nil {
		p.Phase, p.Since = "verify", v.began
		v.report(p)
	}
}

// damages notes that a file is damaged; it hands back an error that says nothing about the file, such as a cancel.
func (v *verifier) damages(file string, err error) error {
	if err == nil {
		return nil
	}
	if kind := kindOf(err); kind == remora.Denied || kind == remora.Unavailable || errors.As(err, new(*refusal)) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.damage[file] == nil {
		v.damage[file] = err
	}
	return nil
}

// verdict is empty when nothing is damaged.
func (v *verifier) verdict() string {
	if len(v.damage) == 0 {
		return ""
	}
	var shown []string
	for _, file := range slices.Sorted(maps.Keys(v.damage)) {
		if len(shown) < shownDamage {
			shown = append(shown, fmt.Sprintf("%s (%v)", quote(file), v.damage[file]))
		}
	}
	text := "damaged: " + strings.Join(shown, "; ")
	if n := len(v.damage) - shownDamage; n > 0 {
		text += fmt.Sprintf("; and %d more", n)
	}
	return remora.OneLine(text)
}
