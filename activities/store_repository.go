package activities

import (
	"context"
	"io/fs"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// RepositoryStore makes a repository with its copies the store of the steps. Backups that are asked for are written to
// the repository alone: a disk that is not mounted must not send them elsewhere unnoticed. What a restore saves and
// records goes to the first copy that can be opened when the repository cannot: then the restore reads from there,
// too, and without a place to save to it could not be done safely.
func RepositoryStore(l *repository.Locations) Store { return store{l} }

type store struct{ locations *repository.Locations }

// where is the repository, or for a restore its stand-in.
func (s store) where(ctx context.Context, forRestore bool) (*repository.Repository, error) {
	if !forRestore {
		return s.locations.At(ctx, "")
	}
	r, name, err := s.locations.Home(ctx)
	if name != "" {
		err = nil
	}
	return r, err
}

func (s store) Begin(ctx context.Context, part Part) (PartWriter, error) {
	r, err := s.where(ctx, part.ForRestore)
	if err != nil {
		return nil, err
	}
	w, err := r.Begin(ctx, repository.Spec{Source: part.Source, Run: part.Run, Backup: part.Backup, Kind: part.Kind})
	if err != nil {
		return nil, err // not w: a nil pointer in an interface is not nil
	}
	return w, nil
}

func (s store) Part(ctx context.Context, from, backup string, kind remora.Kind) (fs.FS, error) {
	r, err := s.locations.At(ctx, from)
	if err != nil {
		return nil, err
	}
	return r.Part(ctx, backup, kind)
}

func (s store) Find(ctx context.Context, ref, source, from string) (remora.Backup, error) {
	return s.locations.Find(ctx, ref, source, from)
}

func (s store) Commit(ctx context.Context, m remora.Manifest) (remora.Manifest, error) {
	r, err := s.where(ctx, m.Purpose != remora.Regular)
	if err != nil {
		return m, err
	}
	return r.Commit(ctx, m)
}

func (s store) Verify(ctx context.Context, in, backup string, report func(remora.Progress)) (remora.Verification, error) {
	r, err := s.locations.At(ctx, in)
	if in == "" {
		r, err = s.locations.Holding(ctx, backup)
	}
	if err != nil {
		return remora.Verification{}, err
	}
	return r.Verify(ctx, backup, report)
}

func (s store) RecordFailure(ctx context.Context, failed remora.FailedRun) error {
	r, err := s.where(ctx, true)
	if err != nil {
		return err
	}
	return r.RecordFailure(ctx, failed)
}

func (s store) RecordRestore(ctx context.Context, restore remora.Restore) error {
	r, err := s.where(ctx, true)
	if err != nil {
		return err
	}
	return r.RecordRestore(ctx, restore)
}

func (s store) Restores(ctx context.Context, source string) ([]remora.Restore, error) {
	r, err := s.where(ctx, true)
	if err != nil {
		return nil, err
	}
	return r.Restores(ctx, source)
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
