package main

import (
	"cmp"
	"context"
	"os"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/remora"
)

// passwordJSON is the answer of `remora repository password`.
type passwordJSON struct {
	PasswordFile string `json:"password_file"`
	// Changed are the places that take their password from it.
	Changed []string `json:"changed"`
	// Resumed tells that an earlier change was ended, which had been interrupted: nothing else was.
	Resumed bool `json:"resumed"`
}

// changePassword changes the password of the repository, or of the copy that is named, and of all that take theirs from
// the same file.
func (s *session) changePassword(ctx context.Context, from string, names ...string) error {
	const op = "change the password"
	all := map[string]config.Repository{"": s.cfg.Repository}
	for name, c := range s.cfg.Copies {
		all[name] = c.Repository
	}
	name := cmp.Or(names...)
	chosen, known := all[name]
	switch {
	case !known:
		return unknownCopy(op, s.cfg, name)
	case chosen.PasswordFile == "":
		return invalid(op, chosen.Where(), "its password is read from the environment, where it cannot be replaced safely",
			"write it into a file of mode 0600, name that as password_file in place of password_env, start the worker again, then run this again")
	}
	next := newPassword()
	if from != "" {
		var err error
		if next, err = s.given(from); err != nil {
			return err
		}
	}
	answer := passwordJSON{PasswordFile: chosen.PasswordFile}
	var same []string
	for _, name := range append([]string{""}, s.cfg.CopyNames()...) {
		if at := all[name]; sameFile(at.PasswordFile, chosen.PasswordFile) {
			same, answer.Changed = append(same, name), append(answer.Changed, at.Where())
		}
	}
	var err error
	if answer.Resumed, err = s.locations.ChangePassword(ctx, chosen.PasswordFile, same, next); err != nil {
		return err
	}
	return s.app.answer(answer, s.app.text("password changed", answer))
}

// given reads a password from a file, or from standard input for -.
func (s *session) given(from string) (remora.Secret, error) {
	if from != "-" {
		return config.ReadSecretFile(from)
	}
	text, err := s.app.readLine()
	if err == nil && text == "" {
		err = invalid("change the password", "standard input", "there is no password", "write it in one line")
	}
	return remora.Secret(text), err
}

// sameFile tells whether two names are those of one file.
func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	other, err2 := os.Stat(b)
	return a == b || err == nil && err2 == nil && os.SameFile(one, other)
}

// recoveryJSON is the answer of `remora repository recovery`.
type recoveryJSON struct {
	Repository string `json:"repository"`
}

// tryRecovery has a person type the password from its recovery copy.
func (s *session) tryRecovery(ctx context.Context) error {
	answer := recoveryJSON{Repository: s.repository.Where()}
	typed, err := s.app.askPassword(ctx, "The password of "+answer.Repository+", from its recovery copy: ", "pipe it into the command")
	if err != nil {
		return err
	}
	if err := s.repository.TryRecovery(ctx, typed, s.app.actor()); err != nil {
		return err
	}
	return s.app.answer(answer, s.app.text("recovery tried", answer))
}
