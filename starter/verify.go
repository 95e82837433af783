package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/control"
)

func newVerifyCommand(a *app) *cobra.Command {
	var data, detach bool
	var source string
	cmd := &cobra.Command{
		Use:   "verify BACKUP",
		Short: "Read a backup back and say whether it is well",
		Long: `Reads a backup back from the repository, decrypts it and checks that it is what was stored, as after every backup: blocks
that an earlier verified backup shares need only be in their place. With --data all bytes are read.
` + refHelp + `

A damaged backup becomes corrupt, and the exit status is 6. One that was corrupt is good again once what it had lost is
stored again, which the next backup does; verify it again then. Ctrl-C stops watching, not the verification.`,
		Example: "  remora verify latest\n  remora verify shop-20261123T023000Z-1f2e --data",
		Args:    exactly(1, "one BACKUP"),
		RunE: a.with(needRepository|needControl, func(ctx context.Context, s *session, args []string) error {
			return s.verify(ctx, args[0], source, data, detach)
		}),
	}
	cmd.Flags().StringVar(&source, "source", "", "look among the backups of this `source`")
	cmd.Flags().BoolVar(&data, "data", false, "read all bytes, shared ones too")
	cmd.Flags().BoolVar(&detach, "detach", false, "start it and do not wait")
	return cmd
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
