package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// session is what most commands need: the configuration, and on demand the repository and the control plane.
type session struct {
	app        *app
	cfg        *config.Config
	repository *repository.Repository
	control    *control.Control
}

// need says what a command works with beside the configuration.
type need int

const (
	needRepository need = 1 << iota
	needControl
)

// open reads the configuration and opens what is needed. The caller closes the session.
func (a *app) open(ctx context.Context, needs need) (*session, error) {
	cfg, err := config.Load(a.ConfigPath, a.Getenv)
	if err != nil {
		return nil, err
	}
	s := &session{app: a, cfg: cfg}
	if needs&needRepository != 0 {
		if s.repository, err = openRepository(ctx, cfg); err != nil {
			return nil, err
		}
	}
	if needs&needControl != 0 {
		s.control, err = control.New(control.Config{
			Address: cfg.Temporal.Address, Namespace: cfg.Temporal.Namespace, Actor: a.actor(), Now: a.Now,
		}, s.repository)
		if err != nil {
			s.close(ctx)
			return nil, err
		}
	}
	return s, nil
}

func openRepository(ctx context.Context, cfg *config.Config) (*repository.Repository, error) {
	if cfg.Repository.Path == "" {
		return nil, &remora.Problem{
			Op: "open the repository", Kind: remora.Invalid, Subject: cfg.File,
			Hint: "run this where the repository is configured", Err: errors.New("no repository is configured here"),
		}
	}
	return repository.Open(ctx, repository.Config{
		Path: cfg.Repository.Path, Password: cfg.Repository.Password, State: filepath.Join(cfg.State, "command"),
	})
}

func (s *session) close(ctx context.Context) {
	if s.control != nil {
		s.control.Close()
	}
	if s.repository != nil {
		_ = s.repository.Close(context.WithoutCancel(ctx)) // it was only read
	}
}

// actor is who is asking, as it is recorded.
func (a *app) actor() string {
	name := a.Getenv("SUDO_USER")
	if u, err := user.Current(); err == nil && name == "" {
		name = u.Username
	}
	if name == "" {
		name = "somebody"
	}
	host, err := os.Hostname()
	if err != nil {
		return remora.OneLine(name)
	}
	return remora.OneLine(name + "@" + host)
}

// source finds the source that was named. Where it may be left out it is the only one.
func (s *session) source(named string, given bool) (*config.Source, error) {
	if given {
		return s.cfg.Source(named)
	}
	names := s.cfg.Names()
	if len(names) == 1 {
		return s.cfg.Source(names[0])
	}
	hint := "name one of them: " + strings.Join(names, ", ")
	if len(names) == 0 {
		hint = "add a source to " + s.cfg.File + ", or write a configuration with `remora init`"
	}
	return nil, &remora.Problem{
		Op: "find the source", Kind: remora.Invalid, Hint: hint,
		Err: fmt.Errorf("there are %d sources, and none was named", len(names)),
	}
}

// sourceArgument is the source named by the first argument, or the only one.
func (s *session) sourceArgument(args []string) (*config.Source, error) {
	if len(args) == 0 {
		return s.source("", false)
	}
	return s.source(args[0], true)
}

// filterSource is the source named by the first argument for commands that show all when none is named.
func (s *session) filterSource(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	found, err := s.cfg.Source(args[0])
	if err != nil {
		return "", err
	}
	return found.Name, nil
}

// backup finds the backup that was asked for. "latest" is one of the named source, or of the only one.
func (s *session) backup(ctx context.Context, ref, source string) (remora.Backup, error) {
	if strings.TrimSpace(ref) == "" {
		return remora.Backup{}, &remora.Problem{
			Op: "find the backup", Kind: remora.Invalid, Hint: "give an id, the beginning of one, a name, or latest; `remora history` lists them",
			Err: errors.New("no backup was named"),
		}
	}
	if source != "" || ref == "latest" {
		found, err := s.source(source, source != "")
		if err != nil {
			return remora.Backup{}, err
		}
		source = found.Name
	}
	return s.repository.Find(ctx, ref, source)
}

// chosen are the components that the flags ask for, nil when none was named.
func chosen(database, files bool) []remora.Kind {
	var kinds []remora.Kind
	if database {
		kinds = append(kinds, remora.Database)
	}
	if files {
		kinds = append(kinds, remora.Files)
	}
	return kinds
}

// missing refuses components that the source does not have.
func missing(op string, src *config.Source, kinds []remora.Kind) error {
	for _, k := range kinds {
		if k == remora.Database && src.Database == nil || k == remora.Files && src.Files == nil {
			return &remora.Problem{
				Op: op, Kind: remora.Invalid, Subject: src.Name, Hint: "leave out --" + string(k) + ", or add it to the configuration",
				Err: fmt.Errorf("the source has no %s", k),
			}
		}
	}
	return nil
}
