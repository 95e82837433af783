package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/mysql"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// initFlags are what `remora init` was asked for.
type initFlags struct {
	mysql      string
	files      []string
	repository string
	source     string
}

func newInitCommand(a *app) *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write remora.yaml after testing the rights",
		Long: `Tests what the database user may do and prints the GRANT statements that are missing; then it makes the repository and its
password, and writes remora.yaml. Nothing is written before everything is well, and nothing that exists is overwritten.

DSN is USER@tcp(HOST:PORT)/SCHEMA, USER@unix(/path/of/socket)/SCHEMA or mysql://USER@HOST:PORT/SCHEMA. The password is asked
for, or read from REMORA_MYSQL_PASSWORD; it may stand in the DSN as USER:PASSWORD, where other users of this machine see it.`,
		Example: `  remora init --mysql 'remora@tcp(127.0.0.1:3306)/shop' --files /srv/shop/storage/app/public/receipts
  remora init --config /etc/remora/remora.yaml --source blog --files /srv/blog/uploads --repository /mnt/backups/remora`,
		Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.initialise(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.mysql, "mysql", "", "the database, as a `DSN`")
	cmd.Flags().StringArrayVar(&f.files, "files", nil, "a `DIR`ectory to back up; may be given several times")
	cmd.Flags().StringVar(&f.repository, "repository", "", "the `DIR`ectory where backups will live (default: /var/backups/remora for root, otherwise beside remora.yaml)")
	cmd.Flags().StringVar(&f.source, "source", "", "the `NAME` of the source (default: that of the schema or of the directory)")
	return cmd
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
	Warnings           []string      `json:"warnings,omitempty"`
}

// beginning is an installation that is about to be.
type beginning struct {
	file     string // of the configuration
	draft    config.Draft
	config   *config.Config
	password remora.Secret // of the database user
	missing  []mysql.Right
	warnings []string
}

func (a *app) initialise(ctx context.Context, f initFlags) error {
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
	if f.mysql == "" && len(f.files) == 0 {
		return nil, initProblem("", "there is nothing to back up", "Name a database with --mysql DSN, directories with --files DIR, or both.")
	}
	b := &beginning{}
	if err := b.place(a); err != nil {
		return nil, err
	}
	if err := b.setRepository(a, f.repository); err != nil {
		return nil, err
	}
	var err error
	if b.draft.Files, err = draftFiles(f.files); err != nil {
		return nil, err
	}
	if f.mysql != "" {
		if err := b.setDatabase(ctx, a, f.mysql); err != nil {
			return nil, err
		}
	}
	if err := b.setSource(f.source); err != nil {
		return nil, err
	}
	if b.password != "" {
		b.draft.Database.PasswordAt = filepath.Join(filepath.Dir(b.file), b.draft.Source+".password")
	}
	return b, b.parse(a.Getenv)
}

func initProblem(subject, why, hint string) error {
	return &remora.Problem{Op: "initialise", Kind: remora.Invalid, Subject: subject, Hint: hint, Err: errors.New(why)}
}

// place decides where the configuration goes; what exists is never overwritten.
func (b *beginning) place(a *app) error {
	file := a.ConfigPath
	if file == "" {
		file = a.Getenv(config.FileVariable)
	}
	if file == "" {
		file = config.Places()[0]
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return initProblem(file, err.Error(), "Name the file with its whole path.")
	}
	if _, err := os.Lstat(file); err == nil {
		return initProblem(file, "it exists, and is not overwritten", "Add further sources to it by hand, or name another file with --config.")
	}
	b.file = file
	return nil
}

func (b *beginning) setRepository(a *app, dir string) error {
	if dir == "" {
		dir = a.Getenv("BACKUP_STORAGE_PATH")
	}
	if dir == "" && os.Geteuid() == 0 {
		dir = "/var/backups/remora"
	}
	if dir == "" {
		dir = filepath.Join(filepath.Dir(b.file), "remora-repository")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return initProblem(dir, err.Error(), "Name the repository with its whole path.")
	}
	b.draft.RepositoryPath = dir
	b.draft.RepositoryPasswordAt = filepath.Join(filepath.Dir(b.file), "repository.password")
	return nil
}

// setDatabase reads the DSN and gets the password from where it is.
func (b *beginning) setDatabase(ctx context.Context, a *app, text string) error {
	dsn, err := parseDSN(text)
	if err != nil {
		return err
	}
	b.draft.Database = &config.DraftDatabase{Address: dsn.address, User: dsn.user, Schema: dsn.schema}
	b.password = dsn.password
	switch {
	case b.password != "":
		b.warnings = append(b.warnings, "other users of this machine see a password on the command line; leave it out of the DSN and type it when you are asked, or set "+passwordVariable)
	case a.Getenv(passwordVariable) != "":
		b.password = remora.Secret(a.Getenv(passwordVariable))
	case a.Interactive:
		b.password, err = a.askPassword(ctx, fmt.Sprintf("Password of %s on %s (empty for none): ", dsn.user, dsn.address))
	}
	return err
}

// askPassword reads a line without showing it where that is possible.
func (a *app) askPassword(ctx context.Context, question string) (remora.Secret, error) {
	fmt.Fprint(a.Err, question)
	type answer struct {
		text string
		err  error
	}
	given := make(chan answer, 1)
	restore := func() {}
	if f, ok := a.In.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if state, err := term.GetState(int(f.Fd())); err == nil {
			restore = func() { _ = term.Restore(int(f.Fd()), state) }
		}
	}
	go func() { // ends with the process at the latest: a read from a terminal cannot be called off
		text, err := readPassword(a.In)
		given <- answer{text, err}
	}()
	defer fmt.Fprintln(a.Err)
	select {
	case <-ctx.Done():
		restore()
		return "", ctx.Err()
	case got := <-given:
		if got.err != nil {
			return "", initProblem("", "no password could be read", "Type it when you are asked, or set "+passwordVariable+".")
		}
		return remora.Secret(got.text), nil
	}
}

func readPassword(in io.Reader) (string, error) {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		text, err := term.ReadPassword(int(f.Fd()))
		return string(text), err
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}

// setSource takes the name that was given, or makes one.
func (b *beginning) setSource(name string) error {
	if name != "" {
		if err := remora.CheckSourceName(name); err != nil {
			return initProblem("", err.Error(), "Give another name with --source.")
		}
		b.draft.Source = name
		return nil
	}
	var from string
	switch {
	case b.draft.Database != nil:
		from = b.draft.Database.Schema
	case len(b.draft.Files.Directories) == 1:
		from = filepath.Base(b.draft.Files.Directories[0])
	default:
		from = filepath.Base(b.draft.Files.Root)
	}
	b.draft.Source = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, strings.ToLower(from))
	b.draft.Source = strings.TrimLeft(b.draft.Source, "-_")
	if remora.CheckSourceName(b.draft.Source) != nil {
		return initProblem("", fmt.Sprintf("no name for the source can be made from %q", from), "Give one with --source NAME.")
	}
	return nil
}

// parse checks the draft as the file that it will be.
func (b *beginning) parse(getenv func(string) string) error {
	text, err := config.Render(b.draft)
	if err != nil {
		return err
	}
	b.config, err = config.Parse(b.file, text, getenv)
	var mistakes config.Mistakes
	if errors.As(err, &mistakes) { // their lines are of a file that nobody has seen
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
	required := 0
	for _, r := range b.missing {
		if r.Required {
			required++
		}
	}
	if required > 0 {
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

// refuse prints what is missing; nothing has been written.
func (a *app) refuse(b *beginning) error {
	if a.json() {
		if err := a.printJSON(initJSON{Source: b.draft.Source, Missing: b.missing, Warnings: b.warnings}); err != nil {
			return err
		}
	} else {
		a.sayMissing(b.missing)
	}
	return initProblem("user "+b.draft.Database.User+" on "+b.draft.Database.Address, "rights are missing; nothing was written",
		"Run the GRANT statements above as an administrator of the server, then this command again.")
}

// sayMissing prints statements that can be pasted into a client, those without which nothing works first.
func (a *app) sayMissing(missing []mysql.Right) {
	for _, required := range []bool{true, false} {
		head := "These rights are missing:"
		if !required {
			head = "These are recommended:"
		}
		for _, r := range missing {
			if r.Required != required {
				continue
			}
			if head != "" {
				a.say("%s", head)
				head = ""
			}
			a.say("  %s\n      -- for %ss: %s", r.Grant, r.Purpose, remora.OneLine(r.Why))
		}
	}
}

func (a *app) printInitialised(b *beginning) error {
	d := b.draft
	if a.json() {
		answer := initJSON{
			Config: b.file, Source: d.Source, Repository: d.RepositoryPath, RepositoryPassword: d.RepositoryPasswordAt,
			Missing: b.missing, Warnings: b.warnings,
		}
		if d.Database != nil {
			answer.Database = d.Database.PasswordAt
		}
		return a.printJSON(answer)
	}
	a.sayMissing(b.missing)
	for _, w := range b.warnings {
		a.say("note: %s", remora.OneLine(w))
	}
	a.fields(
		[2]string{"Configuration", b.file},
		[2]string{"Repository", d.RepositoryPath},
		[2]string{"Its password", d.RepositoryPasswordAt},
	)
	a.say("\nNext:")
	a.say("  1. Keep a copy of %s somewhere else, in a password manager or a safe:\n     without it no backup can ever be read again, by anybody.", d.RepositoryPasswordAt)
	named := ""
	if a.ConfigPath != "" {
		named = " --config " + b.file
	}
	a.say("  2. remora up%s", named)
	a.say("  3. remora backup %s%s", d.Source, named)
	return nil
}

// write makes the passwords, the repository and the configuration, the configuration last. When something fails,
// everything that this call made is removed again.
func (b *beginning) write(ctx context.Context) (err error) {
	var made traces
	defer func() {
		if err != nil {
			made.remove()
		}
	}()
	text, err := config.Render(b.draft)
	if err != nil {
		return err
	}
	if err := made.folder(filepath.Dir(b.file)); err != nil {
		return err
	}
	password := newPassword()
	if err := made.file(b.draft.RepositoryPasswordAt, password.Reveal()+"\n"); err != nil {
		return err
	}
	if b.password != "" {
		if err := made.file(b.draft.Database.PasswordAt, b.password.Reveal()+"\n"); err != nil {
			return err
		}
	}
	if err := made.repository(ctx, b.draft.RepositoryPath, password); err != nil {
		return err
	}
	return made.file(b.file, string(text))
}

// repository creates one with a connection file that is thrown away: whoever opens it makes its own.
func (t *traces) repository(ctx context.Context, path string, password remora.Secret) error {
	state, err := os.MkdirTemp("", "remora-init-")
	if err != nil {
		return initProblem("a temporary directory", err.Error(), "Make room there, or set TMPDIR.")
	}
	defer func() { _ = os.RemoveAll(state) }()
	if err := t.folder(filepath.Dir(path)); err != nil {
		return err
	}
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		*t = append(*t, func() { _ = os.Remove(path) }) // only when it is empty
	}
	err = repository.Create(ctx, repository.Config{
		Path: path, State: filepath.Join(state, "state"), Password: func() (remora.Secret, error) { return password, nil },
	})
	if err == nil {
		t.contents(path) // it was empty a moment ago: what is in it now is ours
	}
	return err
}
