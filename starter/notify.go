package main

import (
	"context"
	"net/mail"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/remora"
)

func newNotifyCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "notify", Short: "See that messages arrive", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var to string
	test := &cobra.Command{
		Use:   "test",
		Short: "Send a test message to everybody whom messages go to",
		Long: `Has a worker send a test message the way it sends all others: to the mail addresses and the webhook under notify in the
worker's configuration. It is sent once; what it could not be delivered to is said, with the reason, and ends it with 1.`,
		Example: "  remora notify test\n  remora notify test --to ada@example.com",
		Args:    exactly(0, "no arguments"),
		PreRunE: func(*cobra.Command, []string) error {
			if one, err := mail.ParseAddress(to); to != "" && (err != nil || one.Address != to) {
				return badFlag("--to", "it is not a mail address; write NAME@HOST")
			}
			return nil
		},
		RunE: a.with(needControl, func(ctx context.Context, s *session, _ []string) error {
			told, err := s.control.NotifyTest(ctx, to)
			if err != nil {
				return err
			}
			return a.printNotified(told)
		}),
	}
	test.Flags().StringVar(&to, "to", "", "send it to this mail `address` alone")
	cmd.AddCommand(test)
	return cmd
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
