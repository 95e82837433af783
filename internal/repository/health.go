package repository

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/remora-backup/remora/internal/remora"
)

// Health is what Check finds out about where a repository is.
type Health struct {
	// Where is the directory or the bucket.
	Where string `json:"where"`
	// Skew is how far the storage's clock is ahead of ours.
	Skew time.Duration `json:"skew"`
	// Free is the space that is left, in bytes; nil where nobody can tell, as in a bucket.
	Free *int64 `json:"free,omitempty"`
	// Took is how long it took to write, read and remove a small blob.
	Took time.Duration `json:"took"`
}

// probeBlob is what Check writes, and removes; its name is short enough for kopia to keep it out of its shards.
const probeBlob = "remora.probe"

// Check writes a small blob beside the backups, reads it back and removes it: a Problem says what of that cannot be
// done, and what to do.
func (r *Repository) Check(ctx context.Context) (Health, error) {
	const op = "check the repository"
	h := Health{Where: r.Where()}
	began := time.Now()
	err := r.probe(ctx, &h)
	if err == nil {
		h.Took = time.Since(began)
		err = r.at.health(ctx, &h)
	}
	return h, problem(op, h.Where, err)
}

func (r *Repository) probe(ctx context.Context, h *Health) (err error) {
	st, err := r.at.open(ctx, false)
	if err != nil {
		return err
	}
	id := blob.ID(probeBlob + "." + rand.Text()[:4]) // another one may be checking, too
	wrote, began, stored := text(id), time.Now(), time.Time{}
	if err := st.PutBlob(ctx, id, wrote, blob.PutOptions{GetModTime: &stored}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.DeleteBlob(ctx, id)) }()
	h.Skew = stored.Sub(began.Add(time.Since(began) / 2))
	var got buffer
	if err := st.GetBlob(ctx, id, 0, -1, &got); err != nil {
		return err
	}
	if !bytes.Equal(got.Bytes(), wrote) {
		return remora.Fail(remora.Corrupt, "read back what was written", h.Where, "check the storage: it does not keep what it is given", "it is not the same")
	}
	return nil
}

// Sample is how large the repository is, and how much room there is. It lists every blob.
func (r *Repository) Sample(ctx context.Context) (remora.SizeSample, error) {
	s := remora.SizeSample{At: r.rep.Time().UTC()}
	err := r.rep.BlobReader().ListBlobs(ctx, "", func(m blob.Metadata) error {
		s.Stored += m.Length
		return nil
	})
	if err == nil {
		s.Free, err = r.Free(ctx)
	}
	return s, problem("measure the repository", r.Where(), err)
}

// Free is how much room there is, in bytes; -1 where nobody can tell.
func (r *Repository) Free(ctx context.Context) (int64, error) {
	var h Health
	err := r.at.health(ctx, &h)
	if err != nil || h.Free == nil {
		return -1, problem("measure the room that is left", r.Where(), err)
	}
	return *h.Free, nil
}
