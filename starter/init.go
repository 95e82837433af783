package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/mysql"
	"github.com/remora-backup/remora/internal/remora"
)

// initFlags are what `remora init` was asked for.
type initFlags struct {
	mysql      string
	files      []string
	laravel    string
	repository string
	source     string
}

func newInitCommand(a *app) *cobra.Command {
	var f initFlags
	return a.command("init", flags{"mysql": &f.mysql, "files": &f.files, "laravel": &f.laravel, "repository": &f.repository, "source": &f.source},
		func(cmd *cobra.Command, _ []string) error { return a.initialise(cmd.Context(), f) })
}

// passwordVariable holds the password of the database user for a script.
const passwordVariable = "REMORA_MYSQL_PASSWORD" //nolint:gosec // the name of a variable

// initJSON is the answer of `remora init`.
type initJSON struct {
	Config             string        `json:"config,omitempty"`
	Source             string        `json:"source,omitempty"`
	Repository         string        `json:"repository,omitempty"`
	RepositoryPassword string        `json:"repository_password_file,omitempty"`
	Database           string        `json:"database,omitempty"`
	Missing            []mysql.Right `json:"missing_rights,omitempty"`
	TakenOver          []string      `json:"taken_over,omitempty"`
	NotTakenOver       []string      `json:"not_taken_over,omitempty"`
	Warnings           []string      `json:"warnings,omitempty"`
	Named              string        `json:"-"` // how a command names the configuration where it is not in its usual place
}

// beginning is an installation that is about to be.
type beginning struct {
	file      string // of the configuration
	draft     config.Draft
	text      []byte // of the configuration
	config    *config.Config
	password  remora.Secret // of the database user
	accessKey string        // of the storage, as the environment says it
	secretKey remora.Secret
	laravel   laravelApp
	missing   []mysql.Right
	warnings  []string
}

func (a *app) initialise(ctx context.Context, f initFlags) error {
	if f.mysql == "" && f.repository == "" && f.source == "" && len(f.files) == 0 {
		if cfg, err := config.Load(a.ConfigPath, a.Getenv); err == nil {
			return a.createConfigured(ctx, cfg)
		}
	}
	b, err := a.begin(ctx, f)
	if err != nil {
		return err
	}
	if err := a.testRights(ctx, b); err != nil {
		return err
	}
	if err := b.write(ctx); err != nil {
		return err
	}
	return a.printInitialised(b)
}

// begin turns flags into a draft that makes sense, and touches nothing.
func (a *app) begin(ctx context.Context, f initFlags) (*beginning, error) {
	b := &beginning{}
	var found *dsn
	if f.laravel != "" {
		var err error
		if found, err = b.propose(&f); err != nil {
			return nil, err
		}
	}
	if f.mysql == "" && found == nil && len(f.files) == 0 {
		return nil, initProblem("", strings.Join(append([]string{"there is nothing to back up"}, b.laravel.left...), "; "), "Name a database with --mysql DSN, directories with --files DIR, or both.")
	}
	if err := b.place(a, f.repository); err != nil {
		return nil, err
	}
	var err error
	if b.draft.Files, err = draftFiles(f.files); err != nil {
		return nil, err
	}
	if f.mysql != "" {
		if found, err = b.readDSN(a, f.mysql); err != nil {
			return nil, err
		}
	}
	if found != nil {
		if err := b.setDatabase(ctx, a, *found); err != nil {
			return nil, err
		}
	}
	if b.draft.Source, err = sourceName(f.source, b.draft); err != nil {
		return nil, err
	}
	if b.password != "" {
		b.draft.Database.PasswordAt = filepath.Join(filepath.Dir(b.file), b.draft.Source+".password")
	}
	return b, b.parse(a.Getenv)
}

func initProblem(subject, why, hint string) error { return invalid("initialise", subject, why, hint) }

// place decides where the configuration and the repository go; a configuration that exists is never overwritten.
func (b *beginning) place(a *app, repository string) (err error) {
	if b.file, err = filepath.Abs(cmp.Or(a.ConfigPath, a.Getenv(config.FileVariable), config.Places()[0])); err != nil {
		return initProblem("", err.Error(), "Name the file with its whole path.")
	}
	if _, err := os.Lstat(b.file); err == nil {
		return initProblem(b.file, "it exists, and is not overwritten", "Add further sources to it by hand, or name another file with --config.")
	}
	dir := filepath.Dir(b.file)
	b.draft.RepositoryPasswordAt = filepath.Join(dir, "repository.password")
	if rest, ok := strings.CutPrefix(repository, "s3:"); ok {
		return b.placeInBucket(a, dir, rest)
	}
	usual := filepath.Join(dir, "remora-repository")
	if os.Geteuid() == 0 {
		usual = "/var/backups/remora"
	}
	if b.draft.RepositoryPath, err = filepath.Abs(cmp.Or(repository, a.Getenv("BACKUP_STORAGE_PATH"), b.laravel.value("BACKUP_STORAGE_PATH"), usual)); err != nil {
		return initProblem("", err.Error(), "Name the repository with its whole path.")
	}
	return nil
}

// readDSN reads a database that was named on the command line.
func (b *beginning) readDSN(a *app, text string) (*dsn, error) {
	d, err := parseDSN(text)
	switch {
	case err != nil:
		return nil, err
	case d.password != "":
		b.warnings = append(b.warnings, "other users of this machine see a password on the command line; leave it out of the DSN and type it when you are asked, or set "+passwordVariable)
	default:
		d.password = remora.Secret(a.Getenv(passwordVariable))
	}
	return &d, nil
}

// setDatabase gets the password from where it is.
func (b *beginning) setDatabase(ctx context.Context, a *app, d dsn) (err error) {
	b.draft.Database = &config.DraftDatabase{Address: d.address, User: d.user, Schema: d.schema}
	if b.password = d.password; b.password == "" && a.Interactive {
		b.password, err = a.askPassword(ctx, fmt.Sprintf("Password of %s on %s (empty for none): ", d.user, d.address), "set "+passwordVariable)
	}
	return err
}

// askPassword reads a line, without showing it on a terminal. Where none can be read, people should do otherwise.
func (a *app) askPassword(ctx context.Context, question, otherwise string) (remora.Secret, error) {
	fmt.Fprint(a.Err, question)
	defer fmt.Fprintln(a.Err)
	read := a.readLine
	if f, ok := a.In.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		shown, err := term.GetState(int(f.Fd()))
		if err == nil {
			defer func() { _ = term.Restore(int(f.Fd()), shown) }() // also when the read is left behind
		}
		read = func() (string, error) {
			text, err := term.ReadPassword(int(f.Fd()))
			return string(text), err
		}
	}
	text, err := typed(ctx, read)
	if err != nil && ctx.Err() == nil {
		err = initProblem("", "no password could be read", "Type it when you are asked, or "+otherwise+".")
	}
	return remora.Secret(text), err
}

// sourceName is the name that was given, or one made of the schema's or the directory's.
func sourceName(given string, d config.Draft) (string, error) {
	if given != "" {
		if err := remora.CheckSourceName(given); err != nil {
			return "", initProblem("", err.Error(), "Give another name with --source.")
		}
		return given, nil
	}
	var from string
	switch {
	case d.Database != nil:
		from = d.Database.Schema
	case len(d.Files.Directories) == 1:
		from = filepath.Base(d.Files.Directories[0])
	default:
		from = filepath.Base(d.Files.Root)
	}
	name := strings.TrimLeft(otherwise.ReplaceAllString(strings.ToLower(from), "-"), "-_")
	if remora.CheckSourceName(name) != nil {
		return "", initProblem("", fmt.Sprintf("no name for the source can be made from %q", from), "Give one with --source NAME.")
	}
	return name, nil
}

// otherwise is a character that cannot stand in the name of a source.
var otherwise = regexp.MustCompile(`[^a-z0-9_-]`)

// parse checks the draft as the file that it will be.
func (b *beginning) parse(getenv func(string) string) (err error) {
	if b.text, err = config.Render(b.draft); err != nil {
		return err
	}
	b.config, err = config.Parse(b.file, b.text, getenv)
	if mistakes, ok := errors.AsType[config.Mistakes](err); ok { // their lines are of a file that nobody has seen
		return initProblem(mistakes[0].Key, mistakes[0].Text, "Correct what was given; nothing was written.")
	}
	if err != nil {
		return err
	}
	b.warnings = append(b.warnings, b.config.Warnings...)
	return nil
}

// testRights asks the server what the user may do, and takes a look at what would be backed up.
func (a *app) testRights(ctx context.Context, b *beginning) error {
	if b.draft.Database == nil {
		return nil
	}
	source := b.config.Sources[b.draft.Source]
	password := func() (remora.Secret, error) { return b.password, nil } // its file is not written yet
	database, err := mysql.New(mysql.Config{
		Source: source.Name, Installation: "init", Address: source.Database.Address, User: source.Database.User,
		Password: password, Schemas: source.Database.Schemas, Stall: b.config.Stall,
	})
	if err != nil {
		return err
	}
	if b.missing, err = database.Rights(ctx); err != nil {
		return err
	}
	if slices.ContainsFunc(b.missing, func(r mysql.Right) bool { return r.Required }) {
		return a.refuse(b)
	}
	estimate, err := database.Preflight(ctx, remora.Job{Run: "init"}, remora.Intent{})
	if err != nil {
		return err
	}
	if estimate.Empty {
		b.warnings = append(b.warnings, fmt.Sprintf("there is no schema %s on %s yet", source.Database.Schemas[0], source.Database.Address))
	}
	b.warnings = append(b.warnings, estimate.Warnings...)
	return nil
}

// answer is what there is to say of it so far.
func (b *beginning) answer() initJSON {
	return initJSON{Source: b.draft.Source, Missing: b.missing, Warnings: b.warnings, TakenOver: b.laravel.taken, NotTakenOver: b.laravel.left}
}

// refuse prints what is missing; nothing has been written.
func (a *app) refuse(b *beginning) error {
	if err := a.answer(b.answer(), a.text("refused", b.answer())); err != nil {
		return err
	}
	return initProblem("user "+b.draft.Database.User+" on "+b.draft.Database.Address, "rights are missing; nothing was written",
		"Run the GRANT statements above as an administrator of the server, then this command again.")
}

func (a *app) printInitialised(b *beginning) error {
	answer := b.answer()
	answer.Config, answer.Repository, answer.RepositoryPassword = b.file, b.config.Repository.Where(), b.draft.RepositoryPasswordAt
	if d := b.draft.Database; d != nil {
		answer.Database = d.PasswordAt
	}
	if a.ConfigPath != "" {
		answer.Named = " --config " + b.file
	}
	return a.answer(answer, a.text("initialised", answer))
}
