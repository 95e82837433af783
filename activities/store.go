package activities

import (
	"context"
	"io/fs"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// Part says what a part is written for.
type Part struct {
	Source, Run, Backup string
	Kind                remora.Kind
	// ForRestore is true for what a restore saves: it must be saved somewhere even when the repository is away.
	ForRestore bool
}

// PartWriter takes a part; it ends with Finish, which keeps it, or Abort, which does not.
type PartWriter interface {
	remora.PartWriter
	// Finish gives the id of the part's root, and how many bytes it added to the repository.
	Finish(ctx context.Context) (root string, added int64, err error)
	Abort(ctx context.Context) error
}

// Store is what the steps need of the repository and its copies. What it promises about repeated calls is the
// repository's contract.
type Store interface {
	Begin(ctx context.Context, part Part) (PartWriter, error)
	// Part reads from the copy that is named, or from the repository.
	Part(ctx context.Context, from, backup string, kind remora.Kind) (fs.FS, error)
	// Lease keeps a backup there from being deleted while the run reads it, until end is called with what that came to.
	Lease(ctx context.Context, from, backup, run, what string) (end func(context.Context, error) error, err error)
	// Find looks into the copies where the repository does not help; from, if given, is the only place to look into.
	Find(ctx context.Context, ref, source, from string) (remora.Backup, error)
	Commit(ctx context.Context, m remora.Manifest) (remora.Manifest, error)
	// List is the repository's list of backups and failed runs, newest first.
	List(ctx context.Context) ([]remora.Backup, error)
	// Verify reads back what the copy that is named holds; without a name, what is held wherever it was written.
	Verify(ctx context.Context, in remora.VerifyInput, report func(remora.Progress)) (remora.Verification, error)
	RecordFailure(ctx context.Context, failed remora.FailedRun) error
	RecordRestore(ctx context.Context, restore remora.Restore) error
	RecordProof(ctx context.Context, proof remora.Proof) error
	// Restores are the records of a source's restores, newest first.
	Restores(ctx context.Context, source string) ([]remora.Restore, error)
	// Check looks at the repository, or at one of its Copies.
	Check(ctx context.Context, copied string) (repository.Health, error)
	Copies() []string
}

// RepositoryStore makes a repository with its copies the store of the steps. Backups that are asked for are written to
// the repository alone: a disk that is not mounted must not send them elsewhere unnoticed. What a restore saves and
// records goes to the first copy that can be opened when the repository cannot: then the restore reads from there,
// too, and without a place to save to it could not be done safely.
func RepositoryStore(l *repository.Locations) Store { return store{l} }

type store struct{ locations *repository.Locations }

// at does something in the repository, or for a restore in its stand-in.
func at[T any](ctx context.Context, s store, forRestore bool, do func(*repository.Repository) (T, error)) (none T, err error) {
	var r *repository.Repository
	var standIn string
	if forRestore {
		r, standIn, err = s.locations.Home(ctx)
	} else {
		r, err = s.locations.At(ctx, "")
	}
	if err != nil && standIn == "" {
		return none, err
	}
	return do(r)
}

func (s store) Begin(ctx context.Context, part Part) (PartWriter, error) {
	return at(ctx, s, part.ForRestore, func(r *repository.Repository) (PartWriter, error) {
		w, err := r.Begin(ctx, repository.Spec{Source: part.Source, Run: part.Run, Backup: part.Backup, Kind: part.Kind})
		if err != nil {
			return nil, err // not w: a nil pointer in an interface is not nil
		}
		return w, nil
	})
}

func (s store) Part(ctx context.Context, from, backup string, kind remora.Kind) (fs.FS, error) {
	r, err := s.locations.At(ctx, from)
	if err != nil {
		return nil, err
	}
	return r.Part(ctx, backup, kind)
}

func (s store) Lease(ctx context.Context, from, backup, run, what string) (func(context.Context, error) error, error) {
	r, err := s.locations.At(ctx, from)
	if err != nil {
		return nil, err
	}
	leased, err := r.Lease(ctx, backup, run, what)
	if err != nil {
		return nil, err
	}
	return leased.End, nil
}

func (s store) Find(ctx context.Context, ref, source, from string) (remora.Backup, error) {
	return s.locations.Find(ctx, ref, source, from)
}

func (s store) Commit(ctx context.Context, m remora.Manifest) (remora.Manifest, error) {
	return at(ctx, s, m.Purpose != remora.Regular, func(r *repository.Repository) (remora.Manifest, error) { return r.Commit(ctx, m) })
}

func (s store) List(ctx context.Context) ([]remora.Backup, error) {
	return at(ctx, s, false, func(r *repository.Repository) ([]remora.Backup, error) { return r.List(ctx, repository.Filter{}) })
}

func (s store) Verify(ctx context.Context, in remora.VerifyInput, report func(remora.Progress)) (remora.Verification, error) {
	r, err := s.locations.At(ctx, in.In)
	if in.In == "" {
		r, err = s.locations.Holding(ctx, in.Backup)
	}
	switch {
	case err != nil:
		return remora.Verification{}, err
	case in.Full:
		return r.VerifyBytes(ctx, in.Backup, in.Run, report)
	default:
		return r.Verify(ctx, in.Backup, report)
	}
}

func (s store) RecordFailure(ctx context.Context, failed remora.FailedRun) error {
	_, err := at(ctx, s, true, func(r *repository.Repository) (struct{}, error) { return struct{}{}, r.RecordFailure(ctx, failed) })
	return err
}

func (s store) RecordRestore(ctx context.Context, restore remora.Restore) error {
	_, err := at(ctx, s, true, func(r *repository.Repository) (struct{}, error) { return struct{}{}, r.RecordRestore(ctx, restore) })
	return err
}

func (s store) RecordProof(ctx context.Context, proof remora.Proof) error {
	_, err := at(ctx, s, false, func(r *repository.Repository) (struct{}, error) { return struct{}{}, r.RecordProof(ctx, proof) })
	return err
}

func (s store) Restores(ctx context.Context, source string) ([]remora.Restore, error) {
	return at(ctx, s, true, func(r *repository.Repository) ([]remora.Restore, error) { return r.Restores(ctx, source) })
}

func (s store) Check(ctx context.Context, copied string) (repository.Health, error) {
	r, err := s.locations.At(ctx, copied)
	if err != nil {
		return repository.Health{}, err
	}
	health, err := r.Check(ctx) // it fails at once where everything else tries for long
	if err == nil {
		err = r.Refresh(ctx)
	}
	return health, err
}

func (s store) Copies() []string { return s.locations.Names() }
