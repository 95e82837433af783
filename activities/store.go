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
	// Find looks into the copies where the repository does not help; from, if given, is the only place to look into.
	Find(ctx context.Context, ref, source, from string) (remora.Backup, error)
	Commit(ctx context.Context, m remora.Manifest) (remora.Manifest, error)
	// Verify reads back what the copy that is named holds; without a name, what is held wherever it was written.
	Verify(ctx context.Context, in, backup string, report func(remora.Progress)) (remora.Verification, error)
	RecordFailure(ctx context.Context, failed remora.FailedRun) error
	RecordRestore(ctx context.Context, restore remora.Restore) error
	// Restores are the records of a source's restores, newest first.
	Restores(ctx context.Context, source string) ([]remora.Restore, error)
	// Check looks at the repository, or at one of its Copies.
	Check(ctx context.Context, copied string) (repository.Health, error)
	Copies() []string
}
