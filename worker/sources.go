package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"go.uber.org/fx"

	"github.com/remora-backup/remora/activities"
	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/filetree"
	"github.com/remora-backup/remora/internal/maintenance"
	"github.com/remora-backup/remora/internal/mysql"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// runnable refuses a configuration that is good enough to ask with, but not to work with.
func runnable(cfg *config.Config) error {
	invalid := func(hint, why string) error {
		return &remora.Problem{Op: "start", Kind: remora.Invalid, Subject: cfg.File, Hint: hint, Err: errors.New(why)}
	}
	switch {
	case cfg.Repository.Where() == "":
		return invalid("Say where backups live: repository: {path: …, password_file: …}, or s3: {…} for path", "no repository is configured")
	case len(cfg.Sources) == 0:
		return invalid("Add one under sources, or run: remora init", "no source is configured")
	}
	return nil
}

// openTime bounds the opening of the repository.
const openTime = time.Minute

func openRepository(lc fx.Lifecycle, cfg *config.Config, log *slog.Logger) (*repository.Repository, error) {
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	r, err := repository.Open(ctx, repository.Config{
		Path: cfg.Repository.Path, Bucket: cfg.Repository.Bucket, Password: cfg.Repository.Password,
		State: filepath.Join(cfg.State, "repository"), Compression: cfg.Compression, Log: log,
	})
	if err != nil {
		return nil, err
	}
	lc.Append(fx.StopHook(r.Close))
	return r, nil
}

// sources are what this worker can act on.
type sources struct {
	components map[remora.Kind]map[string]remora.Component
	modes      map[string]maintenance.Mode
	checks     map[string][]remora.Check
}

func newSources(cfg *config.Config, repo *repository.Repository, log *slog.Logger) (*sources, error) {
	s := &sources{
		components: map[remora.Kind]map[string]remora.Component{remora.Database: {}, remora.Files: {}},
		modes:      map[string]maintenance.Mode{},
		checks:     map[string][]remora.Check{},
	}
	for _, name := range cfg.Names() {
		source := cfg.Sources[name]
		if d := source.Database; d != nil {
			db, err := mysql.New(mysql.Config{
				Source: name, Installation: repo.Installation(),
				Address: d.Address, User: d.User, Password: d.Password,
				RestoreUser: d.RestoreUser, RestorePassword: d.RestorePassword,
				Schemas: d.Schemas, Sessions: d.Sessions, Stall: cfg.Stall, Log: log.With("source", name),
			})
			if err != nil {
				return nil, err
			}
			s.components[remora.Database][name] = db
			if !d.SingleTransaction {
				s.components[remora.Database][name] = mysql.LockAll(db)
			}
		}
		if f := source.Files; f != nil {
			tree, err := filetree.New(filetree.Config{
				Source: name, Installation: repo.Installation(),
				Root: f.Root, Directories: f.Directories, Exclude: f.Exclude, ByEntry: f.ByEntry,
				Log: log.With("source", name),
			})
			if err != nil {
				return nil, err
			}
			s.components[remora.Files][name] = tree
		}
		s.modes[name] = newMode(name, source.Maintenance, filepath.Join(cfg.State, "maintenance", name))
		s.checks[name] = source.Checks
	}
	return s, nil
}

func newMode(source string, m config.Maintenance, journal string) maintenance.Mode {
	switch {
	case m.Laravel != "":
		return maintenance.Laravel(m.Laravel)
	case m.Command != nil:
		return maintenance.Journalled(maintenance.Commands(maintenance.Command{
			Source: source, Enter: m.Command.Enter, Leave: m.Command.Leave, Status: m.Command.Status,
		}), journal)
	case m.HTTP != nil:
		return maintenance.Journalled(maintenance.Hooks(maintenance.Hook{
			Source: source, Enter: m.HTTP.Enter, Leave: m.HTTP.Leave, Status: m.HTTP.Status, Token: m.HTTP.Token,
		}), journal)
	case m.File != "":
		return maintenance.FlagFile(m.File)
	default:
		return maintenance.None()
	}
}

// of finds the components of a kind.
func (s *sources) of(kind remora.Kind) func(string) (remora.Component, error) {
	return func(source string) (remora.Component, error) {
		if _, known := s.modes[source]; !known {
			return nil, noSuchSource(source)
		}
		if c, ok := s.components[kind][source]; ok {
			return c, nil
		}
		return nil, activities.NoSuchComponent(source, kind)
	}
}

func (s *sources) mode(source string) (activities.MaintenanceMode, error) {
	if m, ok := s.modes[source]; ok {
		return m, nil
	}
	return nil, noSuchSource(source)
}

func (s *sources) checksOf(source string) ([]remora.Check, error) {
	if checks, ok := s.checks[source]; ok {
		return checks, nil
	}
	return nil, noSuchSource(source)
}

func noSuchSource(source string) error {
	return &remora.Problem{
		Op: "find the source", Kind: remora.NotFound, Subject: source,
		Hint: "Add it to this worker's remora.yaml and start the worker again.",
		Err:  errors.New("the worker's configuration has no such source"),
	}
}
