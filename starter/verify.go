package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
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
	a := s.app
	if detach {
		return a.answer(run, func() { a.say("The verification of %s has started. See what came of it: remora show %s", b.ID, b.ID) })
	}
	var end control.Ended
	err = s.told(ctx, "", func(tell func(control.Update)) error {
		end, err = s.control.Follow(ctx, run, tell)
		return err
	})
	if err != nil {
		return err
	}
	return a.answer(endJSON{Event: string(remora.Completed), At: a.Now(), Verified: end.Verified}, func() {
		what := "what is not shared with an earlier verified backup was read back, the rest is in its place"
		if data {
			what = "all its bytes were read back"
		}
		a.say("%s is well: %s (%s).", b.ID, what, size(end.Verified.Bytes))
	})
}
