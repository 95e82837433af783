package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// session is what most commands need: the configuration, and on demand the repository and the control plane.
type session struct {
	app *app
	cfg *config.Config
	// locations are the repository and its copies; repository is the first of them that can be opened.
	locations  *repository.Locations
	repository *repository.Repository
	// copy names the copy that repository is, because the repository itself cannot be opened.
	copy    string
	control *control.Control
}

// need says what a command works with beside the configuration.
type need int

const (
	needRepository need = 1 << iota
	needControl
)

// with runs a command that needs a session, and closes that after it.
func (a *app) with(needs need, do func(ctx context.Context, s *session, args []string) error) runner {
	return func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		s, err := a.open(ctx, needs)
		if err != nil {
			return err
		}
		defer s.close(ctx)
		return do(ctx, s, args)
	}
}

// onSource runs a command that asks something of the source that its first argument names, or of the only one.
func (a *app) onSource(do func(ctx context.Context, s *session, src *config.Source) error) runner {
	return a.with(needControl, func(ctx context.Context, s *session, args []string) error {
		src, err := s.source(args...)
		if err != nil {
			return err
		}
		return do(ctx, s, src)
	})
}

// open reads the configuration and opens what is needed. The caller closes the session.
func (a *app) open(ctx context.Context, needs need) (*session, error) {
	cfg, err := config.Load(a.ConfigPath, a.Getenv)
	if err != nil {
		return nil, err
	}
	s := &session{app: a, cfg: cfg}
	if needs&needRepository != 0 {
		if err := s.openRepository(ctx); err != nil {
			s.close(ctx)
			return nil, err
		}
	}
	if needs&needControl != 0 {
		copies := cfg.CopyNames()
		if s.copy != "" { // which cannot tell what the others hold
			copies = nil
		}
		s.control, err = control.New(control.Config{
			Address: cfg.Temporal.Address, Namespace: cfg.Temporal.Namespace, Actor: a.actor(), Now: a.Now, Copies: copies, Expected: cfg.Expected(),
		}, s.repository)
		if err != nil {
			s.close(ctx)
			return nil, err
		}
	}
	return s, nil
}

// openRepository opens the repository; while that is away, the first copy that can be opened, and says so.
func (s *session) openRepository(ctx context.Context) error {
	cfg := s.cfg
	if cfg.Repository.Where() == "" {
		return invalid("open the repository", cfg.File, "no repository is configured here", "run this where the repository is configured")
	}
	copies := map[string]repository.Config{}
	for name, c := range cfg.Copies {
		copies[name] = opening(c.Repository, cfg.State, "command", "copy-"+name)
	}
	s.locations = repository.NewLocations(opening(cfg.Repository, cfg.State, "command"), copies)
	var err error
	s.repository, s.copy, err = s.locations.Home(ctx)
	if s.copy == "" {
		return err
	}
	if !s.app.json() {
		_, _ = fmt.Fprintf(s.app.Err, "note: this is what the copy %s holds: %s\n", s.copy, remora.OneLine(err.Error()))
	}
	return nil
}

// opening says how a configured repository is opened.
func opening(at config.Repository, state ...string) repository.Config {
	return repository.Config{Path: at.Path, Bucket: at.Bucket, Password: at.Password, Next: at.Next(), State: filepath.Join(state...)}
}

func (s *session) close(ctx context.Context) {
	if s.control != nil {
		s.control.Close()
	}
	if s.locations != nil {
		_ = s.locations.Close(context.WithoutCancel(ctx)) // it was only read
	}
}

// actor is who is asking, as it is recorded.
func (a *app) actor() string {
	name := a.Getenv("SUDO_USER")
	if u, err := user.Current(); err == nil {
		name = cmp.Or(name, u.Username)
	}
	host, _ := os.Hostname() // without it the name alone says enough
	return remora.OneLine(strings.TrimSuffix(cmp.Or(name, "somebody")+"@"+host, "@"))
}

// source is the one that the first of names names. Where none is given it is the only one.
func (s *session) source(names ...string) (*config.Source, error) {
	if len(names) > 0 {
		return s.cfg.Source(names[0])
	}
	all := s.cfg.Names()
	if len(all) == 1 {
		return s.cfg.Source(all[0])
	}
	hint := "name one of them: " + strings.Join(all, ", ")
	if len(all) == 0 {
		hint = "add a source to " + s.cfg.File + ", or write a configuration with `remora init`"
	}
	return nil, invalid("find the source", "", fmt.Sprintf("there are %d sources, and none was named", len(all)), hint)
}

// filterSource is the name of the source that the first argument names, for commands that show all when none is named.
func (s *session) filterSource(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	_, err := s.cfg.Source(args[0])
	return args[0], err
}

// backup finds the backup that was asked for, in the copy from where that is given. "latest" is one of the named
// source, or of the only one.
func (s *session) backup(ctx context.Context, ref, source, from string) (remora.Backup, error) {
	if strings.TrimSpace(ref) == "" {
		return remora.Backup{}, invalid("find the backup", "", "no backup was named",
			"give an id, the beginning of one, a name, or latest; `remora history` lists them")
	}
	var names []string
	if source != "" {
		names = []string{source}
	}
	if source != "" || ref == "latest" {
		found, err := s.source(names...)
		if err != nil {
			return remora.Backup{}, err
		}
		source = found.Name
	}
	return s.locations.Find(ctx, ref, source, from)
}

// held finds a backup as s.backup does, and opens what holds it.
func (s *session) held(ctx context.Context, ref, source, from string) (*repository.Repository, remora.Backup, error) {
	b, err := s.backup(ctx, ref, source, from)
	if err != nil {
		return nil, b, err
	}
	in, err := s.locations.At(ctx, b.Location)
	return in, b, err
}

// missing refuses components that the source does not have.
func missing(op string, src *config.Source, kinds []remora.Kind) error {
	for _, k := range kinds {
		if !slices.Contains(src.Kinds(), k) {
			return invalid(op, src.Name, "the source has no "+string(k), "leave out --"+string(k)+", or add it to the configuration")
		}
	}
	return nil
}
