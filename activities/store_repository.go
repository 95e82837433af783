package activities

import (
	"context"

	"github.com/remora-backup/remora/internal/repository"
)

// RepositoryStore makes a repository the store of the steps.
func RepositoryStore(r *repository.Repository) Store { return store{r} }

type store struct{ *repository.Repository }

// Begin starts a part.
func (s store) Begin(ctx context.Context, part Part) (PartWriter, error) {
	w, err := s.Repository.Begin(ctx, repository.Spec{Source: part.Source, Run: part.Run, Backup: part.Backup, Kind: part.Kind})
	if err != nil {
		return nil, err // not w: a nil pointer in an interface is not nil
	}
	return w, nil
}
