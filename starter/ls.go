package main

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/remora"
)

func newLsCommand(a *app) *cobra.Command {
	var source string
	return a.command("ls", flags{"source": &source}, a.with(needRepository, func(ctx context.Context, s *session, args []string) error {
		held, b, err := s.held(ctx, args[0], source, "")
		if err != nil {
			return err
		}
		tree, err := held.Tree(ctx, b.ID)
		if err != nil {
			return err
		}
		name := append(args, ".")[1]
		entries, err := listEntries(tree, name)
		if err != nil {
			return inBackup(b.ID, name, err)
		}
		return a.printEntries(entries)
	}))
}

// entryJSON is an entry of a backup.
type entryJSON struct {
	Path     string    `json:"path"`
	Kind     string    `json:"kind"`
	Size     int64     `json:"size,omitempty"`
	Mode     string    `json:"mode"`
	Modified time.Time `json:"modified,omitzero"`
	Target   string    `json:"target,omitempty"`
}

// listEntries reads a directory of a backup, or one entry.
func listEntries(tree fs.FS, name string) ([]entryJSON, error) {
	if name != "." {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	}
	if !fs.ValidPath(name) {
		return nil, fs.ErrNotExist // nothing outside can be named
	}
	info, err := fs.Lstat(tree, name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []entryJSON{entry(tree, name, info)}, nil
	}
	dir, err := fs.ReadDir(tree, name)
	if err != nil {
		return nil, err
	}
	entries := make([]entryJSON, 0, len(dir))
	for _, e := range dir {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry(tree, path.Join(name, e.Name()), info))
	}
	return entries, nil
}

func entry(tree fs.FS, name string, info fs.FileInfo) entryJSON {
	e := entryJSON{Path: name, Kind: "file", Size: info.Size(), Mode: info.Mode().String(), Modified: info.ModTime()}
	switch {
	case info.IsDir():
		e.Kind, e.Size = "directory", 0
	case info.Mode()&fs.ModeSymlink != 0:
		e.Kind, e.Size = "symlink", 0
		e.Target, _ = fs.ReadLink(tree, name) // shown without its target where that cannot be read
	}
	return e
}

// inBackup puts the error of a path that leads nowhere into words. What is wrong with the repository says so itself.
func inBackup(id, name string, err error) error {
	if errors.As(err, new(*remora.Problem)) {
		return err
	}
	why := errors.New("there is nothing of that name in the backup")
	if at, ok := errors.AsType[*fs.PathError](err); ok && !errors.Is(err, fs.ErrNotExist) {
		why = at.Err
	}
	return &remora.Problem{Op: "list " + id, Kind: remora.NotFound, Subject: name, Hint: "see what there is with: remora ls " + id, Err: why}
}

func (a *app) printEntries(entries []entryJSON) error {
	return list(a, entries, "", []string{"MODE", "SIZE", "MODIFIED", "PATH"}, func(e entryJSON) []string {
		name, bytes := e.Path, size(e.Size)
		switch e.Kind {
		case "directory":
			name, bytes = name+"/", "-"
		case "symlink":
			name, bytes = name+" -> "+e.Target, "-"
		}
		return []string{e.Mode, bytes, clock(e.Modified), name}
	})
}
