package repository

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/minio/minio-go/v7"
	"github.com/remora-backup/remora/internal/remora"
)

// patience bounds a call to a bucket: it is tried so often, and not again when so much time has gone. It smooths a
// storm of refusals over; what lasts longer is for the retries of the whole step. idle is how long nothing may move.
type patience struct {
	tries              int
	total, idle, pause time.Duration
}

var usual = patience{tries: 10, total: time.Minute, idle: 30 * time.Second, pause: 100 * time.Millisecond}

// refusal is what a bucket did instead of what it was asked for.
type refusal struct {
	where string
	kind  remora.ProblemKind
	hint  string
	tries int // at most; 0 for all of patience
	err   error
}

func (r *refusal) Error() string { return r.where + ": " + r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// try calls until it succeeds, fails for good, or patience ends. Pauses grow, and differ between callers.
func (b *bucket) try(ctx context.Context, call func() error) error {
	p, began := b.patience, time.Now()
	pause := p.pause
	for n := 1; ; n++ {
		err := judge(call())
		r, ok := errors.AsType[*refusal](err)
		if ok {
			r.where = b.String()
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case r == nil:
			return err
		case n == p.tries, n == r.tries, time.Since(began) > p.total:
			if end, ok := ctx.Value(endKey{}).(context.CancelCauseFunc); ok {
				end(r)
			}
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause/2 + rand.N(pause)): //nolint:gosec // chance that nobody need not guess
		}
		pause = min(2*pause, 20*p.pause)
	}
}

type endKey struct{}

// bounded does something with kopia that ends when a call to the bucket has failed for good: where kopia lists indexes,
// it tries again until its context ends, and tells nobody why.
func bounded(ctx context.Context, do func(context.Context) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	err := do(context.WithValue(ctx, endKey{}, end))
	if why := new(refusal); err != nil && errors.As(context.Cause(ctx), &why) {
		return why
	}
	return err
}

// judge tells what went wrong, and what to do about it. Errors that kopia knows, and problems, stay what they are.
func judge(err error) error {
	var answer minio.ErrorResponse
	switch {
	case err == nil, errors.As(err, new(*remora.Problem)), errors.Is(err, blob.ErrInvalidRange), errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &answer) && answer.StatusCode >= 300:
		return judgeAnswer(answer)
	}
	r := &refusal{kind: remora.Unavailable, err: err, hint: "see that the storage runs and can be reached from here, then try again; nothing that was complete is lost"}
	if call, ok := errors.AsType[*url.Error](err); ok {
		r.err = call.Err // without a long address
	}
	switch {
	case errors.As(err, new(x509.UnknownAuthorityError)), errors.As(err, new(x509.HostnameError)), errors.As(err, new(x509.CertificateInvalidError)):
		r.kind, r.tries, r.hint = remora.Invalid, 1, "name the authority of the storage's certificate with ca_file, and the host that is in the certificate as the endpoint"
	case errors.Is(err, http.ErrSchemeMismatch):
		r.kind, r.tries, r.hint = remora.Invalid, 1, "the storage speaks without TLS: write http:// before its address if it may"
	}
	return r
}

// judgeAnswer judges what the storage said itself.
func judgeAnswer(a minio.ErrorResponse) error {
	r := &refusal{kind: remora.Unavailable, err: fmt.Errorf("%w (%s, %d)", a, a.Code, a.StatusCode), hint: "the storage is overloaded or broken: see its own log, then try again; nothing that was complete is lost"}
	switch a.Code {
	case minio.NoSuchKey, minio.NoSuchVersion:
		return blob.ErrBlobNotFound
	case minio.NoSuchBucket:
		r.kind, r.tries, r.hint = remora.NotFound, 1, "find out who removed the bucket, or correct bucket in the configuration; remora init makes a new one"
		return r
	case "RequestTimeTooSkewed", "RequestNotYetValid":
		r.tries, r.hint = 1, "set the clock of this machine, or of the storage, and keep it right with NTP"
		return r
	case "InvalidRange":
		return blob.ErrInvalidRange
	case "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "StorageFull", "InsufficientCapacity":
		a.StatusCode = http.StatusInsufficientStorage
	case "ObjectLockConfigurationNotFoundError", "InvalidBucketState":
		r.kind, r.tries, r.hint = remora.Invalid, 1, "object lock is chosen when a bucket is made: name a bucket that does not exist yet, or remove object_lock"
		return r
	}
	switch status := a.StatusCode; {
	case status == http.StatusInsufficientStorage:
		r.kind, r.tries, r.hint = remora.Full, 1, "make room in the storage, or raise the bucket's quota, then try again; nothing that was complete is lost"
	case status == http.StatusUnauthorized, status == http.StatusForbidden, a.Code == "ExpiredToken", a.Code == "InvalidToken", a.Code == "TokenRefreshRequired":
		// Keys that are just being rotated are right a moment later.
		r.kind, r.tries, r.hint = remora.Denied, 3, "check the keys, and that they may list, read, write and delete in the bucket; rotated key files are read again by themselves"
	case status == http.StatusNotFound:
		return blob.ErrBlobNotFound
	case status == http.StatusRequestedRangeNotSatisfiable:
		return blob.ErrInvalidRange
	case status == http.StatusNotImplemented:
		r.kind, r.tries, r.hint = remora.Unsupported, 1, "use a storage that can do this"
	case status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests && status != 499:
		r.kind, r.tries, r.hint = remora.Invalid, 1, "correct the bucket's settings in the configuration"
	}
	return r
}
