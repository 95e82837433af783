package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/control"
)

func newVerifyCommand(a *app) *cobra.Command {
	var data, detach bool
	var source string
	return a.command("verify", flags{"source": &source, "data": &data, "detach": &detach},
		a.with(needRepository|needControl, func(ctx context.Context, s *session, args []string) error {
			return s.verify(ctx, args[0], source, data, detach)
		}))
}

func (s *session) verify(ctx context.Context, ref, source string, data, detach bool) error {
	b, err := s.backup(ctx, ref, source, "")
	if err != nil {
		return err
	}
	run, err := s.control.Verify(ctx, b, data)
	if err != nil {
		return err
	}
	return s.finish(ctx, run, detach, "The verification of "+b.ID, func(end control.Ended) error {
		return s.app.answer(ended(s.app, end), s.app.text("verified", struct {
			Backup string
			Data   bool
			Bytes  int64
		}{b.ID, data, end.Verified.Bytes}))
	})
}
