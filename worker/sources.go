package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
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
		return remora.Fail(remora.Invalid, "start", cfg.File, hint, "%s", why)
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

// openRepository opens what can be opened: the repository, or while that is away a copy, so that what it holds can
// still be restored.
func openRepository(lc fx.Lifecycle, cfg *config.Config, log *slog.Logger) (*repository.Locations, error) {
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	at := func(r config.Repository, state string) repository.Config {
		return repository.Config{Path: r.Path, Bucket: r.Bucket, Password: r.Password, Next: r.Next(), State: filepath.Join(cfg.State, state), Compression: cfg.Compression, Log: log}
	}
	copies := map[string]repository.Config{}
	for name, c := range cfg.Copies {
		copies[name] = at(c.Repository, "copy-"+name)
	}
	l := repository.NewLocations(at(cfg.Repository, "repository"), copies)
	_, name, err := l.Home(ctx)
	switch {
	case name != "":
		log.Error("the repository cannot be opened: backups fail, and restores read from a copy", "repository", cfg.Repository.Where(), "copy", name, "error", err)
	case err != nil:
		return nil, err
	}
	lc.Append(fx.StopHook(l.Close))
	return l, nil
}

// sources are what this worker can act on.
type sources struct {
	components map[remora.Kind]map[string]remora.Component
	modes      map[string]maintenance.Mode
	checks     map[string][]remora.Check
	after      map[string][][]string
}

func newSources(cfg *config.Config, locations *repository.Locations, log *slog.Logger) (*sources, error) {
	repo, name, err := locations.Home(context.Background())
	if err != nil && name == "" {
		return nil, err
	}
	s := &sources{
		components: map[remora.Kind]map[string]remora.Component{remora.Database: {}, remora.Files: {}},
		modes:      map[string]maintenance.Mode{},
		checks:     map[string][]remora.Check{},
		after:      map[string][][]string{},
	}
	var reserved, directories []string
	for _, source := range cfg.Sources {
		if source.Database != nil {
			reserved = append(reserved, source.Database.Schemas...)
		}
		if f := source.Files; f != nil {
			for _, dir := range f.Directories {
				directories = append(directories, filepath.Join(f.Root, filepath.FromSlash(dir)))
			}
		}
	}
	for _, name := range cfg.Names() {
		source := cfg.Sources[name]
		if d := source.Database; d != nil {
			db, err := mysql.New(mysql.Config{
				Source: name, Installation: repo.Installation(),
				Address: d.Address, User: d.User, Password: d.Password,
				RestoreUser: d.RestoreUser, RestorePassword: d.RestorePassword,
				Schemas: d.Schemas, Sessions: d.Sessions, RestoreSessions: d.RestoreSessions, Limits: d.Limits, SkipBinaryLog: d.SkipBinaryLog, LockAll: !d.SingleTransaction,
				Stall: cfg.Stall, Log: log.With("source", name),
				Empty: d.Empty, Reserved: reserved, WithoutRoutines: !d.Routines, WithoutTriggers: !d.Triggers, StaysOnline: source.Maintenance == config.Maintenance{},
			})
			if err != nil {
				return nil, err
			}
			s.components[remora.Database][name] = db
		}
		if f := source.Files; f != nil {
			tree, err := filetree.New(filetree.Config{
				Source: name, Installation: repo.Installation(),
				Root: f.Root, Directories: f.Directories, Exclude: f.Exclude, ByEntry: f.ByEntry, Reserved: directories,
				Log: log.With("source", name),
			})
			if err != nil {
				return nil, err
			}
			s.components[remora.Files][name] = tree
		}
		s.modes[name] = newMode(name, source.Maintenance, filepath.Join(cfg.State, "maintenance", name))
		s.checks[name], s.after[name] = source.Checks, source.After
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

// digest is short for what a configuration says of the sources: all workers are to know the same, whoever of them acts (S12).
func digest(cfg *config.Config) string {
	h := sha256.New()
	_, _ = fmt.Fprintln(h, cfg.Repository.Where())
	for _, name := range cfg.Names() {
		source := cfg.Sources[name]
		_, _ = fmt.Fprintf(h, "%q %s %+v\n", name, newMode(name, source.Maintenance, ""), source.Checks)
		if source.After != nil {
			_, _ = fmt.Fprintf(h, "%q\n", source.After)
		}
		if d := source.Database; d != nil {
			_, _ = fmt.Fprintf(h, "%q %q %q\n", d.Address, d.Schemas, d.Empty)
		}
		if f := source.Files; f != nil {
			_, _ = fmt.Fprintf(h, "%+v\n", *f)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// of finds the components of a kind.
func (s *sources) of(kind remora.Kind) func(string) (remora.Component, error) {
	return func(source string) (remora.Component, error) {
		if _, err := s.mode(source); err != nil {
			return nil, err
		}
		if c, ok := s.components[kind][source]; ok {
			return c, nil
		}
		return nil, activities.NoSuchComponent(source, kind)
	}
}

func (s *sources) mode(source string) (maintenance.Mode, error) { return ofSource(s.modes, source) }

func (s *sources) checksOf(source string) ([]remora.Check, error) { return ofSource(s.checks, source) }

func (s *sources) afterOf(source string) ([][]string, error) { return ofSource(s.after, source) }

func ofSource[T any](all map[string]T, source string) (T, error) {
	if one, ok := all[source]; ok {
		return one, nil
	}
	var none T
	return none, remora.Fail(remora.NotFound, "find the source", source,
		"Add it to this worker's remora.yaml and start the worker again.", "the worker's configuration has no such source")
}
