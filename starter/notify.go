package main

import (
	"context"
	"net/mail"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/remora"
)

func newNotifyCommand(a *app) *cobra.Command {
	var to string
	test := a.command("notify test", flags{"to": &to}, a.with(needControl, func(ctx context.Context, s *session, _ []string) error {
		told, err := s.control.NotifyTest(ctx, to)
		if err != nil {
			return err
		}
		return a.printNotified(told)
	}))
	test.PreRunE = func(*cobra.Command, []string) error {
		if one, err := mail.ParseAddress(to); to != "" && (err != nil || one.Address != to) {
			return badFlag("--to", "it is not a mail address; write NAME@HOST")
		}
		return nil
	}
	return a.group("notify", test)
}

func (a *app) printNotified(told remora.Notified) error {
	err := a.answer(told, a.text("notified", told))
	switch failed := told.Undelivered; {
	case err != nil:
		return err
	case len(failed) > 0:
		return remora.Fail(remora.Unavailable, "send a test message", "", failed[0].Hint, "%d of %s did not get it", len(failed), count(int64(len(failed)+len(told.Delivered)), "channel", "channels"))
	case len(told.Delivered) == 0:
		return remora.Fail(remora.Invalid, "send a test message", "", "Write notify: {email: {to: NAME@HOST, smtp: {server: HOST:PORT}}} on the machine of the worker, and start the worker again.", "the worker knows nobody to tell")
	}
	return nil
}
