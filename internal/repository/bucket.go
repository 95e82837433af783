package repository

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/remora-backup/remora/internal/remora"
)

// bucket is a place in an S3 storage, and what kopia reads and writes there through. It differs from kopia's own in
// that keys are read when they are needed, that every call ends in a bounded time with an error that says what to do,
// and in that a connection on which nothing moves is given up.
type bucket struct {
	blob.DefaultProviderImplementation
	cfg    *remora.Bucket
	client minio.Core
	patience
}

// newBucket prepares the client, and asks the storage nothing.
func newBucket(cfg *remora.Bucket, p patience) (*bucket, error) {
	b := &bucket{cfg: cfg, patience: p}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = b.dial
	transport.ForceAttemptHTTP2 = false // many small connections fail one by one
	transport.MaxIdleConnsPerHost = 16
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, remora.Fail(remora.Invalid, "read the certificate authority", cfg.CAFile, "write certificates in PEM into it", "it holds no certificate")
		}
	}
	lookup := minio.BucketLookupAuto
	if cfg.PathStyle {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.New(cfg.Endpoint, &minio.Options{
		Creds: credentials.New(keys{cfg}), Secure: !cfg.Plain, Region: cfg.Region, BucketLookup: lookup,
		Transport: transport, MaxRetries: 1, // see patience
	})
	if err != nil {
		return nil, &remora.Problem{Op: "reach the bucket", Kind: remora.Invalid, Subject: cfg.String(), Hint: "correct endpoint in the configuration", Err: err}
	}
	b.client.Client = client
	return b, nil
}

// keys reads the keys for every request.
type keys struct{ cfg *remora.Bucket }

func (keys) IsExpired() bool { return true }

func (k keys) Retrieve() (v credentials.Value, err error) {
	for _, one := range []struct {
		read remora.SecretFunc
		to   *string
	}{{k.cfg.AccessKey, &v.AccessKeyID}, {k.cfg.SecretKey, &v.SecretAccessKey}, {k.cfg.SessionToken, &v.SessionToken}} {
		if one.read == nil {
			continue
		}
		secret, err := one.read()
		if err != nil {
			return credentials.Value{}, err
		}
		*one.to = secret.Reveal()
	}
	v.SignerType = credentials.SignatureV4
	return v, nil
}

func (k keys) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return k.Retrieve()
}

// dial connects, and watches the connection.
func (b *bucket) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &watched{Conn: conn, idle: b.idle}, nil
}

// watched is a connection that fails when no byte moves, either way, for a while.
type watched struct {
	net.Conn
	idle time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	_ = w.SetReadDeadline(time.Now().Add(w.idle)) // where that fails, Read fails
	n, err := w.Conn.Read(p)
	return n, w.stalled(err)
}

// Write moves the deadline of a waiting Read as well: the answer comes after all that is written.
func (w *watched) Write(p []byte) (int, error) {
	_ = w.SetDeadline(time.Now().Add(w.idle))
	n, err := w.Conn.Write(p)
	return n, w.stalled(err)
}

func (w *watched) stalled(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("not a byte moved for %s: %w", w.idle, err)
	}
	return err
}

func (b *bucket) String() string { return b.cfg.String() }

func (b *bucket) key(id blob.ID) string { return b.cfg.Prefix + string(id) }

// DisplayName names the storage.
func (b *bucket) DisplayName() string { return b.String() }

// ConnectionInfo is what the connection file remembers.
func (b *bucket) ConnectionInfo() blob.ConnectionInfo { return connectionInfo(b) }

// GetBlob reads a blob, or length bytes of it where that is not negative.
func (b *bucket) GetBlob(ctx context.Context, id blob.ID, offset, length int64, to blob.OutputBuffer) error {
	if length == 0 {
		_, err := b.GetMetadata(ctx, id)
		return err
	}
	return b.try(ctx, func() error {
		to.Reset()
		var opts minio.GetObjectOptions
		if length > 0 {
			if err := opts.SetRange(offset, offset+length-1); err != nil {
				return blob.ErrInvalidRange
			}
		}
		from, _, _, err := b.client.GetObject(ctx, b.cfg.Name, b.key(id), opts)
		if err != nil {
			return err
		}
		defer func() { _ = from.Close() }()
		if _, err := io.Copy(to, from); err != nil {
			return err
		}
		return blob.EnsureLengthExactly(to.Length(), length)
	})
}

// GetMetadata tells the length and the time of a blob.
func (b *bucket) GetMetadata(ctx context.Context, id blob.ID) (blob.Metadata, error) {
	m := blob.Metadata{BlobID: id}
	err := b.try(ctx, func() error {
		info, err := b.client.StatObject(ctx, b.cfg.Name, b.key(id), minio.StatObjectOptions{})
		m.Length, m.Timestamp = info.Size, info.LastModified
		if errors.As(err, new(minio.ErrorResponse)) { // it came without a word: a key that is missing, or a bucket, or a right?
			from, _, _, said := b.client.GetObject(ctx, b.cfg.Name, b.key(id), minio.GetObjectOptions{})
			if said == nil {
				return errors.Join(err, from.Close())
			}
			return said
		}
		return err
	})
	return m, err
}

// PutBlob writes a blob. What was written although its answer got lost is written once more, and is the same.
func (b *bucket) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if opts.DoNotRecreate || !opts.SetModTime.IsZero() {
		return fmt.Errorf("put blob %s: %w", id, blob.ErrUnsupportedPutBlobOption)
	}
	put := minio.PutObjectOptions{ContentType: "application/x-kopia", DisableMultipart: true, SendContentMd5: true}
	err := b.try(ctx, func() error {
		if opts.RetentionPeriod != 0 {
			put.Mode, put.RetainUntilDate = minio.RetentionMode(opts.RetentionMode), time.Now().Add(opts.RetentionPeriod).UTC()
		}
		_, err := b.client.Client.PutObject(ctx, b.cfg.Name, b.key(id), data.Reader(), int64(data.Length()), put)
		return err
	})
	if err != nil || opts.GetModTime == nil {
		return err
	}
	m, err := b.GetMetadata(ctx, id)
	*opts.GetModTime = m.Timestamp
	return err
}

// DeleteBlob deletes a blob; one that is not there is deleted already.
func (b *bucket) DeleteBlob(ctx context.Context, id blob.ID) error {
	err := b.try(ctx, func() error {
		return b.client.RemoveObject(ctx, b.cfg.Name, b.key(id), minio.RemoveObjectOptions{})
	})
	if errors.Is(err, blob.ErrBlobNotFound) {
		return nil
	}
	return err
}

// ExtendBlobRetention moves the end of an object's lock.
func (b *bucket) ExtendBlobRetention(ctx context.Context, id blob.ID, opts blob.ExtendOptions) error {
	mode, until := minio.RetentionMode(opts.RetentionMode), time.Now().Add(opts.RetentionPeriod).UTC()
	return b.try(ctx, func() error {
		return b.client.PutObjectRetention(ctx, b.cfg.Name, b.key(id), minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &until})
	})
}

// ListBlobs tells each blob once, after all of them were listed. What lies below further slashes is not ours.
func (b *bucket) ListBlobs(ctx context.Context, prefix blob.ID, each func(blob.Metadata) error) error {
	all, err := b.objects(ctx, prefix)
	for _, m := range all {
		if err == nil && m.BlobID != "" && !strings.Contains(string(m.BlobID), "/") {
			err = each(m)
		}
	}
	return err
}

// objects lists what lies below a prefix, and what looks like a folder there.
func (b *bucket) objects(ctx context.Context, prefix blob.ID) (all []blob.Metadata, err error) {
	err = b.try(ctx, func() error {
		all = all[:0]
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // ends the listing that an error left
		for o := range b.client.Client.ListObjects(ctx, b.cfg.Name, minio.ListObjectsOptions{Prefix: b.key(prefix)}) {
			if o.Err != nil {
				return o.Err
			}
			id := blob.ID(strings.TrimPrefix(o.Key, b.cfg.Prefix))
			all = append(all, blob.Metadata{BlobID: id, Length: o.Size, Timestamp: o.LastModified})
		}
		return ctx.Err()
	})
	return all, err
}

func (b *bucket) open(context.Context, bool) (blob.Storage, error) { return b, nil }

// claim makes the bucket where it is missing, and sees that there is nothing below the prefix. Two that create at the
// same moment are told apart by the one whose password opens it.
func (b *bucket) claim(ctx context.Context, op string) (clear, release func(), err error) {
	found, err := b.first(ctx)
	made := false
	if remora.KindOf(problem(op, "", err)) == remora.NotFound {
		made, err = true, b.try(ctx, func() error {
			return b.client.MakeBucket(ctx, b.cfg.Name, minio.MakeBucketOptions{Region: b.cfg.Region, ObjectLocking: b.locks()})
		})
	}
	if err == nil && b.locks() {
		err = b.try(ctx, func() error {
			_, _, _, _, err := b.client.GetObjectLockConfig(ctx, b.cfg.Name)
			return err
		})
	}
	wrong := &remora.Problem{Op: op, Kind: remora.Invalid, Subject: b.String(), Hint: "choose a prefix of its own in the bucket"}
	switch {
	case err != nil:
		return nil, nil, err
	case found == b.key(formatBlob):
		wrong.Hint, wrong.Err = "use it as it is, with its own password, or choose another bucket or prefix", errors.New("there already is a repository")
		return nil, nil, wrong
	case found != "":
		wrong.Err = fmt.Errorf("there is something already: %q", found)
		return nil, nil, wrong
	}
	clear = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.total)
		defer cancel()
		_ = b.ListBlobs(ctx, "", func(m blob.Metadata) error { return b.DeleteBlob(ctx, m.BlobID) })
		if made {
			_ = b.client.RemoveBucket(ctx, b.cfg.Name)
		}
	}
	return clear, func() {}, nil
}

func (b *bucket) locks() bool { return b.cfg.Lock != (remora.ObjectLock{}) }

// first is the name of an object, or of what looks like a folder, below the prefix: the format file if that is there.
func (b *bucket) first(ctx context.Context) (found string, err error) {
	all, err := b.objects(ctx, "")
	for _, m := range all {
		if found == "" || m.BlobID == formatBlob {
			found = b.key(m.BlobID)
		}
	}
	return found, err
}

func (b *bucket) read(ctx context.Context, id blob.ID) ([]byte, error) {
	var got buffer
	err := b.GetBlob(ctx, id, 0, -1, &got)
	return got.Bytes(), err
}

func (b *bucket) write(ctx context.Context, id blob.ID, content []byte) error {
	return b.PutBlob(ctx, id, text(content), blob.PutOptions{})
}

func (b *bucket) begun(ctx context.Context) bool {
	found, err := b.first(ctx)
	return err == nil && found != ""
}

func (b *bucket) name(id blob.ID) string { return b.key(id) }

func (b *bucket) putBack(file string) string {
	if file == "" {
		return fmt.Sprintf("copy the object %s of the bucket to %s", b.key(copyBlob), b.key(formatBlob))
	}
	return fmt.Sprintf("put the copy of it, %s, into the bucket as %s", file, b.key(formatBlob))
}

func (b *bucket) settle() error { return nil } // what is answered is durable

func (b *bucket) sweep() error { return nil } // what was not answered does not exist

func (b *bucket) health(context.Context, *Health) error { return nil } // nobody can tell how much room there is
