package repository

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/blob/sharded"
	"github.com/kopia/kopia/repo/format"
	"github.com/kopia/kopia/repo/maintenance"
	"github.com/remora-backup/remora/internal/remora"
	"golang.org/x/sys/unix"
)

// The settings of every repository, fixed for its life. Measured: within 1.3 times a bare zstd and AES pipeline.
const (
	hash       = "BLAKE3-256"
	encryption = "AES256-GCM-HMAC-SHA256"
	splitter   = "FIXED-2M"
	compressor = "zstd-fastest"
)

// owner is the user part of the identity that owns a repository; the host part is the installation, never a machine.
const owner = "remora"

// formatFile is where kopia keeps, encrypted by the password, how everything else is encrypted.
const formatFile = format.KopiaRepositoryBlobID + sharded.CompleteBlobSuffix

// copyFile is our copy of it. Without that kilobyte nothing can be read, and kopia keeps just one.
const copyFile = "remora.repository" + sharded.CompleteBlobSuffix

// Config says where a repository is and how to open it.
type Config struct {
	// Path is the absolute path of the directory that holds the repository.
	Path string
	// Password encrypts the repository; it is asked for once, by Create and Open.
	Password remora.SecretFunc
	// State is an absolute directory for the connection file, which holds no secret. It is created with mode 0700.
	State string
	// Log takes what is worth an operator's look. Nil discards it.
	Log *slog.Logger
}

// Repository is an open repository. It is safe for concurrent use, also by several processes at once; one process
// needs only one of it.
type Repository struct {
	cfg          Config
	log          *slog.Logger
	installation string
	rep          repo.DirectRepository
	settle       func() error // makes what was flushed durable
	pace         pace
	swept        sync.Once
}

// pace is how often a PartWriter makes its work durable, and protects it from the collector.
type pace struct{ flush, checkpoint time.Duration }

// Create makes a new repository in a directory that is empty or does not exist yet.
func Create(ctx context.Context, cfg Config) error {
	const op = "create the repository"
	if err := cfg.check(op); err != nil {
		return err
	}
	password, err := cfg.password(op)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Path, 0o700); err != nil {
		return problem(op, cfg.Path, err)
	}
	dir, err := os.Open(cfg.Path)
	if err != nil {
		return problem(op, cfg.Path, err)
	}
	defer func() { _ = dir.Close() }() // which unlocks it
	if err := claim(op, dir); err != nil {
		return problem(op, cfg.Path, err)
	}
	if err := initialize(ctx, cfg, password); err != nil {
		left, _ := contents(cfg.Path) // it was empty and locked: whatever is there now is ours
		for _, name := range left {
			_ = os.RemoveAll(filepath.Join(cfg.Path, name))
		}
		return problem(op, cfg.Path, err)
	}
	return nil
}

// claim locks the directory, sees that it is empty, and makes it private.
func claim(op string, dir *os.File) error {
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return &remora.Problem{Op: op, Kind: remora.Busy, Subject: dir.Name(), Hint: "wait for the other one to end", Err: errors.New("somebody else is creating it")}
	}
	found, err := contents(dir.Name())
	switch {
	case err != nil:
		return err
	case slices.Contains(found, formatFile):
		return &remora.Problem{Op: op, Kind: remora.Invalid, Subject: dir.Name(), Hint: "use it as it is, with its own password, or choose another directory", Err: errors.New("there already is a repository")}
	case len(found) > 0:
		return &remora.Problem{Op: op, Kind: remora.Invalid, Subject: dir.Name(), Hint: "choose an empty directory", Err: fmt.Errorf("the directory is not empty: it holds %q", found[0])}
	}
	return dir.Chmod(0o700)
}

// contents names what is in a directory, beside what a new disk has.
func contents(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	var names []string
	for _, e := range entries {
		if e.Name() != "lost+found" {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func initialize(ctx context.Context, cfg Config, password remora.Secret) error {
	st, err := openDirectory(ctx, cfg.Path, true)
	if err != nil {
		return err
	}
	defer func() { _ = st.Close(ctx) }()
	unique := make([]byte, format.UniqueIDLengthBytes)
	_, _ = rand.Read(unique) // never fails
	options := &repo.NewRepositoryOptions{
		UniqueID:     unique,
		BlockFormat:  format.ContentFormat{Hash: hash, Encryption: encryption},
		ObjectFormat: format.ObjectFormat{Splitter: splitter},
	}
	if err := repo.Initialize(ctx, st, options, password.Reveal()); err != nil {
		return err
	}
	r, err := open(ctx, cfg, unique, password)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close(ctx) }()
	r.remember()
	// Reclaiming belongs to this identity alone; kopia's own commands, run by anybody else, then leave it be.
	params := maintenance.DefaultParams()
	params.Owner = r.rep.ClientOptions().UsernameAtHost()
	return r.write(ctx, "create", func(ctx context.Context, w repo.RepositoryWriter) error {
		return maintenance.SetParams(ctx, w, &params)
	})
}

// Open opens an existing repository.
func Open(ctx context.Context, cfg Config) (*Repository, error) {
	const op = "open the repository"
	if err := cfg.check(op); err != nil {
		return nil, err
	}
	unique, err := cfg.identify(op)
	if err != nil {
		return nil, err
	}
	password, err := cfg.password(op)
	if err != nil {
		return nil, err
	}
	r, err := open(ctx, cfg, unique, password)
	if errors.Is(err, repo.ErrInvalidPassword) {
		return nil, cfg.refused(ctx, op, password)
	}
	if err != nil && strings.Contains(err.Error(), "derive format encryption key") {
		return nil, cfg.broken(op, "is damaged", cfg.copies()...)
	}
	if err != nil {
		return nil, problem(op, cfg.Path, err)
	}
	r.remember()
	return r, nil
}

func open(ctx context.Context, cfg Config, unique []byte, password remora.Secret) (*Repository, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	sum := sha256.Sum256(unique)
	r := &Repository{
		cfg:          cfg,
		log:          cfg.Log,
		installation: hex.EncodeToString(sum[:8]),
		settle:       func() error { return syncDirectory(cfg.Path) },
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
	rep, err := repo.Open(ctx, connection, password.Reveal(), &repo.Options{
		DisableRepositoryLog: true,
		DoNotWaitForUpgrade:  true,
		OnFatalError:         func(err error) { r.log.Error("repository failed", "path", cfg.Path, "error", err) },
	})
	if err != nil {
		return nil, err
	}
	r.rep = rep.(repo.DirectRepository) // as whatever is opened with a storage, and not through kopia's own server
	return r, nil
}

// connection writes the file through which kopia insists on being opened. Without a cache section nothing is cached:
// the repository is local.
func (r *Repository) connection() (string, error) {
	if err := os.MkdirAll(r.cfg.State, 0o700); err != nil {
		return "", err
	}
	text, err := json.MarshalIndent(repo.LocalConfig{
		Storage:       &blob.ConnectionInfo{Type: directoryType, Config: &directoryOptions{Path: r.cfg.Path}},
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
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), name)
	}
	if err != nil {
		_ = os.Remove(temp.Name())
	}
	return err
}

// remember keeps copies of the format file, which has just proved good, beside it and in the state directory.
func (r *Repository) remember() {
	text, err := os.ReadFile(filepath.Join(r.cfg.Path, formatFile))
	if err == nil {
		err = errors.Join(keepFile(filepath.Join(r.cfg.Path, copyFile), text), keepFile(filepath.Join(r.cfg.State, "repository-"+r.installation+".format"), text))
	}
	if err != nil {
		r.log.Warn("the repository's format file was not copied", "path", r.cfg.Path, "error", err)
	}
}

// copies finds copies of the format file.
func (cfg Config) copies() []string {
	found, _ := filepath.Glob(filepath.Join(cfg.State, "repository-*.format"))
	if len(found) > 1 { // of other repositories, perhaps
		found = nil
	}
	if beside := filepath.Join(cfg.Path, copyFile); exists(beside) {
		found = append([]string{beside}, found...)
	}
	return found
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// broken says that the format file is of no use, and from which copy to get it back.
func (cfg Config) broken(op, what string, copies ...string) error {
	hint := "put that file back from a copy of the repository; nothing can be read without it"
	if len(copies) > 0 {
		hint = fmt.Sprintf("put the copy of it back with: cp %s %s", copies[0], filepath.Join(cfg.Path, formatFile))
	}
	return &remora.Problem{Op: op, Kind: remora.Corrupt, Subject: cfg.Path, Hint: hint, Err: fmt.Errorf("the file %s %s", formatFile, what)}
}

// identify reads the unique id of the repository, and says what is there when it cannot.
func (cfg Config) identify(op string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(cfg.Path, formatFile))
	switch {
	case errors.Is(err, fs.ErrNotExist) && exists(filepath.Join(cfg.Path, ".shards")):
		return nil, cfg.broken(op, "is missing", cfg.copies()...)
	case errors.Is(err, fs.ErrNotExist):
		return nil, &remora.Problem{Op: op, Kind: remora.NotFound, Subject: cfg.Path, Hint: "create it with: remora init", Err: errors.New("there is no repository")}
	case err != nil:
		return nil, problem(op, cfg.Path, err)
	}
	described, err := format.ParseKopiaRepositoryJSON(text)
	if err != nil || len(described.UniqueID) != format.UniqueIDLengthBytes {
		return nil, cfg.broken(op, "is damaged", cfg.copies()...)
	}
	return described.UniqueID, nil
}

// refused tells a wrong password from a damaged format file: a password that opens a copy of it is right.
func (cfg Config) refused(ctx context.Context, op string, password remora.Secret) error {
	for _, name := range cfg.copies() {
		if cfg.opensCopy(ctx, name, password) {
			return cfg.broken(op, "is damaged, or another program has changed the password", name)
		}
	}
	return &remora.Problem{Op: op, Kind: remora.Denied, Subject: cfg.Path, Hint: "set the password that the repository was created with; nobody can open it without", Err: errors.New("the password is wrong")}
}

// opensCopy tells whether the password opens a copy of the format file, where that is another one than is in place.
func (cfg Config) opensCopy(ctx context.Context, name string, password remora.Secret) bool {
	text, err := os.ReadFile(name)
	if err != nil {
		return false
	}
	if inPlace, err := os.ReadFile(filepath.Join(cfg.Path, formatFile)); err == nil && bytes.Equal(inPlace, text) {
		return false
	}
	// kopia reads a format file from a storage alone.
	dir, err := os.MkdirTemp(cfg.State, "copy-")
	if err != nil {
		return false
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := keepFile(filepath.Join(dir, formatFile), text); err != nil {
		return false
	}
	st, err := openDirectory(ctx, dir, false)
	if err != nil {
		return false
	}
	_, err = format.NewManager(ctx, st, "", time.Minute, password.Reveal(), time.Now)
	return err == nil
}

func (cfg Config) check(op string) error {
	for what, path := range map[string]string{"path": cfg.Path, "state": cfg.State} {
		if !filepath.IsAbs(path) {
			return &remora.Problem{Op: op, Kind: remora.Invalid, Subject: fmt.Sprintf("%q", path), Hint: "give an absolute path", Err: fmt.Errorf("the repository's %s is not an absolute path", what)}
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
	var known *remora.Problem
	if err == nil || errors.As(err, &known) {
		return password, err
	}
	return "", &remora.Problem{Op: op, Kind: remora.Invalid, Subject: cfg.Path, Hint: "set the repository's password in the configuration", Err: fmt.Errorf("read the password: %w", err)}
}

// Close releases what the repository holds. Writers must have been finished or aborted.
func (r *Repository) Close(ctx context.Context) error {
	return problem("close the repository", r.cfg.Path, r.rep.Close(ctx))
}

// Refresh makes what other processes wrote visible. Everything that lists or finds does so by itself.
func (r *Repository) Refresh(ctx context.Context) error {
	return problem("read the repository", r.cfg.Path, r.rep.Refresh(ctx))
}

// Installation is the stable id of this repository, and so of the installation that owns it: 16 hexadecimal digits.
func (r *Repository) Installation() string { return r.installation }

// write runs change in one session, which sees what others wrote before: its records appear together, durable, or not
// at all.
func (r *Repository) write(ctx context.Context, purpose string, change func(context.Context, repo.RepositoryWriter) error) error {
	if err := r.rep.Refresh(ctx); err != nil {
		return err
	}
	if err := repo.WriteSession(ctx, r.rep, repo.WriteSessionOptions{Purpose: purpose}, change); err != nil {
		return err
	}
	return r.settle()
}
