package repository

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/kopia/kopia/repo/blob"
)

// place is where a repository lies: a directory or a bucket. It holds blobs under kopia's own names, so that the stock
// command reads them.
type place interface {
	fmt.Stringer
	// open opens what kopia reads and writes through.
	open(ctx context.Context, create bool) (blob.Storage, error)
	// claim makes an empty place ready for a new repository, and refuses any other. The caller clears it, where the
	// creation fails, and releases it.
	claim(ctx context.Context, op string) (clear, release func(), err error)
	// read and write handle the few blobs that are needed before kopia opens the place. Without the blob it is
	// blob.ErrBlobNotFound.
	read(ctx context.Context, id blob.ID) ([]byte, error)
	write(ctx context.Context, id blob.ID, text []byte) error
	// begun tells whether there is anything of a repository.
	begun(ctx context.Context) bool
	// name is what people find a blob under, and putBack says how its copy, in file or else our own beside it, becomes
	// the format file again.
	name(id blob.ID) string
	putBack(file string) string
	// settle makes durable what was written, and sweep removes what killed writers left.
	settle() error
	sweep() error
	// health looks at what only this kind of place knows.
	health(ctx context.Context, h *Health) error
}

// placeType is the one storage type that we register with kopia.
const placeType = "remora"

// placeOptions are what kopia's connection file remembers of a place: for people, and no secret.
type placeOptions struct {
	Place string `json:"place"`
}

type placeKey struct{}

// init registers our storage type. kopia opens storages through its registry alone, by name and options in a file; the
// place itself, with its secrets, reaches it in the context of that call and is written nowhere.
func init() { //nolint:gochecknoinits // there is no other way to hand kopia a storage
	blob.AddSupportedStorage(placeType, placeOptions{}, func(ctx context.Context, _ *placeOptions, create bool) (blob.Storage, error) {
		at, ok := ctx.Value(placeKey{}).(place)
		if !ok {
			return nil, errors.New("opened without a place")
		}
		st, err := at.open(ctx, create)
		return &asOpened{Storage: st, known: map[blob.ID][]byte{}}, err
	})
}

func connectionInfo(at place) blob.ConnectionInfo {
	return blob.ConnectionInfo{Type: placeType, Config: &placeOptions{Place: at.String()}}
}

// place is where cfg says that the repository is.
func (cfg Config) place() (place, error) {
	if cfg.Bucket != nil {
		return newBucket(cfg.Bucket, cmp.Or(cfg.patience, usual))
	}
	return folder(cfg.Path), nil
}

// text is a small blob to write.
type text []byte

func (t text) Length() int                         { return len(t) }
func (t text) WriteTo(to io.Writer) (int64, error) { n, err := to.Write(t); return int64(n), err }
func (t text) Reader() io.ReadSeekCloser           { return nopCloser{bytes.NewReader(t)} }

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

// buffer takes a small blob that is read.
type buffer struct{ bytes.Buffer }

func (b *buffer) Length() int { return b.Len() }
