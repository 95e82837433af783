package repository

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/compression"
	"github.com/kopia/kopia/repo/format"
	"github.com/kopia/kopia/repo/maintenance"
	"github.com/remora-backup/remora/internal/remora"
)

// The settings of every repository, fixed for its life. Measured: within 1.3 times a bare zstd and AES pipeline.
const (
	hash       = "BLAKE3-256"
	encryption = "AES256-GCM-HMAC-SHA256"
	splitter   = "FIXED-2M"
	compressor = "zstd-fastest"
)

// compressors are kopia's names of what Config.Compression can be.
var compressors = map[string]compression.Name{"": compressor, "none": "", "fastest": compressor, "default": "zstd", "better": "zstd-better-compression"}

// owner is the user part of the identity that owns a repository; the host part is the installation, never a machine.
const owner = "remora"

const (
	// formatBlob is where kopia keeps, encrypted by the password, how everything else is encrypted.
	formatBlob = format.KopiaRepositoryBlobID
	// copyBlob is our copy of it. Without that kilobyte nothing can be read, and kopia keeps just one.
	copyBlob = "remora.repository"
)

// Config says where a repository is, in a directory or in a bucket, and how to open it.
type Config struct {
	// Path is the absolute path of the directory that holds the repository, empty where it is in a bucket.
	Path string
	// Bucket holds the repository. It is nil where it is in a directory.
	Bucket *remora.Bucket
	// Password encrypts the repository; it is asked for once, by Create and Open.
	Password remora.SecretFunc
	// Next gives the password of a change that is under way, or was interrupted (S13): Open tries it, too. Nil where
	// passwords are not changed here.
	Next remora.SecretFunc
	// State is an absolute directory for the connection file, which holds no secret. It is created with mode 0700.
	State string
	// Compression of what is backed up is none, fastest, default or better; empty means fastest. It may change at any
	// time: what is stored stays readable, and is found again where it was compressed differently.
	Compression string
	// CopyOf is, for Create, the repository whose copies the new one will hold: both belong to one installation.
	CopyOf *Repository
	// Log takes what is worth an operator's look. Nil discards it.
	Log *slog.Logger

	patience patience          // with a bucket; zero is the usual one
	reached  func(step string) // in a change of the password, for tests; may be nil
}

// Repository is an open repository. It is safe for concurrent use, also by several processes at once; one process
// needs only one of it.
type Repository struct {
	cfg          Config
	log          *slog.Logger
	unique       []byte // of which installation is made
	installation string
	at           place
	rep          repo.DirectRepository
	settle       func() error // makes what was flushed durable
	pace         pace
	swept        sync.Once
	readOnce     readOnce
}

// pace is how often a PartWriter makes its work durable, and protects it from the collector.
type pace struct{ flush, checkpoint time.Duration }

// Create makes a new repository in a directory that is empty or does not exist yet, or in a bucket below a prefix for
// which the same holds. It makes the bucket as well, where the keys allow that.
func Create(ctx context.Context, cfg Config) error {
	const op = "create the repository"
	at, password, err := cfg.begin(op)
	if err != nil {
		return err
	}
	clear, release, err := at.claim(ctx, op)
	if err != nil {
		return problem(op, at.String(), err)
	}
	defer release()
	if err := initialize(ctx, cfg, at, password); err != nil {
		clear()
		return problem(op, at.String(), err)
	}
	return nil
}

// begin checks what is configured, and finds the place and the password.
func (cfg Config) begin(op string) (place, remora.Secret, error) {
	inOnePiece()
	if err := cfg.check(op); err != nil {
		return nil, "", err
	}
	at, err := cfg.place()
	if err != nil {
		return nil, "", problem(op, cfg.where(), err)
	}
	password, err := cfg.password(op)
	return at, password, err
}

// where is the directory or the bucket, in words.
func (cfg Config) where() string { return cmp.Or(cfg.Path, cfg.Bucket.String()) }

// lock is for how long what is written cannot be deleted.
func (cfg Config) lock() (blob.RetentionMode, time.Duration) {
	if cfg.Bucket == nil {
		return "", 0
	}
	return blob.RetentionMode(strings.ToUpper(cfg.Bucket.Lock.Mode)), time.Duration(cfg.Bucket.Lock.Days) * 24 * time.Hour
}

func initialize(ctx context.Context, cfg Config, at place, password remora.Secret) error {
	st, err := at.open(ctx, true)
	if err != nil {
		return err
	}
	defer func() { _ = st.Close(ctx) }()
	unique := make([]byte, format.UniqueIDLengthBytes)
	_, _ = rand.Read(unique) // never fails
	if cfg.CopyOf != nil {
		unique = cfg.CopyOf.unique
	}
	options := &repo.NewRepositoryOptions{
		UniqueID:     unique,
		BlockFormat:  format.ContentFormat{Hash: hash, Encryption: encryption},
		ObjectFormat: format.ObjectFormat{Splitter: splitter},
	}
	options.RetentionMode, options.RetentionPeriod = cfg.lock()
	if err := repo.Initialize(ctx, st, options, password.Reveal()); err != nil {
		return err
	}
	r, err := open(ctx, cfg, at, unique, password)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close(ctx) }()
	r.remember(ctx)
	// Reclaiming belongs to this identity alone; kopia's own commands, run by anybody else, then leave it be.
	params := maintenance.DefaultParams()
	params.Owner = r.rep.ClientOptions().UsernameAtHost()
	params.ExtendObjectLocks = options.RetentionPeriod != 0
	return r.write(ctx, "create", func(ctx context.Context, w repo.RepositoryWriter) error {
		return maintenance.SetParams(ctx, w, &params)
	})
}

// Open opens an existing repository.
func Open(ctx context.Context, cfg Config) (*Repository, error) {
	const op = "open the repository"
	at, password, err := cfg.begin(op)
	if err != nil {
		return nil, err
	}
	unique, err := cfg.identify(ctx, op, at)
	if err != nil {
		return nil, err
	}
	r, err := open(ctx, cfg, at, unique, password)
	if errors.Is(err, repo.ErrInvalidPassword) {
		r, err = cfg.openNext(ctx, at, unique, password)
	}
	if errors.Is(err, repo.ErrInvalidPassword) {
		return nil, cfg.refused(ctx, op, at, password)
	}
	if err != nil && strings.Contains(err.Error(), "derive format encryption key") {
		return nil, broken(op, "is damaged", at, cfg.copies(ctx, at)...)
	}
	if err != nil {
		return nil, problem(op, at.String(), err)
	}
	r.remember(ctx)
	return r, nil
}

func open(ctx context.Context, cfg Config, at place, unique []byte, password remora.Secret) (*Repository, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	sum := sha256.Sum256(unique)
	r := &Repository{
		cfg:          cfg,
		log:          cfg.Log,
		unique:       unique,
		installation: hex.EncodeToString(sum[:8]),
		at:           at,
		settle:       at.settle,
		pace:         pace{flush: 45 * time.Second, checkpoint: 15 * time.Minute},
	}
	connection, err := r.connection()
	if err != nil {
		return nil, err
	}
	// kopia compares its clock with the disk's only when this is set, and has no other switch for it.
	if err := os.Setenv("KOPIA_ENABLE_CLOCK_SKEW_CHECK", "true"); err != nil {
		return nil, err
	}
	try := func(ctx context.Context) error {
		rep, err := repo.Open(ctx, connection, password.Reveal(), &repo.Options{
			DisableRepositoryLog: true,
			DoNotWaitForUpgrade:  true,
			OnFatalError:         func(err error) { r.log.Error("repository failed", "repository", at.String(), "error", err) },
		})
		if err == nil {
			r.rep = rep.(repo.DirectRepository) // as whatever is opened with a storage, and not through kopia's own server
		}
		return err
	}
	ctx = context.WithValue(ctx, placeKey{}, at)
	err = bounded(ctx, try)
	if err != nil && strings.Contains(err.Error(), "deserialize blob config") && mendSettings(ctx, at) == nil {
		err = bounded(ctx, try)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// connection writes the file through which kopia insists on being opened. Without a cache section nothing is cached:
// what a verification reads comes from where it is stored.
func (r *Repository) connection() (string, error) {
	if err := os.MkdirAll(r.cfg.State, 0o700); err != nil {
		return "", err
	}
	storage := connectionInfo(r.at)
	text, err := json.MarshalIndent(repo.LocalConfig{
		Storage:       &storage,
		ClientOptions: repo.ClientOptions{Username: owner, Hostname: r.installation, Description: "Remora"},
	}, "", "  ")
	if err != nil {
		return "", err
	}
	name := filepath.Join(r.cfg.State, "repository-"+r.installation+".json")
	return name, keepFile(name, text)
}

// keepFile makes name hold text, at once or not at all.
func keepFile(name string, text []byte) error {
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, text) {
		return nil
	}
	temp, err := os.CreateTemp(filepath.Dir(name), ".remora-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = temp.Write(text)
	return become(temp, name, errors.Join(err, temp.Sync()))
}

// become makes a temporary file name, or removes it where err, or its end, tells that it was not written.
func become(temp *os.File, name string, err error) error {
	err = cmp.Or(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), name)
	}
	if err != nil {
		_ = os.Remove(temp.Name()) // the error that matters is the first one
	}
	return err
}

// remember keeps copies of the format file, which has just proved good, beside it and in the state directory.
func (r *Repository) remember(ctx context.Context) {
	text, err := r.at.read(ctx, formatBlob)
	if err == nil {
		err = keepFile(filepath.Join(r.cfg.State, "repository-"+r.installation+".format"), text)
		if old, readErr := r.at.read(ctx, copyBlob); readErr != nil || !bytes.Equal(old, text) {
			err = errors.Join(err, r.at.write(ctx, copyBlob, text))
		}
	}
	if err != nil {
		r.log.Warn("the repository's format file was not copied", "repository", r.Where(), "error", err)
	}
}

// copied is a copy of the format file: a blob beside it, or a file elsewhere.
type copied struct {
	file string
	text []byte
}

// copies finds copies of the format file.
func (cfg Config) copies(ctx context.Context, at place) []copied {
	var all []copied
	if beside, err := at.read(ctx, copyBlob); err == nil {
		all = append(all, copied{text: beside})
	}
	found, _ := filepath.Glob(filepath.Join(cfg.State, "repository-*.format"))
	if len(found) > 1 { // of other repositories, perhaps
		return all
	}
	for _, name := range found {
		if text, err := os.ReadFile(name); err == nil {
			all = append(all, copied{file: name, text: text})
		}
	}
	return all
}

// broken says that the format file is of no use, and from which copy to get it back.
func broken(op, what string, at place, copies ...copied) error {
	hint := "put that file back from a copy of the repository; nothing can be read without it"
	if len(copies) > 0 {
		hint = at.putBack(copies[0].file)
	}
	return remora.Fail(remora.Corrupt, op, at.String(), hint, "the file %s %s", at.name(formatBlob), what)
}

// identify reads the unique id of the repository, and says what is there when it cannot.
func (cfg Config) identify(ctx context.Context, op string, at place) ([]byte, error) {
	text, err := at.read(ctx, formatBlob)
	switch {
	case errors.Is(err, blob.ErrBlobNotFound) && at.begun(ctx):
		return nil, broken(op, "is missing", at, cfg.copies(ctx, at)...)
	case errors.Is(err, blob.ErrBlobNotFound):
		return nil, remora.Fail(remora.NotFound, op, at.String(), "create it with: remora init", "there is no repository")
	case err != nil:
		return nil, problem(op, at.String(), err)
	}
	described, err := format.ParseKopiaRepositoryJSON(text)
	if err != nil || len(described.UniqueID) != format.UniqueIDLengthBytes {
		return nil, broken(op, "is damaged", at, cfg.copies(ctx, at)...)
	}
	return described.UniqueID, nil
}

// refused tells a wrong password from a damaged format file: a password that opens a copy of it is right. One that opens
// only a copy elsewhere, while that beside it is the same, was changed.
func (cfg Config) refused(ctx context.Context, op string, at place, password remora.Secret) error {
	inPlace, err := at.read(ctx, formatBlob)
	same := false
	for _, c := range cfg.copies(ctx, at) {
		switch {
		case err == nil && bytes.Equal(inPlace, c.text):
			same = same || c.file == ""
		case err == nil && opensFormat(ctx, c.text, password) && same:
			return remora.Fail(remora.Denied, op, at.String(), "put the new one where the configuration takes the old one from", "the password was changed since")
		case err == nil && opensFormat(ctx, c.text, password):
			return broken(op, "is damaged, or another program has changed the password", at, c)
		}
	}
	return remora.Fail(remora.Denied, op, at.String(), "set the password that the repository was created with, or was changed to; nobody can open it without", "the password is wrong")
}

func (cfg Config) check(op string) error {
	paths := map[string]string{"state": cfg.State}
	if cfg.Bucket == nil {
		paths["path"] = cfg.Path
	}
	for what, path := range paths {
		if !filepath.IsAbs(path) {
			return remora.Fail(remora.Invalid, op, fmt.Sprintf("%q", path), "give an absolute path", "the repository's %s is not an absolute path", what)
		}
	}
	return nil
}

func (cfg Config) password(op string) (remora.Secret, error) {
	var password remora.Secret
	var err error
	if cfg.Password != nil {
		password, err = cfg.Password()
	}
	if err == nil && password == "" {
		err = errors.New("it is empty")
	}
	if err == nil || errors.As(err, new(*remora.Problem)) {
		return password, err
	}
	return "", remora.Fail(remora.Invalid, op, cfg.where(), "set the repository's password in the configuration", "read the password: %w", err)
}

// Close releases what the repository holds. Writers must have been finished or aborted.
func (r *Repository) Close(ctx context.Context) error {
	return problem("close the repository", r.Where(), r.rep.Close(ctx))
}

// Refresh makes what other processes wrote visible. Everything that lists or finds does so by itself.
func (r *Repository) Refresh(ctx context.Context) error {
	return problem("read the repository", r.Where(), bounded(ctx, r.refresh))
}

// Where is the directory or the bucket that holds the repository, in words.
func (r *Repository) Where() string { return r.at.String() }

// Installation is the stable id of the installation that owns this repository: 16 hexadecimal digits. A repository and
// its copies have the same.
func (r *Repository) Installation() string { return r.installation }

// present tells whether the repository is still where it was opened: not, say, on a disk that was unmounted since.
func (r *Repository) present(ctx context.Context) error {
	_, err := r.rep.BlobReader().GetMetadata(ctx, format.KopiaRepositoryBlobID)
	if errors.Is(err, blob.ErrBlobNotFound) {
		return remora.Fail(remora.Unavailable, "open the repository", r.Where(), "see that its disk is mounted", "it is not there any more")
	}
	return problem("open the repository", r.Where(), err)
}

// refresh makes what other processes wrote visible. kopia looks for the index of a repository that went away for ever.
func (r *Repository) refresh(ctx context.Context) error {
	if err := r.present(ctx); err != nil {
		return err
	}
	return r.rep.Refresh(ctx)
}

// write runs change in one session, which sees what others wrote before: its records appear together, durable, or not
// at all.
func (r *Repository) write(ctx context.Context, purpose string, change func(context.Context, repo.RepositoryWriter) error) error {
	err := bounded(ctx, func(ctx context.Context) error {
		if err := r.refresh(ctx); err != nil {
			return err
		}
		return repo.WriteSession(ctx, r.rep, repo.WriteSessionOptions{Purpose: purpose}, change)
	})
	if err != nil {
		return err
	}
	return r.settle()
}
